//! Protection in advance and coded repair: the plan of [`crate::fec::policy`], carried out.
//!
//! Repair packets go only to a far end that has announced them. They leave on links that carry the fewest of the packets
//! they cover, and never while packets wait for links.

use rist::wire::rtp::RtpHeader;
use std::collections::VecDeque;
use std::time::Duration;
use units::{LossRatio, Timestamp};

use super::transmit::Table;
use super::{Channel, LINKS_MAX, Sender, SenderOutput, Slot, Standing};
use crate::event::Cause;
use crate::fec::encoder::{Source, encode};
use crate::fec::policy::{Exposure, Path, Placed, Planner, exposure, last_round_extra};
use crate::fec::wire::{
    COVERED_MAX, PAYLOAD_TYPE_REPAIR, REPAIR_MORE_BYTES_MAX, RepairHead, SPAN_MAX, repair_more_bytes,
};
use crate::schedule::Candidate;

/// Repair packets per source packet, at most.
const SHARE_MAX: f64 = 0.5;
/// The same while less than [`SPARE_TIGHT`] of the links' capacity is free: more would congest them.
const SHARE_MAX_TIGHT: f64 = 0.15;
const SPARE_TIGHT: f64 = 0.2;
/// Media and repair packets may load links by so much.
const LOAD_MAX: f64 = 0.9;
/// A queue above this shows that a link has nothing free.
const QUEUE_SHOWS_MICROS: f64 = 15_000.0;
/// An announcement holds for so long; keep-alives come every second on every link. Behind the same address there may be a plain
/// peer tomorrow.
const ANNOUNCED_FOR: Duration = Duration::from_secs(6);
/// Copies in advance need so much of the capacity free.
const SPARE_COPIES: f64 = 0.15;
/// Bytes sent per byte of media.
const HEADERS: f64 = 1.06;
/// Links that lose packets are avoided while the others would be loaded by less; beginning, and once they are avoided.
const LOAD_BEGIN_AVOIDING: f64 = 0.85;
const LOAD_AVOIDING: f64 = 0.97;
/// Queue that is accepted on links without loss rather than use others, in microseconds: what others lose is to go over these
/// links in time.
const AVOID_MICROS: f64 = 3_000.0;
/// Links keep up while no packet waits for longer than this share of the latency: a key picture within a short latency makes
/// the ones behind it wait, an overload more so.
const WAITED_SHARE: f64 = 0.6;
/// What has waited for so long shows that links are busy, and a retransmission has to wait for its turn for so long.
const WAITED_MICROS: f64 = 10_000.0;
const TURN_MICROS: f64 = 20_000.0;
/// Waiting packets looked at.
const LOOK_MAX: usize = 64;
/// A packet must have arrived so long before its time.
const MARGIN_MICROS: f64 = 5_000.0;
/// Retransmissions of a last round that follow each other within this time are mended together.
const GROUP_MICROS: u128 = 3_000;
/// Payloads go on leaving room for repair packets for so long: a payload of another size costs the source nothing, but the
/// operator's log a line.
const ROOM_KEPT: Duration = Duration::from_mins(1);
/// Groups waiting for coded packets.
const GROUPS_MAX: usize = 16;
/// The operator is told that nothing is protected in advance any more after so long without: bursts of losses are seconds apart.
const TOLD_CALM: Duration = Duration::from_secs(5);

/// Packets retransmitted in their last round.
#[derive(Debug)]
struct Group {
    numbers: Vec<u64>,
    since: Timestamp,
    /// Loss of the links they take.
    loss: f64,
    /// Copies that a single one asks for, and links it has taken.
    copies: u8,
    taken: u16,
    /// Coded packets still to be sent; `None` while the group grows.
    coded: Option<usize>,
}

/// What protects the flow.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// When the far end last said that it takes repair packets.
    announced_at: Option<Timestamp>,
    /// True while it does.
    announced: bool,
    planner: Planner,
    /// Of packets that did not wait; indexed by slot.
    exposures: [Exposure; LINKS_MAX],
    /// The links in use and their slots.
    paths: Vec<Path>,
    slots: Vec<usize>,
    share_max: f64,
    window_micros: f64,
    spare: f64,
    /// True while the links that lose nothing can carry everything.
    avoiding: bool,
    /// Oldest first; at most [`GROUPS_MAX`].
    groups: VecDeque<Group>,
    /// Repair packets sent, in advance and for the last round of retransmissions.
    pub sent: u64,
    /// When one was last sent in advance, and the first slot of the bottleneck that puts most at risk of what it covers.
    in_advance: Option<(Timestamp, usize)>,
    /// True while the operator has been told so.
    told: bool,
    pub recovered: u64,
    /// Payloads leave room for repair packets until then.
    room_until: Timestamp,
}

impl Protection {
    /// The far end has sent a keep-alive: `fec` tells whether it takes repair packets.
    pub(super) fn hear(&mut self, now: Timestamp, fec: bool) {
        self.announced = fec;
        self.announced_at = fec.then_some(now);
    }

    /// True when other links are better for new packets.
    pub(super) fn avoids(&self, index: usize) -> bool {
        self.avoiding && self.exposures[index].avoid
    }

    /// True when repair packets in advance may yet bring a lost packet to the far end.
    pub(super) fn mends(&self, number: u64) -> bool {
        self.announced && self.planner.covers(number)
    }

    /// Extra cost of a link that loses packets, in microseconds.
    pub(super) fn penalty(&self, index: usize) -> f64 {
        if self.exposures[index].avoid { AVOID_MICROS } else { 0.0 }
    }

    /// True while repair packets wait for a link.
    pub(super) fn is_due(&self) -> bool {
        self.announced && (!self.groups.is_empty() || self.planner.is_due())
    }

    /// True when a copy in advance of what this link carries pays.
    pub(super) fn copy_pays(&self, index: usize) -> bool {
        self.exposures[index].risk > 0.0 && self.spare > SPARE_COPIES
    }
}

impl Sender {
    /// Looks at links and load; called every tick.
    pub(super) fn observe_protection(&mut self, now: Timestamp) {
        let (mut paths, mut slots) = (Vec::with_capacity(LINKS_MAX), Vec::with_capacity(LINKS_MAX));
        let (mut capacity, mut used, mut nearest, mut longest) = (0.0, 0.0, f64::MAX, 0.0f64);
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(Slot { link, .. }) = slot.as_ref().filter(|slot| slot.link.usable()) else { continue };
            let (loss, burst_micros) = (link.losses.share(), link.losses.burst_micros());
            paths.push(Path { loss, burst_micros, round_trip: link.round_trip_low() });
            slots.push(index);
            capacity += self.bottleneck_share(index) * link.rate() * 8.0;
            used += link.send_meter.rate(now).as_bps() as f64;
            nearest = nearest.min(link.path_delay());
            longest = longest.max(link.delay.queue());
        }
        let heard_at = self.protection.announced_at;
        self.protection.announced &= heard_at.is_some_and(|at| now - at < ANNOUNCED_FOR);
        self.protection.exposures = [Exposure::default(); LINKS_MAX];
        if self.extension != Some(true) || paths.is_empty() {
            return;
        }
        let slack = self.deadline(now) - now.as_micros() as f64 - nearest - MARGIN_MICROS;
        let mut free_of_loss = 0.0;
        for (i, index) in slots.iter().copied().enumerate() {
            self.protection.exposures[index] = exposure(&paths, i, slack);
            let rate =
                self.slots[index].as_ref().map_or(0.0, |slot| slot.link.rate() * 8.0) * self.bottleneck_share(index);
            free_of_loss += if self.protection.exposures[index].avoid { 0.0 } else { rate };
        }
        (self.protection.paths, self.protection.slots) = (paths, slots);
        // A queue on good links does more harm than losses on others.
        let load = self.media_meter.rate(now).as_bps() as f64 * HEADERS / f64::max(free_of_loss, 1.0);
        self.protection.avoiding = load < if self.protection.avoiding { LOAD_AVOIDING } else { LOAD_BEGIN_AVOIDING };
        self.protection.window_micros = slack.max(0.0);
        self.protection.spare = 1.0 - used / f64::max(capacity, 1.0);
        let share_max = if self.protection.spare < SPARE_TIGHT { SHARE_MAX_TIGHT } else { SHARE_MAX };
        let media = self.media_meter.rate(now).as_bps() as f64 * HEADERS;
        let room = (capacity * LOAD_MAX - media) / f64::max(media, 1.0);
        // Links that show no queue carry more than is known of them: nobody has asked them for more.
        let least = if longest < QUEUE_SHOWS_MICROS { SHARE_MAX_TIGHT } else { 0.0 };
        self.protection.share_max = room.clamp(least, share_max);
    }

    /// A source packet is sent for the first time.
    pub(super) fn protect_source(&mut self, now: Timestamp, number: u64, index: usize) {
        if !self.protection.announced {
            return;
        }
        let exposure = self.exposure_of(now, number, index);
        // A bottleneck's burst takes its part of what all its links carry.
        let slot = self.shared.group(index).trailing_zeros() as usize;
        let Protection { planner, share_max, window_micros, .. } = &mut self.protection;
        planner.on_source(*share_max, Some(Placed { number, slot, at: now, exposure }), *window_micros);
    }

    /// What a packet is exposed to that is sent now: it has waited, and waits again in front of the bottleneck.
    fn exposure_of(&self, now: Timestamp, number: u64, index: usize) -> Exposure {
        let Protection { exposures, paths, slots, window_micros, .. } = &self.protection;
        let place = slots.iter().position(|slot| *slot == index);
        let (Some(place), Some(packet), Some(slot)) = (place, self.history.get(number), &self.slots[index]) else {
            return exposures[index];
        };
        if paths[place].loss == 0.0 {
            return exposures[index];
        }
        let age = (now - packet.source_time).as_micros() as f64;
        let held = slot.link.burst_queue(now).max(slot.link.queue_with(0));
        let turn = if age > WAITED_MICROS { TURN_MICROS } else { 0.0 };
        exposure(paths, place, window_micros - age - held - turn)
    }

    /// A packet is retransmitted in its last round, in which `copies` of it would have to be sent: it joins a group that is
    /// mended together. False when the far end takes no coded packets.
    pub(super) fn join_last_round(&mut self, now: Timestamp, number: u64, index: usize, copies: u8, loss: f64) -> bool {
        let taken = self.fate(index);
        let groups = &mut self.protection.groups;
        if !self.protection.announced {
            return false;
        }
        if let Some(group) = groups.back_mut().filter(|group| group.coded.is_none())
            && group.numbers.len() < COVERED_MAX
            && group.numbers.first().is_some_and(|first| number.abs_diff(*first) < SPAN_MAX / 2)
        {
            group.numbers.push(number);
            group.loss = group.loss.max(loss);
            return true;
        }
        if groups.len() >= GROUPS_MAX {
            return false;
        }
        let numbers = vec![number];
        groups.push_back(Group { numbers, since: now, loss, copies, taken, coded: None });
        true
    }

    /// Ends groups that have grown for long enough: one packet gets its copies, several get coded packets.
    fn close_groups(&mut self, now: Timestamp) {
        while let Some(group) = self.protection.groups.iter_mut().find(|group| {
            group.coded.is_none()
                && ((now - group.since).as_micros() >= GROUP_MICROS || group.numbers.len() >= COVERED_MAX)
        }) {
            group.coded = Some(last_round_extra(group.numbers.len(), group.loss));
            if let [number] = group.numbers[..] {
                group.coded = Some(0);
                let (copies, taken) = (group.copies - 1, group.taken);
                self.history.queue_repair(number, 0, taken);
                if let Some(packet) = self.history.get_mut(number)
                    && packet.standing == Standing::Open
                {
                    packet.copies = copies;
                    packet.further = true;
                }
            }
        }
        self.protection.groups.retain(|group| group.coded != Some(0));
    }

    /// The next repair packet, if one is due and a link has room.
    pub(super) fn transmit_repair(&mut self, now: Timestamp) -> Option<SenderOutput> {
        if !self.protection.announced {
            return None;
        }
        self.close_groups(now);
        let demanded = self.protection.groups.front().is_some_and(|group| group.coded.is_some());
        if !demanded && !self.protection.planner.is_due() {
            return None;
        }
        let table = self.table(now);
        let earliest = table.links().iter().map(|c| c.arrival).fold(f64::MAX, f64::min) + MARGIN_MICROS;
        if demanded { self.transmit_coded(now, &table, earliest) } else { self.transmit_planned(now, &table, earliest) }
    }

    /// A coded packet for the oldest group.
    fn transmit_coded(&mut self, now: Timestamp, table: &Table, earliest: f64) -> Option<SenderOutput> {
        let mut group = self.protection.groups.pop_front()?;
        group.numbers.retain(|number| self.is_open(*number, earliest));
        group.numbers.sort_unstable();
        group.numbers.dedup();
        let left = group.coded.unwrap_or(0);
        if group.numbers.is_empty() || left == 0 {
            return None;
        }
        let fits = |slot: usize| self.fits(slot, group.numbers.iter().copied());
        let index = table.links().iter().filter(|c| c.ready && fits(c.slot)).min_by(|a, b| {
            let taken = |slot: usize| group.taken >> slot & 1;
            (taken(a.slot), a.arrival).partial_cmp(&(taken(b.slot), b.arrival)).unwrap_or(std::cmp::Ordering::Equal)
        });
        if index.is_none() && !table.links().iter().any(|c| fits(c.slot)) {
            self.want_room(now);
        }
        let output = index.map(|candidate| candidate.slot).and_then(|index| {
            group.taken |= self.fate(index);
            // Each link once, then again from the first.
            if table.links().iter().all(|c| group.taken >> c.slot & 1 == 1) {
                group.taken = 0;
            }
            let key = self.protection.planner.next_key();
            self.send_repair(now, key, &group.numbers, index)
        });
        group.coded = Some(left - usize::from(output.is_some()));
        self.protection.groups.push_front(group);
        output
    }

    /// A repair packet of the plan.
    fn transmit_planned(&mut self, now: Timestamp, table: &Table, earliest: f64) -> Option<SenderOutput> {
        let latency = self.config.latency.as_micros() as f64;
        if self.waited(now) > WAITED_SHARE * latency {
            self.protection.planner.forgive();
            return None;
        }
        let mut planner = std::mem::take(&mut self.protection.planner);
        let covered = planner.cover(|placed| self.is_open(placed.number, earliest));
        let output = if covered.is_empty() {
            planner.on_repair(false);
            None
        } else {
            let numbers = || covered.iter().map(|placed| placed.number);
            if !table.links().iter().any(|c| self.fits(c.slot, numbers())) {
                self.want_room(now);
            }
            self.link_for(table, &covered, planner.is_pressing()).and_then(|index| {
                let numbers: Vec<u64> = covered.iter().map(|placed| placed.number).collect();
                let key = planner.on_repair(true);
                self.send_repair(now, key, &numbers, index)
            })
        };
        if output.is_some()
            && let Some(worst) = covered.iter().max_by(|a, b| a.exposure.risk.total_cmp(&b.exposure.risk))
        {
            self.protection.in_advance = Some((now, worst.slot));
        }
        self.protection.planner = planner;
        output
    }

    /// How long the oldest packet waits that was never sent, in microseconds. What was lost and comes too late says nothing of
    /// the links.
    fn waited(&self, now: Timestamp) -> f64 {
        let mut waiting = self.history.pending().take(LOOK_MAX).filter_map(|number| self.history.get(number));
        waiting.find(|packet| packet.transmissions == 0).map_or(0.0, |p| (now - p.source_time).as_micros() as f64)
    }

    /// True while a packet is neither known to have arrived nor too late to be mended.
    fn is_open(&self, number: u64, earliest: f64) -> bool {
        self.history.get(number).is_some_and(|packet| {
            packet.standing != Standing::Delivered && self.deadline(packet.source_time) > earliest
        })
    }

    /// The link that loses least and carries the fewest of the packets covered, or one not much worse that has room.
    fn link_for(&self, table: &Table, covered: &[Placed], pressing: bool) -> Option<usize> {
        let share = |slot: usize| {
            let fate = self.shared.group(slot);
            let carried = covered.iter().filter(|placed| fate >> placed.slot & 1 == 1).count() as f64;
            let loss = self.slots[slot].as_ref().map_or(1.0, |slot| slot.link.losses.share());
            carried / covered.len() as f64 + loss * 2.0
        };
        // What comes when half of them are late is of little use.
        let middle = covered.get(covered.len() / 2).and_then(|placed| self.history.get(placed.number));
        let deadline = middle.map_or(f64::MAX, |packet| self.deadline(packet.source_time)) - MARGIN_MICROS;
        let late = |slot: usize| {
            let link = self.slots[slot].as_ref().map(|slot| &slot.link);
            link.is_none_or(|link| link.arrival_behind(self.now) > deadline)
        };
        let best = |all: bool| {
            let numbers = || covered.iter().map(|placed| placed.number);
            let candidates = table.links().iter().filter(|c| (all || c.ready) && self.fits(c.slot, numbers()));
            let key = |c: &Candidate| (late(c.slot), share(c.slot), c.arrival);
            candidates.min_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal))
        };
        let (wanted, possible) = (best(true)?, best(false)?);
        if late(possible.slot) && !late(wanted.slot) {
            return None;
        }
        let good_enough = share(possible.slot) <= share(wanted.slot) + if pressing { 0.5 } else { 0.2 };
        good_enough.then_some(possible.slot)
    }

    /// True when the path takes a repair packet of these packets, ascending.
    fn fits(&self, slot: usize, numbers: impl Iterator<Item = u64>) -> bool {
        let (mut first, mut last, mut longest) = (None, 0, 0);
        for number in numbers {
            last = number - *first.get_or_insert(number);
            longest = longest.max(self.history.get(number).map_or(0, |packet| packet.bytes.len()));
        }
        let bytes = longest + repair_more_bytes((last + 1).min(SPAN_MAX));
        self.slots[slot].as_ref().is_some_and(|slot| slot.mtu.fits() >= slot.control.media_bytes(bytes))
    }

    /// Bytes that payloads leave free for what a repair packet has more: where media fills every path, none would fit.
    pub(super) fn room_for_repair(&self, now: Timestamp) -> usize {
        if now < self.protection.room_until { REPAIR_MORE_BYTES_MAX } else { 0 }
    }

    /// A repair packet is wanted that fits nowhere: from now on payloads leave room for them.
    fn want_room(&mut self, now: Timestamp) {
        self.protection.room_until = now + ROOM_KEPT;
    }

    fn send_repair(&mut self, now: Timestamp, key: u16, numbers: &[u64], index: usize) -> Option<SenderOutput> {
        let (first, newest) = (*numbers.first()?, self.history.get(*numbers.last()?)?);
        let timestamp = newest.rtp_time;
        let mut head = RepairHead::new(key);
        let sources = numbers.iter().filter_map(|number| {
            let packet = self.history.get(*number)?;
            (number - first < SPAN_MAX).then_some(Source {
                number: *number,
                rtp_time: packet.rtp_time,
                bytes: &packet.bytes,
            })
        });
        let sources: Vec<Source<'_>> = sources.take(COVERED_MAX).collect();
        for source in &sources {
            head.cover(source.number - first);
        }
        self.shortened.clear();
        head.emit(&mut self.shortened);
        encode(key, sources.into_iter(), &mut self.shortened);
        let slot = self.slots[index].as_mut()?;
        let header = RtpHeader {
            marker: false,
            payload_type: PAYLOAD_TYPE_REPAIR,
            sequence: first as u16,
            timestamp,
            ssrc: self.flow,
            extension: None,
        };
        let (bytes, sequence) = slot.framing.media(now, &header, &self.shortened, &mut self.blocks);
        self.order += 1;
        let ecn = slot.link.ecn.media();
        slot.link.on_sent(now, self.order, sequence, bytes.len(), None, ecn);
        self.kept_table.forget();
        slot.link.pace(now, bytes.len());
        self.protection.sent += 1;
        let link = slot.link.id;
        Some(SenderOutput::Transmit { link, channel: Channel::Media, ecn, bytes })
    }

    /// The far end has recovered a packet.
    pub(super) fn on_recovered(&mut self, sequence: u16) {
        let Some(number) = self.history.extend(sequence) else { return };
        if self.history.get(number).is_some_and(|packet| packet.standing != Standing::Delivered) {
            self.protection.recovered += 1;
            self.history.settle(number, Standing::Delivered);
        }
    }

    /// Tells when protection in advance begins and ends; called every second.
    pub(super) fn tell_protection(&mut self, now: Timestamp) {
        let Some((at, index)) = self.protection.in_advance else { return };
        let active = now - at < TOLD_CALM;
        if active == self.protection.told {
            return;
        }
        let cause = if active {
            let sharing = self.shared.group(index);
            let risky = self.slots.iter().enumerate().filter(|(slot, _)| sharing >> slot & 1 == 1);
            let risky = risky.filter_map(|(_, slot)| slot.as_ref().map(|slot| &slot.link));
            let worst = risky.max_by(|a, b| a.losses.share().total_cmp(&b.losses.share()));
            let Some(link) = worst else { return };
            let (name, loss) = (link.options.name.clone(), LossRatio::new(link.losses.share()));
            Cause::ProtectionBegan { link: link.id, name, loss }
        } else {
            Cause::ProtectionEnded
        };
        self.protection.told = active;
        self.note(now, cause);
    }
}
