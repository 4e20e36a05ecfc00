//! How large a datagram the path of a link takes (datagram packetization-layer path MTU discovery, RFC 8899).
//!
//! Between our own ends the per-link numbers confirm every datagram, so a padded RTCP compound is a probe. Sizes are those
//! of UDP payloads. The search is optimistic: a link is used with full payloads while its first probe is on the way,
//! because nearly every path takes them. When that probe is lost, a *ladder* of probes of all interesting sizes leaves at
//! once, large and small in turn. When just the small ones arrive of it, that is the answer, within a round trip; anything
//! else is loss, and the ladder is climbed again.
//! Media shows a *black hole* (a path that begins to swallow large datagrams) when only small ones are confirmed.

use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// Sizes of a ladder, largest first: round MTUs, and what 7, 6, 5 ... TS packets need with their headers (32 + 188 n).
const RUNGS: [u16; 9] = [1472, 1400, 1348, 1232, 1160, 972, 784, 596, 408];
/// Assumed to fit before anything is known of a path that swallows large datagrams (RFC 8899: `BASE_PLPMTU`).
pub(crate) const BASE: u16 = 1160;
/// Ladders until what never arrived is taken for too large (RFC 8899: `MAX_PROBES`).
const ROUNDS_MAX: u8 = 3;
/// Time between two ladders.
const ROUND_PAUSE: Duration = Duration::from_millis(150);
/// A narrow path is tried again after this time (RFC 8899: `PMTU_RAISE_TIMER`).
const RAISE: Duration = Duration::from_mins(10);
/// Later datagrams that make a missing probe a lost one.
const REORDER: i32 = 3;
/// So many small datagrams of this size close each round, so that losses show at once on a link that carries little else.
const MARKERS: usize = REORDER as usize;
const MARKER: u16 = 64;
/// A probe of which nothing is heard for so long, and for four round trips, tells nothing.
const ANSWER_MAX: Duration = Duration::from_millis(600);
/// So many large media packets lost, while nothing but smaller datagrams is confirmed for `BLACK_HOLE_TIME`: a black hole.
const BLACK_HOLE_PACKETS: u32 = 8;
const BLACK_HOLE_TIME: Duration = Duration::from_millis(250);

/// One probe on its way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    size: u16,
    sequence: u32,
    arrived: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The largest size is probed alone.
    First,
    /// Ladders; so many have been climbed.
    Ladder(u8),
    /// What fits is known.
    Settled,
}

/// What is known of one path.
#[derive(Debug, Clone)]
pub(crate) struct PathMtu {
    /// The largest size wanted; bounded by the link's option and by what the system refused.
    top: u16,
    top_wanted: u16,
    fits: u16,
    /// The largest size that has arrived on this path.
    arrived: u16,
    phase: Phase,
    /// Sizes to send now, the last first; at most one of each of [`RUNGS`], and the markers.
    due: Vec<u16>,
    /// Probes on their way, in the order of sending; at most [`RUNGS`].
    out: Vec<Probe>,
    /// The numbers that a report has told of reach so far.
    told: Option<u32>,
    sent_at: Timestamp,
    next_at: Timestamp,
    /// Large media packets lost since the last that arrived.
    large_lost: u32,
    /// When the first smaller datagram was confirmed since then.
    small_since: Option<Timestamp>,
}

impl PathMtu {
    /// A path of which only the largest datagram that may be tried is known.
    pub(crate) fn new(now: Timestamp, largest: u16) -> Self {
        let top = largest.clamp(RUNGS[RUNGS.len() - 1], RUNGS[0]) & !3;
        Self {
            top,
            top_wanted: top,
            fits: top,
            arrived: 0,
            phase: Phase::First,
            due: Vec::new(),
            out: Vec::new(),
            told: None,
            sent_at: now,
            next_at: now,
            large_lost: 0,
            small_since: None,
        }
    }

    /// The path changed: forget what is known of it.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        *self = Self::new(now, self.top_wanted);
    }

    /// The largest datagram believed to arrive.
    pub(crate) fn fits(&self) -> u16 {
        self.fits
    }

    /// True once [`PathMtu::fits`] is known rather than hoped for.
    pub(crate) fn settled(&self) -> bool {
        self.phase == Phase::Settled
    }

    /// The size of a probe to send now on a link that is up and reported about.
    pub(crate) fn poll(&mut self, now: Timestamp, round_trip: Duration) -> Option<u16> {
        let only_small = self.small_since.is_some_and(|since| now - since >= BLACK_HOLE_TIME);
        if only_small && self.large_lost >= BLACK_HOLE_PACKETS {
            self.suspect_black_hole(now);
        }
        if !self.out.is_empty() && now - self.sent_at > ANSWER_MAX.max(4 * round_trip) {
            // Nothing was heard of what was sent behind the probes either: the link stalls, its size is not the cause.
            self.out.clear();
            self.next_at = now + ROUND_PAUSE;
        }
        if self.due.is_empty() && self.out.is_empty() && self.next_at <= now {
            self.begin_round(now);
        }
        self.due.pop()
    }

    fn begin_round(&mut self, now: Timestamp) {
        match self.phase {
            Phase::First => self.set_due(vec![self.top]),
            Phase::Ladder(_) => self.set_due(self.ladder()),
            Phase::Settled => {
                self.top = self.top_wanted;
                if self.fits >= self.top {
                    self.next_at = now + RAISE;
                } else {
                    self.phase = Phase::Ladder(0);
                    self.set_due(self.ladder());
                }
            }
        }
    }

    fn set_due(&mut self, sizes: Vec<u16>) {
        self.due = vec![MARKER; MARKERS];
        self.due.extend(sizes);
    }

    /// The sizes above what has arrived, and one that has: large and small in turn, so that a burst of losses does not look
    /// like a narrow path.
    fn ladder(&self) -> Vec<u16> {
        let mut sizes: VecDeque<u16> = RUNGS.into_iter().filter(|size| *size < self.top).collect();
        sizes.push_front(self.top);
        let known = sizes.iter().filter(|size| **size <= self.arrived).count();
        sizes.truncate(sizes.len() - known.saturating_sub(1));
        let mut ladder = Vec::with_capacity(sizes.len());
        while let Some(large) = sizes.pop_front() {
            ladder.push(large);
            ladder.extend(sizes.pop_back());
        }
        ladder
    }

    /// Notes that the probe of `size` bytes left with the per-link number `sequence`.
    pub(crate) fn on_sent(&mut self, now: Timestamp, size: u16, sequence: u32) {
        if size != MARKER && self.out.len() < RUNGS.len() + 1 {
            self.out.push(Probe { size, sequence, arrived: false });
        }
        self.sent_at = now;
    }

    /// Takes a report: `highest` arrived, and what is below it when `has` says so (`back` is the distance, from 1).
    pub(crate) fn on_report(&mut self, now: Timestamp, highest: u32, has: impl Fn(u32) -> bool) {
        if self.told.is_some_and(|told| (highest.wrapping_sub(told) as i32) < 0) {
            return;
        }
        if self.told != Some(highest) {
            self.small_since.get_or_insert(now);
        }
        self.told = Some(highest);
        let Some(last) = self.out.last().map(|probe| probe.sequence) else { return };
        for probe in &mut self.out {
            let back = highest.wrapping_sub(probe.sequence) as i32;
            if !probe.arrived && (back == 0 || back > 0 && has(back as u32)) {
                probe.arrived = true;
                self.arrived = self.arrived.max(probe.size);
            }
        }
        let behind = highest.wrapping_sub(last) as i32;
        if self.due.is_empty() && (self.out.iter().all(|probe| probe.arrived) || behind >= REORDER) {
            let lost = self.out.iter().filter(|probe| !probe.arrived).count();
            let clear = (2..self.out.len()).contains(&lost)
                && self.out.iter().all(|probe| probe.arrived == (probe.size <= self.arrived));
            self.out.clear();
            self.conclude(now, clear);
        }
    }

    /// A round is over; `clear` when every probe up to some size arrived, and none above.
    fn conclude(&mut self, now: Timestamp, clear: bool) {
        if self.arrived >= self.top {
            self.settle(now, self.top);
            return;
        }
        if clear {
            self.settle(now, self.arrived);
            return;
        }
        self.next_at = now;
        match self.phase {
            Phase::First => self.phase = Phase::Ladder(0),
            Phase::Ladder(round) if round + 1 < ROUNDS_MAX => {
                self.phase = Phase::Ladder(round + 1);
                self.next_at = now + ROUND_PAUSE;
                // Under the suspicion of a black hole what arrives is used at once.
                self.fits = self.fits.max(self.arrived);
            }
            // Not even the smallest arrives: the size is not the cause.
            Phase::Ladder(_) | Phase::Settled if self.arrived == 0 => self.settle(now, self.fits),
            Phase::Ladder(_) | Phase::Settled => self.settle(now, self.arrived),
        }
    }

    fn settle(&mut self, now: Timestamp, fits: u16) {
        self.phase = Phase::Settled;
        self.fits = fits;
        self.next_at = now + RAISE;
    }

    /// Media datagrams of `size` bytes arrived or were lost.
    pub(crate) fn on_media(&mut self, size: u16, arrived: bool) {
        if size <= BASE {
            return;
        }
        if arrived {
            self.arrived = self.arrived.max(size.min(self.top));
            self.fits = self.fits.max(self.arrived);
            self.large_lost = 0;
            self.small_since = None;
        } else if size <= self.fits {
            self.large_lost += 1;
        }
    }

    fn suspect_black_hole(&mut self, now: Timestamp) {
        self.large_lost = 0;
        self.small_since = None;
        self.arrived = 0;
        self.fits = self.fits.min(BASE);
        self.due.clear();
        self.out.clear();
        self.phase = Phase::Ladder(0);
        self.next_at = now;
    }

    /// The system refused a datagram of `size` bytes: the interface in front of the path takes less.
    pub(crate) fn on_too_large(&mut self, now: Timestamp, size: u16) {
        if size > self.top || size <= RUNGS[RUNGS.len() - 1] {
            return;
        }
        self.top = RUNGS.into_iter().find(|rung| *rung < size).unwrap_or(RUNGS[RUNGS.len() - 1]);
        self.arrived = self.arrived.min(self.top);
        self.fits = self.fits.min(self.top);
        self.due.retain(|due| *due <= self.top);
        self.out.retain(|probe| probe.size <= self.top);
        if self.arrived < self.top {
            self.due.clear();
            self.phase = Phase::First;
            self.next_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRIP: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// A path that swallows what is larger than `limit`, and loses a tenth of all with a seed other than 0; returns the
    /// bytes of all probes.
    fn run(mtu: &mut PathMtu, from_ms: u64, to_ms: u64, limit: u16, seed: u64) -> u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut sent: Vec<bool> = Vec::new();
        let mut bytes = 0;
        let base = from_ms as u32 * 1000;
        for at in (from_ms..to_ms).step_by(10) {
            while let Some(size) = mtu.poll(ms(at), TRIP) {
                mtu.on_sent(ms(at), size, base + sent.len() as u32);
                bytes += u64::from(size);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sent.push(size <= limit && (seed == 0 || !(random >> 33).is_multiple_of(10)));
            }
            // Small datagrams in between.
            sent.push(true);
            let highest = sent.len() - 1;
            mtu.on_report(ms(at + 5), base + highest as u32, |back| {
                highest.checked_sub(back as usize).is_some_and(|index| back <= 300 && sent[index])
            });
        }
        bytes
    }

    #[test]
    fn an_ordinary_path_is_proven_by_one_probe() {
        let mut mtu = PathMtu::new(ms(0), 1472);
        assert_eq!((mtu.fits(), mtu.settled()), (1472, false));
        assert_eq!(run(&mut mtu, 0, 500, 1472, 0), 1472 + 3 * 64);
        assert_eq!((mtu.fits(), mtu.settled()), (1472, true));
    }

    #[test]
    fn a_narrow_path_is_measured_and_tried_again_after_ten_minutes() {
        for (limit, found) in [(1400, 1400), (1399, 1348), (1300, 1232), (1200, 1160), (1000, 972), (450, 408)] {
            let mut mtu = PathMtu::new(ms(0), 1472);
            let bytes = run(&mut mtu, 0, 2000, limit, 0);
            assert_eq!((mtu.fits(), mtu.settled()), (found, true), "limit {limit}");
            assert!(bytes < 40_000, "{bytes} bytes of probes");
            assert_eq!(run(&mut mtu, 2000, 500_000, limit, 0), 0, "nothing more is sent");
            run(&mut mtu, 590_000, 630_000, 1472, 0);
            assert_eq!(mtu.fits(), 1472, "the path grew");
        }
    }

    #[test]
    fn loss_is_not_taken_for_a_narrow_path() {
        let mut smaller = 0;
        for seed in 1..400 {
            let mut mtu = PathMtu::new(ms(0), 1472);
            run(&mut mtu, 0, 3000, 1472, seed);
            assert!(mtu.settled() && mtu.fits() >= 1348, "seed {seed}: {} bytes", mtu.fits());
            smaller += usize::from(mtu.fits() < 1472);
        }
        assert!(smaller < 4, "{smaller} of 400 paths were believed to be a little narrower");
    }

    #[test]
    fn a_black_hole_is_noticed_by_its_media() {
        let mut mtu = PathMtu::new(ms(0), 1472);
        run(&mut mtu, 0, 500, 1472, 0);
        mtu.on_media(1348, true);
        for _ in 501..520 {
            mtu.on_media(1348, false);
        }
        assert_eq!(run(&mut mtu, 520, 740, 1250, 0), 0, "a burst of losses may pass");
        run(&mut mtu, 740, 2500, 1250, 0);
        assert_eq!((mtu.fits(), mtu.settled()), (1232, true));
        mtu.on_media(1348, false);
        assert_eq!(mtu.large_lost, 0, "what does not fit is no news");
    }

    #[test]
    fn a_burst_of_losses_costs_a_round_trip_at_most() {
        let mut mtu = PathMtu::new(ms(0), 1472);
        run(&mut mtu, 0, 500, 1472, 0);
        for _ in 0..50 {
            mtu.on_media(1348, false);
        }
        run(&mut mtu, 800, 1120, 1472, 0);
        assert_eq!(mtu.fits(), 1472);
    }

    #[test]
    fn the_system_s_refusal_bounds_the_search() {
        let mut mtu = PathMtu::new(ms(0), 1472);
        assert_eq!(mtu.poll(ms(0), TRIP), Some(1472));
        mtu.on_sent(ms(0), 1472, 0);
        mtu.on_too_large(ms(1), 1472);
        assert_eq!(mtu.fits(), 1400);
        assert_eq!(mtu.poll(ms(1), TRIP), Some(1400), "the next size is tried at once");
        mtu.on_sent(ms(1), 1400, 1);
        assert_eq!(std::iter::from_fn(|| mtu.poll(ms(1), TRIP)).count(), MARKERS);
        mtu.on_report(ms(2), 1, |_| true);
        assert_eq!((mtu.fits(), mtu.settled()), (1400, true));
    }

    #[test]
    fn a_stalled_link_proves_nothing() {
        let mut mtu = PathMtu::new(ms(0), 1472);
        for at in 0..600 {
            while let Some(size) = mtu.poll(ms(at * 10), TRIP) {
                mtu.on_sent(ms(at * 10), size, at as u32);
            }
        }
        assert_eq!((mtu.fits(), mtu.settled()), (1472, false));
    }

    proptest! {
        /// Whatever is reported, sizes stay within their bounds and rounds end.
        #[test]
        fn no_report_can_hurt(steps in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u8..5), 1..200)) {
            let mut mtu = PathMtu::new(ms(0), 1472);
            for (i, (number, bits, kind)) in steps.into_iter().enumerate() {
                let now = ms(i as u64 * 40);
                match kind {
                    0 => mtu.on_report(now, number % 64, |back| bits >> (back % 32) & 1 == 1),
                    1 => mtu.on_report(now, number, |back| bits >> (back % 32) & 1 == 1),
                    2 => mtu.on_media(number as u16, bits & 1 == 1),
                    3 => mtu.on_too_large(now, number as u16),
                    _ => {
                        while let Some(size) = mtu.poll(now, TRIP) {
                            mtu.on_sent(now, size, number % 64);
                        }
                    }
                }
                prop_assert!((408..=1472).contains(&mtu.fits()));
                prop_assert!(mtu.out.len() <= RUNGS.len() + 1 && mtu.due.len() <= RUNGS.len() + 1 + MARKERS);
            }
        }
    }
}
