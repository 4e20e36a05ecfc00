//! The sending end of a flow.
//!
//! Payloads are numbered when they come in and wait in one queue, most urgent first ([`history`]). Links pull from that
//! queue while they have room ([`crate::link`], [`crate::schedule`]); what a link loses or holds up goes back into the
//! queue ([`repair`]). [`control`] speaks RTCP and keep-alives on every link.

mod budget;
mod causes;
mod control;
mod far_end;
mod history;
mod links;
mod listen;
mod numbers;
mod path_mtu;
mod plain;
mod protect;
mod quality;
mod repair;
mod report;
mod room;
mod shared;
mod transmit;
mod warm;

use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Bitrate, Ecn, LinkId, Timestamp};

use crate::blocks::Blocks;
use crate::config::{ConfigError, Extension, LATENCY_MAX, LATENCY_MIN, LINKS_MAX, LinkOptions, Profile, SenderConfig};
use crate::door::Door;
use crate::event::{Cause, Event, EventLog, StateReason};
use crate::farewell::Farewell;
use crate::framing::{Common, Framing, Inbound};
use crate::link::Link;
use crate::link::capacity::Meter;
use crate::link::delay::MinFilter;
use crate::link::life::Moved;
use crate::link::mtu::PathMtu;
use crate::link::sent::Outcome;
use crate::link::shared::Shared;
use crate::link::watch::Watch;
use crate::mismatch::Mismatches;
use crate::payload::{Channel, PAYLOAD_BYTES_MAX, Payload};
use crate::random::{Random, Seed};
use crate::rate_advice::RateAdvice;
use crate::stats::{EcnState, LinkState, SenderSnapshot};
use budget::UsedBefore;
use causes::AdviceTold;
use control::Control;
use far_end::FarEnd;
use history::{History, Packet, Standing};
use listen::Listening;
use numbers::Numbers;
use plain::CatchUp;
use protect::Protection;
use quality::Quality;
use transmit::Kept;

/// Why a socket could not send; contained to its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkErrorKind {
    /// No route, interface down or address gone.
    Unreachable,
    /// The interface lost its carrier or is gone.
    CarrierLost,
    /// A datagram is larger than the interface takes.
    TooLarge {
        /// Its size (UDP payload).
        bytes: usize,
    },
    /// The system's send buffer is full.
    BufferFull,
    /// Anything else.
    Other,
}

/// What a modem knows about its radio; optional, never required.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RadioHint {
    /// Reference signal received power in dBm.
    pub rsrp_dbm: Option<f32>,
    /// Channel quality indicator, 0 to 15.
    pub cqi: Option<u8>,
    /// The modem is between two cells.
    pub handover: bool,
}

/// What a caller tells a [`Sender`].
#[derive(Debug)]
pub enum SenderInput<'a> {
    /// The next packet of the flow.
    Payload(Payload),
    /// A datagram came in on a link's socket; it is decrypted in place.
    Datagram {
        /// Which link's socket.
        link: LinkId,
        /// Which of its ports.
        channel: Channel,
        /// The UDP payload.
        bytes: &'a mut [u8],
    },
    /// A link exists from now on; replaces one of the same id. One that was removed before, of the same id and name, goes on
    /// with what it had used of its byte budget.
    AddLink {
        /// Its id.
        link: LinkId,
        /// How it is used.
        options: LinkOptions,
    },
    /// Like `AddLink`, but the receiver calls: nothing is sent on the link before. Main Profile only; ignored in Simple Profile,
    /// whose receiver listens.
    Listen {
        /// Its id.
        link: LinkId,
        /// How it is used.
        options: LinkOptions,
    },
    /// A datagram came in on the socket of a listening link; it is decrypted in place.
    Called {
        /// Which link's socket.
        link: LinkId,
        /// Where it came from.
        from: SocketAddr,
        /// The UDP payload.
        bytes: &'a mut [u8],
    },
    /// A link is gone; what was in flight on it is sent again elsewhere. The far end is told, in the datagrams that are asked
    /// for next: send them before the socket is closed.
    RemoveLink {
        /// Its id.
        link: LinkId,
    },
    /// The flow ends: all links are removed, and nothing is sent any more but what tells the far end.
    Close,
    /// The link's local address or the interface behind it changed: handshake again, forget its measures.
    LinkAddressChanged {
        /// Its id.
        link: LinkId,
    },
    /// Other options for a link that goes on running.
    SetLinkOptions {
        /// Its id.
        link: LinkId,
        /// How it is used from now on; an empty name leaves the name, all bytes that count against its budget count against the
        /// new one too.
        options: LinkOptions,
    },
    /// The link's socket failed to send.
    LinkError {
        /// Its id.
        link: LinkId,
        /// How.
        kind: LinkErrorKind,
    },
    /// A new latency budget; out-of-range values are clamped.
    SetLatency(Duration),
    /// What the encoder can do; the rate advice stays within it.
    SetEncoderRange {
        /// Lowest.
        min: Bitrate,
        /// Highest.
        max: Bitrate,
    },
    /// What the modem knows.
    RadioHint {
        /// Its link.
        link: LinkId,
        /// The hint.
        hint: RadioHint,
    },
    /// The time of the last [`SenderOutput::Timeout`] has come.
    Timeout,
}

/// What a [`Sender`] asks of its caller.
#[derive(Debug, Clone)]
pub enum SenderOutput {
    /// Send this datagram.
    Transmit {
        /// On which link's socket.
        link: LinkId,
        /// From which of its ports.
        channel: Channel,
        /// With this ECN codepoint; `NotEct` always unless [`SenderConfig::ecn`] is set.
        ecn: Ecn,
        /// The UDP payload.
        bytes: Bytes,
    },
    /// Send this datagram from the socket of a listening link to somebody who calls and is not its receiver yet.
    Answer {
        /// On which link's socket.
        link: LinkId,
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Bytes,
    },
    /// From now on the datagrams of a listening link go to this address.
    Receiver {
        /// Which link.
        link: LinkId,
        /// The receiver that called.
        address: SocketAddr,
    },
    /// Something the operator may want to know.
    Event(Event),
    /// Nothing more until then, or until the next input.
    Timeout(Timestamp),
}

/// Time between looks at what is on its way.
const TICK: Duration = Duration::from_millis(10);
/// The same when nothing is.
const TICK_IDLE: Duration = Duration::from_millis(50);
/// How long after its first answer a peer may take to announce the extension before media flows in the plain way.
const SETTLE: Duration = Duration::from_millis(250);
/// A packet is kept this long after its time, for those who ask late.
const KEEP_AFTER: Duration = Duration::from_millis(500);
/// Datagrams waiting to be polled, control traffic only: media is made when it is polled.
const OUTPUTS_MAX: usize = 1024;

/// A pause of the source longer than this begins a new unit: encoders send a picture's packets in a burst.
const UNIT_GAP: Duration = Duration::from_millis(6);
/// A source without pauses is cut into units of this length.
const UNIT_MAX: Duration = Duration::from_millis(50);

/// One link with its framing and its conversation.
#[derive(Debug)]
struct Slot {
    link: Link,
    framing: Framing,
    control: Control,
    mtu: PathMtu,
    /// The datagram size that the last event told.
    mtu_told: u16,
    /// Whether an event told that the budget is spent.
    budget_told: bool,
    /// What the last event told of ECN.
    ecn_told: Option<EcnState>,
    /// The operator knows that nobody answers on the link.
    unanswered_told: bool,
    watch: Watch,
    /// Set when the receiver calls.
    listening: Option<Listening>,
    /// What the far end says of closing the link.
    farewell: Farewell,
}

/// Counters of the flow.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    packets_in: u64,
    bytes_in: u64,
    refused: u64,
    retransmits: u64,
    copies: u64,
    dropped: u64,
    unrecoverable: u64,
    useless: u64,
}

/// The sending end of one flow over any number of links.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    random: Random,
    /// Of the tunnels of all links.
    common: Common,
    now: Timestamp,
    flow: u32,
    rtp_base: u32,
    /// Indexed by slot; at most [`LINKS_MAX`]. A removed link leaves its slot to the next one added.
    slots: Vec<Option<Slot>>,
    used_before: UsedBefore,
    history: History,
    /// Whether the far end speaks the extension; `None` until it is known.
    extension: Option<bool>,
    far_end: FarEnd,
    /// Whether it counts ECN marks.
    far_ecn: bool,
    /// When the first answer came.
    answered_at: Option<Timestamp>,
    /// Far clock minus ours at the moment a source time is played, in microseconds.
    playout: Option<f64>,
    /// Set while what waited for a plain peer's first answer is being made up for.
    catch_up: Option<CatchUp>,
    outputs: VecDeque<SenderOutput>,
    events: EventLog,
    next_tick: Timestamp,
    /// When the links' control traffic is looked at again; an input or a tick may bring it forward.
    next_control: Timestamp,
    next_second: Timestamp,
    next_causes: Timestamp,
    advice_told: AdviceTold,
    /// When a link last confirmed what had arrived too late.
    late_at: Option<Timestamp>,
    /// When an idle link may get its next copy.
    warm_at: Timestamp,
    totals: Totals,
    numbers: Numbers,
    protection: Protection,
    quality: Quality,
    shared: Shared,
    kept_table: Kept,
    /// Datagrams sent over all links.
    order: u64,
    /// Source time of the first packet of the newest unit.
    unit_began: Timestamp,
    /// Microseconds from the making of media until it was handed to us, the least of the last ten seconds.
    handed_after: MinFilter<1_000_000>,
    dropped_told: u64,
    /// Towards a plain RIST peer: bytes per weight up to which all links have had their part.
    turn: f64,
    media_meter: Meter,
    encoder: (Bitrate, Bitrate),
    advice: RateAdvice,
    outcomes: Vec<Outcome>,
    /// Of listening links, once there is one.
    door: Option<Door>,
    /// Receivers that call and are refused.
    mismatches: Mismatches,
    scratch: Vec<u8>,
    blocks: Blocks,
    /// A payload without its null packets.
    shortened: Vec<u8>,
    /// See [`Sender::payload_bytes_max`].
    payload_bytes_max: usize,
}

impl Sender {
    /// A flow without links yet.
    ///
    /// # Errors
    /// A setting that can not work; the caller's fault.
    pub fn new(config: SenderConfig, seed: impl Into<Seed>, now: Timestamp) -> Result<Self, ConfigError> {
        config.check()?;
        let mut random = Random::new(seed.into());
        let flow = config.flow_id.unwrap_or_else(|| random.next_u32()) & !1;
        let rtp_base = random.next_u32();
        let drawn = random.next_u32() as u16;
        let first = u64::from(config.first_sequence.unwrap_or(drawn));
        Ok(Self {
            config,
            random,
            common: Common::default(),
            now,
            flow,
            rtp_base,
            slots: Vec::new(),
            used_before: UsedBefore::default(),
            history: History::new(first),
            extension: None,
            far_end: FarEnd::default(),
            far_ecn: false,
            answered_at: None,
            playout: None,
            catch_up: None,
            outputs: VecDeque::new(),
            events: EventLog::default(),
            next_tick: now,
            next_control: now,
            next_second: now,
            next_causes: now,
            advice_told: AdviceTold::new(),
            late_at: None,
            warm_at: now,
            totals: Totals::default(),
            numbers: Numbers::default(),
            protection: Protection::default(),
            quality: Quality::new(now),
            shared: Shared::new(now),
            kept_table: Kept::default(),
            order: 0,
            unit_began: Timestamp::ZERO,
            handed_after: MinFilter::new(),
            dropped_told: 0,
            turn: 0.0,
            media_meter: Meter::default(),
            encoder: (Bitrate::ZERO, Bitrate::from_bps(u64::MAX)),
            advice: RateAdvice::new(now),
            outcomes: Vec::new(),
            door: None,
            mismatches: Mismatches::default(),
            scratch: Vec::new(),
            blocks: Blocks::default(),
            shortened: Vec::new(),
            payload_bytes_max: path_mtu::PAYLOAD_BYTES_USUAL,
        })
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Timestamp, input: SenderInput<'_>) {
        let now = self.advance(now);
        if !matches!(input, SenderInput::Payload(_)) {
            self.next_control = now;
        }
        self.kept_table.forget();
        match input {
            SenderInput::Payload(payload) => self.accept(now, payload),
            SenderInput::Datagram { link, channel, bytes } => drop(self.receive(now, link, channel, bytes)),
            SenderInput::AddLink { link, options } => self.add_link(now, link, options),
            SenderInput::Listen { link, options } => self.listen(now, link, options),
            SenderInput::Called { link, from, bytes } => self.called(now, link, from, bytes),
            SenderInput::RemoveLink { link } => self.remove_link(now, link),
            SenderInput::Close => self.close(now),
            SenderInput::LinkAddressChanged { link } => self.open_anew(now, link, StateReason::AddressChanged),
            SenderInput::SetLinkOptions { link, options } => self.set_link_options(now, link, options),
            SenderInput::LinkError { link, kind } => self.link_error(now, link, kind),
            SenderInput::SetLatency(latency) => self.set_latency(now, latency),
            SenderInput::SetEncoderRange { min, max } => self.encoder = (min, max.max(min)),
            SenderInput::RadioHint { link, hint } => self.radio_hint(now, link, hint),
            SenderInput::Timeout => {}
        }
    }

    /// The next thing to do; `Timeout` last.
    pub fn poll_output(&mut self, now: Timestamp) -> SenderOutput {
        let now = self.advance(now);
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let next_timer = self.run_timers(now);
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let Some(event) = self.events.pop() {
            return SenderOutput::Event(event);
        }
        match self.transmit_next(now) {
            Ok(output) => output,
            Err(wake) => SenderOutput::Timeout(wake.min(next_timer).max(now + Duration::from_micros(100))),
        }
    }

    /// True while packets wait for a link: then timers are about pacing, and want to be served to the millisecond.
    pub fn is_pacing(&self) -> bool {
        self.history.pending_len() > 0 || self.protection.is_due()
    }

    /// The longest of the queues that the flow makes in front of the bottlenecks of links in use, as far as known.
    pub fn longest_queue(&self) -> Duration {
        let usable = self.slots.iter().flatten().filter(|slot| slot.link.usable());
        Duration::from_micros(usable.map(|slot| slot.link.delay.queue()).fold(0.0, f64::max) as u64)
    }

    /// Everything worth showing, at this moment.
    pub fn snapshot(&self, now: Timestamp) -> SenderSnapshot {
        self.make_snapshot(now.max(self.now))
    }

    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    /// Runs what is due and returns when to come again.
    fn run_timers(&mut self, now: Timestamp) -> Timestamp {
        if self.next_tick <= now {
            let busy = self.tick(now);
            self.next_tick = now + if busy { TICK } else { TICK_IDLE };
            self.next_control = now;
        }
        if self.next_control <= now {
            self.kept_table.forget();
            self.next_control = self.run_control(now);
        }
        self.next_control.min(self.next_tick)
    }

    /// True while anything waits or is on its way.
    fn tick(&mut self, now: Timestamp) -> bool {
        let mut busy = self.history.pending_len() > 0;
        let queue_wanted = self.wanted(now).queue;
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            let moved = slot.link.on_tick(now, queue_wanted, &mut self.outcomes);
            busy |= slot.link.sent.in_flight_bytes() > 0;
            self.note_moved(now, index, moved);
            if moved.is_some_and(|moved| moved.to == LinkState::Suspect) {
                self.rescue_from_silence(now, index);
            }
            self.settle_outcomes(now, index);
        }
        self.rescue(now);
        self.repeat_last(now);
        self.limit_payloads(now);
        self.observe_protection(now);
        self.watch_budgets(now);
        self.keep_warm(now);
        self.advise(now);
        if self.next_causes <= now {
            self.next_causes = now + causes::INTERVAL;
            self.find_shared(now);
            self.tell_causes(now);
        }
        self.trim(now);
        if self.next_second <= now {
            self.next_second = now + Duration::from_secs(1);
            self.every_second(now);
        }
        busy
    }

    fn every_second(&mut self, now: Timestamp) {
        let dropped = self.totals.dropped - self.dropped_told;
        if dropped > 0 {
            self.dropped_told = self.totals.dropped;
            self.note(now, Cause::Dropped { packets: dropped });
        }
        self.tell_protection(now);
        self.watch_numbers(now);
    }

    fn trim(&mut self, now: Timestamp) {
        let keep = self.config.latency + KEEP_AFTER;
        self.totals.dropped += self.history.trim(|packet| now - packet.source_time > keep);
    }

    fn accept(&mut self, now: Timestamp, payload: Payload) {
        if payload.bytes.is_empty() || payload.bytes.len() > PAYLOAD_BYTES_MAX {
            self.totals.refused += 1;
            return;
        }
        let Payload { bytes, source_time, class } = payload;
        for bytes in self.cut(bytes) {
            self.queue(now, Payload { bytes, source_time, class });
        }
    }

    fn queue(&mut self, now: Timestamp, payload: Payload) {
        let bytes = payload.bytes.len() as u64;
        // Never ahead of the clock and never back: numbers are deadlines. (A plain peer's start: see `plain`.)
        let (newest, unit) = self.history.newest().map_or((Timestamp::ZERO, 0), |p| (p.source_time, p.unit));
        let source_time = self.caught_up(payload.source_time.min(now)).max(newest);
        self.handed_after.push(now, (now - source_time).as_micros() as i64);
        let fresh = source_time - newest > UNIT_GAP || source_time - self.unit_began > UNIT_MAX;
        if fresh {
            self.unit_began = source_time;
        }
        let packet = Packet {
            bytes: payload.bytes,
            source_time,
            rtp_time: rtp_time(self.rtp_base, source_time),
            unit: unit.wrapping_add(u32::from(fresh)),
            aside: false,
            critical: payload.class.is_critical(),
            protected: payload.class.is_protected(),
            standing: Standing::Open,
            on_the_way: 0,
            transmissions: 0,
            repair: false,
            copies: 0,
            further: false,
            sent_at: Timestamp::ZERO,
            last_slot: 0,
            passed_at: None,
            lost_on: 0,
            avoid: 0,
        };
        // What hardly any link would have carried makes room for what may be.
        self.totals.dropped += self.history.give_up_aside();
        if self.history.push(packet).is_none() {
            self.totals.refused += 1;
            return;
        }
        self.totals.packets_in += 1;
        self.totals.bytes_in += bytes;
        self.media_meter.add(now, bytes);
    }

    fn slot_index(&self, link: LinkId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.link.id == link))
    }

    fn set_latency(&mut self, now: Timestamp, latency: Duration) {
        let before = self.config.latency;
        self.config.latency = latency.clamp(LATENCY_MIN, LATENCY_MAX);
        if before != self.config.latency {
            self.note(now, Cause::Latency { before, now: self.config.latency });
        }
    }

    fn note(&mut self, at: Timestamp, cause: Cause) {
        self.events.push(Event { at, cause });
    }

    fn note_moved(&mut self, now: Timestamp, index: usize, moved: Option<Moved>) {
        let (Some(moved), Some(slot)) = (moved, &self.slots[index]) else { return };
        let (link, name) = (slot.link.id, slot.link.options.name.clone());
        self.note(now, Cause::LinkState { link, name, from: moved.from, to: moved.to, reason: moved.reason });
    }

    fn output(&mut self, output: SenderOutput) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        }
    }
}

/// 90 kHz from a random beginning.
fn rtp_time(base: u32, at: Timestamp) -> u32 {
    base.wrapping_add((u128::from(at.as_micros()) * 9 / 100) as u32)
}
