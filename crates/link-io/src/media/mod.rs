//! What the programs read and write: UDP, files and pipes carrying MPEG-TS.

mod ts;

pub use ts::{Pcr, TS_PACKET_BYTES, TsPacket};
