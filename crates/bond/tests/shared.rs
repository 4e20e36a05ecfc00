//! Links that share a bottleneck are found, links that do not are not, and what is sent for safety takes another way.

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use bond::event::Cause;
use bond::sender::SenderInput;
use bond::stats::SenderSnapshot;
use link_sim::{Bottleneck, Capacity, PathConfig};
use simulation::follow::{self, Encoder};
use simulation::{Simulation, load, scenario};
use std::time::Duration;
use units::LinkId;

/// Payload share of what travels.
const PAYLOAD: f64 = load::PAYLOAD_BYTES as f64 / follow::WIRE_BYTES as f64;

fn bond(paths: &[PathConfig], latency_ms: u64, seed: u64) -> Simulation {
    let latency = Duration::from_millis(latency_ms);
    let sender = SenderConfig { latency, ..Default::default() };
    Simulation::new(sender, ReceiverConfig { latency, ..Default::default() }, paths, seed)
}

/// The first two links behind one bottleneck.
fn share_two(simulation: &mut Simulation, kbps: u64) {
    let bottleneck = Bottleneck::new(&Capacity::Constant { kbps }, 600_000).expect("a valid bottleneck");
    simulation.share(&[0, 1], &bottleneck);
}

fn feed(simulation: &mut Simulation, items: &[load::Item], class: impl Fn(u32) -> PacketClass) {
    for item in items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), class(item.number));
    }
}

/// When links were found to share, and to share no more: `(seconds, link, with, sentence)`.
fn found(simulation: &Simulation) -> Vec<(f64, LinkId, LinkId, String)> {
    let told = simulation.sender_events.iter().filter_map(|event| match &event.cause {
        Cause::BottleneckShared { link, with, .. } | Cause::BottleneckSeparate { link, with, .. } => {
            Some((event.at.as_micros() as f64 / 1e6, *link, *with, event.to_string()))
        }
        _ => None,
    });
    told.collect()
}

fn snapshot(simulation: &Simulation) -> SenderSnapshot {
    simulation.sender.snapshot(simulation.now)
}

/// Two links of one access, one of another; the second takes `further_ms` longer, delays vary by `jitter_ms`.
fn two_and_one(further_ms: f64, jitter_ms: f64) -> Vec<PathConfig> {
    let link = |name, delay_ms| scenario::link(name, 4000, delay_ms, 400);
    let mut paths = vec![link("a", 20.0), link("b", 20.0 + further_ms), link("c", 30.0)];
    for path in &mut paths {
        (path.up.jitter_ms, path.up.jitter_tau_ms) = (jitter_ms, 10.0);
    }
    paths
}

/// Goal: found within seconds of queues, told with names and measure, the third link not among them.
#[test]
fn links_behind_one_bottleneck_are_found() {
    for (further_ms, jitter_ms) in [(0.0, 0.0), (15.0, 0.0), (0.0, 4.0)] {
        let mut simulation = bond(&two_and_one(further_ms, jitter_ms), 1000, 3);
        share_two(&mut simulation, 6000);
        feed(&mut simulation, &load::video(0.85 * 10e6 * PAYLOAD, 30.0), |_| PacketClass::Video);
        let told = found(&simulation);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 < 20.0, "{told:?}");
        assert!(told[0].3.starts_with("links a and b share a bottleneck: their queues move together, "), "{told:?}");
        let snapshot = snapshot(&simulation);
        let with: Vec<_> = snapshot.links.iter().map(|link| link.shares_bottleneck_with.clone()).collect();
        assert_eq!(with, [vec![LinkId(1)], vec![LinkId(0)], vec![]]);
        assert!(snapshot.links[0].shared_correlation.is_some_and(|measure| measure > 0.4), "{snapshot:?}");
    }
}

/// Equal, unequal, jittering and cellular links that have nothing in common but their load.
fn independent(seed: u64) -> (Vec<PathConfig>, f64) {
    let link = |name, kbps, delay_ms| scenario::link(name, kbps, delay_ms, 400);
    let load = [0.6, 0.85, 0.95][(seed / 4 % 3) as usize];
    match seed % 4 {
        0 => (vec![link("a", 4000, 20.0), link("b", 4000, 20.0), link("c", 4000, 20.0)], load * 12e6 * PAYLOAD),
        1 => (vec![link("a", 6000, 20.0), link("b", 3000, 45.0), link("c", 2000, 20.0)], load * 11e6 * PAYLOAD),
        2 => {
            let mut paths = vec![link("a", 5000, 20.0), link("b", 4000, 25.0)];
            for path in &mut paths {
                (path.up.jitter_ms, path.up.jitter_tau_ms) = (5.0, 20.0);
            }
            (paths, load * 9e6 * PAYLOAD)
        }
        _ => {
            let scenario = scenario::synthetic(seed, &[load]).remove(0);
            (scenario.paths, scenario.bps)
        }
    }
}

fn falsely_found(seed: u64, seconds: f64) -> Vec<(f64, LinkId, LinkId, String)> {
    let (paths, bps) = independent(seed);
    let mut simulation = bond(&paths, if seed.is_multiple_of(5) { 300 } else { 1000 }, seed);
    let items = if seed.is_multiple_of(2) { load::even(bps, seconds) } else { load::video(bps, seconds) };
    feed(&mut simulation, &items, |_| PacketClass::Video);
    found(&simulation)
}

/// Goal: the load that all links carry together makes no bottleneck of them.
#[test]
fn independent_links_are_not_taken_for_one() {
    for seed in 0..24 {
        assert_eq!(falsely_found(seed, 25.0), [], "seed {seed}");
    }
}

/// Instrument: how often independent links are taken for one, and how often two in one made-up cell are found. Run with
/// `--ignored --nocapture`.
#[test]
#[ignore = "an instrument: prints how often links are taken for one, over many seeds"]
fn how_often_links_are_taken_for_one() {
    let (mut runs, mut wrong) = (0, 0);
    for seed in 1000..1400 {
        let told = falsely_found(seed, 50.0);
        (runs, wrong) = (runs + 1, wrong + u32::from(!told.is_empty()));
        for told in told {
            println!("seed {seed}: {told:?}");
        }
    }
    println!("{wrong} of {runs} runs of 50 s");
    for load in [0.6, 0.8, 0.95] {
        let mut times = Vec::new();
        for seed in 1..=20 {
            let cells = scenario::synthetic(seed, &[1.0]).remove(0).paths;
            let mut cells = scenario::two_share(scenario::of_capacity("", load, &cells));
            cells.bps = scenario::of_capacity("", load, &cells.paths).bps;
            let mut simulation = bond(&cells.paths, 1000, seed);
            let shared = Bottleneck::new(&cells.paths[0].up.capacity, 400_000).expect("a valid bottleneck");
            simulation.share(&[0, 1], &shared);
            feed(&mut simulation, &load::video(cells.bps, 55.0), |_| PacketClass::Video);
            times.extend(found(&simulation).first().map(|found| found.0));
        }
        times.sort_by(f64::total_cmp);
        println!("load {load}: found in {} of 20 cells, after {times:.0?} s", times.len());
    }
}

/// Goal: copies in advance leave the bottleneck that the first took.
#[test]
fn copies_take_another_bottleneck() {
    let mut paths = two_and_one(0.0, 0.0);
    for path in &mut paths {
        (path.up.loss, path.up.delay_ms) = (0.02, 60.0);
    }
    paths[2].up.capacity = Capacity::Constant { kbps: 8000 };
    let mut simulation = bond(&paths, 100, 3);
    share_two(&mut simulation, 5000);
    simulation.log = Some(Vec::new());
    let class = |number: u32| if number.is_multiple_of(8) { PacketClass::Idr } else { PacketClass::Video };
    feed(&mut simulation, &load::video(6e6, 60.0), class);
    let told = found(&simulation);
    let (from, until) = match &told[..] {
        [first] => (first.0, f64::MAX),
        [first, second, ..] => (first.0, second.0),
        [] => panic!("not found: {:?}", snapshot(&simulation).links),
    };
    let mut first = std::collections::HashMap::new();
    let (mut beside, mut elsewhere) = (0, 0);
    for carried in simulation.log.as_deref().unwrap_or_default() {
        let Some(number) = carried.number else { continue };
        let at = carried.sent.as_micros() as f64 / 1e6;
        match first.insert(number, (carried.link, carried.sent)) {
            // A copy is wanted when the first is sent, and may leave a little later.
            Some((link, sent))
                if link < 2
                    && carried.sent - sent < Duration::from_millis(10)
                    && sent.as_micros() as f64 / 1e6 > from
                    && at < until =>
            {
                if carried.link < 2 {
                    beside += 1;
                } else {
                    elsewhere += 1;
                }
            }
            _ => {}
        }
    }
    // What is sent again so soon after is no copy in advance, but looks like one here.
    assert!(elsewhere > 50 && beside * 100 < elsewhere, "{elsewhere} elsewhere, {beside} beside, {told:?}");
}

/// Goal: an encoder that follows the advice fills a shared bottleneck and one beside it, without loss and without long queues.
#[test]
fn the_advice_counts_a_shared_bottleneck_once() {
    let mut simulation = bond(&two_and_one(0.0, 0.0), 1000, 5);
    share_two(&mut simulation, 6000);
    let run = follow::run_in(simulation, Duration::from_secs(1), 40, Encoder::default(), |_| ());
    assert_eq!(found(&run.simulation).len(), 1);
    let used = run.delivered(15.0, 40.0) / (10e6 * PAYLOAD);
    assert!(used > 0.9, "{used}");
    assert_eq!(run.made_and_lost(5.0, 40.0).1, 0);
    let mut delays: Vec<f64> =
        run.simulation.one_way[..2].iter().flatten().map(|micros| f64::from(*micros) / 1e3).collect();
    delays.sort_by(f64::total_cmp);
    let queue = delays[delays.len() * 95 / 100] - 20.0;
    assert!(queue < 100.0, "{queue} ms");
    let advised = run.between(15.0, 40.0).map(|frame| frame.advised).fold(0.0, f64::max);
    assert!(advised < 1.3 * 10e6 * PAYLOAD, "{advised}");
}

/// Goal: where one of the links behind a bottleneck dies, the advice leaves the other one all of it.
#[test]
fn a_dead_link_takes_no_part_of_its_bottleneck() {
    let mut paths = two_and_one(0.0, 0.0);
    paths.truncate(2);
    paths[1].outages = scenario::outages_of(&[(25_000, 200_000)]);
    let mut simulation = bond(&paths, 1000, 5);
    share_two(&mut simulation, 6000);
    let run = follow::run_in(simulation, Duration::from_secs(1), 60, Encoder::default(), |_| ());
    assert_eq!(found(&run.simulation).len(), 1);
    let used = run.delivered(35.0, 60.0) / (6e6 * PAYLOAD);
    assert!(used > 0.85, "{used}");
}

/// Goal: a sender that closes while it watches its links goes on to the end of what it says.
#[test]
fn a_sender_closes_at_any_moment() {
    for close_ms in (2_000..8_000_u32).step_by(250) {
        let mut simulation = bond(&two_and_one(0.0, 0.0), 1000, 3);
        share_two(&mut simulation, 6000);
        feed(&mut simulation, &load::video(0.85 * 10e6 * PAYLOAD, f64::from(close_ms) / 1e3), |_| PacketClass::Video);
        simulation.input(SenderInput::Close);
        simulation.run_until(simulation.now + Duration::from_secs(4));
    }
}
