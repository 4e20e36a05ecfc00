//! When a link's figures changed so much that the operator should know why, told as from -> to.
//!
//! Each kind is told at most once in [`CALM`], and only after a change that hysteresis separates from the one told before: a
//! link that swings around a limit does not flood the log.

use std::time::Duration;
use units::Timestamp;

/// Least time between two events of one kind on one link.
const CALM: Duration = Duration::from_secs(2);
/// Figures of a link that came up so recently are still being learned.
const LEARNING: Duration = Duration::from_secs(4);
/// Smoothing of queue and capacity.
const MEMORY: Duration = Duration::from_millis(300);
/// A queue is worth telling when it is longer than this and twice what was told, and again when it is short.
const QUEUE_LONG_MICROS: f64 = 120_000.0;
const QUEUE_SHORT_MICROS: f64 = 60_000.0;
/// A capacity is worth telling when it fell below, or grew above, these shares of what was told.
const CAPACITY_FALL: f64 = 0.6;
const CAPACITY_GROWTH: f64 = 1.8;
/// The share of packets lost, or marked, is worth telling when it passes one of these upwards, or half of it downwards.
const LEVELS: [f64; 4] = [0.01, 0.03, 0.1, 0.3];

/// Figures of a link at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    /// Queue in front of the bottleneck, in microseconds.
    pub queue: f64,
    /// Believed capacity, in bytes per second.
    pub capacity: f64,
    /// Share of packets lost.
    pub loss: f64,
    /// Share of packets marked as having met a queue.
    pub marked: f64,
}

/// What changed, from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Capacity(Figures, Figures),
    Loss(f64, f64),
    Marked(f64, f64),
}

/// What was last told of one link.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// When the link came up; `None` while it is not.
    up_since: Option<Timestamp>,
    at: Timestamp,
    smooth: Figures,
    told: Figures,
    capacity_from: Timestamp,
    loss_from: Timestamp,
    marked_from: Timestamp,
    /// Packets sent again over other links that no event has told of.
    reinjected: u64,
    reinjected_from: Timestamp,
}

impl Watch {
    pub(crate) fn new(now: Timestamp) -> Self {
        let none = Figures::default();
        Self {
            up_since: None,
            at: now,
            smooth: none,
            told: none,
            capacity_from: now,
            loss_from: now,
            marked_from: now,
            reinjected: 0,
            reinjected_from: now,
        }
    }

    /// Notes that packets of this link were sent again over others.
    pub(crate) fn add_reinjected(&mut self, packets: u64) {
        self.reinjected += packets;
    }

    /// How many were, when that is to be told.
    pub(crate) fn take_reinjected(&mut self, now: Timestamp) -> Option<u64> {
        if self.reinjected == 0 || now < self.reinjected_from {
            return None;
        }
        self.reinjected_from = now + CALM;
        Some(std::mem::take(&mut self.reinjected))
    }

    /// The link is not up: what it did before is no measure for what it does next.
    pub(crate) fn pause(&mut self) {
        self.up_since = None;
    }

    /// Follows the figures of a link that is up; called several times a second.
    pub(crate) fn update(&mut self, now: Timestamp, figures: Figures) -> Option<Change> {
        let share = 1.0 - (-(now - self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.at = now;
        self.smooth.queue += (figures.queue - self.smooth.queue) * share;
        self.smooth.capacity += (figures.capacity - self.smooth.capacity) * share;
        (self.smooth.loss, self.smooth.marked) = (figures.loss, figures.marked);
        let since = *self.up_since.get_or_insert(now);
        if now - since < LEARNING {
            self.told = Figures { loss: self.told.loss, marked: self.told.marked, ..self.smooth };
            self.smooth.capacity = figures.capacity;
            return None;
        }
        self.capacity_change(now).or_else(|| self.loss_change(now)).or_else(|| self.marked_change(now))
    }

    fn capacity_change(&mut self, now: Timestamp) -> Option<Change> {
        let (told, smooth) = (self.told, self.smooth);
        let queue = smooth.queue > QUEUE_LONG_MICROS.max(2.0 * told.queue)
            || told.queue > QUEUE_LONG_MICROS && smooth.queue < QUEUE_SHORT_MICROS;
        let capacity =
            smooth.capacity < CAPACITY_FALL * told.capacity || smooth.capacity > CAPACITY_GROWTH * told.capacity;
        if now < self.capacity_from || !(queue || capacity) {
            return None;
        }
        self.capacity_from = now + CALM;
        self.told = Figures { loss: told.loss, marked: told.marked, ..smooth };
        Some(Change::Capacity(told, smooth))
    }

    fn loss_change(&mut self, now: Timestamp) -> Option<Change> {
        let (told, loss) = (self.told.loss, self.smooth.loss);
        if now < self.loss_from || !moved(told, loss) {
            return None;
        }
        self.loss_from = now + CALM;
        self.told.loss = loss;
        Some(Change::Loss(told, loss))
    }

    fn marked_change(&mut self, now: Timestamp) -> Option<Change> {
        let (told, marked) = (self.told.marked, self.smooth.marked);
        if now < self.marked_from || !moved(told, marked) {
            return None;
        }
        self.marked_from = now + CALM;
        self.told.marked = marked;
        Some(Change::Marked(told, marked))
    }
}

/// Whether a share of packets is worth telling after what was told.
fn moved(told: f64, share: f64) -> bool {
    let level = |share: f64| LEVELS.iter().filter(|level| share >= **level).count();
    let worse = level(share) > level(told);
    worse || level(told) > 0 && share < LEVELS[level(told) - 1] / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM_LINK: Figures = Figures { queue: 5_000.0, capacity: 400_000.0, loss: 0.0, marked: 0.0 };

    /// Every 100 ms from `from` to `to` seconds.
    fn run(watch: &mut Watch, from: u64, to: u64, figures: impl Fn(u64) -> Figures) -> Vec<Change> {
        let steps = (from * 10..to * 10).map(|i| Timestamp::from_millis(i * 100));
        steps.enumerate().filter_map(|(i, at)| watch.update(at, figures(i as u64))).collect()
    }

    #[test]
    fn a_jam_is_told_once_and_its_end_once() {
        let mut watch = Watch::new(Timestamp::ZERO);
        assert_eq!(run(&mut watch, 0, 10, |_| CALM_LINK), []);
        let jam = Figures { queue: 640_000.0, capacity: 110_000.0, ..CALM_LINK };
        let told = run(&mut watch, 10, 20, |_| jam);
        assert!(told.len() <= 3, "{told:?}");
        let Change::Capacity(before, now) = told[0] else { panic!("{told:?}") };
        assert!((before.queue - 5_000.0).abs() < 1.0 && now.queue > 120_000.0, "{told:?}");
        let Change::Capacity(_, last) = told[told.len() - 1] else { panic!("{told:?}") };
        assert!(last.capacity < 240_000.0, "{told:?}");
        let told = run(&mut watch, 20, 40, |_| CALM_LINK);
        assert!((1..=2).contains(&told.len()), "{told:?}");
    }

    #[test]
    fn swinging_figures_do_not_flood() {
        let mut watch = Watch::new(Timestamp::ZERO);
        let swing = |i: u64| {
            let high = i % 20 < 10;
            Figures {
                queue: if high { 200_000.0 } else { 10_000.0 },
                capacity: if high { 100_000.0 } else { 900_000.0 },
                loss: if high { 0.2 } else { 0.0 },
                marked: if high { 0.4 } else { 0.0 },
            }
        };
        let told = run(&mut watch, 0, 60, swing);
        assert!(told.len() <= 90, "{} events in a minute", told.len());
        let small = |i: u64| Figures { capacity: if i.is_multiple_of(2) { 300_000.0 } else { 500_000.0 }, ..CALM_LINK };
        let mut watch = Watch::new(Timestamp::ZERO);
        assert_eq!(run(&mut watch, 0, 60, small), []);
    }

    #[test]
    fn packets_sent_again_are_told_as_a_sum() {
        let mut watch = Watch::new(Timestamp::ZERO);
        let mut told = Vec::new();
        for i in 0..500 {
            watch.add_reinjected(2);
            told.extend(watch.take_reinjected(Timestamp::from_millis(i * 10)));
        }
        assert_eq!(told, [2, 400, 400]);
    }

    #[test]
    fn loss_is_told_by_levels_and_when_it_is_over() {
        let mut watch = Watch::new(Timestamp::ZERO);
        run(&mut watch, 0, 5, |_| CALM_LINK);
        let lossy = |loss| move |_| Figures { loss, ..CALM_LINK };
        assert_eq!(run(&mut watch, 5, 10, lossy(0.02)), [Change::Loss(0.0, 0.02)]);
        assert_eq!(run(&mut watch, 10, 15, lossy(0.008)), []);
        assert_eq!(run(&mut watch, 15, 20, lossy(0.05)), [Change::Loss(0.02, 0.05)]);
        assert_eq!(run(&mut watch, 20, 25, lossy(0.001)), [Change::Loss(0.05, 0.001)]);
        let marked = |marked| move |_| Figures { marked, loss: 0.001, ..CALM_LINK };
        assert_eq!(run(&mut watch, 25, 30, marked(0.12)), [Change::Marked(0.0, 0.12)]);
        assert_eq!(run(&mut watch, 30, 35, marked(0.0)), [Change::Marked(0.12, 0.0)]);
    }

    #[test]
    fn a_link_that_comes_up_is_learned_before_it_is_judged() {
        let mut watch = Watch::new(Timestamp::ZERO);
        let growing = |i: u64| Figures { capacity: 100_000.0 * (1.0 + i as f64), ..CALM_LINK };
        assert_eq!(run(&mut watch, 0, 4, growing), []);
        watch.pause();
        assert_eq!(run(&mut watch, 9, 13, |_| CALM_LINK), []);
    }
}
