//! The room of the queue in front of a link's bottleneck, learned from what it drops.
//!
//! Packets lost where the queue was long were dropped by a full queue: it is to be kept shorter. Packets lost anywhere were lost
//! on the way, and nothing is to be learned; unless they are so many, and the queue that all are believed to meet is so much
//! longer than any that is seen, that it must be full all the time.

use super::QUEUE_NONE;
use super::sent::Progress;

/// What is believed of a queue's room, in microseconds.
const QUEUE_MICROS_MIN: f64 = 4_000.0;
pub(super) const QUEUE_MICROS_MAX: f64 = 2_000_000.0;
/// It is kept below the queue that lost packets met, and below the longest that was seen of one that is full all the time.
const OF_LOST: f64 = 0.7;
const OF_MET: f64 = 0.9;
/// The room is tried again, by this share per so many confirmed packets.
const GROWTH: f64 = 0.01;
const MEMORY_PACKETS: f64 = 200.0;
const MEMORY_LOST: f64 = 20.0;
/// Lost packets met a queue so many times as long as the others, and so many microseconds.
const LONGER: f64 = 2.0;
const LONGER_MICROS: f64 = 8_000.0;
/// Below this loss nothing is learned.
const OWN_LOSS_MIN: f64 = 0.005;
/// With more loss than this, lost packets are believed to have been dropped by a queue that is full all the time, if they were
/// believed to meet so many times the longest queue that was met of late (which is forgotten by this share a report).
const FLOODED_LOSS: f64 = 0.04;
const FLOODED_QUEUES: f64 = 1.6;
const MET_FORGET: f64 = 0.02;

/// What is learned of one queue, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimit {
    limit: f64,
    /// Mean queue that lost and confirmed packets met.
    of_lost: f64,
    of_confirmed: f64,
    /// The longest queue that the last packets met, by their delay.
    met: f64,
}

impl Default for QueueLimit {
    fn default() -> Self {
        Self { limit: QUEUE_MICROS_MAX, of_lost: 0.0, of_confirmed: 0.0, met: 0.0 }
    }
}

impl QueueLimit {
    /// The queue that the bottleneck holds without dropping, in microseconds.
    pub(super) fn get(&self) -> f64 {
        self.limit
    }

    /// Takes what a report told, the queue that its delay shows, in microseconds, and the link's share of lost packets.
    pub(super) fn learn(&mut self, progress: &Progress, queue: f64, loss: f64) {
        self.met = (self.met * (1.0 - MET_FORGET)).max(queue);
        if progress.confirmed > 0 {
            let share = (f64::from(progress.confirmed) / MEMORY_PACKETS).min(1.0);
            let mean = progress.queue_confirmed / f64::from(progress.confirmed);
            self.of_confirmed += (mean - self.of_confirmed) * share;
            self.limit = (self.limit * (1.0 + share * GROWTH)).min(QUEUE_MICROS_MAX);
        }
        if progress.lost == 0 {
            return;
        }
        let share = (f64::from(progress.lost) / MEMORY_LOST).min(1.0);
        let mean = progress.queue_lost / f64::from(progress.lost);
        self.of_lost += (mean - self.of_lost) * share;
        if self.of_lost > LONGER * self.of_confirmed + LONGER_MICROS && loss > OWN_LOSS_MIN {
            self.limit = self.limit.min(self.of_lost * OF_LOST).max(QUEUE_MICROS_MIN);
        }
        let full = self.of_lost > FLOODED_QUEUES * self.met + LONGER_MICROS && loss > FLOODED_LOSS;
        if full && self.met > QUEUE_NONE {
            self.limit = self.limit.min(self.met * OF_MET).max(QUEUE_MICROS_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is learned of `rounds` reports of 20 packets, one in ten lost: the queues that lost and confirmed packets met and the
    /// one that is seen, in milliseconds.
    fn learned(rounds: u32, of_lost: f64, of_confirmed: f64, seen: f64, loss: f64) -> f64 {
        let mut limit = QueueLimit::default();
        for _ in 0..rounds {
            let (queue_lost, queue_confirmed) = (2.0 * of_lost * 1e3, 18.0 * of_confirmed * 1e3);
            let progress = Progress { confirmed: 18, lost: 2, queue_lost, queue_confirmed, ..Progress::default() };
            limit.learn(&progress, seen * 1e3, loss);
        }
        limit.get() / 1e3
    }

    #[test]
    fn what_is_lost_behind_a_long_queue_was_dropped_by_it() {
        let limit = learned(100, 60.0, 10.0, 12.0, 0.1);
        assert!((5.0..45.0).contains(&limit), "{limit}");
    }

    #[test]
    fn what_is_lost_behind_any_queue_was_lost_on_the_way() {
        assert!(learned(100, 30.0, 30.0, 30.0, 0.1) > 1000.0);
        assert!(learned(100, 60.0, 10.0, 12.0, 0.001) > 1000.0, "too few to learn from");
    }

    #[test]
    fn a_queue_that_is_full_all_the_time_is_as_long_as_the_longest_seen() {
        let limit = learned(100, 90.0, 80.0, 30.0, 0.3);
        assert!((25.0..30.0).contains(&limit), "{limit}");
        let limit = learned(100, 90.0, 80.0, 30.0, 0.05);
        assert!((25.0..30.0).contains(&limit), "{limit}");
        assert!(learned(100, 90.0, 80.0, 30.0, 0.03) > 1000.0, "few are lost");
    }

    #[test]
    fn the_room_is_tried_again() {
        let mut limit = QueueLimit { limit: 20_000.0, ..QueueLimit::default() };
        let progress = Progress { confirmed: 200, ..Progress::default() };
        (0..70).for_each(|_| limit.learn(&progress, 0.0, 0.0));
        assert!((1.9..2.1).contains(&(limit.get() / 20_000.0)), "{}", limit.get());
    }
}
