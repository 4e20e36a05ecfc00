//! From media time to the sender's clock.

use std::time::Duration;
use units::Timestamp;

/// How far media time may lag behind the moment it is handed over before it is tied to real time anew, at most. It is never more
/// than the latency: what lags by as much would be given up.
const BEHIND_MAX: Duration = Duration::from_millis(500);
/// A lag of more than the latency divided by the first, for as long as the second, takes that from every packet for good: media
/// comes later than it did, and is tied anew by the most punctual packet of that time. A burst that was held up is over sooner.
const LAG_DIVISOR: u32 = 4;
const LAGS_FOR: Duration = Duration::from_secs(1);
/// How fast a media clock slower than ours is followed, in microseconds per second.
const FOLLOW_MICROS_PER_SECOND: i64 = 200;

/// Ties the media time of a flow to real time by its most punctual packet: no packet is ever in the future.
///
/// A media clock that runs fast is followed at once (a packet that would be in the future shifts the tie), one that runs
/// slow is followed at [`FOLLOW_MICROS_PER_SECOND`]. A jump beyond [`BEHIND_MAX`] or the latency ties it anew, and so does
/// a good part of the latency that all packets of [`LAGS_FOR`] lag by.
#[derive(Debug, Default)]
pub(crate) struct SourceClock {
    tie: Option<Tie>,
    /// Packets without a break that lag by a good part of the latency.
    lagging: Option<Lagging>,
}

#[derive(Debug, Clone, Copy)]
struct Tie {
    /// Real time minus media time, in microseconds.
    offset: i64,
    set_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Lagging {
    since: Timestamp,
    /// The tie by the most punctual of them.
    offset: i64,
}

impl SourceClock {
    /// When the content was produced that was handed over at `pushed_at` with `source_time`, for a flow of this latency.
    pub(crate) fn map(&mut self, pushed_at: Timestamp, source_time: Option<Duration>, latency: Duration) -> Timestamp {
        let Some(media) = source_time.and_then(|time| i64::try_from(time.as_micros()).ok()) else {
            return pushed_at;
        };
        let pushed = pushed_at.as_micros() as i64;
        let latest = pushed - media;
        let offset = self.tie.map_or(latest, |tie| self.follow(tie, pushed_at, latest, latency));
        let moved = self.tie.is_none_or(|tie| tie.offset != offset);
        if moved {
            self.tie = Some(Tie { offset, set_at: pushed_at });
        }
        Timestamp::from_micros(u64::try_from(media + offset).unwrap_or(0))
    }

    /// The tie after a packet that alone would set it to `latest`.
    fn follow(&mut self, tie: Tie, pushed_at: Timestamp, latest: i64, latency: Duration) -> i64 {
        let elapsed = pushed_at.since(tie.set_at).as_micros() as i64;
        let followed = tie.offset + elapsed * FOLLOW_MICROS_PER_SECOND / 1_000_000;
        let lag = Duration::from_micros(u64::try_from(latest - followed).unwrap_or(0));
        if lag > BEHIND_MAX.min(latency) {
            self.lagging = None;
            return latest;
        }
        if lag <= latency / LAG_DIVISOR {
            self.lagging = None;
            return followed.min(latest);
        }
        let lagging = self.lagging.get_or_insert(Lagging { since: pushed_at, offset: latest });
        lagging.offset = lagging.offset.min(latest);
        if pushed_at.since(lagging.since) < LAGS_FOR {
            return followed;
        }
        self.lagging.take().map_or(followed, |lagging| lagging.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn map(clock: &mut SourceClock, pushed: Timestamp, media_millis: u64) -> Timestamp {
        map_within(LATENCY, clock, pushed, media_millis)
    }

    fn map_within(latency: Duration, clock: &mut SourceClock, pushed: Timestamp, media_millis: u64) -> Timestamp {
        clock.map(pushed, Some(Duration::from_millis(media_millis)), latency)
    }

    /// By how many milliseconds packets made every 20 ms of media time, from 0 to `until`, are older than their push, `late(media)`
    /// after their time.
    fn ages(latency_millis: u64, until: u64, late: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut clock = SourceClock::default();
        let latency = Duration::from_millis(latency_millis);
        let mut age = |media| {
            let pushed = at(10_000 + media + late(media));
            (pushed - map_within(latency, &mut clock, pushed, media)).as_millis() as u64
        };
        (0..until).step_by(20).map(&mut age).collect()
    }

    #[test]
    fn without_media_time_content_is_as_old_as_its_push() {
        assert_eq!(SourceClock::default().map(at(77), None, LATENCY), at(77));
    }

    /// The tie follows by microseconds in between, so whole milliseconds are compared.
    #[test]
    fn the_most_punctual_packet_sets_the_tie() {
        let mut clock = SourceClock::default();
        let mut mapped = |pushed, media| map(&mut clock, at(pushed), media).as_millis();
        assert_eq!(mapped(1000, 0), 1000);
        assert_eq!(mapped(1050, 40), 1040, "a packet that was held up is older than its push");
        assert_eq!(mapped(1070, 80), 1070, "none is in the future");
        assert_eq!(mapped(1120, 120), 1110, "the earlier tie holds");
    }

    #[test]
    fn a_jump_of_media_time_ties_anew() {
        let mut clock = SourceClock::default();
        map(&mut clock, at(1000), 0);
        assert_eq!(map(&mut clock, at(2000), 100), at(2000));
        assert_eq!(map(&mut clock, at(2100), 90_000), at(2100));
    }

    #[test]
    fn a_slow_media_clock_is_followed_within_its_lag() {
        let mut clock = SourceClock::default();
        let mut lag = Duration::ZERO;
        for second in 1..=3600_u64 {
            let pushed = at(second * 1000);
            // 100 ppm slow.
            let mapped = clock.map(pushed, Some(Duration::from_micros(second * 999_900)), LATENCY);
            lag = lag.max(pushed - mapped);
        }
        assert!(lag < Duration::from_millis(1), "{lag:?}");
    }

    /// Media that comes later from some moment on, by less than a jump.
    #[test]
    fn a_lag_that_stays_costs_part_of_the_latency_for_a_second_only() {
        for (latency, lag) in [(400, 300), (1000, 300), (200, 100), (1900, 490)] {
            let ages = ages(latency, 5_000, |media| if media < 2_000 { 0 } else { lag });
            let lagging: Vec<usize> = (0..ages.len()).filter(|i| ages[*i] >= lag - 1).collect();
            assert_eq!(lagging, (100..150).collect::<Vec<_>>(), "{latency} ms, {lag} ms: {ages:?}");
            assert!(ages[150..].iter().all(|age| *age <= 1), "{latency} ms, {lag} ms: {ages:?}");
        }
    }

    /// It stays, or a burst of 300 ms was held up: either would be given up.
    #[test]
    fn a_lag_of_the_whole_latency_costs_nothing() {
        let stays = ages(200, 5_000, |media| if media < 2_000 { 0 } else { 300 });
        assert!(stays.iter().all(|age| *age <= 1), "{stays:?}");
        let held = ages(200, 5_000, |media| if (2_000..2_300).contains(&media) { 2_300 - media } else { 0 });
        assert!(held.iter().all(|age| *age <= 1), "{held:?}");
    }

    /// A jittery source whose most punctual packets come later than they did: these set the tie.
    #[test]
    fn the_most_punctual_of_those_that_lag_sets_the_tie() {
        let jitter = |media: u64| media / 20 % 5 * 20;
        let ages = ages(600, 8_000, |media| jitter(media) + if media < 3_000 { 0 } else { 200 });
        for (i, age) in ages.iter().enumerate().skip(210) {
            let expected = jitter(i as u64 * 20);
            assert!(age.abs_diff(expected) <= 1, "{i}: {age} ms instead of {expected}");
        }
    }

    /// Held up for less than the latency, then handed over at once: what is late keeps its times, and so does what follows.
    #[test]
    fn a_burst_that_was_held_up_keeps_its_times() {
        let held = |media: u64| if (2_000..2_380).contains(&media) { 2_380 - media } else { 0 };
        for latency in [400, 1000] {
            for (i, age) in ages(latency, 5_000, held).into_iter().enumerate() {
                let late = held(i as u64 * 20);
                assert!(age.abs_diff(late) <= 1, "{latency} ms, {i}: {age} ms instead of {late}");
            }
        }
    }

    #[test]
    fn a_small_lag_is_no_reason_to_tie_anew() {
        let ages = ages(1000, 8_000, |media| if media < 2_000 { 0 } else { 240 });
        assert!(ages[100..].iter().all(|age| *age >= 238), "{ages:?}");
    }
}
