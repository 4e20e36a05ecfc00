//! How late a message is, without a common clock.
//!
//! Each message carries the relay's time of sending. The difference to the device's monotonic time is the unknown offset of
//! the clocks plus the message's delay; the smallest difference seen is the offset plus the smallest delay. A message's
//! lateness is how much its own difference is above that. The minimum is taken over the last one to two windows, so that a
//! relay whose clock is set back makes commands look late for two windows at most.

use std::time::Duration;
use units::Timestamp;

/// Length of one window.
pub const WINDOW: Duration = Duration::from_mins(1);

/// The smallest difference seen lately, milliseconds.
#[derive(Debug, Default, Clone)]
pub struct DelayClock {
    window_from: Option<Timestamp>,
    current_ms: Option<i64>,
    previous_ms: Option<i64>,
}

impl DelayClock {
    /// Forgets everything: for a new session, perhaps with a relay whose clock was set.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes note of a message and says how late it is; zero for the first of a session.
    pub fn lateness(&mut self, now: Timestamp, sent_at_ms: u64) -> Duration {
        self.roll(now);
        let difference = (now.as_millis() as i64).saturating_sub(i64::try_from(sent_at_ms).unwrap_or(i64::MAX));
        let smallest = [self.current_ms, self.previous_ms].into_iter().flatten().fold(difference, i64::min);
        self.current_ms = Some(self.current_ms.map_or(difference, |ms| ms.min(difference)));
        Duration::from_millis(difference.saturating_sub(smallest).unsigned_abs())
    }

    fn roll(&mut self, now: Timestamp) {
        let from = *self.window_from.get_or_insert(now);
        let passed = now - from;
        if passed < WINDOW {
            return;
        }
        // After two windows of silence nothing of the old is left.
        self.previous_ms = if passed < 2 * WINDOW { self.current_ms } else { None };
        self.current_ms = None;
        self.window_from = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY_MS: u64 = 1_790_000_000_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn lateness_is_counted_from_the_fastest_message() {
        let mut clock = DelayClock::default();
        assert_eq!(clock.lateness(at(1000), RELAY_MS), Duration::ZERO); // 1000 ms of unknown delay
        assert_eq!(clock.lateness(at(1100), RELAY_MS + 1000), Duration::ZERO); // a faster one
        assert_eq!(clock.lateness(at(8100), RELAY_MS + 2000), Duration::from_secs(6));
    }

    #[test]
    fn a_relay_clock_set_forward_or_back_heals() {
        let mut clock = DelayClock::default();
        clock.lateness(at(0), RELAY_MS);
        assert_eq!(clock.lateness(at(1000), RELAY_MS + 3_600_000), Duration::ZERO);
        let back = |clock: &mut DelayClock, ms: u64| clock.lateness(at(ms), RELAY_MS - 3_600_000 + ms);
        assert!(back(&mut clock, 2000) > Duration::from_hours(1));
        for second in 3..130 {
            back(&mut clock, second * 1000);
        }
        assert_eq!(back(&mut clock, 130_000), Duration::ZERO);
    }

    #[test]
    fn a_new_session_starts_anew() {
        let mut clock = DelayClock::default();
        clock.lateness(at(0), RELAY_MS);
        clock.reset();
        assert_eq!(clock.lateness(at(9000), RELAY_MS), Duration::ZERO);
    }
}
