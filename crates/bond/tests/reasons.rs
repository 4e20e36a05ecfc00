//! What a receiver does not take is counted by reason, because each reason has another remedy.

use bond::Channel;
use bond::config::{KeySize, Profile, PskConfig, ReceiverConfig};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::stats::{LatePackets, RefusedDatagrams};
use rist::psk::Psk;
use rist::tunnel::{Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{Sdes, SenderReport};
use rist::wire::rtp::{RtpHeader, SSRC_RETRANSMIT};
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, Secret, Timestamp};

const LATENCY: Duration = Duration::from_millis(100);
const FLOW: u32 = 0x1234_5678;

/// A receiver, and the time.
struct World {
    now: Timestamp,
    receiver: Receiver,
    delivered: usize,
}

impl World {
    fn new(config: ReceiverConfig) -> Self {
        let now = Timestamp::from_millis(500);
        let config = ReceiverConfig { latency: LATENCY, ..config };
        Self { now, receiver: Receiver::new(config, 2, now).expect("a valid configuration"), delivered: 0 }
    }

    fn give(&mut self, from: u16, mut datagram: Vec<u8>) {
        let from = SocketAddr::from(([10, 0, 0, 1], from));
        let bytes = &mut datagram;
        let input = ReceiverInput::Datagram { local: 0, from, channel: Channel::Media, ecn: Ecn::NotEct, bytes };
        self.receiver.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.receiver.poll_output(self.now) {
                ReceiverOutput::Deliver(_) => self.delivered += 1,
                ReceiverOutput::Timeout(_) => return,
                _ => {}
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.receiver.handle_input(self.now, ReceiverInput::Timeout);
            self.drain();
        }
    }

    fn refused(&self) -> RefusedDatagrams {
        let snapshot = self.receiver.snapshot(self.now);
        assert_eq!(snapshot.refused.total(), snapshot.refused_datagrams);
        snapshot.refused
    }
}

/// A packet of the flow, one every millisecond.
fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let timestamp = 90 * u32::from(sequence);
    RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc, extension: None }
        .emit(&[0x47; 188], &mut out);
    out
}

/// A sender's end of a tunnel.
fn tunnel(passphrase: Option<&str>, seed: u64) -> Tunnel {
    let mut config = TunnelConfig::new(Role::Client, Side::Sender);
    config.psk = passphrase.map(|text| rist::tunnel::PskConfig {
        psk: Psk::new(text),
        key_size: rist::psk::KeySize::Aes256,
        rotate_after_packets: None,
        accept_revision_0: false,
    });
    Tunnel::new(config, seed)
}

fn media(tunnel: &mut Tunnel, now: Timestamp, port: u16, sequence: u16) -> Vec<u8> {
    let mut datagram = Vec::new();
    tunnel.emit_media_on(now, port, &rtp(FLOW, sequence), &mut datagram);
    datagram
}

/// What a sender says on a port before its media is taken there.
fn greeting(tunnel: &mut Tunnel, now: Timestamp, port: u16) -> Vec<u8> {
    let (mut compound, mut datagram) = (Vec::new(), Vec::new());
    SenderReport { ssrc: FLOW, ..SenderReport::default() }.emit(&mut compound);
    Sdes { ssrc: FLOW, cname: b"theirs" }.emit(&mut compound);
    tunnel.emit_rtcp_on(now, port, &compound, &mut datagram);
    datagram
}

fn with_passphrase() -> ReceiverConfig {
    let psk = PskConfig { passphrase: Secret::new("theirs"), key_size: KeySize::Aes256, rotate_after_packets: None };
    ReceiverConfig { psk: Some(psk), ..Default::default() }
}

#[test]
fn late_packets_are_counted_by_what_came_late() {
    let mut world = World::new(ReceiverConfig { profile: Profile::Simple, ..Default::default() });
    for sequence in 10_000..16_000 {
        // Two are lost, one by itself and one that is sent again.
        if ![15_900, 15_910].contains(&sequence) {
            world.give(4000, rtp(FLOW, sequence));
        }
        world.wait(1);
    }
    world.wait(200);
    world.give(4000, rtp(FLOW, 15_900));
    world.give(4000, rtp(FLOW | SSRC_RETRANSMIT, 15_910));
    for _ in 0..3 {
        world.give(4000, rtp(FLOW, 10_001));
    }
    let snapshot = world.receiver.snapshot(world.now);
    let expected = LatePackets { originals: 1, retransmissions: 1, outdated: 3 };
    assert_eq!((snapshot.late, snapshot.late_packets, snapshot.lost_packets), (expected, 5, 2));
    assert_eq!(snapshot.flows[0].late, expected);
    assert_eq!(world.delivered, 5998);
}

#[test]
fn what_is_not_authentic_is_counted_by_what_is_wrong_with_it() {
    let mut world = World::new(with_passphrase());
    let (mut genuine, mut other, mut clear) = (tunnel(Some("theirs"), 1), tunnel(Some("others"), 2), tunnel(None, 3));
    let overheard = media(&mut genuine, world.now, 1968, 7);
    world.give(4000, overheard.clone());
    world.give(4000, media(&mut genuine, world.now, 1968, 8));
    assert_eq!(world.refused(), RefusedDatagrams::default());
    world.give(4000, overheard);
    for sequence in 0..2 {
        world.give(4000, media(&mut other, world.now, 1968, sequence));
    }
    for sequence in 0..3 {
        world.give(4000, media(&mut clear, world.now, 1968, sequence));
    }
    let expected = RefusedDatagrams { replayed: 1, wrong_key: 2, clear: 3, ..Default::default() };
    assert_eq!(world.refused(), expected);

    let mut open = World::new(ReceiverConfig::default());
    open.give(4000, media(&mut other, world.now, 1968, 9));
    assert_eq!(open.refused(), RefusedDatagrams { encrypted: 1, ..Default::default() });
}

#[test]
fn what_nobody_wants_is_counted_by_why() {
    let mut world = World::new(ReceiverConfig { virtual_ports: vec![2000], ..Default::default() });
    let mut sender = tunnel(None, 1);
    world.give(4000, greeting(&mut sender, world.now, 2000));
    for sequence in 0..5 {
        world.give(4000, media(&mut sender, world.now, 2000, sequence));
        world.wait(1);
    }
    // Another port; then numbers, and a time, that have nothing to do with the flow's; then no message at all.
    world.give(4000, media(&mut sender, world.now, 2002, 5));
    world.give(4000, media(&mut sender, world.now, 2000, 30_000));
    for _ in 0..2 {
        world.give(4000, vec![0x55; 60]);
    }
    let unwanted = RefusedDatagrams { unwanted: 1, out_of_window: 1, malformed: 2, ..Default::default() };
    assert_eq!(world.refused(), unwanted);
    // More addresses in one moment than are looked at.
    for port in 0..200 {
        world.give(10_000 + port, greeting(&mut tunnel(None, 1), world.now, 2000));
    }
    let strangers = world.refused().strangers;
    assert!((100..200).contains(&strangers), "{strangers}");
    assert_eq!(world.refused(), RefusedDatagrams { strangers, ..unwanted });
}
