//! Links on which the receiver calls: media goes to it, wherever it moves, and to nobody who only says so.
#![allow(clippy::unwrap_used)]

use bond::config::{KeySize, LinkOptions, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::{Cause, Mismatch};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::stats::LinkState;
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use rist::psk::Psk;
use rist::tunnel::{Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{Echo, EchoKind, ReceiverReport, Sdes};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

const LATENCY: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(10);
const LINK: LinkId = LinkId(0);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sender_address() -> SocketAddr {
    at("192.0.2.1:5000")
}

fn psk(text: &str) -> PskConfig {
    PskConfig { passphrase: Secret::new(text), key_size: KeySize::Aes256, rotate_after_packets: None }
}

/// A listening sender, a receiver that calls it, and whoever else there is.
struct World {
    now: Timestamp,
    sender: Sender,
    receiver: Receiver,
    /// Where the receiver's datagrams come from.
    receiver_at: SocketAddr,
    /// On their way: when they arrive, from where, to where.
    wire: VecDeque<(Timestamp, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Everything that the receiver sent.
    overheard: Vec<Vec<u8>>,
    /// Bytes sent to each address.
    sent_to: BTreeMap<SocketAddr, usize>,
    calls: Vec<(Option<SocketAddr>, SocketAddr)>,
    refused: Vec<(SocketAddr, Mismatch)>,
    delivered: Vec<Bytes>,
    pushed: u32,
}

impl World {
    fn new(secret: Option<&str>) -> Self {
        let now = Timestamp::from_millis(1);
        let psk = secret.map(psk);
        let sender = SenderConfig { latency: LATENCY, psk: psk.clone(), ..Default::default() };
        let receiver = ReceiverConfig { latency: LATENCY, psk, ..Default::default() };
        let mut sender = Sender::new(sender, 5, now).unwrap();
        sender.handle_input(now, SenderInput::Listen { link: LINK, options: LinkOptions::default() });
        Self {
            now,
            sender,
            receiver: Receiver::new(receiver, 6, now).unwrap(),
            receiver_at: at("198.51.100.7:4000"),
            wire: VecDeque::new(),
            overheard: Vec::new(),
            sent_to: BTreeMap::new(),
            calls: Vec::new(),
            refused: Vec::new(),
            delivered: Vec::new(),
            pushed: 0,
        }
    }

    fn call(&mut self) {
        self.receiver.handle_input(self.now, ReceiverInput::Connect { local: 0, to: sender_address() });
    }

    fn stray(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.sender.handle_input(self.now, SenderInput::Called { link: LINK, from, bytes: &mut bytes.to_vec() });
    }

    fn push(&mut self) {
        let mut bytes = vec![0x47; 1316];
        bytes[4..8].copy_from_slice(&self.pushed.to_be_bytes());
        self.pushed += 1;
        let payload = Payload { bytes: bytes.into(), source_time: self.now, class: PacketClass::Video };
        self.sender.handle_input(self.now, SenderInput::Payload(payload));
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        while self.wire.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, from, to, mut bytes)) = self.wire.pop_front() else { break };
            if to == sender_address() {
                self.sender.handle_input(now, SenderInput::Called { link: LINK, from, bytes: &mut bytes });
            } else if to == self.receiver_at {
                let bytes = &mut bytes;
                let input =
                    ReceiverInput::Datagram { local: 0, from, channel: Channel::Media, ecn: Ecn::NotEct, bytes };
                self.receiver.handle_input(now, input);
            }
        }
        self.sender.handle_input(now, SenderInput::Timeout);
        let mut receiver = self.calls.last().map(|call| call.1);
        loop {
            let (to, bytes) = match self.sender.poll_output(now) {
                SenderOutput::Transmit { bytes, .. } => (receiver.expect("nothing before somebody called"), bytes),
                SenderOutput::Answer { to, bytes, .. } => (to, bytes),
                SenderOutput::Receiver { address, .. } => {
                    receiver = Some(address);
                    continue;
                }
                SenderOutput::Event(event) => {
                    match event.cause {
                        Cause::LinkCalled { from, to, .. } => self.calls.push((from, to)),
                        Cause::PeerRefused { peer, reason, .. } => self.refused.push((peer, reason)),
                        _ => {}
                    }
                    continue;
                }
                SenderOutput::Timeout(_) => break,
            };
            *self.sent_to.entry(to).or_default() += bytes.len();
            self.wire.push_back((now + DELAY, sender_address(), to, bytes.to_vec()));
        }
        self.receiver.handle_input(now, ReceiverInput::Timeout);
        loop {
            match self.receiver.poll_output(now) {
                ReceiverOutput::Transmit { bytes, .. } => {
                    self.overheard.push(bytes.to_vec());
                    self.wire.push_back((now + DELAY, self.receiver_at, sender_address(), bytes.to_vec()));
                }
                ReceiverOutput::Deliver(delivered) => self.delivered.push(delivered.bytes),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Timeout(_) => break,
            }
        }
    }

    fn run(&mut self, milliseconds: u32) {
        for _ in 0..milliseconds {
            self.step();
        }
    }

    /// Media for so long, 2.1 Mbit/s, with `each` called every millisecond.
    fn stream(&mut self, milliseconds: u32, mut each: impl FnMut(&mut Self, u32)) {
        for ms in 0..milliseconds {
            if ms % 5 == 0 {
                self.push();
            }
            each(self, ms);
            self.step();
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.delivered.iter().map(|bytes| u32::from_be_bytes(bytes[4..8].try_into().unwrap())).collect()
    }

    fn assert_everything_delivered(&mut self) {
        self.run(1_500);
        assert_eq!(self.numbers(), (0..self.pushed).collect::<Vec<_>>());
    }
}

/// What a stranger sends: all that a receiver might begin with, under `secret`.
fn strange(n: u32, secret: Option<&str>) -> Vec<u8> {
    let mut config = TunnelConfig::new(Role::Client, Side::Receiver);
    config.psk = secret.map(|text| rist::tunnel::PskConfig {
        psk: Psk::new(text),
        key_size: rist::psk::KeySize::Aes256,
        rotate_after_packets: None,
        accept_revision_0: false,
    });
    let mut tunnel = Tunnel::new(config, u64::from(n));
    let mut compound = Vec::new();
    ReceiverReport::emit(n, &[], None, &mut compound);
    Sdes { ssrc: n, cname: b"x" }.emit(&mut compound);
    let echo = Echo { ssrc: n, timestamp: 7, ..Echo::default() };
    let mut out = Vec::new();
    match n % 4 {
        0 => drop(tunnel.emit_keepalive(Timestamp::ZERO, &mut out)),
        1 => {
            echo.emit(EchoKind::Request, &mut compound);
            tunnel.emit_rtcp(Timestamp::ZERO, &compound, &mut out);
        }
        2 => {
            // The answer to what it was not asked.
            echo.emit(EchoKind::Response, &mut compound);
            tunnel.emit_rtcp(Timestamp::ZERO, &compound, &mut out);
        }
        _ => out.extend([0, 0, 0x88, 0xb5, 2, 2, 2, 2, 2, 2, 0x3f, 0x20]),
    }
    out
}

/// The `n`th forged address.
fn forged(n: u32) -> SocketAddr {
    SocketAddr::from(((0xcb00_0000 | n >> 4).to_be_bytes(), 1024 + (n % 16) as u16))
}

/// Goal: nothing is sent before the call; then every byte arrives, and both ends find out that they are of a kind.
#[test]
fn a_receiver_that_calls_gets_every_byte() {
    for secret in [None, Some("a secret")] {
        let mut world = World::new(secret);
        world.run(500);
        assert_eq!(world.sent_to.len(), 0);
        world.call();
        world.run(500);
        world.stream(3_000, |_, _| {});
        world.assert_everything_delivered();
        let snapshot = world.sender.snapshot(world.now);
        assert!(snapshot.extension && snapshot.links[0].state == LinkState::Up, "{snapshot:?}");
        assert_eq!(world.calls, [(None, world.receiver_at)]);
    }
}

/// Goal: the receiver's address changes in mid-stream: the link follows, and what was sent to the old one is repaired.
#[test]
fn a_link_follows_its_receiver() {
    for secret in [None, Some("a secret")] {
        let mut world = World::new(secret);
        world.call();
        world.run(500);
        let (old, new) = (world.receiver_at, at("198.51.100.7:4999"));
        world.stream(4_000, |world, ms| {
            if ms == 1_000 {
                world.receiver_at = new;
            }
        });
        assert_eq!(world.calls, [(None, old), (Some(old), new)]);
        world.assert_everything_delivered();
    }
}

/// Goal: 10,000 forged sources a second: the receiver gets in and keeps its link, and nobody is sent more than he sent.
/// With a pass phrase nobody else is sent anything.
#[test]
fn a_receiver_calls_in_a_flood_of_forged_sources() {
    for secret in [None, Some("a secret")] {
        let mut world = World::new(secret);
        let mut sent_by: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        let mut n = 0;
        let mut flood = |world: &mut World, _| {
            for _ in 0..10 {
                // Each source twice, 100 ms apart.
                let source = (n / 2000) * 1000 + n % 1000;
                let bytes = strange(source, if n % 3 == 0 { Some("another secret") } else { None });
                *sent_by.entry(forged(source)).or_default() += bytes.len();
                world.stray(forged(source), &bytes);
                n += 1;
            }
        };
        for ms in 0..1_000 {
            flood(&mut world, ms);
            world.step();
        }
        world.call();
        for ms in 0..2_000 {
            flood(&mut world, ms);
            world.step();
        }
        world.stream(3_000, &mut flood);
        world.assert_everything_delivered();
        assert_eq!(world.calls, [(None, world.receiver_at)]);
        for (address, bytes) in world.sent_to.iter().filter(|(address, _)| **address != world.receiver_at) {
            assert!(secret.is_none() && *bytes <= sent_by[address], "{address} got {bytes}");
        }
        assert!(secret.is_some() || world.sent_to.len() > 10, "nobody was answered: nothing is shown");
    }
}

/// Goal: with a pass phrase, whoever repeats what he overheard moves nothing: neither while the receiver is heard nor when it
/// has gone, and not even its own address in front of it helps.
#[test]
fn repeated_datagrams_move_no_link() {
    let mut world = World::new(Some("a secret"));
    world.call();
    world.run(500);
    let thief = at("203.0.113.66:4000");
    world.stream(1_500, |world, ms| {
        let bytes = world.overheard[world.overheard.len() - 1 - (ms as usize % 3)].clone();
        world.stray(thief, &bytes);
    });
    world.assert_everything_delivered();
    // The receiver is gone; everything it ever said is said again.
    world.receiver_at = at("198.51.100.8:1");
    let overheard = world.overheard.clone();
    world.wire.clear();
    let before = world.calls.clone();
    let gone = at("198.51.100.9:1");
    for (n, bytes) in overheard.iter().cycle().take(5_000).enumerate() {
        world.stray(thief, bytes);
        if n % 2 == 0 {
            // Time passes, and the receiver's own datagrams get lost.
            world.step();
            world.wire.retain(|(_, from, ..)| *from != at("198.51.100.8:1"));
        }
    }
    assert_eq!((world.calls.as_slice(), before.len()), (before.as_slice(), 1));
    assert_eq!(world.sent_to.get(&gone), None);
    let to_thief = world.sent_to.get(&thief).copied().unwrap_or(0);
    assert!(to_thief <= overheard.iter().cycle().take(5_000).map(Vec::len).sum::<usize>(), "{to_thief}");
}

/// Goal: one who answers from an address of his own does not take the link of a receiver that is heard; after a minute of silence
/// the receiver is forgotten and nothing more is sent.
#[test]
fn a_receiver_that_is_heard_keeps_its_link() {
    let mut world = World::new(None);
    world.call();
    world.run(500);
    let (first, other) = (world.receiver_at, at("203.0.113.5:4000"));
    let mut rival = Receiver::new(ReceiverConfig { latency: LATENCY, ..Default::default() }, 9, world.now).unwrap();
    rival.handle_input(world.now, ReceiverInput::Connect { local: 0, to: sender_address() });
    let mut to_rival: VecDeque<Vec<u8>> = VecDeque::new();
    world.stream(3_000, |world, _| {
        to_rival.extend(world.wire.iter().filter(|(_, _, to, _)| *to == other).map(|(_, _, _, bytes)| bytes.clone()));
        world.wire.retain(|(_, _, to, _)| *to != other);
        while let Some(mut bytes) = to_rival.pop_front() {
            let bytes = &mut bytes;
            let input = ReceiverInput::Datagram {
                local: 0,
                from: sender_address(),
                channel: Channel::Media,
                ecn: Ecn::NotEct,
                bytes,
            };
            rival.handle_input(world.now, input);
        }
        rival.handle_input(world.now, ReceiverInput::Timeout);
        loop {
            match rival.poll_output(world.now) {
                ReceiverOutput::Transmit { bytes, .. } => {
                    world.wire.push_front((world.now, other, sender_address(), bytes.to_vec()));
                }
                ReceiverOutput::Timeout(_) => break,
                _ => {}
            }
        }
    });
    world.assert_everything_delivered();
    assert_eq!(world.calls, [(None, first)]);
    assert!(world.sent_to[&other] > 100, "the rival was asked for an echo");
    world.receiver_at = at("198.51.100.8:1");
    for _ in 0..62_000 {
        world.step();
        world.wire.clear();
    }
    let sent = world.sent_to.clone();
    for _ in 0..2_000 {
        world.step();
        world.wire.clear();
    }
    assert_eq!(sent, world.sent_to, "nothing is sent to nobody");
}

#[test]
fn nobody_calls_in_simple_profile() {
    let now = Timestamp::from_millis(1);
    let config = SenderConfig { profile: Profile::Simple, ..Default::default() };
    let mut sender = Sender::new(config, 5, now).unwrap();
    sender.handle_input(now, SenderInput::Listen { link: LINK, options: LinkOptions::default() });
    assert_eq!(sender.snapshot(now).links.len(), 0);
}

/// Goal: a receiver that ends is sent nothing more, at once, and the next one that calls gets every byte.
#[test]
fn a_receiver_that_ends_is_sent_nothing_more() {
    for secret in [None, Some("a secret")] {
        let mut world = World::new(secret);
        world.call();
        world.run(500);
        world.stream(3_000, |_, _| {});
        world.assert_everything_delivered();
        world.receiver.handle_input(world.now, ReceiverInput::Close);
        world.run(30);
        let sent = world.sent_to[&world.receiver_at];
        world.stream(1_000, |_, _| {});
        assert_eq!(world.sent_to[&world.receiver_at], sent);
        let config = ReceiverConfig { latency: LATENCY, psk: secret.map(psk), ..Default::default() };
        world.receiver = Receiver::new(config, 60, world.now).unwrap();
        world.receiver_at = at("198.51.100.8:4000");
        world.call();
        world.run(500);
        let from = world.pushed;
        world.stream(2_000, |_, _| {});
        world.run(1_500);
        let numbers = world.numbers();
        assert!((from..world.pushed).all(|number| numbers.contains(&number)));
        assert_eq!(world.calls, [(None, at("198.51.100.7:4000")), (None, world.receiver_at)]);
    }
}

/// Goal: a sender that ends is called on, and another one in its place is found at once.
#[test]
fn a_receiver_calls_on_when_its_sender_ends() {
    for secret in [None, Some("a secret")] {
        let mut world = World::new(secret);
        world.call();
        world.run(500);
        world.stream(3_000, |_, _| {});
        world.sender.handle_input(world.now, SenderInput::Close);
        world.assert_everything_delivered();
        let config = SenderConfig { latency: LATENCY, psk: secret.map(psk), ..Default::default() };
        world.sender = Sender::new(config, 50, world.now).unwrap();
        world.sender.handle_input(world.now, SenderInput::Listen { link: LINK, options: LinkOptions::default() });
        world.calls.clear();
        world.run(300);
        assert_eq!(world.calls, [(None, world.receiver_at)]);
        world.stream(2_000, |_, _| {});
        world.assert_everything_delivered();
    }
}

/// Goal: a receiver that calls with another pass phrase is let in by nobody, and the sender's operator is told.
#[test]
fn a_receiver_with_another_pass_phrase_is_told_of() {
    for (ours, theirs, expected) in [
        (Some("one"), Some("another"), Mismatch::WrongKey),
        (Some("one"), None, Mismatch::Clear),
        (None, Some("one"), Mismatch::Encrypted),
    ] {
        let mut world = World::new(ours);
        let config = ReceiverConfig { latency: LATENCY, psk: theirs.map(psk), ..Default::default() };
        world.receiver = Receiver::new(config, 6, world.now).unwrap();
        world.call();
        for _ in 0..20_000 {
            world.step();
        }
        assert_eq!(world.refused, [(world.receiver_at, expected)], "once a minute");
        assert_eq!((world.calls.len(), world.delivered.len()), (0, 0));
    }
}
