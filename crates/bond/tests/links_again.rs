//! Links that go and come again, perhaps from another address.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::PacketClass;
use bond::config::{KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::sender::SenderInput;
use bond::stats::LinkState;
use link_sim::{Capacity, LinkConfig, PathConfig};
use simulation::{Simulation, load};
use std::time::Duration;
use units::{LinkId, Timestamp};

const LATENCY: Duration = Duration::from_millis(800);
const FLOW: u32 = 0x4321_0000;

fn ms(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn path(delay_ms: f64) -> PathConfig {
    let link = || LinkConfig { capacity: Capacity::Constant { kbps: 8_000 }, delay_ms, ..Default::default() };
    PathConfig { up: link(), down: link(), ..Default::default() }
}

fn sender(psk: Option<PskConfig>) -> SenderConfig {
    SenderConfig { latency: LATENCY, flow_id: Some(FLOW), psk, ..Default::default() }
}

fn receiver(psk: Option<PskConfig>) -> ReceiverConfig {
    ReceiverConfig { latency: LATENCY, psk, ..Default::default() }
}

/// Media of 4 Mbit/s until `end`, numbered on from `next`.
fn push(simulation: &mut Simulation, next: &mut u32, end: Timestamp) {
    while simulation.now < end {
        simulation.push(load::payload(*next), PacketClass::Video);
        *next += 1;
        let now = simulation.now;
        simulation.run_until(now + Duration::from_micros(2632));
    }
}

/// Goal: a link that its sender took out and added again carries at once, from its port of before and from another one.
#[test]
fn a_link_that_is_added_again_is_no_replay() {
    let psk = PskConfig { passphrase: Secret::new("a secret"), key_size: KeySize::Aes128, rotate_after_packets: None };
    for (psk, moves) in [(None, false), (None, true), (Some(psk.clone()), false), (Some(psk), true)] {
        let mut paths = [path(20.0), path(35.0)];
        paths[0].rebind_ms = if moves { vec![3_002] } else { vec![] };
        let mut simulation = Simulation::new(sender(psk.clone()), receiver(psk.clone()), &paths, 3);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000));
        simulation.input(SenderInput::RemoveLink { link: LinkId(0) });
        push(&mut simulation, &mut next, ms(3_003));
        simulation.add_link(0, LinkOptions::default());
        push(&mut simulation, &mut next, ms(3_300));
        let snapshot = simulation.sender.snapshot(simulation.now);
        let link = snapshot.links.iter().find(|link| link.link == LinkId(0)).unwrap();
        let local = simulation.clock.local(simulation.now);
        let replayed = simulation.receiver.snapshot(local).refused.replayed;
        let (state, packets) = (link.state, link.packets_sent);
        let what = format!("psk {}, another port {moves}: {state:?}, {packets} packets", psk.is_some());
        assert!(state == LinkState::Up && packets > 40 && replayed == 0, "{what}, {replayed} announcements refused");
        push(&mut simulation, &mut next, ms(6_000));
        simulation.run_until(ms(7_500));
        assert_eq!(simulation.delivered.len(), next as usize, "{what}");
    }
}
