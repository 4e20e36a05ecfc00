//! Several flows come to one receiver, also in one tunnel, told apart by virtual port and SSRC.

use bond::Channel;
use bond::config::ReceiverConfig;
use bond::receiver::{Delivered, Receiver, ReceiverInput, ReceiverOutput};
use rist::tunnel::{Inner, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{RangeEntry, RtcpPacket, Sdes, SenderReport, packets};
use rist::wire::rtp::RtpHeader;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, Timestamp};

const LATENCY: Duration = Duration::from_millis(200);

/// A tunnel of somebody else's sender, and our receiver.
struct Wire {
    now: Timestamp,
    /// Where the sender is.
    from: SocketAddr,
    tunnel: Tunnel,
    receiver: Receiver,
    delivered: Vec<Delivered>,
    /// Virtual port that a request came to, and the flow and number asked for.
    asked: Vec<(u16, u32, u16)>,
}

impl Wire {
    fn new(virtual_ports: &[u16], flows_max: usize) -> Self {
        let config =
            ReceiverConfig { latency: LATENCY, virtual_ports: virtual_ports.to_vec(), flows_max, ..Default::default() };
        let now = Timestamp::from_millis(500);
        Self {
            now,
            from: SocketAddr::from(([10, 0, 0, 1], 4000)),
            tunnel: Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 1),
            receiver: Receiver::new(config, 2, now).expect("a valid configuration"),
            delivered: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn give(&mut self, mut datagram: Vec<u8>) {
        let input = ReceiverInput::Datagram {
            local: 0,
            from: self.from,
            channel: Channel::Media,
            ecn: Ecn::NotEct,
            bytes: &mut datagram,
        };
        self.receiver.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.receiver.poll_output(self.now) {
                ReceiverOutput::Transmit { bytes, .. } => {
                    let mut bytes = bytes.to_vec();
                    let received = self.tunnel.parse(self.now, &mut bytes).expect("a valid answer");
                    let Inner::Rtcp(compound) = received.inner else { continue };
                    for packet in packets(compound) {
                        if let Ok(RtcpPacket::NackRange(nack)) = packet {
                            for number in nack.entries.iter().flat_map(RangeEntry::sequences) {
                                self.asked.push((received.flow_port, nack.media_ssrc, number));
                            }
                        }
                    }
                }
                ReceiverOutput::Deliver(delivered) => self.delivered.push(delivered),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Timeout(_) => return,
            }
        }
    }

    fn greet(&mut self, port: u16, ssrc: u32) {
        let (mut compound, mut datagram) = (Vec::new(), Vec::new());
        SenderReport { ssrc, ..SenderReport::default() }.emit(&mut compound);
        Sdes { ssrc, cname: b"theirs" }.emit(&mut compound);
        self.tunnel.emit_rtcp_on(self.now, port, &compound, &mut datagram);
        self.give(datagram);
    }

    fn media(&mut self, port: u16, ssrc: u32, sequence: u16) {
        self.media_of(port, ssrc, sequence, sequence);
    }

    /// The same, of the time that another number had.
    fn media_of(&mut self, port: u16, ssrc: u32, sequence: u16, time: u16) {
        let (mut rtp, mut datagram) = (Vec::new(), Vec::new());
        // One every 5 ms.
        let timestamp = 450 * u32::from(time);
        RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc, extension: None }
            .emit(&content(port, sequence), &mut rtp);
        self.tunnel.emit_media_on(self.now, port, &rtp, &mut datagram);
        self.give(datagram);
    }

    /// The sender closes its link.
    fn goodbye(&mut self) {
        let mut datagram = Vec::new();
        self.tunnel.emit_disconnect(self.now, &mut datagram);
        self.give(datagram);
    }

    fn keep_alive(&mut self) {
        let mut datagram = Vec::new();
        self.tunnel.emit_keepalive(self.now, &mut datagram);
        self.give(datagram);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.receiver.handle_input(self.now, ReceiverInput::Timeout);
            self.drain();
        }
    }

    fn came(&self, port: u16) -> Vec<&[u8]> {
        self.delivered.iter().filter(|delivered| delivered.virtual_port == port).map(|d| &d.bytes[..]).collect()
    }
}

fn content(port: u16, sequence: u16) -> [u8; 188] {
    let mut bytes = [0x47; 188];
    bytes[1..3].copy_from_slice(&port.to_be_bytes());
    bytes[3..5].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// Goal: flows of one tunnel that differ in nothing but the virtual port are delivered apart, and what is missing is asked for
/// at the port of its flow.
#[test]
fn one_tunnel_carries_several_flows() {
    const SSRC: u32 = 0x1234;
    let mut wire = Wire::new(&[2000, 2002], 1);
    let (ports, lost) = ([2000, 2002], [10, 20]);
    for sequence in 0..60 {
        for (port, lost) in ports.into_iter().zip(lost) {
            if sequence % 20 == 0 {
                wire.greet(port, SSRC);
            }
            if sequence != lost {
                wire.media(port, SSRC, sequence);
            }
        }
        // Nobody listens at this one.
        wire.media(2004, SSRC, sequence);
        wire.wait(Duration::from_millis(5));
        for (port, lost) in ports.into_iter().zip(lost) {
            // What is asked for is sent again.
            if wire.asked.contains(&(port, SSRC, lost)) && sequence == 45 {
                wire.media(port, SSRC | 1, lost);
            }
        }
    }
    wire.wait(2 * LATENCY);
    for port in ports {
        let expected: Vec<_> = (0..60).map(|sequence| content(port, sequence)).collect();
        assert_eq!(wire.came(port), expected.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>(), "{port}");
    }
    assert!(wire.asked.iter().all(|asked| [(2000, SSRC, 10), (2002, SSRC, 20)].contains(asked)), "{:?}", wire.asked);
    assert!(wire.came(2004).is_empty());
    let snapshot = wire.receiver.snapshot(wire.now);
    let flows: Vec<_> =
        snapshot.flows.iter().map(|flow| (flow.virtual_port, flow.flow, flow.recovered_packets)).collect();
    assert_eq!(flows, [(2000, SSRC, 1), (2002, SSRC, 1)]);
    assert_eq!((snapshot.refused_datagrams, snapshot.links.len()), (60, 1));
}

/// Goal: each port has room of its own: a second flow on one port is refused and takes nothing from the other port.
#[test]
fn a_flow_takes_no_room_on_another_port() {
    let mut wire = Wire::new(&[2000, 2002], 1);
    for sequence in 0..40 {
        for (port, ssrc) in [(2000, 2), (2000, 4), (2002, 6)] {
            wire.greet(port, ssrc);
            wire.media(port, ssrc, sequence);
        }
        wire.wait(Duration::from_millis(5));
    }
    wire.wait(2 * LATENCY);
    let flows: Vec<(u16, u32)> = wire.delivered.iter().map(|d| (d.virtual_port, d.flow)).collect();
    assert_eq!(flows.iter().filter(|flow| **flow == (2000, 2)).count(), 40);
    assert_eq!(flows.iter().filter(|flow| **flow == (2002, 6)).count(), 40);
    assert_eq!(flows.len(), 80);
}

/// Goal: without a list any port is taken, as many flows as are allowed for.
#[test]
fn without_a_list_any_port_is_taken() {
    let mut wire = Wire::new(&[], 2);
    for sequence in 0..40 {
        for port in [1968, 3000, 3002] {
            wire.greet(port, 8);
            wire.media(port, 8, sequence);
        }
        wire.wait(Duration::from_millis(5));
    }
    wire.wait(2 * LATENCY);
    assert_eq!([1968, 3000, 3002].map(|port| wire.came(port).len()), [40, 40, 0]);
}

/// Goal: a flow that gave way to another one is delivered to its end and comes back only when there is room: an output is never
/// given two flows by turns.
#[test]
fn a_flow_that_gave_way_is_drained_and_waits_for_room() {
    let mut wire = Wire::new(&[], 1);
    let step = Duration::from_millis(5);
    let play = |wire: &mut Wire, ssrcs: &[u32], numbers: std::ops::Range<u16>| {
        for sequence in numbers {
            for ssrc in ssrcs {
                wire.media(1968, *ssrc, sequence);
            }
            wire.wait(step);
        }
    };
    wire.receiver.handle_input(wire.now, ReceiverInput::SetLatency(Duration::from_secs(1)));
    play(&mut wire, &[2], 0..200);
    wire.wait(Duration::from_millis(600));
    // The first comes back while the second is there; then the second is silent.
    play(&mut wire, &[4], 320..520);
    play(&mut wire, &[4, 2], 520..720);
    wire.wait(Duration::from_millis(600));
    play(&mut wire, &[2], 840..1040);
    wire.wait(Duration::from_secs(2));
    let played: Vec<(u32, u16)> =
        wire.delivered.iter().map(|d| (d.flow, u16::from_be_bytes([d.bytes[3], d.bytes[4]]))).collect();
    let turns = [(2, 0, 200), (4, 320, 720), (2, 840, 1040)];
    assert_eq!(
        played
            .chunk_by(|a, b| a.0 == b.0 && a.1 + 1 == b.1)
            .map(|turn| (turn[0].0, turn[0].1, turn[turn.len() - 1].1 + 1))
            .collect::<Vec<_>>(),
        turns
    );
}

/// Goal: a flow of a packet in 1.4 s keeps its room while another one of that kind asks for it, and gives way once it is silent.
#[test]
fn a_slow_flow_is_not_silent_between_its_packets() {
    let mut wire = Wire::new(&[], 1);
    let first = wire.from;
    let other = SocketAddr::from(([10, 0, 0, 2], 4000));
    let step = Duration::from_millis(700);
    for sequence in (0..22_400u16).step_by(280) {
        wire.from = first;
        if sequence < 14_000 {
            wire.greet(1968, 2);
            wire.media_of(1968, 2, sequence / 280, sequence);
        }
        wire.wait(step);
        wire.from = other;
        // It begins when the first is known.
        if sequence >= 3_360 {
            wire.greet(1968, 4);
            wire.media_of(1968, 4, sequence / 280, sequence + 140);
        }
        wire.wait(step);
    }
    wire.wait(2 * LATENCY);
    let turns: Vec<u32> = wire.delivered.chunk_by(|a, b| a.flow == b.flow).map(|turn| turn[0].flow).collect();
    assert_eq!(turns, [2, 4], "{} delivered", wire.delivered.len());
    let of_first = wire.delivered.iter().filter(|delivered| delivered.flow == 2).count();
    assert!(of_first == 50 && wire.delivered.len() > 70, "{of_first} of {}", wire.delivered.len());
}

/// Goal: strangers who begin one flow after another do not add up, and what is drained is not put out for theirs.
#[test]
fn flows_that_give_way_do_not_add_up() {
    let mut wire = Wire::new(&[], 1);
    wire.receiver.handle_input(wire.now, ReceiverInput::SetLatency(Duration::from_secs(10)));
    for sequence in 0..1_000 {
        wire.media(1968, 2, sequence);
        wire.wait(Duration::from_millis(5));
    }
    for stranger in 0..12 {
        wire.wait(Duration::from_millis(600));
        for sequence in 0..20 {
            wire.media(1968, 4 + 2 * stranger, sequence);
            wire.wait(Duration::from_millis(5));
        }
        assert!(wire.receiver.snapshot(wire.now).flows.len() <= 3);
    }
    wire.wait(Duration::from_secs(10));
    assert_eq!(wire.delivered.iter().filter(|d| d.flow == 2).count(), 1_000);
}

/// Goal: the same of a flow whose sender closed it and comes back while another one has its room.
#[test]
fn a_closed_flow_comes_back_only_when_there_is_room() {
    let mut wire = Wire::new(&[], 1);
    let step = Duration::from_millis(5);
    let other = SocketAddr::from(([10, 0, 0, 2], 4000));
    let keep_alive = |wire: &mut Wire, last: bool| {
        let mut datagram = Vec::new();
        if last {
            wire.tunnel.emit_disconnect(wire.now, &mut datagram);
        } else {
            wire.tunnel.emit_keepalive(wire.now, &mut datagram);
        }
        wire.give(datagram);
    };
    keep_alive(&mut wire, false);
    for sequence in 0..200 {
        wire.media(1968, 2, sequence);
        wire.wait(step);
    }
    keep_alive(&mut wire, true);
    let first = wire.from;
    for sequence in 200..400 {
        wire.from = other;
        wire.media(1968, 4, sequence);
        wire.wait(step);
        if sequence >= 300 {
            wire.from = first;
            wire.media(1968, 2, sequence);
        }
    }
    wire.wait(Duration::from_secs(1));
    let played: Vec<(u32, u16)> =
        wire.delivered.iter().map(|d| (d.flow, u16::from_be_bytes([d.bytes[3], d.bytes[4]]))).collect();
    let all = (0..200).map(|number| (2, number)).chain((200..400).map(|number| (4, number)));
    assert!(played == all.collect::<Vec<_>>(), "{:?}", &played[200..]);
}

/// Goal: two senders take turns where there is room for one: what was refused of the one while the other had the room is neither
/// asked for nor lost. Method: each sends all the time but for pauses, in which the other one gets the room.
#[test]
fn a_flow_that_gave_way_and_comes_back_asks_for_nothing_of_meanwhile() {
    let mut wire = Wire::new(&[], 1);
    let other = SocketAddr::from(([10, 0, 0, 2], 4000));
    let first = wire.from;
    for sequence in 0..900u16 {
        // Of 5 ms each: the first pauses from 1 to 1.6 s, the second comes at 1 s and goes at 3 s.
        wire.from = other;
        if (200..600).contains(&sequence) {
            wire.media(1968, 4, sequence);
        }
        wire.from = first;
        if !(200..330).contains(&sequence) {
            wire.media(1968, 2, sequence);
        }
        wire.wait(Duration::from_millis(5));
    }
    wire.wait(Duration::from_secs(1));
    let played = |flow: u32| -> Vec<u16> {
        let of_flow = wire.delivered.iter().filter(|delivered| delivered.flow == flow);
        of_flow.map(|d| u16::from_be_bytes([d.bytes[3], d.bytes[4]])).collect()
    };
    let (one, two) = (played(2), played(4));
    // From half a second of silence on each has the room.
    assert!(one[..200].iter().copied().eq(0..200) && one[200] >= 700 && one.is_sorted(), "{:?}", &one[195..205]);
    assert!(one[200..].iter().copied().eq(one[200]..900), "{:?}", &one[200..]);
    assert!(two[0] >= 300 && two.iter().copied().eq(two[0]..600), "{two:?}");
    assert!(wire.asked.iter().all(|(_, flow, _)| *flow != 2), "{:?}", wire.asked);
}

/// Goal: who repeats an overheard packet of a flow that has ended keeps nobody out.
#[test]
fn a_repeated_packet_of_a_flow_that_has_ended_opens_nothing() {
    let mut wire = Wire::new(&[], 1);
    let mut datagram = Vec::new();
    wire.tunnel.emit_keepalive(wire.now, &mut datagram);
    wire.give(datagram);
    for sequence in 0..2200 {
        wire.media(1968, 2, sequence);
        wire.wait(Duration::from_millis(5));
    }
    let mut datagram = Vec::new();
    wire.tunnel.emit_disconnect(wire.now, &mut datagram);
    wire.give(datagram);
    wire.wait(Duration::from_secs(1));
    for sequence in 0..200u16 {
        if sequence % 20 == 0 {
            wire.from = SocketAddr::from(([10, 0, 0, 3], 4000));
            // The last one, and one from so long ago that its time is none of the flow's.
            wire.media(1968, 2, if sequence % 40 == 0 { 2199 } else { 3 });
        }
        wire.from = SocketAddr::from(([10, 0, 0, 2], 4000));
        wire.media(1968, 4, sequence);
        wire.wait(Duration::from_millis(5));
    }
    wire.wait(Duration::from_secs(1));
    let second = wire.delivered.iter().filter(|delivered| delivered.flow == 4).count();
    assert_eq!((second, wire.delivered.len()), (200, 2400));
}

/// Goal: a sender that closed its flow and is started again, with its SSRC and clock, begins wherever it likes: nothing of it is late,
/// and nothing counts as lost that never was. One that goes on is repaired.
#[test]
fn a_closed_flow_that_comes_back_counts_as_it_likes() {
    for (first, lost) in [(50, 0), (290, 0), (20_000, 0), (40_000, 0), (60_000, 0), (400, 100), (405, 105)] {
        let mut wire = Wire::new(&[], 1);
        wire.receiver.handle_input(wire.now, ReceiverInput::SetLatency(Duration::from_secs(1)));
        wire.keep_alive();
        for sequence in 0..300 {
            wire.media(1968, 2, sequence);
            wire.wait(Duration::from_millis(5));
        }
        wire.goodbye();
        wire.wait(Duration::from_millis(500));
        wire.tunnel = Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 9);
        wire.keep_alive();
        for time in 400..800 {
            wire.media_of(1968, 2, first + (time - 400), time);
            wire.wait(Duration::from_millis(5));
        }
        wire.wait(Duration::from_secs(2));
        let snapshot = wire.receiver.snapshot(wire.now);
        let seen = (wire.delivered.len(), snapshot.late_packets, snapshot.lost_packets);
        assert_eq!(seen, (700, 0, lost), "{first}, asked for {}", wire.asked.len());
    }
}

/// Goal: what was lost while another flow had the room, and nobody refused, is asked for: one stray packet costs nothing.
#[test]
fn a_stray_packet_during_a_pause_costs_a_flow_nothing() {
    let mut wire = Wire::new(&[], 1);
    let first = wire.from;
    for sequence in 0..400u16 {
        if sequence == 310 {
            wire.from = SocketAddr::from(([10, 0, 0, 2], 4000));
            wire.media(1968, 4, 9);
            wire.from = first;
        }
        if !(200..330).contains(&sequence) {
            wire.media(1968, 2, sequence);
        }
        wire.wait(Duration::from_millis(5));
    }
    let asked = (300..330).filter(|number| wire.asked.contains(&(1968, 2, *number))).count();
    assert!(asked > 20, "{asked} of 30 that still had time: {:?}", wire.asked);
}
