//! One continuous time for everything a stream sends, whatever its source does. Pure.
//!
//! A source gives buffers in its own time: from zero for each pass of a looped file, from zero again after a camera was
//! plugged in again. [`Passes`] strings the passes together; [`Timeline`] fixes the string to the sending pipeline's running
//! time and moves it when source and clock have drifted apart. Video and sound share both, so they stay together. All
//! times are nanoseconds.

/// Video or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Medium {
    fn index(self) -> usize {
        match self {
            Self::Video => 0,
            Self::Audio => 1,
        }
    }
}

/// Passes of one source, laid end to end.
#[derive(Debug, Clone, Default)]
pub struct Passes {
    start: u64,
    end: u64,
}

impl Passes {
    /// The time of a buffer over all passes, and notes how far this pass reaches.
    pub fn place(&mut self, running_time: u64, duration: u64) -> u64 {
        let at = self.start.saturating_add(running_time);
        self.end = self.end.max(at.saturating_add(duration));
        at
    }

    /// The pass is over: the next begins where the longer of video and sound ended. False when it was empty.
    pub fn begin_next(&mut self) -> bool {
        let progressed = self.end > self.start;
        self.start = self.end;
        progressed
    }
}

/// How far a source's time may be from the clock before it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Buffers this late are the sign of a stall.
    pub late_max: u64,
    /// Buffers this early are the sign of a jump in the source's time.
    pub early_max: u64,
}

impl Tolerance {
    /// A file is sent at its own times: early is normal, the feed waits.
    pub const FILE: Self = Self { late_max: 1_000_000_000, early_max: 5_000_000_000 };
    /// A live source's buffers come when they are due.
    pub const LIVE: Self = Self { late_max: 1_000_000_000, early_max: 1_000_000_000 };
}

/// Places source time on the sending pipeline's running time.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Running time minus source time; `None` until the first buffer.
    offset: Option<i64>,
    /// End of the last buffer placed or filled in, by medium.
    end: [u64; 2],
    /// End of the source's own last buffer, by medium; zero before the first.
    real_end: [u64; 2],
    moves: u64,
}

impl Timeline {
    /// The source's time starts anew with its next buffer.
    pub fn detach(&mut self) {
        self.offset = None;
    }

    /// How often the source's time was moved because it left its tolerance.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// The running time for one buffer that stands in for a source which has sent nothing of `medium` for `hold`; `None` when
    /// none is due. Fills from where the source stopped, so that no time is left out.
    pub fn fill(&mut self, medium: Medium, duration: u64, now: u64, hold: u64) -> Option<u64> {
        let (end, real) = (self.end[medium.index()], self.real_end[medium.index()]);
        if real == 0 || now < real.saturating_add(hold) || now < end {
            return None;
        }
        // A thread that was held up for long does not catch up with a burst.
        let at = if now - end > hold + duration { now } else { end };
        self.end[medium.index()] = at + duration;
        Some(at)
    }

    /// The running time at which a buffer at source time `at` is shown; `None` when it would overlap what was sent
    /// already and must be dropped.
    pub fn place(&mut self, medium: Medium, at: u64, duration: u64, now: u64, tolerance: Tolerance) -> Option<u64> {
        let offset = match self.offset {
            Some(offset) if within(at, offset, now, tolerance) => offset,
            previous => {
                self.moves += u64::from(previous.is_some());
                let fresh = signed(now) - signed(at);
                self.offset = Some(fresh);
                fresh
            }
        };
        let out = u64::try_from(signed(at) + offset).unwrap_or(0);
        let end = &mut self.end[medium.index()];
        // Half a buffer of overlap is rounding; more is content that was sent before the time was moved.
        if out + duration / 2 < *end {
            return None;
        }
        *end = out + duration;
        self.real_end[medium.index()] = out + duration;
        Some(out)
    }
}

fn within(at: u64, offset: i64, now: u64, tolerance: Tolerance) -> bool {
    let out = signed(at) + offset;
    let ahead = out - signed(now);
    (-signed(tolerance.late_max)..=signed(tolerance.early_max)).contains(&ahead)
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn passes_of_a_file_join_at_the_end_of_the_longer_medium() {
        let mut passes = Passes::default();
        assert_eq!(passes.place(0, 40 * MS), 0);
        assert_eq!(passes.place(40 * MS, 40 * MS), 40 * MS); // video ends at 80
        assert_eq!(passes.place(70 * MS, 21 * MS), 70 * MS); // sound ends at 91
        assert!(passes.begin_next());
        assert_eq!(passes.place(0, 40 * MS), 91 * MS);
        assert!(passes.begin_next());
        assert!(!passes.begin_next(), "an empty pass is told, so that an empty file does not spin");
    }

    #[test]
    fn a_file_is_placed_without_a_step_over_its_loop() {
        let (mut passes, mut timeline) = (Passes::default(), Timeline::default());
        let mut now = 500 * MS;
        let mut previous = None;
        for _ in 0..4 {
            for frame in 0..25 {
                let at = passes.place(frame * 40 * MS, 40 * MS);
                let out = timeline.place(Medium::Video, at, 40 * MS, now, Tolerance::FILE).unwrap();
                if let Some(previous) = previous {
                    assert_eq!(out - previous, 40 * MS);
                }
                previous = Some(out);
                now = out;
            }
            passes.begin_next();
        }
        assert_eq!(timeline.moves(), 0);
    }

    #[test]
    fn sound_and_picture_keep_their_distance() {
        let mut timeline = Timeline::default();
        let video = timeline.place(Medium::Video, 100 * MS, 40 * MS, 1000 * MS, Tolerance::LIVE).unwrap();
        let audio = timeline.place(Medium::Audio, 80 * MS, 20 * MS, 1010 * MS, Tolerance::LIVE).unwrap();
        assert_eq!(video - audio, 20 * MS);
    }

    #[test]
    fn a_stalled_or_jumping_source_is_moved_to_now() {
        let mut timeline = Timeline::default();
        timeline.place(Medium::Video, 0, 40 * MS, 0, Tolerance::LIVE).unwrap();
        let late = timeline.place(Medium::Video, 40 * MS, 40 * MS, 3000 * MS, Tolerance::LIVE).unwrap();
        assert_eq!(late, 3000 * MS);
        let jumped = timeline.place(Medium::Video, 3_600_000 * MS, 40 * MS, 3040 * MS, Tolerance::LIVE).unwrap();
        assert_eq!(jumped, 3040 * MS);
        assert_eq!(timeline.moves(), 2);
    }

    #[test]
    fn a_missing_picture_is_filled_in_after_the_hold_and_the_source_takes_over_again() {
        let mut timeline = Timeline::default();
        let fill = |timeline: &mut Timeline, now| timeline.fill(Medium::Video, 40 * MS, now, 500 * MS);
        assert_eq!(fill(&mut timeline, 900 * MS), None, "before the first picture nothing is filled in");
        timeline.place(Medium::Video, 0, 40 * MS, 1000 * MS, Tolerance::LIVE).unwrap(); // ends at 1040
        assert_eq!(fill(&mut timeline, 1500 * MS), None);
        let mut filled = Vec::new();
        while let Some(at) = fill(&mut timeline, 1540 * MS) {
            filled.push(at / MS);
        }
        assert_eq!(
            (filled.first(), filled.last(), filled.len()),
            (Some(&1040), Some(&1520), 13),
            "up to now, no further"
        );
        timeline.detach();
        let back = timeline.place(Medium::Video, 7 * MS, 40 * MS, 1550 * MS, Tolerance::LIVE).unwrap();
        assert_eq!(back, 1550 * MS);
        assert_eq!(fill(&mut timeline, 1600 * MS), None, "the source gives pictures again");
    }

    #[test]
    fn output_never_goes_back() {
        let mut timeline = Timeline::default();
        timeline.place(Medium::Video, 900 * MS, 40 * MS, 100 * MS, Tolerance::FILE).unwrap();
        timeline.place(Medium::Video, 2900 * MS, 40 * MS, 101 * MS, Tolerance::FILE).unwrap(); // 2 s ahead, allowed
        timeline.detach();
        assert_eq!(timeline.place(Medium::Video, 0, 40 * MS, 200 * MS, Tolerance::FILE), None);
        assert!(timeline.place(Medium::Video, 2100 * MS, 40 * MS, 300 * MS, Tolerance::FILE).is_some());
    }
}
