//! Whether both ends have the same latency: each tells its own, and nothing but the settings can make them alike.

use std::time::Duration;
use units::Timestamp;

use crate::event::Cause;

/// A difference must last for so long: a latency that is changed while running is changed at one end first.
const LASTS: Duration = Duration::from_secs(3);

/// What the far end says of its latency.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AgreedLatency {
    /// Since when which other latency has been told, in milliseconds.
    other: Option<(Timestamp, u16)>,
    /// The one that was complained of.
    complained: Option<u16>,
}

impl AgreedLatency {
    /// The far end has a latency of `theirs_ms`; what is to be said of it, once.
    pub(crate) fn hear(&mut self, now: Timestamp, ours: Duration, theirs_ms: u16) -> Option<Cause> {
        if theirs_ms == told_ms(ours) {
            *self = Self::default();
            return None;
        }
        let since = match self.other {
            Some((since, other)) if other == theirs_ms => since,
            _ => now,
        };
        self.other = Some((since, theirs_ms));
        if now - since < LASTS || self.complained == Some(theirs_ms) {
            return None;
        }
        self.complained = Some(theirs_ms);
        Some(Cause::LatencyDiffers { ours, theirs: Duration::from_millis(u64::from(theirs_ms)) })
    }
}

/// How a latency is told.
pub(crate) fn told_ms(latency: Duration) -> u16 {
    u16::try_from(latency.as_millis()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_lasts_is_told_once() {
        let mut agreed = AgreedLatency::default();
        let mut told = Vec::new();
        for ms in (0..30_000u64).step_by(20) {
            // Changed at one end, then at the other; later at one only.
            let ours = Duration::from_millis(if ms < 2000 { 1000 } else { 500 });
            let theirs = if ms < 1000 {
                1000
            } else if ms < 10_000 {
                500
            } else {
                2000
            };
            told.extend(agreed.hear(Timestamp::from_millis(ms), ours, theirs).map(|cause| (ms, cause)));
        }
        let (ours, theirs) = (Duration::from_millis(500), Duration::from_secs(2));
        assert_eq!(told, [(13_000, Cause::LatencyDiffers { ours, theirs })]);
    }
}
