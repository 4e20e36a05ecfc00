//! A sender and a receiver over emulated links, in virtual time.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used)] // a scenario that can not be set up must fail

pub mod bound;
pub mod committed;
pub mod follow;
pub mod held;
pub mod load;
pub mod scenario;
pub mod score;

use bond::config::{LinkOptions, ReceiverConfig, SenderConfig};
use bond::event::Event;
use bond::receiver::{Delivered, Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use held::Owner;
use link_sim::{Bottleneck, DropReason, Path, PathConfig, SkewedClock};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash};
use std::net::SocketAddr;
use units::{Ecn, LinkId, Timestamp};

/// IPv4 and UDP.
pub const IP_BYTES: usize = 28;

/// What travels on a path; towards the receiver with its time of sending.
pub type Packet = (Timestamp, Channel, Vec<u8>);

/// Both ends and the links between them.
pub struct Simulation {
    pub now: Timestamp,
    pub sender: Sender,
    pub receiver: Receiver,
    pub paths: Vec<Path<Packet>>,
    pub clock: SkewedClock,
    sender_wake: Timestamp,
    receiver_wake: Timestamp,
    pub delivered: Vec<(Timestamp, Delivered)>,
    /// The last source time of each flow at this receiver.
    newest: BTreeMap<(u16, u32), Timestamp>,
    pub sender_events: Vec<Event>,
    pub receiver_events: Vec<Event>,
    /// IP bytes sent from the sender.
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub up_packets: u64,
    /// Bytes sent to addresses that are no link's.
    pub astray: BTreeMap<SocketAddr, u64>,
    /// What the receiver sent, when asked for.
    pub overheard_down: Option<Vec<Bytes>>,
    /// What either end sent over the links, when asked for.
    pub overheard: Option<Vec<Overheard>>,
    /// One-way delay of every full datagram, in microseconds; indexed by link.
    pub one_way: Vec<Vec<u32>>,
    /// Every full datagram from the sender, while it is recorded.
    pub log: Option<Vec<Carried>>,
    /// Every datagram from the sender as its link took it, while it is recorded; and every one back.
    pub offers: Option<Vec<Offer>>,
    pub offers_down: Option<Vec<Offer>>,
    /// Timeouts that the sender and the receiver handled.
    pub wakes: [Wakes; 2],
    /// All bytes of all datagrams, with their time, link and ECN field: towards the receiver and back.
    pub digests: Option<[DefaultHasher; 2]>,
}

/// One datagram at the entry of a link.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    pub link: usize,
    pub at: Timestamp,
    pub ip_bytes: u64,
    /// The queue had no room for it.
    pub overflowed: bool,
    /// In the queue with it.
    pub queued_bytes: u64,
}

/// How often an end was woken by its own timeout, against what it did: datagrams sent by a sender, heard by a receiver, and
/// packets that this delivered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wakes {
    /// Within any second of the emulated time, the most, and the most beyond what was done in it.
    pub most: u64,
    pub most_idle: u64,
    second: u64,
    woken: u64,
    done: u64,
}

impl Wakes {
    fn woken(&mut self, now: Timestamp) {
        self.at(now);
        self.woken += 1;
    }

    fn done(&mut self, now: Timestamp) {
        self.at(now);
        self.done += 1;
    }

    /// Judges the seconds that are over.
    fn at(&mut self, now: Timestamp) {
        let second = now.as_millis() / 1000;
        if second != self.second {
            self.most = self.most.max(self.woken);
            self.most_idle = self.most_idle.max(self.woken.saturating_sub(self.done));
            (self.second, self.woken, self.done) = (second, 0, 0);
        }
    }
}

/// A datagram that a stranger has read on its way.
#[derive(Debug, Clone)]
pub struct Overheard {
    pub link: usize,
    pub up: bool,
    pub bytes: Bytes,
}

/// One full datagram from the sender.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    pub link: usize,
    pub sent: Timestamp,
    /// `None` when it was lost.
    pub arrived: Option<Timestamp>,
    /// The packet it carries; `None` for a repair packet.
    pub number: Option<u32>,
}

pub fn address(link: usize, binding: u32, channel: Channel) -> SocketAddr {
    let port = 20_000 + 2 * binding as u16 + u16::from(channel == Channel::Control);
    SocketAddr::from(([10, 0, 0, link as u8 + 1], port))
}

impl Simulation {
    /// All links are added at time 0.
    pub fn new(sender: SenderConfig, receiver: ReceiverConfig, paths: &[PathConfig], seed: u64) -> Self {
        let mut simulation = Self::without_links(sender, receiver, paths, seed, SkewedClock::new(77_000_000, 0));
        for (index, path) in paths.iter().enumerate() {
            simulation.add_link(index, LinkOptions { name: path.name.clone(), ..Default::default() });
        }
        simulation
    }

    pub fn without_links(
        sender: SenderConfig,
        receiver: ReceiverConfig,
        paths: &[PathConfig],
        seed: u64,
        clock: SkewedClock,
    ) -> Self {
        let path = |(i, config): (usize, &PathConfig)| {
            Path::new(config.clone(), seed.wrapping_mul(1_000_003).wrapping_add(i as u64)).unwrap()
        };
        Self {
            now: Timestamp::ZERO,
            sender: Sender::new(sender, seed, Timestamp::ZERO).unwrap(),
            receiver: Receiver::new(receiver, !seed, clock.local(Timestamp::ZERO)).unwrap(),
            paths: paths.iter().enumerate().map(path).collect(),
            clock,
            sender_wake: Timestamp::ZERO,
            receiver_wake: Timestamp::ZERO,
            delivered: Vec::new(),
            newest: BTreeMap::new(),
            sender_events: Vec::new(),
            receiver_events: Vec::new(),
            up_bytes: 0,
            down_bytes: 0,
            up_packets: 0,
            astray: BTreeMap::new(),
            overheard_down: None,
            overheard: None,
            one_way: vec![Vec::new(); paths.len()],
            log: None,
            offers: None,
            offers_down: None,
            wakes: [Wakes::default(); 2],
            digests: None,
        }
    }

    /// Puts another receiver in the place of the present one, at the same address, with a clock of its own.
    pub fn replace_receiver(&mut self, config: ReceiverConfig, seed: u64, clock: SkewedClock) {
        self.clock = clock;
        self.receiver = Receiver::new(config, seed, clock.local(self.now)).unwrap();
        self.newest.clear();
        self.drain_receiver();
    }

    /// Puts another sender in the place of the present one, with the links at the same addresses.
    pub fn replace_sender(&mut self, config: SenderConfig, seed: u64) {
        self.sender = Sender::new(config, seed, self.now).unwrap();
        for index in 0..self.paths.len() {
            self.add_link(index, LinkOptions { name: format!("again-{index}"), ..Default::default() });
        }
    }

    /// This end ends, telling so.
    pub fn close_receiver(&mut self) {
        self.receive(ReceiverInput::Close);
    }

    /// Puts links behind one bottleneck.
    pub fn share(&mut self, links: &[usize], bottleneck: &Bottleneck) {
        for link in links {
            self.paths[*link].share_up(bottleneck);
        }
    }

    pub fn add_link(&mut self, index: usize, options: LinkOptions) {
        let link = LinkId(index as u16);
        self.input(SenderInput::AddLink { link, options });
    }

    /// Gives the sender an input and does what it asks for.
    pub fn input(&mut self, input: SenderInput<'_>) {
        held::by(Owner::Sender, || self.sender.handle_input(self.now, input));
        self.drain_sender();
    }

    /// Changes the latency at both ends.
    pub fn set_latency(&mut self, latency: std::time::Duration) {
        self.input(SenderInput::SetLatency(latency));
        self.receive(ReceiverInput::SetLatency(latency));
    }

    pub fn push(&mut self, bytes: Bytes, class: PacketClass) {
        let payload = Payload { bytes, source_time: self.now, class };
        self.input(SenderInput::Payload(payload));
    }

    /// When something happens next.
    pub fn next_event(&self) -> Timestamp {
        let paths = self.paths.iter().filter_map(Path::next_event).min().unwrap_or(Timestamp::MAX);
        self.sender_wake.min(self.clock.global(self.receiver_wake)).min(paths)
    }

    /// Gives the receiver a datagram from anywhere.
    pub fn stray(&mut self, from: SocketAddr, channel: Channel, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let input = ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes: &mut bytes };
        self.receive(input);
    }

    fn receive(&mut self, input: ReceiverInput<'_>) {
        let local_now = self.clock.local(self.now);
        held::by(Owner::Receiver, || self.receiver.handle_input(local_now, input));
        self.drain_receiver();
    }

    /// Lets everything happen until `end`.
    pub fn run_until(&mut self, end: Timestamp) {
        loop {
            let next = self.next_event();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        for index in 0..self.paths.len() {
            while let Some(delivery) = self.paths[index].poll_up(now) {
                let (binding, (sent, channel, mut bytes)) = delivery.packet;
                if bytes.len() > load::PAYLOAD_BYTES {
                    self.one_way[index].push((now - sent).as_micros() as u32);
                    let same = |carried: &&mut Carried| {
                        carried.link == index && carried.sent == sent && carried.number == load::find(&bytes)
                    };
                    if let Some(carried) = self.log.as_mut().and_then(|log| log.iter_mut().rev().find(same)) {
                        carried.arrived = Some(now);
                    }
                }
                self.wakes[1].done(now);
                let from = address(index, binding, channel);
                let ecn = delivery.ecn;
                self.receive(ReceiverInput::Datagram { local: 0, from, channel, ecn, bytes: &mut bytes });
            }
            while let Some(delivery) = self.paths[index].poll_down(now) {
                let (_, channel, mut bytes) = delivery.packet;
                let link = LinkId(index as u16);
                self.input(SenderInput::Datagram { link, channel, bytes: &mut bytes });
            }
        }
        if self.sender_wake <= now {
            self.wakes[0].woken(now);
            self.input(SenderInput::Timeout);
        }
        if self.receiver_wake <= self.clock.local(now) {
            self.wakes[1].woken(now);
            self.receive(ReceiverInput::Timeout);
        }
    }

    fn overhear(&mut self, link: usize, up: bool, bytes: &Bytes) {
        if let Some(overheard) = &mut self.overheard {
            overheard.push(Overheard { link, up, bytes: bytes.clone() });
        }
    }

    fn drain_sender(&mut self) {
        for _ in 0..100_000 {
            match held::by(Owner::Sender, || self.sender.poll_output(self.now)) {
                SenderOutput::Transmit { link, channel, ecn, bytes } => {
                    let ip_bytes = bytes.len() + IP_BYTES;
                    self.up_bytes += ip_bytes as u64;
                    self.up_packets += 1;
                    self.wakes[0].done(self.now);
                    if let Some(log) = self.log.as_mut().filter(|_| bytes.len() > load::PAYLOAD_BYTES) {
                        let (link, number) = (usize::from(link.0), load::find(&bytes));
                        log.push(Carried { link, sent: self.now, arrived: None, number });
                    }
                    self.overhear(usize::from(link.0), true, &bytes);
                    if let Some([up, _]) = &mut self.digests {
                        (self.now.as_micros(), link.0, channel == Channel::Control, ecn as u8, &bytes[..]).hash(up);
                    }
                    let (index, packet) = (usize::from(link.0), (self.now, channel, bytes.to_vec()));
                    let taken = self.paths[index].push_up_ecn(self.now, ip_bytes, ecn, packet);
                    if let Some(offers) = &mut self.offers {
                        let queued_bytes = self.paths[index].up().queued_bytes().as_u64();
                        let overflowed = taken == Err(DropReason::Queue);
                        let (at, ip_bytes) = (self.now, ip_bytes as u64);
                        offers.push(Offer { link: index, at, ip_bytes, overflowed, queued_bytes });
                    }
                }
                SenderOutput::Answer { .. } | SenderOutput::Receiver { .. } => unreachable!("no link listens here"),
                SenderOutput::Event(event) => self.sender_events.push(event),
                SenderOutput::Timeout(at) => {
                    assert!(at > self.now, "a timeout must lie ahead");
                    self.sender_wake = at;
                    return;
                }
            }
        }
        panic!("the sender never comes to rest");
    }

    fn drain_receiver(&mut self) {
        let local_now = self.clock.local(self.now);
        for _ in 0..100_000 {
            match held::by(Owner::Receiver, || self.receiver.poll_output(local_now)) {
                ReceiverOutput::Transmit { to, channel, bytes, .. } => {
                    let SocketAddr::V4(to) = to else { panic!("no such peer") };
                    if to.ip().octets()[..3] != [10, 0, 0] {
                        *self.astray.entry(to.into()).or_default() += bytes.len() as u64;
                        continue;
                    }
                    let index = usize::from(to.ip().octets()[3]) - 1;
                    let binding = u32::from((to.port() - 20_000) / 2);
                    let ip_bytes = bytes.len() + IP_BYTES;
                    self.down_bytes += ip_bytes as u64;
                    if let Some(overheard) = &mut self.overheard_down {
                        overheard.push(bytes.clone());
                    }
                    self.overhear(index, false, &bytes);
                    if let Some([_, down]) = &mut self.digests {
                        (self.now.as_micros(), to, channel == Channel::Control, &bytes[..]).hash(down);
                    }
                    let packet = (self.now, channel, bytes.to_vec());
                    let taken = self.paths[index].push_down(self.now, binding, ip_bytes, packet);
                    if let Some(offers) = &mut self.offers_down {
                        let queued_bytes = self.paths[index].down().queued_bytes().as_u64();
                        let overflowed = taken == Err(DropReason::Queue);
                        let (at, ip_bytes) = (self.now, ip_bytes as u64);
                        offers.push(Offer { link: index, at, ip_bytes, overflowed, queued_bytes });
                    }
                }
                ReceiverOutput::Deliver(delivered) => {
                    let newest = self.newest.entry((delivered.virtual_port, delivered.flow)).or_default();
                    assert!(delivered.source_time >= *newest, "the source time of a flow went back");
                    *newest = delivered.source_time;
                    self.wakes[1].done(self.now);
                    self.delivered.push((self.now, delivered));
                }
                ReceiverOutput::Event(event) => self.receiver_events.push(event),
                ReceiverOutput::Timeout(at) => {
                    assert!(at > local_now, "a timeout must lie ahead");
                    self.receiver_wake = at;
                    return;
                }
            }
        }
        panic!("the receiver never comes to rest");
    }
}
