//! Forward erasure correction between our own ends: repair packets, each a random combination of source packets.
//!
//! A sliding-window random linear code over GF(256) in the manner of RFC 8681: systematic (source packets travel as they
//! are), dense (every covered packet takes part), at most [`wire::COVERED_MAX`] packets in one repair packet. Any repair packet
//! mends any one of the packets it covers, whichever was lost. The layout on the wire ([`wire`]) is our own; repair packets
//! are sent only to a peer that has announced [`FEATURE`].
//!
//! It refuses to guess: a repair packet that contradicts what is known is dropped, a packet that comes out implausible is
//! not delivered.

pub(crate) mod decoder;
pub(crate) mod encoder;
mod field;
pub(crate) mod loss;
pub(crate) mod policy;
pub(crate) mod wire;

/// Name of the feature in the keep-alive's vendor JSON.
pub const FEATURE: &str = "bond-fec-1";
