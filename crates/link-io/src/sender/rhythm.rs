//! How often the thread of a sender wakes up while it is busy. Pure.
//!
//! Waking up is most of what a sender costs. What comes within five milliseconds goes together, and pacing is served to the
//! millisecond. While no packet waits to be paced, every link sends at once what comes together for it, and where links have no
//! queues either, more may come together without groups becoming longer than the engine lets them be.

use crate::waker::Rhythm;
use std::time::Duration;
use units::Timestamp;

/// While packets may have to be paced.
pub(super) const RHYTHM: Rhythm = Rhythm { timers: Duration::from_millis(1), arrivals: Duration::from_millis(5) };
/// So much goes together at most, and this share of the latency.
const CALM_ARRIVALS: Duration = Duration::from_millis(10);
const CALM_SHARE: u32 = 50;
/// The shorter rhythm is kept for so long after packets were paced,
const PACED_HOLD: Duration = Duration::from_millis(100);
/// and after a link had a queue longer than this.
const QUEUE_HOLD: Duration = Duration::from_secs(1);
const QUEUE_SHORT: Duration = Duration::from_millis(5);

/// When packets have had to be paced, and links have had queues.
#[derive(Debug)]
pub(super) struct Calm {
    paced_at: Timestamp,
    queued_at: Timestamp,
}

impl Calm {
    /// A flow that begins is not calm.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { paced_at: now, queued_at: now }
    }

    /// The rhythm until the next turn; `pacing` tells whether packets wait for their time to leave, `queue` is the longest in
    /// front of a link. Timers wait for arrivals while nothing is paced.
    pub(super) fn rhythm(&mut self, now: Timestamp, pacing: bool, queue: Duration, latency: Duration) -> Rhythm {
        if queue > QUEUE_SHORT {
            self.queued_at = now;
        }
        if pacing {
            self.paced_at = now;
            return RHYTHM;
        }
        let calm = now - self.paced_at >= PACED_HOLD && now - self.queued_at >= QUEUE_HOLD;
        let most = if calm { CALM_ARRIVALS } else { RHYTHM.arrivals };
        let arrivals = (latency / CALM_SHARE).clamp(RHYTHM.arrivals, most);
        Rhythm { timers: arrivals, arrivals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_secs(1);

    /// Milliseconds of timers and arrivals.
    fn rhythm(calm: &mut Calm, millis: u64, pacing: bool, queue_ms: u64) -> (u128, u128) {
        let rhythm = calm.rhythm(Timestamp::from_millis(millis), pacing, Duration::from_millis(queue_ms), LATENCY);
        (rhythm.timers.as_millis(), rhythm.arrivals.as_millis())
    }

    #[test]
    fn more_goes_together_as_the_latency_allows() {
        for (latency, millis) in [(50, 5), (250, 5), (400, 8), (500, 10), (2000, 10)] {
            let latency = Duration::from_millis(latency);
            let now = Timestamp::from_millis(1000);
            let rhythm = Calm::new(Timestamp::ZERO).rhythm(now, false, Duration::ZERO, latency);
            assert_eq!((rhythm.timers.as_millis(), rhythm.arrivals.as_millis()), (millis, millis));
        }
    }

    #[test]
    fn what_is_paced_or_queues_keeps_the_rhythm_short() {
        let mut calm = Calm::new(Timestamp::ZERO);
        assert_eq!(rhythm(&mut calm, 999, false, 5), (5, 5), "a flow that begins");
        assert_eq!(rhythm(&mut calm, 1000, false, 5), (10, 10));
        assert_eq!(rhythm(&mut calm, 2000, true, 0), (1, 5));
        assert_eq!([2099, 2100].map(|millis| rhythm(&mut calm, millis, false, 0)), [(5, 5), (10, 10)]);
        assert_eq!(rhythm(&mut calm, 3000, false, 6), (5, 5));
        assert_eq!([3999, 4000].map(|millis| rhythm(&mut calm, millis, false, 0)), [(5, 5), (10, 10)]);
    }
}
