//! The bond's figures in the protocol's words.

use bond::stats::{ReceiverLinkSnapshot, ReceiverSnapshot};
use protocol::worker::receiver::{ReceiverLink, ReceiverStats};

/// Fills in what the bond knows.
pub fn of_bond(snapshot: &ReceiverSnapshot) -> ReceiverStats {
    let fastest = snapshot.links.iter().filter_map(|link| link.rtt_ms).min_by(f64::total_cmp);
    ReceiverStats {
        rate: snapshot.rate,
        delivered: snapshot.delivered_packets,
        lost: snapshot.lost_packets,
        late: snapshot.late_packets,
        recovered: snapshot.recovered_packets,
        duplicates: snapshot.duplicates,
        latency_ms: snapshot.latency_ms as u32,
        transit_ms: fastest.map(|rtt| (snapshot.latency_ms + rtt / 2.0) as f32),
        links: snapshot.links.iter().map(of_link).collect(),
        ..ReceiverStats::default()
    }
}

fn of_link(link: &ReceiverLinkSnapshot) -> ReceiverLink {
    ReceiverLink {
        name: if link.name.is_empty() { link.peer.to_string() } else { link.name.clone() },
        peer: link.peer,
        rtt_ms: link.rtt_ms.map(|rtt| rtt as f32),
        rate: link.rate,
        loss: link.loss,
        packets: link.received_packets,
        silent_ms: link.last_heard_ms_ago.max(0.0) as u64,
    }
}
