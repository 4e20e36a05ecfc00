//! What the encoder may produce: what the links carry, more while nothing waits, less the longer packets wait.
//!
//! A link's capacity is only known while it is fully used, and the latency is fixed: a packet that waits a little costs
//! nothing. So a little is always kept waiting. An encoder that is ahead of the links by that much shows what they can
//! carry, and growth is found without probing; when they carry less, what waits shows it before anything is late.

use std::time::Duration;
use units::{Bitrate, Timestamp};

use crate::link::delay::MinFilter;

/// The share of the believed capacity that is advised when as much waits as wanted. The rest is for repairs, and for links
/// that are worse than believed.
const CAPACITY_SHARE: f64 = 0.88;
/// So long packets shall wait for a link, as a share of the latency, but no less than a picture takes.
const WAIT_SHARE: f64 = 0.05;
const WAIT_SECONDS_MIN: f64 = 0.03;
/// What waits too long is to be gone within this; what waits too little is made up for as fast.
const BALANCE_SECONDS: f64 = 0.2;
/// A single large picture makes packets wait, and is no reason: the shortest wait of the last 70 ms counts, and a longer
/// one only for what it exceeds this.
const PICTURE_SECONDS: f64 = 0.07;
const PICTURE_BUCKET_MICROS: u64 = 7_000;
/// However long packets wait, so much of the capacity is advised: the links have room for what comes after them.
const SHARE_MIN: f64 = 0.3;
/// The climb, as a share per second.
const CLIMB_PER_SECOND: f64 = 2.0;
/// Below this share of the capacity the advice does not have to climb.
const CLIMB_FROM_SHARE: f64 = 0.5;

/// The bond at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// What all usable links are believed to deliver, payload bits per second.
    pub capacity: f64,
    /// How long the oldest packet has been waiting for a link.
    pub waited: Duration,
    /// The latency budget.
    pub latency: Duration,
    /// How long packets wait before every link is open to them.
    pub spill: Duration,
}

/// The advice and its memory.
#[derive(Debug, Clone)]
pub(crate) struct RateAdvice {
    bits: f64,
    at: Timestamp,
    waits: MinFilter<PICTURE_BUCKET_MICROS>,
}

impl RateAdvice {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { bits: 0.0, at: now, waits: MinFilter::new() }
    }

    /// Follows the bond; called every few milliseconds. `max` is the most the encoder can produce.
    pub(crate) fn update(&mut self, now: Timestamp, measured: &Measured, max: Bitrate) {
        let elapsed = (now - self.at).as_secs_f64().min(0.1);
        self.at = now;
        if measured.capacity <= 0.0 {
            return;
        }
        let waited = self.waited(now, measured.waited);
        let wait_wanted =
            (measured.latency.as_secs_f64() * WAIT_SHARE).max(WAIT_SECONDS_MIN) + measured.spill.as_secs_f64();
        let share = CAPACITY_SHARE * (1.0 + (wait_wanted - waited) / BALANCE_SECONDS).max(SHARE_MIN);
        let climbed = self.bits * (1.0 + CLIMB_PER_SECOND * elapsed);
        let most = climbed.max(measured.capacity * CLIMB_FROM_SHARE);
        self.bits = (measured.capacity * share).min(most).min(max.as_bps() as f64);
    }

    /// For how long packets wait, in seconds, whatever the size of a picture.
    fn waited(&mut self, now: Timestamp, waited: Duration) -> f64 {
        self.waits.push(now, i64::try_from(waited.as_micros()).unwrap_or(i64::MAX));
        let lowest = self.waits.get().map_or(0.0, |micros| micros as f64 / 1e6);
        lowest.max(waited.as_secs_f64() - PICTURE_SECONDS)
    }

    /// The advice.
    pub(crate) fn get(&self) -> Bitrate {
        Bitrate::from_bps(self.bits as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Measured =
        Measured { capacity: 2e6, waited: Duration::ZERO, latency: Duration::from_secs(1), spill: Duration::ZERO };
    const BALANCED: Measured = Measured { waited: Duration::from_millis(50), ..IDLE };

    fn run(advice: &mut RateAdvice, from_ms: u64, to_ms: u64, measured: Measured) -> f64 {
        for ms in (from_ms..to_ms).step_by(10) {
            advice.update(Timestamp::from_millis(ms), &measured, Bitrate::from_kbps(50_000));
        }
        advice.bits / measured.capacity
    }

    #[test]
    fn more_than_the_known_capacity_is_advised_while_nothing_waits_and_less_while_much_does() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        assert!((1.05..1.15).contains(&run(&mut advice, 0, 1000, IDLE)));
        assert!((0.87..0.89).contains(&run(&mut advice, 1000, 2000, BALANCED)));
        let long = Measured { waited: Duration::from_millis(200), ..IDLE };
        assert!((0.2..0.3).contains(&run(&mut advice, 2000, 3000, long)));
    }

    #[test]
    fn the_advice_falls_with_the_capacity_at_once_and_climbs_in_a_second() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        run(&mut advice, 0, 1000, BALANCED);
        let low = Measured { capacity: 0.5e6, ..BALANCED };
        assert!(run(&mut advice, 1000, 1010, low) < 0.89);
        let high = Measured { capacity: 4e6, ..BALANCED };
        assert!(run(&mut advice, 1010, 1020, high) < 0.52);
        assert!(run(&mut advice, 1020, 2000, high) > 0.85);
    }

    #[test]
    fn a_large_picture_alone_changes_nothing() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        run(&mut advice, 0, 1000, BALANCED);
        let picture = Measured { waited: Duration::from_millis(110), ..BALANCED };
        assert!(run(&mut advice, 1000, 1050, picture) > 0.85);
        assert!(run(&mut advice, 1050, 1300, picture) < 0.7);
    }
}
