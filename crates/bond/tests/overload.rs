//! What is given up when links can not carry everything: never what the rest can not be decoded without.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, ReceiverConfig, SenderConfig};
use link_sim::{Capacity, Outage, OutageKind, PathConfig};
use simulation::load::Item;
use simulation::score::{self, Classes};
use simulation::{Simulation, load, scenario};
use std::collections::HashMap;
use std::time::Duration;
use units::Timestamp;

/// Links of 3 and 2 Mbit/s, of which media may use 4.8.
fn links() -> Vec<PathConfig> {
    vec![scenario::link("a", 3000, 20.0, 200), scenario::link("b", 2000, 40.0, 200)]
}

/// Sends `items` within a second of latency; returns those of second 6 and later that are judged, and which arrived.
fn run(
    paths: &[PathConfig],
    extension: Extension,
    items: &[Item],
    class: fn(&Item) -> PacketClass,
) -> Vec<(Item, bool)> {
    let latency = Duration::from_secs(1);
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, extension, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, paths, 3);
    for item in items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), class(item));
    }
    simulation.run_until(simulation.now + Duration::from_secs(4));
    let mut arrived = vec![false; items.len()];
    for (_, delivered) in &simulation.delivered {
        arrived[load::number(&delivered.bytes) as usize] = true;
    }
    let judged = items.iter().copied().zip(arrived);
    judged.filter(|(item, _)| item.at >= Timestamp::from_millis(6000)).collect()
}

/// Whole key pictures of all, and whole other pictures of all.
fn pictures(judged: &[(Item, bool)]) -> [(usize, usize); 2] {
    [true, false].map(|key| {
        let pictures = judged.chunk_by(|a, b| a.0.frame == b.0.frame).filter(|picture| picture[0].0.key == key);
        let whole = pictures.clone().filter(|picture| picture.iter().all(|(_, arrived)| *arrived));
        (whole.count(), pictures.count())
    })
}

fn pictures_told(item: &Item) -> PacketClass {
    if item.key { PacketClass::Idr } else { PacketClass::Video }
}

/// Goal: without its key picture no other of its group can be shown; they are the last to be given up.
#[test]
fn key_pictures_survive_an_overload() {
    for bps in [5e6, 5.5e6, 6e6, 8e6] {
        let items = load::video(bps, 40.0);
        let [keys, others] = pictures(&run(&links(), Extension::Offer, &items, pictures_told));
        assert_eq!(keys.0, keys.1, "key pictures at {bps} bit/s; of the others {others:?}");
        assert!(others.0 * 10 > others.1 * 4, "{others:?} other pictures at {bps} bit/s");
        assert!(others.0 < others.1, "{bps} bit/s is no overload");
    }
}

/// Goal: the same when the links fade for ten seconds.
#[test]
fn key_pictures_survive_a_fade() {
    let mut paths = links();
    paths[0].up.capacity = Capacity::Steps { steps: vec![(0, 3000), (10_000, 1000), (20_000, 3000)] };
    let items = load::video(4e6, 40.0);
    let [keys, others] = pictures(&run(&paths, Extension::Offer, &items, pictures_told));
    assert_eq!(keys.0, keys.1, "of the others {others:?}");
    assert!((900..others.1).contains(&others.0), "{others:?}");
}

/// Goal: sound, parameter sets and key pictures arrive when not even two thirds of everything can, at our own receiver and at a
/// plain RIST one.
#[test]
fn what_is_critical_arrives_at_any_receiver() {
    let class = |item: &Item| match item.number % 20 {
        _ if item.key => PacketClass::Idr,
        3 => PacketClass::Audio,
        7 => PacketClass::Clock,
        11 => PacketClass::ParameterSet,
        13 => PacketClass::Other,
        _ => PacketClass::Video,
    };
    for extension in [Extension::Offer, Extension::Off] {
        let judged = run(&links(), extension, &load::video(8e6, 30.0), class);
        let mut missing = HashMap::new();
        for (item, arrived) in &judged {
            let of = missing.entry(class(item)).or_insert((0, 0));
            of.0 += u32::from(!arrived);
            of.1 += 1;
        }
        for critical in [PacketClass::Idr, PacketClass::Audio, PacketClass::ParameterSet] {
            assert_eq!(missing[&critical].0, 0, "{critical:?}, {extension:?}: {missing:?}");
        }
        assert!(missing[&PacketClass::Video].0 > 0, "an overload: {missing:?}");
    }
}

/// Goal: a queue that is full all the time is found to be short: an overload fills its link and does not flood it.
#[test]
fn a_short_queue_is_not_flooded() {
    for queue_ms in [30, 50, 65, 80] {
        let mut path = scenario::link("a", 4000, 10.0, 1000);
        path.up.queue_bytes = queue_ms * 500;
        let latency = Duration::from_secs(1);
        let sender = SenderConfig { latency, ..Default::default() };
        let receiver = ReceiverConfig { latency, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &[path], 1);
        let items = load::video(5.2e6, 40.0);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(2));
        let dropped = simulation.paths[0].up().stats().dropped_queue as f64;
        let sent = simulation.sender.snapshot(simulation.now).links[0].packets_sent as f64;
        let delivered = simulation.delivered.len() as f64 / items.len() as f64;
        println!("{queue_ms} ms: {:.3} of what is sent is dropped, {delivered:.3} delivered", dropped / sent);
        assert!(dropped < 0.15 * sent, "{queue_ms} ms: {dropped} of {sent}");
        // Of what is offered the link carries 0.77, less its headers.
        assert!(delivered > 0.71, "{queue_ms} ms: {delivered}");
    }
}

/// Goal: a link that stalls for half a second and goes on as before has time for everything that waited: while its rate is measured
/// anew, nothing is given up.
#[test]
fn a_stall_costs_nothing_that_still_has_time() {
    for queue_kb in [40, 400] {
        for seed in 0..3 {
            let mut paths = vec![scenario::link("a", 8000, 70.0, queue_kb)];
            let times = [7_000, 11_000, 15_130, 19_370, 23_710];
            paths[0].outages = times.map(|at| Outage { from_ms: at, to_ms: at + 480, kind: OutageKind::Hold }).to_vec();
            let items = load::video(5e6, 30.0);
            let (score, simulation) = score::run(Duration::from_secs(2), &paths, &items, seed, Classes::Unknown);
            let snapshot = simulation.sender.snapshot(simulation.now);
            println!("queue {queue_kb} kB, seed {seed}: {} given up, {score:?}", snapshot.dropped_packets);
            assert_eq!(
                (snapshot.dropped_packets, score.delivered_percent),
                (0, 100.0),
                "queue {queue_kb} kB, seed {seed}"
            );
        }
    }
}

/// Goal: what no link could take before its time was over is counted, however long all were out.
#[test]
fn what_an_outage_of_all_links_costs_is_counted() {
    let mut paths = links();
    for path in &mut paths {
        path.outages = vec![Outage { from_ms: 6_000, to_ms: 16_000, kind: OutageKind::Lose }];
    }
    let latency = Duration::from_secs(1);
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &paths, 3);
    let items = load::video(3e6, 20.0);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(4));
    let missing = (items.len() - simulation.delivered.len()) as u64;
    let dropped = simulation.sender.snapshot(simulation.now).dropped_packets;
    // What was on its way when the links went was sent.
    assert!(missing > 2000 && dropped <= missing && dropped + 150 > missing, "{dropped} of {missing}");
}

/// Goal: where an overload fills all that is kept, what was set aside keeps nothing out that could be sent, and what is far ahead is
/// no new count: the links stay full of what arrives in time. Method: more within ten seconds than 16 bits number, on links for half
/// of it.
#[test]
fn what_is_set_aside_keeps_nothing_out() {
    for mbit in [70, 80, 90] {
        let latency = Duration::from_secs(10);
        let sender = SenderConfig { latency, ..Default::default() };
        let receiver = ReceiverConfig { latency, ..Default::default() };
        let paths = [scenario::link("a", mbit * 250, 20.0, 200), scenario::link("b", mbit * 250, 40.0, 200)];
        let mut simulation = Simulation::new(sender, receiver, &paths, 3);
        for item in &load::video(mbit as f64 * 1e6, 40.0) {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), pictures_told(item));
        }
        let delivered = simulation.delivered.len() as f64;
        let carried = 40.0 * mbit as f64 * 0.5e6 / 8.0 / (load::PAYLOAD_BYTES + 28 + simulation::IP_BYTES) as f64;
        assert!(delivered > 0.88 * carried, "{mbit} Mbit/s: {delivered} of {carried:.0}");
    }
}
