//! Congestion marks of the network: queues that mark, and paths that do other things to the ECN field.
#![allow(clippy::float_cmp)] // all of them is exactly 100

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, LinkOptions, ReceiverConfig, SenderConfig};
use bond::event::{Cause, EcnFault};
use bond::stats::{EcnState, LinkState};
use link_sim::{Capacity, EcnPath, PathConfig, SkewedClock, Trace};
use simulation::load::Item;
use simulation::{Simulation, load, scenario, score};
use std::time::Duration;
use units::Timestamp;

const LATENCY: Duration = Duration::from_secs(1);

fn simulation(paths: &[PathConfig], sends: bool, counts: bool, seed: u64) -> Simulation {
    let sender = SenderConfig { latency: LATENCY, ecn: sends, ..Default::default() };
    let receiver = ReceiverConfig { latency: LATENCY, ecn: counts, ..Default::default() };
    let clock = SkewedClock::new(77_000_000, 0);
    let mut simulation = Simulation::without_links(sender, receiver, paths, seed, clock);
    for (index, path) in paths.iter().enumerate() {
        simulation.add_link(index, LinkOptions { name: path.name.clone(), ..Default::default() });
    }
    simulation
}

fn carry(simulation: &mut Simulation, items: &[Item]) -> score::Score {
    send(simulation, items);
    finish(simulation, items)
}

fn send(simulation: &mut Simulation, items: &[Item]) {
    for item in items {
        simulation.run_until(item.at);
        let class = if item.key { PacketClass::Idr } else { PacketClass::Video };
        simulation.push(load::payload(item.number), class);
    }
}

fn finish(simulation: &mut Simulation, items: &[Item]) -> score::Score {
    let end = items.last().map_or(Timestamp::ZERO, |item| item.at);
    simulation.run_until(end + LATENCY + Duration::from_secs(2));
    score::judge(items, LATENCY, simulation)
}

fn states(simulation: &Simulation) -> Vec<EcnState> {
    simulation.sender.snapshot(simulation.now).links.iter().map(|link| link.ecn).collect()
}

/// When the events told of ECN, and what: `None` is that it is used.
fn told(simulation: &Simulation) -> Vec<(u64, String, Option<EcnFault>)> {
    let of = |event: &bond::event::Event| match &event.cause {
        Cause::EcnUsed { name, .. } => Some((event.at.as_millis(), name.clone(), None)),
        Cause::EcnRefused { name, fault, .. } => Some((event.at.as_millis(), name.clone(), Some(*fault))),
        _ => None,
    };
    simulation.sender_events.iter().filter_map(of).collect()
}

/// Queue that full datagrams met on a link with this path delay, in milliseconds: median and 95th percentile.
fn queue_ms(simulation: &Simulation, link: usize, delay_ms: f64) -> (f64, f64) {
    let mut delays: Vec<f64> = simulation.one_way[link].iter().map(|micros| f64::from(*micros) / 1e3).collect();
    // What the warm-up met is not judged.
    delays.drain(..delays.len() / 4);
    delays.sort_by(f64::total_cmp);
    let quantile = |q: f64| delays[((delays.len() - 1) as f64 * q) as usize] - delay_ms;
    (quantile(0.5), quantile(0.95))
}

/// More media than the link carries, so that it is always full: what it carried, as a share of its capacity after the
/// warm-up, and its queue.
fn fill(kbps: u64, delay_ms: f64, mark_above_ms: Option<f64>, ecn: bool, seed: u64) -> (f64, (f64, f64), Simulation) {
    let mut path = scenario::link("a", kbps, delay_ms, 400);
    path.up.mark_above_ms = mark_above_ms;
    let mut simulation = simulation(&[path], ecn, true, seed);
    let items = load::even(kbps as f64 * 1300.0, 30.0);
    let mut passed = 0;
    for item in &items {
        simulation.run_until(item.at);
        if passed == 0 && item.at >= Timestamp::from_millis(8000) {
            passed = simulation.paths[0].up().stats().passed_bytes.as_u64();
        }
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    let carried = simulation.paths[0].up().stats().passed_bytes.as_u64() - passed;
    let used = carried as f64 * 8.0 / (kbps as f64 * 1e3 * 22.0);
    let queue = queue_ms(&simulation, 0, delay_ms);
    (used, queue, simulation)
}

/// Goal: a queue that marks is kept about as short as it wants to be, while more than 90 % of the link is used; without marks it
/// is as long as the latency allows.
#[test]
fn a_marking_queue_stays_short_and_its_link_full() {
    let links = [(6000, 20.0, 5.0), (20_000, 20.0, 5.0), (20_000, 60.0, 5.0), (50_000, 10.0, 1.0), (4000, 5.0, 10.0)];
    for (kbps, delay_ms, threshold_ms) in links {
        for seed in 0..2 {
            let (used, queue, simulation) = fill(kbps, delay_ms, Some(threshold_ms), true, seed);
            let (_, queue_without, without) = fill(kbps, delay_ms, Some(threshold_ms), false, seed);
            let link = &simulation.sender.snapshot(simulation.now).links[0];
            let case = format!(
                "{kbps} kbit/s, {delay_ms} ms, marks above {threshold_ms} ms, seed {seed}: {:.1} % used, queue {queue:.1?} \
                 ms, without marks {queue_without:.1?} ms, {} marked",
                used * 100.0,
                link.ce_packets
            );
            println!("{case}");
            assert_eq!(link.ecn, EcnState::InUse, "{case}");
            assert!(used > 0.9, "{case}");
            assert!(queue.0 < threshold_ms && queue.1 < 2.0 * threshold_ms, "{case}");
            assert!(queue_without.0 > 10.0 * queue.0, "{case}");
            let marked = simulation.paths[0].up().stats().marked;
            assert!((100..=marked).contains(&link.ce_packets) && marked - link.ce_packets < 200, "{case}: {marked}");
            assert_eq!((states(&without), told(&without)), (vec![EcnState::Off], vec![]), "{case}");
        }
    }
}

/// Goal: capacity that comes and goes is followed: the queue drains, and what is new is used.
#[test]
fn marks_follow_a_changing_capacity() {
    for seed in 0..3 {
        let mut path = scenario::link("a", 12_000, 30.0, 400);
        path.up.mark_above_ms = Some(5.0);
        path.up.capacity = Capacity::Steps { steps: vec![(0, 12_000), (10_000, 5000), (20_000, 12_000)] };
        let mut simulation = simulation(&[path], true, true, seed);
        let mut carried = Vec::new();
        for item in load::even(14e6, 30.0) {
            simulation.run_until(item.at);
            if item.at >= Timestamp::from_millis(1000 * carried.len() as u64) {
                carried.push(simulation.paths[0].up().stats().passed_bytes.as_u64() as f64 * 8e-6);
            }
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        let mbps = |from: usize, to: usize| (carried[to] - carried[from]) / (to - from) as f64;
        let rates = [mbps(5, 10), mbps(12, 20), mbps(23, 29)];
        println!("seed {seed}: {rates:.2?} of 12, 5, 12 Mbit/s");
        assert!(rates[0] > 10.8 && rates[1] > 4.5 && rates[2] > 10.8, "{rates:?}");
    }
}

/// Goal: with video that fits, marks keep the queues short and cost the picture nothing.
#[test]
fn marks_cost_the_picture_nothing() {
    for seed in 0..3 {
        let mut paths = scenario::asymmetric();
        // Not below two packets' service: every packet would be marked.
        for (path, threshold_ms) in paths.iter_mut().zip([5.0, 5.0, 12.0]) {
            path.up.mark_above_ms = Some(threshold_ms);
        }
        let items = load::video(11e6, 20.0);
        let score = |ecn: bool| {
            let mut simulation = simulation(&paths, ecn, true, seed);
            let score = carry(&mut simulation, &items);
            let queues = [20.0, 50.0, 90.0].map(|delay_ms| delay_ms);
            let queue = [0, 1, 2].map(|link| queue_ms(&simulation, link, queues[link]).1);
            (score, queue, simulation)
        };
        let (with, queue, simulation) = score(true);
        let (without, queue_without, _) = score(false);
        println!("seed {seed}: p95 of the queues {queue:.0?} ms, without marks {queue_without:.0?} ms");
        println!("  {with:?}\n  {without:?}");
        assert_eq!(states(&simulation), [EcnState::InUse; 3]);
        assert_eq!((with.frames_on_time_percent, with.delivered_percent), (100.0, 100.0), "seed {seed}");
        assert!(queue.iter().sum::<f64>() < 0.75 * queue_without.iter().sum::<f64>(), "seed {seed}");
    }
}

/// Goal: whatever a path does to the ECN field, from the start or later, is found once, told, and costs nothing.
#[test]
fn paths_that_do_wrong_are_found_and_left_alone() {
    let faults = [
        (EcnPath::Clear, EcnFault::Cleared),
        (EcnPath::Drop, EcnFault::BlackHole),
        (EcnPath::MarkAll, EcnFault::AllMarked),
    ];
    for (does, fault) in faults {
        for from_ms in [0, 8000] {
            for seed in 0..3 {
                let mut paths = vec![scenario::link("a", 6000, 30.0, 200), scenario::link("b", 6000, 40.0, 200)];
                paths[0].up.ecn_steps = vec![(from_ms, does)];
                let mut simulation = simulation(&paths, true, true, seed);
                let score = carry(&mut simulation, &load::video(8e6, 18.0));
                let told = told(&simulation);
                let snapshot = simulation.sender.snapshot(simulation.now);
                let case = format!("{does:?} from {from_ms} ms, seed {seed}: {told:?}, {score:?}");
                println!("{case}");
                let (link, found) = (&snapshot.links[0], told.iter().find(|(_, _, found)| *found == Some(fault)));
                assert_eq!((score.frames_on_time_percent, score.delivered_percent), (100.0, 100.0), "{case}");
                assert!(found.is_some_and(|(at, name, _)| name == "a" && *at < from_ms + 3000), "{case}");
                assert_eq!(told.iter().filter(|(_, _, found)| found.is_some()).count(), 1, "{case}");
                assert!(link.ecn != EcnState::InUse && snapshot.links[1].ecn == EcnState::InUse, "{case}");
                // It carries on without.
                assert!(link.state == LinkState::Up && link.goodput.as_bps() > 0 || link.packets_sent > 2000, "{case}");
                let lost = simulation.paths[0].up().stats().dropped_ecn;
                assert!(lost <= if from_ms == 0 { 12 } else { 250 }, "{case}: {lost} lost");
            }
        }
    }
}

/// Goal: loss, outages and another address are not mistaken for a path that does wrong.
#[test]
fn trouble_of_other_kinds_leaves_it_alone() {
    for seed in 0..5 {
        let mut paths = scenario::asymmetric();
        for path in &mut paths {
            (path.up.loss, path.down.loss) = (0.05, 0.05);
            (path.up.duplicate, path.up.reorder, path.up.reorder_ms) = (0.02, 0.02, 8.0);
        }
        paths[0].outages = scenario::outages_of(&[(7_000, 7_400), (9_000, 12_000)]);
        paths[1].rebind_ms = vec![8_000];
        let mut simulation = simulation(&paths, true, true, seed);
        let items = load::video(6e6, 18.0);
        send(&mut simulation, &items);
        // Later an idle link may be suspect for a moment, because it loses packets, and be tested again.
        let states = states(&simulation);
        let score = finish(&mut simulation, &items);
        assert!(score.delivered_percent > 99.9, "seed {seed}: {score:?}");
        let told = told(&simulation);
        assert_eq!(states, [EcnState::InUse; 3], "seed {seed}: {told:?}");
        assert!(told.iter().all(|(_, _, fault)| fault.is_none()), "seed {seed}: {told:?}");
    }
}

/// Goal: nothing carries ECN to a far end that does not count it: an older one of ours, or a plain RIST peer.
#[test]
fn nobody_is_sent_what_he_does_not_count() {
    for (sends, counts, extension) in
        [(true, false, Extension::Offer), (false, true, Extension::Offer), (true, true, Extension::Off)]
    {
        let mut path = scenario::link("a", 6000, 30.0, 200);
        // Everything with ECN would be lost.
        path.up.ecn_steps = vec![(0, EcnPath::Drop)];
        let sender = SenderConfig { latency: LATENCY, ecn: sends, ..Default::default() };
        let receiver = ReceiverConfig { latency: LATENCY, ecn: counts, extension, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &[path], 1);
        carry(&mut simulation, &load::video(3e6, 10.0));
        assert_eq!(simulation.paths[0].up().stats().dropped_ecn, 0);
        assert_eq!((states(&simulation), told(&simulation)), (vec![EcnState::Off], vec![]));
    }
}

/// What a link carried after ten seconds of even load or of video, as a share of what it could; and what was told of ECN.
fn carried(
    mut path: PathConfig,
    kbps: u64,
    packets: f64,
    load: f64,
    video: bool,
    seed: u64,
    ecn: bool,
) -> (f64, Simulation) {
    // A threshold of so many full packets' service.
    path.up.mark_above_ms = Some(packets * 1400.0 * 8.0 / kbps as f64);
    let mut simulation = simulation(&[path], ecn, true, seed);
    let bps = kbps as f64 * 1e3 * load;
    let mut passed = 0;
    for item in &if video { load::video(bps, 20.0) } else { load::even(bps, 20.0) } {
        simulation.run_until(item.at);
        if passed == 0 && item.at >= Timestamp::from_millis(10_000) {
            passed = simulation.paths[0].up().stats().passed_bytes.as_u64();
        }
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    let carried = simulation.paths[0].up().stats().passed_bytes.as_u64() - passed;
    (carried as f64 * 8.0 / (kbps as f64 * 1e4 * load.min(1.0)), simulation)
}

/// Goal: a node that marks what takes longer than a part of a full packet's service marks nearly everything, whatever the pace: that
/// is found, and the link carries what it is given. One that leaves room for a packet is none.
#[test]
fn marks_that_do_not_follow_the_pace_starve_no_link() {
    for kbps in [1000, 5200] {
        for packets in [0.3, 0.95, 1.1, 2.2] {
            for load in [0.5, 1.3] {
                for (jitter_ms, delay_ms) in [(0.0, 20.0), (4.0, 20.0), (0.0, 120.0)] {
                    for video in [false, true] {
                        let mut path = scenario::link("a", kbps, delay_ms, 400);
                        path.up.jitter_ms = jitter_ms;
                        let (used, simulation) = carried(path, kbps, packets, load, video, 1, true);
                        let told = told(&simulation);
                        let case = format!(
                            "{kbps} kbit/s, marks above {packets} packets, load {load}, video {video}, jitter {jitter_ms} ms, delay \
                             {delay_ms} ms: {used:.3} carried, {told:?}"
                        );
                        println!("{case}");
                        let found =
                            told.iter().any(|(at, _, fault)| *at < 9_000 && *fault == Some(EcnFault::AllMarked));
                        assert_eq!(found, packets < 1.0, "{case}");
                        assert!(used > if found { 0.9 } else { 0.7 }, "{case}");
                    }
                }
            }
        }
    }
}

/// Goal: on a capacity that rises and falls as that of a modem does, marks cost little: nodes that mark what waits for a moment are
/// found to, and others are not taken for them.
#[test]
fn marks_starve_no_fading_link() {
    for seed in 0..6 {
        for packets in [2.0, 5.0] {
            let mut path = scenario::link("a", 6000, 30.0, 400);
            path.up.capacity = Capacity::Trace { trace: Trace::cellular(seed, 6000.0, 30), offset_ms: 0, scale: 1.0 };
            let (without, _) = carried(path.clone(), 6000, packets, 0.8, true, seed, false);
            let (with, simulation) = carried(path, 6000, packets, 0.8, true, seed, true);
            let told = told(&simulation);
            let case =
                format!("seed {seed}, {packets} packets: {with:.3} carried, without marks {without:.3}, {told:?}");
            println!("{case}");
            assert!(with > 0.7 * without, "{case}");
            assert!(packets < 5.0 || states(&simulation) == [EcnState::InUse], "{case}");
        }
    }
}

/// Goal: a receiver that takes the place of another one counts marks anew, by a clock of its own: its path is tested anew, and passes.
#[test]
fn marks_are_counted_anew_by_another_receiver() {
    let mut path = scenario::link("a", 4000, 20.0, 400);
    path.up.mark_above_ms = Some(5.0);
    let mut simulation = simulation(&[path], true, true, 3);
    let items = load::video(3e6, 40.0);
    let (before, after) = items.split_at(items.len() / 2);
    send(&mut simulation, before);
    assert_eq!(states(&simulation), [EcnState::InUse]);
    let receiver = ReceiverConfig { latency: LATENCY, ecn: true, ..Default::default() };
    simulation.replace_receiver(receiver, 99, SkewedClock::new(50_000_000, 0));
    send(&mut simulation, after);
    assert_eq!(states(&simulation), [EcnState::InUse], "{:?}", told(&simulation));
}
