//! When a packet is delivered: its RTP time, mapped to our clock, plus the latency budget.
//!
//! The mapping is the lowest difference between arrival and RTP time seen before the first delivery, so that the budget is
//! counted from the fastest path. Our own sender tells its media clock beside the media, which may have waited there. From
//! then on it follows the sender's clock (quartz differs by some ten parts per million) slowly. It jumps only where it is
//! plainly wrong: a flow that began with what a network had held up for seconds would stay as late for good, and all media of a
//! sender whose clock stood still for a while (it was paused, or its machine slept) would come too late for good. What links
//! hold up moves nothing: a queue grows and drains, and shows in the round trip.

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
/// (or for longer, when it was moved for being late,)
const MOVED: Duration = Duration::from_mins(2);
/// for so long, and as many packets, that mapping was wrong. Nothing of it may come sooner than the rest by more than the last.
const EARLY_FOR: Duration = Duration::from_secs(1);
const EARLY_PACKETS: u32 = 16;
const STEADY_MICROS: i64 = 5_000;
/// When nothing comes within the latency any more, in so many steps of this length, all of which begin and end without a longer
/// silence, that mapping is of a time before.
const LATE_STEPS: u32 = 5;
const LATE_STEP: Duration = Duration::from_secs(1);
/// The earliest packets of all steps are as late as each other but for this. A queue that grows or drains by more than a
/// hundredth of what passes is none of it; less is what the least delay of a cellular link differs by from second to second.
const LATE_STEADY_MICROS: i64 = 50_000;

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
    /// What has been coming too late without a break.
    late: Option<Late>,
    /// It did until the mapping was made anew. Should that have been a queue after all, its end is to be found soon.
    moved: bool,
}

/// Packets in a row that came later than the latency allows.
#[derive(Debug, Clone, Copy)]
struct Late {
    heard_at: Timestamp,
    /// When the present step began, and the lowest difference in it, in microseconds.
    began: Timestamp,
    low: i64,
    /// Steps before it that were as late as the first of them, and the lowest difference in that.
    steps: u32,
    first: i64,
    /// Differences from here on are too late, in microseconds.
    limit: f64,
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
            late: None,
            moved: false,
        }
    }

    /// Another timeline begins.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        *self = Self { former: self.last.map(|ticks| (now, ticks as u32)), ..Self::new() };
    }

    /// Whether what arrives now with this RTP time comes no later than `allowed` behind the fastest.
    pub(crate) fn is_in_time(&self, now: Timestamp, rtp_time: u32, allowed: Duration) -> bool {
        self.offset.is_some() && self.media(rtp_time).is_some_and(|media| now < self.due(media, allowed))
    }

    /// Takes the RTP time of a packet that arrives now, and in time if it comes no later than `allowed` behind the fastest. Without
    /// that it says nothing of whether the mapping is of a time before: its link may just be slow.
    pub(crate) fn push(&mut self, now: Timestamp, rtp_time: u32, allowed: Option<Duration>) -> Timed {
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
        if let Some(low) = allowed.and_then(|allowed| self.left_behind(now, difference, allowed)) {
            *self = Self { last: self.last, former: self.former, locked: Some(now), moved: true, ..Self::new() };
            self.low.push(now, low);
        }
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
        let doubted_for = if self.moved { MOVED } else { BEGUN };
        let early = if now - locked < doubted_for { EARLY_MICROS_BEGUN } else { EARLY_MICROS };
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

    /// The lowest difference of packets that have all been too late, and as late as each other, until this one.
    fn left_behind(&mut self, now: Timestamp, difference: i64, allowed: Duration) -> Option<i64> {
        let (offset, _) = (self.offset?, self.locked?);
        let limit = offset + allowed.as_micros() as f64;
        if (difference as f64) < limit {
            self.late = None;
            return None;
        }
        let begun = Late { heard_at: now, began: now, low: difference, steps: 0, first: difference, limit };
        let late = match &mut self.late {
            Some(late) if now - late.heard_at < LATE_STEP => late,
            late => late.insert(begun),
        };
        (late.heard_at, late.limit) = (now, limit);
        if now - late.began < LATE_STEP {
            late.low = late.low.min(difference);
            return None;
        }
        let steady = late.steps > 0 && (late.low - late.first).abs() <= LATE_STEADY_MICROS;
        let (steps, first) = if steady { (late.steps + 1, late.first) } else { (1, late.low) };
        if steps < LATE_STEPS {
            *late = Late { steps, first, ..begun };
            return None;
        }
        Some(late.low.min(first))
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
        // Its clock goes on, and media waits there or on the way.
        self.late.take_if(|late| (difference as f64) < late.limit);
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

    const LATENCY: Duration = Duration::from_secs(1);

    fn at(ms: f64) -> Timestamp {
        Timestamp::from_micros((ms * 1e3) as u64)
    }

    #[test]
    fn the_budget_counts_from_the_fastest_packet_before_the_first_delivery() {
        let mut playout = Playout::new();
        let latency = Duration::from_millis(500);
        let Timed::At(first) = playout.push(at(1100.0), u32::MAX - 89, Some(LATENCY)) else { panic!() };
        let Timed::At(second) = playout.push(at(1041.0), 0, Some(LATENCY)) else { panic!() };
        assert_eq!(second - first, 1000);
        assert_eq!(playout.due(second, latency), at(1541.0));
        playout.lock(at(1041.0));
        playout.push(at(1042.0), 450, Some(LATENCY));
        assert!(playout.due(second, latency) >= at(1540.99));
    }

    #[test]
    fn the_senders_clock_counts_where_media_waited() {
        let mut playout = Playout::new();
        playout.hear(at(1020.0), 9_000);
        // Made at the same time, it waited there for 180 ms.
        let Timed::At(media) = playout.push(at(1200.0), 9_000, Some(LATENCY)) else { panic!() };
        assert_eq!(playout.due(media, Duration::from_millis(500)), at(1520.0));
        playout.lock(at(1200.0));
        playout.hear(at(1100.0), 18_000);
        assert!(playout.due(media, Duration::ZERO) > at(1019.9), "never a jump");
        playout.hear(at(1100.0), 1 << 30);
        assert_eq!(
            playout.push(at(1201.0), 9_090, Some(LATENCY)),
            Timed::At(media + 1000),
            "another timeline is not listened to"
        );
    }

    #[test]
    fn a_mapping_that_was_plainly_wrong_is_made_anew() {
        let mut playout = Playout::new();
        let latency = Duration::from_millis(500);
        // What a network had held up for eight seconds comes first.
        playout.push(at(8_030.0), 0, Some(LATENCY));
        playout.lock(at(8_030.0));
        for i in 0..60u32 {
            let now = 8_040.0 + f64::from(i) * 20.0;
            // One of the rest is slow, and the row begins anew.
            let late = if i == 3 { 8_000.0 } else { 0.0 };
            let Timed::At(media) = playout.push(at(now), ((now - 30.0 - late) * 90.0) as u32, Some(LATENCY)) else {
                panic!()
            };
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
            let Timed::At(m) = playout.push(at(1000.0 + now), (now * 90.0 * 1.0001) as u32, Some(LATENCY)) else {
                panic!()
            };
            media = m;
            playout.lock(at(1000.0 + now));
        }
        let error = playout.due(media, Duration::ZERO).as_micros() as f64 - (1000.0 + 5999.0 * 20.0) * 1e3;
        assert!(error.abs() < 4_000.0, "{error}");
    }

    #[test]
    fn another_timeline_needs_a_row_of_packets() {
        let mut playout = Playout::new();
        playout.push(at(0.0), 0, Some(LATENCY));
        for _ in 0..STRANGERS_MAX - 1 {
            assert_eq!(playout.push(at(1.0), 1 << 30, Some(LATENCY)), Timed::Stranger);
        }
        assert_eq!(playout.push(at(1.0), 1 << 30, Some(LATENCY)), Timed::NewTimeline);
    }

    #[test]
    fn what_is_left_of_the_timeline_before_does_not_bring_it_back() {
        let mut playout = Playout::new();
        playout.push(at(1_000.0), 90_000, Some(LATENCY));
        playout.restart(at(1_100.0));
        playout.push(at(1_100.0), 1 << 30, Some(LATENCY));
        for _ in 0..2 * STRANGERS_MAX {
            assert_eq!(playout.push(at(1_200.0), 89_910, Some(LATENCY)), Timed::Former);
        }
        assert!(matches!(playout.push(at(1_200.0), (1 << 30) + 9_000, Some(LATENCY)), Timed::At(_)));
        assert_eq!(playout.push(at(1_300.0), 90_090, Some(LATENCY)), Timed::Stranger, "newer: it may be coming back");
        assert_eq!(playout.push(at(12_000.0), 89_910, Some(LATENCY)), Timed::Stranger, "long ago");
    }

    /// Packets every 20 ms, which come so many milliseconds after they were made; how long the last of each waits.
    fn waits(allowed: Duration, delays: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut playout = Playout::new();
        let (mut waits, mut arrived) = (Vec::new(), 0.0f64);
        for (i, delay) in delays.enumerate() {
            let made = i as f64 * 20.0;
            arrived = arrived.max(10_000.0 + made + delay);
            let Timed::At(media) = playout.push(at(arrived), (made * 90.0) as u32, Some(allowed)) else { panic!() };
            playout.lock(at(arrived));
            let due = playout.due(media, LATENCY).as_micros() as f64 / 1e3;
            waits.push(due - arrived);
        }
        waits
    }

    #[test]
    fn a_sender_whose_clock_stood_still_is_in_time_again_after_some_seconds() {
        let jitter = |i: usize| (i * 7 % 31) as f64;
        for lag in [1_050.0, 3_000.0, 9_000.0] {
            let waits = waits(LATENCY, (0..2_000).map(|i| jitter(i) + if i < 500 { 0.0 } else { lag }));
            assert!(waits[700..740].iter().all(|wait| *wait < 0.0), "{lag}: too soon");
            assert!(waits[800..].iter().all(|wait| (960.0..1_040.0).contains(wait)), "{lag}: {:?}", &waits[800..810]);
        }
    }

    #[test]
    fn what_links_hold_up_moves_nothing() {
        let ramp = |i: usize| (i as f64 - 500.0).max(0.0);
        // Grown by a tenth and drained as fast; held up for eight seconds; a standing queue from which one in fifty escapes; one that
        // is less than the latency.
        let grows = (0..4_000).map(|i| (ramp(i) * 2.0).min((8_000.0 - ramp(i) * 2.0).max(0.0)));
        let outage = (0..4_000).map(|i| if i < 500 { 0.0 } else { (8_000.0 - ramp(i) * 20.0).max(0.0) });
        let escapes = (0..4_000).map(|i| if i < 500 || i % 50 == 0 { 0.0 } else { 2_000.0 });
        let stands = (0..2_000).map(|i| if i < 500 { 0.0 } else { 950.0 });
        let cases: [Vec<f64>; 4] = [grows.collect(), outage.collect(), escapes.collect(), stands.collect()];
        for (case, delays) in cases.into_iter().enumerate() {
            let in_order = case != 2;
            let mut playout = Playout::new();
            let mut last = 0.0f64;
            for (i, delay) in delays.into_iter().enumerate() {
                let made = i as f64 * 20.0;
                last = if in_order { last.max(10_000.0 + made + delay) } else { 10_000.0 + made + delay };
                let Timed::At(media) = playout.push(at(last), (made * 90.0) as u32, Some(LATENCY)) else { panic!() };
                playout.lock(at(last));
                let moved = playout.due(media, Duration::ZERO).as_micros() as f64 / 1e3 - 10_000.0 - made;
                assert!(moved.abs() < 20.0, "{case}: moved by {moved} ms at {i}");
            }
        }
    }

    #[test]
    fn what_was_a_queue_after_all_is_found_out() {
        let allowed = Duration::from_millis(200);
        let waits = waits(allowed, (0..3_000).map(|i| if (500..2_000).contains(&i) { 260.0 } else { 0.0 }));
        assert!(waits[1_900] > 990.0 && waits[2_100..].iter().all(|wait| (990.0..1_010.0).contains(wait)));
    }

    #[test]
    fn a_queue_that_the_round_trip_shows_and_a_clock_that_goes_on_move_nothing() {
        let late = |i: usize| if i < 500 { 0.0 } else { 2_000.0 };
        let waits = waits(LATENCY + Duration::from_millis(1_900), (0..1_500).map(late));
        assert!(waits[500..].iter().all(|wait| *wait < -900.0), "as much longer is the round trip");
        let mut playout = Playout::new();
        for i in 0..1_500 {
            let (made, now) = (i as f64 * 20.0, 10_000.0 + i as f64 * 20.0);
            if i % 50 == 0 {
                playout.hear(at(now), (made * 90.0) as u32);
            }
            playout.push(at(now + late(i)), (made * 90.0) as u32, Some(LATENCY));
            playout.lock(at(now));
        }
        assert!(playout.due(0, LATENCY) < at(11_020.0), "{:?}", playout.due(0, LATENCY));
    }

    /// Goal: when all links have failed but one whose path alone takes longer than the latency, its media moves nothing.
    #[test]
    fn a_link_that_was_never_in_time_moves_nothing() {
        let mut playout = Playout::new();
        for i in 0..2_000u32 {
            let made = f64::from(i) * 20.0;
            let (delay, slow) = if i < 500 { (0.0, false) } else { (1_300.0, true) };
            let (now, rtp_time) = (at(10_000.0 + made + delay), (made * 90.0) as u32);
            assert_eq!(playout.is_in_time(now, rtp_time, LATENCY), !slow && i > 0);
            let Timed::At(media) = playout.push(now, rtp_time, (!slow).then_some(LATENCY)) else { panic!() };
            playout.lock(now);
            assert!(playout.due(media, LATENCY) < at(11_020.0 + made), "{i}");
        }
    }
}
