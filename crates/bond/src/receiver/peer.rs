//! One 4-tuple that something genuine came from.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rist::psk::Ownership;
use units::{LinkId, Timestamp};

use super::arrivals::Arrivals;
use super::flow::FlowId;
use super::newcomers::{HALF_OPEN_MAX, Standing};
use super::{PEER_KEPT, PEER_LOST, PEERS_MAX, Profile, Receiver};
use crate::event::Cause;
use crate::farewell::{Farewell, Signals, Wish};
use crate::framing::Framing;
use crate::link::capacity::Meter;
use crate::link::delay::RoundTrip;
use crate::payload::Channel;
use crate::refused::Reason;

/// Round trip of a peer without samples: too long costs attempts to repair, too short costs requests.
const ROUND_TRIP_GUESS_MICROS: f64 = 100_000.0;

/// A link whose address has been silent for so long may be taken over by an address whose numbers begin anew.
const REBIND_SILENCE: Duration = Duration::from_millis(500);

/// Flows of one 4-tuple; a tunnel knows no more.
const CARRIES_MAX: usize = rist::tunnel::FLOWS_MAX;

/// How far apart the network may bring datagrams that left one after the other.
const REORDERING_MAX: Duration = Duration::from_millis(500);
/// A sender that wants a link to rest says so at least each 1.5 s; one of whom nothing more is heard of it may be another.
const RESTS_FOR: Duration = Duration::from_secs(5);
/// What goes to a peer gets there while it answers echo requests, which leave ten times a second.
const HEARS_FOR: Duration = Duration::from_millis(500);
/// A keep-alive whose number is farther ahead was numbered by somebody else.
const NUMBERS_AHEAD_MAX: u32 = 1024;
/// A peer that closed its link is remembered for so long, for what was on its way.
pub(super) const CLOSED_KEPT: Duration = Duration::from_secs(3);

/// A link that its sender has closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub at: Timestamp,
    /// Of the keep-alive that said so: the number, and who.
    sequence: Option<u32>,
    mac: [u8; 6],
}

/// Echo requests to a peer whose answers are waited for; an older one is lost.
const ASKED_MAX: usize = 16;
/// Weight of one in the share that is lost, and from where on that counts: less is chance.
const ECHO_GAIN: f64 = 1.0 / 16.0;
const ECHO_LOST_MIN: f64 = 0.15;
/// Each report that is lost is one later by so many microseconds, on a way back that is believed to lose this share at the most.
const REPORT_MICROS: f64 = 20_000.0;
const WAY_BACK_LOSS_MAX: f64 = 0.95;

/// Which of our echo requests to a peer come back: beside what the way here loses, that is what the way back does.
#[derive(Debug, Default)]
pub(super) struct WayBack {
    /// Times of requests, oldest first.
    asked: VecDeque<u64>,
    lost: f64,
}

impl WayBack {
    pub(super) fn ask(&mut self, micros: u64) {
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
            self.count(1.0);
        }
        self.asked.push_back(micros);
    }

    /// The answer to the request of this time; those before it are lost.
    pub(super) fn answer(&mut self, micros: u64) {
        if !self.asked.contains(&micros) {
            return;
        }
        while let Some(asked) = self.asked.pop_front() {
            if asked == micros {
                return self.count(0.0);
            }
            self.count(1.0);
        }
    }

    fn count(&mut self, lost: f64) {
        self.lost += (lost - self.lost) * ECHO_GAIN;
    }

    /// Share lost on the way back, where the way here loses `here`.
    fn loss(&self, here: f64) -> f64 {
        let lost = (self.lost - here) / (1.0 - here).max(0.05);
        if lost < ECHO_LOST_MIN { 0.0 } else { lost.min(WAY_BACK_LOSS_MAX) }
    }
}

/// Where a link that moved is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    Away,
    Here,
}

/// One 4-tuple.
#[derive(Debug)]
pub(crate) struct Peer {
    pub local: u16,
    /// Where its media comes from; until it does, where its RTCP comes from.
    pub address: SocketAddr,
    /// True once anything came from `address` on the media port.
    pub media_seen: bool,
    /// Where its RTCP comes from; ours goes there. The same as `address` in Main Profile.
    pub control: Option<SocketAddr>,
    pub framing: Framing,
    /// A media clock that came before any media of its flow: when, which flow, RTP time.
    pub clock: Option<(Timestamp, FlowId, u32)>,
    /// Whether it announced the extension.
    pub extension: bool,
    /// Whether it adapts its rate; `None` while it has not said.
    pub adapts: Option<bool>,
    /// Which link of which flow it is, once announced.
    pub link: Option<LinkId>,
    pub flow: Option<FlowId>,
    /// Flows that came over it, at most [`CARRIES_MAX`].
    pub carries: Vec<FlowId>,
    /// Something of it came in time: it is no link whose path alone takes longer than the latency.
    pub was_in_time: bool,
    /// Announced name, else the cname.
    pub name: String,
    pub named: bool,
    pub arrivals: Arrivals,
    /// Whose the last datagram was; only the peer's own are counted.
    pub owner: Ownership,
    pub rtt: RoundTrip,
    pub(super) way_back: WayBack,
    /// SSRC of our echo requests to it.
    pub echo_ssrc: u32,
    pub heard_at: Timestamp,
    pub lost: bool,
    /// Its link goes over another address by now, or came here from another one: the operator has been told.
    pub moved: Option<Moved>,
    /// Until then its sender wants nothing but keep-alive on it, as it says again and again: each byte of it costs, and it is not used.
    pub rests_until: Timestamp,
    /// What it says of closing the link.
    pub farewell: Farewell,
    /// Set once it has closed the link.
    pub closed: Option<Closed>,
    pub next_rtcp: Timestamp,
    pub next_keep_alive: Timestamp,
    /// True when we call it, rather than it us.
    pub called: bool,
    pub standing: Standing,
    /// When it last answered an echo request of ours.
    pub answered_at: Option<Timestamp>,
    /// Packets of it that were new to their flow.
    pub taken: u32,
    /// Bytes received and not yet answered.
    pub credit: usize,
    pub media_packets: u64,
    pub duplicates: u64,
    pub bytes: u64,
    pub meter: Meter,
    /// Loss on this link: smoothed share, and the counts it was last taken at.
    pub loss: f64,
    pub loss_from: (u64, u64),
    pub loss_at: Timestamp,
}

impl Peer {
    pub(super) fn new(now: Timestamp, local: u16, address: SocketAddr, framing: Framing, echo_ssrc: u32) -> Self {
        Self {
            local,
            address,
            media_seen: false,
            control: None,
            framing,
            clock: None,
            extension: false,
            adapts: None,
            link: None,
            flow: None,
            carries: Vec::new(),
            was_in_time: false,
            name: String::new(),
            named: false,
            arrivals: Arrivals::new(),
            owner: Ownership::Peer,
            rtt: RoundTrip::new(),
            way_back: WayBack::default(),
            echo_ssrc,
            heard_at: now,
            lost: false,
            moved: None,
            rests_until: Timestamp::ZERO,
            farewell: Farewell::default(),
            closed: None,
            next_rtcp: now,
            next_keep_alive: Timestamp::MAX,
            called: false,
            standing: Standing::HalfOpen,
            answered_at: None,
            taken: 0,
            credit: 0,
            media_packets: 0,
            duplicates: 0,
            bytes: 0,
            meter: Meter::default(),
            loss: 0.0,
            loss_from: (0, 0),
            loss_at: now,
        }
    }

    /// Notes a genuine datagram.
    pub(super) fn hear(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        channel: Channel,
        sequence: Option<u32>,
        bytes: usize,
    ) {
        self.heard_at = now;
        self.bytes += bytes as u64;
        self.credit += bytes;
        self.meter.add(now, bytes as u64);
        if let Some(sequence) = sequence {
            self.arrivals.push(now, sequence, bytes);
        }
        if channel == Channel::Media {
            self.address = from;
            self.media_seen = true;
        }
        if channel == Channel::Control {
            self.control = Some(from);
        }
    }

    /// Looks whose the datagram is that came. Once that is open, what was learned of the link before is worth nothing.
    pub(super) fn watch_owner(&mut self, now: Timestamp) {
        let owner = self.framing.ownership(now);
        if owner == Ownership::Open && self.owner != Ownership::Open {
            (self.link, self.rtt) = (None, RoundTrip::new());
            self.arrivals.disown();
        }
        self.owner = owner;
    }

    /// A packet of this flow came over it.
    pub(super) fn carry(&mut self, flow: FlowId) {
        self.flow = Some(flow);
        if !self.carries.contains(&flow) {
            if self.carries.len() >= CARRIES_MAX {
                self.carries.remove(0);
            }
            self.carries.push(flow);
        }
    }

    /// True when packets of this flow come over it, and its RTCP can be answered.
    pub(super) fn serves(&self, flow: FlowId) -> bool {
        self.control.is_some() && (self.carries.contains(&flow) || self.flow == Some(flow))
    }

    /// True while nothing but keep-alive should go over it. A sender that waits to be called knows its receiver by how often it speaks.
    pub(super) fn rests(&self, now: Timestamp) -> bool {
        now < self.rests_until && !self.called
    }

    /// Notes whether its sender wants it to rest.
    pub(super) fn let_rest(&mut self, now: Timestamp, rests: bool) {
        if rests {
            self.rests_until = now + RESTS_FOR;
        } else if now < self.rests_until {
            (self.rests_until, self.next_rtcp) = (now, now);
        }
    }

    /// True when what goes to it gets there, as far as its answers tell.
    pub(super) fn hears(&self, now: Timestamp) -> bool {
        self.closed.is_none() && self.answered_at.is_some_and(|at| now - at < HEARS_FOR)
    }

    /// Empty before it has announced one.
    pub(super) fn announced_name(&self) -> String {
        if self.named { self.name.clone() } else { String::new() }
    }

    /// True while nothing tells that it is more than an address.
    pub(super) fn is_half_open(&self) -> bool {
        self.standing == Standing::HalfOpen && self.media_packets == 0
    }

    /// True for what the operator should see.
    pub(super) fn is_shown(&self) -> bool {
        !self.is_half_open() && self.closed.is_none() && self.moved != Some(Moved::Away)
    }

    /// True while answers make sense.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.closed.is_none() && now - self.heard_at < PEER_LOST
    }

    /// Notes that it has closed its link, by the keep-alive with this number.
    pub(super) fn close(&mut self, now: Timestamp, sequence: Option<u32>, mac: [u8; 6], highest: Option<u32>) {
        let near = |(sequence, highest): &(u32, u32)| sequence.wrapping_sub(*highest) <= NUMBERS_AHEAD_MAX;
        let sequence = sequence.zip(highest).filter(near).map(|(sequence, _)| sequence);
        self.closed = Some(Closed { at: now, sequence, mac });
        self.lost = true;
    }

    /// Takes it back if a datagram left after it had closed its link: what left before may come behind.
    pub(super) fn take_back(&mut self, now: Timestamp, sequence: Option<u32>, signals: Option<Signals>) -> bool {
        let Some(closed) = self.closed else { return false };
        let another = signals.is_some_and(|signals| signals.mac != closed.mac);
        let after = match (sequence, closed.sequence) {
            _ if signals.is_some_and(|signals| signals.disconnect) => return false,
            _ if another || now - closed.at >= REORDERING_MAX => true,
            (Some(sequence), Some(last)) => sequence.wrapping_sub(last) as i32 > 0,
            _ => true,
        };
        if after {
            self.closed = None;
            self.farewell.forget();
        }
        if after && another {
            self.arrivals.begin_anew();
            self.carries.clear();
            (self.flow, self.link, self.extension, self.named) = (None, None, false, false);
            self.rests_until = Timestamp::ZERO;
        }
        after
    }

    /// Orders peers for what must arrive soon: the freshest first, in steps of 50 ms, then the nearest.
    pub(super) fn nearness(&self, now: Timestamp) -> (u128, Duration) {
        ((now - self.heard_at).as_millis() / 50, self.round_trip())
    }

    /// The same for reports, which come all the later, the more of them are lost.
    pub(super) fn report_nearness(&self, now: Timestamp) -> (u128, Duration) {
        let (freshness, round_trip) = self.nearness(now);
        let loss = self.way_back.loss(self.loss);
        (freshness, round_trip + Duration::from_micros((2.0 * REPORT_MICROS * loss / (1.0 - loss)) as u64))
    }

    /// How much longer the lowest round trip is than within the last minute; zero where the sender answers no echo.
    pub(super) fn standing_queue(&self) -> Duration {
        Duration::from_micros(self.rtt.crept() as u64)
    }

    /// Lowest round trip, or a guess where the sender answers no echo (GStreamer).
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.rtt.low().unwrap_or(ROUND_TRIP_GUESS_MICROS) as u64)
    }
}

impl Receiver {
    /// The peer a datagram belongs to.
    pub(super) fn find_peer(&self, local: u16, from: SocketAddr, channel: Channel) -> Option<usize> {
        let of_local = |peer: &&Peer| peer.local == local;
        let exact = self.peers.iter().position(|peer| {
            of_local(&peer) && if channel == Channel::Media { peer.address == from } else { peer.control == Some(from) }
        });
        if exact.is_some() || self.config.profile == Profile::Main {
            return exact;
        }
        // Simple Profile: RTCP comes from another port than media, usually the one above it. Behind a NAT it can be any: then
        // it is paired with what lacks its other half. Which link it is of does not matter, a sender listens on all.
        let sibling = match channel {
            Channel::Media => from.port().wrapping_add(1),
            Channel::Control => from.port().wrapping_sub(1),
        };
        let halves = self.peers.iter().enumerate().filter(|(_, peer)| {
            peer.local == local
                && peer.address.ip() == from.ip()
                && match channel {
                    Channel::Media => !peer.media_seen,
                    Channel::Control => peer.control.is_none(),
                }
        });
        halves.min_by_key(|(_, peer)| peer.address.port() != sibling).map(|(index, _)| index)
    }

    pub(super) fn make_peer(&mut self, now: Timestamp, local: u16, from: SocketAddr) -> Peer {
        let framing = match self.config.profile {
            Profile::Simple => Framing::Simple,
            Profile::Main => Framing::server(&self.config, &self.common, &mut self.random),
        };
        let echo_ssrc = self.random.next_u32();
        let mut peer = Peer::new(now, local, from, framing, echo_ssrc);
        // In the tunnel everything shares one port.
        peer.control = (self.config.profile == Profile::Main).then_some(from);
        peer
    }

    /// Calls a listening sender.
    pub(super) fn connect(&mut self, now: Timestamp, local: u16, to: SocketAddr) {
        if self.config.profile == Profile::Simple
            || self.find_peer(local, to, Channel::Media).is_some()
            || self.peers.len() >= PEERS_MAX + HALF_OPEN_MAX
        {
            return;
        }
        let framing = Framing::calling_receiver(&self.config, &self.common, &mut self.random);
        let mut peer = Peer::new(now, local, to, framing, self.random.next_u32());
        peer.control = Some(to);
        peer.called = true;
        peer.standing = Standing::Proven;
        peer.next_keep_alive = now;
        self.note(now, Cause::PeerAppeared { peer: peer.address, name: String::new() });
        self.peers.push(peer);
    }

    /// What the sender at `index` wants of its link itself, in a keep-alive with this number. `highest` is the highest before.
    pub(super) fn hear_signals(
        &mut self,
        now: Timestamp,
        index: usize,
        signals: Signals,
        sequence: Option<u32>,
        highest: Option<u32>,
    ) {
        let peer = &mut self.peers[index];
        let Some(wish) = peer.farewell.hear(now, signals) else { return };
        if signals.disconnect {
            self.say_goodbye(now, index);
        }
        let peer = &mut self.peers[index];
        if wish == Wish::Close {
            peer.close(now, sequence, signals.mac, highest);
            if !peer.is_half_open() {
                let cause = Cause::PeerClosed { peer: peer.address, name: peer.name.clone() };
                self.note(now, cause);
            }
            (0..self.flows.len()).for_each(|flow| self.watch_closed(now, flow));
        }
        // Who calls calls again, as a stranger.
        let peer = &mut self.peers[index];
        if peer.called && matches!(wish, Wish::Close | Wish::Reopen) {
            peer.next_keep_alive = now;
            if !self.config.srp_users.is_empty() {
                peer.framing = Framing::calling_receiver(&self.config, &self.common, &mut self.random);
            }
        }
    }

    /// This end ends: whoever is heard is told.
    pub(super) fn close(&mut self, now: Timestamp) {
        for index in 0..self.peers.len() {
            if self.peers[index].is_live(now) {
                while self.say_goodbye(now, index) {}
            }
        }
        self.peers.clear();
        self.is_closed = true;
    }

    /// The 4-tuple at `index` says which link it is: if another one was that link, it has moved.
    pub(super) fn adopt_link(&mut self, now: Timestamp, index: usize, flow: FlowId, link: LinkId, name: &str) {
        let peer = &mut self.peers[index];
        if !peer.named || peer.name != name {
            name.clone_into(&mut peer.name);
            peer.named = true;
        }
        if peer.link == Some(link) && peer.flow == Some(flow) {
            return;
        }
        if peer.owner != Ownership::Peer {
            return;
        }
        let same = |(other, peer): (usize, &Peer)| other != index && peer.link == Some(link) && peer.flow == Some(flow);
        let old = self.peers.iter().enumerate().position(same);
        // One that its sender has closed is another link, whose numbers tell nothing of this one's.
        let old = match old.filter(|old| self.peers[*old].closed.is_some()) {
            Some(closed) => {
                (self.peers[closed].link, self.peers[closed].extension) = (None, false);
                None
            }
            None => old,
        };
        if old.is_some_and(|old| self.is_replay(now, old, index)) {
            self.refused.count(Reason::Replayed);
            self.peers[index].extension = false;
            return;
        }
        let peer = &mut self.peers[index];
        (peer.link, peer.flow, peer.moved) = (Some(link), Some(flow), None);
        let Some(old) = old else { return };
        let from = self.peers[old].address;
        let (arrivals, loss, rtt) =
            (self.peers[old].arrivals.clone(), self.peers[old].loss, self.peers[old].rtt.clone());
        let (media, duplicates, bytes) =
            (self.peers[old].media_packets, self.peers[old].duplicates, self.peers[old].bytes);
        let was_in_time = std::mem::take(&mut self.peers[old].was_in_time);
        let peer = &mut self.peers[index];
        peer.was_in_time |= was_in_time;
        peer.arrivals.merge(&arrivals);
        peer.media_packets += media;
        peer.duplicates += duplicates;
        peer.bytes += bytes;
        peer.loss = loss;
        peer.loss_from = (peer.arrivals.packets, peer.arrivals.missing);
        if peer.rtt.low().is_none() {
            peer.rtt = rtt;
        }
        let cause = Cause::PeerMoved { from, to: peer.address, name: peer.name.clone() };
        self.note(now, cause);
        self.peers[index].moved = Some(Moved::Here);
        // The old address goes silent; its entry must not be the same link any more.
        let old = &mut self.peers[old];
        (old.link, old.extension, old.moved) = (None, false, Some(Moved::Away));
    }

    /// True when the 4-tuple at `index` claims a link with numbers that the link's present address has sent already: somebody
    /// repeats what he overheard. A login proves more than numbers do, and an address that is silent can not be robbed.
    fn is_replay(&self, now: Timestamp, old: usize, index: usize) -> bool {
        let (old, new) = (&self.peers[old], &self.peers[index]);
        let (Some((before, _)), Some((claimed, _))) = (old.arrivals.highest(), new.arrivals.highest()) else {
            return false;
        };
        self.config.srp_users.is_empty()
            && now - old.heard_at < REBIND_SILENCE
            && claimed.wrapping_sub(before) as i32 <= 0
    }

    /// Forgets the silent, tells of losses.
    pub(super) fn watch_peers(&mut self, now: Timestamp) {
        self.forget_half_open(now);
        let kept = |peer: &Peer| {
            now - peer.heard_at < PEER_KEPT && peer.closed.is_none_or(|closed| now - closed.at < CLOSED_KEPT)
        };
        self.peers.retain(|peer| peer.called || kept(peer));
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            if now - peer.loss_at >= Duration::from_secs(1) {
                let packets = peer.arrivals.packets.saturating_sub(peer.loss_from.0);
                let missing = peer.arrivals.missing.saturating_sub(peer.loss_from.1);
                if packets + missing > 0 {
                    peer.loss += (missing as f64 / (packets + missing) as f64 - peer.loss) * 0.3;
                }
                peer.loss_from = (peer.arrivals.packets, peer.arrivals.missing);
                peer.loss_at = now;
            }
            let lost = !peer.is_live(now);
            if lost && !peer.lost && peer.standing > Standing::HalfOpen && peer.moved != Some(Moved::Away) {
                let cause = Cause::PeerLost { peer: peer.address, name: peer.name.clone() };
                peer.lost = true;
                self.note(now, cause);
            } else if !lost {
                peer.lost = false;
            }
        }
    }
}
