//! What was lost or held up goes back into the queue.

use std::time::Duration;
use units::Timestamp;

use super::{LinkState, Outcome, Sender, Slot, Standing};
use crate::extension::Report;

/// A packet that hangs on a stalled link is sent again over another when no more than this share of the latency (beyond the
/// other link's delay) is left of its time: late enough for most stalls to end, early enough for all that hangs to find room.
const RESCUE_SHARE: f64 = 0.3;
/// Of a short latency it is more, up to this time and share.
const RESCUE_SHORT_MICROS: f64 = 150_000.0;
const RESCUE_SHORT_SHARE: f64 = 0.5;
/// A source that makes nothing for so long pauses; pictures are at most 40 ms apart.
const PAUSE: Duration = Duration::from_millis(100);
/// Copies of the last packet before a pause; each waits for twice the time of the one before.
const LAST_COPIES: u8 = 4;
/// Packets looked at per link and tick.
const RESCUE_LOOK_MAX: usize = 512;

/// What comes so much sooner or later than the far end expects is of another timeline to it, which begins then, in microseconds.
const TIMELINE_MICROS: f64 = 10_000_000.0;

/// The numbers given out last, of which reports may tell.
const NUMBERS_SENT: u32 = 1 << 24;

impl Sender {
    /// Takes a report of the far end; true when it confirms anything.
    pub(super) fn on_report(&mut self, now: Timestamp, report: &Report<'_>) -> bool {
        self.learn_playout(report);
        let mut confirms = false;
        for told in report.links() {
            let Some(index) = self.slot_index(told.link) else { continue };
            let Some(slot) = &mut self.slots[index] else { continue };
            // A link that was added again, or a sender that began again: it is of numbers that are not this one's.
            if !slot.framing.has_sent(told.highest, NUMBERS_SENT) {
                continue;
            }
            let progress = slot.link.on_report(now, report.clock_micros, &told, &mut self.outcomes);
            confirms |= progress.confirmed > 0;
            if let Some(sent_at) = progress.newest_sent_at {
                self.compare_waits(index, sent_at, progress.newest_order);
            }
            let Some(slot) = &mut self.slots[index] else { continue };
            slot.mtu.on_report(now, told.highest, |back| told.has(back));
            let moved = slot.link.on_confirmed(now, &progress);
            self.note_moved(now, index, moved);
            self.settle_outcomes(now, index);
        }
        if self.playout.is_none() {
            self.learn_playout(report);
        }
        self.measure_bottlenecks(report);
        self.align_clocks();
        if self.slots.iter().flatten().any(|slot| slot.link.in_burst()) {
            self.rescue(now);
        }
        confirms
    }

    /// Takes the far end's playout, which is told in its clock: as long as no link is timed by that, it says nothing.
    fn learn_playout(&mut self, report: &Report<'_>) {
        let Some(playout) = report.playout else {
            // The receiver knows no such flow: what was told before was another one's, of whoever had these addresses.
            self.playout = None;
            return;
        };
        let fastest = self.slots.iter().flatten().filter_map(|slot| slot.link.delay.base()).min();
        let (Some(newest), Some(fastest)) = (self.history.newest(), fastest) else { return };
        let ahead = f64::from(playout.rtp_time.wrapping_sub(newest.rtp_time) as i32) * 100.0 / 9.0;
        let told = playout.clock_micros as f64 - (newest.source_time.as_micros() as f64 + ahead);
        // A receiver that has heard nothing of this flow yet may tell of one that was there before, under the same SSRC too.
        let left = told - fastest as f64;
        let of_ours = (left - f64::from(report.latency_ms) * 1e3).abs() < TIMELINE_MICROS;
        self.playout = of_ours.then_some(told);
    }

    /// Gives links that no report has timed yet a place on the far clock's scale.
    fn align_clocks(&mut self) {
        let timed =
            self.slots.iter().flatten().filter_map(|slot| Some((slot.link.delay.base()?, slot.link.round_trip_low())));
        let offset = timed.map(|(base, trip)| base as f64 - trip / 2.0).fold(f64::MAX, f64::min);
        if offset < f64::MAX {
            for slot in self.slots.iter_mut().flatten() {
                slot.link.clock_offset = offset;
            }
        }
    }

    /// Settles what a link's report (or its end) has decided.
    pub(super) fn settle_outcomes(&mut self, now: Timestamp, index: usize) {
        for i in 0..self.outcomes.len() {
            match self.outcomes[i] {
                Outcome::Arrived(number) => self.on_arrived(now, index, number),
                Outcome::Lost(number) => self.on_lost(index, number),
            }
        }
        self.outcomes.clear();
    }

    fn on_arrived(&mut self, now: Timestamp, index: usize, number: u64) {
        let plain = self.extension != Some(true);
        let Some(packet) = self.history.get_mut(number) else { return };
        packet.on_the_way = packet.on_the_way.saturating_sub(1);
        let (source_time, length) = (packet.source_time, packet.bytes.len());
        let (standing, again) = (packet.standing, packet.transmissions > 1);
        if plain && usize::from(packet.last_slot) == index {
            packet.passed_at = Some(now);
        }
        let Some(slot) = &mut self.slots[index] else { return };
        if !plain {
            slot.mtu.on_media(slot.control.media_bytes(length), true);
        }
        if standing == Standing::Delivered {
            self.totals.useless += u64::from(again);
            return;
        }
        slot.link.goodput_meter.add(now, length as u64);
        // Echoes do not prove that it arrived: it can still be asked for.
        if !plain {
            let arrived = slot.link.confirmed_at(now);
            if arrived > self.deadline(source_time) {
                self.late_at = Some(now);
            }
            self.history.settle(number, Standing::Delivered);
        }
    }

    fn on_lost(&mut self, index: usize, number: u64) {
        let Some(packet) = self.history.get_mut(number) else { return };
        if let Some(slot) = self.slots[index].as_mut().filter(|_| self.extension == Some(true)) {
            slot.mtu.on_media(slot.control.media_bytes(packet.bytes.len()), false);
        }
        packet.on_the_way = packet.on_the_way.saturating_sub(1);
        packet.lost_on |= 1 << index;
        if packet.on_the_way == 0 {
            let length = packet.bytes.len();
            if self.fits_nowhere(length) {
                self.history.settle(number, Standing::Dropped);
                self.totals.dropped += 1;
            } else {
                self.history.queue_repair(number, self.fate(index), 0);
            }
        }
    }

    /// The far end asks for a packet.
    pub(super) fn on_nack(&mut self, now: Timestamp, index: usize, sequence: u16) {
        let Some(slot) = &mut self.slots[index] else { return };
        slot.link.counters.nacks += 1;
        let Some(number) = self.history.extend(sequence) else {
            self.totals.unrecoverable += 1;
            return;
        };
        let Some(packet) = self.history.get(number) else { return };
        if packet.standing == Standing::Dropped {
            self.totals.unrecoverable += 1;
        }
        if packet.standing != Standing::Open || packet.transmissions == 0 {
            return;
        }
        // Between our own ends reports tell more, and sooner; a request counts only when nothing is known to be coming.
        let missed = if self.extension == Some(true) {
            (packet.on_the_way == 0).then_some(0)
        } else {
            self.is_missed(now, index, number)
        };
        if let Some(lost_on) = missed {
            self.history.queue_repair(number, lost_on, 0);
        }
    }

    /// Towards a plain peer: the last packet before a pause is sent again, because a peer that asks for gaps can not see one behind
    /// which nothing comes. More than once, rather over other links: a burst of losses takes the first copies together.
    pub(super) fn repeat_last(&mut self, now: Timestamp) {
        if self.extension != Some(false) {
            return;
        }
        let Some(number) = self.history.end().checked_sub(1) else { return };
        let Some(packet) = self.history.get(number) else { return };
        if !(1..LAST_COPIES).contains(&packet.transmissions) || now - packet.source_time >= self.config.latency {
            return;
        }
        if now - packet.sent_at > PAUSE * (1 << (packet.transmissions - 1)) {
            self.history.queue_repair(number, 1 << packet.last_slot, 0);
        }
    }

    /// Looks for packets that hang on links and would come too late, and queues them for others.
    pub(super) fn rescue(&mut self, now: Timestamp) {
        if self.extension != Some(true) && !self.is_echo_driven() {
            return;
        }
        let plain = self.extension != Some(true);
        for index in 0..self.slots.len() {
            let Some(Slot { link, .. }) = &self.slots[index] else { continue };
            let overdue = link.overdue(now);
            let stalled = overdue > 0.0 || link.state != LinkState::Up || link.in_burst();
            let latency = self.config.latency.as_micros() as f64;
            let last_call_at = (RESCUE_SHARE * latency).max(RESCUE_SHORT_MICROS.min(RESCUE_SHORT_SHARE * latency));
            if !stalled && link.queue_with(0) < 0.1 * latency {
                continue;
            }
            let best_outside = |fate: u16| {
                let others = self.slots.iter().enumerate().filter(|(other, _)| fate >> other & 1 == 0);
                let others = others.filter_map(|(_, slot)| slot.as_ref().filter(|slot| slot.link.usable()));
                others.map(|slot| slot.link.arrival(now, 1400)).fold(f64::MAX, f64::min)
            };
            // What shares its bottleneck is only better than nothing.
            let fate = self.fate(index);
            let ways = [(fate, best_outside(fate)), (1 << index, best_outside(1 << index))];
            if ways[1].1 >= f64::MAX {
                continue;
            }
            let base = now.as_micros() as f64 + link.path_delay() + overdue;
            let pipe = link.round_trip_low();
            let rate = link.rate();
            let mut ahead = 0.0;
            let mut hanging = Vec::new();
            for (number, _) in link.sent.waiting().take(RESCUE_LOOK_MAX) {
                let Some(packet) = self.history.get(number) else { continue };
                ahead += packet.bytes.len() as f64 + 40.0;
                // Towards a plain peer what was rescued once may be again: nothing else would.
                let rescued = packet.on_the_way > 1 && (!plain || usize::from(packet.last_slot) != index);
                if packet.standing != Standing::Open || rescued {
                    continue;
                }
                let deadline = self.deadline(packet.source_time);
                let Some((avoid, best)) = ways.iter().find(|way| way.1 < deadline) else { continue };
                let expected = base + (ahead * 1e6 / rate - pipe).max(0.0);
                let last_call = stalled && deadline - best < last_call_at;
                if last_call || expected > deadline {
                    hanging.push((number, *avoid));
                }
            }
            let mut packets = 0;
            for (number, avoid) in hanging {
                packets += u64::from(self.history.queue_repair(number, 0, avoid));
            }
            if let Some(slot) = &mut self.slots[index] {
                slot.watch.add_reinjected(packets);
            }
        }
    }
}
