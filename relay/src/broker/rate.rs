//! A token bucket in two units: messages and bytes. Time comes in as an argument.

use std::time::{Duration, Instant};

/// How much one device may send.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// Messages a second, for long.
    pub messages_per_s: f64,
    /// Messages at once.
    pub messages_burst: f64,
    /// Bytes a second, for long.
    pub bytes_per_s: f64,
    /// Bytes at once.
    pub bytes_burst: f64,
}

/// What is allowed now.
#[derive(Debug)]
pub struct Bucket {
    limit: RateLimit,
    messages: f64,
    bytes: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(limit: RateLimit, now: Instant) -> Self {
        Self { limit, messages: limit.messages_burst, bytes: limit.bytes_burst, at: now }
    }

    /// Takes one message of `bytes`; the answer is how long to wait before it goes on, zero when within the limit.
    pub fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let RateLimit { messages_per_s, messages_burst, bytes_per_s, bytes_burst } = self.limit;
        self.messages = (self.messages + passed * messages_per_s).min(messages_burst) - 1.0;
        self.bytes = (self.bytes + passed * bytes_per_s).min(bytes_burst) - bytes as f64;
        let wait = (-self.messages / messages_per_s).max(-self.bytes / bytes_per_s).max(0.0);
        Duration::from_secs_f64(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit =
        RateLimit { messages_per_s: 10.0, messages_burst: 5.0, bytes_per_s: 1000.0, bytes_burst: 2000.0 };

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(LIMIT, start);
        let waits: Vec<_> = (0..7).map(|_| bucket.take(start, 10).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200]);
        assert_eq!(bucket.take(start + Duration::from_mins(1), 10), Duration::ZERO, "it fills again");
    }

    #[test]
    fn long_messages_wait_for_their_bytes() {
        let start = Instant::now();
        let mut bucket = Bucket::new(LIMIT, start);
        assert_eq!(bucket.take(start, 2000), Duration::ZERO);
        assert_eq!(bucket.take(start, 500), Duration::from_millis(500));
    }
}
