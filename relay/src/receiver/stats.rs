//! The bond's figures in the protocol's words.

use bond::stats::{ReceiverLinkSnapshot, ReceiverSnapshot};
use protocol::worker::receiver::{ReceiverLink, ReceiverStats};

/// After this much silence a link counts as replaced by another of its name. A healthy link is heard every 100 ms.
const SUCCEEDED_AFTER_MS: f64 = 1000.0;

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
        links: links(&snapshot.links),
        ..ReceiverStats::default()
    }
}

/// The links, without those that a restarted sender left behind: silent, and a link of the same name is heard.
fn links(all: &[ReceiverLinkSnapshot]) -> Vec<ReceiverLink> {
    let silent = |link: &ReceiverLinkSnapshot| link.last_heard_ms_ago > SUCCEEDED_AFTER_MS;
    let succeeded = |link: &&ReceiverLinkSnapshot| {
        silent(link) && all.iter().any(|other| other.name == link.name && !silent(other))
    };
    all.iter().filter(|link| !succeeded(link)).map(of_link).collect()
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
