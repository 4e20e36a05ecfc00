//! Goal: two tunnels talk while an attacker without the passphrase injects what it likes, and nothing changes. Method:
//! a seeded network loses, doubles and reorders the genuine datagrams; the attacker sends recordings, changed
//! recordings, reflections, another stream's datagrams, clear ones, forged logins and noise. After each step: genuine
//! contents arrive unchanged and once, nothing of the attacker's is delivered, and the revision never moves.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Rng, mutate};
use rist::srp::{Entropy, Login, LoginState, Password, SrpConfig};
use rist::tunnel::{Inner, PskConfig, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{App, ReceiverReport, Sdes};
use rist::wire::rtp::RtpHeader;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use units::Timestamp;

/// Steps in each test run.
const STEPS: u64 = 100_000;
/// Steps of the long run: `cargo test -p rist -- --ignored`.
const STEPS_LONG: u64 = 10_000_000;
/// Recordings the attacker keeps.
const RECORDINGS_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Media(Vec<u8>),
    Rtcp(Vec<u8>),
    KeepAlive,
}

struct InFlight {
    to_receiver: bool,
    datagram: Vec<u8>,
    content: Content,
    number: u64,
}

struct World {
    rng: Rng,
    now: Timestamp,
    sender: Tunnel,
    receiver: Tunnel,
    stranger: Tunnel,
    clear: Tunnel,
    wire: VecDeque<InFlight>,
    /// Only datagrams that have been delivered: what the attacker holds back it could alter, as AES-CTR is malleable.
    recordings: VecDeque<Vec<u8>>,
    delivered: HashSet<u64>,
    number: u64,
    refused_genuine: u64,
}

fn config(role: Role, passphrase: &str, login: bool) -> TunnelConfig {
    let side = if role == Role::Client { Side::Sender } else { Side::Receiver };
    let psk = PskConfig { rotate_after_packets: Some(200), ..PskConfig::new(passphrase) };
    let logins = vec![Login { username: "alice".to_owned(), password: Password::new("wonderland") }];
    let srp = login.then(|| SrpConfig::new(logins, Entropy::new([role as u8; 32])));
    TunnelConfig { psk: Some(psk), srp, ..TunnelConfig::new(role, side) }
}

impl World {
    fn new(seed: u64, login: bool) -> Self {
        let mut world = Self {
            rng: Rng(seed),
            now: Timestamp::from_millis(50),
            sender: Tunnel::new(config(Role::Client, "right", login), seed),
            receiver: Tunnel::new(config(Role::Server, "right", login), !seed),
            stranger: Tunnel::new(config(Role::Client, "wrong", false), 5),
            clear: Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 6),
            wire: VecDeque::new(),
            recordings: VecDeque::new(),
            delivered: HashSet::new(),
            number: 0,
            refused_genuine: 0,
        };
        world.log_in();
        world
    }

    fn log_in(&mut self) {
        for _ in 0..40 {
            let mut out = Vec::new();
            if self.sender.poll_control(self.now, &mut out) {
                let _ = self.receiver.parse(self.now, &mut out);
            }
            out.clear();
            if self.receiver.poll_control(self.now, &mut out) {
                let _ = self.sender.parse(self.now, &mut out);
            }
        }
        assert!(self.sender.is_ready() && self.receiver.is_ready());
    }

    fn step(&mut self) {
        let pause = self.rng.below(4000) as u64;
        self.now += Duration::from_micros(pause);
        self.send();
        if self.rng.one_in(2) {
            self.attack();
        }
        self.carry();
        assert_eq!((self.sender.revision(), self.receiver.revision()), (1, 1));
    }

    fn send(&mut self) {
        self.number += 1;
        let to_receiver = !self.rng.one_in(4);
        let (mut datagram, mut bytes) = (Vec::new(), Vec::new());
        let tunnel = if to_receiver { &mut self.sender } else { &mut self.receiver };
        let content = if self.rng.one_in(20) {
            tunnel.emit_keepalive(self.now, &mut datagram);
            Content::KeepAlive
        } else if to_receiver && !self.rng.one_in(5) {
            let header = RtpHeader { payload_type: 33, sequence: self.number as u16, ..RtpHeader::default() };
            let length = self.rng.below(1400);
            header.emit(&self.rng.bytes(length), &mut bytes);
            tunnel.emit_media(self.now, &bytes, &mut datagram);
            Content::Media(bytes)
        } else {
            ReceiverReport::emit(7, &[], None, &mut bytes);
            Sdes { ssrc: 7, cname: b"me" }.emit(&mut bytes);
            App { subtype: 5, ssrc: 7, name: *b"TEST", body: &self.number.to_be_bytes() }.emit(&mut bytes);
            tunnel.emit_rtcp(self.now, &bytes, &mut datagram);
            Content::Rtcp(bytes)
        };
        self.wire.push_back(InFlight { to_receiver, datagram, content, number: self.number });
        self.poll();
    }

    /// The tunnels' own datagrams (answers to forged logins) go nowhere: the attacker has forged their cause.
    fn poll(&mut self) {
        let mut out = Vec::new();
        for tunnel in [&mut self.sender, &mut self.receiver] {
            while tunnel.poll_control(self.now, &mut out) {}
        }
        assert!(out.len() < 4096);
    }

    /// Loses, doubles, delays or delivers the oldest datagrams.
    fn carry(&mut self) {
        while self.wire.len() > 8 {
            let index = self.rng.below(8);
            let Some(packet) = self.wire.remove(index) else { return };
            if self.rng.one_in(50) {
                continue;
            }
            self.deliver(&packet);
            if self.rng.one_in(50) {
                self.deliver(&packet);
            }
        }
    }

    fn deliver(&mut self, packet: &InFlight) {
        let mut bytes = packet.datagram.clone();
        let tunnel = if packet.to_receiver { &mut self.receiver } else { &mut self.sender };
        let result = tunnel.parse(self.now, &mut bytes);
        if self.delivered.contains(&packet.number) {
            assert!(result.is_err(), "a doubled datagram was delivered twice");
            return;
        }
        match result {
            Ok(received) => {
                match (&received.inner, &packet.content) {
                    (Inner::Media(got), Content::Media(sent)) | (Inner::Rtcp(got), Content::Rtcp(sent)) => {
                        assert_eq!(got, sent);
                    }
                    (Inner::KeepAlive(_), Content::KeepAlive) => {}
                    (got, sent) => panic!("{got:?} instead of {sent:?}"),
                }
                self.delivered.insert(packet.number);
                if self.recordings.len() == RECORDINGS_MAX {
                    self.recordings.pop_front();
                }
                self.recordings.push_back(packet.datagram.clone());
            }
            Err(_) => self.refused_genuine += 1,
        }
    }

    fn attack(&mut self) {
        let mut forged = self.forgery();
        let at_receiver = self.rng.one_in(2);
        let tunnel = if at_receiver { &mut self.receiver } else { &mut self.sender };
        let text = hex::encode(&forged);
        if let Ok(received) = tunnel.parse(self.now, &mut forged) {
            assert!(matches!(received.inner, Inner::Nothing | Inner::Eapol), "accepted {text}: {received:?}");
            assert_eq!(received.sequence, None, "accepted {text}");
        }
    }

    fn forgery(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.rng.below(7) {
            kind @ 0..=2 if !self.recordings.is_empty() => {
                let index = self.rng.below(self.recordings.len());
                out.clone_from(&self.recordings[index]);
                match kind {
                    0 => {}
                    1 => mutate(&mut self.rng, &mut out),
                    // Only nonce or sequence number.
                    _ => {
                        let at = 4 + self.rng.below(8);
                        out[at] = out[at].wrapping_add(1 + self.rng.below(255) as u8);
                    }
                }
            }
            3 => {
                self.stranger.emit_media(self.now, &[0x80; 40], &mut out);
            }
            4 => {
                self.clear.emit_rtcp(self.now, &[0x80, 0xc9, 0, 1, 0, 0, 0, 7], &mut out);
            }
            5 => {
                out = hex::decode(
                    ["0008888e03010000", "0000888e0300000401000004", "0008888e0300000501fc000501"][self.rng.below(3)],
                )
                .unwrap();
                if self.rng.one_in(2) {
                    mutate(&mut self.rng, &mut out);
                }
            }
            _ => {
                let length = self.rng.below(200);
                out = self.rng.bytes(length);
            }
        }
        out
    }
}

fn run(seed: u64, steps: u64, login: bool) {
    println!("seed {seed}, login {login}");
    let mut world = World::new(seed, login);
    for _ in 0..steps {
        world.step();
    }
    let sent = world.number;
    let delivered = world.delivered.len() as u64;
    assert_eq!(world.refused_genuine, 0, "genuine datagrams refused, of {sent}");
    assert!(delivered * 100 > sent * 96, "{delivered} of {sent} delivered with 2 % loss");
    if login {
        let states = (world.sender.login_state(), world.receiver.login_state());
        assert_eq!(states, (Some(LoginState::Done), Some(LoginState::Done)));
    }
}

#[test]
fn an_attacker_beside_a_session_changes_nothing() {
    for seed in 1..=4 {
        run(seed, STEPS / 4, seed % 2 == 0);
    }
}

#[test]
#[ignore = "minutes long, for cargo test -- --ignored"]
fn an_attacker_beside_a_session_changes_nothing_in_a_long_run() {
    for seed in 100..110 {
        run(seed, STEPS_LONG / 10, seed % 2 == 0);
    }
}

/// Goal: forged login frames neither let anyone in nor keep the genuine client out for good. Method: client and server
/// log in while an attacker sends changed copies of their frames to both; then it falls silent.
#[test]
fn a_login_under_attack_succeeds_after_it() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let mut client = Tunnel::new(TunnelConfig { psk: None, ..config(Role::Client, "", true) }, seed);
        let mut server = Tunnel::new(TunnelConfig { psk: None, ..config(Role::Server, "", true) }, !seed);
        let mut heard: Vec<Vec<u8>> = Vec::new();
        let mut sent = 0;
        for millis in 0..100_000u64 {
            let now = Timestamp::from_millis(millis);
            let under_attack = millis < 5_000;
            for from_client in [true, false] {
                let mut out = Vec::new();
                let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
                if from.poll_control(now, &mut out) {
                    sent += 1;
                    heard.push(out.clone());
                    let _ = to.parse(now, &mut out);
                }
                if under_attack && !heard.is_empty() && rng.one_in(10) {
                    let index = rng.below(heard.len());
                    let mut forged = heard[index].clone();
                    mutate(&mut rng, &mut forged);
                    let _ = to.parse(now, &mut forged);
                }
            }
            if !under_attack && client.is_ready() && server.is_ready() {
                break;
            }
        }
        assert!(client.is_ready() && server.is_ready(), "seed {seed}");
        assert!(sent < 1000, "{sent} frames, seed {seed}");
    }
}

/// Goal: without the password there is no way in. Method: a client with another password, whose frames are also changed.
#[test]
fn a_wrong_password_never_opens_the_server() {
    let mut rng = Rng(7);
    let mut wrong = config(Role::Client, "", true);
    wrong.psk = None;
    wrong.srp = wrong.srp.map(|mut srp| {
        srp.logins[0].password = Password::new("guess");
        srp
    });
    let mut client = Tunnel::new(wrong, 1);
    let mut server = Tunnel::new(TunnelConfig { psk: None, ..config(Role::Server, "", true) }, 2);
    let mut answers = 0;
    for millis in 0..200_000u64 {
        let now = Timestamp::from_millis(millis);
        let mut out = Vec::new();
        if client.poll_control(now, &mut out) {
            let mut changed = out.clone();
            mutate(&mut rng, &mut changed);
            let _ = server.parse(now, &mut changed);
            let _ = server.parse(now, &mut out);
        }
        out.clear();
        if server.poll_control(now, &mut out) {
            answers += 1;
            let _ = client.parse(now, &mut out);
        }
        assert!(!server.is_ready() && !client.is_ready());
    }
    assert!(answers > 10, "the server answered: {answers}");
}
