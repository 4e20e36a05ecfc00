//! Goal: with a passphrase set, what an attacker without it sends is refused, each kind for its reason, and what is genuine is
//! delivered unchanged before, during and after. Long mixtures of attacks are in `session_fuzz`.
#![allow(clippy::unwrap_used)]

use rist::psk::{NonceBook, Ownership};
use rist::tunnel::{Inner, PskConfig, Received, Role, Side, Tunnel, TunnelConfig, TunnelError, VirtualPorts};
use rist::wire::rtcp::{ReceiverReport, Sdes};
use rist::wire::rtp::RtpHeader;
use std::time::Duration;
use units::Timestamp;

const START: Timestamp = Timestamp::from_millis(1000);

fn tunnel(side: Side, passphrase: &str, rotate: Option<u32>, seed: u64) -> Tunnel {
    let role = if side == Side::Sender { Role::Client } else { Role::Server };
    let psk = PskConfig { rotate_after_packets: rotate, ..PskConfig::new(passphrase) };
    Tunnel::new(TunnelConfig { psk: Some(psk), ..TunnelConfig::new(role, side) }, seed)
}

fn sender(seed: u64) -> Tunnel {
    tunnel(Side::Sender, "the passphrase", None, seed)
}

fn receiver() -> Tunnel {
    tunnel(Side::Receiver, "the passphrase", None, 99)
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let header = RtpHeader { payload_type: 33, sequence, ssrc: 0x1234_5678, ..RtpHeader::default() };
    header.emit(&[0x47; 188], &mut out);
    out
}

fn media(tunnel: &mut Tunnel, sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_media(START, &rtp(sequence), &mut out);
    out
}

fn rtcp(tunnel: &mut Tunnel) -> Vec<u8> {
    let (mut compound, mut out) = (Vec::new(), Vec::new());
    ReceiverReport::emit(7, &[], None, &mut compound);
    Sdes { ssrc: 7, cname: b"me" }.emit(&mut compound);
    tunnel.emit_rtcp(START, &compound, &mut out);
    out
}

fn keepalive(tunnel: &mut Tunnel) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_keepalive(START, &mut out);
    out
}

fn assert_delivers(tunnel: &mut Tunnel, now: Timestamp, datagram: &[u8], sequence: u16) {
    let mut bytes = datagram.to_vec();
    let received = tunnel.parse(now, &mut bytes).unwrap();
    assert_eq!(received.inner, Inner::Media(&rtp(sequence)));
}

fn refusal(tunnel: &mut Tunnel, now: Timestamp, datagram: &[u8]) -> TunnelError {
    match tunnel.parse(now, &mut datagram.to_vec()) {
        Err(error) => error,
        Ok(received) => panic!("accepted: {received:?}"),
    }
}

#[test]
fn both_ends_understand_each_other() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    for sequence in 0..100 {
        let datagram = media(&mut sender, sequence);
        assert_eq!(datagram.len(), rtp(sequence).len() + sender.overhead_bytes());
        assert_delivers(&mut receiver, START, &datagram, sequence);
    }
    let check = |received: Received<'_>| assert!(matches!(received.inner, Inner::KeepAlive(_) | Inner::Rtcp(_)));
    check(receiver.parse(START, &mut keepalive(&mut sender)).unwrap());
    check(receiver.parse(START, &mut rtcp(&mut sender)).unwrap());
    check(sender.parse(START, &mut rtcp(&mut receiver)).unwrap());
    check(sender.parse(START, &mut keepalive(&mut receiver)).unwrap());
}

#[test]
fn clear_datagrams_are_refused() {
    let mut clear = Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 1);
    let mut receiver = receiver();
    for datagram in [media(&mut clear, 1), rtcp(&mut clear), keepalive(&mut clear)] {
        assert_eq!(refusal(&mut receiver, START, &datagram), TunnelError::Clear);
    }
}

#[test]
fn replays_are_refused_at_once_and_after_rotations() {
    let mut sender = tunnel(Side::Sender, "the passphrase", Some(50), 1);
    let mut receiver = receiver();
    let mut now = START;
    let mut recorded = Vec::new();
    for sequence in 0..400 {
        now += Duration::from_millis(2);
        let datagram = media(&mut sender, sequence);
        assert_delivers(&mut receiver, now, &datagram, sequence);
        assert_eq!(refusal(&mut receiver, now, &datagram), TunnelError::Replayed { sequence: u32::from(sequence) });
        recorded.push(datagram);
    }
    for (index, datagram) in recorded.iter().enumerate() {
        let expected = TunnelError::Replayed { sequence: index as u32 };
        assert_eq!(refusal(&mut receiver, now, datagram), expected, "datagram {index}");
    }
}

#[test]
fn reflected_datagrams_are_refused_also_after_rotation() {
    let mut sender = tunnel(Side::Sender, "the passphrase", Some(32), 1);
    let recorded: Vec<_> = (0..100).map(|sequence| media(&mut sender, sequence)).collect();
    for (index, datagram) in recorded.iter().enumerate() {
        assert_eq!(refusal(&mut sender, START, datagram), TunnelError::Reflected, "datagram {index}");
    }
    let keepalive = keepalive(&mut sender);
    assert_eq!(refusal(&mut sender, START, &keepalive), TunnelError::Reflected);
}

#[test]
fn another_streams_datagrams_are_refused_and_push_out_no_key() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    assert_delivers(&mut receiver, START, &media(&mut sender, 0), 0);
    let mut now = START;
    for other in 0..50 {
        let mut stranger = tunnel(Side::Sender, "another passphrase", None, 1000 + other);
        for sequence in 0..10 {
            now += Duration::from_millis(20);
            let error = refusal(&mut receiver, now, &media(&mut stranger, sequence));
            assert!(matches!(error, TunnelError::Implausible | TunnelError::DerivationLimit), "{error:?}");
        }
    }
    assert_delivers(&mut receiver, now, &media(&mut sender, 1), 1);
}

#[test]
fn a_changed_header_or_a_guessed_number_is_refused() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    for sequence in 0..5 {
        assert_delivers(&mut receiver, START, &media(&mut sender, sequence), sequence);
    }
    let genuine = media(&mut sender, 5);
    let edit = |at: usize, value: u8| {
        let mut forged = genuine.clone();
        forged[at] = value;
        forged
    };
    for (what, forged, expected) in [
        ("no key bit", edit(0, 0x10), TunnelError::Clear),
        ("no sequence bit", edit(0, 0x20), TunnelError::NoSequence),
        ("AES-128 claimed", edit(1, 0x08), TunnelError::Implausible),
        ("revision 0", edit(1, 0x40), TunnelError::InsecureRevision),
        ("VSF claimed", [&[0x30, 0x50, 0xcc, 0xe0], &genuine[4..]].concat(), TunnelError::Implausible),
        ("IP claimed", [&[0x30, 0x48, 0x08, 0x00], &genuine[4..]].concat(), TunnelError::Implausible),
        ("next number", edit(11, 6), TunnelError::Implausible),
        ("far number", edit(8, 0x7f), TunnelError::Implausible),
        ("cut", genuine[..14].to_vec(), TunnelError::Implausible),
    ] {
        assert_eq!(refusal(&mut receiver, START, &forged), expected, "{what}");
    }
    // As a keep-alive of revision 1 the same bytes prove nothing and do nothing.
    let mut as_keepalive = [&[0x30, 0x48, 0x88, 0xb5], &genuine[4..]].concat();
    let received = receiver.parse(START, &mut as_keepalive).unwrap();
    assert_eq!((received.sequence, received.inner), (None, Inner::Nothing));
    assert_eq!(receiver.revision(), 1);
    assert_delivers(&mut receiver, START, &genuine, 5);
}

#[test]
fn a_restarted_peer_is_let_in_and_its_former_self_stays_out() {
    let (mut first, mut second, mut receiver) = (sender(1), sender(2), receiver());
    let recorded: Vec<_> = (0..100).map(|sequence| media(&mut first, sequence)).collect();
    for (sequence, datagram) in recorded.iter().enumerate() {
        assert_delivers(&mut receiver, START, datagram, sequence as u16);
    }
    for sequence in 0..10 {
        assert_delivers(&mut receiver, START, &media(&mut second, sequence), sequence);
    }
    for datagram in &recorded {
        assert!(matches!(refusal(&mut receiver, START, datagram), TunnelError::Replayed { .. }));
    }
}

#[test]
fn an_outage_of_many_packets_costs_one_datagram() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    assert_delivers(&mut receiver, START, &media(&mut sender, 0), 0);
    for sequence in 1..50_000 {
        media(&mut sender, sequence);
    }
    let first = media(&mut sender, 50_000);
    assert_eq!(refusal(&mut receiver, START, &first), TunnelError::FarAhead { sequence: 50_000 });
    assert_eq!(refusal(&mut receiver, START, &first), TunnelError::FarAhead { sequence: 50_000 });
    assert_delivers(&mut receiver, START, &media(&mut sender, 50_001), 50_001);
    assert_delivers(&mut receiver, START, &first, 50_000);
}

#[test]
fn a_flood_of_unknown_nonces_costs_few_derivations_and_no_rotation() {
    let mut sender = tunnel(Side::Sender, "the passphrase", Some(40), 1);
    let mut receiver = receiver();
    let template = media(&mut tunnel(Side::Sender, "x", None, 5), 0);
    let mut derived = 0;
    let mut now = START;
    let seconds = 5;
    for sequence in 0..seconds * 100 {
        assert_delivers(&mut receiver, now, &media(&mut sender, sequence), sequence);
        for flood in 0..100u32 {
            now += Duration::from_micros(100);
            let mut forged = template.clone();
            forged[4..8].copy_from_slice(&(0x4000_0000 + u32::from(sequence) * 100 + flood).to_be_bytes());
            forged[8..12].copy_from_slice(&(flood * 0x0200_0000 + 0x0100_0000).to_be_bytes());
            derived += usize::from(refusal(&mut receiver, now, &forged) != TunnelError::DerivationLimit);
        }
    }
    let derivations_per_second_max = 8;
    assert!(derived <= derivations_per_second_max * usize::from(seconds + 1), "{derived} derivations");
}

#[test]
fn media_for_the_end_that_sends_media_is_refused() {
    let mut listener = Tunnel::new(TunnelConfig::new(Role::Server, Side::Sender), 3);
    let mut clear = Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 1);
    assert_eq!(refusal(&mut listener, START, &media(&mut clear, 0)), TunnelError::UnexpectedMedia { port: 1968 });
    let mut out = Vec::new();
    clear.emit_media_on(START, 2000, &rtp(0), &mut out);
    let mut receiver = Tunnel::new(TunnelConfig::new(Role::Server, Side::Receiver), 4);
    assert_eq!(refusal(&mut receiver, START, &out), TunnelError::UnexpectedMedia { port: 2000 });
}

#[test]
fn several_flows_share_a_tunnel_by_virtual_port() {
    let (mut sender, mut receiver) = (sender(1), receiver());
    let mut compound = Vec::new();
    ReceiverReport::emit(7, &[], None, &mut compound);
    for flow in [1968, 2000, 4000] {
        let mut out = Vec::new();
        sender.emit_rtcp_on(START, flow, &compound, &mut out);
        assert_eq!(receiver.parse(START, &mut out).unwrap().flow_port, flow);
        out.clear();
        sender.emit_media_on(START, flow, &rtp(flow), &mut out);
        let received = receiver.parse(START, &mut out).unwrap();
        assert_eq!((received.flow_port, received.inner), (flow, Inner::Media(&rtp(flow))));
        out.clear();
        receiver.emit_rtcp_on(START, flow, &compound, &mut out);
        let received = sender.parse(START, &mut out).unwrap();
        assert_eq!((received.flow_port, received.inner), (flow, Inner::Rtcp(&compound)));
    }
}

/// The three links of one bond: senders and receivers, each end with its book when `together`.
fn bond(together: bool) -> ([Tunnel; 3], [Tunnel; 3]) {
    bond_rotating(together, None)
}

fn bond_rotating(together: bool, rotate_after_packets: Option<u32>) -> ([Tunnel; 3], [Tunnel; 3]) {
    let end = |side, role, seed: u64| {
        let book = NonceBook::default();
        [0, 1, 2].map(|link| {
            let psk = PskConfig { rotate_after_packets, ..PskConfig::new("the passphrase") };
            let config = TunnelConfig { psk: Some(psk), ..TunnelConfig::new(role, side) };
            let book = if together { book.clone() } else { NonceBook::default() };
            Tunnel::with_book(config, seed + link, book)
        })
    };
    (end(Side::Sender, Role::Client, 10), end(Side::Receiver, Role::Server, 20))
}

/// Goal: datagrams of other links, handed in at a link by somebody who overheard them, never make it refuse its own peer;
/// where the tunnels know of each other they are refused.
#[test]
fn what_was_overheard_on_other_links_kills_no_link() {
    for together in [false, true] {
        let (mut senders, mut receivers) = bond(together);
        let (mut overheard_up, mut overheard_down) = (Vec::new(), Vec::new());
        for link in 0..3 {
            for sequence in 0..5 {
                let up = media(&mut senders[link], sequence);
                assert_delivers(&mut receivers[link], START, &up, sequence);
                overheard_up.push(up);
                let down = rtcp(&mut receivers[link]);
                senders[link].parse(START, &mut down.clone()).unwrap();
                overheard_down.push(down);
            }
            receivers[link].vouch(START);
            senders[link].vouch(START);
        }
        let mut taken = 0;
        for sequence in 5..10_005u32 {
            let now = START + Duration::from_millis(u64::from(sequence));
            let index = sequence as usize % 15;
            if index / 5 != 1 {
                taken += usize::from(receivers[1].parse(now, &mut overheard_up[index].clone()).is_ok());
                taken += usize::from(senders[1].parse(now, &mut overheard_down[index].clone()).is_ok());
            }
            let up = media(&mut senders[1], sequence as u16);
            assert_delivers(&mut receivers[1], now, &up, sequence as u16);
            let down = rtcp(&mut receivers[1]);
            assert!(matches!(senders[1].parse(now, &mut down.clone()).unwrap().inner, Inner::Rtcp(_)));
        }
        assert_eq!(taken, if together { 0 } else { 20 }, "each once where nothing is known of the other links");
    }
}

/// Goal: a tunnel tells whose a datagram is: open while the same nonce is in use at another one, its peer's once that has answered an
/// echo there, and somebody else's then if it is under another nonce.
#[test]
fn a_tunnel_knows_whose_its_datagrams_are() {
    let (mut senders, mut receivers) = bond(true);
    let ms = |ms| START + Duration::from_millis(ms);
    let mut hand = |now: Timestamp, datagram: &[u8], at: usize| {
        receivers[at].parse(now, &mut datagram.to_vec()).unwrap();
        receivers[at].ownership(now)
    };
    assert_eq!(hand(ms(0), &media(&mut senders[0], 0), 0), Ownership::Peer, "nothing speaks against it");
    // A stranger hands it in at the second one first.
    let mut sent = [1, 2, 3].map(|sequence| media(&mut senders[0], sequence));
    assert_eq!(hand(ms(1), &sent[0], 1), Ownership::Peer);
    assert_eq!(hand(ms(2), &sent[0], 0), Ownership::Open);
    assert_eq!(hand(ms(3), &sent[1], 1), Ownership::Open);
    assert_eq!(hand(ms(4), &sent[1], 0), Ownership::Open);
    assert_eq!(hand(ms(4), &media(&mut senders[1], 0), 1), Ownership::Open, "whatever else comes in there");
    assert_eq!(hand(ms(4), &media(&mut senders[2], 0), 2), Ownership::Peer);
    hand(ms(5), &sent[2], 0);
    receivers[0].vouch(ms(5));
    assert_eq!(receivers[0].ownership(ms(5)), Ownership::Peer);
    assert_eq!(receivers[0].parse(ms(6), &mut media(&mut senders[2], 1)).map(|_| ()), Ok(()));
    assert_eq!(receivers[0].ownership(ms(6)), Ownership::Other);
    // A link that moves is heard in one place only.
    let config =
        TunnelConfig { psk: Some(PskConfig::new("the passphrase")), ..TunnelConfig::new(Role::Server, Side::Receiver) };
    let book = NonceBook::default();
    let mut addresses = [1, 2].map(|seed| Tunnel::with_book(config.clone(), 90 + seed, book.clone()));
    for sequence in 0..20u16 {
        sent[0] = media(&mut senders[2], 2 + sequence);
        let address = &mut addresses[usize::from(sequence / 10)];
        address.parse(ms(10 + u64::from(sequence)), &mut sent[0]).unwrap();
        assert_eq!(address.ownership(ms(10 + u64::from(sequence))), Ownership::Peer, "{sequence}");
    }
}

/// Goal: nobody is faster than the announcement of a nonce: handed in at the other links before it arrives at its own, what is sent
/// under a new one is refused there from the first datagram on. One announcement in two gets lost.
#[test]
fn a_nonce_that_is_announced_is_claimed_by_no_other_link() {
    let (mut senders, mut receivers) = bond_rotating(true, Some(200));
    let (mut nonces, mut announced) = (std::collections::BTreeSet::new(), 0);
    for sender in &mut senders {
        sender.announce_nonces();
    }
    for sequence in 0..10_000u16 {
        let now = START + Duration::from_millis(u64::from(sequence));
        for link in 0..3 {
            let mut sent = vec![media(&mut senders[link], sequence)];
            let mut control = Vec::new();
            while senders[link].poll_control(now, &mut control) {
                announced += 1;
                sent.extend((announced % 2 == 0).then(|| control.clone()));
                control.clear();
            }
            for (datagram, is_media) in sent.iter().zip([true, false]) {
                nonces.insert(datagram[4..8].to_vec());
                for other in (0..3).filter(|other| sequence > 0 && *other != link) {
                    assert_eq!(refusal(&mut receivers[other], now, datagram), TunnelError::OtherLink, "{sequence}");
                }
                if is_media {
                    assert_delivers(&mut receivers[link], now, datagram, sequence);
                } else {
                    assert_eq!(receivers[link].parse(now, &mut datagram.clone()).unwrap().inner, Inner::Nothing);
                }
            }
            receivers[link].vouch(now);
        }
    }
    assert!(nonces.len() > 3 * 10_000 / 200, "{}", nonces.len());
    assert_eq!(senders[0].revision(), 1, "an announcement is no other revision");
    // Nothing is announced again while nothing else is sent.
    let later = START + Duration::from_secs(20);
    let polled = (0..100).filter(|i| senders[0].poll_control(later + Duration::from_secs(*i), &mut Vec::new())).count();
    assert!(polled <= 1, "{polled}");
}

/// Goal: what an end sent on one of its links is not taken when it comes back on another, also after new keys.
#[test]
fn what_comes_back_on_another_link_is_refused() {
    let (mut senders, mut receivers) = bond(true);
    for ends in [&mut senders, &mut receivers] {
        for datagram in [keepalive(&mut ends[0]), rtcp(&mut ends[2])] {
            assert_eq!(refusal(&mut ends[1], START, &datagram), TunnelError::Reflected);
        }
    }
}

/// Goal: a recording stays a replay however often the key has changed since.
#[test]
fn recordings_are_refused_after_a_thousand_rotations() {
    let mut sender = tunnel(Side::Sender, "the passphrase", Some(40), 1);
    let mut receiver = receiver();
    let (mut now, mut recorded) = (START, Vec::new());
    for sequence in 0..1100 * 40u32 {
        now += Duration::from_millis(2);
        let datagram = media(&mut sender, sequence as u16);
        assert_delivers(&mut receiver, now, &datagram, sequence as u16);
        if sequence < 400 {
            recorded.push(datagram);
        }
    }
    now += Duration::from_secs(3);
    for (sequence, datagram) in recorded.iter().enumerate() {
        assert_eq!(refusal(&mut receiver, now, datagram), TunnelError::Replayed { sequence: sequence as u32 });
    }
    assert_delivers(&mut receiver, now, &media(&mut sender, 7), 7);
}

/// Goal: a link that moves to another address goes on at once there, with the same nonce, also while what it sent before is
/// repeated at its old and its new address.
#[test]
fn a_link_that_moves_takes_its_nonce_along() {
    let book = NonceBook::default();
    let config = || TunnelConfig {
        psk: Some(PskConfig::new("the passphrase")),
        ..TunnelConfig::new(Role::Server, Side::Receiver)
    };
    let mut sender = sender(1);
    let mut addresses = [0, 1, 2, 3].map(|seed| Tunnel::with_book(config(), 30 + seed, book.clone()));
    let (mut now, mut sent) = (START, Vec::new());
    for sequence in 0..1000u16 {
        now += Duration::from_millis(1);
        let datagram = media(&mut sender, sequence);
        let at = usize::from(sequence / 250);
        assert_delivers(&mut addresses[at], now, &datagram, sequence);
        sent.push(datagram);
        addresses[at].vouch(now);
        for old in sent.iter().rev().step_by(50) {
            assert!(matches!(refusal(&mut addresses[at], now, old), TunnelError::Replayed { .. }));
        }
    }
}

/// Goal: with a passphrase, what decrypts by chance to RTCP or media of another port proves nothing: only the ports that the
/// ends agreed on count.
#[test]
fn under_encryption_the_virtual_ports_must_be_right() {
    let end = |side, role, rtcp_source| {
        let virtual_ports = VirtualPorts { rtcp_source, ..VirtualPorts::default() };
        let psk = Some(PskConfig::new("the passphrase"));
        Tunnel::new(TunnelConfig { psk, virtual_ports, ..TunnelConfig::new(role, side) }, 50 + side as u64)
    };
    // RTCP to the sender: to its own port, and to the flow's when the receiver calls.
    for (role, port, taken) in [
        (Role::Client, 0x8000, true),
        (Role::Client, 0x8002, false),
        (Role::Client, 1969, false),
        (Role::Server, 0x8000, true),
        (Role::Server, 1969, true),
        (Role::Server, 1971, false),
    ] {
        let mut sender = end(Side::Sender, role, 0x8000);
        let other = if role == Role::Client { Role::Server } else { Role::Client };
        let mut datagram = rtcp(&mut end(Side::Receiver, other, port));
        let error = sender.parse(START, &mut datagram).err();
        assert_eq!(error, (!taken).then_some(TunnelError::Implausible), "{role:?} {port:#x}");
    }
    // To the receiver: RTCP to odd ports, media where a flow is known.
    for (flow, taken) in [(1968, true), (2000, true), (1969, false), (2001, false)] {
        let mut out = Vec::new();
        sender(1).emit_rtcp_on(START, flow, &hex::decode("80c9000100000007").unwrap(), &mut out);
        let error = receiver().parse(START, &mut out).err();
        assert_eq!(error, (!taken).then_some(TunnelError::Implausible), "RTCP of {flow}");
    }
    for (flow, taken) in [(1968, true), (2000, false)] {
        let mut out = Vec::new();
        sender(1).emit_media_on(START, flow, &rtp(0), &mut out);
        let error = receiver().parse(START, &mut out).err();
        assert_eq!(error, (!taken).then_some(TunnelError::Implausible), "media of {flow}");
    }
}
