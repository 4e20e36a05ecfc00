//! One typed snapshot per end: rates, sizes, shares, times and spans are types of their own, bare numbers are counts. Counters count
//! from the machine's start. Serialized, spans are milliseconds and say so.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::time::Duration;
use units::{Bitrate, ByteCount, LinkId, LossRatio, Timestamp, as_millis_f64};

pub use crate::refused::RefusedDatagrams;

/// Where a sender's link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Carries media.
    Up,
    /// Carries no new media: packets in flight are not confirmed.
    Suspect,
    /// Not answering; asked again now and then.
    Down,
    /// Not trusted yet: new, or answering again.
    Probe,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Probe => "probe",
        })
    }
}

/// What is known of ECN on the path of a link (RFC 9331).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EcnState {
    /// Not used: the far end does not count marks, or the link is not up.
    Off,
    /// A few datagrams show what the path does.
    Testing,
    /// The path carries it: marks lower the pace.
    InUse,
    /// The path clears it.
    Cleared,
    /// The path drops packets that carry it.
    BlackHole,
    /// The path marks whatever is sent.
    AllMarked,
}

/// A sender's view of one link.
#[derive(Debug, Clone, Serialize)]
pub struct SenderLinkSnapshot {
    /// Which.
    pub link: LinkId,
    /// Name for the operator.
    pub name: String,
    /// State of its life cycle.
    pub state: LinkState,
    /// Smoothed round trip; `None` before the first sample.
    #[serde(rename = "rtt_ms", serialize_with = "millis_if_known")]
    pub rtt: Option<Duration>,
    /// Delay above the lowest seen: the queue in front of the bottleneck.
    #[serde(rename = "queue_delay_ms", serialize_with = "millis")]
    pub queue_delay: Duration,
    /// What leaves on this link, with headers, over the last second.
    pub send_rate: Bitrate,
    /// What the link is believed to carry.
    pub capacity: Bitrate,
    /// First copies confirmed by the far end, payload only, over the last second.
    pub goodput: Bitrate,
    /// Share of packets lost, over about five seconds.
    pub loss: LossRatio,
    /// Packets sent and not yet confirmed.
    pub in_flight_packets: u64,
    /// Bytes sent and not yet confirmed, with headers.
    pub in_flight_bytes: ByteCount,
    /// Media packets sent, copies included.
    pub packets_sent: u64,
    /// Bytes of datagrams sent.
    pub bytes_sent: ByteCount,
    /// Copies of packets sent on this link after another copy was lost or doubted.
    pub retransmits: u64,
    /// Packets lost on this link.
    pub packets_lost: u64,
    /// Requests for retransmission that came in on this link.
    pub nacks_received: u64,
    /// The largest datagram (UDP payload) that the path is believed to take; 28 bytes less than its IPv4 MTU.
    pub datagram_bytes_max: u16,
    /// True when the link has sent as many bytes as it may.
    pub budget_spent: bool,
    /// The other links that share its bottleneck.
    pub shares_bottleneck_with: Vec<LinkId>,
    /// How well what is sent on one of them explains this link's queue, 0 to 1: the best, while there is a measure.
    pub shared_correlation: Option<f64>,
    /// Whether the network's congestion marks are used on this link.
    pub ecn: EcnState,
    /// Share of datagrams that came marked as having met a queue (CE), lately.
    pub ce_share: LossRatio,
    /// Datagrams that came so.
    pub ce_packets: u64,
}

/// A sender's view of the flow.
#[derive(Debug, Clone, Serialize)]
pub struct SenderSnapshot {
    /// When it was taken, in the machine's clock.
    pub at: Timestamp,
    /// RTP SSRC of the flow.
    pub flow: u32,
    /// True once the far end has shown that it speaks the engine's own extension.
    pub extension: bool,
    /// The latency budget.
    #[serde(rename = "latency_ms", serialize_with = "millis")]
    pub latency: Duration,
    /// In the order of their ids.
    pub links: Vec<SenderLinkSnapshot>,
    /// Payload bits accepted over the last second.
    pub media_rate: Bitrate,
    /// Everything sent on all links over the last second, with headers.
    pub send_rate: Bitrate,
    /// What the encoder may produce.
    pub rate_advice: Bitrate,
    /// The longest payload that fits the links in use, in bytes: a whole number of TS packets.
    pub payload_bytes_max: usize,
    /// Payloads accepted.
    pub packets_in: u64,
    /// Payload bytes accepted.
    pub bytes_in: ByteCount,
    /// Payloads refused: empty, too long, or no room.
    pub packets_refused: u64,
    /// Payloads waiting for a link.
    pub queued_packets: u64,
    /// How long the oldest of them waits.
    #[serde(rename = "queued_ms", serialize_with = "millis")]
    pub queued: Duration,
    /// Copies sent because of a loss or a failing link.
    pub retransmits: u64,
    /// Further copies: in advance, for protection, or beside a retransmission that is the last to fit.
    pub copies: u64,
    /// Retransmissions and copies that arrived although the far end had the packet already.
    pub useless_copies: u64,
    /// Repair packets of forward erasure correction sent.
    pub fec_packets: u64,
    /// Packets that the far end recovered from them.
    pub fec_recovered: u64,
    /// Everything sent to protect or mend, per packet accepted: retransmissions, copies and repair packets.
    pub redundancy: f64,
    /// Packets given up before they were sent: their time had passed.
    pub dropped_packets: u64,
    /// Requests that came too late to be served.
    pub unrecoverable: u64,
    /// What a plain RIST receiver tells; `None` until it tells anything.
    pub far_end: Option<FarEndSnapshot>,
}

/// What a receiver without the engine's extension told of the flow by link quality messages (TR-06-4-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FarEndSnapshot {
    /// Messages taken, each once.
    pub messages: u64,
    /// Messages left out: they told of more than was sent, or came from somebody else than the ones before.
    pub messages_refused: u64,
    /// Original packets received.
    pub received_packets: u64,
    /// Packets recovered by retransmission.
    pub recovered_packets: u64,
    /// Packets lost for good.
    pub lost_packets: u64,
    /// Packets that came after their time.
    pub late_packets: u64,
    /// Originals received in the last period, with RTP headers.
    pub media_rate: Bitrate,
    /// Retransmissions received in the last period, with RTP headers.
    pub retransmission_rate: Bitrate,
}

/// A receiver's view of one link.
#[derive(Debug, Clone, Serialize)]
pub struct ReceiverLinkSnapshot {
    /// Remote address.
    pub peer: SocketAddr,
    /// Announced by the sender, else its cname.
    pub name: String,
    /// Smoothed round trip; `None` before the first sample.
    #[serde(rename = "rtt_ms", serialize_with = "millis_if_known")]
    pub rtt: Option<Duration>,
    /// Media packets received, copies included.
    pub received_packets: u64,
    /// Bytes of datagrams received.
    pub received_bytes: ByteCount,
    /// Over the last second, with headers.
    pub rate: Bitrate,
    /// Share of packets lost on this link, over about five seconds; zero when the peer numbers nothing per link.
    pub loss: LossRatio,
    /// Packets that had come before, on this or another link.
    pub duplicates: u64,
    /// Time since anything came.
    #[serde(rename = "last_heard_ms_ago", serialize_with = "millis")]
    pub last_heard_ago: Duration,
    /// Datagrams that came marked as having met a queue (ECN, CE).
    pub ce_packets: u64,
}

/// Packets that came after their time had passed, by what came late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LatePackets {
    /// Sent for the first time: their link took longer than the latency allows for.
    pub originals: u64,
    /// Sent again: there was no time for it.
    pub retransmissions: u64,
    /// Numbered further back than is remembered: of before, or repeated by somebody.
    pub outdated: u64,
}

impl LatePackets {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.originals + self.retransmissions + self.outdated
    }
}

impl AddAssign for LatePackets {
    fn add_assign(&mut self, other: Self) {
        self.originals += other.originals;
        self.retransmissions += other.retransmissions;
        self.outdated += other.outdated;
    }
}

/// A receiver's view of one flow.
#[derive(Debug, Clone, Serialize)]
pub struct ReceiverFlowSnapshot {
    /// RTP SSRC.
    pub flow: u32,
    /// Virtual destination port; 0 in Simple Profile.
    pub virtual_port: u16,
    /// Packets delivered.
    pub delivered_packets: u64,
    /// Packets that were not there at their time.
    pub lost_packets: u64,
    /// Packets that came after their time had passed.
    pub late_packets: u64,
    /// The same by what came late.
    pub late: LatePackets,
    /// Packets delivered only thanks to a retransmission.
    pub recovered_packets: u64,
    /// Payload bits delivered over the last second.
    pub rate: Bitrate,
}

/// A receiver's view of everything it receives.
#[derive(Debug, Clone, Serialize)]
pub struct ReceiverSnapshot {
    /// When it was taken, in the machine's clock.
    pub at: Timestamp,
    /// In the order of their first packet.
    pub links: Vec<ReceiverLinkSnapshot>,
    /// Addresses that sent something and have shown neither that they are theirs nor any media.
    pub half_open: u64,
    /// Flows that are being received, in the order of their first packet.
    pub flows: Vec<ReceiverFlowSnapshot>,
    /// Packets delivered.
    pub delivered_packets: u64,
    /// Payload bytes delivered.
    pub delivered_bytes: ByteCount,
    /// Packets that were not there at their time.
    pub lost_packets: u64,
    /// Packets that came after their time had passed.
    pub late_packets: u64,
    /// The same by what came late.
    pub late: LatePackets,
    /// Packets delivered only thanks to a retransmission.
    pub recovered_packets: u64,
    /// Copies removed.
    pub duplicates: u64,
    /// Datagrams refused: not for us, malformed or not authentic.
    pub refused_datagrams: u64,
    /// The same by reason.
    pub refused: RefusedDatagrams,
    /// Requests for retransmission sent, in packets asked for.
    pub nacks_sent: u64,
    /// Link quality messages made for senders that do not speak the extension (TR-06-4-1).
    pub quality_messages: u64,
    /// Repair packets of forward erasure correction received.
    pub fec_packets: u64,
    /// Packets that came out of them and nowhere else.
    pub fec_recovered: u64,
    /// Payload bits delivered over the last second.
    pub rate: Bitrate,
    /// The latency budget.
    #[serde(rename = "latency_ms", serialize_with = "millis")]
    pub latency: Duration,
    /// Media time held back for reordering and repair at this moment.
    #[serde(rename = "buffer_ms", serialize_with = "millis")]
    pub buffer: Duration,
}

/// Microseconds as the engine keeps them; what is below zero is none.
pub(crate) fn of_micros(micros: f64) -> Duration {
    Duration::from_micros(micros as u64)
}

fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(as_millis_f64(*span))
}

#[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
fn millis_if_known<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(as_millis_f64).serialize(serializer)
}
