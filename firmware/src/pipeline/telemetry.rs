//! A bond's snapshot in the protocol's words. Pure.

use bond::stats::{LinkState as BondLinkState, SenderLinkSnapshot, SenderSnapshot};
use protocol::telemetry::{LinkState, LinkTelemetry, StreamTelemetry};
use std::time::Duration;
use units::{Bitrate, StreamId, as_millis_f32};

/// What the snapshot does not know.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// Age of the snapshot.
    pub age: Duration,
    /// The bond's advice now.
    pub rate_advice: Bitrate,
    /// What the encoder was last asked for.
    pub encoder_target: Bitrate,
    /// Payloads dropped in front of the bond.
    pub dropped_before: u64,
    /// Name of the encoder element.
    pub encoder: &'a str,
}

/// One second's report.
pub fn of(snapshot: &SenderSnapshot, around: &Surroundings<'_>) -> StreamTelemetry {
    StreamTelemetry {
        stream: around.stream.clone(),
        age_ms: u64::try_from(around.age.as_millis()).unwrap_or(u64::MAX),
        rate_advice: around.rate_advice,
        encoder_target: around.encoder_target,
        media_rate: snapshot.media_rate,
        latency_ms: as_millis_f32(snapshot.latency).round() as u32,
        packets_in: snapshot.packets_in,
        retransmits: snapshot.retransmits,
        dropped: snapshot.dropped_packets + snapshot.packets_refused + around.dropped_before,
        encoder: around.encoder.to_owned(),
        links: snapshot.links.iter().take(protocol::limits::LINKS_MAX).map(link).collect(),
    }
}

fn link(link: &SenderLinkSnapshot) -> LinkTelemetry {
    LinkTelemetry {
        link: link.link,
        name: link.name.clone(),
        state: match link.state {
            BondLinkState::Up => LinkState::Up,
            BondLinkState::Suspect => LinkState::Suspect,
            BondLinkState::Down => LinkState::Down,
            BondLinkState::Probe => LinkState::Probe,
        },
        rtt_ms: link.rtt.map(as_millis_f32),
        // Without a round trip nothing is known about the queue either.
        queue_delay_ms: link.rtt.map(|_| as_millis_f32(link.queue_delay)),
        send_rate: link.send_rate,
        capacity: link.capacity,
        loss: link.loss,
        packets_sent: link.packets_sent,
        retransmits: link.retransmits,
    }
}
