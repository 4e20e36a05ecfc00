//! What the programs read and write: UDP, files and pipes carrying MPEG-TS.

mod endpoint;
mod pace;
mod ts;
mod udp_media;

pub use endpoint::{Endpoint, EndpointError, resolve};
pub use pace::{PaceError, Paced, PacedFile};
pub use ts::{Pcr, TS_PACKET_BYTES, TsPacket};
pub use udp_media::{UdpInput, UdpOutput};
