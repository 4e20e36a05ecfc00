//! A whole flow: sender and receiver of the bond over three links, and everything a network, an operator or a stranger
//! can do to them.
//!
//! For all inputs: both ends come to rest, what is delivered is in order and without repetition, and while nobody has
//! forged anything it is what was sent.

use crate::script::Script;
use bond::config::{
    Encapsulation, Extension, LinkOptions, Login, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig,
};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{LinkErrorKind, RadioHint, Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use rist::wire::gre::{GreHeader, Protocol};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Bitrate, Ecn, LinkId, Timestamp};

const LINKS: u8 = 3;
/// Datagrams on each way of each link.
const KEPT_MAX: usize = 64;
/// No network keeps a datagram longer. The receiver forgets a flow 10 s after its last packet, and would take what comes
/// later for a new one.
const TRAVEL_MAX: Duration = Duration::from_secs(2);
/// Outputs after one input before an end must rest.
const OUTPUTS_MAX: usize = 20_000;
/// Far from the sender's clock.
const CLOCK_AHEAD: Duration = Duration::from_secs(1000);

/// With the ECN codepoint it left with.
type Packet = (Channel, Vec<u8>, Ecn);
type Wire = VecDeque<Packet>;

struct World {
    now: Timestamp,
    sender_profile: Profile,
    sender: Sender,
    receiver: Receiver,
    up: [Wire; LINKS as usize],
    down: [Wire; LINKS as usize],
    /// How often an address changed: the sender's, or the receiver's where it calls.
    bindings: [u16; LINKS as usize],
    /// Links that exist, and those whose receiver calls.
    exists: [bool; LINKS as usize],
    listens: [bool; LINKS as usize],
    /// Where the sender believes the receiver of a listening link.
    believed: [Option<SocketAddr>; LINKS as usize],
    /// What each path makes of the ECN field; `None` leaves it alone.
    rewrites: [Option<Ecn>; LINKS as usize],
    sent: u32,
    /// The number in the last payload delivered.
    delivered: Option<u32>,
    /// Anything was damaged or forged.
    forged: bool,
}

fn configs(kind: u8) -> (SenderConfig, ReceiverConfig) {
    let profile = if kind & 1 == 1 { Profile::Simple } else { Profile::Main };
    let extension = if kind & 2 == 2 { Extension::Off } else { Extension::Offer };
    let main = profile == Profile::Main;
    let psk = (kind & 4 == 4 && main).then(|| PskConfig {
        passphrase: Secret::new("secret"),
        key_size: bond::config::KeySize::Aes128,
        rotate_after_packets: Some(40),
    });
    let login = (kind & 8 == 8 && main).then(|| Login { user: "van".into(), password: Secret::new("right") });
    let latency = Duration::from_millis(if kind & 16 == 16 { 100 } else { 1000 });
    let sender = SenderConfig {
        profile,
        extension,
        latency,
        psk: psk.clone(),
        srp: login.clone(),
        null_deletion: kind & 32 == 32,
        encapsulation: if main && kind & 96 == 96 { Encapsulation::FullDatagram } else { Encapsulation::default() },
        ecn: kind & 128 == 128,
        ..SenderConfig::default()
    };
    let receiver = ReceiverConfig {
        profile,
        extension,
        latency,
        psk,
        srp_users: login.into_iter().collect(),
        ecn: kind & 128 == 128,
        ..ReceiverConfig::default()
    };
    (sender, receiver)
}

fn keep(wire: &mut Wire, channel: Channel, bytes: &[u8], ecn: Ecn) {
    if wire.len() < KEPT_MAX {
        wire.push_back((channel, bytes.to_vec(), ecn));
    }
}

impl World {
    fn new(kind: u8) -> Self {
        let (sender, receiver) = configs(kind);
        let mut world = Self {
            now: Timestamp::ZERO,
            sender_profile: sender.profile,
            sender: Sender::new(sender, u64::from(kind), Timestamp::ZERO).expect("a configuration that can work"),
            receiver: Receiver::new(receiver, 7, Timestamp::ZERO + CLOCK_AHEAD).expect("the same"),
            up: Default::default(),
            down: Default::default(),
            bindings: [0; LINKS as usize],
            exists: [true, true, false],
            listens: [false; LINKS as usize],
            believed: [None; LINKS as usize],
            rewrites: [None; LINKS as usize],
            sent: 0,
            delivered: None,
            forged: false,
        };
        for link in 0..2 {
            let options = LinkOptions { weight: (kind & 64 == 64).then_some(0), ..LinkOptions::default() };
            world.input(SenderInput::AddLink { link: LinkId(link), options });
        }
        world
    }

    fn input(&mut self, input: SenderInput<'_>) {
        self.sender.handle_input(self.now, input);
        for _ in 0..OUTPUTS_MAX {
            match self.sender.poll_output(self.now) {
                SenderOutput::Transmit { link, channel, ecn, bytes } => {
                    let link = usize::from(link.0);
                    assert!(!self.listens[link] || self.believed[link].is_some(), "media before a call");
                    if !self.listens[link] || self.believed[link] == Some(self.caller(link)) {
                        keep(&mut self.up[link], channel, &bytes, ecn);
                    }
                }
                SenderOutput::Answer { link, to, bytes } => {
                    let link = usize::from(link.0);
                    if to == self.caller(link) {
                        keep(&mut self.up[link], Channel::Media, &bytes, Ecn::NotEct);
                    }
                }
                SenderOutput::Receiver { link, address } => {
                    let link = usize::from(link.0);
                    let called = address.ip() == self.caller(link).ip();
                    assert!(self.forged || called, "{address} never called");
                    self.believed[link] = Some(address);
                }
                SenderOutput::Timeout(at) => {
                    assert!(at > self.now);
                    return;
                }
                _ => {}
            }
        }
        panic!("the sender never rests");
    }

    fn receiver_input(&mut self, input: ReceiverInput<'_>) {
        let now = self.now + CLOCK_AHEAD;
        self.receiver.handle_input(now, input);
        for _ in 0..OUTPUTS_MAX {
            match self.receiver.poll_output(now) {
                ReceiverOutput::Transmit { to, channel, bytes, .. } => {
                    let link = usize::from(to.port() % 16);
                    if self
                        .bindings
                        .get(link)
                        .is_some_and(|_| to.port() >> 5 == self.address(link, channel).port() >> 5)
                    {
                        keep(&mut self.down[link], channel, &bytes, Ecn::NotEct);
                    }
                }
                ReceiverOutput::Deliver(delivered) => self.check(&delivered.bytes),
                ReceiverOutput::Timeout(at) => {
                    assert!(at > now);
                    return;
                }
                _ => {}
            }
        }
        panic!("the receiver never rests");
    }

    fn check(&mut self, bytes: &[u8]) {
        if self.forged {
            return;
        }
        let number = bytes.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).expect("a whole payload");
        assert_eq!(bytes, &payload(number)[..], "other content");
        assert!(number < self.sent && self.delivered.is_none_or(|last| number > last), "{number} out of order");
        self.delivered = Some(number);
    }

    /// The address a link's datagrams come from: port bits 0 to 3 the link, bit 4 the channel, the rest the binding. A link
    /// that listens stays where it is.
    fn address(&self, link: usize, channel: Channel) -> SocketAddr {
        let half = u16::from(channel == Channel::Control);
        let binding = if self.listens[link] { 64 } else { self.bindings[link] % 64 };
        SocketAddr::from(([10, 0, 0, 1], (100 + binding) << 5 | half << 4 | link as u16))
    }

    /// Where the receiver calls a listening link from.
    fn caller(&self, link: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 2], 5000 + (self.bindings[link] % 64) * 16 + link as u16))
    }

    /// The receiver calls on this link from now on.
    fn listen(&mut self, link: usize) {
        if self.exists[link] || self.sender_profile == Profile::Simple {
            return;
        }
        (self.exists[link], self.listens[link], self.believed[link]) = (true, true, None);
        self.input(SenderInput::Listen { link: LinkId(link as u16), options: LinkOptions::default() });
        let to = self.address(link, Channel::Media);
        self.receiver_input(ReceiverInput::Connect { local: 0, to });
    }

    fn give_up(&mut self, link: usize, (channel, mut bytes, ecn): Packet) {
        let ecn = self.rewrites[link].unwrap_or(ecn);
        let from = self.address(link, channel);
        self.receiver_input(ReceiverInput::Datagram { local: 0, from, channel, ecn, bytes: &mut bytes });
    }

    fn give_down(&mut self, link: usize, (channel, mut bytes, _): Packet) {
        let (id, from) = (LinkId(link as u16), self.caller(link));
        self.input(if self.listens[link] {
            SenderInput::Called { link: id, from, bytes: &mut bytes }
        } else {
            SenderInput::Datagram { link: id, channel, bytes: &mut bytes }
        });
    }

    /// Lets time pass in steps of 10 ms with a clean network, so that the ends talk.
    fn live(&mut self, steps: u8) {
        for _ in 0..steps {
            self.now += Duration::from_millis(10);
            self.input(SenderInput::Timeout);
            self.receiver_input(ReceiverInput::Timeout);
            for link in 0..usize::from(LINKS) {
                for packet in std::mem::take(&mut self.up[link]) {
                    self.give_up(link, packet);
                }
                for packet in std::mem::take(&mut self.down[link]) {
                    self.give_down(link, packet);
                }
            }
        }
    }

    fn push(&mut self, count: u8, class: PacketClass) {
        for _ in 0..count {
            let payload = Payload { bytes: payload(self.sent), source_time: self.now, class };
            self.sent += 1;
            self.input(SenderInput::Payload(payload));
        }
    }
}

fn payload(number: u32) -> Bytes {
    let mut bytes = vec![0x47, 1, 0, 0x10];
    bytes.extend(number.to_be_bytes());
    bytes.resize(188, number as u8);
    if number.is_multiple_of(5) {
        bytes.extend([0x47, 0x1f, 0xff, 0x10]);
        bytes.resize(376, 0xff);
    }
    bytes.into()
}

/// Sets the bits D and T of a clear keep-alive.
fn signal(datagram: &mut [u8], bits: u8) {
    let at = match GreHeader::parse(datagram) {
        Ok((GreHeader { protocol: Protocol::KeepAlive, nonce: None, .. }, body)) => datagram.len() - body.len() + 7,
        Ok((GreHeader { protocol: Protocol::Vsf, nonce: None, .. }, [0, 0, 0x80, 0, body @ ..])) => {
            datagram.len() - body.len() + 7
        }
        _ => return,
    };
    if let Some(capabilities) = datagram.get_mut(at) {
        *capabilities = *capabilities & 0x3f | bits & 0xc0;
    }
}

/// Kind, then steps.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    if let Some(kind) = script.byte() {
        let mut world = World::new(kind);
        while step(&mut world, &mut script).is_some() {}
        let _ = (world.sender.snapshot(world.now), world.receiver.snapshot(world.now + CLOCK_AHEAD));
    }
}

fn step(world: &mut World, script: &mut Script<'_>) -> Option<()> {
    let operation = script.byte()?;
    let argument = script.byte()?;
    let link = usize::from(argument % LINKS);
    let id = LinkId(link as u16);
    match operation % 26 {
        0 | 1 => world.live(argument % 64),
        2 => world.push(argument % 32, PacketClass::Video),
        3 => world.push(argument % 8, PacketClass::Idr),
        4 => {
            let jump = Duration::from_millis(u64::from(argument) * u64::from(argument));
            world.now += jump;
            if jump > TRAVEL_MAX {
                for wire in world.up.iter_mut().chain(&mut world.down) {
                    wire.clear();
                }
            }
            world.input(SenderInput::Timeout);
            world.receiver_input(ReceiverInput::Timeout);
        }
        5 => {
            if let Some(packet) = world.up[link].pop_front() {
                world.give_up(link, packet);
            }
        }
        6 => {
            if let Some(packet) = world.down[link].pop_front() {
                world.give_down(link, packet);
            }
        }
        7 => world.up[link].clear(),
        8 => world.down[link].clear(),
        9 => {
            if let Some(packet) = world.up[link].back().cloned() {
                world.give_up(link, packet.clone());
                world.give_up(link, packet);
            }
        }
        10 => {
            world.forged = true;
            if let Some(mut packet) = world.up[link].pop_front() {
                script.damage(&mut packet.1)?;
                world.give_up(link, packet);
            }
        }
        11 => {
            world.forged = true;
            if let Some(mut packet) = world.down[link].pop_front() {
                script.damage(&mut packet.1)?;
                world.give_down(link, packet);
            }
        }
        12 => {
            world.forged = true;
            let channel = if argument & 128 == 0 { Channel::Media } else { Channel::Control };
            world.give_up(link, (channel, script.bytes()?.to_vec(), Ecn::from_bits(argument)));
        }
        13 => {
            world.forged = true;
            let channel = if argument & 128 == 0 { Channel::Media } else { Channel::Control };
            world.give_down(link, (channel, script.bytes()?.to_vec(), Ecn::NotEct));
        }
        14 => {
            (world.exists[link], world.listens[link]) = (false, false);
            world.input(SenderInput::RemoveLink { link: id });
        }
        15 => {
            // A link of that number gives way.
            (world.exists[link], world.listens[link]) = (true, false);
            let options = LinkOptions { priority: argument >> 6, ..LinkOptions::default() };
            world.input(SenderInput::AddLink { link: id, options });
        }
        16 => {
            world.bindings[link] += 1;
            if argument & 128 == 0 {
                world.input(SenderInput::LinkAddressChanged { link: id });
            }
        }
        17 => world.input(SenderInput::LinkError { link: id, kind: LinkErrorKind::Unreachable }),
        // Bit 7: leave it alone from now on.
        19 => world.rewrites[link] = (argument & 128 == 0).then(|| Ecn::from_bits(argument >> 4)),
        18 => {
            let latency = Duration::from_millis(u64::from(argument) * 20);
            world.input(SenderInput::SetLatency(latency));
            world.receiver_input(ReceiverInput::SetLatency(latency));
        }
        20 => world.listen(link),
        // A stranger repeats what the receiver said, or says anything.
        21 | 22 => {
            let mut bytes = match world.down[link].front() {
                Some((_, bytes, _)) if operation % 26 == 21 => bytes.clone(),
                _ => {
                    world.forged = true;
                    script.bytes()?.to_vec()
                }
            };
            let from = SocketAddr::from(([203, 0, 113, argument], 9000));
            world.input(SenderInput::Called { link: id, from, bytes: &mut bytes });
        }
        // It ends, and goes on with links that are added.
        24 => {
            (world.exists, world.listens) = Default::default();
            world.input(SenderInput::Close);
        }
        // Whoever says farewell for another, or asks for another link, spoils nothing.
        25 => {
            if let Some((_, bytes, _)) = world.up[link].back_mut() {
                signal(bytes, argument);
            }
            if let Some((_, bytes, _)) = world.down[link].back_mut() {
                signal(bytes, argument);
            }
        }
        _ => {
            let hint = RadioHint { handover: argument & 128 == 0, ..RadioHint::default() };
            world.input(SenderInput::RadioHint { link: id, hint });
            let max = Bitrate::from_kbps(u64::from(argument) * 100);
            world.input(SenderInput::SetEncoderRange { min: Bitrate::ZERO, max });
            let _ = world.sender.rate_advice(world.now);
        }
    }
    Some(())
}
