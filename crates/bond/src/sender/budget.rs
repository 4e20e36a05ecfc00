//! Byte budgets: what a metered link may carry, and what it does afterwards.

use units::Timestamp;

use super::Sender;
use crate::config::LinkOptions;
use crate::event::Cause;
use units::LinkId;

impl Sender {
    /// Tells of spent budgets, and calls links of last resort while no other can carry media.
    pub(super) fn watch_budgets(&mut self, now: Timestamp) {
        let others = self.slots.iter().flatten().any(|slot| slot.link.is_up() && !slot.link.budget_spent());
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            let spent = slot.link.budget_spent();
            slot.link.resort = spent && slot.link.options.last_resort && !others;
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
        if slot.link.options.mtu != options.mtu {
            slot.mtu = super::PathMtu::new(now, options.mtu);
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
