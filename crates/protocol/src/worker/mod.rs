//! The JSON lines between a control process and the media process it supervises, on a Unix socket in the data directory.
//!
//! The media process owns the socket and outlives the control process: a restarted agent or relay connects again, reads
//! the `Hello` that every connection begins with, and goes on from there. One line is one message, at most
//! [`crate::limits::WORKER_LINE_BYTES_MAX`] bytes. Secrets travel here and nowhere else on the machine (not in arguments, not
//! in the environment).

pub mod receiver;
pub mod streamer;
