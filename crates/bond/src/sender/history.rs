//! Every packet of the flow from its acceptance until nobody can ask for it any more, and the order in which packets wait
//! for a link.
//!
//! Source times ascend with the numbers, so the order of numbers is the order of deadlines.

use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use units::Timestamp;

use crate::config::HISTORY_PACKETS_MAX;

/// Where a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not confirmed.
    Open,
    /// The far end has it.
    Delivered,
    /// Given up.
    Dropped,
}

/// One numbered packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub bytes: Bytes,
    pub source_time: Timestamp,
    pub rtp_time: u32,
    /// Packets of one picture (or other burst of the source) share this number.
    pub unit: u32,
    /// It waits behind everything else, because its unit can hardly be completed in time.
    pub aside: bool,
    /// It must not be given up for the sake of others.
    pub critical: bool,
    /// It gets a copy in advance where that pays.
    pub protected: bool,
    pub standing: Standing,
    /// Copies on their way whose fate is not known.
    pub on_the_way: u8,
    /// Copies sent so far.
    pub transmissions: u8,
    /// True while it is queued because a copy was lost or is doubted.
    pub repair: bool,
    /// Copies still wanted in the present round; 0 until the round begins.
    pub copies: u8,
    /// True when the next copy is a further one of the present round.
    pub further: bool,
    /// When the last copy was sent.
    pub sent_at: Timestamp,
    /// The link (slot) that carried the last copy.
    pub last_slot: u8,
    /// When an echo of a plain RIST peer told that the last copy had arrived or was lost.
    pub passed_at: Option<Timestamp>,
    /// Links (slots) that lost a copy, one bit each.
    pub lost_on: u16,
    /// Links (slots) that shall carry no (further) copy of the present round, one bit each.
    pub avoid: u16,
}

/// The packets of the flow.
#[derive(Debug)]
pub(crate) struct History {
    /// Number of the oldest packet kept.
    first: u64,
    packets: VecDeque<Packet>,
    /// Numbers that wait for a link, most urgent first.
    pending: BTreeSet<u64>,
    /// Numbers set aside, most urgent first.
    aside: BTreeSet<u64>,
    /// From here on nothing was sent.
    unsent_from: u64,
    /// Critical ones that have not been sent, most urgent first; those that have gone leave when they are next looked at.
    critical: BTreeSet<u64>,
}

impl History {
    /// Begins with the number `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            packets: VecDeque::new(),
            pending: BTreeSet::new(),
            aside: BTreeSet::new(),
            unsent_from: first,
            critical: BTreeSet::new(),
        }
    }

    /// Numbers a packet and queues it. Where there is no room the oldest one makes some if it has been sent or given up; else `None`.
    pub(crate) fn push(&mut self, packet: Packet) -> Option<u64> {
        if self.packets.len() >= HISTORY_PACKETS_MAX {
            let makes_room = |oldest: &&Packet| oldest.transmissions > 0 || oldest.standing != Standing::Open;
            self.packets.front().filter(makes_room)?;
            self.forget_oldest();
        }
        let number = self.first + self.packets.len() as u64;
        if packet.critical {
            self.critical.insert(number);
        }
        self.packets.push_back(packet);
        self.pending.insert(number);
        Some(number)
    }

    /// Where there is no room, gives up the oldest packet if it was set aside and never sent; returns how many were.
    pub(crate) fn give_up_aside(&mut self) -> u64 {
        let full = self.packets.len() >= HISTORY_PACKETS_MAX;
        let aside = |oldest: &Packet| oldest.aside && oldest.transmissions == 0 && oldest.standing == Standing::Open;
        if !full || !self.packets.front().is_some_and(aside) {
            return 0;
        }
        self.settle(self.first, Standing::Dropped);
        1
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Packet> {
        self.packets.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Packet> {
        self.packets.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Every packet kept, oldest first.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Packet)> {
        (self.first..).zip(&self.packets)
    }

    /// The full number of a 16-bit one, if it is kept.
    pub(crate) fn extend(&self, sequence: u16) -> Option<u64> {
        let end = self.first + self.packets.len() as u64;
        let back = u64::from((end as u16).wrapping_sub(sequence));
        let number = end.checked_sub(if back == 0 { 1 << 16 } else { back })?;
        (number >= self.first).then_some(number)
    }

    /// Queues a packet again because a copy was lost (`lost_on`, a bit mask of slots) or is doubted. False when it waits already,
    /// or is settled.
    pub(crate) fn queue_repair(&mut self, number: u64, lost_on: u16, avoid: u16) -> bool {
        let Some(packet) = self.get_mut(number) else { return false };
        if packet.standing != Standing::Open {
            return false;
        }
        packet.repair = true;
        packet.lost_on |= lost_on;
        packet.avoid |= avoid;
        let queue = if packet.aside { &mut self.aside } else { &mut self.pending };
        queue.insert(number)
    }

    /// Takes a packet out of the queue.
    pub(crate) fn unqueue(&mut self, number: u64) {
        self.pending.remove(&number);
        self.aside.remove(&number);
    }

    /// Settles a packet for good.
    pub(crate) fn settle(&mut self, number: u64, standing: Standing) {
        self.unqueue(number);
        if let Some(packet) = self.get_mut(number) {
            packet.standing = standing;
        }
    }

    /// Gives up the packets after `number` of the same unit that were never sent and are not critical; returns how many.
    pub(crate) fn drop_rest_of_unit(&mut self, number: u64) -> u64 {
        let end = self.unit_end(number);
        let mut dropped = 0;
        for next in number + 1..end {
            let Some(packet) = self.get_mut(next) else { break };
            if packet.standing == Standing::Open && packet.transmissions == 0 && !packet.critical {
                packet.standing = Standing::Dropped;
                self.unqueue(next);
                dropped += 1;
            }
        }
        dropped
    }

    /// Puts a packet, and the rest of its unit that is not critical, behind everything else: it is sent only while links
    /// have nothing better to do. A critical packet stays where it is; returns whether anything changed.
    pub(crate) fn set_aside(&mut self, number: u64) -> bool {
        if self.get(number).is_none_or(|packet| packet.critical) {
            return false;
        }
        for next in number..self.unit_end(number) {
            let Some(packet) = self.get_mut(next) else { break };
            if !packet.critical {
                packet.aside = true;
                if self.pending.remove(&next) {
                    self.aside.insert(next);
                }
            }
        }
        true
    }

    /// The most urgent of those set aside.
    pub(crate) fn aside_first(&self) -> Option<u64> {
        self.aside.first().copied()
    }

    /// The most urgent critical packet that waits for its first link.
    pub(crate) fn critical_first(&mut self) -> Option<u64> {
        while let Some(number) = self.critical.first().copied() {
            if self.pending.contains(&number) && self.get(number).is_some_and(|packet| packet.transmissions == 0) {
                return Some(number);
            }
            self.critical.remove(&number);
        }
        None
    }

    /// The number after the last packet of the same unit.
    pub(crate) fn unit_end(&self, number: u64) -> u64 {
        let Some(unit) = self.get(number).map(|packet| packet.unit) else { return number + 1 };
        self.first + self.packets.partition_point(|packet| packet.unit <= unit) as u64
    }

    /// Bytes from `number` to the end of its unit that were never sent.
    pub(crate) fn rest_of_unit(&self, number: u64) -> u64 {
        let rest = (number..self.unit_end(number)).filter_map(|next| self.get(next));
        rest.filter(|packet| packet.transmissions == 0).map(|packet| packet.bytes.len() as u64).sum()
    }

    /// True when the packet before `number` belongs to the same unit and has been sent.
    pub(crate) fn unit_begun(&self, number: u64) -> bool {
        let before = number.checked_sub(1).and_then(|before| self.get(before));
        let unit = self.get(number).map(|packet| packet.unit);
        before.is_some_and(|before| Some(before.unit) == unit && before.transmissions > 0)
    }

    /// True when `number` is the first packet of its unit.
    pub(crate) fn begins_unit(&self, number: u64) -> bool {
        let unit = |number: u64| self.get(number).map(|packet| packet.unit);
        number.checked_sub(1).and_then(unit) != unit(number)
    }

    /// What waits for a link, most urgent first.
    pub(crate) fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().copied()
    }

    /// The most urgent of those from `number` on.
    pub(crate) fn pending_from(&self, number: u64) -> Option<u64> {
        self.pending.range(number..).next().copied()
    }

    /// The number of the first packet from `source_time` on.
    pub(crate) fn first_since(&self, source_time: Timestamp) -> u64 {
        self.first + self.packets.partition_point(|packet| packet.source_time < source_time) as u64
    }

    pub(crate) fn pending_len(&self) -> usize {
        self.pending.len() + self.aside.len()
    }

    /// The number from which on nothing was sent.
    pub(crate) fn unsent_from(&self) -> u64 {
        self.unsent_from.max(self.first)
    }

    /// Notes that this one is sent.
    pub(crate) fn note_sent(&mut self, number: u64) {
        self.unsent_from = self.unsent_from.max(number + 1);
    }

    /// Gives the packets from `number` on new times; their order must stay.
    pub(crate) fn retime(&mut self, number: u64, change: impl Fn(&mut Packet)) {
        let index = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.packets.iter_mut().skip(index).for_each(change);
    }

    /// Removes packets from the old end while they are settled or `expired`; returns how many were never sent nor given up.
    pub(crate) fn trim(&mut self, expired: impl Fn(&Packet) -> bool) -> u64 {
        let mut unsent = 0;
        while let Some(packet) = self.packets.front() {
            if packet.standing == Standing::Open && !expired(packet) {
                break;
            }
            unsent += u64::from(packet.standing == Standing::Open && packet.transmissions == 0);
            self.forget_oldest();
        }
        unsent
    }

    fn forget_oldest(&mut self) {
        self.unqueue(self.first);
        self.critical.remove(&self.first);
        self.packets.pop_front();
        self.first += 1;
    }

    /// Packets kept, waiting or not.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// The number after the newest packet's.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    pub(crate) fn newest(&self) -> Option<&Packet> {
        self.packets.back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ms: u64) -> Packet {
        Packet {
            bytes: Bytes::from_static(b"x"),
            source_time: Timestamp::from_millis(ms),
            rtp_time: 0,
            unit: 0,
            aside: false,
            critical: false,
            protected: false,
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
        }
    }

    #[test]
    fn sixteen_bits_name_the_packets_that_are_kept() {
        let mut history = History::new(65_530);
        for i in 0..20 {
            assert_eq!(history.push(packet(i)), Some(65_530 + i));
        }
        assert_eq!(history.extend(65_530), Some(65_530));
        assert_eq!(history.extend(13), Some(65_549));
        assert_eq!((history.extend(14), history.extend(65_529)), (None, None));
        history.settle(65_530, Standing::Delivered);
        history.trim(|_| false);
        assert_eq!(history.extend(65_530), None);
        assert_eq!(history.pending().next(), Some(65_531));
    }

    #[test]
    fn settled_packets_are_never_queued_again_and_room_is_bounded() {
        let mut history = History::new(0);
        for i in 0..HISTORY_PACKETS_MAX as u64 {
            assert!(history.push(packet(i)).is_some());
        }
        assert_eq!(history.give_up_aside(), 0);
        assert_eq!(history.push(packet(0)), None, "the oldest still waits for its first link");
        history.settle(5, Standing::Delivered);
        assert!(!history.queue_repair(5, 0, 0));
        assert!(!history.pending().any(|number| number == 5));
        history.unqueue(6);
        assert_eq!([(); 2].map(|()| history.queue_repair(6, 0, 0)), [true, false], "what waits is queued once");
        history.trim(|packet| packet.source_time < Timestamp::from_millis(100));
        assert_eq!(history.pending_len(), HISTORY_PACKETS_MAX - 100);
    }
}
