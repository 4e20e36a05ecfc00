//! Byte budgets: what a metered link may carry, and what it does afterwards.

use std::collections::VecDeque;
use units::{LinkId, Timestamp};

use super::Sender;
use crate::config::LinkOptions;
use crate::event::Cause;

/// Removed links of which is known what they have used.
const REMOVED_MAX: usize = 64;

/// What removed links have used of their budgets. One that comes again under its id and name, as a modem that reconnects, goes
/// on from there; another that is given a free id begins at nothing.
#[derive(Debug, Default)]
pub(super) struct UsedBefore {
    /// Bytes with IP headers. Oldest first, at most [`REMOVED_MAX`].
    links: VecDeque<(LinkId, String, u64)>,
}

impl UsedBefore {
    /// A link that has used so many bytes is removed.
    pub(super) fn keep(&mut self, id: LinkId, name: String, bytes: u64) {
        self.take(id, &name);
        if self.links.len() >= REMOVED_MAX {
            self.links.pop_front();
        }
        self.links.push_back((id, name, bytes));
    }

    /// What the link had used when it was removed.
    pub(super) fn take(&mut self, id: LinkId, name: &str) -> u64 {
        let index = self.links.iter().position(|(of, named, _)| *of == id && named == name);
        index.and_then(|index| self.links.remove(index)).map_or(0, |(.., bytes)| bytes)
    }
}

impl Sender {
    /// Tells of spent budgets, and calls links of last resort while no other can carry media.
    pub(super) fn watch_budgets(&mut self, now: Timestamp) {
        let others = self.slots.iter().flatten().any(|slot| slot.link.is_up() && !slot.link.budget_spent());
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            let spent = slot.link.budget_spent();
            slot.link.resort = spent && slot.link.options.last_resort && !others;
            let rests = slot.rests();
            slot.control.note_rest(now, rests);
            if spent == slot.budget_told {
                continue;
            }
            slot.budget_told = spent;
            let (link, name, budget) = (slot.link.id, slot.link.options.name.clone(), slot.link.options.byte_budget);
            if let (true, Some(budget)) = (spent, budget) {
                self.note(now, Cause::BudgetSpent { link, name, budget });
            }
        }
    }

    /// Other options for a link that goes on running; its `mtu` is measured anew when it changed.
    pub(super) fn set_link_options(&mut self, now: Timestamp, id: LinkId, mut options: LinkOptions) {
        let Some(index) = self.slot_index(id) else { return };
        let Some(slot) = &mut self.slots[index] else { return };
        if slot.link.options.datagram_bytes_max() != options.datagram_bytes_max() {
            slot.mtu = super::PathMtu::new(now, options.datagram_bytes_max());
        }
        if options.name.is_empty() {
            options.name.clone_from(&slot.link.options.name);
        } else if slot.link.options.name != options.name {
            // The receiver shall know the link by its new name soon.
            slot.control.announce_soon(now);
        }
        slot.link.options = options;
        self.watch_budgets(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a link finds what it had used once, another one nothing, and the oldest is forgotten.
    #[test]
    fn what_links_used_is_known_by_id_and_name_and_bounded() {
        let mut used = UsedBefore::default();
        used.keep(LinkId(1), "a".into(), 500);
        used.keep(LinkId(1), "a".into(), 700);
        assert_eq!(used.take(LinkId(1), "b"), 0);
        assert_eq!(used.take(LinkId(2), "a"), 0);
        assert_eq!([used.take(LinkId(1), "a"), used.take(LinkId(1), "a")], [700, 0]);
        for id in 0..1000 {
            used.keep(LinkId(id), String::new(), u64::from(id));
        }
        assert_eq!(used.links.len(), REMOVED_MAX);
        assert_eq!([used.take(LinkId(999), ""), used.take(LinkId(999 - REMOVED_MAX as u16), "")], [999, 0]);
    }
}
