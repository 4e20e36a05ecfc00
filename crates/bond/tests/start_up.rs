//! Fast clean links: nothing is taken for lost in the start-up of a flow, and nothing is protected that nothing threatens.

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use bond::stats::SenderSnapshot;
use link_sim::{Capacity, LinkConfig, PathConfig};
use simulation::{IP_BYTES, Simulation, load};
use std::time::Duration;
use units::Timestamp;

/// What the headers of a packet add: RTP, the tunnel, UDP and IP.
const HEADER_BYTES: usize = 12 + 16 + IP_BYTES;

/// How it went: state of the sender at the end, packets sent and delivered, and bytes sent per byte of packet in the last two
/// of four seconds.
struct Outcome {
    sender: SenderSnapshot,
    sent: usize,
    delivered: usize,
    overhead: f64,
}

fn run(capacity: Capacity, links: usize, mbps: f64, latency: Duration) -> Outcome {
    let up = LinkConfig { capacity, delay_ms: 5.0, queue_bytes: 10_000_000, ..Default::default() };
    let path = PathConfig { up, down: LinkConfig { delay_ms: 5.0, ..Default::default() }, ..Default::default() };
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &vec![path; links], 1);
    let items = load::even(mbps * 1e6, 4.0);
    let (mut settled_bytes, mut settled_items) = (0, 0);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
        if item.at < Timestamp::from_millis(2_000) {
            (settled_bytes, settled_items) = (simulation.up_bytes, item.number as usize + 1);
        }
    }
    let media = (items.len() - settled_items) * (load::PAYLOAD_BYTES + HEADER_BYTES);
    let overhead = (simulation.up_bytes - settled_bytes) as f64 / media as f64;
    simulation.run_until(simulation.now + Duration::from_secs(3));
    let sender = simulation.sender.snapshot(simulation.now);
    let (sent, delivered) = (items.len(), simulation.delivered.len());
    println!(
        "{links} links, {mbps} Mbit/s, {latency:?}: {delivered} of {sent}, dropped {}, retransmits {}, repair packets {}, \
         {overhead:.4} bytes a byte",
        sender.dropped_packets, sender.retransmits, sender.fec_packets
    );
    Outcome { sender, sent, delivered, overhead }
}

/// Goal: a link that is faster than anything asked of it loses nothing, is not believed to, and costs next to nothing beside the
/// media; how fast its estimate grows must not matter. Once what waited in the start-up leaves at 400 Mbit/s and more, a report
/// every 20 ms could not tell of all that has arrived.
#[test]
fn a_perfect_link_is_never_believed_to_lose() {
    for (links, mbps) in [(1, 20.0), (1, 190.0), (4, 190.0)] {
        let outcome = run(Capacity::Unlimited, links, mbps, Duration::from_secs(1));
        assert_eq!(outcome.delivered, outcome.sent);
        assert_eq!((outcome.sender.retransmits, outcome.sender.fec_packets), (0, 0));
        assert!(outcome.overhead < 1.005, "{}", outcome.overhead);
    }
}

/// Goal: with too little time for the start-up (nobody knows yet what the link carries, and the encoder does not follow the
/// advice) packets are given up before they are sent, and that is all: no link is blamed for it.
#[test]
fn what_is_given_up_in_the_start_up_is_no_loss_of_the_link() {
    for capacity in [Capacity::Unlimited, Capacity::Constant { kbps: 200_000 }] {
        let outcome = run(capacity, 1, 150.0, Duration::from_millis(200));
        let dropped = outcome.sender.dropped_packets as usize;
        assert_eq!(outcome.delivered + dropped, outcome.sent);
        assert_eq!((outcome.sender.retransmits, outcome.sender.fec_packets), (0, 0));
        assert!(outcome.overhead < 1.005, "{}", outcome.overhead);
    }
}

/// Goal: links that wait for the media keep what is believed of them, however their delay swings meanwhile: it is no queue, and the
/// few bytes of reports and echoes say nothing of what they carry.
#[test]
fn links_that_wait_with_jitter_carry_media_at_once() {
    let idle = Duration::from_secs(15);
    let mut lost = 0;
    for seed in 0..10 {
        let jitter = LinkConfig { delay_ms: 30.0, jitter_ms: 15.0, jitter_tau_ms: 80.0, ..Default::default() };
        let up = LinkConfig { capacity: Capacity::Constant { kbps: 4000 }, queue_bytes: 100_000, ..jitter.clone() };
        let path = PathConfig { up, down: jitter, ..Default::default() };
        let latency = Duration::from_millis(400);
        let sender = SenderConfig { latency, ..Default::default() };
        let receiver = ReceiverConfig { latency, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &vec![path; 3], seed);
        let items = load::video(5e6, 2.0);
        for item in &items {
            simulation.run_until(item.at + idle);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(2));
        lost += items.len() - simulation.delivered.len();
    }
    assert!(lost == 0, "{lost} packets of the first seconds");
}
