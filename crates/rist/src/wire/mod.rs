//! Wire formats: one file a message.
//!
//! Parsing borrows from the datagram and never allocates; every length field is checked against the bytes that are
//! really there before it is used. Emitting appends to the caller's `Vec` or other [`Output`], so that headers can be
//! stacked without copies. All integers are big-endian.

pub mod buffer_negotiation;
pub mod datagram;
pub mod eapol;
mod entries;
pub mod gre;
pub mod keepalive;
pub mod lqm;
mod output;
pub(crate) mod reader;
pub mod reduced;
pub mod rtcp;
pub mod rtp;
pub mod vsf;

pub use entries::{Entries, Entry};
pub use output::Output;

use thiserror::Error;

/// Why bytes are no valid message. Always the peer's (or an attacker's) fault; the remedy is to drop the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message ends before its fixed part or its own length field says.
    #[error("{what} is truncated: it needs {need} bytes, {got} are there")]
    Truncated {
        /// The message.
        what: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes present.
        got: usize,
    },
    /// The version field names a version that does not exist.
    #[error("{what} has version {got}, which this end does not know")]
    Version {
        /// The message.
        what: &'static str,
        /// The version found.
        got: u8,
    },
    /// A field holds a value that the standard excludes.
    #[error("{what} has the impossible value {value:#x} in its field {field}")]
    Field {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The value found.
        value: u32,
    },
    /// More packets in one compound than [`rtcp::COMPOUND_PACKETS_MAX`].
    #[error("an RTCP compound has more than {} packets", rtcp::COMPOUND_PACKETS_MAX)]
    CompoundTooLong,
    /// The JSON tail of a keep-alive is not what TR-06-2 describes, or too large.
    #[error("the keep-alive's JSON of {bytes} bytes does not parse or is too long")]
    Json {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Null deletion asks for TS packets that the payload does not hold, or the payload is no whole number of them.
    #[error("the payload of {payload_bytes} bytes does not fit its null-deletion mask {mask:#09b}")]
    NullDeletion {
        /// Bytes of the payload as received.
        payload_bytes: usize,
        /// The mask, most significant of seven bits first.
        mask: u8,
    },
}
