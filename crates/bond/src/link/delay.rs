//! One-way delay relative to the far end's clock: the lowest seen is the path, what is above it is queue.

use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// A path's delay is the lowest of four seconds: long enough to see it between bursts. A path that has grown longer is found
/// sooner (see `path_check`).
const PATH_MICROS: u64 = 400_000;

/// What a path's round trip once was is remembered for a minute: a queue that never ends shows as a lowest round trip that
/// creeps up.
const FLOOR_MICROS: u64 = 6_000_000;

const BUCKETS: usize = 10;

/// How much longer than the lowest the round trips without a queue are: the mean of about so many, each at most this much, in
/// microseconds.
const EXCESS_MEMORY: f64 = 8.0;
const EXCESS_MAX: f64 = 80_000.0;
/// Every path shows the first, in microseconds; what is above it is seen in calm moments, and twice that on the whole.
const EXCESS_USUAL: f64 = 6_000.0;
const EXCESS_GAIN: f64 = 2.0;

/// A queue is what stays; what comes and goes is jitter of the path. Where the delay's mean step is more than the first, in
/// microseconds, a queue must stay for so many times the excess, at most for the third: 25 ms of jitter taken for a queue made a
/// link's capacity follow what was sent on it, down and down.
const UNREST_USUAL: f64 = 7_000.0;
const STAYS_STEPS: f64 = 16.0;
const STAYS: Duration = Duration::from_millis(130);
/// Samples kept for that; reports come every 10 to 20 ms.
const RECENT_MAX: usize = 32;

/// A path that swings for longer than a few reports is told from a queue by what packets meet that should find the bottleneck
/// empty, in the mean of so many and at most this much: so many times what is above the first, at most the last, is no queue of
/// ours. (The gains are no higher because packets also find more than believed where a capacity has just fallen.)
const CALM_USUAL: f64 = 6_000.0;
const CALM_MEMORY: f64 = 64.0;
const CALM_MAX: f64 = 40_000.0;
const SWING_GAIN: f64 = 3.0;
const SWING_MAX: f64 = 20_000.0;

/// The lowest value of about the last ten times `BUCKET_MICROS`.
#[derive(Debug, Clone)]
pub(crate) struct MinFilter<const BUCKET_MICROS: u64> {
    buckets: [i64; BUCKETS],
    epoch: u64,
}

impl<const BUCKET_MICROS: u64> MinFilter<BUCKET_MICROS> {
    pub(crate) const fn new() -> Self {
        Self { buckets: [i64::MAX; BUCKETS], epoch: 0 }
    }

    pub(crate) fn push(&mut self, now: Timestamp, value: i64) {
        let epoch = now.as_micros() / BUCKET_MICROS;
        while self.epoch < epoch {
            self.epoch = if epoch - self.epoch > BUCKETS as u64 { epoch - BUCKETS as u64 } else { self.epoch };
            self.epoch += 1;
            self.buckets[(self.epoch % BUCKETS as u64) as usize] = i64::MAX;
        }
        let bucket = &mut self.buckets[(epoch % BUCKETS as u64) as usize];
        *bucket = (*bucket).min(value);
    }

    /// Forgets all but this value.
    fn replace(&mut self, now: Timestamp, value: i64) {
        self.buckets = [i64::MAX; BUCKETS];
        self.push(now, value);
    }

    pub(crate) fn get(&self) -> Option<i64> {
        self.buckets.iter().copied().min().filter(|min| *min < i64::MAX)
    }
}

/// Delay of one link, in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Delay {
    base: MinFilter<PATH_MICROS>,
    queue: f64,
    jitter: f64,
    /// Twice the mean of how far samples fall below the ones before: jitter's mean step, and nothing of a queue that grows.
    unrest: f64,
    /// The mean of what samples found that should have met no queue of ours.
    calm: f64,
    last: Option<i64>,
    /// The newest samples, oldest first.
    recent: VecDeque<(Timestamp, i64)>,
}

impl Delay {
    pub(crate) const fn new() -> Self {
        Self {
            base: MinFilter::new(),
            queue: 0.0,
            jitter: 5_000.0,
            unrest: 5_000.0,
            calm: 0.0,
            last: None,
            recent: VecDeque::new(),
        }
    }

    /// Takes one sample: arrival in the far clock minus sending in ours.
    pub(crate) fn push(&mut self, now: Timestamp, one_way: i64) {
        self.base.push(now, one_way);
        let base = self.base.get().unwrap_or(one_way);
        let queue = (one_way - base) as f64;
        self.queue += (queue - self.queue) * if queue > self.queue { 0.5 } else { 0.4 };
        if let Some(last) = self.last {
            let step = (one_way - last).abs() as f64;
            self.jitter += (step.min(100_000.0) - self.jitter) / 16.0;
            let fall = (last - one_way).clamp(0, 100_000) as f64;
            self.unrest += (2.0 * fall - self.unrest) / 16.0;
        }
        self.last = Some(one_way);
        self.remember(now, one_way);
    }

    fn remember(&mut self, now: Timestamp, one_way: i64) {
        let stays = Duration::from_micros((STAYS_STEPS * (self.unrest - UNREST_USUAL).max(0.0)) as u64).min(STAYS);
        while self.recent.len() >= RECENT_MAX || self.recent.front().is_some_and(|(at, _)| now - *at > stays) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, one_way));
    }

    /// Takes a sample that met no queue: the path itself, whatever was believed before.
    pub(crate) fn prove(&mut self, now: Timestamp, one_way: i64) {
        self.base.replace(now, one_way);
        self.queue = 0.0;
        self.last = Some(one_way);
        self.recent.clear();
        self.recent.push_back((now, one_way));
    }

    /// Notes that the last sample should have met no queue of ours.
    pub(crate) fn push_alone(&mut self) {
        self.calm += (self.queue_last().min(CALM_MAX) - self.calm) / CALM_MEMORY;
    }

    /// How much longer than the lowest a packet takes now and then that meets no queue of ours.
    pub(crate) fn swing(&self) -> f64 {
        (SWING_GAIN * (self.calm - CALM_USUAL).max(0.0)).min(SWING_MAX)
    }

    /// The last sample.
    pub(crate) fn last(&self) -> Option<i64> {
        self.last
    }

    /// The lowest recent one-way delay.
    pub(crate) fn base(&self) -> Option<i64> {
        self.base.get()
    }

    /// Queue in front of the bottleneck, smoothed.
    pub(crate) fn queue(&self) -> f64 {
        self.queue
    }

    /// The queue the last sample found.
    pub(crate) fn queue_last(&self) -> f64 {
        match (self.last, self.base.get()) {
            (Some(last), Some(base)) => (last - base) as f64,
            _ => 0.0,
        }
    }

    /// The queue that stays: the shortest that the last samples found, over the longer a time, the more the delay jitters.
    pub(crate) fn queue_staying(&self) -> f64 {
        match (self.recent.iter().map(|(_, one_way)| *one_way).min(), self.base.get()) {
            (Some(least), Some(base)) => (least - base) as f64,
            _ => 0.0,
        }
    }

    /// Mean step between samples.
    pub(crate) fn jitter(&self) -> f64 {
        self.jitter
    }
}

/// Round trip: smoothed as in RFC 6298, the lowest of the last four seconds, and how much longer one takes without a queue.
#[derive(Debug, Clone)]
pub(crate) struct RoundTrip {
    smoothed: Option<f64>,
    excess: f64,
    low: MinFilter<PATH_MICROS>,
    floor: MinFilter<FLOOR_MICROS>,
}

impl RoundTrip {
    pub(crate) const fn new() -> Self {
        Self { smoothed: None, excess: 0.0, low: MinFilter::new(), floor: MinFilter::new() }
    }

    pub(crate) fn push(&mut self, now: Timestamp, micros: u64) {
        let micros = micros.min(60_000_000);
        self.low.push(now, micros as i64);
        self.floor.push(now, micros as i64);
        let smoothed = self.smoothed.get_or_insert(micros as f64);
        *smoothed += (micros as f64 - *smoothed) / 8.0;
    }

    /// Takes the last sample once more, as one that met no queue of ours.
    pub(crate) fn push_alone(&mut self, micros: u64) {
        let Some(low) = self.low.get() else { return };
        let excess = (micros as f64 - low as f64).clamp(0.0, EXCESS_MAX);
        self.excess += (excess - self.excess) / EXCESS_MEMORY;
    }

    /// Takes the path's round trip where it seems longer; what it once was is remembered on, for it may be a queue.
    pub(crate) fn lengthen(&mut self, now: Timestamp, micros: u64) {
        self.low.replace(now, micros.min(60_000_000) as i64);
    }

    /// Takes a sample that shows the path itself, whatever was believed before.
    pub(crate) fn prove(&mut self, now: Timestamp, micros: u64) {
        self.low.replace(now, micros.min(60_000_000) as i64);
        self.floor.replace(now, micros.min(60_000_000) as i64);
    }

    /// How much longer the lowest of the last seconds is than that of the last minute, in microseconds.
    pub(crate) fn crept(&self) -> f64 {
        match (self.low.get(), self.floor.get()) {
            (Some(low), Some(floor)) => (low - floor) as f64,
            _ => 0.0,
        }
    }

    /// How much longer than the lowest it is in the mean for the path's jitter, without any queue, in microseconds.
    pub(crate) fn excess(&self) -> f64 {
        EXCESS_GAIN * (self.excess - EXCESS_USUAL).max(0.0)
    }

    /// Smoothed, in microseconds.
    pub(crate) fn smoothed(&self) -> Option<f64> {
        self.smoothed
    }

    /// Lowest, in microseconds.
    pub(crate) fn low(&self) -> Option<f64> {
        self.low.get().map(|micros| micros as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_delay_is_remembered_for_half_a_minute() {
        let mut filter = MinFilter::<3_000_000>::new();
        filter.push(Timestamp::from_millis(1000), 50);
        for s in 2..27 {
            filter.push(Timestamp::from_millis(s * 1000), 80);
            assert_eq!(filter.get(), Some(50));
        }
        filter.push(Timestamp::from_millis(40_000), 80);
        assert_eq!(filter.get(), Some(80));
        filter.push(Timestamp::from_millis(40_000_000), 90);
        assert_eq!(filter.get(), Some(90));
    }

    #[test]
    fn a_proved_path_replaces_what_was_believed() {
        let (mut delay, mut trip) = (Delay::new(), RoundTrip::new());
        for ms in 0..100 {
            delay.push(Timestamp::from_millis(ms), 20_000);
            trip.push(Timestamp::from_millis(ms), 40_000);
        }
        delay.prove(Timestamp::from_millis(100), 115_000);
        trip.prove(Timestamp::from_millis(100), 135_000);
        assert_eq!((delay.base(), delay.queue_last(), trip.low()), (Some(115_000), 0.0, Some(135_000.0)));
    }

    #[test]
    fn a_round_trip_that_never_gets_short_again_has_crept() {
        let mut trip = RoundTrip::new();
        for ms in (0..3_000).step_by(20) {
            trip.push(Timestamp::from_millis(ms), 40_000);
        }
        for ms in (3_000..6_000).step_by(20) {
            trip.push(Timestamp::from_millis(ms), 52_000);
        }
        assert!(trip.crept().abs() < 1.0, "{}", trip.crept());
        for ms in (6_000..9_000).step_by(20) {
            trip.push(Timestamp::from_millis(ms), 52_000);
        }
        assert!((trip.crept() - 12_000.0).abs() < 1.0, "{}", trip.crept());
        trip.prove(Timestamp::from_millis(9_000), 52_000);
        assert!(trip.crept().abs() < 1.0, "{}", trip.crept());
    }

    #[test]
    fn only_samples_without_a_queue_tell_the_jitter_of_the_path() {
        let mut trip = RoundTrip::new();
        for i in 0..200_u64 {
            let (alone, micros) = (i % 2 == 0, 40_000 + [0, 35_000, 5_000, 20_000][(i / 2 % 4) as usize]);
            let now = Timestamp::from_millis(i * 20);
            trip.push(now, if alone { micros } else { micros + 90_000 });
            if alone {
                trip.push_alone(micros);
            }
        }
        assert!((trip.excess() - 18_000.0).abs() < 6_000.0, "{}", trip.excess());
    }

    /// Delays every 20 ms; returns the queue that stays at the end, in whole milliseconds.
    fn staying(one_way_ms: impl Iterator<Item = i64>) -> i64 {
        let mut delay = Delay::new();
        for (i, one_way) in one_way_ms.enumerate() {
            delay.push(Timestamp::from_millis(i as u64 * 20), one_way * 1000);
        }
        (delay.queue_staying() / 1000.0) as i64
    }

    #[test]
    fn a_queue_stays_and_jitter_does_not() {
        let rest = || std::iter::repeat_n(30, 20);
        assert_eq!(staying(rest().chain([50, 50, 50])), 20, "where it was quiet a queue shows within two reports");
        let jitter = || (0..40).map(|i| 30 + [0, 35, 60, 40, 5, 20, 50][i % 7]);
        assert!((0..=5).contains(&staying(jitter())), "{}", staying(jitter()));
        assert_eq!(staying(jitter().chain(jitter().map(|ms| ms + 80))), 80, "a queue on top of jitter");
    }

    #[test]
    fn what_packets_meet_where_nothing_of_ours_stands_is_the_swing_of_the_path() {
        let swing = |one_way_ms: &[i64], alone: fn(usize) -> bool| {
            let mut delay = Delay::new();
            for (i, one_way) in one_way_ms.iter().cycle().take(600).enumerate() {
                delay.push(Timestamp::from_millis(i as u64 * 20), one_way * 1000);
                if alone(i) {
                    delay.push_alone();
                }
            }
            (delay.swing() / 1000.0).round() as i64
        };
        assert_eq!(swing(&[30, 36, 33], |_| true), 0, "every path shows so much");
        assert_eq!(swing(&[30, 35, 40, 45, 50, 40, 35, 45], |_| true), 12, "three times 10 - 6");
        assert_eq!(swing(&[30, 35, 40, 45, 50, 40, 35, 45], |_| false), 0, "what our queue makes is none");
        assert_eq!(swing(&[30, 90, 120, 90], |_| true), 20, "the most");
    }

    #[test]
    fn delay_above_the_lowest_is_queue() {
        let mut delay = Delay::new();
        for (at, one_way) in [(0, -5_000), (20, -4_900), (40, 45_000), (60, 45_000), (80, 45_000), (100, 45_000)] {
            delay.push(Timestamp::from_millis(at), one_way);
        }
        assert_eq!(delay.base(), Some(-5_000));
        assert!((delay.queue_last() - 50_000.0).abs() < 1.0);
        assert!(delay.queue() > 45_000.0);
    }
}
