//! Bounds of the control protocol, each with what happens at it.

/// The longest MQTT payload, in bytes. A longer one is refused by the broker gate and never sent by an agent.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The longest line on a worker socket, in bytes. A longer one closes the connection.
pub const WORKER_LINE_BYTES_MAX: usize = 256 * 1024;

/// Most links a device reports; further ones are left out.
pub const LINKS_MAX: usize = 16;

/// Most inputs a device reports; further ones are left out.
pub const INPUTS_MAX: usize = 32;

/// Most outputs one stream may feed; one more is refused.
pub const OUTPUTS_MAX: usize = 16;

/// Longest free text (names, reasons), in characters; longer ones are cut by their producer.
pub const TEXT_CHARS_MAX: usize = 500;
