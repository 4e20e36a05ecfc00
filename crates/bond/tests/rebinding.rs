//! Who may take a link over: its sender from another address, but nobody who repeats what he overheard.

use bond::config::{KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::Cause;
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

/// Both ends without a network between them.
struct Wire {
    now: Timestamp,
    sender: Sender,
    receiver: Receiver,
    /// Where the sender's datagrams come from.
    from: SocketAddr,
    /// Everything the sender sent.
    overheard: Vec<Bytes>,
    /// Where the receiver's answers went, in datagrams.
    answered: Vec<SocketAddr>,
    moved: Vec<(SocketAddr, SocketAddr)>,
    /// What else the receiver told of links.
    told: Vec<String>,
    delivered: u32,
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4000))
}

impl Wire {
    fn new() -> Self {
        let psk =
            PskConfig { passphrase: Secret::new("a secret"), key_size: KeySize::Aes128, rotate_after_packets: None };
        let latency = Duration::from_millis(200);
        let sender = SenderConfig { psk: Some(psk.clone()), latency, ..Default::default() };
        let receiver = ReceiverConfig { psk: Some(psk), latency, ..Default::default() };
        let now = Timestamp::from_millis(1000);
        let mut sender = Sender::new(sender, 1, now).expect("a valid configuration");
        let options = LinkOptions { name: "van".into(), ..Default::default() };
        sender.handle_input(now, SenderInput::AddLink { link: LinkId(4), options });
        Self {
            now,
            sender,
            receiver: Receiver::new(receiver, 2, now).expect("a valid configuration"),
            from: address(1),
            overheard: Vec::new(),
            answered: Vec::new(),
            moved: Vec::new(),
            told: Vec::new(),
            delivered: 0,
        }
    }

    /// Media every 5 ms for so long.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 5 {
            self.now += Duration::from_millis(5);
            let payload =
                Payload { bytes: Bytes::from(vec![0x47; 188]), source_time: self.now, class: PacketClass::Video };
            self.sender.handle_input(self.now, SenderInput::Payload(payload));
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        for _ in 0..100 {
            match self.sender.poll_output(self.now) {
                SenderOutput::Transmit { bytes, .. } => {
                    self.overheard.push(bytes.clone());
                    self.hand_over(self.from, &bytes);
                }
                SenderOutput::Answer { .. } | SenderOutput::Receiver { .. } => unreachable!("no link listens here"),
                SenderOutput::Event(_) => {}
                SenderOutput::Timeout(_) => return,
            }
        }
        panic!("the ends never come to rest");
    }

    /// Gives the receiver a datagram and the sender the answers to its address.
    fn hand_over(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let input =
            ReceiverInput::Datagram { local: 0, from, channel: Channel::Media, ecn: Ecn::NotEct, bytes: &mut bytes };
        self.receiver.handle_input(self.now, input);
        loop {
            match self.receiver.poll_output(self.now) {
                ReceiverOutput::Transmit { to, channel, bytes, .. } => {
                    self.answered.push(to);
                    if to == self.from {
                        let mut bytes = bytes.to_vec();
                        let input = SenderInput::Datagram { link: LinkId(4), channel, bytes: &mut bytes };
                        self.sender.handle_input(self.now, input);
                    }
                }
                ReceiverOutput::Deliver(_) => self.delivered += 1,
                ReceiverOutput::Event(event) => match event.cause {
                    Cause::PeerMoved { from, to, .. } => self.moved.push((from, to)),
                    Cause::PeerAppeared { .. } | Cause::PeerLost { .. } => self.told.push(event.to_string()),
                    _ => {}
                },
                ReceiverOutput::Timeout(_) => return,
            }
        }
    }
}

/// Goal: a link follows its sender to a new address at once, everything is delivered, and the operator sees one link that moved.
#[test]
fn a_link_follows_its_sender() {
    let mut wire = Wire::new();
    wire.run(2000);
    wire.from = address(2);
    wire.run(3000);
    assert_eq!(wire.moved, [(address(1), address(2))]);
    assert_eq!(wire.told.len(), 1, "it was first heard once, and never silent: {:?}", wire.told);
    let links = wire.receiver.snapshot(wire.now).links;
    assert_eq!(links.iter().map(|link| link.peer).collect::<Vec<_>>(), [address(2)]);
    wire.run(300);
    assert!(wire.delivered >= 1000, "{} of 1060", wire.delivered);
}

/// Goal: every datagram of two seconds, repeated from elsewhere, changes nothing: the link stays, reports go to its sender.
#[test]
fn what_is_repeated_takes_nothing_over() {
    let mut wire = Wire::new();
    wire.run(2000);
    let overheard = wire.overheard.clone();
    assert!(overheard.len() > 400);
    for datagram in &overheard {
        wire.hand_over(address(9), datagram);
    }
    wire.answered.clear();
    wire.run(3000);
    assert_eq!(wire.moved, []);
    let genuine = wire.answered.iter().filter(|to| **to == address(1)).count();
    let stranger = wire.answered.len() - genuine;
    assert!(genuine > 150 && stranger < 30, "{genuine} answers to the sender, {stranger} to the stranger");
    let snapshot = wire.sender.snapshot(wire.now);
    assert!(snapshot.extension && snapshot.links[0].in_flight_packets < 20, "{snapshot:?}");
    wire.run(300);
    assert!(wire.delivered >= 1000, "{} of 1060", wire.delivered);
}

/// Goal: strangers without the key, however many, are neither remembered nor answered, and a link may still move.
#[test]
fn a_flood_of_strangers_is_not_remembered() {
    let mut wire = Wire::new();
    wire.run(1000);
    wire.answered.clear();
    for i in 0..5000u32 {
        let mut forged = vec![0x30, 0x08, 0x88, 0xb6];
        forged.extend(i.to_be_bytes());
        forged.extend([0, 0, 0, 1]);
        forged.extend([i as u8; 40]);
        let from = SocketAddr::from(([192, 0, 2, (i >> 8) as u8], i as u16));
        wire.hand_over(from, &forged);
    }
    assert!(wire.answered.iter().all(|to| *to == address(1)));
    assert_eq!(wire.receiver.snapshot(wire.now).links.len(), 1);
    wire.from = address(2);
    wire.run(3000);
    assert_eq!(wire.moved, [(address(1), address(2))]);
}
