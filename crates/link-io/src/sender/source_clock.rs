//! From media time to the sender's clock.

use std::time::Duration;
use units::Timestamp;

/// How far media time may lag behind the moment it is handed over before it is tied to real time anew.
const BEHIND_MAX: Duration = Duration::from_millis(500);
/// How fast a media clock slower than ours is followed, in microseconds per second.
const FOLLOW_MICROS_PER_SECOND: i64 = 200;

/// Ties the media time of a flow to real time by its most punctual packet: no packet is ever in the future.
///
/// A media clock that runs fast is followed at once (a packet that would be in the future shifts the tie), one that runs
/// slow is followed at [`FOLLOW_MICROS_PER_SECOND`], and a jump beyond [`BEHIND_MAX`] ties it anew.
#[derive(Debug, Default)]
pub(crate) struct SourceClock {
    tie: Option<Tie>,
}

#[derive(Debug, Clone, Copy)]
struct Tie {
    /// Real time minus media time, in microseconds.
    offset: i64,
    set_at: Timestamp,
}

impl SourceClock {
    /// When the content was produced that was handed over at `pushed_at` with `source_time`.
    pub(crate) fn map(&mut self, pushed_at: Timestamp, source_time: Option<Duration>) -> Timestamp {
        let Some(media) = source_time.and_then(|time| i64::try_from(time.as_micros()).ok()) else {
            return pushed_at;
        };
        let pushed = pushed_at.as_micros() as i64;
        let latest = pushed - media;
        let offset = match self.tie {
            None => latest,
            Some(tie) => {
                let elapsed = pushed_at.since(tie.set_at).as_micros() as i64;
                let followed = tie.offset + elapsed * FOLLOW_MICROS_PER_SECOND / 1_000_000;
                if latest - followed > BEHIND_MAX.as_micros() as i64 { latest } else { followed.min(latest) }
            }
        };
        let moved = self.tie.is_none_or(|tie| tie.offset != offset);
        if moved {
            self.tie = Some(Tie { offset, set_at: pushed_at });
        }
        Timestamp::from_micros(u64::try_from(media + offset).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn map(clock: &mut SourceClock, pushed: Timestamp, media_millis: u64) -> Timestamp {
        clock.map(pushed, Some(Duration::from_millis(media_millis)))
    }

    #[test]
    fn without_media_time_content_is_as_old_as_its_push() {
        assert_eq!(SourceClock::default().map(at(77), None), at(77));
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
            let mapped = clock.map(pushed, Some(Duration::from_micros(second * 999_900)));
            lag = lag.max(pushed - mapped);
        }
        assert!(lag < Duration::from_millis(1), "{lag:?}");
    }
}
