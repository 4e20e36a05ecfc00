//! Links come, change and go.

use units::{LinkId, Timestamp};

use super::control::Control;
use super::listen::Listening;
use super::{LinkErrorKind, RadioHint, Sender, Slot};
use crate::config::{LINKS_MAX, LinkOptions, Profile};
use crate::door::Door;
use crate::event::{Cause, StateReason};
use crate::farewell::Farewell;
use crate::framing::Framing;
use crate::link::Link;
use crate::link::mtu::PathMtu;
use crate::link::watch::Watch;
use crate::stats::LinkState;

impl Sender {
    pub(super) fn add_link(&mut self, now: Timestamp, id: LinkId, options: LinkOptions) {
        if self.slot_index(id).is_some() {
            self.remove_link(now, id);
        }
        let index = match self.slots.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.slots.len() < LINKS_MAX => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return,
        };
        let framing = match self.config.profile {
            Profile::Simple => Framing::Simple,
            Profile::Main => Framing::client(&self.config, &self.common, &mut self.random),
        };
        let mut link = Link::new(now, id, options);
        link.budget_used = self.used_before.take(id, &link.options.name);
        link.reported = self.extension == Some(true);
        let name = link.options.name.clone();
        let mtu = PathMtu::new(now, link.options.datagram_bytes_max());
        let control = Control::new(now, self.random.next_u32(), Framing::overhead_bytes_max(&self.config));
        self.slots[index] = Some(Slot {
            link,
            framing,
            control,
            mtu_told: mtu.fits(),
            mtu,
            budget_told: false,
            ecn_told: None,
            unanswered_told: false,
            watch: Watch::new(now),
            listening: None,
            farewell: Farewell::opened(now),
        });
        self.note(
            now,
            Cause::LinkState {
                link: id,
                name,
                from: LinkState::Down,
                to: LinkState::Probe,
                reason: StateReason::Added,
            },
        );
        self.limit_payloads(now);
    }

    pub(super) fn listen(&mut self, now: Timestamp, id: LinkId, options: LinkOptions) {
        if self.config.profile == Profile::Simple {
            return;
        }
        self.add_link(now, id, options);
        if self.door.is_none() {
            self.door = Some(Door::new(now, self.random.bytes()));
        }
        if let Some(slot) = self.slot_index(id).and_then(|index| self.slots[index].as_mut()) {
            slot.listening = Some(Listening::default());
        }
    }

    pub(super) fn remove_link(&mut self, now: Timestamp, id: LinkId) {
        let Some(index) = self.slot_index(id) else { return };
        while self.say_goodbye(now, index) {}
        let Some(slot) = &mut self.slots[index] else { return };
        slot.link.sent.give_up(&mut self.outcomes);
        let name = slot.link.options.name.clone();
        self.used_before.keep(id, name.clone(), slot.link.budget_used);
        self.settle_outcomes(now, index);
        self.slots[index] = None;
        self.shared.forget(index);
        self.note(now, Cause::LinkRemoved { link: id, name });
    }

    pub(super) fn close(&mut self, now: Timestamp) {
        for index in 0..self.slots.len() {
            while self.say_goodbye(now, index) {}
        }
        self.slots.clear();
    }

    /// The handshake begins again, and the link's measures.
    pub(super) fn open_anew(&mut self, now: Timestamp, id: LinkId, reason: StateReason) {
        let Some(index) = self.slot_index(id) else { return };
        let Some(slot) = &mut self.slots[index] else { return };
        self.shared.forget(index);
        let moved = slot.link.restart(now, reason, &mut self.outcomes);
        slot.control.restart(now, Framing::overhead_bytes_max(&self.config));
        slot.mtu.restart(now);
        slot.farewell = Farewell::opened(now);
        if self.config.srp.is_some() && slot.listening.is_none() {
            // To the far end this is a stranger, who has to log in.
            slot.framing = Framing::client(&self.config, &self.common, &mut self.random);
        }
        self.note_moved(now, index, moved);
        self.settle_outcomes(now, index);
    }

    pub(super) fn link_error(&mut self, now: Timestamp, id: LinkId, kind: LinkErrorKind) {
        let Some(index) = self.slot_index(id) else { return };
        let Some(slot) = &mut self.slots[index] else { return };
        let reason = match kind {
            LinkErrorKind::BufferFull => return,
            LinkErrorKind::TooLarge { bytes } => {
                slot.mtu.on_too_large(now, u16::try_from(bytes).unwrap_or(u16::MAX));
                self.limit_payloads(now);
                return;
            }
            LinkErrorKind::Unreachable => StateReason::Unreachable,
            LinkErrorKind::CarrierLost => StateReason::CarrierLost,
            LinkErrorKind::Other => StateReason::SendError,
        };
        let moved = slot.link.on_error(now, reason);
        self.note_moved(now, index, moved);
    }

    /// What a modem foretells lowers what its link is believed to carry.
    pub(super) fn radio_hint(&mut self, now: Timestamp, id: LinkId, hint: RadioHint) {
        let Some(index) = self.slot_index(id) else { return };
        if let Some(slot) = &mut self.slots[index] {
            slot.link.on_hint(now, hint);
        }
    }
}
