//! When to try again to reach the relay.

use std::time::Duration;

/// Time between the beginnings of the first two tries.
pub const PERIOD_MIN: Duration = Duration::from_secs(1);
/// Longest time between the beginnings of two tries: after an outage of any length the device is back this soon after its
/// cause is over. A try costs a few packets; the relay's own gate limits what a whole fleet may do at once.
pub const PERIOD_MAX: Duration = Duration::from_secs(5);
/// Shortest wait, after a try that itself took long.
pub const WAIT_MIN: Duration = Duration::from_millis(250);
/// A session that lasted this long starts the waits anew.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);
/// Largest share that chance takes off a period, so that a fleet does not return at one moment.
const JITTER_SHARE: f64 = 0.3;

/// Doubling periods from [`PERIOD_MIN`] to [`PERIOD_MAX`].
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait after a try (and the session it may have led to) that lasted `lasted`; `chance` is any random number.
    pub fn next_wait(&mut self, lasted: Duration, chance: u64) -> Duration {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
        let full = PERIOD_MIN.saturating_mul(1 << self.failures.min(10)).min(PERIOD_MAX);
        self.failures = self.failures.saturating_add(1);
        let period = full.mul_f64(1.0 - JITTER_SHARE * (chance as f64 / u64::MAX as f64));
        // A session was ended by the other side: it needs a moment.
        if lasted >= STABLE_AFTER { period } else { period.saturating_sub(lasted).max(WAIT_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_five_seconds_and_start_anew_after_a_stable_session() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..100).map(|_| backoff.next_wait(Duration::ZERO, 0).as_secs()).collect();
        assert_eq!(waits[..5], [1, 2, 4, 5, 5]);
        assert_eq!(waits[99], 5, "an outage of any length");
        assert_eq!(backoff.next_wait(STABLE_AFTER, 0), PERIOD_MIN);
        assert_eq!(backoff.next_wait(Duration::ZERO, 0), 2 * PERIOD_MIN);
    }

    #[test]
    fn the_time_a_try_took_counts() {
        let mut backoff = Backoff { failures: 9 };
        assert_eq!(backoff.next_wait(Duration::from_secs(4), 0), Duration::from_secs(1));
        assert_eq!(backoff.next_wait(Duration::from_secs(20), 0), WAIT_MIN);
    }

    #[test]
    fn chance_shortens_a_wait_by_at_most_its_share() {
        for chance in [0, u64::MAX / 2, u64::MAX] {
            let wait = Backoff::default().next_wait(Duration::ZERO, chance).as_secs_f64();
            assert!((0.699..=1.0).contains(&wait), "{wait}");
        }
    }
}
