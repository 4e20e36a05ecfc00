//! One continuous output timeline over everything senders do to their clocks.
//!
//! Timestamps of a transport stream have 33 bits and begin anywhere; a sender that is restarted begins anew. The outputs'
//! sessions outlive that, so their timestamps must go on: [`Timeline::place`] gives each unit its place on a timeline that
//! never goes back within a track. While the sender's clock runs on, the mapping is one constant offset for all tracks
//! (sound and picture stay together, nothing drifts). When the clock breaks, a new epoch begins where the old one ended
//! plus the time that passed.
//!
//! Pure: time comes in as an argument. Call it in the order of the packets, when a unit begins.

use super::pes::{TICKS_PER_SECOND, TIMESTAMP_BITS};
use std::collections::HashMap;
use std::time::Duration;
use thiserror::Error;
use units::Timestamp;

/// How far one track's DTS may be behind another's in the stream: encoders with look-ahead and muxers with deep queues
/// stay below. A larger step back is a new time base.
const INTERLEAVE_TICKS_MAX: i64 = 2 * TICKS_PER_SECOND;
/// How far the sender's clock and ours may disagree about the time between two units: bursts after an outage are shorter
/// than the largest latency budget. A larger step ahead is a new time base.
const BURST_TICKS_MAX: i64 = 10 * TICKS_PER_SECOND;
/// How far a track may step back within an epoch; such units are refused, a larger step is a new time base.
const STEP_BACK_TICKS_MAX: i64 = TICKS_PER_SECOND / 2;
/// Shortest pause between epochs: room for the interleaving of the new one, whose first unit need not be its earliest.
const PAUSE_TICKS_MIN: i64 = TICKS_PER_SECOND / 2;
/// Longest pause between epochs; after more the outputs' sessions are no longer the same anyway.
const PAUSE_TICKS_MAX: i64 = 24 * 3600 * TICKS_PER_SECOND;
/// Largest distance of PTS and DTS that is believed.
const REORDER_TICKS_MAX: i64 = 10 * TICKS_PER_SECOND;
/// Where the output timeline begins: above zero, so that what belongs before the first unit has a place too.
const ORIGIN_TICKS: i64 = 10 * TICKS_PER_SECOND;

/// A unit's own timestamps, 33 bits at 90 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The track: its PID.
    pub pid: u16,
    /// Presentation.
    pub pts: u64,
    /// Decoding.
    pub dts: u64,
}

/// A unit's place on the output timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Presentation, in ticks.
    pub pts: i64,
    /// Decoding, in ticks; strictly rises within a track.
    pub dts: i64,
    /// Counts time bases from 0.
    pub epoch: u32,
}

/// Why a unit has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Misplaced {
    /// Its DTS is not after that of the unit before.
    #[error("a decoding time goes back within its track")]
    Backwards,
    /// PTS and DTS are too far apart to be true.
    #[error("presentation and decoding time are too far apart")]
    Reorder,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Timeline {
    base: Option<Base>,
    epoch: u32,
    /// The end of what was placed so far.
    end: i64,
    /// When the last unit was placed.
    last_at: Timestamp,
    broken: bool,
    /// Last DTS on the output timeline, by PID.
    tracks: HashMap<u16, i64>,
}

/// The mapping of the current epoch.
#[derive(Debug, Clone, Copy)]
struct Base {
    /// Output minus unwrapped sender time.
    offset: i64,
    /// Unwrapped sender time of the last unit.
    last: i64,
}

impl Timeline {
    /// The sender is known to be another one, or restarted: the next unit begins a new epoch.
    pub fn break_here(&mut self) {
        self.broken = true;
    }

    /// Gives a unit its place.
    ///
    /// # Errors
    /// The unit is the sender's mistake and should be dropped.
    pub fn place(&mut self, now: Timestamp, stamp: Stamp) -> Result<Place, Misplaced> {
        let reorder = wrapped_difference(stamp.pts, stamp.dts);
        if reorder.abs() > REORDER_TICKS_MAX {
            return Err(Misplaced::Reorder);
        }
        let elapsed = ticks(now.since(self.last_at));
        let base = match self.base {
            Some(base) if !self.broken && self.continues(base, stamp, elapsed) => base,
            previous => self.begin_epoch(previous.is_some(), stamp.dts, elapsed),
        };
        let sender_time = base.last + wrapped_difference(stamp.dts, unwrapped_to_wire(base.last));
        self.base = Some(Base { last: sender_time, ..base });
        self.last_at = self.last_at.max(now);
        let dts = sender_time + base.offset;
        match self.tracks.get(&stamp.pid) {
            Some(&last) if dts <= last => return Err(Misplaced::Backwards),
            _ => self.tracks.insert(stamp.pid, dts),
        };
        self.end = self.end.max(dts);
        Ok(Place { pts: dts + reorder, dts, epoch: self.epoch })
    }

    /// Whether the sender's clock still runs as before.
    fn continues(&self, base: Base, stamp: Stamp, elapsed: i64) -> bool {
        let step = wrapped_difference(stamp.dts, unwrapped_to_wire(base.last));
        let dts = base.last + step + base.offset;
        let track_step = self.tracks.get(&stamp.pid).map_or(0, |last| dts - last);
        step >= -INTERLEAVE_TICKS_MAX && track_step >= -STEP_BACK_TICKS_MAX && step <= elapsed + BURST_TICKS_MAX
    }

    fn begin_epoch(&mut self, had_one: bool, dts: u64, elapsed: i64) -> Base {
        self.broken = false;
        let start = if had_one {
            self.epoch += 1;
            self.end + elapsed.clamp(PAUSE_TICKS_MIN, PAUSE_TICKS_MAX)
        } else {
            ORIGIN_TICKS
        };
        Base { offset: start - dts as i64, last: dts as i64 }
    }
}

/// `a - b` over the wrap, nearest to zero.
pub fn wrapped_difference(a: u64, b: u64) -> i64 {
    let shift = 64 - TIMESTAMP_BITS;
    (a.wrapping_sub(b) << shift) as i64 >> shift
}

fn unwrapped_to_wire(ticks: i64) -> u64 {
    ticks as u64 & ((1 << TIMESTAMP_BITS) - 1)
}

fn ticks(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros() * 9 / 100).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIDEO: u16 = 0x100;
    const AUDIO: u16 = 0x101;
    const WRAP: u64 = 1 << 33;

    struct Sender {
        timeline: Timeline,
        now: Timestamp,
    }

    impl Sender {
        fn new() -> Self {
            Self { timeline: Timeline::default(), now: Timestamp::from_millis(50_000) }
        }

        fn send(&mut self, pid: u16, after_ms: u64, dts: u64) -> Result<Place, Misplaced> {
            self.now = Timestamp::from_millis(self.now.as_millis() + after_ms);
            self.timeline.place(self.now, Stamp { pid, pts: (dts + 3600) % WRAP, dts: dts % WRAP })
        }
    }

    #[test]
    fn the_wrap_of_33_bits_is_not_seen() {
        let mut sender = Sender::new();
        let start = WRAP - 3 * 3600;
        let places: Vec<_> = (0..6).map(|frame| sender.send(VIDEO, 40, start + frame * 3600).unwrap()).collect();
        for (frame, place) in places.iter().enumerate() {
            assert_eq!(place.dts, ORIGIN_TICKS + frame as i64 * 3600);
            assert_eq!((place.pts - place.dts, place.epoch), (3600, 0));
        }
    }

    #[test]
    fn a_restarted_sender_goes_on_where_the_old_one_ended_plus_the_pause() {
        let mut sender = Sender::new();
        for frame in 0..50 {
            sender.send(VIDEO, 40, 324_000_000 + frame * 3600).unwrap();
        }
        let old = sender.send(AUDIO, 0, 324_000_000 + 48 * 3600).unwrap();
        // Three seconds later the same clock value again.
        let new = sender.send(VIDEO, 3000, 324_000_000).unwrap();
        assert_eq!(new.epoch, 1);
        assert_eq!(new.dts - (ORIGIN_TICKS + 49 * 3600), 3 * TICKS_PER_SECOND);
        // The audio of the new time base keeps its distance to the video.
        let audio = sender.send(AUDIO, 0, 324_000_000 - 1800).unwrap();
        assert_eq!((audio.dts, audio.epoch), (new.dts - 1800, 1));
        assert!(audio.dts > old.dts);
    }

    #[test]
    fn an_outage_of_a_sender_that_lives_on_is_a_gap_and_no_new_epoch() {
        let mut sender = Sender::new();
        sender.send(VIDEO, 40, 1_000_000).unwrap();
        let after = sender.send(VIDEO, 60_000, 1_000_000 + 60 * 90_000).unwrap();
        assert_eq!((after.dts, after.epoch), (ORIGIN_TICKS + 60 * TICKS_PER_SECOND, 0));
    }

    #[test]
    fn a_known_break_begins_a_new_epoch_even_when_the_clock_fits() {
        let mut sender = Sender::new();
        sender.send(VIDEO, 40, 1_000_000).unwrap();
        sender.timeline.break_here();
        let after = sender.send(VIDEO, 40, 1_003_600).unwrap();
        assert_eq!((after.dts, after.epoch), (ORIGIN_TICKS + PAUSE_TICKS_MIN, 1));
        assert_eq!(sender.send(VIDEO, 40, 1_007_200).unwrap().epoch, 1);
    }

    #[test]
    fn small_steps_back_are_refused_and_do_not_disturb() {
        let mut sender = Sender::new();
        let first = sender.send(AUDIO, 0, 5_000_000).unwrap();
        assert_eq!(sender.send(AUDIO, 20, 5_000_000), Err(Misplaced::Backwards));
        assert_eq!(sender.send(AUDIO, 20, 4_999_000), Err(Misplaced::Backwards));
        assert_eq!(sender.send(AUDIO, 20, 5_001_920).unwrap().dts, first.dts + 1920);
        let odd = sender.timeline.place(sender.now, Stamp { pid: AUDIO, pts: 0, dts: 5_003_840 });
        assert_eq!(odd, Err(Misplaced::Reorder));
    }

    #[test]
    fn sound_and_picture_never_drift_apart_in_ten_hours() {
        let mut sender = Sender::new();
        let (mut video, mut audio) = (900_000, 900_000 - 40_000);
        for _ in 0..10 * 3600 {
            // One second each step; the sender's clock is 100 ppm fast against ours.
            let (picture, sound) = (sender.send(VIDEO, 1000, video).unwrap(), sender.send(AUDIO, 0, audio).unwrap());
            assert_eq!((picture.dts - sound.dts, picture.epoch), (40_000, 0));
            (video, audio) = (video + 90_009, audio + 90_009);
        }
    }

    proptest! {
        /// Whatever comes, no track ever goes back.
        #[test]
        fn no_track_goes_back(steps in proptest::collection::vec((0..3_u16, 0..5000_u64, any::<u64>(), 0..8_u8), 1..200)) {
            let mut sender = Sender::new();
            let mut last = HashMap::new();
            let mut clock = 0_u64;
            for (pid, after_ms, random, kind) in steps {
                match kind {
                    0 => clock = random % WRAP,
                    1 => sender.timeline.break_here(),
                    _ => clock = (clock + random % 9000) % WRAP,
                }
                if let Ok(place) = sender.send(pid, after_ms, clock)
                    && let Some(before) = last.insert(pid, place.dts)
                {
                    prop_assert!(place.dts > before);
                }
            }
        }
    }
}
