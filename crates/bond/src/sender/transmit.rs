//! Pulling packets from the queue onto links that have room.

use rist::null_deletion::delete;
use rist::wire::rtp::{PAYLOAD_TYPE_MPEG_TS, RtpHeader, SSRC_RETRANSMIT};
use std::time::Duration;
use units::Timestamp;

use super::{Channel, Extension, Packet, Profile, SETTLE, Sender, SenderOutput, Slot, Standing};
use crate::event::Cause;
use crate::schedule::{Ask, Candidate, Choice, choose, copies, sure_by};

/// Queue wanted in front of a busy bottleneck, as a share of the latency, and its limits. What waits in the flow's own queue
/// can still take any link; what waits in front of a link that stalls must be sent again.
const QUEUE_SHARE: f64 = 0.03;
/// Packets that have been waiting for this share of the latency show a load that is more than links carry.
const PRESSED_SHARE: f64 = 0.15;
/// The queue wanted then: no link may run dry.
const QUEUE_SHARE_PRESSED: f64 = 0.07;
/// Packets that have been waiting for this share want every link used for what it is believed to carry; before, a link that has
/// fallen of late gets no more than it carried then, and its queue stays short.
const HURRIED_SHARE: f64 = 0.11;
const QUEUE_MICROS_MIN: f64 = 20_000.0;
const QUEUE_MICROS_MAX: f64 = 70_000.0;
/// A queue may take so much longer to drain than it seems, as a share of itself: capacities halve within a queue's time.
const QUEUE_DOUBT: f64 = 1.0;
/// The dearest link is used instead of a free one when it is faster by this share of the latency.
const PRICE_SHARE: f64 = 0.1;
/// Packets looked at for one transmission, when links have room but are too slow for the most urgent.
pub(super) const LOOK_MAX: usize = 64;
/// A picture is weighed before it begins once it has waited for this share of the latency, and longer than behind a key picture.
const PRESSED_AGE_SHARE: f64 = 0.2;
const PRESSED_AGE_MICROS_MIN: f64 = 100_000.0;
/// It may take so many times longer than the believed capacity of all links says. More gives up large pictures sooner, so
/// that more small ones are complete.
const UNIT_DOUBT: f64 = 2.0;
/// The same while links deliver late what was believed to arrive in time, and for so long after.
const UNIT_DOUBT_LATELY: f64 = 4.0;
const LATE_MEMORY: Duration = Duration::from_secs(4);
/// Nothing is weighed in this time after the first answer: capacities are not known yet.
const LEARNING: Duration = Duration::from_secs(2);
/// A copy in advance waits so long for a link.
const COPY_WAIT: Duration = Duration::from_millis(10);
/// Bytes of a full datagram.
const PACKET_BYTES: u64 = 1344;

/// What is wanted in front of bottlenecks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    /// The queue, in microseconds.
    pub queue: f64,
    /// Packets wait: no link may run dry, and one that has fallen of late may have risen again.
    hurried: bool,
}

/// The links at one moment.
#[derive(Debug, Default)]
pub(super) struct Table {
    candidates: Vec<Candidate>,
    /// When pacing lets each send that has room in its window.
    wakes: Vec<Timestamp>,
    price_scale: f64,
}

/// The table of the last packet.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// When it was made and what was wanted then; `None` when something else than packets sent may have happened since.
    made: Option<(Timestamp, Wanted)>,
    table: Table,
    /// Links that have sent since, one bit a slot.
    stale: u16,
}

impl Kept {
    /// A packet has left on this link.
    pub(super) fn on_sent(&mut self, index: usize) {
        self.stale |= 1 << index;
    }

    /// Something else has happened.
    pub(super) fn forget(&mut self) {
        self.made = None;
    }
}

impl Table {
    /// When pacing lets the next of those with room in their window send.
    fn wake(&self) -> Timestamp {
        self.wakes.iter().copied().min().unwrap_or(Timestamp::MAX)
    }

    /// The links that may carry media.
    pub(super) fn links(&self) -> &[Candidate] {
        &self.candidates
    }
}

impl Sender {
    /// The next media datagram, or when to look again.
    pub(super) fn transmit_next(&mut self, now: Timestamp) -> Result<SenderOutput, Timestamp> {
        if let Some(output) = self.transmit_repair(now) {
            return Ok(output);
        }
        if self.history.pending_len() == 0 {
            return Err(Timestamp::MAX);
        }
        if self.scheduled(now)? || self.is_echo_driven() {
            self.transmit_scheduled(now)
        } else {
            self.transmit_plain(now)
        }
    }

    /// True with the extension, false without; `Err` while it is open.
    fn scheduled(&mut self, now: Timestamp) -> Result<bool, Timestamp> {
        if let Some(extension) = self.extension {
            return Ok(extension);
        }
        let Some(answered) = self.answered_at else { return Err(Timestamp::MAX) };
        let possible = self.config.profile == Profile::Main && self.config.extension == Extension::Offer;
        let settled = answered + if possible { SETTLE } else { Duration::ZERO };
        if now < settled {
            return Err(settled);
        }
        self.extension = Some(false);
        self.begin_echoes();
        self.begin_catching_up(now);
        self.note(now, Cause::PeerIdentified { extension: false });
        Ok(false)
    }

    /// Far clock minus ours when a source time is played, plus that source time: the deadline of a packet.
    pub(super) fn deadline(&self, source_time: Timestamp) -> f64 {
        let playout = self.playout.unwrap_or_else(|| {
            let nearest = self.slots.iter().flatten().map(|slot| slot.link.path_delay()).fold(f64::MAX, f64::min);
            let nearest = if nearest < f64::MAX { nearest } else { 0.0 };
            self.config.latency.as_micros() as f64 + nearest
        });
        source_time.as_micros() as f64 + playout
    }

    /// True once packets have been waiting for a good part of the latency: the load is more than links carry.
    fn is_pressed(&self, now: Timestamp) -> bool {
        self.waited_share(now) > PRESSED_SHARE
    }

    /// How long the first in the queue has been waiting, as a share of the latency.
    fn waited_share(&self, now: Timestamp) -> f64 {
        let oldest = self.history.pending_from(0).and_then(|number| self.history.get(number));
        let waited = oldest.map_or(0.0, |packet| (now - packet.source_time).as_micros() as f64);
        waited / (self.config.latency.as_micros() as f64).max(1.0)
    }

    pub(super) fn wanted(&self, now: Timestamp) -> Wanted {
        let waited = self.waited_share(now);
        let share = if waited > PRESSED_SHARE { QUEUE_SHARE_PRESSED } else { QUEUE_SHARE };
        let queue = (self.config.latency.as_micros() as f64 * share).clamp(QUEUE_MICROS_MIN, QUEUE_MICROS_MAX);
        Wanted { queue, hurried: waited > HURRIED_SHARE }
    }

    /// The links at this moment.
    pub(super) fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::default();
        self.fill(&mut table, now, self.wanted(now));
        table
    }

    fn fill(&self, table: &mut Table, now: Timestamp, wanted: Wanted) {
        let usable = self.slots.iter().flatten().filter(|slot| slot.link.usable());
        let dearest = usable.map(|slot| slot.link.options.price).max().unwrap_or(0).max(1);
        table.price_scale = PRICE_SHARE * self.config.latency.as_micros() as f64 / f64::from(dearest);
        table.candidates.clear();
        table.wakes.clear();
        for index in 0..self.slots.len() {
            if let Some((candidate, wake)) = self.candidate(now, index, wanted, table.price_scale) {
                table.candidates.push(candidate);
                table.wakes.push(wake);
            }
        }
    }

    /// A link that may carry media, and when pacing lets it, if its window does.
    fn candidate(
        &self,
        now: Timestamp,
        index: usize,
        wanted: Wanted,
        price_scale: f64,
    ) -> Option<(Candidate, Timestamp)> {
        let link = &self.slots[index].as_ref()?.link;
        if !(link.usable() && link.reported) {
            return None;
        }
        let rate = if wanted.hurried { link.rate() } else { link.rate_lately() };
        // Echoes show a stall later than reports: by then enough hangs on the link.
        let stalls = link.echoed.is_some() && link.overdue(now) > 0.0;
        let room = !stalls && link.sent.in_flight_bytes() + PACKET_BYTES <= link.window(wanted.queue, rate);
        let paced = link.next_send() <= now;
        let candidate = Candidate {
            slot: index,
            // Where there is no time to send again, links that lose packets come after those that do not.
            priority: link.options.priority.saturating_add(u8::from(self.protection.avoids(index))),
            arrival: link.arrival(now, PACKET_BYTES),
            spread: 2.0 * link.delay.jitter() + QUEUE_DOUBT * link.queue_with(PACKET_BYTES),
            round_trip: link.round_trip_low(),
            loss: link.loss(),
            penalty: self.protection.penalty(index) + f64::from(link.options.price) * price_scale,
            rate: link.rate(),
            ready: room && paced,
        };
        Some((candidate, if room && !paced { link.next_send() } else { Timestamp::MAX }))
    }

    /// Makes `table`, that of the last packet, the same as [`Sender::table`], at the cost of the links that have sent since.
    fn table_again(&mut self, table: &mut Table, now: Timestamp) {
        let wanted = self.wanted(now);
        let same = self.kept_table.made == Some((now, wanted));
        let stale = std::mem::take(&mut self.kept_table.stale);
        self.kept_table.made = Some((now, wanted));
        if !same {
            return self.fill(table, now, wanted);
        }
        for place in 0..table.candidates.len() {
            let index = table.candidates[place].slot;
            if stale >> index & 1 == 1 {
                let Some((candidate, wake)) = self.candidate(now, index, wanted, table.price_scale) else {
                    // No candidate any more (its budget is spent): all of it.
                    return self.fill(table, now, wanted);
                };
                (table.candidates[place], table.wakes[place]) = (candidate, wake);
            }
        }
    }

    fn transmit_scheduled(&mut self, now: Timestamp) -> Result<SenderOutput, Timestamp> {
        let mut table = std::mem::take(&mut self.kept_table.table);
        self.table_again(&mut table, now);
        let output = self.transmit_by(&table, now);
        self.kept_table.table = table;
        output
    }

    /// The next packet for one of the links in `table`.
    fn transmit_by(&mut self, table: &Table, now: Timestamp) -> Result<SenderOutput, Timestamp> {
        let candidates = table.links();
        let any_ready = candidates.iter().any(|candidate| candidate.ready);
        if any_ready && let Some(output) = self.transmit_critical(candidates, now) {
            return Ok(output);
        }
        let mut from = 0;
        let mut wake = table.wake();
        for look in 1..=LOOK_MAX {
            if look == LOOK_MAX {
                // However many repairs and copies wait for links that are full, what nobody has yet goes over the others.
                from = from.max(self.history.unsent_from());
            }
            let Some(number) = self.history.pending_from(from) else { break };
            if let Some(at) = self.held_until(now, number) {
                wake = wake.min(at);
                break;
            }
            from = number + 1;
            if self.drop_waiting_copy(now, number) {
                continue;
            }
            let Some(ask) = self.ask(now, number, false) else { continue };
            match choose(candidates, &ask) {
                // A picture that will hardly be complete in time stands back while another can be.
                Choice::Send(_) if self.is_too_much(number, &ask, candidates) && self.history.set_aside(number) => {}
                Choice::Send(index) => return Ok(self.send_chosen(now, number, index, candidates, &ask)),
                Choice::Doubtful if self.history.set_aside(number) => {}
                Choice::Hopeless => self.give_up(number),
                Choice::Wait | Choice::Doubtful if !any_ready => break,
                // Too urgent for the links with room: the first that is not.
                Choice::Wait | Choice::Doubtful => {
                    let needed = candidates.iter().filter(|c| c.ready).map(sure_by).fold(f64::MAX, f64::min);
                    let source_time = needed - self.deadline(Timestamp::ZERO);
                    from = from.max(self.history.first_since(Timestamp::from_micros(source_time.max(0.0) as u64)));
                }
            }
        }
        for _ in 0..LOOK_MAX {
            let Some(number) = self.history.aside_first() else { break };
            let Some(ask) = self.ask(now, number, true) else { break };
            match choose(candidates, &ask) {
                Choice::Send(index) => return Ok(self.send_chosen(now, number, index, candidates, &ask)),
                Choice::Hopeless => self.give_up(number),
                Choice::Wait | Choice::Doubtful => break,
            }
        }
        Err(wake)
    }

    /// While the bond is overloaded, what must not be given up goes before the rest: in the order of deadlines its turn would come
    /// when everything before it has used up the time there is.
    fn transmit_critical(&mut self, candidates: &[Candidate], now: Timestamp) -> Option<SenderOutput> {
        if !self.is_pressed(now) {
            return None;
        }
        let number = self.history.critical_first()?;
        let ask = self.ask(now, number, false)?;
        match choose(candidates, &ask) {
            Choice::Send(index) => Some(self.send_chosen(now, number, index, candidates, &ask)),
            Choice::Wait | Choice::Doubtful | Choice::Hopeless => None,
        }
    }

    fn ask(&self, now: Timestamp, number: u64, gamble: bool) -> Option<Ask> {
        let packet = self.history.get(number)?;
        Some(Ask {
            deadline: self.deadline(packet.source_time),
            age: (now - packet.source_time).as_micros() as f64,
            avoid: self.avoided(packet) | self.too_narrow(packet.bytes.len()),
            lost_on: packet.lost_on,
            latency: self.config.latency.as_micros() as f64,
            gamble: gamble || packet.critical || self.history.unit_begun(number),
        })
    }

    /// The links that carry a copy already. A repair goes over one of these where no other is left: what made it may be over.
    fn avoided(&self, packet: &Packet) -> u16 {
        let other = |(index, slot): (usize, &Option<Slot>)| {
            packet.avoid >> index & 1 == 0 && slot.as_ref().is_some_and(|slot| slot.link.usable())
        };
        let only_these = packet.repair && packet.avoid != 0 && !self.slots.iter().enumerate().any(other);
        if only_these { 0 } else { packet.avoid }
    }

    /// A copy in advance waits for a second link only briefly: it must not hold up packets that nobody has yet.
    pub(super) fn drop_waiting_copy(&mut self, now: Timestamp, number: u64) -> bool {
        let Some(packet) = self.history.get_mut(number) else { return false };
        if packet.repair || packet.transmissions == 0 || now - packet.sent_at < COPY_WAIT {
            return false;
        }
        (packet.copies, packet.avoid) = (0, 0);
        self.history.unqueue(number);
        true
    }

    /// True when a picture that has not begun can not be completed in time, while others wait.
    fn is_too_much(&self, number: u64, ask: &Ask, candidates: &[Candidate]) -> bool {
        let learning = self.answered_at.is_none_or(|at| self.now - at < LEARNING);
        if learning
            || ask.age < (PRESSED_AGE_SHARE * ask.latency).max(PRESSED_AGE_MICROS_MIN)
            || !self.history.begins_unit(number)
        {
            return false;
        }
        let rate: f64 = candidates.iter().map(|candidate| candidate.rate).sum();
        let earliest = candidates.iter().map(|c| c.arrival + c.spread).fold(f64::MAX, f64::min);
        let rest = self.history.rest_of_unit(number) as f64;
        let lately = self.late_at.is_some_and(|at| self.now - at < LATE_MEMORY);
        let doubt = if lately { UNIT_DOUBT_LATELY } else { UNIT_DOUBT };
        earliest + doubt * rest * 1e6 / rate.max(1.0) > ask.deadline
    }

    /// No link can deliver it in time; what hangs on a link may still arrive.
    fn give_up(&mut self, number: u64) {
        if self.history.get(number).is_some_and(|packet| packet.on_the_way == 0) {
            self.history.settle(number, Standing::Dropped);
            // What is left of a picture with a hole is worth less than the next one, unless the hole may be mended.
            let rest = if self.protection.mends(number) { 0 } else { self.history.drop_rest_of_unit(number) };
            self.totals.dropped += 1 + rest;
        } else {
            self.history.unqueue(number);
        }
    }

    fn send_chosen(
        &mut self,
        now: Timestamp,
        number: u64,
        index: usize,
        candidates: &[Candidate],
        ask: &Ask,
    ) -> SenderOutput {
        let Some(packet) = self.history.get(number) else { return self.send(now, number, index) };
        if packet.repair && packet.copies == 0 {
            let chosen = candidates.iter().find(|candidate| candidate.slot == index);
            let (loss, trip) = chosen.map_or((0.0, 0.0), |c| (c.loss, c.round_trip));
            let independent = u8::try_from(self.independent(candidates)).unwrap_or(u8::MAX);
            let wanted = copies(candidates, ask, loss, trip).min(independent);
            let joined = wanted > 1 && self.join_last_round(now, number, index, wanted, loss);
            if let Some(packet) = self.history.get_mut(number) {
                packet.copies = if joined { 1 } else { wanted };
            }
        } else if packet.transmissions == 0 {
            let copy = packet.protected && candidates.len() > 1 && self.protection.copy_pays(index);
            self.protect_source(now, number, index);
            if let Some(packet) = self.history.get_mut(number) {
                packet.copies = 1 + u8::from(copy);
            }
        }
        self.send(now, number, index)
    }

    /// Sends one copy of a packet on a link.
    pub(super) fn send(&mut self, now: Timestamp, number: u64, index: usize) -> SenderOutput {
        let fate = self.fate(index);
        let (Some(slot), Some(packet)) = (&mut self.slots[index], self.history.get_mut(number)) else {
            return SenderOutput::Timeout(now);
        };
        let again = packet.transmissions > 0;
        let header = RtpHeader {
            marker: false,
            payload_type: PAYLOAD_TYPE_MPEG_TS,
            sequence: number as u16,
            timestamp: packet.rtp_time,
            ssrc: self.flow | if packet.repair { SSRC_RETRANSMIT } else { 0 },
            extension: None,
        };
        self.shortened.clear();
        let deleted = if self.config.null_deletion { delete(&packet.bytes, &mut self.shortened) } else { None };
        let payload = if deleted.is_some() { &self.shortened } else { &packet.bytes[..] };
        let header = RtpHeader { extension: deleted, ..header };
        let (bytes, sequence) = slot.framing.media(now, &header, payload, &mut self.blocks);
        self.order += 1;
        let ecn = slot.link.ecn.media();
        slot.link.on_sent(now, self.order, sequence, bytes.len(), Some(number), ecn);
        slot.link.add_share(self.turn, bytes.len());
        self.kept_table.on_sent(index);
        if again {
            let again = packet.repair && !packet.further;
            slot.link.counters.retransmits += u64::from(again);
            if again { self.totals.retransmits += 1 } else { self.totals.copies += 1 }
        }
        packet.transmissions = packet.transmissions.saturating_add(1);
        packet.on_the_way = packet.on_the_way.saturating_add(u8::from(slot.link.reported));
        packet.sent_at = now;
        packet.last_slot = index as u8;
        packet.passed_at = None;
        packet.avoid |= fate;
        packet.copies = packet.copies.saturating_sub(1);
        packet.further = packet.copies > 0;
        if packet.copies == 0 {
            packet.avoid = 0;
            packet.repair = false;
            self.history.unqueue(number);
        }
        self.history.note_sent(number);
        let link = slot.link.id;
        SenderOutput::Transmit { link, channel: Channel::Media, ecn, bytes }
    }
}
