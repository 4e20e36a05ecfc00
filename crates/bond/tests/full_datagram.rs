//! Flows wrapped as whole IP datagrams (full-datagram mode of Main Profile), from our sender to our receiver.
#![allow(clippy::unwrap_used)]

mod simulation;

use bond::PacketClass;
use bond::config::{Encapsulation, KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bytes::Bytes;
use link_sim::SkewedClock;
use rist::wire::datagram::Datagram;
use rist::wire::gre::{GreHeader, Protocol};
use simulation::{Simulation, scenario};
use std::time::Duration;
use units::Timestamp;

const LATENCY: Duration = Duration::from_millis(800);

fn psk() -> PskConfig {
    PskConfig { passphrase: Secret::new("sesame"), key_size: KeySize::Aes256, rotate_after_packets: Some(500) }
}

/// Whole TS packets, recognizable.
fn stream(number: u32) -> Bytes {
    let packet = |i: u8| {
        let mut packet = vec![i; 188];
        packet[0] = 0x47;
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        packet
    };
    (0..7).flat_map(packet).collect::<Vec<u8>>().into()
}

/// Five seconds of media over two links with 2 % loss that take IP packets of `mtu` bytes; checks that all of it arrives.
fn carry(encapsulation: Encapsulation, secret: Option<PskConfig>, mtu: u32) -> Simulation {
    let sender = SenderConfig { latency: LATENCY, encapsulation, psk: secret.clone(), ..Default::default() };
    let receiver = ReceiverConfig { latency: LATENCY, psk: secret, ..Default::default() };
    let mut paths = [scenario::link("a", 4000, 20.0, 200), scenario::link("b", 4000, 35.0, 200)];
    for path in &mut paths {
        (path.up.mtu, path.up.loss, path.down.loss) = (Some(mtu), 0.02, 0.02);
    }
    let mut simulation = Simulation::without_links(sender, receiver, &paths, 4, SkewedClock::new(55_000_000, 0));
    simulation.overheard = Some(Vec::new());
    for link in 0..2 {
        simulation.add_link(link, LinkOptions { mtu: mtu as u16, ..Default::default() });
    }
    let mut sent = Vec::new();
    for number in 0..1250 {
        simulation.run_until(Timestamp::from_millis(500 + u64::from(number) * 4));
        let payload = stream(number);
        sent.extend_from_slice(&payload);
        simulation.push(payload, PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(3));
    let got: Vec<u8> = simulation.delivered.iter().flat_map(|(_, delivered)| delivered.bytes.to_vec()).collect();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    let snapshot = simulation.sender.snapshot(simulation.now);
    assert!(snapshot.extension, "both ends are of a kind");
    simulation
}

#[test]
fn a_flow_of_whole_datagrams_is_delivered_and_answered_so() {
    for secret in [None, Some(psk())] {
        let clear = secret.is_none();
        let simulation = carry(Encapsulation::FullDatagram, secret, 1500);
        let (mut whole, mut answers, mut early) = (0, 0, 0);
        for datagram in simulation.overheard.iter().flatten() {
            let (header, body) = GreHeader::parse(&datagram.bytes).unwrap();
            match header.protocol {
                Protocol::Ip if datagram.up => whole += 1,
                Protocol::Ip => answers += 1,
                // The receiver asks for an echo before it has heard more than a keep-alive.
                Protocol::ReducedOverhead if !datagram.up => early += 1,
                // Under encryption the next nonce is announced.
                Protocol::Vsf => assert!(!clear),
                other => assert_eq!(other, Protocol::KeepAlive),
            }
            if clear && header.protocol == Protocol::Ip {
                assert!(Datagram::parse(body).unwrap().is_some());
            }
        }
        assert!(early <= 4, "{early}");
        assert!(whole > 1250 && answers > 100, "{whole} {answers}");
    }
}

/// A path of 1388 bytes takes seven TS packets with virtual ports, and six in a whole datagram.
#[test]
fn whole_datagrams_fit_the_path() {
    for (encapsulation, packets) in [(Encapsulation::ReducedOverhead, 7), (Encapsulation::FullDatagram, 6)] {
        let simulation = carry(encapsulation, Some(psk()), 1388);
        assert_eq!(simulation.sender.payload_bytes_max(), packets * 188, "{encapsulation:?}");
        let longest = simulation.overheard.iter().flatten().map(|datagram| datagram.bytes.len()).max().unwrap();
        assert!(longest + simulation::IP_BYTES <= 1388, "{longest}");
    }
}

/// 28 bytes of IPv4 and UDP instead of four of virtual ports.
#[test]
fn whole_datagrams_cost_24_bytes_more() {
    for (encapsulation, bytes) in [(Encapsulation::ReducedOverhead, 1340), (Encapsulation::FullDatagram, 1364)] {
        let simulation = carry(encapsulation, None, 1500);
        let media =
            simulation.overheard.iter().flatten().filter(|datagram| datagram.up && datagram.bytes.len() == bytes);
        let media = media.count();
        assert!((1250..1500).contains(&media), "{media} of {bytes} bytes");
    }
}
