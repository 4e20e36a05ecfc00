//! Somebody who has no key but hears every link: what he repeats, at whichever link, disturbs nothing.

mod simulation;

use bond::config::{KeySize, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::{Cause, Event};
use bond::receiver::ReceiverInput;
use bond::sender::SenderInput;
use bond::stats::LinkState;
use bond::{Channel, PacketClass};
use link_sim::{Capacity, LinkConfig, PathConfig};
use simulation::{Overheard, Simulation, address, load};
use std::collections::VecDeque;
use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

const LINKS: usize = 3;
const LATENCY: Duration = Duration::from_millis(800);
/// The links come up before the media, where nothing else is said.
const BEGINS: Duration = Duration::from_secs(1);

fn path(index: usize) -> PathConfig {
    let kbps = 6_000;
    let delay_ms = 20.0 + 15.0 * index as f64;
    PathConfig {
        name: ["a", "b", "c"][index].into(),
        up: LinkConfig {
            capacity: Capacity::Constant { kbps },
            delay_ms,
            loss: 0.01,
            queue_bytes: 300_000,
            ..Default::default()
        },
        down: LinkConfig { capacity: Capacity::Constant { kbps }, delay_ms, loss: 0.01, ..Default::default() },
        ..Default::default()
    }
}

/// Hands a datagram in from the addresses of the other links.
fn repeat(simulation: &mut Simulation, overheard: &Overheard) {
    for link in (0..LINKS).filter(|link| *link != overheard.link) {
        let (mut bytes, channel) = (overheard.bytes.to_vec(), Channel::Media);
        if overheard.up {
            let from = address(link, 0, channel);
            let input = ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes: &mut bytes };
            simulation.receiver.handle_input(simulation.clock.local(simulation.now), input);
        } else {
            let link = LinkId(link as u16);
            simulation.input(SenderInput::Datagram { link, channel, bytes: &mut bytes });
        }
    }
}

/// Ten seconds at half the links' capacity; from `from_ms` on everything is repeated at the other links twice after 300 ms, and
/// with `race` also at once, which is before it arrives where it belongs. Returns which packets are missing, and where the receiver took links for
/// moved.
fn run(rotate: Option<u32>, from_ms: u64, race: bool) -> (Vec<u32>, Vec<Event>) {
    run_seed(rotate, from_ms, race, BEGINS, 5)
}

/// The same with media from `begins` on.
fn run_seed(rotate: Option<u32>, from_ms: u64, race: bool, begins: Duration, seed: u64) -> (Vec<u32>, Vec<Event>) {
    let psk =
        PskConfig { passphrase: Secret::new("a secret"), key_size: KeySize::Aes128, rotate_after_packets: rotate };
    let sender = SenderConfig { latency: LATENCY, psk: Some(psk.clone()), ..Default::default() };
    let receiver = ReceiverConfig { latency: LATENCY, psk: Some(psk), ..Default::default() };
    let paths = [0, 1, 2].map(path);
    let mut simulation = Simulation::new(sender, receiver, &paths, seed);
    let mut later: VecDeque<(Timestamp, Overheard)> = VecDeque::new();
    let mut repeated = 0;
    let items = load::video(9e6, 10.0);
    let mut items = items.iter().peekable();
    for ms in 0..12_500 {
        let now = Timestamp::from_millis(ms);
        simulation.overheard = (ms >= from_ms).then(Vec::new);
        simulation.run_until(now);
        while let Some(item) = items.next_if(|item| item.at + begins <= now) {
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        for overheard in simulation.overheard.take().unwrap_or_default() {
            if race {
                repeat(&mut simulation, &overheard);
            }
            repeated += 1;
            later.push_back((now + Duration::from_millis(300), overheard));
        }
        while let Some((_, overheard)) = later.pop_front_if(|(due, _)| *due <= now) {
            repeat(&mut simulation, &overheard);
            repeat(&mut simulation, &overheard);
        }
    }
    assert!(repeated > 5_000, "{repeated}");
    let numbers: Vec<u32> = simulation.delivered.iter().map(|(_, delivered)| load::number(&delivered.bytes)).collect();
    let pushed = load::video(9e6, 10.0).len() as u32;
    assert!(numbers.is_sorted());
    let missing: Vec<u32> = (0..pushed).filter(|number| numbers.binary_search(number).is_err()).collect();
    let snapshot = simulation.sender.snapshot(simulation.now);
    assert!(snapshot.extension && snapshot.links.iter().all(|link| link.state == LinkState::Up), "{snapshot:?}");
    // A link that has come up, and of which it is known whose its datagrams are, never goes.
    let fell = |cause: &Cause| matches!(cause, Cause::LinkState { to, .. } if *to != LinkState::Up);
    let up_at = Timestamp::from_millis(1000);
    let falls: Vec<_> =
        simulation.sender_events.iter().filter(|event| event.at > up_at && fell(&event.cause)).collect();
    assert!(falls.is_empty(), "{falls:?}");
    simulation.receiver_events.retain(|event| matches!(event.cause, Cause::PeerMoved { .. }));
    (missing, simulation.receiver_events)
}

#[test]
fn what_is_repeated_at_other_links_disturbs_nothing() {
    assert_eq!(run(None, 2000, true), (vec![], vec![]));
}

#[test]
fn nor_does_it_while_keys_change() {
    for race in [false, true] {
        assert_eq!(run(Some(400), 2000, race), (vec![], vec![]), "race {race}");
    }
}

/// Before the first echoes it is not known whose nonce is whose, and who hears each link and is faster can hand in everything at the
/// others first: the links are counted from the echoes on, and nothing is lost.
#[test]
fn nor_does_it_from_the_first_datagram_on() {
    for (rotate, begins, seed) in [
        (None, BEGINS, 5),
        (None, Duration::ZERO, 13),
        (None, Duration::ZERO, 20),
        (Some(400), BEGINS, 3),
        (Some(400), Duration::ZERO, 4),
        (Some(100), Duration::ZERO, 13),
    ] {
        let (missing, moved) = run_seed(rotate, 0, true, begins, seed);
        assert!(missing.is_empty(), "{rotate:?} {begins:?}: {missing:?}");
        assert!(moved.iter().all(|event| event.at < Timestamp::from_millis(77_500)), "{moved:?}");
    }
}
