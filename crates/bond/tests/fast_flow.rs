//! Flows so fast that what the latency asks for is more than half of all packet numbers.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, ReceiverConfig, SenderConfig};
use bond::event::Cause;
use link_sim::{Capacity, LinkConfig, PathConfig};
use simulation::{Simulation, load};
use std::time::Duration;

/// Sends for so long, and plays to the end; gives the bond and how many packets are missing.
fn play(extension: Extension, latency: Duration, packets_per_second: u32, seconds: u32) -> (Simulation, u32) {
    let up = LinkConfig {
        capacity: Capacity::Constant { kbps: 200_000 },
        queue_bytes: 4_000_000,
        delay_ms: 20.0,
        loss: 0.002,
        ..Default::default()
    };
    let path = PathConfig { up, down: LinkConfig { delay_ms: 20.0, ..Default::default() }, ..Default::default() };
    let sender = SenderConfig { latency, extension, ..Default::default() };
    let receiver = ReceiverConfig { latency, extension, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &[path], 5);
    simulation.run_until(simulation.now + Duration::from_secs(1));
    let all = packets_per_second * seconds;
    for number in 0..all {
        simulation.push(load::payload(number), PacketClass::Video);
        simulation.run_until(simulation.now + Duration::from_secs(1) / packets_per_second);
    }
    simulation.run_until(simulation.now + latency + Duration::from_secs(1));
    let arrived: Vec<u32> = simulation.delivered.iter().map(|(_, packet)| load::number(&packet.bytes)).collect();
    assert!(arrived.is_sorted_by(|a, b| a < b));
    let missing = (0..all).filter(|number| arrived.binary_search(number).is_err()).count() as u32;
    (simulation, missing)
}

fn told(simulation: &Simulation) -> bool {
    let exhausted = |cause: &Cause| matches!(cause, Cause::NumbersExhausted { .. });
    simulation.sender_events.iter().any(|event| exhausted(&event.cause))
}

/// Goal: 50 Mbit/s within seven seconds, both as plain RIST peers and with the extension: all of it is repaired and delivered.
#[test]
fn fifty_megabits_within_seven_seconds_are_delivered() {
    for extension in [Extension::Off, Extension::Offer] {
        let (simulation, missing) = play(extension, Duration::from_secs(7), 5_000, 12);
        let sender = simulation.sender.snapshot(simulation.now);
        assert_eq!((missing, sender.packets_refused), (0, 0), "{extension:?}");
        assert!(!told(&simulation), "{extension:?}");
    }
}

/// Goal: 85 Mbit/s within ten seconds are more than numbers hold: a sender that must keep all of it towards a plain peer refuses
/// nothing, and says what to do.
#[test]
fn a_sender_whose_numbers_are_exhausted_goes_on_and_says_so() {
    let (simulation, missing) = play(Extension::Off, Duration::from_secs(10), 8_000, 15);
    assert_eq!((missing, simulation.sender.snapshot(simulation.now).packets_refused), (0, 0));
    assert!(told(&simulation));
}
