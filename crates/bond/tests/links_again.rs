//! Links that go and come again, perhaps from another address: what the receiver tells of those that are gone, and what of those
//! that came.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::PacketClass;
use bond::config::{KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::sender::{Sender, SenderInput};
use bond::stats::LinkState;
use bytes::Bytes;
use link_sim::{Capacity, LinkConfig, PathConfig, SkewedClock};
use simulation::{Simulation, load};
use std::collections::BTreeMap;
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

/// Links that reports told of, each with how many reports did.
fn told(datagrams: &[Bytes]) -> BTreeMap<u16, usize> {
    let mut told = BTreeMap::new();
    for datagram in datagrams {
        // An APP packet of the name, subtype 9; its body: see `extension`.
        let Some(name) = datagram.windows(4).position(|window| window == b"BOND") else { continue };
        if datagram[name - 8] & 0x1f != 9 {
            continue;
        }
        let body = &datagram[name + 4..];
        let mut links = &body[24..];
        for _ in 0..body[1] {
            *told.entry(u16::from_be_bytes([links[0], links[1]])).or_default() += 1;
            links = &links[16 + 4 * usize::from(u16::from_be_bytes([links[2], links[3]]))..];
        }
    }
    told
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

/// Goal: what is told of a link that its sender has closed ends at once.
#[test]
fn a_closed_link_is_told_of_no_more() {
    let mut simulation = Simulation::new(sender(None), receiver(None), &[path(20.0), path(35.0)], 3);
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    simulation.input(SenderInput::RemoveLink { link: LinkId(0) });
    push(&mut simulation, &mut next, ms(3_100));
    simulation.overheard_down = Some(Vec::new());
    push(&mut simulation, &mut next, ms(5_000));
    let told = told(&simulation.overheard_down.take().unwrap());
    assert!(told.contains_key(&1) && !told.contains_key(&0), "{told:?}");
}

/// Goal: links that are gone for good take no room in reports, and leave them and the snapshot. Method: a sender with sixteen links
/// crashes and comes again with sixteen others.
#[test]
fn links_that_are_gone_leave_room_in_reports() {
    let paths: Vec<_> = (0..32).map(|index| path(20.0 + f64::from(index % 16))).collect();
    let clock = SkewedClock::new(77_000_000, 0);
    let mut simulation = Simulation::without_links(sender(None), receiver(None), &paths, 3, clock);
    (0..16).for_each(|index| simulation.add_link(index, LinkOptions::default()));
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    simulation.sender = Sender::new(sender(None), 77, simulation.now).unwrap();
    (16..32).for_each(|index| simulation.add_link(index, LinkOptions::default()));
    simulation.overheard_down = Some(Vec::new());
    push(&mut simulation, &mut next, ms(6_000));
    let soon = told(&simulation.overheard_down.replace(Vec::new()).unwrap());
    assert!((16..32).all(|link| soon.contains_key(&link)), "{soon:?}");
    push(&mut simulation, &mut next, ms(14_000));
    let snapshot = simulation.sender.snapshot(simulation.now);
    assert!(snapshot.extension && snapshot.dropped_packets == 0, "{} given up", snapshot.dropped_packets);
    simulation.overheard_down = Some(Vec::new());
    push(&mut simulation, &mut next, ms(15_000));
    let later = told(&simulation.overheard_down.take().unwrap());
    assert!(later.keys().copied().eq(16..32), "{later:?}");
    // The operator sees for a minute that they are silent.
    let shown = |simulation: &Simulation| {
        let links = simulation.receiver.snapshot(simulation.clock.local(simulation.now)).links;
        let silent = links.iter().filter(|link| link.last_heard_ago > Duration::from_secs(2)).count();
        (silent, links.len())
    };
    assert_eq!(shown(&simulation), (16, 32));
    push(&mut simulation, &mut next, ms(64_000));
    assert_eq!(shown(&simulation), (0, 16));
}
