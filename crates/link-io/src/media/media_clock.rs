//! The time of media that is held back. Pure.

use std::time::{Duration, Instant};

/// A clock that stands still while its media waits for the links: media gets no older by that.
///
/// Whoever asks it says what time it really is. Real time that goes back counts as none.
#[derive(Debug, Clone, Copy)]
pub struct MediaClock {
    /// When it was started, and later by all it has stood still since.
    started: Instant,
    waited: Duration,
    stopped_at: Option<Instant>,
}

impl MediaClock {
    /// Goes from `now` on.
    pub fn start(now: Instant) -> Self {
        Self { started: now, waited: Duration::ZERO, stopped_at: None }
    }

    /// Time since the start, but for the waits; that of a wait under way, too.
    pub fn time(&self, now: Instant) -> Duration {
        self.stopped_at.unwrap_or(now).saturating_duration_since(self.started)
    }

    /// How long it has stood still in all waits that are over.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// A wait begins, if none is under way.
    pub fn stop(&mut self, now: Instant) {
        self.stopped_at.get_or_insert(now);
    }

    /// Ends the wait, if one is under way.
    pub fn go_on(&mut self, now: Instant) {
        if let Some(at) = self.stopped_at.take() {
            let waited = now.saturating_duration_since(at);
            self.started += waited;
            self.waited += waited;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_stands_still_while_media_waits() {
        let start = Instant::now();
        let at = |ms| start + millis(ms);
        let mut clock = MediaClock::start(start);
        assert_eq!(clock.time(at(100)), millis(100));
        clock.stop(at(100));
        assert_eq!((clock.time(at(150)), clock.waited()), (millis(100), Duration::ZERO));
        clock.go_on(at(170));
        assert_eq!((clock.time(at(170)), clock.waited()), (millis(100), millis(70)));
        assert_eq!(clock.time(at(180)), millis(110));
        clock.stop(at(200));
        clock.go_on(at(230));
        assert_eq!((clock.time(at(240)), clock.waited()), (millis(140), millis(100)));
    }

    #[test]
    fn a_wait_begins_and_ends_once() {
        let start = Instant::now();
        let at = |ms| start + millis(ms);
        let mut clock = MediaClock::start(start);
        clock.stop(at(10));
        clock.stop(at(20));
        clock.go_on(at(30));
        clock.go_on(at(40));
        assert_eq!((clock.time(at(50)), clock.waited()), (millis(30), millis(20)));
    }

    #[test]
    fn real_time_that_goes_back_counts_as_none() {
        let start = Instant::now();
        let later = start + millis(10);
        let mut clock = MediaClock::start(later);
        assert_eq!(clock.time(start), Duration::ZERO);
        clock.stop(later);
        clock.go_on(start);
        assert_eq!((clock.time(later), clock.waited()), (Duration::ZERO, Duration::ZERO));
    }
}
