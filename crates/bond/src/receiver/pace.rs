//! How many numbers pass in a flow's media time. Sixteen bits alone do not tell how many packets a long outage of a fast flow took.

use rist::sequence::SequenceNumber;
use units::Timestamp;

use super::flow::{DONE_WINDOW, Flow};

/// The pace is taken over so much media time, in microseconds,
const SPAN_MICROS: i64 = 1_000_000;
/// with this weight.
const GAIN: f64 = 0.25;
/// Numbers fit the time that has passed when they differ from what the pace says by no more than this share.
const FITS: f64 = 0.125;

/// So many times as many packets as the pace says, and so many more, may have been made in a pause.
const MORE: f64 = 2.0;
const MORE_PACKETS: f64 = 1024.0;

/// So many packets in a row, and none that is newer, are not late by a round of all numbers: the sender's clock stepped back.
const ROUND_LATE_MAX: u32 = 64;

/// Numbers per media time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The newest packet when it was last taken: number, media time.
    mark: Option<(u64, i64)>,
    /// Packets per microsecond; 0 until it is known.
    rate: f64,
    /// Packets that were taken for late by a round of all numbers, since one that was newer than all.
    round_late: u32,
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
    }

    /// Numbers begin anew, and perhaps times.
    pub(super) fn restart(&mut self) {
        self.mark = None;
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
    /// Whether as many numbers as lie between this packet and the newest pass in the time between.
    pub(super) fn keeps_pace(&self, number: u64, media: i64) -> bool {
        self.highest().is_some_and(|highest| {
            number > highest && self.pace.fits(number - highest, media.saturating_sub(self.newest_media))
        })
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
