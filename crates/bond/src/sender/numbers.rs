//! Whether packet numbers can hold what the latency asks for.

use std::time::Duration;
use units::Timestamp;

use super::Sender;
use crate::config::LATENCY_PACKETS_MAX;
use crate::event::Cause;

/// Weight of a second in the packet rate: a short burst is no rate.
const GAIN: f64 = 0.25;
/// More than numbers hold is told when it lasts, by when the rate is known,
const LASTS: Duration = Duration::from_secs(10);
/// once in so long.
const TOLD: Duration = Duration::from_mins(1);

/// How fast numbers are used up.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Packets that had been taken a second ago.
    before: u64,
    /// Packets per second.
    rate: f64,
    /// Since when it has been more than numbers hold.
    since: Option<Timestamp>,
    told_at: Option<Timestamp>,
}

impl Sender {
    /// Looks once a second.
    pub(super) fn watch_numbers(&mut self, now: Timestamp) {
        let Numbers { before, rate, since, told_at } = &mut self.numbers;
        let packets = self.totals.packets_in - std::mem::replace(before, self.totals.packets_in);
        *rate += (packets as f64 - *rate) * GAIN;
        let holds = Duration::from_secs_f64(LATENCY_PACKETS_MAX as f64 / rate.max(1.0));
        let latency = self.config.latency;
        if holds >= latency {
            *since = None;
        } else if now - *since.get_or_insert(now) >= LASTS && told_at.is_none_or(|told| now - told >= TOLD) {
            *told_at = Some(now);
            self.note(now, Cause::NumbersExhausted { latency, holds });
        }
    }
}
