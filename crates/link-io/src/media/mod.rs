//! What the programs read and write: UDP, files and pipes carrying MPEG-TS, cut into payloads whose importance is known.

mod classify;
mod endpoint;
mod media_clock;
mod pace;
mod pack;
mod ts;
mod udp_media;

pub use classify::Classifier;
pub use endpoint::{Endpoint, EndpointError, resolve, resolve_all};
pub use media_clock::MediaClock;
pub use pace::{PaceError, Paced, PacedFile};
pub use pack::{FILL_WAIT_MAX, FULL_PAYLOAD_BYTES, Packer};
pub use ts::{Pcr, TS_PACKET_BYTES, TsPacket};
pub use udp_media::{UdpInput, UdpOutput};
