//! The times of buffers.

use gstreamer::ClockTime;

/// The times of one stream, from start to stop. They are of when content was produced, and never go back: the running time stands
/// still in a pause while content gets older, and it is read a moment after or before that age.
#[derive(Debug, Default)]
pub(super) struct Times {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    running_time: ClockTime,
    pts: ClockTime,
}

impl Times {
    /// The time of content that is so old at `running_time`. It goes back only with the running time, when a flush has begun that
    /// anew.
    pub(super) fn pts(&mut self, running_time: ClockTime, age: ClockTime) -> ClockTime {
        let before = self.last.filter(|last| last.running_time <= running_time);
        let floor = before.map_or(ClockTime::ZERO, |last| last.pts);
        let pts = running_time.saturating_sub(age).max(floor);
        self.last = Some(Last { running_time, pts });
        pts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pts(times: &mut Times, running_ms: u64, age_ms: u64) -> u64 {
        times.pts(ClockTime::from_mseconds(running_ms), ClockTime::from_mseconds(age_ms)).mseconds()
    }

    #[test]
    fn content_is_of_when_it_was_produced() {
        let mut times = Times::default();
        assert_eq!(pts(&mut times, 100, 500), 0, "before the pipeline began");
        assert_eq!(pts(&mut times, 900, 500), 400);
        assert_eq!(pts(&mut times, 1_000, 500), 500);
    }

    /// Of ten seconds that are paused the content comes when it goes on.
    #[test]
    fn no_time_goes_back_after_a_pause() {
        let mut times = Times::default();
        assert_eq!(pts(&mut times, 20_000, 500), 19_500);
        for age in (500..=10_500).rev().step_by(1_000) {
            assert_eq!(pts(&mut times, 20_001, age), if age == 500 { 19_501 } else { 19_500 });
        }
        assert_eq!(pts(&mut times, 20_100, 500), 19_600);
    }

    #[test]
    fn a_running_time_that_begins_anew_is_followed() {
        let mut times = Times::default();
        assert_eq!(pts(&mut times, 20_000, 500), 19_500);
        assert_eq!(pts(&mut times, 700, 500), 200);
    }
}
