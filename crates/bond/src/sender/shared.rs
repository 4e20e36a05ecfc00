//! Links that share a bottleneck: what is known of it and what follows.

use units::{LinkId, Timestamp};

use super::{Sender, Slot};
use crate::event::Cause;
use crate::extension::Report;
use crate::link::shared::{Arrived, Timed};
use crate::schedule::Candidate;

impl Sender {
    /// A report has timed a packet of this link.
    pub(super) fn compare_waits(&mut self, index: usize, sent_at: Timestamp, order: u64) {
        let Some(slot) = &self.slots[index] else { return };
        let Some(one_way) = slot.link.delay.last() else { return };
        let sent =
            self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, &slot.as_ref()?.link.sent_bytes)));
        let timed = Timed { sent_at, order, one_way, queue: slot.link.delay.queue_last() };
        self.shared.push(index, timed, sent);
    }

    /// The links that what happened on one may happen to as well, one bit a slot: those of its bottleneck while a link of
    /// another one can be used, else the link alone.
    pub(super) fn fate(&self, index: usize) -> u16 {
        let group = self.shared.group(index);
        if group == 1 << index {
            return group;
        }
        let another = |(other, slot): (usize, &Option<Slot>)| {
            group >> other & 1 == 0 && slot.as_ref().is_some_and(|slot| slot.link.usable())
        };
        if self.slots.iter().enumerate().any(another) { group } else { 1 << index }
    }

    /// How many copies can take independent ways.
    pub(super) fn independent(&self, candidates: &[Candidate]) -> usize {
        let mut taken = 0;
        candidates.iter().filter(|c| (taken >> c.slot & 1 == 0).then(|| taken |= self.fate(c.slot)).is_some()).count()
    }

    /// The links of the same bottleneck, and the best measure of sharing with any.
    pub(super) fn shared_with(&self, index: usize) -> (Vec<LinkId>, Option<f64>) {
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != index);
        let others = others.filter_map(|(other, slot)| Some((other, slot.as_ref()?.link.id)));
        let measures = others.clone().filter_map(|(other, _)| self.shared.correlation(index, other));
        let group = self.shared.group(index);
        let with = others.filter(|(other, _)| group >> other & 1 == 1).map(|(_, id)| id).collect();
        (with, measures.max_by(f64::total_cmp))
    }

    /// Takes what a report tells of bottlenecks that links share.
    pub(super) fn measure_bottlenecks(&mut self, report: &Report<'_>) {
        if !self.shared.any() {
            return;
        }
        for root in 0..self.slots.len() {
            let group = self.shared.group(root);
            if group == 1 << root || group.trailing_zeros() as usize != root {
                continue;
            }
            let (mut members, mut count, mut believed, mut queue, mut jitter) = (0u16, 0u32, 0.0, 0.0f64, 0.0f64);
            for told in report.links() {
                let Some(index) = self.slot_index(told.link).filter(|index| group >> index & 1 == 1) else { continue };
                let Some(Slot { link, .. }) = &self.slots[index] else { continue };
                members |= 1 << index;
                count = count.wrapping_add(told.bytes);
                believed += link.rate();
                queue = queue.max(link.delay.queue_last());
                jitter = jitter.max(link.delay.jitter());
            }
            let arrived = Arrived { members, arrival: report.clock_micros, count, queue, jitter };
            self.shared.push_arrived(root, believed, &arrived);
        }
    }

    /// The share of what a link is believed to carry that its bottleneck leaves it, when all its links are used at once.
    pub(super) fn bottleneck_share(&self, index: usize) -> f64 {
        let group = self.shared.group(index);
        let Some(capacity) = self.shared.capacity(group.trailing_zeros() as usize) else { return 1.0 };
        let members = self.slots.iter().enumerate().filter(|(other, _)| group >> other & 1 == 1);
        let used = members.filter_map(|(_, slot)| slot.as_ref()).filter(|slot| slot.link.usable());
        let believed: f64 = used.map(|slot| slot.link.rate()).sum();
        (capacity / believed.max(1.0)).min(1.0)
    }

    /// Judges which links share a bottleneck, and tells what is new.
    pub(super) fn find_shared(&mut self, now: Timestamp) {
        for found in self.shared.judge(now) {
            let named = |index: usize| -> Option<(LinkId, String)> {
                let link = &self.slots.get(index)?.as_ref()?.link;
                Some((link.id, link.options.name.clone()))
            };
            let (Some((link, name)), Some((with, with_name))) = (named(found.slots.0), named(found.slots.1)) else {
                continue;
            };
            let correlation = found.correlation;
            self.note(
                now,
                if found.shared {
                    Cause::BottleneckShared { link, name, with, with_name, correlation }
                } else {
                    Cause::BottleneckSeparate { link, name, with, with_name, correlation }
                },
            );
        }
    }
}
