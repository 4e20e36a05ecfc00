//! Which links share a bottleneck: two subscriptions in one radio cell, two interfaces behind one access.
//!
//! Queues that merely rise and fall together prove nothing: the scheduler itself fills all links at once, and keeps their queues
//! alike. What tells is whose bytes a queue is made of. Between two packets of a link the wait changes by what was sent in
//! between on that link, less the time that passed; if what was sent on *another* link explains a good part of the rest, both
//! stand in one queue. So for each ordered pair the partial correlation between the change of one link's wait and the other
//! link's bytes, given its own bytes and the time, is followed over some seconds (after the idea of RFC 8382, which compares
//! statistics of delays; ours knows what was sent).
//!
//! It refuses to judge links without queues: nothing is known then, and nothing is in common that would matter. Not found are
//! two ways whose delays to the common bottleneck differ by more than the time between reports, and most bottlenecks whose
//! capacity swings within tenths of seconds: what was sent explains too little of their queues.

use std::collections::VecDeque;
use units::Timestamp;

use super::capacity::Capacity;
use crate::config::LINKS_MAX;

/// Datagrams whose time and size are remembered per link: a second of 20 Mbit/s.
const SENT_MAX: usize = 2048;
/// Time after which what was seen counts for a third.
const MEMORY_SECONDS: f64 = 8.0;
/// Time between judgements.
const INTERVAL_MICROS: u128 = 500_000;
/// Waits of packets sent this far apart are compared, in microseconds.
const STEP_MICROS: std::ops::Range<u128> = 5_000..200_000;
/// A wait below this does not show what the queue did meanwhile.
const BUSY_MICROS: f64 = 3_000.0;
/// A queue shorter than this share of the time between two packets may have been gone meanwhile.
const BUSY_SHARE: f64 = 0.8;
/// Fewer comparisons than this judge nothing.
const SAMPLES_MIN: f64 = 30.0;
/// Correlation from which links share a bottleneck, and below which they do not any more.
const SHARED: f64 = 0.35;
const SEPARATE: f64 = 0.15;
/// Judgements in a row after which links are believed to share one, and not to any more.
const JUDGEMENTS_SHARED: u8 = 6;
const JUDGEMENTS_SEPARATE: u8 = 12;
/// What the other link's bytes add to a wait must be like what the link's own add, by this factor up or down.
const ALIKE: f64 = 2.5;

/// What was sent on one link, in the order of all that was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentBytes {
    /// `(place among the datagrams of all links, bytes sent up to and with it)`, oldest first; at most [`SENT_MAX`].
    sent: VecDeque<(u64, u64)>,
    total: u64,
    /// The newest that is not remembered any more.
    forgotten: (u64, u64),
}

impl SentBytes {
    pub(crate) fn push(&mut self, order: u64, bytes: usize) {
        self.total += bytes as u64;
        if self.sent.len() >= SENT_MAX
            && let Some(forgotten) = self.sent.pop_front()
        {
            self.forgotten = forgotten;
        }
        self.sent.push_back((order, self.total));
    }

    /// Bytes sent after the datagram `from` up to and with `to`; `None` when they are not remembered.
    fn between(&self, from: u64, to: u64) -> Option<f64> {
        if self.forgotten.0 > from {
            return None;
        }
        let until = |place: u64| {
            let count = self.sent.partition_point(|sent| sent.0 <= place);
            count.checked_sub(1).and_then(|last| self.sent.get(last)).map_or(self.forgotten.1, |sent| sent.1)
        };
        Some(until(to).saturating_sub(until(from)) as f64)
    }
}

/// What a report tells of all links of a bottleneck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// The links it tells of, one bit a slot.
    pub members: u16,
    /// In the far end's clock, microseconds.
    pub arrival: u64,
    /// Bytes that had arrived over them, wrapping.
    pub count: u32,
    /// The longest of their queues and the largest of their jitters, in microseconds.
    pub queue: f64,
    pub jitter: f64,
}

/// A packet that a report has timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    pub sent_at: Timestamp,
    /// Its place among those of all links.
    pub order: u64,
    /// Its delay, and what of it was queue; in microseconds.
    pub one_way: i64,
    pub queue: f64,
}

/// Change of the wait, the other's bytes, own bytes, time; in milliseconds and kilobytes.
type Comparison = [f64; 4];

/// Sums over comparisons, fading with time.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    weight: f64,
    sums: Comparison,
    products: [[f64; 4]; 4],
}

impl Moments {
    fn push(&mut self, x: &Comparison) {
        self.weight += 1.0;
        for i in 0..4 {
            self.sums[i] += x[i];
            for j in 0..4 {
                self.products[i][j] += x[i] * x[j];
            }
        }
    }

    fn fade(&mut self, kept: f64) {
        self.weight *= kept;
        self.sums.iter_mut().for_each(|sum| *sum *= kept);
        self.products.iter_mut().flatten().for_each(|product| *product *= kept);
    }

    /// Partial correlation between the wait and the other's bytes, and how much they add to it in comparison with own bytes.
    /// `None` when too little is known.
    fn judge(&self) -> Option<(f64, f64)> {
        if self.weight < SAMPLES_MIN {
            return None;
        }
        let covariance =
            |i: usize, j: usize| (self.products[i][j] - self.sums[i] * self.sums[j] / self.weight) / self.weight;
        // What is left of the wait and of one link's bytes once the other two have explained their part: variances, covariance.
        let left = |bytes: usize, [first, second]: [usize; 2]| {
            let (one, two, cross) = (covariance(first, first), covariance(second, second), covariance(first, second));
            let determinant = one * two - cross * cross;
            let rest = |i: usize, j: usize| {
                if determinant < 1e-9 * one * two + 1e-12 {
                    // They are one: the first explains what both do.
                    return covariance(i, j) - covariance(i, first) * covariance(first, j) / one.max(1e-12);
                }
                let by_first = (covariance(i, first) * two - covariance(i, second) * cross) / determinant;
                let by_second = (covariance(i, second) * one - covariance(i, first) * cross) / determinant;
                covariance(i, j) - by_first * covariance(first, j) - by_second * covariance(second, j)
            };
            (rest(0, 0), rest(0, bytes), rest(bytes, bytes))
        };
        let (wait, both, bytes) = left(1, [2, 3]);
        let (_, own_both, own_bytes) = left(2, [1, 3]);
        // A link whose bytes hardly vary tells nothing.
        if wait < 1e-3 || bytes < 1e-2 || own_bytes < 1e-2 {
            return None;
        }
        let share = (both / bytes) / (own_both / own_bytes).max(1e-6);
        Some((both / (wait * bytes).sqrt(), share))
    }
}

/// What is believed of a pair.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    /// The measure, while there is one.
    correlation: Option<f64>,
    shared: bool,
    /// Judgements in a row for the contrary.
    contrary: u8,
}

/// A change of belief.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub slots: (usize, usize),
    pub shared: bool,
    pub correlation: f64,
}

/// What is believed of all links; indexed by slot.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The last packet of each link that a report has timed.
    last: [Option<Timed>; LINKS_MAX],
    moments: Vec<Moments>,
    pairs: Vec<Pair>,
    /// Links of the same bottleneck as each link, itself included; one bit a slot.
    groups: [u16; LINKS_MAX],
    /// What a bottleneck carries, and of which of its links that was told, at the lowest slot of its links.
    capacities: [Option<(u16, Capacity)>; LINKS_MAX],
    judged_at: Timestamp,
}

impl Shared {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            last: [None; LINKS_MAX],
            moments: vec![Moments::default(); LINKS_MAX * LINKS_MAX],
            pairs: vec![Pair::default(); LINKS_MAX * LINKS_MAX],
            groups: std::array::from_fn(|slot| 1 << slot),
            capacities: std::array::from_fn(|_| None),
            judged_at: now,
        }
    }

    /// A packet of a link was timed; `sent` tells what each slot has sent.
    pub(crate) fn push<'a>(
        &mut self,
        slot: usize,
        timed: Timed,
        sent: impl Iterator<Item = (usize, &'a SentBytes)> + Clone,
    ) {
        let Some(last) = self.last.get_mut(slot) else { return };
        let Some(before) = last.replace(timed) else { return };
        let step = (timed.sent_at - before.sent_at).as_micros();
        if !STEP_MICROS.contains(&step)
            || timed.queue.min(before.queue) < BUSY_MICROS
            || before.queue < BUSY_SHARE * step as f64
        {
            return;
        }
        let mut of = sent.clone();
        let Some((_, own)) = of.find(|(of, _)| *of == slot) else { return };
        let Some(own) = own.between(before.order, timed.order) else { return };
        let change = (timed.one_way - before.one_way) as f64;
        for (other, bytes) in sent.filter(|(other, _)| *other != slot && *other < LINKS_MAX) {
            let Some(others) = bytes.between(before.order, timed.order) else { continue };
            self.moments[slot * LINKS_MAX + other].push(&[change / 1e3, others / 1e3, own / 1e3, step as f64 / 1e3]);
        }
    }

    /// The link is new or behind another address.
    pub(crate) fn forget(&mut self, slot: usize) {
        for other in 0..LINKS_MAX {
            for index in [slot * LINKS_MAX + other, other * LINKS_MAX + slot] {
                self.moments[index] = Moments::default();
                self.pairs[index] = Pair::default();
            }
        }
        self.last[slot] = None;
        self.regroup();
    }

    /// Judges now and then; returns what is believed otherwise than before.
    pub(crate) fn judge(&mut self, now: Timestamp) -> Vec<Found> {
        let elapsed = now - self.judged_at;
        if elapsed.as_micros() < INTERVAL_MICROS {
            return Vec::new();
        }
        self.judged_at = now;
        let mut found = Vec::new();
        for a in 0..LINKS_MAX {
            for b in a + 1..LINKS_MAX {
                let one = self.moments[a * LINKS_MAX + b].judge();
                let other = self.moments[b * LINKS_MAX + a].judge();
                let pair = &mut self.pairs[a * LINKS_MAX + b];
                pair.correlation = None;
                let (Some(one), Some(other)) = (one, other) else { continue };
                let alike = [one.1, other.1].iter().all(|share| (1.0 / ALIKE..ALIKE).contains(share));
                let correlation = one.0.min(other.0);
                pair.correlation = Some(correlation);
                let contrary = if pair.shared { correlation < SEPARATE } else { correlation > SHARED && alike };
                pair.contrary = if contrary { pair.contrary + 1 } else { 0 };
                if pair.contrary >= if pair.shared { JUDGEMENTS_SEPARATE } else { JUDGEMENTS_SHARED } {
                    (pair.shared, pair.contrary) = (!pair.shared, 0);
                    found.push(Found { slots: (a, b), shared: pair.shared, correlation });
                }
            }
        }
        let kept = (-elapsed.as_secs_f64() / MEMORY_SECONDS).exp();
        self.moments.iter_mut().for_each(|moments| moments.fade(kept));
        if !found.is_empty() {
            self.regroup();
        }
        found
    }

    fn regroup(&mut self) {
        let before = std::mem::replace(&mut self.groups, std::array::from_fn(|slot| 1 << slot));
        // Sharing is passed on: a with b and b with c makes one group.
        for _ in 0..LINKS_MAX {
            for a in 0..LINKS_MAX {
                for b in a + 1..LINKS_MAX {
                    if self.pairs[a * LINKS_MAX + b].shared {
                        let both = self.groups[a] | self.groups[b];
                        (self.groups[a], self.groups[b]) = (both, both);
                    }
                }
            }
        }
        for (capacity, (before, now)) in self.capacities.iter_mut().zip(before.iter().zip(&self.groups)) {
            if before != now {
                *capacity = None;
            }
        }
    }

    /// True while any links share a bottleneck.
    pub(crate) fn any(&self) -> bool {
        self.groups.iter().enumerate().any(|(slot, group)| *group != 1 << slot)
    }

    /// Takes what a report tells of the bottleneck whose lowest slot is `root`; its links are believed to carry `believed` in all.
    pub(crate) fn push_arrived(&mut self, root: usize, believed: f64, arrived: &Arrived) {
        let Some(known) = self.capacities.get_mut(root) else { return };
        let (members, capacity) = known.get_or_insert_with(|| (arrived.members, Capacity::new(believed)));
        if *members != arrived.members {
            // The sum is of other counts.
            *members = arrived.members;
            *capacity = Capacity::new(capacity.estimate());
        }
        capacity.push(arrived.arrival, arrived.count, arrived.queue, arrived.jitter);
    }

    /// What the bottleneck whose lowest slot is `root` carries, in bytes per second, while it is known.
    pub(crate) fn capacity(&self, root: usize) -> Option<f64> {
        self.capacities.get(root)?.as_ref().map(|(_, capacity)| capacity.estimate())
    }

    /// The links of the same bottleneck, one bit a slot, the link's own included.
    pub(crate) fn group(&self, slot: usize) -> u16 {
        self.groups.get(slot).copied().unwrap_or(1 << (slot & 15))
    }

    /// The measure of a pair, while there is one.
    pub(crate) fn correlation(&self, a: usize, b: usize) -> Option<f64> {
        self.pairs.get(a.min(b) * LINKS_MAX + a.max(b)).and_then(|pair| pair.correlation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two links in a row of steps of 20 ms: each sends some packets, its last one is timed.
    struct Made {
        shared: Shared,
        sent: [SentBytes; 2],
        /// Waits at the bottlenecks, in microseconds.
        waits: [f64; 2],
        order: u64,
        random: u64,
    }

    impl Made {
        fn new() -> Self {
            let (shared, sent) = (Shared::new(Timestamp::ZERO), Default::default());
            Self { shared, sent, waits: [40_000.0; 2], order: 0, random: 7 }
        }

        fn draw(&mut self, below: u64) -> u64 {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % below
        }

        /// Sends from second to second; both links wait at the first bottleneck when it is `one`. Each packet takes 1 ms.
        fn run(&mut self, from_s: u64, to_s: u64, one: bool) -> Vec<Found> {
            let mut found = Vec::new();
            for step in from_s * 50..to_s * 50 {
                let now = Timestamp::from_millis(step * 20);
                for (at, wait) in self.waits.iter_mut().enumerate() {
                    *wait = (*wait - if one && at == 1 { 0.0 } else { 20_000.0 }).max(0.0);
                }
                for link in 0..2 {
                    let at = if one { 0 } else { link };
                    let mean = if one { 10 } else { 20 };
                    let packets =
                        if self.waits[at] > 60_000.0 { self.draw(mean) } else { mean / 2 + self.draw(mean + 2) };
                    for _ in 0..packets {
                        self.order += 1;
                        self.sent[link].push(self.order, 1200);
                        self.waits[at] += 1_000.0;
                    }
                    let noise = self.draw(2_000) as i64;
                    let (one_way, queue) = (90_000 + self.waits[at] as i64 + noise, self.waits[at]);
                    let timed = Timed { sent_at: now, order: self.order, one_way, queue };
                    let Self { shared, sent, .. } = self;
                    shared.push(link, timed, sent.iter().enumerate());
                }
                found.extend(self.shared.judge(now));
            }
            found
        }
    }

    #[test]
    fn a_common_queue_is_found_once_and_its_end_too() {
        let mut made = Made::new();
        let found = made.run(0, 20, true);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].shared && found[0].slots == (0, 1) && found[0].correlation > 0.8, "{found:?}");
        assert_eq!((made.shared.group(0), made.shared.group(1), made.shared.group(2)), (3, 3, 4));
        assert!(made.shared.correlation(1, 0).is_some_and(|measure| measure > 0.8));
        let found = made.run(20, 60, false);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].shared && found[0].correlation < 0.15, "{found:?}");
        assert_eq!((made.shared.group(0), made.shared.any()), (1, false));
    }

    #[test]
    fn queues_of_their_own_are_not_one_and_short_ones_tell_nothing() {
        let mut made = Made::new();
        assert_eq!(made.run(0, 60, false), []);
        assert!(made.shared.correlation(0, 1).is_some_and(|measure| measure.abs() < 0.2));
        let mut idle = Made::new();
        idle.waits = [0.0; 2];
        for step in 0..500 {
            for link in 0..2 {
                idle.order += 1;
                idle.sent[link].push(idle.order, 1200);
                let timed =
                    Timed { sent_at: Timestamp::from_millis(step * 20), order: idle.order, one_way: 9, queue: 1_000.0 };
                let Made { shared, sent, .. } = &mut idle;
                shared.push(link, timed, sent.iter().enumerate());
            }
            assert_eq!(idle.shared.judge(Timestamp::from_millis(step * 20)), []);
        }
        assert_eq!(idle.shared.correlation(0, 1), None);
    }

    #[test]
    fn a_link_behind_another_address_is_a_stranger() {
        let mut made = Made::new();
        made.run(0, 20, true);
        made.shared.push_arrived(
            0,
            5e5,
            &Arrived { members: 3, arrival: 1_000, count: 0, queue: 9_000.0, jitter: 100.0 },
        );
        assert!(made.shared.any() && made.shared.capacity(0).is_some());
        made.shared.forget(1);
        assert!(!made.shared.any() && made.shared.capacity(0).is_none());
        assert_eq!(made.shared.correlation(0, 1), None);
    }

    #[test]
    fn bytes_between_two_datagrams_are_counted_while_they_are_remembered() {
        let mut sent = SentBytes::default();
        for order in [3, 5, 8] {
            sent.push(order, 100);
        }
        let between = |from, to| sent.between(from, to);
        assert_eq!(
            [between(2, 3), between(3, 8), between(0, 9), between(8, 9)],
            [Some(100.0), Some(200.0), Some(300.0), Some(0.0)]
        );
        for order in 10..3000 {
            sent.push(order, 1);
        }
        assert_eq!((sent.between(8, 2999), sent.between(2000, 2999)), (None, Some(999.0)));
    }
}
