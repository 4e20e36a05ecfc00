//! The conversation on each link: keep-alives, RTCP compounds, echoes, announcements, and what comes back.

use bytes::Bytes;
use rist::wire::rtcp::App;
use rist::wire::rtcp::{
    BitmaskEntry, Echo, EchoKind, RangeEntry, ReceiverReport, RtcpPacket, Sdes, SenderReport, packets,
};
use std::time::Duration;
use units::{Ecn, Timestamp};

use super::far_end::Offer;
use super::listen::Listening;
use super::{Channel, Extension, Inbound, LinkId, LinkState, Sender, SenderOutput, Slot};
use crate::agreed_latency::told_ms;
use crate::event::StateReason;
use crate::extension::{
    ANNOUNCE, Announce, CLOCK, NAME, PROBE, RECOVERED, REPORT, Report, emit_clock, parse_recovered,
};
use crate::farewell::{Signals, Wish};

/// RTCP while a link is in use (TR-06-1: at most 100 ms).
const INTERVAL: Duration = Duration::from_millis(100);
/// RTCP while an answer is wanted: a new, doubted or dead link.
const INTERVAL_ASKING: Duration = Duration::from_millis(50);
/// The same while no link is up at all.
const INTERVAL_DESPERATE: Duration = Duration::from_millis(10);
/// Quick questions before they become rare.
const QUICK_QUESTIONS: u32 = 40;
/// A dead link is asked quickly for so long.
const QUICK_TIME: Duration = Duration::from_secs(10);
/// RTCP on a link that has not answered for long.
const INTERVAL_DEAD: Duration = Duration::from_millis(200);
/// Everything on a link whose byte budget is spent; a receiver takes one that is silent for 2 s for lost.
const INTERVAL_SPENT: Duration = Duration::from_millis(1500);
/// Keep-alives of a client: a burst first (TR-06-2), then at this interval.
const KEEP_ALIVE_BURST: u32 = 3;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// With reports coming in, echoes and announcements are only needed now and then.
const EVERY: u32 = 10;
/// Bytes of an RTP header.
const RTP_BYTES: usize = 12;
/// Sequence numbers taken from the requests for retransmission in one datagram: all there are, once. It has room for ranges
/// that make hundreds of times as many.
const REQUESTS_MAX: usize = 1 << 16;
/// An echo answered later than this tells nothing.
const ECHO_AGE_MAX: u64 = 10_000_000;

/// An answer to one of our echo requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct RtcpEcho {
    /// As in the request.
    pub timestamp: u64,
    /// Without the time the far end took.
    pub trip_micros: u64,
}

/// One link's conversation.
#[derive(Debug)]
pub(super) struct Control {
    /// SSRC of our echo requests on this link.
    echo_ssrc: u32,
    next_rtcp: Timestamp,
    next_keep_alive: Timestamp,
    /// Echo requests on a link whose budget is spent are answered from then on.
    next_answer: Timestamp,
    /// Whether the link rested when its budget was last looked at.
    rested: bool,
    compounds: u32,
    keep_alives: u32,
    /// What the framing adds to an RTCP compound or RTP packet, in bytes.
    framing_bytes: usize,
}

impl Control {
    /// `framing_bytes` is what framing may add to RTCP, until the first compound has shown it.
    pub(super) fn new(now: Timestamp, echo_ssrc: u32, framing_bytes: usize) -> Self {
        Self {
            echo_ssrc,
            next_rtcp: now,
            next_keep_alive: now,
            next_answer: now,
            rested: false,
            compounds: 0,
            keep_alives: 0,
            framing_bytes,
        }
    }

    /// Lets the next compound announce the link again, at once.
    pub(super) fn announce_soon(&mut self, now: Timestamp) {
        self.compounds = 0;
        self.next_rtcp = now;
    }

    /// Lets a link announce at once that it rests, or rests no more, and then ask.
    pub(super) fn note_rest(&mut self, now: Timestamp, rests: bool) {
        if self.rested != rests {
            self.announce_soon(now);
        }
        if self.rested && !rests {
            self.next_keep_alive = now;
        }
        self.rested = rests;
    }

    /// The datagram that a media payload of `payload_bytes` bytes travels in.
    pub(super) fn media_bytes(&self, payload_bytes: usize) -> u16 {
        u16::try_from(payload_bytes + RTP_BYTES + self.framing_bytes).unwrap_or(u16::MAX)
    }

    /// Begins the handshake again.
    pub(super) fn restart(&mut self, now: Timestamp, framing_bytes: usize) {
        *self = Self::new(now, self.echo_ssrc, framing_bytes);
    }
}

impl Sender {
    /// Sends what is due on every link; returns when the next is.
    pub(super) fn run_control(&mut self, now: Timestamp) -> Timestamp {
        let mut next = Timestamp::MAX;
        let any_up = self.slots.iter().flatten().any(|slot| slot.link.state == LinkState::Up);
        for index in 0..self.slots.len() {
            self.forget_receiver(now, index);
            let Some(slot) = &mut self.slots[index] else { continue };
            if slot.listening.as_ref().is_some_and(Listening::waits) {
                continue;
            }
            let id = slot.link.id;
            let mut made: Vec<(Channel, Ecn, Vec<u8>)> = Vec::new();
            while let Some((datagram, sequence)) = slot.framing.control(now) {
                if sequence.is_some() {
                    self.order += 1;
                    slot.link.on_sent(now, self.order, sequence, datagram.len(), None, Ecn::NotEct);
                }
                made.push((Channel::Media, Ecn::NotEct, datagram));
            }
            if slot.control.next_keep_alive <= now {
                let burst = if slot.control.keep_alives == 0 { KEEP_ALIVE_BURST } else { 1 };
                for _ in 0..burst {
                    if let Some((datagram, sequence)) = slot.framing.keep_alive(now) {
                        self.order += 1;
                        slot.link.on_sent(now, self.order, Some(sequence), datagram.len(), None, Ecn::NotEct);
                        made.push((Channel::Media, Ecn::NotEct, datagram));
                    }
                }
                slot.control.keep_alives += 1;
                slot.control.next_keep_alive = now + if slot.rests() { INTERVAL_SPENT } else { KEEP_ALIVE_INTERVAL };
            }
            if slot.control.next_rtcp <= now {
                let extension = Told { known: self.extension == Some(true), offered: self.far_end.offers(now) };
                self.scratch.clear();
                let handed =
                    self.handed_after.get().map(|micros| now.back(Duration::from_micros(micros.unsigned_abs())));
                let clocks = Clocks {
                    now: super::rtp_time(self.rtp_base, now),
                    handed: handed.map(|at| super::rtp_time(self.rtp_base, at)),
                };
                write_compound(&mut self.scratch, now, slot, self.flow, clocks, &self.config, extension);
                if let Some((channel, datagram, sequence)) = slot.framing.rtcp(now, &self.scratch) {
                    slot.control.framing_bytes = datagram.len() - self.scratch.len();
                    self.order += 1;
                    let ecn = if self.far_ecn { slot.link.control_ecn(now) } else { Ecn::NotEct };
                    slot.link.on_sent(now, self.order, sequence, datagram.len(), None, ecn);
                    if let Some(echoed) = &mut slot.link.echoed {
                        echoed.asked(now, now.as_micros());
                    }
                    made.push((channel, ecn, datagram));
                }
                slot.control.compounds += 1;
                slot.control.next_rtcp = now + interval(slot, now, any_up);
            }
            // Echoes do not tell which datagram was too large.
            if slot.link.reported && slot.link.echoed.is_none() && slot.link.usable() {
                let trip = Duration::from_micros(slot.link.round_trip_low() as u64);
                while let Some(size) = slot.mtu.poll(now, trip) {
                    write_probe(&mut self.scratch, self.flow, &self.config, usize::from(size), slot);
                    // A framing without sequence numbers can not tell which size arrived.
                    let Some((channel, datagram, Some(sequence))) = slot.framing.rtcp(now, &self.scratch) else {
                        break;
                    };
                    self.order += 1;
                    slot.link.on_sent(now, self.order, Some(sequence), datagram.len(), None, Ecn::NotEct);
                    slot.mtu.on_sent(now, size, sequence);
                    made.push((channel, Ecn::NotEct, datagram));
                }
            }
            next = next.min(slot.control.next_rtcp).min(slot.control.next_keep_alive);
            for (channel, ecn, datagram) in made {
                self.output(SenderOutput::Transmit { link: id, channel, ecn, bytes: Bytes::from(datagram) });
            }
        }
        next
    }

    /// Takes a datagram from a link's socket; false when it is not genuine.
    pub(super) fn receive(&mut self, now: Timestamp, id: LinkId, channel: Channel, bytes: &mut [u8]) -> bool {
        let Some(index) = self.slot_index(id) else { return false };
        let Some(slot) = &mut self.slots[index] else { return false };
        let Ok(parsed) = slot.framing.parse(now, channel, self.config.extension, bytes) else { return false };
        let inbound = parsed.inbound;
        let moved = match inbound {
            // A login still under way is no answer.
            Inbound::Nothing | Inbound::LogIn => None,
            _ => slot.link.on_heard(now),
        };
        if moved.is_some() {
            self.answered_at.get_or_insert(now);
        }
        self.note_moved(now, index, moved);
        match inbound {
            Inbound::KeepAlive { extension, fec, ecn, signals, .. } => {
                self.hear_offer(now, Offer { extension, fec, ecn });
                self.hear_signals(now, index, signals);
            }
            Inbound::Rtcp(compound) => {
                let mut requests = REQUESTS_MAX;
                for packet in packets(compound).filter_map(Result::ok) {
                    self.on_rtcp(now, index, packet, &mut requests);
                }
            }
            _ => {}
        }
        true
    }

    /// What the far end wants of the link itself.
    fn hear_signals(&mut self, now: Timestamp, index: usize, signals: Signals) {
        let Some(slot) = &mut self.slots[index] else { return };
        let (id, listens) = (slot.link.id, slot.listening.is_some());
        let Some(wish) = slot.farewell.hear(now, signals) else { return };
        if signals.disconnect {
            self.say_goodbye(now, index);
        }
        match wish {
            Wish::Close if listens => self.drop_receiver(now, index),
            Wish::Close => {
                let Some(slot) = &mut self.slots[index] else { return };
                let moved = slot.link.on_closed(now, &mut self.outcomes);
                self.note_moved(now, index, moved);
                self.settle_outcomes(now, index);
            }
            // Who listens waits for a call.
            Wish::Reopen if !listens => self.open_anew(now, id, StateReason::Reopened),
            Wish::Reopen | Wish::CloseAgain => {}
        }
    }

    /// Tells the far end that the link is closed; false when there is nobody to tell, or it was told often enough.
    pub(super) fn say_goodbye(&mut self, now: Timestamp, index: usize) -> bool {
        let Some(slot) = &mut self.slots[index] else { return false };
        if slot.listening.as_ref().is_some_and(Listening::waits) || !slot.farewell.says() {
            return false;
        }
        let Some(datagram) = slot.framing.goodbye(now) else { return false };
        let link = slot.link.id;
        let (channel, ecn, bytes) = (Channel::Media, Ecn::NotEct, Bytes::from(datagram));
        self.output(SenderOutput::Transmit { link, channel, ecn, bytes });
        true
    }

    fn on_rtcp(&mut self, now: Timestamp, index: usize, packet: RtcpPacket<'_>, requests: &mut usize) {
        match packet {
            RtcpPacket::EchoRequest(echo) => self.answer(now, index, echo),
            RtcpPacket::EchoResponse(echo) => {
                let Some(slot) = &mut self.slots[index] else { return };
                let age = now.as_micros().wrapping_sub(echo.timestamp);
                let delay = u64::from(echo.processing_delay_us);
                if echo.ssrc == slot.control.echo_ssrc && age <= ECHO_AGE_MAX && delay <= age {
                    slot.framing.vouch(now);
                    self.on_echo(now, index, RtcpEcho { timestamp: echo.timestamp, trip_micros: age - delay });
                    self.hear_answer(now);
                }
            }
            RtcpPacket::ReceiverReport(report) => {
                if let Some(lqm) = report.lqm {
                    self.on_quality(now, report.ssrc, &lqm);
                }
            }
            RtcpPacket::NackRange(nack) if nack.media_ssrc & !1 == self.flow => {
                self.on_requests(now, index, requests, nack.entries.iter().flat_map(RangeEntry::sequences));
            }
            RtcpPacket::HeadlessRanges(entries) => {
                self.on_requests(now, index, requests, entries.iter().flat_map(RangeEntry::sequences));
            }
            RtcpPacket::NackBitmask(nack) if nack.media_ssrc & !1 == self.flow => {
                self.on_requests(now, index, requests, nack.entries.iter().flat_map(BitmaskEntry::sequences));
            }
            RtcpPacket::App(App { name: NAME, subtype: REPORT, ssrc, body }) => {
                if let Some(report) = Report::parse(body).filter(|_| self.config.extension == Extension::Offer) {
                    self.hear_report(now, ssrc, &report);
                }
            }
            RtcpPacket::App(App { name: NAME, subtype: RECOVERED, body, .. }) if self.extension == Some(true) => {
                parse_recovered(body).for_each(|sequence| self.on_recovered(sequence));
            }
            _ => {}
        }
    }

    /// Serves requests while `left`, of all in the datagram, lasts.
    fn on_requests(&mut self, now: Timestamp, index: usize, left: &mut usize, sequences: impl Iterator<Item = u16>) {
        for sequence in sequences.take(*left) {
            *left -= 1;
            self.on_nack(now, index, sequence);
        }
    }

    fn answer(&mut self, now: Timestamp, index: usize, echo: Echo) {
        let flow = self.flow;
        let Some(slot) = &mut self.slots[index] else { return };
        if slot.rests() && now < slot.control.next_answer {
            return;
        }
        slot.control.next_answer = now + INTERVAL_SPENT;
        self.scratch.clear();
        ReceiverReport::emit(flow, &[], None, &mut self.scratch);
        Sdes { ssrc: flow, cname: cname(&self.config.cname) }.emit(&mut self.scratch);
        echo.response(0).emit(EchoKind::Response, &mut self.scratch);
        let Some((channel, datagram, sequence)) = slot.framing.rtcp(now, &self.scratch) else { return };
        self.order += 1;
        slot.link.on_sent(now, self.order, sequence, datagram.len(), None, Ecn::NotEct);
        let link = slot.link.id;
        self.output(SenderOutput::Transmit { link, channel, ecn: Ecn::NotEct, bytes: Bytes::from(datagram) });
    }
}

impl Slot {
    /// True while nothing but keep-alive goes over the link, up or not: its budget is spent, and it is no last resort just now.
    /// A plain RIST peer would give up a link that is so silent.
    pub(super) fn rests(&self) -> bool {
        self.link.reported && self.link.echoed.is_none() && self.link.budget_spent() && !self.link.resort
    }
}

fn interval(slot: &Slot, now: Timestamp, any_up: bool) -> Duration {
    match slot.link.state {
        _ if slot.rests() => INTERVAL_SPENT,
        // Its echoes are what drives the link.
        LinkState::Up if slot.link.echoed.is_some() && slot.link.sent.in_flight_packets() > 0 => {
            Duration::from_micros(slot.link.echo_interval() as u64)
        }
        LinkState::Up if slot.link.overdue(now) > 0.0 => INTERVAL_ASKING,
        LinkState::Up => INTERVAL,
        LinkState::Down if slot.link.in_state(now) > QUICK_TIME => INTERVAL_DEAD,
        LinkState::Suspect | LinkState::Down if !any_up => INTERVAL_DESPERATE,
        LinkState::Probe if slot.control.compounds > QUICK_QUESTIONS => INTERVAL_DEAD,
        LinkState::Probe | LinkState::Suspect | LinkState::Down => INTERVAL_ASKING,
    }
}

fn cname(text: &str) -> &[u8] {
    if text.is_empty() { b"strata" } else { text.as_bytes() }
}

/// RTP times.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    now: u32,
    /// Of media that is handed to us now.
    handed: Option<u32>,
}

/// What the far end has told of the extension.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// It is in use.
    known: bool,
    /// Or it is offered, and a report would confirm it.
    offered: bool,
}

fn write_compound(
    out: &mut Vec<u8>,
    now: Timestamp,
    slot: &Slot,
    flow: u32,
    clocks: Clocks,
    config: &super::SenderConfig,
    extension: Told,
) {
    SenderReport { ssrc: flow, ntp: ntp(now), rtp_timestamp: clocks.now, packets: 0, octets: 0 }.emit(out);
    Sdes { ssrc: flow, cname: cname(&config.cname) }.emit(out);
    let asking = slot.link.state != LinkState::Up || slot.link.overdue(now) > 0.0;
    let now_and_then = slot.control.compounds.is_multiple_of(EVERY);
    let Told { known, offered } = extension;
    if !known || asking || now_and_then {
        let echo = Echo { ssrc: slot.control.echo_ssrc, timestamp: now.as_micros(), ..Echo::default() };
        echo.emit(EchoKind::Request, out);
    }
    let rests = slot.rests();
    if (known || offered) && (asking || now_and_then || rests || slot.control.compounds < EVERY) {
        let mut body = Vec::with_capacity(32);
        let latency_ms = told_ms(config.latency);
        Announce { link: slot.link.id, latency_ms, rests, name: &slot.link.options.name }.emit(&mut body);
        App { subtype: ANNOUNCE, ssrc: flow, name: NAME, body: &body }.emit(out);
        if let Some(handed) = clocks.handed {
            body.clear();
            emit_clock(handed, &mut body);
            App { subtype: CLOCK, ssrc: flow, name: NAME, body: &body }.emit(out);
        }
    }
}

/// What asks a caller for an echo: only the address it came from learns `echo_ssrc`.
pub(super) fn write_greeting(out: &mut Vec<u8>, now: Timestamp, flow: u32, echo_ssrc: u32, name: &str) {
    ReceiverReport::emit(flow, &[], None, out);
    Sdes { ssrc: flow, cname: cname(name) }.emit(out);
    Echo { ssrc: echo_ssrc, timestamp: now.as_micros(), ..Echo::default() }.emit(EchoKind::Request, out);
}

/// A compound that fills a datagram of `size` bytes.
fn write_probe(out: &mut Vec<u8>, flow: u32, config: &super::SenderConfig, size: usize, slot: &Slot) {
    const APP_HEADER_BYTES: usize = 12;
    out.clear();
    ReceiverReport::emit(flow, &[], None, out);
    Sdes { ssrc: flow, cname: cname(&config.cname) }.emit(out);
    let padding = size.saturating_sub(slot.control.framing_bytes + out.len() + APP_HEADER_BYTES);
    App { subtype: PROBE, ssrc: flow, name: NAME, body: &vec![0; padding & !3] }.emit(out);
}

/// Our clock as 32.32 fixed-point seconds; opaque to the peer.
fn ntp(now: Timestamp) -> u64 {
    ((u128::from(now.as_micros()) << 32) / 1_000_000) as u64
}
