//! When to try again to reach the relay.

use std::time::Duration;

/// Wait after the first failure.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// A session that lasted this long starts the waits anew.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);
/// Largest share that chance takes off a wait, so that a fleet does not return at one moment.
const JITTER_SHARE: f64 = 0.3;

/// Doubling waits from [`WAIT_MIN`] to [`WAIT_MAX`].
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait after a session that lasted `lasted`; `chance` is any random number.
    pub fn next_wait(&mut self, lasted: Duration, chance: u64) -> Duration {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
        let full = WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - JITTER_SHARE * (chance as f64 / u64::MAX as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_thirty_seconds_and_start_anew_after_a_stable_session() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next_wait(Duration::ZERO, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.next_wait(STABLE_AFTER, 0), WAIT_MIN);
        assert_eq!(backoff.next_wait(Duration::ZERO, 0), 2 * WAIT_MIN);
    }

    #[test]
    fn chance_shortens_a_wait_by_at_most_its_share() {
        for chance in [0, u64::MAX / 2, u64::MAX] {
            let wait = Backoff::default().next_wait(Duration::ZERO, chance).as_secs_f64();
            assert!((0.699..=1.0).contains(&wait), "{wait}");
        }
    }
}
