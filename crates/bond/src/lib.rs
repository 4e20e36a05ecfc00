//! One media flow over many network paths: a sans-IO RIST engine.
//!
//! [`sender::Sender`] numbers the payloads of a flow, chooses a link and a moment for each and repairs what is lost;
//! [`receiver::Receiver`] merges what arrives on any link and delivers it once, in order and at a fixed latency.
//! Towards a plain RIST peer (Simple or Main Profile, VSF TR-06-1 and TR-06-2) both behave as plain RIST. Between two
//! ends of this crate a report per link (RTCP APP, announced in the keep-alive) drives rate control, loss detection
//! and the deadline scheduler, and packets that no retransmission can mend in time are protected by forward erasure
//! correction.
//!
//! # Contract
//! The machines own no socket, clock, thread or operating-system randomness. The caller
//! 1. passes an input with the present time: `handle_input(now, input)`, or several that came together;
//! 2. drains `poll_output(now)` until it returns `Timeout(at)`;
//! 3. waits for the next input or for `at`, whichever comes first; at `at` the input is `Timeout`.
//!
//! `now` never goes back (a smaller value is treated as the largest seen). The same seed and inputs give the same
//! outputs, byte for byte.
//!
//! # Bounds
//! Every queue has a named maximum beside its owner; a flow never holds more than
//! [`config::HISTORY_PACKETS_MAX`] payloads at either end.

mod agreed_latency;
mod blocks;
pub mod config;
mod door;
pub mod event;
mod extension;
mod farewell;
mod fec;
mod framing;
mod link;
pub mod mismatch;
mod payload;
mod random;
mod rate_advice;
pub mod receiver;
mod refused;
mod schedule;
pub mod sender;
pub mod stats;

pub use payload::{Channel, PAYLOAD_BYTES_MAX, PacketClass, Payload};
pub use random::Seed;
