//! A path that grows longer at once (a handover, another route), told from a queue while the link is not full.
//!
//! A queue comes bit by bit, as less is carried than is sent; and what a stall left drains. So when the delay was that of the path,
//! is longer from one report to the next, and stays longer by the same, neither growing nor shrinking, while what is sent could not
//! have queued at the believed capacity, then the path is that much longer. A full link shows no such thing; there silence tells
//! (see `path_check`).
//!
//! Echoes are few, and a delay that is much longer looks like a stall first: what waited meanwhile then crowds the link. So of these it
//! is enough that the first longer ones met no queue of ours, and the later ones are as long.

use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// The delay must stay for so long; the shortest of its two halves are compared. Echoes are fewer.
const STAYS: Duration = Duration::from_millis(160);
const STAYS_COARSE: Duration = Duration::from_millis(320);
/// Samples of each half, at least.
const HALF_SAMPLES: usize = 3;
/// Samples kept: reports come every 10 ms at the most often.
const SAMPLES_MAX: usize = 32;
/// A path that is longer by less does no harm, in microseconds; nor by what so many bytes take.
const LONGER_MICROS: i64 = 12_000;
const LONGER_BYTES: f64 = 5600.0;
/// The halves may differ by so much, in microseconds: 4 % of what the bottleneck carries. Echoes are answered every few milliseconds.
const SAME_MICROS: i64 = 3_000;
const SAME_MICROS_COARSE: i64 = 6_000;
/// And those of echoes by so much from the shortest of the first ones.
const LEVEL_MICROS: i64 = 6_000;
/// A sample of the path as it was is longer by less than this, in microseconds; the last came not long before the first longer one, of
/// which nothing comes for as long as the path is longer.
const CALM_MICROS: i64 = 6_000;
const CALM_AGO: Duration = Duration::from_millis(220);
/// Echoes that tell of no step for so long will not.
const LASTS: Duration = Duration::from_millis(1500);
/// A path is found longer once within so long, in which its shortest delay would be forgotten anyway.
const ONCE_IN: Duration = Duration::from_secs(4);
/// What waits for so long by our own sending may be a queue of ours, in microseconds.
const CROWDED_MICROS: f64 = 25_000.0;

/// The delay of one packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When it became known.
    pub at: Timestamp,
    pub sent_at: Timestamp,
    /// In microseconds; of an echo the round trip, too.
    pub one_way: i64,
    pub round_trip: u64,
    /// True when it is an echo's.
    pub coarse: bool,
}

/// The path as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Longer {
    pub one_way: i64,
    pub round_trip: u64,
}

/// Since the delay is longer than the path.
#[derive(Debug, Clone, Copy)]
struct Episode {
    began: Timestamp,
    /// The shortest of its first samples, which are so many, in microseconds.
    level: i64,
    first: usize,
    /// True when the path showed as it was right before: a queue comes bit by bit.
    is_step: bool,
    /// The believed rate before, in bytes per second.
    rate: f64,
}

/// The watch of one link.
#[derive(Debug, Clone, Default)]
pub(super) struct StepWatch {
    episode: Option<Episode>,
    /// The last ones of it, oldest first.
    samples: VecDeque<Sample>,
    /// When the path last showed as it was.
    calm_at: Option<Timestamp>,
    /// When all that was sent has left a bottleneck of that rate, in microseconds.
    drained_at: f64,
    crowded_at: Option<Timestamp>,
    found_at: Option<Timestamp>,
}

impl StepWatch {
    /// A datagram of so many bytes is sent, over a link that is believed to carry `rate` bytes per second.
    pub(super) fn on_sent(&mut self, now: Timestamp, bytes: usize, rate: f64) {
        let rate = self.rate_before().unwrap_or(rate);
        let at = now.as_micros() as f64;
        self.drained_at = self.drained_at.max(at) + bytes as f64 * 1e6 / rate;
        if self.drained_at - at > CROWDED_MICROS {
            (self.crowded_at, self.drained_at) = (Some(now), self.drained_at.min(at + 2.0 * CROWDED_MICROS));
        }
    }

    /// The believed rate before the path may have grown longer.
    fn rate_before(&self) -> Option<f64> {
        self.episode.filter(|episode| episode.is_step).map(|episode| episode.rate)
    }

    /// Takes a sample beside the path's delay before it (`base`) and the believed rate. Gives the path once it is found longer.
    pub(super) fn push(&mut self, sample: Sample, base: i64, rate: f64) -> Option<Longer> {
        let Sample { at: now, sent_at, coarse, .. } = sample;
        let (stays, same) = if coarse { (STAYS_COARSE, SAME_MICROS_COARSE) } else { (STAYS, SAME_MICROS) };
        let longer = sample.one_way - base;
        let believed = self.rate_before().unwrap_or(rate);
        if longer < LONGER_MICROS.max((LONGER_BYTES * 1e6 / believed) as i64) {
            self.samples.clear();
            self.episode = None;
            if longer < CALM_MICROS {
                self.calm_at = Some(now);
            }
            return None;
        }
        let is_crowded = self.crowded_at.is_some_and(|at| at + stays > sent_at);
        if is_crowded && !coarse {
            self.samples.clear();
            self.episode = None;
            return None;
        }
        let is_step = !is_crowded && self.calm_at.is_some_and(|at| now - at <= CALM_AGO.max(stays));
        let fresh = Episode { began: now, level: sample.one_way, first: 0, is_step, rate };
        let episode = self.episode.get_or_insert(fresh);
        if episode.first < HALF_SAMPLES {
            (episode.level, episode.first) = (episode.level.min(sample.one_way), episode.first + 1);
        }
        let Episode { began, level, is_step, .. } = *episode;
        if !is_step || (coarse && now - began > LASTS) {
            return None;
        }
        self.samples.push_back(sample);
        while self.samples.len() > SAMPLES_MAX || self.samples.get(1).is_some_and(|second| now - second.at >= stays) {
            self.samples.pop_front();
        }
        if self.samples.front().is_none_or(|first| now - first.at < stays) {
            return None;
        }
        let middle = now.back(stays / 2);
        let half = |late: bool| self.samples.iter().filter(move |sample| (sample.at > middle) == late);
        if half(false).count() < HALF_SAMPLES || half(true).count() < HALF_SAMPLES {
            return None;
        }
        let shortest = |late| half(late).map(|sample| sample.one_way).min();
        let (early, late) = (shortest(false)?, shortest(true)?);
        if (early - late).abs() > same || (coarse && (level - late).abs() > LEVEL_MICROS) {
            return None;
        }
        let round_trip = self.samples.iter().map(|sample| sample.round_trip).min()?;
        self.samples.clear();
        self.episode = None;
        if self.found_at.is_some_and(|at| now - at < ONCE_IN) {
            return None;
        }
        self.found_at = Some(now);
        Some(Longer { one_way: early.min(late), round_trip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 1e6;

    /// Reports every 20 ms of a path of 50 ms, with what `delay` adds at a time; gives when the path was found longer, and what.
    fn watch(from_ms: u64, packet_bytes: usize, delay: impl Fn(u64) -> i64) -> Option<(u64, Longer)> {
        let mut watch = StepWatch::default();
        (from_ms..from_ms + 600).step_by(20).find_map(|ms| {
            let now = Timestamp::from_millis(ms);
            for i in 0..4 {
                watch.on_sent(now.back(Duration::from_millis(15 - 5 * i)), packet_bytes, RATE);
            }
            let one_way = 50_000 + delay(ms);
            let (sent_at, round_trip) = (now.back(Duration::from_millis(80)), one_way as u64 + 30_000);
            let sample = Sample { at: now, sent_at, one_way, round_trip, coarse: false };
            Some((ms, watch.push(sample, 50_000, RATE)?))
        })
    }

    #[test]
    fn a_delay_that_stays_longer_on_a_link_that_is_not_full_is_the_path() {
        let (at, longer) =
            watch(1000, 1400, |ms| if ms < 1100 { 0 } else { 66_000 + (ms as i64 * 7919) % 2000 }).unwrap();
        assert!((1260..1320).contains(&at), "{at} ms");
        assert!((116_000..118_000).contains(&longer.one_way), "{longer:?}");
        assert!((longer.round_trip as i64 - longer.one_way - 30_000).abs() < 2_000, "{longer:?}");
    }

    #[test]
    fn queues_are_none() {
        // One that grows, as when the bottleneck carries nine tenths of what is sent; one that drains after a stall.
        assert_eq!(watch(1000, 1400, |ms| (ms as i64 - 1000) * 100), None);
        assert_eq!(watch(1000, 1400, |ms| (120_000 - (ms as i64 - 1000) * 600).max(0)), None);
        // More is sent than the link is believed to carry: it may stand in its own queue.
        assert_eq!(watch(1000, 6000, |ms| if ms < 1100 { 0 } else { 66_000 }), None);
        assert_eq!(watch(1000, 1400, |_| 9_000), None, "too little to matter");
    }
}
