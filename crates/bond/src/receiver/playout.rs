//! When a packet is delivered: its RTP time, mapped to our clock, plus the latency budget.
//!
//! The mapping is the lowest difference between arrival and RTP time seen before the first delivery, so that the budget is
//! counted from the fastest path. Our own sender tells its media clock beside the media, which may have waited there. From
//! then on it follows the sender's clock (quartz differs by some ten parts per million) slowly. It jumps only where it is
//! plainly wrong: a flow that began with what a network had held up for seconds would stay as late for good.

use std::time::Duration;
use units::Timestamp;

use crate::link::delay::MinFilter;

/// The fastest drift that is followed.
const DRIFT_PPM_MAX: f64 = 200.0;
/// RTP ticks per millisecond.
const TICKS_PER_MILLI: i64 = 90;
/// An RTP time this far from what is expected belongs to another timeline.
const JUMP_MICROS: i64 = 10_000_000;
/// Packets of another timeline in a row that begin it.
const STRANGERS_MAX: u32 = 16;
/// What is left of the timeline before is told from a stranger for so long.
const FORMER_KEPT: Duration = Duration::from_secs(10);
/// When everything comes so much sooner than the fastest did before the first delivery,
const EARLY_MICROS: f64 = 500_000.0;
/// (less soon after that, when whoever plays it has only begun),
const EARLY_MICROS_BEGUN: f64 = 30_000.0;
const BEGUN: Duration = Duration::from_secs(5);
/// for so long, and as many packets, that mapping was wrong. Nothing of it may come sooner than the rest by more than the last.
const EARLY_FOR: Duration = Duration::from_secs(1);
const EARLY_PACKETS: u32 = 16;
const STEADY_MICROS: i64 = 5_000;

/// The playout clock of one flow.
#[derive(Debug, Clone)]
pub(crate) struct Playout {
    /// Last RTP time, unwrapped to 64 bits.
    last: Option<i64>,
    /// Over half a minute: an outage of the fastest path must not move the playout.
    low: MinFilter<3_000_000>,
    /// Our clock minus media time, in microseconds.
    offset: Option<f64>,
    adjusted_at: Timestamp,
    /// Since the first delivery.
    locked: Option<Timestamp>,
    strangers: u32,
    /// Of the timeline before this one: when it ended, and its newest RTP time.
    former: Option<(Timestamp, u32)>,
    /// What has been coming too soon without a break.
    early: Option<Early>,
}

/// Packets in a row that came much sooner than the mapping says, and about as soon as each other at best.
#[derive(Debug, Clone, Copy)]
struct Early {
    since: Timestamp,
    packets: u32,
    /// The lowest difference among them, in microseconds.
    low: i64,
}

/// What [`Playout::push`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    /// Media time in microseconds.
    At(i64),
    /// It fits nothing seen before.
    Stranger,
    /// It is of the timeline before this one, and no newer than what came of it.
    Former,
    /// A new timeline begins with this packet: forget the old one.
    NewTimeline,
}

impl Playout {
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            low: MinFilter::new(),
            offset: None,
            adjusted_at: Timestamp::ZERO,
            locked: None,
            strangers: 0,
            former: None,
            early: None,
        }
    }

    /// Another timeline begins.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        *self = Self { former: self.last.map(|ticks| (now, ticks as u32)), ..Self::new() };
    }

    /// Takes the RTP time of a packet that arrives now.
    pub(crate) fn push(&mut self, now: Timestamp, rtp_time: u32) -> Timed {
        let ticks = self.unwrap(rtp_time);
        let media = ticks * 1000 / TICKS_PER_MILLI;
        let difference = now.as_micros() as i64 - media;
        if let Some(offset) = self.offset
            && (difference - offset as i64).abs() > JUMP_MICROS
        {
            if self.is_former(now, rtp_time) {
                return Timed::Former;
            }
            self.strangers += 1;
            return if self.strangers >= STRANGERS_MAX { Timed::NewTimeline } else { Timed::Stranger };
        }
        self.strangers = 0;
        self.last = Some(self.last.map_or(ticks, |last| last.max(ticks)));
        self.low.push(now, difference);
        let low = self.low.get().unwrap_or(difference) as f64;
        let corrected = self.corrected(now, difference);
        match &mut self.offset {
            offset if corrected.is_some() => *offset = corrected,
            Some(offset) if self.locked.is_some() => {
                let step_max = (now - self.adjusted_at).as_micros() as f64 * DRIFT_PPM_MAX / 1e6;
                *offset += (low - *offset).clamp(-step_max, step_max);
            }
            offset => *offset = Some(low),
        }
        self.adjusted_at = now;
        Timed::At(media)
    }

    /// True for what a slow link still brings of the timeline before. Sixteen of it in a row must not bring that back.
    fn is_former(&self, now: Timestamp, rtp_time: u32) -> bool {
        self.former.is_some_and(|(ended, newest)| {
            let back = i64::from(newest.wrapping_sub(rtp_time)) * 1000 / TICKS_PER_MILLI;
            back < JUMP_MICROS && now - ended < FORMER_KEPT
        })
    }

    /// The mapping in place of one that this packet, the last of a row, shows to be wrong.
    fn corrected(&mut self, now: Timestamp, difference: i64) -> Option<f64> {
        let (offset, locked) = (self.offset?, self.locked?);
        let early = if now - locked < BEGUN { EARLY_MICROS_BEGUN } else { EARLY_MICROS };
        if difference as f64 >= offset - early {
            self.early = None;
            return None;
        }
        let begun = Early { since: now, packets: 0, low: difference };
        // What was held up drains, each packet sooner than the one before: its end counts.
        let drains = |early: &Early| difference < early.low - STEADY_MICROS;
        let early = match &mut self.early {
            Some(early) if !drains(early) => early,
            early => early.insert(begun),
        };
        early.packets += 1;
        early.low = early.low.min(difference);
        if early.packets < EARLY_PACKETS || now - early.since < EARLY_FOR {
            return None;
        }
        self.early.take().map(|early| early.low as f64)
    }

    /// Takes the RTP time of media that was handed to the sender when it sent this.
    pub(crate) fn hear(&mut self, at: Timestamp, rtp_time: u32) {
        let ticks = self.unwrap(rtp_time);
        let difference = at.as_micros() as i64 - ticks * 1000 / TICKS_PER_MILLI;
        if self.offset.is_some_and(|offset| (difference - offset as i64).abs() > JUMP_MICROS) {
            return;
        }
        self.last.get_or_insert(ticks);
        self.low.push(at, difference);
        if self.locked.is_none() {
            self.offset = self.low.get().map(|low| low as f64);
        }
    }

    fn unwrap(&self, rtp_time: u32) -> i64 {
        self.last.map_or(i64::from(rtp_time), |last| last + i64::from(rtp_time.wrapping_sub(last as u32) as i32))
    }

    /// The media time of an RTP time near those seen; `None` before the first and for another timeline.
    pub(crate) fn media(&self, rtp_time: u32) -> Option<i64> {
        let last = self.last?;
        let step = i64::from(rtp_time.wrapping_sub(last as u32) as i32);
        (step.abs() * 1000 / TICKS_PER_MILLI < JUMP_MICROS).then(|| (last + step) * 1000 / TICKS_PER_MILLI)
    }

    /// When the content of `media` time is delivered.
    pub(crate) fn due(&self, media: i64, latency: Duration) -> Timestamp {
        let at = media as f64 + self.offset.unwrap_or(0.0) + latency.as_micros() as f64;
        Timestamp::from_micros(at.max(0.0) as u64)
    }

    /// The mapping moves only slowly from now on.
    pub(crate) fn lock(&mut self, now: Timestamp) {
        self.locked.get_or_insert(now);
    }

    /// An RTP time and the media time it stands for.
    pub(crate) fn reference(&self) -> Option<(u32, i64)> {
        self.last.map(|ticks| (ticks as u32, ticks * 1000 / TICKS_PER_MILLI))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: f64) -> Timestamp {
        Timestamp::from_micros((ms * 1e3) as u64)
    }

    #[test]
    fn the_budget_counts_from_the_fastest_packet_before_the_first_delivery() {
        let mut playout = Playout::new();
        let latency = Duration::from_millis(500);
        let Timed::At(first) = playout.push(at(1100.0), u32::MAX - 89) else { panic!() };
        let Timed::At(second) = playout.push(at(1041.0), 0) else { panic!() };
        assert_eq!(second - first, 1000);
        assert_eq!(playout.due(second, latency), at(1541.0));
        playout.lock(at(1041.0));
        playout.push(at(1042.0), 450);
        assert!(playout.due(second, latency) >= at(1540.99));
    }

    #[test]
    fn the_senders_clock_counts_where_media_waited() {
        let mut playout = Playout::new();
        playout.hear(at(1020.0), 9_000);
        // Made at the same time, it waited there for 180 ms.
        let Timed::At(media) = playout.push(at(1200.0), 9_000) else { panic!() };
        assert_eq!(playout.due(media, Duration::from_millis(500)), at(1520.0));
        playout.lock(at(1200.0));
        playout.hear(at(1100.0), 18_000);
        assert!(playout.due(media, Duration::ZERO) > at(1019.9), "never a jump");
        playout.hear(at(1100.0), 1 << 30);
        assert_eq!(playout.push(at(1201.0), 9_090), Timed::At(media + 1000), "another timeline is not listened to");
    }

    #[test]
    fn a_mapping_that_was_plainly_wrong_is_made_anew() {
        let mut playout = Playout::new();
        let latency = Duration::from_millis(500);
        // What a network had held up for eight seconds comes first.
        playout.push(at(8_030.0), 0);
        playout.lock(at(8_030.0));
        for i in 0..60u32 {
            let now = 8_040.0 + f64::from(i) * 20.0;
            // One of the rest is slow, and the row begins anew.
            let late = if i == 3 { 8_000.0 } else { 0.0 };
            let Timed::At(media) = playout.push(at(now), ((now - 30.0 - late) * 90.0) as u32) else { panic!() };
            let waits = playout.due(media, latency) - at(now);
            let expected = if i < 54 { 8_470.0 } else { 470.0 } - late;
            let waits = waits.as_secs_f64() * 1e3;
            assert!((waits - expected).abs() < 35.0 || i == 3, "{i}: {waits} ms");
        }
    }

    #[test]
    fn a_slow_clock_is_followed() {
        // The sender's clock gains 100 ppm for two minutes: 12 ms.
        let mut playout = Playout::new();
        let mut media = 0;
        for i in 0..6000u32 {
            let now = f64::from(i) * 20.0;
            let Timed::At(m) = playout.push(at(1000.0 + now), (now * 90.0 * 1.0001) as u32) else { panic!() };
            media = m;
            playout.lock(at(1000.0 + now));
        }
        let error = playout.due(media, Duration::ZERO).as_micros() as f64 - (1000.0 + 5999.0 * 20.0) * 1e3;
        assert!(error.abs() < 4_000.0, "{error}");
    }

    #[test]
    fn another_timeline_needs_a_row_of_packets() {
        let mut playout = Playout::new();
        playout.push(at(0.0), 0);
        for _ in 0..STRANGERS_MAX - 1 {
            assert_eq!(playout.push(at(1.0), 1 << 30), Timed::Stranger);
        }
        assert_eq!(playout.push(at(1.0), 1 << 30), Timed::NewTimeline);
    }

    #[test]
    fn what_is_left_of_the_timeline_before_does_not_bring_it_back() {
        let mut playout = Playout::new();
        playout.push(at(1_000.0), 90_000);
        playout.restart(at(1_100.0));
        playout.push(at(1_100.0), 1 << 30);
        for _ in 0..2 * STRANGERS_MAX {
            assert_eq!(playout.push(at(1_200.0), 89_910), Timed::Former);
        }
        assert!(matches!(playout.push(at(1_200.0), (1 << 30) + 9_000), Timed::At(_)));
        assert_eq!(playout.push(at(1_300.0), 90_090), Timed::Stranger, "newer: it may be coming back");
        assert_eq!(playout.push(at(12_000.0), 89_910), Timed::Stranger, "long ago");
    }
}
