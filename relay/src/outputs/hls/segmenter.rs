//! Cuts the stream into segments that begin with tables and a random access point. Pure.

use crate::media::mux::Muxer;
use crate::media::pes::TICKS_PER_SECOND;
use crate::media::unit::Unit;
use std::time::{Duration, SystemTime};

/// A segment ends at the first random access point after so many ticks: a little under two seconds, so that intra
/// pictures every two seconds are met exactly.
const CUT_AFTER_TICKS: i64 = TICKS_PER_SECOND * 19 / 10;
/// Without a random access point a segment is given up at so many ticks...
const LENGTH_TICKS_MAX: i64 = 20 * TICKS_PER_SECOND;
/// ...or bytes, and the next begins at the next random access point.
const LENGTH_BYTES_MAX: usize = 32 << 20;
/// A step between pictures that is longer than this is an interruption: the segment ends before it.
const STEP_TICKS_MAX: i64 = 2 * TICKS_PER_SECOND;

/// A segment's content.
#[derive(Debug)]
pub struct Cut {
    /// TS packets.
    pub bytes: Vec<u8>,
    /// Length.
    pub duration: Duration,
    /// Wall-clock time of the first picture.
    pub starts_at: SystemTime,
    /// The media does not continue the segment before.
    pub discontinuity: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Segmenter {
    muxer: Muxer,
    open: Option<Open>,
    /// The next segment does not continue the last.
    broken: bool,
    /// Wall-clock time and output time of the same moment, by epoch.
    anchor: Option<(u32, SystemTime, i64)>,
    bytes_last: usize,
}

#[derive(Debug)]
struct Open {
    bytes: Vec<u8>,
    start: i64,
    /// DTS of the leading track's last unit.
    last: i64,
    /// Ticks between its last two units.
    step: i64,
    epoch: u32,
    discontinuity: bool,
}

impl Segmenter {
    /// Takes a unit; returns the segment that ended before it.
    pub fn push(&mut self, wall: SystemTime, unit: &Unit, after_gap: bool) -> Option<Cut> {
        let leads = unit.track == unit.program.lead();
        let mut done = None;
        if leads {
            done = self.end_before(unit, after_gap);
        }
        match &mut self.open {
            None if unit.starts_output() => self.begin(wall, unit),
            Some(open) => {
                if leads {
                    open.step = unit.dts - open.last;
                    open.last = unit.dts;
                }
                self.muxer.write_unit(unit, &mut open.bytes);
            }
            None => {}
        }
        done
    }

    /// Ends the open segment: the stream has ended or paused.
    pub fn finish(&mut self) -> Option<Cut> {
        let open = self.open.take()?;
        self.broken = true;
        let end = open.last + if open.step > 0 { open.step } else { TICKS_PER_SECOND / 25 };
        self.cut(open, end)
    }

    fn end_before(&mut self, unit: &Unit, after_gap: bool) -> Option<Cut> {
        let open = self.open.as_ref()?;
        let length = unit.dts - open.start;
        let interrupted = after_gap || unit.epoch != open.epoch || unit.dts - open.last > STEP_TICKS_MAX;
        let too_long = length > LENGTH_TICKS_MAX || open.bytes.len() > LENGTH_BYTES_MAX;
        if interrupted || too_long {
            return self.finish();
        }
        if !(unit.random_access && length >= CUT_AFTER_TICKS) {
            return None;
        }
        let open = self.open.take()?;
        self.cut(open, unit.dts)
    }

    fn begin(&mut self, wall: SystemTime, unit: &Unit) {
        let mut bytes = Vec::with_capacity(self.bytes_last + self.bytes_last / 4);
        // Tables come with the random access point; where the muxer knows no program yet, with its change.
        self.muxer.write_unit(unit, &mut bytes);
        match self.anchor {
            Some((epoch, ..)) if epoch == unit.epoch && !self.broken => {}
            _ => self.anchor = Some((unit.epoch, wall, unit.dts)),
        }
        self.open = Some(Open {
            bytes,
            start: unit.dts,
            last: unit.dts,
            step: 0,
            epoch: unit.epoch,
            discontinuity: std::mem::take(&mut self.broken),
        });
    }

    fn cut(&mut self, open: Open, end: i64) -> Option<Cut> {
        let (_, wall, at) = self.anchor?;
        self.bytes_last = open.bytes.len();
        Some(Cut {
            bytes: open.bytes,
            duration: duration(end - open.start),
            starts_at: wall + duration(open.start - at),
            discontinuity: open.discontinuity,
        })
    }
}

fn duration(ticks: i64) -> Duration {
    Duration::from_micros(ticks.max(0) as u64 * 100 / 9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet::{PID_PAT, Packet};
    use crate::media::samples;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn segment(units: &[Unit]) -> Vec<Cut> {
        let mut segmenter = Segmenter::default();
        let mut cuts: Vec<Cut> = units.iter().filter_map(|unit| segmenter.push(WALL, unit, false)).collect();
        cuts.extend(segmenter.finish());
        cuts
    }

    #[test]
    fn segments_of_two_seconds_begin_with_tables_and_an_idr_picture() {
        let units = samples::programme(6);
        let cuts = segment(&units);
        assert_eq!(cuts.iter().map(|cut| cut.duration.as_millis()).collect::<Vec<_>>(), [2000, 2000, 2000]);
        assert_eq!(cuts.iter().map(|cut| cut.discontinuity).collect::<Vec<_>>(), [false; 3]);
        for (index, cut) in cuts.iter().enumerate() {
            assert_eq!(Packet::parse(&cut.bytes[..188]).unwrap().pid, PID_PAT);
            let third = Packet::parse(&cut.bytes[376..564]).unwrap();
            assert!(third.pid == 0x100 && third.adaptation.random_access);
            assert_eq!(cut.starts_at, WALL + Duration::from_secs(2) * index as u32);
            let pictures = samples::demux(&cut.bytes).0.iter().filter(|unit| unit.track == 0).count();
            assert_eq!(pictures, 50);
        }
    }

    #[test]
    fn nothing_is_lost_between_segments() {
        let units = samples::programme(6);
        let joined: Vec<u8> = segment(&units).into_iter().flat_map(|cut| cut.bytes).collect();
        let (read, demuxer) = samples::demux(&joined);
        assert_eq!(demuxer.counters().continuity_gaps, 0);
        // Sound before the first picture has no segment.
        let lead_in = units.iter().position(|unit| unit.track == 0).unwrap();
        assert_eq!(read.len(), units.len() - lead_in);
    }

    #[test]
    fn a_new_epoch_or_a_long_pause_ends_the_segment_and_marks_the_next() {
        for (epoch, pause) in [(1, 0), (0, 5 * TICKS_PER_SECOND)] {
            let mut units = samples::programme(5);
            let lead_in = units.iter().position(|unit| unit.track == 0).unwrap();
            units.drain(..lead_in);
            // The interruption is after three seconds, at a picture that is none to start with.
            for unit in &mut units[160..] {
                unit.epoch = epoch;
                (unit.dts, unit.pts) = (unit.dts + pause, unit.pts + pause);
            }
            let cuts = segment(&units);
            let lengths: Vec<u128> = cuts.iter().map(|cut| cut.duration.as_millis()).collect();
            assert_eq!(lengths, [2000, 1200, 1000], "epoch {epoch}");
            assert_eq!(cuts.iter().map(|cut| cut.discontinuity).collect::<Vec<_>>(), [false, false, true]);
        }
    }
}
