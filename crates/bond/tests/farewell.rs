//! Links and flows that are closed on purpose: the far end knows at once, nothing that was sent is lost for it, and nobody else
//! can say it.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::config::{KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::{Cause, StateReason};
use bond::sender::SenderInput;
use bond::stats::LinkState;
use bond::{Channel, PacketClass};
use link_sim::{Capacity, LinkConfig, PathConfig, SkewedClock};
use rist::tunnel::{Inner, Role, Side, Tunnel, TunnelConfig};
use rist::wire::gre::GreHeader;
use rist::wire::keepalive::{Capabilities, KeepAlive};
use simulation::{Overheard, Simulation, address, load};
use std::net::SocketAddr;
use std::time::Duration;
use units::{LinkId, Timestamp};

const LATENCY: Duration = Duration::from_millis(800);
const FLOW: u32 = 0x4321_0000;

fn ms(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Where the sender's link 0 is.
fn at() -> SocketAddr {
    address(0, 0, Channel::Media)
}

fn paths() -> [PathConfig; 2] {
    [20.0, 35.0].map(|delay_ms| {
        let link = || LinkConfig { capacity: Capacity::Constant { kbps: 8_000 }, delay_ms, ..Default::default() };
        PathConfig { name: format!("delay {delay_ms}"), up: link(), down: link(), ..Default::default() }
    })
}

fn psk(text: &str) -> PskConfig {
    PskConfig { passphrase: Secret::new(text), key_size: KeySize::Aes128, rotate_after_packets: None }
}

fn sender(secret: Option<&str>) -> SenderConfig {
    SenderConfig { latency: LATENCY, flow_id: Some(FLOW), psk: secret.map(psk), ..Default::default() }
}

fn receiver(secret: Option<&str>) -> ReceiverConfig {
    ReceiverConfig { latency: LATENCY, psk: secret.map(psk), ..Default::default() }
}

fn start(secret: Option<&str>) -> Simulation {
    let mut simulation = Simulation::new(sender(secret), receiver(secret), &paths(), 3);
    simulation.overheard = Some(Vec::new());
    simulation
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

fn delivered(simulation: &Simulation) -> Vec<u32> {
    simulation.delivered.iter().map(|(_, packet)| load::number(&packet.bytes)).collect()
}

/// Every packet up to `next`, once and in order.
fn check_all(simulation: &Simulation, next: u32) {
    let arrived = delivered(simulation);
    let missing: Vec<_> = (0..next).filter(|number| arrived.binary_search(number).is_err()).collect();
    assert!(missing.is_empty(), "{} of {next} are missing, the first is {}", missing.len(), missing[0]);
    assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]));
}

/// When the receiver told that the sender closed a link.
fn closed(simulation: &Simulation) -> Vec<Timestamp> {
    let closed = simulation.receiver_events.iter().filter(|event| matches!(event.cause, Cause::PeerClosed { .. }));
    closed.map(|event| simulation.clock.global(event.at)).collect()
}

fn flow_ended(simulation: &Simulation) -> Vec<Timestamp> {
    let ended = simulation.receiver_events.iter().filter(|event| matches!(event.cause, Cause::FlowEnded { .. }));
    ended.map(|event| simulation.clock.global(event.at)).collect()
}

fn count(simulation: &Simulation, what: impl Fn(&Cause) -> bool) -> usize {
    simulation.receiver_events.iter().filter(|event| what(&event.cause)).count()
}

/// The keep-alive in a clear datagram.
fn keep_alive(datagram: &[u8]) -> Option<KeepAlive<'_>> {
    let (header, body) = GreHeader::parse(datagram).unwrap();
    match (header.protocol.code(), body) {
        (0x88b5, body) | (0xcce0, [0, 0, 0x80, 0, body @ ..]) => KeepAlive::parse(body).ok(),
        _ => None,
    }
}

/// How many keep-alives with D went over a link, one way.
fn goodbyes(simulation: &Simulation, link: usize, up: bool) -> usize {
    let with_d = |datagram: &&Overheard| {
        let told = keep_alive(&datagram.bytes).map(|keep_alive| keep_alive.capabilities);
        datagram.link == link && datagram.up == up && told.is_some_and(|told| told.contains(Capabilities::DISCONNECT))
    };
    simulation.overheard.iter().flatten().filter(with_d).count()
}

/// A keep-alive that one end has sent on link 0, with other capabilities and, perhaps, of another one.
fn forge(simulation: &Simulation, up: bool, capabilities: Capabilities, mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut own =
        simulation.overheard.iter().flatten().rev().filter(|datagram| datagram.link == 0 && datagram.up == up);
    let datagram = own.find(|datagram| keep_alive(&datagram.bytes).is_some()).unwrap();
    let body = keep_alive(&datagram.bytes).unwrap();
    let start = datagram.bytes.len() - body.tail.len() - 8;
    let mut forged = datagram.bytes[..start].to_vec();
    let capabilities = body.capabilities.with(capabilities);
    KeepAlive { mac: mac.unwrap_or(body.mac), capabilities, tail: body.tail }.emit(&mut forged);
    forged
}

fn remove(simulation: &mut Simulation, link: u16) {
    simulation.input(SenderInput::RemoveLink { link: LinkId(link) });
}

#[test]
fn a_link_that_is_taken_out_is_gone_at_once() {
    let mut simulation = start(None);
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    remove(&mut simulation, 0);
    push(&mut simulation, &mut next, ms(3_060));
    assert_eq!(closed(&simulation).len(), 1);
    assert!(closed(&simulation)[0] < ms(3_025), "{:?}", closed(&simulation));
    let now = simulation.clock.local(simulation.now);
    assert_eq!(simulation.receiver.snapshot(now).links.len(), 1);
    push(&mut simulation, &mut next, ms(8_000));
    simulation.run_until(ms(12_000));
    check_all(&simulation, next);
    assert_eq!(count(&simulation, |cause| matches!(cause, Cause::PeerLost { .. })), 0);
    assert_eq!((goodbyes(&simulation, 0, true), goodbyes(&simulation, 0, false)), (3, 3));
    assert_eq!((goodbyes(&simulation, 1, true), goodbyes(&simulation, 1, false)), (0, 0));
}

#[test]
fn a_flow_that_is_closed_ends_when_all_of_it_is_delivered() {
    for secret in [None, Some("sesame")] {
        let mut simulation = start(secret);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000));
        // The last packets are on their way when the sender ends.
        simulation.run_until(ms(3_040));
        simulation.input(SenderInput::Close);
        assert_eq!(simulation.sender.snapshot(simulation.now).links.len(), 0);
        let sent = simulation.up_packets;
        simulation.run_until(ms(20_000));
        assert_eq!(simulation.up_packets, sent, "it is silent then");
        check_all(&simulation, next);
        let at = closed(&simulation);
        assert!(at.len() == 2 && at.iter().all(|at| *at < ms(3_085)), "{at:?}");
        let ended = flow_ended(&simulation);
        assert!(ended.len() == 1 && (ms(3_700)..ms(3_900)).contains(&ended[0]), "{ended:?}");
        assert_eq!(count(&simulation, |cause| matches!(cause, Cause::PeerLost { .. })), 0);
        let now = simulation.clock.local(simulation.now);
        assert_eq!(simulation.receiver.snapshot(now).flows.len(), 0);
        // After it, nothing goes to nobody.
        if secret.is_none() {
            for link in 0..2 {
                assert_eq!((goodbyes(&simulation, link, true), goodbyes(&simulation, link, false)), (3, 3));
            }
        }
    }
}

/// The receiver has room for one flow. Whoever was silent for half a second gives way; who has closed it, at once.
#[test]
fn a_sender_that_is_closed_and_started_again_is_received_at_once() {
    for (secret, flow_id) in [(None, FLOW + 2), (Some("sesame"), FLOW + 2), (None, FLOW), (Some("sesame"), FLOW)] {
        let mut simulation = start(secret);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000));
        simulation.run_until(ms(3_040));
        simulation.input(SenderInput::Close);
        simulation.run_until(ms(3_080));
        simulation.replace_sender(SenderConfig { flow_id: Some(flow_id), ..sender(secret) }, 77);
        push(&mut simulation, &mut next, ms(8_000));
        simulation.run_until(ms(9_500));
        check_all(&simulation, next);
        let late = simulation.delivered.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        // The first packet waits for the hand-shake: a round trip and what the other end takes to settle.
        assert!(late < Some(Duration::from_millis(400)), "{late:?}");
        let now = simulation.clock.local(simulation.now);
        let snapshot = simulation.receiver.snapshot(now);
        assert_eq!((snapshot.links.len(), snapshot.flows.len()), (2, 1));
    }
}

/// One that fell silent without a word, and comes again at the same addresses while reports of its former flow are on their way:
/// they tell when that is played, which would have all of the new one given up.
#[test]
fn a_sender_that_comes_again_without_a_word_is_received() {
    for seed in 0..40 {
        let mut paths = paths();
        for path in &mut paths {
            (path.up.jitter_ms, path.down.jitter_ms) = (15.0, 15.0);
            (path.up.loss, path.down.loss) = (0.02, 0.02);
        }
        let mut simulation = Simulation::new(sender(None), receiver(None), &paths, seed);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000 + seed));
        simulation.replace_sender(SenderConfig { flow_id: Some(FLOW + 2), ..sender(None) }, 77 + seed);
        push(&mut simulation, &mut next, ms(4_500));
        let settled = next;
        push(&mut simulation, &mut next, ms(6_500));
        simulation.run_until(ms(8_000));
        let arrived = delivered(&simulation);
        let missing = (settled..next).filter(|number| !arrived.contains(number)).count();
        assert!(missing < 5, "seed {seed}: {missing} of {}", next - settled);
    }
}

#[test]
fn a_link_that_is_taken_out_and_put_back_carries_at_once() {
    for secret in [None, Some("sesame")] {
        let mut simulation = start(secret);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000));
        for (at, link) in [(3_000, 0), (4_000, 1), (5_000, 0)] {
            push(&mut simulation, &mut next, ms(at));
            remove(&mut simulation, link);
            simulation.add_link(usize::from(link), LinkOptions::default());
            push(&mut simulation, &mut next, ms(at + 300));
            let snapshot = simulation.sender.snapshot(simulation.now);
            let states: Vec<_> = snapshot.links.iter().map(|link| link.state).collect();
            assert_eq!(states, [LinkState::Up; 2], "at {at}");
            let now = simulation.clock.local(simulation.now);
            let heard = simulation.receiver.snapshot(now).links;
            assert!(
                heard.len() == 2 && heard.iter().all(|link| link.last_heard_ago < Duration::from_millis(120)),
                "{heard:?}"
            );
        }
        push(&mut simulation, &mut next, ms(7_000));
        simulation.run_until(ms(8_500));
        check_all(&simulation, next);
        assert_eq!(closed(&simulation).len(), 3);
        assert_eq!(count(&simulation, |cause| matches!(cause, Cause::FlowEnded { .. })), 0);
    }
}

/// Who does not know the peer's number says nothing; who reads the path can only have the peer be taken back.
#[test]
fn forged_farewells_end_nothing() {
    let mut simulation = start(None);
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    for round in 0..10 {
        let forged = forge(&simulation, true, Capabilities::DISCONNECT, Some([2; 6]));
        let plain = forge(&simulation, true, Capabilities::default(), Some([2; 6]));
        for datagram in [&plain, &forged, &forged] {
            simulation.stray(at(), Channel::Media, datagram);
        }
        let mut down = forge(&simulation, false, Capabilities::DISCONNECT, Some([2; 6]));
        simulation.input(SenderInput::Datagram { link: LinkId(0), channel: Channel::Media, bytes: &mut down });
        push(&mut simulation, &mut next, ms(3_000 + 50 * round));
    }
    assert_eq!((closed(&simulation).len(), goodbyes(&simulation, 0, true), goodbyes(&simulation, 0, false)), (0, 0, 0));
    // With its number, from an address of his own: that is another peer.
    let known = forge(&simulation, true, Capabilities::DISCONNECT, None);
    simulation.stray("203.0.113.5:4000".parse().unwrap(), Channel::Media, &known);
    assert_eq!(closed(&simulation).len(), 0);
    // With its number and address.
    for round in 0..10 {
        let known = forge(&simulation, true, Capabilities::DISCONNECT, None);
        simulation.stray(at(), Channel::Media, &known);
        push(&mut simulation, &mut next, ms(4_000 + 500 * round));
        let now = simulation.clock.local(simulation.now);
        assert_eq!(simulation.receiver.snapshot(now).links.len(), 2, "taken back");
    }
    assert!(!closed(&simulation).is_empty(), "or this shows nothing");
    simulation.run_until(ms(10_000));
    check_all(&simulation, next);
    assert_eq!(count(&simulation, |cause| matches!(cause, Cause::FlowEnded { .. })), 0);
}

#[test]
fn without_the_pass_phrase_nobody_says_farewell() {
    let mut simulation = start(Some("sesame"));
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    let goodbye = |tunnel: &mut Tunnel| {
        let (mut plain, mut goodbye) = (Vec::new(), Vec::new());
        tunnel.emit_keepalive(ms(0), &mut plain);
        tunnel.emit_disconnect(ms(0), &mut goodbye);
        [plain, goodbye]
    };
    let strange = |secret: Option<&str>| {
        let psk = secret.map(rist::tunnel::PskConfig::new);
        Tunnel::new(TunnelConfig { psk, ..TunnelConfig::new(Role::Client, Side::Sender) }, 5)
    };
    for secret in [None, Some("opened")] {
        for datagram in goodbye(&mut strange(secret)) {
            simulation.stray(at(), Channel::Media, &datagram);
        }
    }
    // All that was said on the links, again.
    for datagram in simulation.overheard.clone().unwrap() {
        simulation.stray(at(), Channel::Media, &datagram.bytes);
    }
    assert_eq!(closed(&simulation).len(), 0);
    // The last words of another stream under the same pass phrase, whose keep-alives had another number.
    for datagram in goodbye(&mut strange(Some("sesame"))) {
        simulation.stray(at(), Channel::Media, &datagram);
    }
    assert_eq!(closed(&simulation).len(), 0);
    push(&mut simulation, &mut next, ms(5_000));
    simulation.run_until(ms(6_000));
    check_all(&simulation, next);
}

#[test]
fn a_receiver_that_ends_takes_its_links_down_and_another_one_up_again() {
    for secret in [None, Some("sesame")] {
        let mut simulation = start(secret);
        let mut next = 0;
        push(&mut simulation, &mut next, ms(3_000));
        simulation.close_receiver();
        push(&mut simulation, &mut next, ms(3_060));
        let down = simulation.sender_events.iter().filter(|event| {
            let wanted = (LinkState::Down, StateReason::FarEndClosed);
            matches!(event.cause, Cause::LinkState { to, reason, .. } if (to, reason) == wanted)
        });
        let down: Vec<_> = down.map(|event| event.at).collect();
        assert!(down.len() == 2 && down.iter().all(|at| *at < ms(3_045)), "{down:?}");
        if secret.is_none() {
            assert_eq!((goodbyes(&simulation, 0, true), goodbyes(&simulation, 0, false)), (3, 3));
        }
        let first = next;
        simulation.replace_receiver(receiver(secret), 9, SkewedClock::new(5_000_000, 0));
        simulation.delivered.clear();
        push(&mut simulation, &mut next, ms(8_000));
        simulation.run_until(ms(9_500));
        let arrived = delivered(&simulation);
        assert!(arrived.contains(&(next - 1)) && arrived.windows(2).all(|pair| pair[0] < pair[1]));
        let missing = (first..next).filter(|number| !arrived.contains(number)).count();
        assert_eq!(missing, 0, "{secret:?}");
        let states: Vec<_> = simulation.sender.snapshot(simulation.now).links.iter().map(|link| link.state).collect();
        assert_eq!(states, [LinkState::Up; 2]);
    }
}

#[test]
fn a_sender_opens_a_link_anew_when_it_is_asked_to() {
    let mut simulation = start(None);
    let mut next = 0;
    push(&mut simulation, &mut next, ms(3_000));
    let reopened = |simulation: &Simulation| {
        let anew = |cause: &Cause| matches!(cause, Cause::LinkState { reason: StateReason::Reopened, .. });
        simulation.sender_events.iter().filter(|event| anew(&event.cause)).count()
    };
    let ask = |simulation: &mut Simulation, mac| {
        for _ in 0..3 {
            let mut asking = forge(simulation, false, Capabilities::RECONNECT, mac);
            simulation.input(SenderInput::Datagram { link: LinkId(0), channel: Channel::Media, bytes: &mut asking });
        }
    };
    ask(&mut simulation, Some([2; 6]));
    assert_eq!(reopened(&simulation), 0, "a stranger");
    let before = simulation.overheard.as_ref().map_or(0, Vec::len);
    ask(&mut simulation, None);
    assert_eq!(reopened(&simulation), 1, "asked once, said three times");
    simulation.run_until(ms(3_010));
    let said = &simulation.overheard.as_ref().unwrap()[before..];
    let burst = said.iter().filter(|datagram| datagram.up && keep_alive(&datagram.bytes).is_some()).count();
    assert_eq!(burst, 3, "as a client begins");
    push(&mut simulation, &mut next, ms(3_300));
    assert_eq!(simulation.sender.snapshot(simulation.now).links[0].state, LinkState::Up);
    push(&mut simulation, &mut next, ms(6_000));
    simulation.run_until(ms(7_000));
    check_all(&simulation, next);
    // What a tunnel says is read by another.
    let mut tunnel = Tunnel::new(TunnelConfig::new(Role::Server, Side::Receiver), 1);
    let mut bytes = forge(&simulation, true, Capabilities::RECONNECT, None);
    let received = tunnel.parse(ms(0), &mut bytes).unwrap().inner;
    assert!(matches!(received, Inner::KeepAlive(told) if told.capabilities.contains(Capabilities::RECONNECT)));
}
