//! Goal: no datagram makes a parser panic, loop or grow beyond its bound. Method: captured and emitted messages, changed
//! by a seeded generator; every parser sees every input.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Rng, mutate};
use rist::null_deletion::{TS_PACKET_BYTES_LONG, TS_PACKETS_MAX, restore};
use rist::srp::{Entropy, Login, Password, SrpConfig};
use rist::tunnel::{PskConfig, Role, Side, Tunnel, TunnelConfig};
use rist::wire::buffer_negotiation::BufferNegotiation;
use rist::wire::eapol::EapolFrame;
use rist::wire::gre::GreHeader;
use rist::wire::keepalive::{Announcement, FEATURES_MAX, KeepAlive};
use rist::wire::lqm::Lqm;
use rist::wire::reduced::ReducedHeader;
use rist::wire::rtcp::{
    App, BitmaskEntry, COMPOUND_PACKETS_MAX, Echo, EchoKind, ExtendedSequence, NackBitmask, NackRange, RangeEntry,
    ReceiverReport, ReportBlock, RtcpPacket, Xr, packets,
};
use rist::wire::rtp::RtpPacket;
use rist::wire::vsf::VsfSubtype;
use units::Timestamp;

/// Inputs in each test run.
const ITERATIONS: u64 = 400_000;
/// Inputs of the long run: `cargo test -p rist -- --ignored`.
const ITERATIONS_LONG: u64 = 20_000_000;

const CAPTURED: [&str; 22] = [
    "000088b6800007b180c8000603b7047eeeab79d31833dc0bdb24f440000000000000000081ca000303b7047e010573656e644100",
    "000088b6800007b180c9000103b7047e81ca000303b7047e010573656e64410082cc000503b7047e5249535483aa842da8e9160700000000",
    "000088b607b1800080c9000103b7047e81ca000303b7047e010572656376410083cc000503b7047e5249535483aa842da8e9160700000000",
    "000088b607b1800081c9000703b7047e0000000000000000000000000000000000000000842da8fe81ca000303b7047e010572656376410080cf0004d04dd7df0400000283aa842da8fedf4782cc0005d04dd7df5249535483aa842da8fedfc800000000",
    "000088b6800107b08021001dddd7df94982f9b0e52495354544553543030303030303239",
    "000088b607b1800080c90001982f9b0e81ca0003982f9b0e010572656376410080cc0003982f9b0e52495354001d0002",
    "000088b607b1800080c9000139f027e881ca000339f027e8010572656376410081cd00030000000039f027e8001d0003",
    "8021001dddeaee8bbbc14bb252495354544553543030303030303239",
    "80c90001bbc14bb281ca0003bbc14bb2010572656376410080cc0003bbc14bb252495354001d0002",
    "300888b62126876100000018744163ab7db41c9ba70a1d6c7105fed003b465f7aa15a69230f0594f4abb2d52",
    "304888b6239606ed0000000253c212e7d214aa9e1ddca81482ea7dda21b78fc7cab492c100d311835973f7bed387e61849cbbf8a6fe3c735bebc2c9f5be2b58a",
    "000088b6800107b090210000db42f2a4c0fbffdc5249000180350000",
    "1010cce000000000000080000ad2901333022520",
    "100888b5000000030ad2901333022520",
    "1010cce0000000060000800204b000000000",
    "1010cce00000002400000000800107b080210000de48c8308be6f6f052495354544553543030303030303030",
    "3050cce080eeb67300000000a59c301982bfa02da83b4571",
    "0000888e02010000",
    "0000888e0200000a02fc000a01616c696365",
    "0000888e0200000602ff00061303",
    "1008888e000000140300000601c100061310",
    "00000001000003e8000001f4000003e80000000a000000080000000700000003000000020000138800000078",
];

fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = CAPTURED.iter().map(|text| hex::decode(text).unwrap()).collect();
    // Every capture also without its GRE header and virtual ports, for the parsers behind them.
    corpus.extend(corpus.clone().into_iter().filter(|bytes| bytes.len() > 8).map(|bytes| bytes[8..].to_vec()));
    let mut compound = Vec::new();
    ReceiverReport::emit(1, &[ReportBlock::default(); 3], Some(&Lqm::default()), &mut compound);
    NackRange::emit(2, (0..20).map(|first| RangeEntry { first, additional: 9 }), &mut compound);
    NackBitmask::emit(1, 2, (0..20).map(|first| BitmaskEntry { first, following: 0xaaaa }), &mut compound);
    ExtendedSequence { media_ssrc: 2, high: 3 }.emit(&mut compound);
    Echo { padding_bytes: 64, ..Echo::default() }.emit(EchoKind::Request, &mut compound);
    Xr::emit(1, Some(5), &[], &mut compound);
    App { subtype: 7, ssrc: 1, name: *b"BOND", body: &[1; 40] }.emit(&mut compound);
    corpus.push(compound);
    let mut json = vec![0; 8];
    Announcement::default().emit(&mut json);
    corpus.push(json);
    corpus
}

/// Tunnels of all kinds; they live through the whole run.
fn tunnels() -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    for (role, side) in [(Role::Client, Side::Sender), (Role::Server, Side::Receiver)] {
        for secured in 0..4 {
            let mut config = TunnelConfig::new(role, side);
            if secured & 1 == 1 {
                let psk = PskConfig { accept_revision_0: true, ..PskConfig::new("ristpsk128") };
                config.psk = Some(psk);
            }
            if secured & 2 == 2 {
                let login = Login { username: "alice".to_owned(), password: Password::new("wonderland") };
                config.srp = Some(SrpConfig::new(vec![login], Entropy::new([1; 32])));
            }
            tunnels.push(Tunnel::new(config, secured));
        }
    }
    tunnels
}

fn parse_rtp(bytes: &[u8]) {
    let Ok(packet) = RtpPacket::parse(bytes) else { return };
    let mut again = Vec::new();
    packet.header.emit(packet.payload, &mut again);
    assert_eq!(RtpPacket::parse(&again).unwrap(), packet);
    if let Some(extension) = packet.header.extension {
        let mut restored = Vec::new();
        let _ = restore(&extension, packet.payload, &mut restored);
        assert!(restored.len() <= (TS_PACKETS_MAX * TS_PACKET_BYTES_LONG).max(packet.payload.len()));
    }
}

fn parse_rtcp(bytes: &[u8]) {
    let mut seen = 0;
    for packet in packets(bytes) {
        seen += 1;
        match packet {
            Ok(RtcpPacket::NackRange(nack)) => {
                let asked: usize = nack.entries.iter().map(|entry| usize::from(entry.additional) + 1).sum();
                assert!(asked <= nack.entries.len() << 16 && nack.entries.len() * 4 <= bytes.len());
            }
            Ok(RtcpPacket::NackBitmask(nack)) => {
                let asked = nack.entries.iter().flat_map(BitmaskEntry::sequences).count();
                assert!(asked <= nack.entries.len() * 17);
            }
            Ok(RtcpPacket::EchoRequest(echo)) => {
                let mut answer = Vec::new();
                echo.response(0).emit(EchoKind::Response, &mut answer);
                assert!(answer.len() <= bytes.len(), "an answer never amplifies");
            }
            other => drop(format!("{other:?}")),
        }
    }
    assert!(seen <= COMPOUND_PACKETS_MAX + 1);
}

fn parse_others(bytes: &[u8]) {
    if let Ok((header, rest)) = GreHeader::parse(bytes) {
        let mut again = Vec::new();
        header.emit(&mut again);
        again.extend_from_slice(rest);
        assert_eq!(GreHeader::parse(&again), Ok((header, rest)));
    }
    if let Ok(keepalive) = KeepAlive::parse(bytes)
        && let Ok(Some(announcement)) = keepalive.announcement()
    {
        assert!(announcement.vendor.features.len() <= FEATURES_MAX);
    }
    let _ = Announcement::parse(bytes);
    let _ = BufferNegotiation::parse(bytes);
    let _ = EapolFrame::parse(bytes);
    let _ = Lqm::parse(bytes);
    let _ = ReducedHeader::parse(bytes);
    let _ = VsfSubtype::parse(bytes);
}

fn run(seed: u64, iterations: u64) {
    let corpus = corpus();
    let mut tunnels = tunnels();
    let mut rng = Rng(seed);
    let mut out = Vec::new();
    for iteration in 0..iterations {
        let now = Timestamp::from_micros(iteration * 500);
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        mutate(&mut rng, &mut bytes);
        parse_rtp(&bytes);
        parse_rtcp(&bytes);
        parse_others(&bytes);
        let index = rng.below(tunnels.len());
        let tunnel = &mut tunnels[index];
        let _ = tunnel.parse(now, &mut bytes);
        out.clear();
        while tunnel.poll_control(now, &mut out) {}
        assert!(out.len() <= 1024, "an answer to {} bytes", bytes.len());
    }
}

#[test]
fn mutated_datagrams_break_no_parser() {
    run(1, ITERATIONS);
}

#[test]
#[ignore = "minutes long, for cargo test -- --ignored"]
fn mutated_datagrams_break_no_parser_in_a_long_run() {
    run(2, ITERATIONS_LONG);
}
