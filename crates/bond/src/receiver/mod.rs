//! The receiving end of a flow.
//!
//! Every 4-tuple is a [`peer`]; packets of all peers meet in their [`flow`] by virtual port, SSRC and number. [`control`] speaks RTCP:
//! requests for what is missing, echoes, and the reports of the engine's own extension.

mod arrivals;
mod control;
mod flow;
mod losses;
mod newcomers;
mod pace;
mod peer;
mod playout;
mod quality;
mod repair;
mod report;

use bytes::Bytes;
use rist::psk::Ownership;
use rist::wire::rtp::RtpPacket;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, Timestamp};

use crate::blocks::Blocks;
use crate::config::{ConfigError, Extension, LATENCY_MAX, LATENCY_MIN, Profile, ReceiverConfig};
use crate::door::Door;
use crate::event::{Cause, Event, EventLog};
use crate::fec::wire::{PAYLOAD_TYPE_REPAIR, RepairHead};
use crate::framing::{Common, Inbound, Parsed, Refusal};
use crate::mismatch::Mismatches;
use crate::payload::Channel;
use crate::random::{Random, Seed};
use crate::refused::{Reason, RefusedDatagrams};
use crate::stats::ReceiverSnapshot;
use flow::{Flow, FlowId, FlowTotals, Origin, Taken};
use newcomers::Standing;
use peer::Peer;

/// What a caller tells a [`Receiver`].
#[derive(Debug)]
pub enum ReceiverInput<'a> {
    /// A datagram came in; it is decrypted in place.
    Datagram {
        /// Index of the local socket (pair).
        local: u16,
        /// Where it came from.
        from: SocketAddr,
        /// Which of the socket pair's ports.
        channel: Channel,
        /// The ECN codepoint it came with; `NotEct` where that is not known.
        ecn: Ecn,
        /// The UDP payload.
        bytes: &'a mut [u8],
    },
    /// Call a listening sender from this local socket (Main Profile) and keep calling.
    Connect {
        /// Index of the local socket.
        local: u16,
        /// The sender.
        to: SocketAddr,
    },
    /// A new latency budget; out-of-range values are clamped.
    SetLatency(Duration),
    /// This end ends: the senders are told, in the datagrams that are asked for next, and nothing is taken any more.
    Close,
    /// The time of the last [`ReceiverOutput::Timeout`] has come.
    Timeout,
}

/// One packet, in order and on time.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The flow it belongs to: its RTP SSRC.
    pub flow: u32,
    /// The flow's virtual destination port; 0 in Simple Profile.
    pub virtual_port: u16,
    /// The payload as it went in at the sender.
    pub bytes: Bytes,
    /// When its content was produced, from the RTP time, in the receiver's clock: delivery minus the latency budget, or what
    /// numbers hold of it ([`Cause::NumbersExhausted`]).
    /// Never goes back within a flow: where the receiver finds that it took media for younger than it is, what it delivers to
    /// catch up has the time of the last packet before.
    pub source_time: Timestamp,
    /// Packets before this one are missing.
    pub discontinuity: bool,
}

/// What a [`Receiver`] asks of its caller.
#[derive(Debug, Clone)]
pub enum ReceiverOutput {
    /// Send this datagram.
    Transmit {
        /// From which local socket (pair).
        local: u16,
        /// Where to.
        to: SocketAddr,
        /// From which of the pair's ports.
        channel: Channel,
        /// The UDP payload.
        bytes: Bytes,
    },
    /// The next packet of a flow.
    Deliver(Delivered),
    /// Something the operator may want to know.
    Event(Event),
    /// Nothing more until then, or until the next input.
    Timeout(Timestamp),
}

pub use newcomers::{HALF_OPEN_MAX, HALF_OPEN_PER_ADDRESS};

/// 4-tuples known at the same time, beside the half-open ones; one that is silent or delivers nothing makes room.
pub const PEERS_MAX: usize = 64;
/// A peer that has been silent for so long is forgotten.
const PEER_KEPT: Duration = Duration::from_mins(1);
/// A peer that has been silent for so long is reported as lost.
const PEER_LOST: Duration = Duration::from_secs(2);
/// After so much silence another one may speak at the same address.
const ANOTHER_AFTER: Duration = Duration::from_secs(10);
/// A flow without packets for so long has ended.
const FLOW_ENDED: Duration = Duration::from_secs(10);
/// A media clock that came before the media is used for so long.
const CLOCK_HOLDS: Duration = Duration::from_secs(1);
/// A flow without packets for so long gives way to a new one when there is no room; for so many times what it usually takes from one
/// packet to the next where that is longer, up to the third.
const FLOW_GIVES_WAY: Duration = Duration::from_millis(500);
const FLOW_GIVES_WAY_INTERVALS: u32 = 4;
const FLOW_GIVES_WAY_MAX: Duration = Duration::from_secs(5);
/// The same for one of which only half-open peers have sent less than [`FLOW_STARTED`] packets; to a peer that is known
/// such a flow gives way at once.
const FLOW_UNPROVEN_GIVES_WAY: Duration = Duration::from_millis(50);
const FLOW_STARTED: u64 = 8;
/// Time between looks at gaps and peers.
const TICK: Duration = Duration::from_millis(10);
/// While more packets are held than this (two seconds of 20 Mbit/s), each gets memory of its own.
const BLOCK_PACKETS_MAX: usize = 4096;
/// Datagrams waiting to be polled.
const OUTPUTS_MAX: usize = 1024;

/// The receiving end of the flows that arrive on one set of sockets.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    random: Random,
    /// Of the tunnels of all peers.
    common: Common,
    now: Timestamp,
    /// SSRC of our RTCP.
    ssrc: u32,
    /// In the order of their first packet; at most [`PEERS_MAX`].
    peers: Vec<Peer>,
    /// At most `flows_max`, times the virtual ports, and as many that are closed.
    flows: Vec<Flow>,
    outputs: VecDeque<ReceiverOutput>,
    events: EventLog,
    next_tick: Timestamp,
    /// When the peers' control traffic is looked at again; an input, a tick or a report may bring it forward.
    next_control: Timestamp,
    next_report: Timestamp,
    reported_at: Timestamp,
    door: Door,
    refused: RefusedDatagrams,
    mismatches: Mismatches,
    quality_messages: u64,
    /// Totals of flows that have ended.
    ended: FlowTotals,
    scratch: Vec<u8>,
    blocks: Blocks,
    /// A payload with the null packets that were left out on the way.
    restored: Vec<u8>,
    /// Numbers to ask for, with the times each was asked for before.
    wanted: Vec<(u16, u8)>,
    /// Nothing is taken any more; what is held is delivered.
    is_closed: bool,
}

impl Receiver {
    /// A receiver that has heard nobody yet.
    ///
    /// # Errors
    /// A setting that can not work; the caller's fault.
    pub fn new(config: ReceiverConfig, seed: impl Into<Seed>, now: Timestamp) -> Result<Self, ConfigError> {
        config.check()?;
        let mut random = Random::new(seed.into());
        let ssrc = random.next_u32() & !1;
        let secret = random.bytes();
        Ok(Self {
            config,
            random,
            common: Common::default(),
            now,
            ssrc,
            peers: Vec::new(),
            flows: Vec::new(),
            outputs: VecDeque::new(),
            events: EventLog::default(),
            next_tick: now,
            next_control: now,
            next_report: Timestamp::MAX,
            reported_at: Timestamp::ZERO,
            door: Door::new(now, secret),
            refused: RefusedDatagrams::default(),
            mismatches: Mismatches::default(),
            quality_messages: 0,
            ended: FlowTotals::default(),
            scratch: Vec::new(),
            blocks: Blocks::default(),
            restored: Vec::new(),
            wanted: Vec::new(),
            is_closed: false,
        })
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Timestamp, input: ReceiverInput<'_>) {
        let now = self.advance(now);
        self.next_control = now;
        match input {
            ReceiverInput::Datagram { .. } | ReceiverInput::Connect { .. } if self.is_closed => {}
            ReceiverInput::Datagram { local, from, channel, ecn, bytes } => {
                self.receive(now, local, from, channel, ecn, bytes);
            }
            ReceiverInput::Connect { local, to } => self.connect(now, local, to),
            ReceiverInput::SetLatency(latency) => self.set_latency(now, latency),
            ReceiverInput::Close => self.close(now),
            ReceiverInput::Timeout => {}
        }
    }

    /// The next thing to do; `Timeout` last.
    pub fn poll_output(&mut self, now: Timestamp) -> ReceiverOutput {
        let now = self.advance(now);
        if let Some(delivered) = self.deliver(now) {
            return ReceiverOutput::Deliver(delivered);
        }
        let next_timer = self.run_timers(now);
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let Some(event) = self.events.pop() {
            return ReceiverOutput::Event(event);
        }
        let latency = self.config.latency;
        let due = self.flows.iter().filter_map(|flow| flow.next_due(flow.latency(latency))).min();
        let next = due.unwrap_or(Timestamp::MAX).min(next_timer);
        ReceiverOutput::Timeout(next.max(now + Duration::from_micros(100)))
    }

    /// Everything worth showing, at this moment.
    pub fn snapshot(&self, now: Timestamp) -> ReceiverSnapshot {
        self.make_snapshot(now.max(self.now))
    }

    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    fn run_timers(&mut self, now: Timestamp) -> Timestamp {
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.next_control = now;
            self.ask_for_missing(now);
            self.watch_peers(now);
            self.watch_flows(now);
            self.send_quality(now);
        }
        if self.next_report <= now {
            // A caller that looks at its clock every few milliseconds makes no longer cadence of it.
            let few = Duration::from_millis(1)..control::report_interval(self.config.latency) / 2;
            self.reported_at = if few.contains(&(now - self.next_report)) { self.next_report } else { now };
            self.next_report = Timestamp::MAX;
            self.send_reports(now);
            self.next_control = now;
        }
        if self.next_control <= now {
            self.next_control = self.run_control(now);
        }
        self.next_control.min(self.next_tick).min(self.next_report)
    }

    fn deliver(&mut self, now: Timestamp) -> Option<Delivered> {
        let latency = self.config.latency;
        for index in 0..self.flows.len() {
            let flow = &mut self.flows[index];
            if let Some(delivered) = flow.poll(now, flow.latency(latency)) {
                flow.add_up_gap(now);
                return Some(delivered);
            }
        }
        None
    }

    fn receive(&mut self, now: Timestamp, local: u16, from: SocketAddr, channel: Channel, ecn: Ecn, bytes: &mut [u8]) {
        let length = bytes.len();
        let known = self.find_peer(local, from, channel);
        let mut newcomer = None;
        let peer = match known {
            Some(index) => &mut self.peers[index],
            None if self.admit_newcomer(now, local, from) => newcomer.insert(self.make_peer(now, local, from)),
            None => return,
        };
        let Parsed { sequence, port, inbound } = match peer.framing.parse(now, channel, self.config.extension, bytes) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                let strange = peer.is_half_open();
                let reason = match refusal {
                    Refusal::Invalid(reason) => {
                        self.refused.count(reason);
                        reason
                    }
                    Refusal::LoginFirst => {
                        peer.credit += length;
                        // Whoever shall log in is kept, to be asked.
                        if let Some(peer) = newcomer {
                            self.add_peer(peer);
                        }
                        Reason::LogIn
                    }
                };
                if strange {
                    self.note_mismatch(now, from, reason);
                }
                return;
            }
        };
        let signals = match inbound {
            Inbound::KeepAlive { adapts, signals, .. } => {
                peer.adapts = Some(adapts);
                Some(signals)
            }
            _ => None,
        };
        let highest = peer.arrivals.highest().map(|(highest, _)| highest);
        if now - peer.heard_at > ANOTHER_AFTER && peer.closed.is_none() {
            peer.farewell.forget();
        }
        let back = peer.take_back(now, sequence, signals);
        peer.watch_owner(now);
        let sequence = sequence.filter(|_| peer.owner == Ownership::Peer);
        peer.hear(now, from, channel, sequence, length);
        peer.arrivals.ecn.count(ecn);
        let extension = matches!(inbound, Inbound::KeepAlive { extension: true, .. });
        let logs_in_vain = matches!(inbound, Inbound::LogIn) && peer.is_half_open();
        let (media, compound) = match inbound {
            Inbound::Media(rtp) => (Some(rtp), None),
            Inbound::Rtcp(compound) => (None, Some(compound)),
            _ => (None, None),
        };
        let index = match (known, newcomer) {
            (Some(index), _) => index,
            (None, Some(peer)) => self.add_peer(peer),
            (None, None) => return,
        };
        if logs_in_vain {
            self.note_mismatch(now, from, Reason::LogIn);
        }
        if back && !self.peers[index].is_half_open() {
            let cause = Cause::PeerAppeared { peer: from, name: self.peers[index].announced_name() };
            self.note(now, cause);
        }
        if extension {
            self.peers[index].extension = true;
        }
        if let Some(signals) = signals {
            self.hear_signals(now, index, signals, sequence, highest);
            if !signals.disconnect {
                self.answer_keep_alive(now, index);
            }
        }
        if let Some(rtp) = media {
            self.take_media(now, index, port, rtp);
        }
        if let Some(compound) = compound {
            self.take_compound(now, index, port, compound);
        }
        if let Some(peer) = self.peers.get(index).filter(|peer| peer.extension && peer.arrivals.unreported) {
            // At once after a silence, then at the cadence, or as soon as one report might not tell everything.
            let full = peer.arrivals.unreported_numbers() >= control::REPORT_NUMBERS;
            let at = if full { now } else { now.max(self.reported_at + control::report_interval(self.config.latency)) };
            self.next_report = self.next_report.min(at);
        }
        self.promote(now, index);
    }

    fn take_media(&mut self, now: Timestamp, index: usize, port: u16, rtp: &[u8]) {
        let Ok(packet) = RtpPacket::parse(rtp) else {
            self.refused.count(Reason::Malformed);
            return;
        };
        let header = packet.header;
        let id = FlowId { port, ssrc: header.flow() };
        // Whoever sends one knows us, if not by this address: it is never media.
        if header.payload_type == PAYLOAD_TYPE_REPAIR
            && self.config.extension == Extension::Offer
            && let Some((head, symbol)) = RepairHead::parse(packet.payload)
        {
            match self.flows.iter_mut().find(|flow| flow.id == id) {
                Some(flow) => flow.push_repair(now, header.sequence, &head, symbol),
                None => self.refused.count(Reason::Unwanted),
            }
            return;
        }
        // Held for long among others that are not, a packet keeps the memory of its whole block.
        let roomy = self.flows.iter().map(Flow::held_packets).sum::<usize>() < BLOCK_PACKETS_MAX;
        let mut keep = |contents: &[u8]| {
            if roomy { self.blocks.copy(contents) } else { Bytes::copy_from_slice(contents) }
        };
        let bytes = match header.extension.filter(|extension| extension.null_deletion.is_some()) {
            Some(extension) => {
                self.restored.clear();
                if rist::null_deletion::restore(&extension, packet.payload, &mut self.restored).is_err() {
                    self.refused.count(Reason::Malformed);
                    return;
                }
                keep(&self.restored)
            }
            None => keep(packet.payload),
        };
        let Some(flow) = self.flow_index(now, id, (header.sequence, header.timestamp), index) else {
            self.refused.count(Reason::Unwanted);
            return;
        };
        let reopens = self.peers[index].closed.is_none() && self.active_rivals(id) < self.config.flows_max;
        let flow = &mut self.flows[flow];
        if reopens && flow.is_closed && !flow.gave_way {
            flow.reopen(now, header.sequence, header.timestamp);
        }
        let origin = if header.is_retransmit() { Origin::Retransmitted } else { Origin::First };
        flow.losses.heard(now, now - flow.heard_at, self.config.latency);
        let peer = &mut self.peers[index];
        let allowed = flow.latency(self.config.latency) + peer.standing_queue();
        peer.was_in_time |= flow.playout.is_in_time(now, header.timestamp, allowed);
        let was_in_time = peer.was_in_time;
        let slow = !was_in_time && self.peers.iter().any(|peer| peer.was_in_time && peer.carries.contains(&id));
        let allowed = (!slow).then_some(allowed);
        let taken = flow.push(now, header.sequence, header.timestamp, origin, bytes, allowed);
        flow.quality.count(origin, taken, rtp.len());
        let peer = &mut self.peers[index];
        peer.carry(id);
        peer.media_packets += 1;
        match taken {
            Taken::Duplicate => peer.duplicates += 1,
            Taken::Refused => self.refused.count(Reason::OutOfWindow),
            Taken::New => {
                peer.taken = peer.taken.saturating_add(1);
                // What was asked for before it gave way opens nothing.
                flow.is_closed &= !reopens || flow.gave_way;
                if std::mem::take(&mut flow.is_done) {
                    self.note(now, Cause::FlowStarted { flow: id.ssrc });
                }
            }
            Taken::Late => {}
        }
    }

    /// The flow that takes the packet with this number and RTP time from the peer at `index`, a new one perhaps. One that is closed
    /// takes what its sender sent before it closed it, and what it lacks; for what is newer it needs room like a new one.
    fn flow_index(
        &mut self,
        now: Timestamp,
        id: FlowId,
        (sequence, rtp_time): (u16, u32),
        index: usize,
    ) -> Option<usize> {
        let peer = &self.peers[index];
        let (proven, closed) = (peer.standing > Standing::HalfOpen, peer.closed.is_some());
        let known = self.flows.iter().position(|flow| flow.id == id);
        let takes = |flow: &Flow| {
            !flow.is_closed || (closed && !flow.gave_way) || flow.lacks(sequence) || !flow.is_newer(rtp_time)
        };
        if known.is_some_and(|index| takes(&self.flows[index])) {
            return known;
        }
        let ports = &self.config.virtual_ports;
        if !ports.is_empty() && !ports.contains(&id.port) {
            return None;
        }
        let makes_way = self.make_way(now, id, proven);
        if let Some(index) = self.flows.iter().position(|flow| flow.id == id) {
            let flow = &mut self.flows[index];
            flow.was_refused |= !makes_way;
            return makes_way.then(|| {
                flow.come_back(now, sequence, rtp_time);
                index
            });
        }
        if !makes_way {
            return None;
        }
        let mut flow = Flow::new(id, now);
        for (at, _, rtp_time) in self.peers.iter_mut().filter_map(|peer| peer.clock.take_if(|clock| clock.1 == id)) {
            if now - at < CLOCK_HOLDS {
                flow.playout.hear(at, rtp_time);
            }
        }
        self.flows.push(flow);
        self.note(now, Cause::FlowStarted { flow: id.ssrc });
        Some(self.flows.len() - 1)
    }

    /// Makes room for `id`: where there is none, a flow that fell silent gives way and is drained like one that is closed; its
    /// sender may have been started anew. One that nobody vouches for ends. False when all go on.
    fn make_way(&mut self, now: Timestamp, id: FlowId, proven: bool) -> bool {
        if self.active_rivals(id) >= self.config.flows_max {
            let unproven = |flow: &Flow| {
                let known = |peer: &Peer| peer.standing > Standing::HalfOpen && peer.carries.contains(&flow.id);
                flow.taken < FLOW_STARTED && !self.peers.iter().any(known)
            };
            let gives_way = |flow: &Flow| {
                let quiet = now - flow.heard_at;
                let patience = (flow.interval * FLOW_GIVES_WAY_INTERVALS).clamp(FLOW_GIVES_WAY, FLOW_GIVES_WAY_MAX);
                quiet > patience || (unproven(flow) && (proven || quiet > FLOW_UNPROVEN_GIVES_WAY))
            };
            let rival = |flow: &Flow| self.is_active_rival(flow, id) && gives_way(flow);
            let Some(other) = self.flows.iter().position(rival) else { return false };
            if unproven(&self.flows[other]) {
                self.end_flow(now, other);
            } else {
                (self.flows[other].gave_way, self.flows[other].is_closed) = (true, true);
            }
        }
        self.forget_closed(now, id);
        true
    }

    /// As many flows are drained as there is room for; beyond that the one with the least to deliver ends, whoever it is of.
    fn forget_closed(&mut self, now: Timestamp, except: FlowId) {
        let closed_max = self.config.flows_max * self.config.virtual_ports.len().max(1);
        loop {
            let closed = self.flows.iter().enumerate().filter(|(_, flow)| flow.is_closed && flow.id != except);
            if closed.clone().count() <= closed_max {
                return;
            }
            let Some((least, _)) = closed.min_by_key(|(_, flow)| flow.held_packets()) else { return };
            self.end_flow(now, least);
        }
    }

    /// Other flows that take room from `id` among `flows_max`: each port has room of its own. Those that are closed take none;
    /// what is left of them is delivered beside it.
    fn active_rivals(&self, id: FlowId) -> usize {
        self.flows.iter().filter(|flow| self.is_active_rival(flow, id)).count()
    }

    fn is_active_rival(&self, flow: &Flow, id: FlowId) -> bool {
        let same_room = self.config.virtual_ports.is_empty() || flow.id.port == id.port;
        flow.id != id && !flow.is_closed && same_room
    }

    fn watch_flows(&mut self, now: Timestamp) {
        let latency = self.config.latency;
        for index in 0..self.flows.len() {
            if let Some(lost) = self.flows[index].take_lost(now, latency, false) {
                self.note(now, lost);
            }
            if let Some(holds) = self.flows[index].take_shortened(now, latency) {
                self.note(now, Cause::NumbersExhausted { latency, holds });
            }
            self.watch_closed(now, index);
        }
        while let Some(index) =
            self.flows.iter().position(|flow| flow.is_empty() && now - flow.heard_at > FLOW_ENDED.max(2 * latency))
        {
            self.end_flow(now, index);
        }
    }

    /// A flow is closed once all links that carry it are closed or silent. It ends when all there is of it is delivered, and is
    /// remembered for as long as any other, so that what comes late is told from a new one.
    pub(super) fn watch_closed(&mut self, now: Timestamp, index: usize) {
        let flow = &mut self.flows[index];
        let carriers = || self.peers.iter().filter(|peer| peer.carries.contains(&flow.id));
        if carriers().any(|peer| peer.closed.is_some()) && !carriers().any(|peer| peer.is_live(now)) {
            flow.is_closed = true;
        }
        if flow.is_closed && !flow.is_done && flow.is_empty() {
            flow.is_done = true;
            let ended = Cause::FlowEnded { flow: flow.id.ssrc };
            self.note(now, ended);
        }
    }

    fn end_flow(&mut self, now: Timestamp, index: usize) {
        let mut flow = self.flows.remove(index);
        flow.give_up(now);
        self.ended.add(&flow.totals);
        if let Some(lost) = flow.take_lost(now, self.config.latency, true) {
            self.note(now, lost);
        }
        for peer in &mut self.peers {
            peer.carries.retain(|id| *id != flow.id);
        }
        if !flow.is_done {
            self.note(now, Cause::FlowEnded { flow: flow.id.ssrc });
        }
    }

    fn set_latency(&mut self, now: Timestamp, latency: Duration) {
        let before = self.config.latency;
        self.config.latency = latency.clamp(LATENCY_MIN, LATENCY_MAX);
        if before != self.config.latency {
            self.note(now, Cause::Latency { before, now: self.config.latency });
        }
    }

    /// Somebody who is not let in sent what is refused for `reason`.
    fn note_mismatch(&mut self, now: Timestamp, from: SocketAddr, reason: Reason) {
        if let Some(cause) = self.mismatches.note(now, from, reason) {
            self.note(now, cause);
        }
    }

    fn note(&mut self, at: Timestamp, cause: Cause) {
        self.events.push(Event { at, cause });
    }

    fn output(&mut self, output: ReceiverOutput) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        }
    }
}
