//! A path that grows longer for good, as after a handover: what it takes longer is no queue.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, ReceiverConfig, SenderConfig};
use link_sim::{Capacity, EcnPath};
use simulation::follow::{self, Encoder};
use simulation::{Simulation, load, scenario};
use std::time::Duration;

/// What a step did to a load of 3.2 Mbit/s.
#[derive(Debug)]
struct Outcome {
    lost: usize,
    /// Lowest advice after the step and time of advice below the load.
    lowest_kbps: u64,
    below_ms: u64,
}

/// The far end of paths that grow longer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum FarEnd {
    Ours,
    /// Ours, by paths that mark everything from so many milliseconds on.
    Marked(u64),
    Plain,
}

/// Two paths or one of 7.3 Mbit/s grow longer at ten seconds.
fn step(to: FarEnd, links: usize, longer_ms: f64, latency_ms: u64, seed: u64) -> Outcome {
    let latency = Duration::from_millis(latency_ms);
    let (extension, ecn, marks) = match to {
        FarEnd::Ours => (Extension::Offer, false, None),
        FarEnd::Marked(from_ms) => (Extension::Offer, true, Some((from_ms, EcnPath::MarkAll))),
        FarEnd::Plain => (Extension::Off, false, None),
    };
    let kbps = 7_300 / links as u64;
    let mut paths: Vec<_> = (0..links).map(|i| scenario::link(&format!("l{i}"), kbps, 25.0, 250)).collect();
    for path in &mut paths {
        path.up.delay_steps = vec![(10_000, 25.0 + longer_ms)];
        path.up.jitter_ms = 1.0;
        path.up.ecn_steps = marks.into_iter().collect();
    }
    let sender = SenderConfig { latency, ecn, extension, ..Default::default() };
    let receiver = ReceiverConfig { latency, ecn, extension, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &paths, seed);
    let items = load::video(3.2e6, 25.0);
    let (mut lowest_kbps, mut below_ms, mut looked) = (u64::MAX, 0, simulation.now);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
        if item.at.as_millis() > 10_000 {
            let advice = simulation.sender.rate_advice(simulation.now).as_bps() / 1000;
            lowest_kbps = lowest_kbps.min(advice);
            if advice < 3_200 {
                below_ms += (simulation.now - looked).as_millis() as u64;
            }
        }
        looked = simulation.now;
    }
    simulation.run_until(simulation.now + latency + Duration::from_secs(2));
    Outcome { lost: items.len() - simulation.delivered.len(), lowest_kbps, below_ms }
}

/// Goal: paths that grow longer at once cost no packet and hardly any advice: it falls for a moment, not for seconds and to nothing.
#[test]
fn a_longer_path_is_no_queue() {
    for (links, latency_ms) in [(1, 500), (1, 1000), (1, 2000), (2, 500), (2, 1000), (2, 2000)] {
        for longer_ms in [20.0, 40.0, 66.0, 80.0, 150.0] {
            for seed in 1..=3 {
                let outcome = step(FarEnd::Ours, links, longer_ms, latency_ms, seed);
                let what = format!("{links} links, {latency_ms} ms, {longer_ms} ms longer, seed {seed}: {outcome:?}");
                println!("{what}");
                assert_eq!(outcome.lost, 0, "{what}");
                assert!(outcome.below_ms < 500, "{what}");
                assert!(longer_ms > 100.0 || outcome.lowest_kbps > 1200, "{what}");
            }
        }
    }
}

/// Goal: a plain receiver's echoes tell it, too.
#[test]
fn a_longer_path_to_a_plain_receiver_is_no_queue() {
    for (links, latency_ms) in [(1, 500), (1, 1000), (1, 2000), (2, 500), (2, 1000), (2, 2000)] {
        for longer_ms in [20.0, 40.0, 66.0, 80.0, 150.0] {
            for seed in 1..=3 {
                let outcome = step(FarEnd::Plain, links, longer_ms, latency_ms, seed);
                let what = format!("{links} links, {latency_ms} ms, {longer_ms} ms longer, seed {seed}: {outcome:?}");
                println!("{what}");
                assert_eq!(outcome.lost, 0, "{what}");
                assert!(outcome.below_ms < 1000, "{what}");
            }
        }
    }
}

/// Goal: nor is it one where a path marks everything, whatever waits: that says nothing of queues. Method: from so short a time before
/// that it is hardly known yet. (5235 packets were lost when marks were believed.)
#[test]
fn a_longer_path_that_marks_everything_is_no_queue() {
    let mut lost = 0;
    for longer_ms in [40.0, 80.0, 150.0] {
        for marked_from_ms in [8_800, 8_900, 9_000, 9_100, 9_200] {
            let outcome = step(FarEnd::Marked(marked_from_ms), 1, longer_ms, 1000, 1);
            println!("{longer_ms} ms longer, marked from {marked_from_ms} ms on: {outcome:?}");
            lost += outcome.lost;
        }
    }
    assert!(lost < 900, "{lost}");
}

/// Goal: paths that grow longer while an encoder on the advice fills the links, where only silence tells.
#[test]
fn full_links_find_a_longer_path() {
    for longer_ms in [30.0, 66.0, 120.0] {
        let mut paths: Vec<_> = (0..2).map(|i| scenario::link(&format!("l{i}"), 4000, 25.0, 250)).collect();
        for path in &mut paths {
            path.up.delay_steps = vec![(10_000, 25.0 + longer_ms)];
        }
        let latency = Duration::from_secs(1);
        let mut lowest = u64::MAX;
        let run = follow::run(latency, &paths, 25, 1, Encoder::default(), |simulation| {
            if simulation.now > follow::at(10.0) {
                lowest = lowest.min(simulation.sender.rate_advice(simulation.now).as_bps() / 1000);
            }
        });
        let used = |from, to| run.delivered(from, to) / run.capacity(from, to);
        let lost = run.made_and_lost(5.0, 25.0).1;
        let (soon, later) = (used(10.0, 12.0), used(12.0, 25.0));
        println!("{longer_ms} ms longer: {soon:.3} used at first, then {later:.3}; {lowest} kbit/s at the least");
        assert_eq!(lost, 0, "{longer_ms} ms longer");
        assert!(soon > 0.2 && later > 0.88, "{longer_ms} ms longer: {soon:.3}, {later:.3}");
    }
}

/// Goal: a capacity that falls somewhat below the load is found as before: its queue is not taken for a longer path.
#[test]
fn a_slow_overload_is_no_longer_path() {
    for (latency_ms, before, after) in [(500, 1.3, 0.9), (500, 1.2, 0.97), (1000, 1.3, 0.9), (800, 1.1, 0.96)] {
        let mut path = scenario::link("a", 5000, 25.0, 1000);
        let kbps = |of_load: f64| (3600.0 * of_load) as u64;
        path.up.capacity = Capacity::Steps { steps: vec![(0, kbps(before)), (12_000, kbps(after))] };
        let latency = Duration::from_millis(latency_ms);
        let sender = SenderConfig { latency, ..Default::default() };
        let receiver = ReceiverConfig { latency, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &[path], 1);
        let mut queues = Vec::new();
        for item in &load::video(3600e3 / 1.06, 40.0) {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
            if item.at.as_millis() > 15_000 {
                let queued = simulation.paths[0].up().queued_bytes().as_u64();
                queues.push(queued as f64 * 8.0 / kbps(after) as f64);
            }
        }
        queues.sort_unstable_by(f64::total_cmp);
        let (p95, most) = (queues[queues.len() * 95 / 100], queues[queues.len() - 1]);
        println!("{latency_ms} ms, {before} -> {after}: queue {p95:.0} ms, {most:.0} at the most");
        assert!(
            p95 < 110.0 && most < 200.0,
            "{latency_ms} ms, {before} -> {after}: {p95:.0} ms, {most:.0} at the most"
        );
    }
}
