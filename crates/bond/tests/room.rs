//! A source that can wait hands over what the flow has room for, and loses nothing.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, LinkOptions, ReceiverConfig, SenderConfig};
use link_sim::{Capacity, LinkConfig, Outage, OutageKind, PathConfig, SkewedClock};
use simulation::{Simulation, load};
use std::time::Duration;
use units::Bitrate;

/// How often the source asks: as often as the programs do.
const ASKS: Duration = Duration::from_millis(2);

fn path(kbps: u64, loss: f64, outages: Vec<Outage>) -> PathConfig {
    let up = LinkConfig {
        capacity: Capacity::Constant { kbps },
        delay_ms: 30.0,
        loss,
        queue_bytes: kbps * 50,
        outages: outages.clone(),
        ..Default::default()
    };
    let down =
        LinkConfig { capacity: Capacity::Constant { kbps: 10_000 }, delay_ms: 30.0, outages, ..Default::default() };
    PathConfig { up, down, ..Default::default() }
}

/// Hands over all that there is room for during `seconds`; how many payloads.
fn fill(simulation: &mut Simulation, from: u32, seconds: u64) -> u32 {
    let end = simulation.now + Duration::from_secs(seconds);
    let mut number = from;
    while simulation.now < end {
        simulation.run_until(simulation.now + ASKS);
        for _ in 0..simulation.sender.room(simulation.now) {
            simulation.push(load::payload(number), PacketClass::Video);
            number += 1;
        }
    }
    number - from
}

/// Fails unless every payload handed over was delivered.
fn assert_all_delivered(simulation: &mut Simulation, pushed: u32, what: &str) {
    simulation.run_until(simulation.now + Duration::from_secs(5));
    let numbers: Vec<u32> = simulation.delivered.iter().map(|(_, d)| load::number(&d.bytes)).collect();
    let sender = simulation.sender.snapshot(simulation.now);
    let missing = (0..pushed).filter(|number| !numbers.contains(number)).count();
    assert!(numbers.len() as u32 == pushed && missing == 0, "{what}: {missing} of {pushed} missing, {sender:#?}");
    assert!(numbers.is_sorted(), "{what}");
    assert_eq!((sender.dropped_packets, sender.packets_refused), (0, 0), "{what}");
}

/// Goal: whatever the latency and the loss, towards our own end and a plain one, the links are used and nothing is lost.
#[test]
fn a_source_that_waits_uses_the_links_and_loses_nothing() {
    for extension in [Extension::Offer, Extension::Off] {
        for (latency_ms, loss) in [(300, 0.0), (1000, 0.0), (1000, 0.01), (4000, 0.02)] {
            let what = format!("{extension:?}, {latency_ms} ms, {loss} lost");
            let latency = Duration::from_millis(latency_ms);
            let sender = SenderConfig { latency, extension, ..Default::default() };
            let receiver = ReceiverConfig { latency, extension, ..Default::default() };
            let paths = [path(4000, loss, Vec::new()), path(2000, loss, Vec::new())];
            let mut simulation = Simulation::new(sender, receiver, &paths, latency_ms);
            assert_eq!(simulation.sender.room(simulation.now), 0, "no link is up");
            let pushed = fill(&mut simulation, 0, 20);
            let used = f64::from(pushed) * 1344.0 * 8.0 / 20.0 / 6e6;
            println!("{what}: {used:.3} of the capacity used");
            assert!(used > 0.9, "{what}: {used:.3} of the capacity used");
            assert_all_delivered(&mut simulation, pushed, &what);
        }
    }
}

/// Goal: links that a plain receiver's echoes steer stay full for long without their queues growing: the path is not forgotten.
#[test]
fn full_links_to_a_plain_receiver_keep_short_queues() {
    for (latency_ms, queue_ms) in [(300, 200), (500, 1000), (1000, 400), (2000, 1000)] {
        let what = format!("{latency_ms} ms, queues of {queue_ms} ms");
        let latency = Duration::from_millis(latency_ms);
        let sender = SenderConfig { latency, extension: Extension::Off, ..Default::default() };
        let receiver = ReceiverConfig { latency, extension: Extension::Off, ..Default::default() };
        let mut paths = [path(4000, 0.0, Vec::new()), path(2000, 0.0, Vec::new()), path(8000, 0.0, Vec::new())];
        paths.iter_mut().zip([4000, 2000, 8000]).for_each(|(path, kbps)| path.up.queue_bytes = kbps * queue_ms / 8);
        let mut simulation = Simulation::new(sender, receiver, &paths, latency_ms);
        let (mut pushed, mut longest_ms) = (0, 0.0f64);
        for _ in 0..90 {
            pushed += fill(&mut simulation, pushed, 1);
            let trips = simulation.sender.snapshot(simulation.now).links;
            longest_ms = trips.iter().filter_map(|link| Some(link.rtt?.as_secs_f64() * 1e3)).fold(longest_ms, f64::max);
        }
        let used = f64::from(pushed) * 1344.0 * 8.0 / 90.0 / 14e6;
        println!("{what}: {used:.3} of the capacity used, round trips of {longest_ms:.0} ms");
        assert!(used > 0.9, "{what}: {used:.3} of the capacity used");
        assert!(longest_ms < 60.0 + 130.0, "{what}: round trips of {longest_ms:.0} ms");
        assert_all_delivered(&mut simulation, pushed, &what);
    }
}

/// Goal: while all links are dead there is no room, and afterwards there is again; what was handed over before is not lost.
#[test]
fn an_outage_of_all_links_holds_the_source_back() {
    let outage = |to_ms| Outage { from_ms: 5000, to_ms, kind: OutageKind::default() };
    let latency = Duration::from_secs(2);
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let paths = [path(4000, 0.0, vec![outage(6000)]), path(2000, 0.0, vec![outage(5900)])];
    let mut simulation = Simulation::new(sender, receiver, &paths, 3);
    let mut pushed = fill(&mut simulation, 0, 5);
    let before = pushed;
    pushed += fill(&mut simulation, pushed, 1);
    assert!(
        pushed - before < before / 5 / 2,
        "{} in the second of the outage, {before} in five before",
        pushed - before
    );
    let after = fill(&mut simulation, pushed, 5);
    assert!(after > before / 2, "{after} after, {before} before");
    assert_all_delivered(&mut simulation, pushed + after, "an outage");
}

/// Goal: a link that could carry more is not sent more than its limit, however much waits.
#[test]
fn a_limit_of_a_link_is_kept_under_load() {
    for extension in [Extension::Offer, Extension::Off] {
        let latency = Duration::from_secs(1);
        let sender = SenderConfig { latency, extension, ..Default::default() };
        let receiver = ReceiverConfig { latency, extension, ..Default::default() };
        let paths = [path(20_000, 0.0, Vec::new())];
        let mut simulation = Simulation::without_links(sender, receiver, &paths, 5, SkewedClock::new(0, 0));
        simulation.add_link(0, LinkOptions { rate_max: Some(Bitrate::from_kbps(4000)), ..Default::default() });
        fill(&mut simulation, 0, 2);
        let before = simulation.up_bytes;
        fill(&mut simulation, 1_000_000, 10);
        let rate = (simulation.up_bytes - before) as f64 * 8.0 / 10.0 / 4e6;
        assert!((0.9..1.06).contains(&rate), "{extension:?}: {rate:.3} of the limit");
    }
}
