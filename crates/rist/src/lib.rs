//! RIST (Reliable Internet Stream Transport), Simple and Main Profile, without I/O.
//!
//! Standards: VSF TR-06-1:2020 (Simple), TR-06-2:2022 (Main), TR-06-4-1:2022 (source adaptation). What librist does
//! beyond or beside them is noted where it matters.
//!
//! - [`wire`]: the messages, parsed and emitted without state.
//! - [`tunnel::Tunnel`]: one link of Main Profile: framing, encryption, login. Simple Profile has no tunnel: RTP goes to
//!   an even port, RTCP to the odd one above.
//! - [`sequence`], [`null_deletion`]: what flows need.
//!
//! There is no flow logic here (buffers, retransmission, bonding): that is the `bond` crate's. There is no clock, socket,
//! thread or randomness of the system either: `now` and seeds are arguments.
#![warn(missing_docs)]

pub mod null_deletion;
pub mod psk;
mod random;
pub mod sequence;
pub mod srp;
#[cfg(test)]
mod test_support;
pub mod tunnel;
pub mod wire;
