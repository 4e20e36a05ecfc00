//! How many numbers pass in a flow's media time. Sixteen bits alone do not tell how many packets a long outage of a fast flow took.

use rist::sequence::SequenceNumber;
use std::time::Duration;
use units::Timestamp;

use super::flow::{DONE_WINDOW, Flow};
use crate::config::{LATENCY_MAX, LATENCY_MIN, LATENCY_PACKETS_MAX};

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
/// More numbers than this share of what the pace says were not made: somebody lies about them.
const MADE: f64 = 1.5;

/// So many packets in a row, and none that is newer, are not late by a round of all numbers: the sender's clock stepped back.
const ROUND_LATE_MAX: u32 = 64;

/// Numbers per media time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The newest packet when it was last taken: number, media time.
    mark: Option<(u64, i64)>,
    /// Packets per microsecond; 0 until it is known.
    rate: f64,
    /// The longest latency whose packets numbers tell apart, and whether it became shorter since that was told.
    pub(super) holds: Duration,
    pub(super) is_shortened: bool,
    /// Packets that were taken for late by a round of all numbers, since one that was newer than all.
    round_late: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { mark: None, rate: 0.0, holds: LATENCY_MAX, is_shortened: false, round_late: 0 }
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

    /// Numbers begin anew, and perhaps times. What is held goes on with its latency.
    pub(super) fn restart(&mut self, holds_nothing: bool) {
        self.mark = None;
        if holds_nothing {
            self.holds = LATENCY_MAX;
        }
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
    /// Whether a packet may be one of the flow's by how many numbers lie between it and the newest, and how much time.
    fn may_follow(&self, number: u64, media: i64) -> bool {
        let since = media.saturating_sub(self.newest_media).max(0);
        let most = MORE * self.pace.rate * since as f64 + MORE_PACKETS;
        self.highest().is_some_and(|highest| number > highest && (number - highest) as f64 <= most)
    }

    /// True when a packet that is as new as any can not be held, or hardly, because more are made within the latency than numbers hold.
    pub(super) fn is_beyond(&self, number: u64, media: i64) -> bool {
        let waiting = number.saturating_sub(self.next) + self.before_packets() as u64;
        if waiting < LATENCY_PACKETS_MAX as u64 || media < self.newest_media || !self.may_follow(number, media) {
            return false;
        }
        let made = |span: Duration| self.pace.rate * span.as_micros() as f64;
        self.span_to(number, media).is_some_and(|(numbers, span)| numbers as f64 <= MADE * made(span))
    }

    /// The latency becomes what there are numbers for, from the oldest packet held to this one, which is beyond them.
    pub(super) fn shorten(&mut self, number: u64, media: i64) {
        let Some((numbers, span)) = self.span_to(number, media) else { return };
        let holds = span.mul_f64(LATENCY_PACKETS_MAX as f64 / numbers.max(1) as f64).max(LATENCY_MIN);
        if holds < self.pace.holds {
            (self.pace.holds, self.pace.is_shortened) = (holds, true);
        }
    }

    /// Numbers and time from the oldest packet held to this one.
    fn span_to(&self, number: u64, media: i64) -> Option<(u64, Duration)> {
        let (missing, since) = self.oldest_held()?;
        let numbers = number.checked_sub(self.next)? + self.before_packets() as u64;
        Some((numbers.saturating_sub(missing as u64), self.playout.due(media, Duration::ZERO).since(since)))
    }

    /// Takes up again a flow that its sender had closed, with this packet. Where its number does not follow those of before, the sender
    /// was started anew.
    pub(super) fn reopen(&mut self, now: Timestamp, sequence: u16, rtp_time: u32) {
        let newer = self.playout.media(rtp_time).filter(|media| *media > self.newest_media);
        let (Some(media), Some(highest)) = (newer, self.highest()) else { return };
        let number = self.number_of(sequence, media);
        let follows = number > highest && (self.pace.rate <= 0.0 || self.may_follow(number, media));
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
