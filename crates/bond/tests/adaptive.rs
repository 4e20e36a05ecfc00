//! An encoder that follows the rate advice.

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use bond::sender::SenderInput;
use link_sim::{Capacity, PathConfig};
use simulation::{Simulation, load, scenario};
use units::{Bitrate, Timestamp};

/// Runs 30 frames a second at the advised rate; returns `(frames, frames complete, payload bits by second)`.
fn follow(paths: &[PathConfig], seconds: u64) -> (Vec<bool>, Vec<f64>) {
    let mut simulation = Simulation::new(SenderConfig::default(), ReceiverConfig::default(), paths, 4);
    let range = SenderInput::SetEncoderRange { min: Bitrate::from_kbps(300), max: Bitrate::from_kbps(30_000) };
    simulation.input(range);
    let (mut number, mut owed) = (0u32, 0.0);
    let mut frames = Vec::new();
    let mut bits = vec![0.0; seconds as usize];
    for frame in 0..seconds * 30 {
        simulation.run_until(Timestamp::from_micros(frame * 1_000_000 / 30));
        owed += simulation.sender.rate_advice(simulation.now).as_bps() as f64 / 8.0 / 30.0;
        let first = number;
        while owed >= load::PAYLOAD_BYTES as f64 {
            owed -= load::PAYLOAD_BYTES as f64;
            bits[(frame / 30) as usize] += load::PAYLOAD_BYTES as f64 * 8.0;
            simulation.push(load::payload(number), PacketClass::Video);
            number += 1;
        }
        frames.push(first..number);
    }
    simulation.run_until(simulation.now + std::time::Duration::from_secs(3));
    let mut arrived = vec![false; number as usize];
    for (_, delivered) in &simulation.delivered {
        arrived[load::number(&delivered.bytes) as usize] = true;
    }
    (frames.into_iter().map(|frame| frame.into_iter().all(|n| arrived[n as usize])).collect(), bits)
}

/// Goal: the rate climbs to most of what three links carry, and falls without loss when they carry a third.
#[test]
fn the_encoder_uses_what_links_carry() {
    let mut paths = ["a", "b", "c"].map(|name| scenario::link(name, 4000, 30.0, 300)).to_vec();
    for path in &mut paths {
        path.up.capacity = Capacity::Steps { steps: vec![(0, 4000), (20_000, 1300), (40_000, 4000)] };
    }
    let (frames, bits) = follow(&paths, 60);
    println!("{:.1?}", bits.iter().map(|b| b / 1e6).collect::<Vec<_>>());
    assert_eq!(frames.iter().filter(|whole| !**whole).count(), 0, "no frame is lost");
    // Headers take 4 % of the 12 and 3.9 Mbit/s.
    let mean = |from: usize, to: usize| bits[from..to].iter().sum::<f64>() / (to - from) as f64;
    assert!(mean(8, 20) > 0.9 * 11.5e6, "{}", mean(8, 20));
    assert!((0.8 * 3.74e6..3.74e6).contains(&mean(23, 40)), "{}", mean(23, 40));
    assert!(mean(44, 60) > 0.9 * 11.5e6, "{}", mean(44, 60));
}

/// Goal: over made-up cellular links the advice uses much of the capacity and hardly loses a picture.
#[test]
fn the_encoder_follows_cellular_links() {
    for seed in 1..=3 {
        let scenario = scenario::synthetic(seed, &[1.0]).remove(0);
        let (frames, bits) = follow(&scenario.paths, 45);
        let lost = frames.iter().skip(150).filter(|whole| !**whole).count() as f64 / (frames.len() - 150) as f64;
        let used = bits[5..].iter().sum::<f64>() / 40.0 / scenario.bps;
        println!("seed {seed}: {:.1} % of the capacity used, {:.2} % of the frames lost", used * 100.0, lost * 100.0);
        assert!(used > 0.6 && lost < 0.005, "seed {seed}: {used} {lost}");
    }
}
