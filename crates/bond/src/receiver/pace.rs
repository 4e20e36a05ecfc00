//! How many numbers pass in a flow's media time. Sixteen bits alone do not tell how many packets a long outage of a fast flow took.

use rist::sequence::SequenceNumber;
use std::time::Duration;
use units::Timestamp;

use super::flow::{Cell, DONE_WINDOW, Flow};
use crate::config::{HISTORY_PACKETS_MAX, LATENCY_MAX, LATENCY_MIN, LATENCY_PACKETS_MAX};

/// The pace is taken over so much media time, in microseconds,
const SPAN_MICROS: i64 = 1_000_000;
/// with this weight.
const GAIN: f64 = 0.25;
/// Numbers fit the time that has passed when they differ from what the pace says by no more than this share.
const FITS: f64 = 0.125;

/// So many times as many packets as the pace says, and so many more, may have been made in a pause.
const MORE: f64 = 2.0;
const MORE_PACKETS: f64 = 1024.0;

/// A rate that falls lengthens the latency that numbers hold by this share of the time that passes: what is played never pauses for it.
const LENGTHEN: f64 = 0.005;
/// Of more numbers than this for each packet held somebody lies: they shorten nothing.
const NUMBERS_OF_ONE: usize = 16;

/// So many packets in a row, and none that is newer, are not late by a round of all numbers: the sender's clock stepped back.
const ROUND_LATE_MAX: u32 = 64;

/// Numbers per media time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The newest packet when it was last taken: number, media time.
    mark: Option<(u64, i64)>,
    /// Packets per microsecond; 0 until it is known.
    rate: f64,
    /// The longest latency whose packets numbers tell apart.
    pub(super) holds: Duration,
    /// Packets that were taken for late by a round of all numbers, since one that was newer than all.
    round_late: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { mark: None, rate: 0.0, holds: LATENCY_MAX, round_late: 0 }
    }
}

impl Pace {
    /// Takes the newest packet.
    pub(super) fn push(&mut self, number: u64, media: i64) {
        let (first, since) = *self.mark.get_or_insert((number, media));
        let span = media - since;
        if span < SPAN_MICROS {
            return;
        }
        let rate = number.saturating_sub(first) as f64 / span as f64;
        self.rate = if self.rate > 0.0 { self.rate + (rate - self.rate) * GAIN } else { rate };
        self.mark = Some((number, media));
        self.holds = (self.holds + Duration::from_micros(span.unsigned_abs()).mul_f64(LENGTHEN)).min(LATENCY_MAX);
    }

    /// Numbers begin anew, and perhaps times.
    pub(super) fn restart(&mut self) {
        (self.mark, self.holds) = (None, LATENCY_MAX);
    }

    /// Counts a packet that is newer than all, or late by a round of all numbers.
    pub(super) fn count(&mut self, newer: bool, round_late: bool) {
        self.round_late = if newer { 0 } else { self.round_late.saturating_add(u32::from(round_late)) };
    }

    /// Whether so many numbers pass in so much media time, in microseconds.
    fn fits(self, numbers: u64, micros: i64) -> bool {
        let expected = self.rate * micros as f64;
        (numbers as f64 - expected).abs() <= FITS * expected
    }
}

impl Flow {
    /// True when so many numbers wait that those of the newest packets may lie beyond what is held.
    pub(super) fn is_crowded(&self) -> bool {
        let (all, held) = (self.cells.len(), self.cells.len() - self.missing);
        all > HISTORY_PACKETS_MAX / 2 && NUMBERS_OF_ONE * held > all
    }

    /// A packet of this time, newer than all, is so far ahead: the latency becomes what there are numbers for.
    pub(super) fn shorten(&mut self, ahead: usize, media: i64) {
        let held = |(index, cell): (usize, &Cell)| match cell {
            Cell::Held { media, .. } => Some((index, *media)),
            Cell::Missing { .. } => None,
        };
        let Some((first, since)) = self.cells.iter().enumerate().find_map(held) else { return };
        let span = Duration::from_micros(u64::try_from(media - since).unwrap_or(0));
        let holds = span.mul_f64(LATENCY_PACKETS_MAX as f64 / (ahead - first) as f64);
        self.pace.holds = self.pace.holds.min(holds.max(LATENCY_MIN));
    }

    /// Takes up again a flow that its sender had closed, with this packet. Where its number does not follow those of before, the sender
    /// was started anew.
    pub(super) fn reopen(&mut self, now: Timestamp, sequence: u16, rtp_time: u32) {
        let newer = self.playout.media(rtp_time).filter(|media| *media > self.newest_media);
        let (Some(media), Some(highest)) = (newer, self.highest()) else { return };
        let number = self.number_of(sequence, media);
        let most = MORE * self.pace.rate * media.saturating_sub(self.newest_media) as f64 + MORE_PACKETS;
        let follows = number > highest && (self.pace.rate <= 0.0 || (number - highest) as f64 <= most);
        if !follows {
            self.number_anew(now, sequence);
        }
    }

    /// The full number of a packet of this time: the one nearest to the highest. Where the flow is so fast that this may be on the
    /// wrong side, the time tells. Far ahead of the highest, and yet older, is none. One that is behind, and yet newer, is ahead by a
    /// round of all numbers if as many pass in the time between; and one that is ahead, and yet older, is late by one.
    pub(super) fn number_of(&self, sequence: u16, media: i64) -> u64 {
        let nearest = self.peek(SequenceNumber(sequence));
        let Some(highest) = self.highest() else { return nearest };
        let ahead = nearest.saturating_sub(highest);
        let round_late = || {
            self.pace.round_late < ROUND_LATE_MAX
                && self.pace.fits((1 << 16) - ahead, self.newest_media.saturating_sub(media))
        };
        if media < self.newest_media && (ahead > DONE_WINDOW || (ahead > 0 && round_late())) {
            return nearest - (1 << 16);
        }
        let round = nearest + (1 << 16);
        let newer = nearest <= highest && media > self.newest_media;
        if newer && self.pace.fits(round - highest, media.saturating_sub(self.newest_media)) { round } else { nearest }
    }
}
