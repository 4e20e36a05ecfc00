//! What goes in at one end: payloads, their class, and the channel a datagram travels on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use units::Timestamp;

/// The largest payload of one packet in bytes; seven TS packets (1316 bytes) are the usual size.
///
/// Together with RTP, GRE, UDP and IPv6 headers it stays within 1540 bytes; a link with a smaller MTU needs smaller
/// payloads.
pub const PAYLOAD_BYTES_MAX: usize = 1456;

/// Which of a link's two UDP ports a datagram uses.
///
/// Main Profile multiplexes everything on one port: always [`Channel::Media`]. Simple Profile sends media on the even
/// port P and RTCP on P+1: [`Channel::Control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Port P.
    Media,
    /// Port P+1, Simple Profile only.
    Control,
}

/// What a payload carries, for protection and for the order in which an overloaded bond gives up packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketClass {
    /// Part of a predicted picture.
    #[default]
    Video,
    /// Part of a key picture.
    Idr,
    /// Codec parameter sets or program tables, without which nothing decodes.
    ParameterSet,
    /// Sound.
    Audio,
    /// Carries a clock reference (PCR) only.
    Clock,
    /// Anything else.
    Other,
}

impl PacketClass {
    /// True for what must survive when the bond can not carry everything.
    pub const fn is_critical(self) -> bool {
        matches!(self, Self::Idr | Self::ParameterSet | Self::Audio)
    }

    /// True for what gets a copy in advance where retransmissions come too late.
    pub const fn is_protected(self) -> bool {
        self.is_critical() || matches!(self, Self::Clock)
    }
}

/// One packet of the flow before it is numbered.
#[derive(Debug, Clone)]
pub struct Payload {
    /// At most [`PAYLOAD_BYTES_MAX`] bytes; longer ones are refused and counted.
    pub bytes: Bytes,
    /// When the content was produced, in the sender's clock; decides when the receiver delivers it.
    pub source_time: Timestamp,
    /// What it carries.
    pub class: PacketClass,
}
