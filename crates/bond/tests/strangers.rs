//! Strangers whose addresses are forged: they neither keep a sender out nor get more than they send.

mod simulation;

use bond::config::{Extension, KeySize, LinkOptions, Login, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::receiver::{HALF_OPEN_MAX, PEERS_MAX, Receiver, ReceiverInput, ReceiverOutput};
use bond::{Channel, PacketClass};
use link_sim::{Capacity, LinkConfig, PathConfig, SkewedClock};
use rist::srp::{EXCHANGES_PER_SECOND_MAX, Entropy, Password, SrpConfig};
use rist::tunnel::{self, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{Echo, EchoKind, RtcpPacket, Sdes, SenderReport, packets};
use rist::wire::rtp::RtpHeader;
use simulation::{Simulation, load};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use units::{Ecn, Timestamp};

fn path(name: &str, delay_ms: f64) -> PathConfig {
    let link = || LinkConfig { capacity: Capacity::Constant { kbps: 8_000 }, delay_ms, ..Default::default() };
    PathConfig { name: name.into(), up: link(), down: link(), ..Default::default() }
}

/// The `n`th forged address.
fn forged(n: u32) -> SocketAddr {
    SocketAddr::from(((0xcb00_0000 | n >> 4).to_be_bytes(), 1024 + (n % 16) as u16))
}

/// An SR with SDES and an echo request, as a sender begins.
fn greeting(n: u32) -> Vec<u8> {
    let mut compound = Vec::new();
    SenderReport { ssrc: n << 1, ..SenderReport::default() }.emit(&mut compound);
    Sdes { ssrc: n << 1, cname: b"x" }.emit(&mut compound);
    Echo { ssrc: n << 1, timestamp: 7, ..Echo::default() }.emit(EchoKind::Request, &mut compound);
    compound
}

fn media(n: u32) -> Vec<u8> {
    rtp(n << 1, n as u16, &[0x47; 188])
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut rtp = Vec::new();
    let timestamp = u32::from(sequence);
    RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc, extension: None }.emit(payload, &mut rtp);
    rtp
}

/// What a stranger sends, by turns everything a receiver answers or remembers; with a pass phrase of his own, if any.
fn datagram(profile: Profile, n: u32, passphrase: Option<&str>) -> (Channel, Vec<u8>) {
    if profile == Profile::Simple {
        return if n.is_multiple_of(2) { (Channel::Control, greeting(n)) } else { (Channel::Media, media(n)) };
    }
    let mut config = TunnelConfig::new(Role::Client, Side::Sender);
    config.psk = passphrase.map(tunnel::PskConfig::new);
    if n.is_multiple_of(3) {
        config.features = vec!["bond-report-1".to_owned()];
    }
    let mut tunnel = Tunnel::new(config, u64::from(n));
    let mut out = Vec::new();
    match n % 4 {
        0 => drop(tunnel.emit_keepalive(Timestamp::ZERO, &mut out)),
        1 => drop(tunnel.emit_rtcp(Timestamp::ZERO, &greeting(n), &mut out)),
        2 => drop(tunnel.emit_media(Timestamp::ZERO, &media(n), &mut out)),
        // A keep-alive without anything told, to which the answer would be longer.
        _ => out.extend([0, 0, 0x88, 0xb5, 2, 2, 2, 2, 2, 2, 0x3f, 0x20]),
    }
    (Channel::Media, out)
}

/// Two links join a receiver at which 10,000 forged sources a second knock, `times` each, under a pass phrase of their own if
/// any; all media must arrive.
fn join_in_a_flood(profile: Profile, psk: Option<&str>, theirs: Option<&str>, times: u32) {
    const LATENCY: Duration = Duration::from_secs(1);
    let psk = psk.map(|text| PskConfig {
        passphrase: Secret::new(text),
        key_size: KeySize::Aes128,
        rotate_after_packets: None,
    });
    let flow_id = Some(0xabcd_ef00);
    let sender = SenderConfig { profile, latency: LATENCY, psk: psk.clone(), flow_id, ..Default::default() };
    let receiver = ReceiverConfig { profile, latency: LATENCY, psk: psk.clone(), ..Default::default() };
    let paths = [path("a", 20.0), path("b", 40.0)];
    let mut simulation = Simulation::without_links(sender, receiver, &paths, 1, SkewedClock::new(9_000_000, 0));
    // By IP address: in Simple Profile media and RTCP of one sender come from two ports.
    let mut sent: BTreeMap<IpAddr, u64> = BTreeMap::new();
    // Each of ours costs a key, too.
    let kinds = if theirs.is_some() { 240 } else { u32::MAX };
    let mut made = BTreeMap::new();
    let (mut pushed, mut n) = (0, 0);
    for ms in 0..9_000u64 {
        simulation.run_until(Timestamp::from_millis(ms));
        for _ in 0..10 {
            // Each source `times` in a row, 100 ms apart.
            let source = if times > 1 { (n / 2000) * 1000 + n % 1000 } else { n };
            let kind = source % kinds;
            let (channel, bytes) = match theirs {
                Some(_) => made.entry(kind).or_insert_with(|| datagram(profile, kind, theirs)).clone(),
                None => datagram(profile, source, None),
            };
            *sent.entry(forged(source).ip()).or_default() += bytes.len() as u64;
            simulation.stray(forged(source), channel, &bytes);
            n += 1;
        }
        if ms == 1_000 {
            for index in 0..paths.len() {
                simulation.add_link(index, LinkOptions::default());
            }
        }
        // 2.1 Mbit/s, once the two had three seconds to meet.
        if ms >= 4_000 && ms.is_multiple_of(5) {
            simulation.push(load::payload(pushed), PacketClass::Video);
            pushed += 1;
        }
    }
    simulation.run_until(simulation.now + Duration::from_secs(2));
    let numbers: Vec<u32> = simulation
        .delivered
        .iter()
        .filter(|(_, delivered)| delivered.flow == 0xabcd_ef00)
        .map(|(_, delivered)| load::number(&delivered.bytes))
        .collect();
    assert_eq!(numbers, (0..pushed).collect::<Vec<_>>(), "{profile:?}");
    let mut answered: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for (address, bytes) in &simulation.astray {
        *answered.entry(address.ip()).or_default() += bytes;
    }
    for (ip, answered) in &answered {
        assert!(*answered <= sent[ip], "{ip} sent {} bytes and got {answered}", sent[ip]);
    }
    assert!(psk.is_some() || !answered.is_empty(), "nobody was answered: nothing is shown");
    let snapshot = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
    let ours = snapshot.links.iter().filter(|link| link.peer.ip().to_string().starts_with("10.0.0.")).count();
    assert_eq!(ours, 2, "{profile:?} {snapshot:?}");
    assert!(snapshot.links.len() <= PEERS_MAX + HALF_OPEN_MAX && snapshot.half_open <= HALF_OPEN_MAX as u64);
}

/// Goal: 10,000 forged sources a second, without any encryption: a sender joins and all it sends is delivered; nobody is sent
/// more than he sent.
#[test]
fn a_sender_joins_in_a_flood_of_forged_sources() {
    join_in_a_flood(Profile::Main, None, None, 1);
    join_in_a_flood(Profile::Simple, None, None, 1);
}

/// Goal: the same when every source comes twice.
#[test]
fn a_sender_joins_though_the_forged_sources_come_again() {
    join_in_a_flood(Profile::Main, None, None, 2);
}

/// Goal: the same with encryption, where what comes in the clear is refused, and every look at what is encrypted costs a key.
#[test]
fn a_sender_joins_in_a_flood_with_encryption() {
    join_in_a_flood(Profile::Main, Some("a secret"), None, 1);
    join_in_a_flood(Profile::Main, Some("a secret"), Some("another one"), 1);
}

/// Goal: a single datagram from an address never yields more bytes than it has, whatever it is and however long one waits,
/// also where a pass phrase or a log-in is asked for, and by who knows the pass phrase.
#[test]
fn no_datagram_is_worth_more_than_itself() {
    let main = |psk: Option<&str>, log_in: bool| ReceiverConfig {
        psk: psk.map(|text| PskConfig {
            passphrase: Secret::new(text),
            key_size: KeySize::Aes256,
            rotate_after_packets: None,
        }),
        srp_users: if log_in {
            vec![Login { user: "alice".into(), password: Secret::new("wonderland") }]
        } else {
            Vec::new()
        },
        ..Default::default()
    };
    let simple = ReceiverConfig { profile: Profile::Simple, ..Default::default() };
    let receivers =
        [simple, main(None, false), main(Some("sesame"), false), main(None, true), main(Some("sesame"), true)];
    for (receiver, theirs) in receivers.iter().flat_map(|config| [(config, None), (config, Some("sesame"))]) {
        for n in 0..12 {
            for extension in [Extension::Offer, Extension::Off] {
                let profile = receiver.profile;
                let config = ReceiverConfig { extension, cname: "a".repeat(127), ..receiver.clone() };
                let mut receiver = Receiver::new(config, 3, Timestamp::ZERO).unwrap();
                let (channel, mut bytes) = datagram(profile, n, theirs);
                let length = bytes.len();
                let input =
                    ReceiverInput::Datagram { local: 0, from: forged(n), channel, ecn: Ecn::NotEct, bytes: &mut bytes };
                receiver.handle_input(Timestamp::ZERO, input);
                let (mut answered, mut now) = (0, Timestamp::ZERO);
                while now < Timestamp::from_millis(10_000) {
                    match receiver.poll_output(now) {
                        ReceiverOutput::Transmit { bytes, .. } => answered += bytes.len(),
                        ReceiverOutput::Timeout(at) => {
                            now = at;
                            receiver.handle_input(now, ReceiverInput::Timeout);
                        }
                        _ => {}
                    }
                }
                assert!(answered <= length, "{profile:?} {n}: {answered} for {length} bytes");
                assert_eq!(receiver.snapshot(now).half_open, 0, "silent for seconds and still remembered");
            }
        }
    }
}

/// Goal: media under a forged address, which a receiver takes and which leaves gaps to ask for, yields no more bytes than it
/// has either: who never answers an echo may be somebody else.
#[test]
fn media_does_not_show_that_an_address_is_true() {
    for (profile, payload, often) in
        [(Profile::Main, 20, 100), (Profile::Simple, 20, 100), (Profile::Simple, 188, 1500)]
    {
        let config = ReceiverConfig { profile, cname: "a".repeat(127), ..Default::default() };
        let mut receiver = Receiver::new(config, 3, Timestamp::ZERO).unwrap();
        let mut tunnel = Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 7);
        let (mut sent, mut answered, mut delivered, mut number) = (0, 0, 0, 0u16);
        for ms in 0..30_000u64 {
            let now = Timestamp::from_millis(ms);
            // Twenty at once, so that it is taken for a sender; then as rarely as it goes on being one.
            let count = if ms == 0 { 20 } else { u32::from(ms.is_multiple_of(often)) };
            for _ in 0..count {
                // Every second one is missing.
                number += 2;
                let media = rtp(8, number, &vec![0x47; payload]);
                let mut datagrams = vec![(Channel::Control, greeting(4)), (Channel::Media, media)];
                if profile == Profile::Main {
                    for (channel, bytes) in &mut datagrams {
                        let mut out = Vec::new();
                        match channel {
                            Channel::Media => drop(tunnel.emit_media(now, bytes, &mut out)),
                            Channel::Control => drop(tunnel.emit_rtcp(now, bytes, &mut out)),
                        }
                        (*channel, *bytes) = (Channel::Media, out);
                    }
                }
                for (channel, mut bytes) in datagrams.into_iter().skip(usize::from(number > 2)) {
                    sent += bytes.len();
                    let input = ReceiverInput::Datagram {
                        local: 0,
                        from: forged(1),
                        channel,
                        ecn: Ecn::NotEct,
                        bytes: &mut bytes,
                    };
                    receiver.handle_input(now, input);
                }
            }
            receiver.handle_input(now, ReceiverInput::Timeout);
            loop {
                match receiver.poll_output(now) {
                    ReceiverOutput::Transmit { bytes, .. } => answered += bytes.len(),
                    ReceiverOutput::Deliver(_) => delivered += 1,
                    ReceiverOutput::Event(_) => {}
                    ReceiverOutput::Timeout(_) => break,
                }
            }
        }
        assert!(delivered >= 20, "{profile:?}: {delivered}, so it was no sender");
        assert!(answered > sent / 4, "{profile:?}: {answered} of {sent} bytes, so nothing is shown");
        assert!(answered <= sent, "{profile:?}: {answered} for {sent} bytes");
    }
}

/// Goal: somebody who answers from two hundred ports of an address of his own takes no room from those that deliver media.
#[test]
fn one_address_can_not_take_all_the_room() {
    let config = ReceiverConfig { profile: Profile::Simple, flows_max: 2, ..Default::default() };
    let mut now = Timestamp::from_millis(1);
    let mut receiver = Receiver::new(config, 3, now).unwrap();
    let senders: Vec<SocketAddr> = (0..3).map(|i| SocketAddr::from(([10, 0, 0, i], 5000))).collect();
    let attackers: Vec<SocketAddr> = (0..200).map(|i| SocketAddr::from(([192, 0, 2, 1], 5000 + 2 * i))).collect();
    let control = |of: SocketAddr| SocketAddr::new(of.ip(), of.port() + 1);
    let mut delivered = 0;
    // The senders begin, the attackers come while they send, then another sender.
    for step in 0..4_000u32 {
        now += Duration::from_millis(5);
        let mut inputs = Vec::new();
        for (index, sender) in senders.iter().enumerate().filter(|(index, _)| *index < 2 || step > 2_000) {
            if step % 20 == 0 {
                inputs.push((control(*sender), Channel::Control, greeting(77)));
            }
            let mut rtp = Vec::new();
            // Three links of one flow, in turns.
            let sequence = (step * 3 + index as u32) as u16;
            RtpHeader { marker: false, payload_type: 33, sequence, timestamp: step * 450, ssrc: 154, extension: None }
                .emit(&[0x47; 188], &mut rtp);
            inputs.push((*sender, Channel::Media, rtp));
        }
        if step > 500 && step % 4 == 0 {
            for attacker in attackers.iter().skip((step / 4 % 10) as usize * 20).take(20) {
                inputs.push((control(*attacker), Channel::Control, greeting(1)));
            }
        }
        while let Some((from, channel, mut bytes)) = inputs.pop() {
            receiver.handle_input(
                now,
                ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes: &mut bytes },
            );
            loop {
                match receiver.poll_output(now) {
                    ReceiverOutput::Transmit { to, bytes, .. } => {
                        // Everybody answers what he is asked: nobody is forged here.
                        for packet in packets(&bytes) {
                            if let Ok(RtcpPacket::EchoRequest(echo)) = packet {
                                let mut answer = Vec::new();
                                Sdes { ssrc: 1, cname: b"x" }.emit(&mut answer);
                                echo.response(0).emit(EchoKind::Response, &mut answer);
                                inputs.push((to, Channel::Control, answer));
                            }
                        }
                    }
                    ReceiverOutput::Deliver(_) => delivered += 1,
                    ReceiverOutput::Event(_) => {}
                    ReceiverOutput::Timeout(_) => break,
                }
            }
        }
    }
    let snapshot = receiver.snapshot(now);
    assert_eq!(snapshot.links.len(), PEERS_MAX, "the attacker fills what is left");
    for sender in &senders {
        assert!(snapshot.links.iter().any(|link| link.peer == *sender), "{sender} was put out");
    }
    assert!(delivered > 9_000, "{delivered}");
}

/// What somebody without a password answers a login frame with: as much as makes the server compute.
fn log_in_without_password(frame: &[u8]) -> Option<Vec<u8>> {
    let [0, 8, 0x88, 0x8e, 3, 0, _, _, code, identifier, _, _, message @ ..] = frame else { return None };
    let answer = match (code, message) {
        (1, [1, ..]) => b"\x01alice".to_vec(),
        (1, [0x13, 1, ..]) => [&[0x13, 1][..], &[5; 256]].concat(),
        (1, [0x13, 2, ..]) => [&[0x13, 2, 0, 0, 0, 0][..], &[6; 32]].concat(),
        _ => return Some(vec![0, 8, 0x88, 0x8e, 3, 1, 0, 0]),
    };
    let length = (answer.len() as u16 + 4).to_be_bytes();
    let head = [0, 8, 0x88, 0x8e, 3, 0, length[0], length[1], 2, *identifier, length[0], length[1]];
    Some([&head[..], &answer].concat())
}

/// Goal: log-ins of forty strangers at once, each as fast as he can and from ever new ports, cost a bounded number of
/// exchanges, and whoever knows the password is let in all the same.
#[test]
fn a_flood_of_log_ins_is_bounded_and_keeps_nobody_out() {
    const SECONDS: u64 = 20;
    let users = vec![Login { user: "alice".into(), password: Secret::new("wonderland") }];
    let config = ReceiverConfig { srp_users: users, ..Default::default() };
    let mut receiver = Receiver::new(config, 3, Timestamp::ZERO).unwrap();
    let known = |seed: u8| {
        let login = rist::srp::Login { username: "alice".into(), password: Password::new("wonderland") };
        let srp = Some(SrpConfig::new(vec![login], Entropy::new([seed; 32])));
        Tunnel::new(TunnelConfig { srp, ..TunnelConfig::new(Role::Client, Side::Sender) }, u64::from(seed))
    };
    let sender = |n: u8| SocketAddr::from(([10, 0, 0, n], 5000));
    let stranger = |n: u16, turn: u16| SocketAddr::from(([192, 0, 2, n as u8], 1024 + turn));
    let (mut client, mut began, mut logged_in, mut slowest) = (known(0), 0, 0u8, 0);
    let (mut exchanges, mut turns) = (0u32, [0u16; 40]);
    let mut inbox: VecDeque<(SocketAddr, Vec<u8>)> = VecDeque::new();
    for ms in 1..SECONDS * 1000 {
        let now = Timestamp::from_millis(ms);
        for n in (0..turns.len()).filter(|n| (ms as usize + n).is_multiple_of(50)) {
            // A tunnel that computes for nobody any more is given up for another.
            turns[n] += u16::from(ms % 1000 < 50);
            inbox.push_back((stranger(n as u16, turns[n]), vec![0, 8, 0x88, 0x8e, 3, 1, 0, 0]));
        }
        let mut out = Vec::new();
        // A second after the flood has begun, one sender after another.
        if ms > 1000 && client.poll_control(now, &mut out) {
            inbox.push_back((sender(logged_in), out));
        }
        if ms > 1000 && ms.is_multiple_of(100) {
            let mut out = Vec::new();
            client.emit_rtcp(now, &greeting(1), &mut out);
            inbox.push_back((sender(logged_in), out));
        }
        while let Some((from, mut bytes)) = inbox.pop_front() {
            let input = ReceiverInput::Datagram {
                local: 0,
                from,
                channel: Channel::Media,
                ecn: Ecn::NotEct,
                bytes: &mut bytes,
            };
            receiver.handle_input(now, input);
        }
        loop {
            match receiver.poll_output(now) {
                ReceiverOutput::Transmit { to, bytes, .. } => {
                    exchanges += u32::from(bytes.get(12..14) == Some(&[0x13, 2]));
                    if to == sender(logged_in) {
                        let _ = client.parse(now, &mut bytes.to_vec());
                    } else if let Some(answer) = log_in_without_password(&bytes) {
                        inbox.push_back((to, answer));
                    }
                }
                ReceiverOutput::Timeout(_) => break,
                _ => {}
            }
        }
        if client.is_ready() {
            slowest = slowest.max(ms - began.max(1000));
            logged_in += 1;
            (client, began) = (known(logged_in), ms);
        }
    }
    println!("{exchanges} exchanges in {SECONDS} s, {logged_in} logged in, the slowest in {slowest} ms");
    let most = EXCHANGES_PER_SECOND_MAX * (SECONDS as u32 + 1);
    assert!(exchanges <= most, "{exchanges} exchanges, {most} allowed");
    assert!(exchanges > most / 2, "{exchanges} exchanges: the flood is none");
    assert!(logged_in >= 4, "{logged_in} logged in, the slowest in {slowest} ms");
}
