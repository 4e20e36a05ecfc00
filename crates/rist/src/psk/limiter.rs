//! A token bucket.

use std::time::Duration;
use units::Timestamp;

/// Lets `burst` events pass at once and one more each `interval` after that.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    interval: Duration,
    burst: u32,
    tokens: u32,
    refilled: Timestamp,
}

impl RateLimiter {
    /// A full bucket. `interval` must not be zero.
    pub const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, tokens: burst, refilled: Timestamp::ZERO }
    }

    /// Takes a token; false when there is none.
    pub fn allow(&mut self, now: Timestamp) -> bool {
        let earned = now.since(self.refilled).as_micros() / self.interval.as_micros().max(1);
        if earned >= u128::from(self.burst - self.tokens) {
            self.tokens = self.burst;
            self.refilled = self.refilled.max(now);
        } else {
            self.tokens += earned as u32;
            self.refilled += self.interval * earned as u32;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let mut limiter = RateLimiter::new(Duration::from_millis(100), 3);
        let start = Timestamp::from_millis(5000);
        assert_eq!((0..5).filter(|_| limiter.allow(start)).count(), 3);
        let passed = (0..1000u64).filter(|ms| limiter.allow(start + Duration::from_millis(*ms))).count();
        assert_eq!(passed, 9, "one each 100 ms of 999 ms");
        assert!(limiter.allow(start + Duration::from_mins(1)));
        assert_eq!((0..5).filter(|_| limiter.allow(start + Duration::from_mins(1))).count(), 2);
    }
}
