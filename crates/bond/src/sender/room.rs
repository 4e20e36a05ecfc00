//! How much a source that can wait may hand over.
//!
//! A live source cannot wait: what the links do not carry in time is given up, the least important first. A file or a pipe
//! can: it is asked for no more than leaves within a small part of the latency, so that nothing of it is ever too old.

use std::time::Duration;
use units::Timestamp;

use super::path_mtu::PAYLOAD_BYTES_USUAL;
use super::{SETTLE, Sender, Slot};
use crate::config::HISTORY_PACKETS_MAX;
use crate::schedule::spill_age;

/// Media may wait so long for a link, as a share of the latency. What waits longer is pressed: the scheduler begins to weigh
/// pictures against each other at twice this share. With much less, links run dry between two looks of the source.
const WAIT_SHARE: f64 = 0.1;
/// The same where the latency is short.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// So many packets may wait however little the links carry: with none waiting nobody learns what they carry.
const PACKETS_MIN: usize = 8;

impl Sender {
    /// How long packets wait before every usable link is open to them: where priorities differ, those of the last class are for
    /// what the others can not carry. In fixed shares they never are.
    pub(super) fn spill(&self) -> Duration {
        if self.extension == Some(false) && !self.is_echo_driven() {
            return Duration::ZERO;
        }
        let usable = |slot: &&Slot| slot.link.usable();
        let classes = self.slots.iter().flatten().filter(usable).map(|slot| slot.link.options.priority);
        let best = classes.clone().min();
        let above = classes
            .clone()
            .enumerate()
            .filter(|(i, class)| Some(*class) > best && classes.clone().take(*i).all(|before| before != *class));
        let latency = self.config.latency.as_micros() as f64;
        Duration::from_micros(spill_age(above.count(), latency) as u64)
    }

    /// Payloads that may be handed over now and will leave in good time, for a source that can wait and shall lose nothing; none
    /// while no link is up. A live source hands everything over at once instead.
    ///
    /// Towards a plain RIST receiver that answers no echoes, what the links carry is not known, and nothing waits: this is no
    /// protection then.
    pub fn room(&self, now: Timestamp) -> usize {
        let known = self.extension.is_some() || self.answered_at.is_some_and(|answered| now >= answered + SETTLE);
        if !known || !self.slots.iter().flatten().any(|slot| slot.link.usable()) {
            return 0;
        }
        let wait = self.config.latency.mul_f64(WAIT_SHARE).max(WAIT_MIN) + self.spill();
        let oldest = self.history.pending_from(0).and_then(|number| self.history.get(number));
        if oldest.is_some_and(|packet| now - packet.source_time > wait) {
            return 0;
        }
        let bytes = self.advice.get().as_bps() as f64 / 8.0 * wait.as_secs_f64();
        let most = ((bytes / PAYLOAD_BYTES_USUAL as f64) as usize).max(PACKETS_MIN);
        let left = HISTORY_PACKETS_MAX.saturating_sub(self.history.len());
        most.saturating_sub(self.history.pending_len()).min(left)
    }
}
