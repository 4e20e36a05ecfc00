//! How long an output waits before it tries again.

use std::time::Duration;

/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: what an operator who has just fixed the far end is willing to wait.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// An output that delivered for so long starts over with the shortest pause.
const STABLE_AFTER: Duration = Duration::from_secs(20);

/// Exponential pauses with jitter, so that the outputs of many receivers do not call a platform in step.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause after an attempt that delivered for `delivered_for`; `random` is any number.
    pub fn pause(&mut self, delivered_for: Duration, random: u64) -> Duration {
        if delivered_for >= STABLE_AFTER {
            self.failures = 0;
        }
        let full = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        // Three quarters to all of it.
        let quarter = full / 4;
        full.saturating_sub(quarter.mul_f64((random % 1024) as f64 / 1024.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.pause(Duration::ZERO, 0).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(backoff.pause(STABLE_AFTER, 1023).as_millis(), 375);
        assert_eq!(backoff.pause(Duration::from_secs(1), 0).as_millis(), 1000);
    }
}
