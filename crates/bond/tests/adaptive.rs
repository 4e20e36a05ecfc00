//! An encoder that follows the rate advice.

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use link_sim::{BurstLoss, BurstPeriod, Capacity, PathConfig};
use simulation::follow::{self, Encoder};
use simulation::{Simulation, load, scenario};
use std::time::Duration;
use units::Timestamp;

const LATENCY: Duration = Duration::from_secs(1);

/// Goal: the rate climbs to most of what three links carry, and falls without loss when they carry a third.
#[test]
fn the_encoder_uses_what_links_carry() {
    let mut paths = ["a", "b", "c"].map(|name| scenario::link(name, 4000, 30.0, 300)).to_vec();
    for path in &mut paths {
        path.up.capacity = Capacity::Steps { steps: vec![(0, 4000), (20_000, 1300), (40_000, 4000)] };
    }
    let run = follow::run(LATENCY, &paths, 60, 4, Encoder::default(), |_| ());
    assert_eq!(run.made_and_lost(0.0, 60.0).1, 0, "nothing is lost");
    for (from, to, least) in [(8.0, 20.0, 0.95), (23.0, 40.0, 0.9), (44.0, 60.0, 0.95)] {
        let used = run.delivered(from, to) / run.capacity(from, to);
        assert!((least..1.0).contains(&used), "from {from} to {to} s: {used}");
    }
}

/// Goal: over made-up cellular links the advice uses much of the capacity and hardly loses a picture.
#[test]
fn the_encoder_follows_cellular_links() {
    for seed in 11..=13 {
        let scenario = scenario::synthetic(seed, &[1.0]).remove(0);
        let run = follow::run(LATENCY, &scenario.paths, 45, seed, Encoder::default(), |_| ());
        let used = run.delivered(5.0, 45.0) / run.capacity(5.0, 45.0);
        let (made, lost) = run.made_and_lost(5.0, 45.0);
        println!("seed {seed}: {:.1} % of the capacity used, {lost} of {made} packets lost", used * 100.0);
        assert!(used > 0.6 && (lost as f64) < 0.005 * made as f64, "seed {seed}");
    }
}

/// Goal: jitter of 25 ms is not taken for queues, so that the advice uses most of what jittery links carry within half a second.
#[test]
fn the_encoder_uses_links_that_jitter() {
    for seed in 1..=3 {
        let run = follow::run(Duration::from_millis(500), &scenario::restless(), 30, seed, Encoder::default(), |_| ());
        let used = run.delivered(5.0, 30.0) / run.capacity(5.0, 30.0);
        println!("seed {seed}: {:.1} % of the capacity used", used * 100.0);
        assert_eq!(run.made_and_lost(5.0, 30.0).1, 0, "seed {seed}");
        assert!(used > 0.8, "seed {seed}: {used}");
    }
}

/// What a steady encoder is advised at each packet after five seconds, as shares of its load, in order.
fn advised(path: PathConfig, bps: f64, seed: u64) -> Vec<f64> {
    let latency = Duration::from_millis(870);
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &[path], seed);
    let mut advised = Vec::new();
    for item in &load::video(bps, 30.0) {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
        if item.at > Timestamp::from_millis(5000) {
            advised.push(simulation.sender.rate_advice(simulation.now).as_bps() as f64 / bps);
        }
    }
    advised.sort_by(f64::total_cmp);
    advised
}

/// Goal: delay that swings for as long as several reports, and losses in bursts, are not taken for a bottleneck by a link that is
/// given a quarter of what it carries: an encoder is advised more than it makes.
#[test]
fn a_link_that_swings_is_believed_to_carry_more_than_it_is_given() {
    for (jitter_ms, tau_ms) in [(11.4, 20.0), (11.4, 47.0), (20.0, 50.0)] {
        for loss in [0.0, 0.05] {
            let (mut medians, mut below) = (0.0, 0.0);
            for seed in 0..6 {
                let mut path = scenario::link("a", 4000, 17.0, 600);
                path.down.delay_ms = 113.0;
                (path.up.jitter_ms, path.up.jitter_tau_ms) = (jitter_ms, tau_ms);
                path.up.burst_loss =
                    (loss > 0.0).then_some(BurstLoss { loss, period: BurstPeriod::Millis(62.0), loss_bad: 1.0 });
                let advised = advised(path, 960_000.0, seed);
                medians += advised[advised.len() / 2] / 6.0;
                below += advised.iter().filter(|share| **share < 1.0).count() as f64 / advised.len() as f64 / 6.0;
            }
            let case =
                format!("{jitter_ms} ms of {tau_ms} ms, loss {loss}: median {medians:.2}, below the load {below:.3}");
            println!("{case}");
            assert!(medians > 2.2 && below < 0.05, "{case}");
        }
    }
}
