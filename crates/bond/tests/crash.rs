//! Senders that end without a word and are started again: what the receiver holds of before is delivered all the same.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use bond::event::Cause;
use link_sim::{Capacity, LinkConfig, PathConfig};
use simulation::{Simulation, load};
use std::time::Duration;
use units::Timestamp;

const LATENCY: Duration = Duration::from_secs(2);
const FLOW: u32 = 0x4321_0000;
const MBPS: f64 = 4.0;

fn paths() -> [PathConfig; 2] {
    [20.0, 35.0].map(|delay_ms| {
        let mut up = LinkConfig { capacity: Capacity::Constant { kbps: 8_000 }, delay_ms, ..Default::default() };
        up.jitter_ms = 5.0;
        PathConfig { up, down: LinkConfig { delay_ms, ..Default::default() }, ..Default::default() }
    })
}

fn sender(flow: u32) -> SenderConfig {
    SenderConfig { latency: LATENCY, flow_id: Some(flow), ..Default::default() }
}

/// Media until `end`, numbered on from `next`.
fn push(simulation: &mut Simulation, next: &mut u32, end: Timestamp) {
    let step = Duration::from_secs_f64(load::PAYLOAD_BYTES as f64 * 8.0 / (MBPS * 1e6));
    while simulation.now < end {
        simulation.push(load::payload(*next), PacketClass::Video);
        *next += 1;
        let now = simulation.now;
        simulation.run_until(now + step);
    }
}

fn delivered(simulation: &Simulation) -> Vec<u32> {
    simulation.delivered.iter().map(|(_, packet)| load::number(&packet.bytes)).collect()
}

fn ms(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Goal: the receiver has room for one flow and holds two seconds of it. Whether the sender comes again under another SSRC, or
/// under the same one with other numbers and times, everything that had arrived is delivered at its time, once and in order, and
/// all of the new one behind it: what reports tell of the former one says nothing of its media.
#[test]
fn what_had_arrived_before_a_crash_is_delivered() {
    for (flow, away) in [(FLOW + 2, 600), (FLOW + 2, 1_200), (FLOW, 200), (FLOW, 600), (FLOW, 1_500)] {
        for seed in 0..5 {
            let receiver = ReceiverConfig { latency: LATENCY, ..Default::default() };
            let mut simulation = Simulation::new(sender(FLOW), receiver, &paths(), seed);
            let mut next = 0;
            push(&mut simulation, &mut next, ms(5_000));
            // What the last packets lose is repaired before the end, so that all of them have arrived.
            simulation.run_until(ms(5_150));
            let before = next;
            simulation.run_until(ms(5_000 + away));
            simulation.replace_sender(sender(flow), 77 + seed);
            push(&mut simulation, &mut next, ms(9_000));
            simulation.run_until(ms(12_000));
            let arrived = delivered(&simulation);
            let what = format!("{flow:x} after {away} ms, seed {seed}");
            assert!(arrived.is_sorted_by(|a, b| a < b), "{what}");
            let missing: Vec<u32> = (0..next).filter(|number| arrived.binary_search(number).is_err()).collect();
            let given_up = simulation.sender.snapshot(simulation.now).dropped_packets;
            assert!(missing.is_empty() && given_up == 0, "{what}: {given_up} given up, {missing:?}");
            // Each second of before takes a second, also after the crash.
            let last = arrived.iter().position(|number| *number == before - 1).unwrap();
            let (at, packet) = &simulation.delivered[last];
            let due = simulation.clock.global(packet.source_time + LATENCY);
            let late = *at - due;
            assert!(late < Duration::from_millis(20) && *at > ms(6_990), "{what}: at {at:?}, {late:?} late");
            let now = simulation.clock.local(simulation.now);
            let snapshot = simulation.receiver.snapshot(now);
            assert_eq!((snapshot.flows.len(), snapshot.lost_packets), (1, 0), "{what}");
            let ended = |cause: &Cause| matches!(cause, Cause::FlowEnded { flow: FLOW });
            let ends = simulation.receiver_events.iter().filter(|event| ended(&event.cause)).count();
            assert_eq!(ends, usize::from(flow != FLOW), "{what}");
        }
    }
}
