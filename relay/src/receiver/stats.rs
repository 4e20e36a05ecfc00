//! The bond's figures in the protocol's words.

use bond::stats::{ReceiverLinkSnapshot, ReceiverSnapshot};
use protocol::worker::receiver::{ReceiverLink, ReceiverStats};
use std::time::Duration;
use units::as_millis_f32;

/// After this much silence a link counts as replaced by another of its name. A healthy link is heard every 100 ms.
const SUCCEEDED_AFTER: Duration = Duration::from_secs(1);

/// Fills in what the bond knows.
pub fn of_bond(snapshot: &ReceiverSnapshot) -> ReceiverStats {
    let fastest = snapshot.links.iter().filter_map(|link| link.rtt).min();
    ReceiverStats {
        rate: snapshot.rate,
        delivered: snapshot.delivered_packets,
        lost: snapshot.lost_packets,
        late: snapshot.late_packets,
        recovered: snapshot.recovered_packets,
        duplicates: snapshot.duplicates,
        latency_ms: snapshot.latency.as_millis() as u32,
        transit_ms: fastest.map(|rtt| as_millis_f32(snapshot.latency + rtt / 2)),
        links: links(&snapshot.links),
        ..ReceiverStats::default()
    }
}

/// The links, without those that a restarted sender left behind: silent, and a link of the same name is heard.
fn links(all: &[ReceiverLinkSnapshot]) -> Vec<ReceiverLink> {
    let silent = |link: &ReceiverLinkSnapshot| link.last_heard_ago > SUCCEEDED_AFTER;
    let succeeded = |link: &&ReceiverLinkSnapshot| {
        silent(link) && all.iter().any(|other| other.name == link.name && !silent(other))
    };
    all.iter().filter(|link| !succeeded(link)).map(of_link).collect()
}

fn of_link(link: &ReceiverLinkSnapshot) -> ReceiverLink {
    ReceiverLink {
        name: if link.name.is_empty() { link.peer.to_string() } else { link.name.clone() },
        peer: link.peer,
        rtt_ms: link.rtt.map(as_millis_f32),
        rate: link.rate,
        loss: link.loss,
        packets: link.received_packets,
        silent_ms: link.last_heard_ago.as_millis() as u64,
    }
}
