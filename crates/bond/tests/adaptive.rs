//! An encoder that follows the rate advice.

mod simulation;

use link_sim::Capacity;
use simulation::follow::{self, Encoder};
use simulation::scenario;
use std::time::Duration;

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
