//! Goal: whole IP datagrams (full-datagram mode) carry media and RTCP as reduced overhead does, are answered as they came, and
//! whatever else travels as IP is let alone. Method: two tunnels, and datagrams made by hand as another maker's tunnel would.
#![allow(clippy::unwrap_used)]

use rist::tunnel::{Encapsulation, Inner, PskConfig, Role, Side, Tunnel, TunnelConfig, TunnelError};
use rist::wire::datagram::{self, Addresses, Datagram};
use rist::wire::gre::{GreHeader, Protocol};
use rist::wire::keepalive::{Capabilities, KeepAlive};
use rist::wire::reduced::ReducedHeader;
use rist::wire::rtcp::{ReceiverReport, Sdes};
use rist::wire::rtp::RtpHeader;
use units::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1000);
const V4: Addresses = Addresses::V4 { source: [10, 0, 0, 1], destination: [10, 0, 0, 2] };
const V6: Addresses = Addresses::V6 { source: [0xfd; 16], destination: [0xfe; 16] };

fn tunnel(side: Side, psk: Option<&str>, encapsulation: Encapsulation) -> Tunnel {
    let role = if side == Side::Sender { Role::Client } else { Role::Server };
    let psk = psk.map(PskConfig::new);
    Tunnel::new(TunnelConfig { psk, encapsulation, ..TunnelConfig::new(role, side) }, side as u64)
}

fn sender(psk: Option<&str>, encapsulation: Encapsulation) -> Tunnel {
    tunnel(Side::Sender, psk, encapsulation)
}

fn receiver(psk: Option<&str>) -> Tunnel {
    tunnel(Side::Receiver, psk, Encapsulation::ReducedOverhead)
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    RtpHeader { payload_type: 33, sequence, ssrc: 0x1234_5678, ..RtpHeader::default() }.emit(&[0x47; 188], &mut out);
    out
}

fn compound() -> Vec<u8> {
    let mut compound = Vec::new();
    ReceiverReport::emit(7, &[], None, &mut compound);
    Sdes { ssrc: 7, cname: b"me" }.emit(&mut compound);
    compound
}

fn media(tunnel: &mut Tunnel, sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_media(NOW, &rtp(sequence), &mut out);
    out
}

fn rtcp(tunnel: &mut Tunnel) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_rtcp(NOW, &compound(), &mut out);
    out
}

/// The GRE protocol type, and the datagram in a clear one.
fn opened(datagram: &[u8]) -> (Protocol, Option<Datagram<'_>>) {
    let (header, body) = GreHeader::parse(datagram).unwrap();
    let whole = matches!(header.protocol, Protocol::Ip | Protocol::Ipv6);
    (header.protocol, if whole { Datagram::parse(body).unwrap() } else { None })
}

/// A clear datagram of another maker's, of revision 0 and without number.
fn by_hand(protocol: u16, ip: &[u8]) -> Vec<u8> {
    [&[0, 0][..], &protocol.to_be_bytes(), ip].concat()
}

fn ip(addresses: Addresses, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    datagram::emit(addresses, ReducedHeader { source, destination }, &mut out, |out| out.extend_from_slice(payload));
    out
}

#[test]
fn media_and_rtcp_arrive_and_are_answered_as_they_came() {
    for psk in [None, Some("the passphrase")] {
        for (addresses, protocol, headers) in [(V4, Protocol::Ip, 28), (V6, Protocol::Ipv6, 48)] {
            let mut sender = sender(psk, Encapsulation::FullDatagram(addresses));
            let mut receiver = receiver(psk);
            assert_eq!(receiver.overhead_bytes(), if psk.is_some() { 16 } else { 12 }, "at first");
            for sequence in 0..20 {
                let mut datagram = media(&mut sender, sequence);
                assert_eq!(datagram.len(), rtp(0).len() + sender.overhead_bytes());
                assert_eq!(sender.overhead_bytes(), headers + if psk.is_some() { 12 } else { 8 });
                let received = receiver.parse(NOW, &mut datagram).unwrap();
                assert_eq!((received.inner, received.flow_port), (Inner::Media(&rtp(sequence)), 1968));
                let mut up = rtcp(&mut sender);
                assert_eq!(receiver.parse(NOW, &mut up).unwrap().inner, Inner::Rtcp(&compound()));
                let mut down = rtcp(&mut receiver);
                if psk.is_none() {
                    let (of, datagram) = opened(&down);
                    let datagram = datagram.unwrap();
                    assert_eq!((of, datagram.addresses), (protocol, addresses.reversed()));
                    assert_eq!((datagram.ports.source, datagram.ports.destination), (1969, 0x8000));
                }
                assert_eq!(down.len(), compound().len() + sender.overhead_bytes());
                assert_eq!(sender.parse(NOW, &mut down).unwrap().inner, Inner::Rtcp(&compound()));
            }
        }
    }
}

#[test]
fn what_others_send_as_whole_datagrams_is_taken() {
    let mut receiver = receiver(None);
    // IPv6 under either protocol type, IPv4 with options and without a checksum of UDP.
    for (protocol, addresses) in [(0x0800, V4), (0x0800, V6), (0x86dd, V6)] {
        let datagram = by_hand(protocol, &ip(addresses, 0x8001, 1968, &rtp(3)));
        assert_eq!(receiver.parse(NOW, &mut datagram.clone()).unwrap().inner, Inner::Media(&rtp(3)));
    }
    let mut options = ip(V4, 0x8001, 1968, &rtp(4));
    options[26..28].fill(0);
    options.splice(20..20, [1, 1, 1, 0]);
    options[0] = 0x46;
    options[2..4].copy_from_slice(&(28 + 4 + rtp(4).len() as u16).to_be_bytes());
    options[10..12].fill(0);
    let sum: u32 = options[..24].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    options[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    assert_eq!(receiver.parse(NOW, &mut by_hand(0x0800, &options)).unwrap().inner, Inner::Media(&rtp(4)));
    // Several flows by port.
    let mut report = by_hand(0x0800, &ip(V4, 0x9000, 2001, &compound()));
    assert_eq!(receiver.parse(NOW, &mut report).unwrap().flow_port, 2000);
    let mut other = by_hand(0x0800, &ip(V4, 0x9001, 2000, &rtp(5)));
    let received = receiver.parse(NOW, &mut other).unwrap();
    assert_eq!((received.inner, received.flow_port), (Inner::Media(&rtp(5)), 2000));
}

/// librist's own message is of protocol 252; a tunnel may carry anything between its ends beside RIST.
#[test]
fn other_traffic_is_let_alone_and_damaged_one_refused() {
    for psk in [None, Some("the passphrase")] {
        let mut receiver = receiver(psk);
        let mut sender = sender(psk, Encapsulation::FullDatagram(V4));
        let mut message = vec![0x45, 0, 0, 33, 0xd4, 0x31, 0, 0, 64, 252, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        message.extend_from_slice(b"auth,10.0.0.2");
        let other_port = ip(V4, 5000, 53, b"a question");
        if psk.is_none() {
            for whole in [&message, &other_port] {
                let mut datagram = by_hand(0x0800, whole);
                assert_eq!(receiver.parse(NOW, &mut datagram).unwrap().inner, Inner::OutOfBand(whole));
            }
            let cases: [(usize, u8, &str); 4] =
                [(6, 0x20, "fragment"), (3, 0xff, "total length"), (8, 1, "checksum"), (40, 1, "checksum")];
            for (at, value, field) in cases {
                let mut whole = ip(V4, 0x8001, 1968, &rtp(3));
                whole[at] = value;
                let refusal = receiver.parse(NOW, &mut by_hand(0x0800, &whole)).unwrap_err();
                let TunnelError::Wire(rist::wire::WireError::Field { field: got, .. }) = refusal else {
                    panic!("{refusal:?}")
                };
                assert_eq!(got, field);
            }
        }
        // For a flow that nobody announced: nothing to the layers above, no offence either. The sender takes no media at all.
        let mut unknown = Vec::new();
        sender.emit_media_on(NOW, 4000, &rtp(1), &mut unknown);
        assert!(matches!(receiver.parse(NOW, &mut unknown).unwrap().inner, Inner::OutOfBand(_)));
        let mut full = tunnel(Side::Sender, psk, Encapsulation::FullDatagram(V4));
        let mut back = media(&mut full, 1);
        let mut other = Tunnel::new(
            TunnelConfig { psk: psk.map(PskConfig::new), ..TunnelConfig::new(Role::Server, Side::Sender) },
            9,
        );
        assert!(matches!(other.parse(NOW, &mut back).unwrap().inner, Inner::OutOfBand(_)));
        // And what comes next is taken.
        assert_eq!(receiver.parse(NOW, &mut media(&mut sender, 2)).unwrap().inner, Inner::Media(&rtp(2)));
    }
}

/// What a peer has used says more than its keep-alive, which anyone may have forged.
#[test]
fn a_peer_gets_what_it_reads() {
    let keep_alive = |capabilities: Capabilities| {
        let mut body = Vec::new();
        KeepAlive { mac: [2; 6], capabilities, tail: &[] }.emit(&mut body);
        by_hand(0x88b5, &body)
    };
    let wraps = |tunnel: &mut Tunnel| opened(&media(tunnel, 1)).0;
    let mut sender = sender(None, Encapsulation::ReducedOverhead);
    assert_eq!(wraps(&mut sender), Protocol::ReducedOverhead);
    sender.parse(NOW, &mut keep_alive(Capabilities::BONDING)).unwrap();
    assert_eq!(wraps(&mut sender), Protocol::Ip, "it does not say V");
    let datagram = media(&mut sender, 1);
    let tunnels_own = Addresses::V4 { source: [192, 0, 0, 2], destination: [192, 0, 0, 1] };
    assert_eq!(opened(&datagram).1.unwrap().addresses, tunnels_own);
    sender.parse(NOW, &mut keep_alive(Capabilities::REDUCED_OVERHEAD)).unwrap();
    assert_eq!(wraps(&mut sender), Protocol::ReducedOverhead);
    sender.parse(NOW, &mut by_hand(0x0800, &ip(V4, 1969, 0x8000, &compound()))).unwrap();
    assert_eq!(wraps(&mut sender), Protocol::Ip, "it uses nothing else");
    let datagram = media(&mut sender, 1);
    assert_eq!(opened(&datagram).1.unwrap().addresses, V4.reversed());
    let mut reduced = by_hand(0x88b6, &[&[0x07, 0xb1, 0x80, 0x00][..], &compound()].concat());
    sender.parse(NOW, &mut reduced).unwrap();
    for forged in [keep_alive(Capabilities::BONDING), by_hand(0x0800, &ip(V4, 1969, 0x8000, &compound()))] {
        assert_eq!(wraps(&mut sender), Protocol::ReducedOverhead);
        sender.parse(NOW, &mut forged.clone()).unwrap();
    }
    assert_eq!(wraps(&mut sender), Protocol::ReducedOverhead, "for good");
    // Told to, it uses whole datagrams whatever the peer uses.
    let mut told = tunnel(Side::Sender, None, Encapsulation::full_datagram(Role::Client));
    told.parse(NOW, &mut reduced).unwrap();
    assert_eq!(wraps(&mut told), Protocol::Ip);
    // And each end says that it reads reduced overhead.
    let mut out = Vec::new();
    told.emit_keepalive(NOW, &mut out);
    let said = KeepAlive::parse(GreHeader::parse(&out).unwrap().1).unwrap().capabilities;
    assert!(said.contains(Capabilities::REDUCED_OVERHEAD));
}
