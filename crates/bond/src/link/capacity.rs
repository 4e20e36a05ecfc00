//! What a link carries: bytes that arrived per time of arrival.
//!
//! The far end reports how many bytes had arrived when; the rate between two reports is free of the way back. While a
//! queue stands in front of the bottleneck that rate *is* the capacity; without one it is only a lower bound, because
//! nobody asked for more.

use std::collections::VecDeque;
use units::Timestamp;

/// Reports kept: about a second of them at the fastest cadence, twice.
const SAMPLES_MAX: usize = 128;
/// Rates are taken over at least this time.
const WINDOW_MICROS: u64 = 100_000;
/// What arrived in so long shows a fall before the estimate has followed it.
const LATELY_MICROS: u64 = 60_000;
/// When nothing arrives for so long, and for so many packets at the estimate, the link has stalled, or nothing was sent.
const GAP_MICROS: f64 = 100_000.0;
const GAP_PACKETS: f64 = 4.0;
const PACKET_BYTES: f64 = 1400.0;
/// Share of the estimate that is believed after a stall, until it is measured again.
const AFTER_STALL: f64 = 0.5;
/// More bytes than this, 512 MB, arrive on no link between two reports: they are counted otherwise.
const STEP_MAX: u32 = 1 << 29;
/// A queue delay above this (plus jitter) shows that the bottleneck is busy.
const BUSY_MICROS: f64 = 8_000.0;
/// Time constants of the estimate.
const RISE_MICROS: f64 = 80_000.0;
const FALL_MICROS: f64 = 120_000.0;

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// In the far end's clock.
    arrival: u64,
    bytes: u64,
    busy: bool,
    /// So it was by marks: who slows down for these sees less arrive.
    marked: bool,
}

/// The capacity estimate of one link, in bytes per second.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    samples: VecDeque<Sample>,
    total: u64,
    last_count: Option<u32>,
    estimate: f64,
}

impl Capacity {
    /// Starts from a guess.
    pub(crate) fn new(guess: f64) -> Self {
        Self { samples: VecDeque::new(), total: 0, last_count: None, estimate: guess }
    }

    /// Takes a report: `count` bytes (wrapping) had arrived at `arrival` (far clock, microseconds), and how long the
    /// newest of them had queued.
    pub(crate) fn push(&mut self, arrival: u64, count: u32, queue_micros: f64, jitter_micros: f64) {
        let last = self.samples.back().copied();
        if last.is_some_and(|last| arrival <= last.arrival) {
            return;
        }
        let step = self.last_count.map_or(0, |last| count.wrapping_sub(last));
        self.last_count = Some(count);
        self.total += if step > STEP_MAX { 0 } else { u64::from(step) };
        let Some(last) = last else {
            self.samples.push_back(Sample { arrival, bytes: self.total, busy: false, marked: false });
            return;
        };
        let busy = queue_micros > BUSY_MICROS + jitter_micros.min(20_000.0);
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { arrival, bytes: self.total, busy, marked: queue_micros == f64::INFINITY });
        let Some(rate) = self.rate_over(WINDOW_MICROS) else { return };
        if busy && last.busy {
            let elapsed = (arrival - last.arrival) as f64;
            let constant = if rate > self.estimate { RISE_MICROS } else { FALL_MICROS };
            self.estimate += (rate - self.estimate) * (1.0 - (-elapsed / constant).exp());
        } else {
            self.estimate = self.estimate.max(rate);
        }
    }

    /// Whether the far end has disowned what it had counted. (A report that was overtaken goes back a little only.)
    pub(crate) fn is_disowned(&self, count: u32) -> bool {
        self.last_count.is_some_and(|last| last.wrapping_sub(count) as i32 > STEP_MAX as i32)
    }

    /// Looks whether there was a gap before the report that is taken next: no rate over it is the capacity, for a link that stalls
    /// carries nothing meanwhile, whatever it does after.
    pub(crate) fn note_gap(&mut self, arrival: u64, count: u32, queue_micros: f64) {
        let Some(last) = self.samples.back() else { return };
        let gap = arrival.saturating_sub(last.arrival) as f64;
        let arrived = self.last_count.map_or(0, |last| count.wrapping_sub(last));
        if gap <= GAP_MICROS.max(GAP_PACKETS * PACKET_BYTES * 1e6 / self.estimate.max(1.0)) {
            return;
        }
        self.samples.clear();
        // What was held up shows it; a mark does not, nor does a report that got lost.
        let stalled = queue_micros.is_finite() && queue_micros > gap / 2.0;
        if stalled && f64::from(arrived) * 1e6 / gap < AFTER_STALL * self.estimate {
            self.estimate *= AFTER_STALL;
        }
    }

    /// Bytes per second.
    pub(crate) fn estimate(&self) -> f64 {
        self.estimate
    }

    /// Bytes per second that arrived of late, if a queue stood in front of the bottleneck all that time; at most the estimate.
    pub(crate) fn lately(&self) -> f64 {
        let mut busy = self.samples.iter().rev().take_while(|sample| sample.busy && !sample.marked);
        let Some(last) = busy.next() else { return self.estimate };
        let Some(start) = busy.find(|start| last.arrival - start.arrival >= LATELY_MICROS) else {
            return self.estimate;
        };
        let rate = (last.bytes - start.bytes) as f64 * 1e6 / (last.arrival - start.arrival) as f64;
        rate.min(self.estimate)
    }

    /// Replaces the estimate, after an outage or a change of path.
    pub(crate) fn restart(&mut self, estimate: f64) {
        self.estimate = estimate;
        self.samples.clear();
    }

    /// Bytes per second that arrived during at least the last `micros` of reports.
    fn rate_over(&self, micros: u64) -> Option<f64> {
        let last = self.samples.back()?;
        let start = self.samples.iter().rev().find(|s| last.arrival - s.arrival >= micros).or(self.samples.front())?;
        let elapsed = last.arrival - start.arrival;
        (elapsed >= WINDOW_MICROS / 4).then(|| (last.bytes - start.bytes) as f64 * 1e6 / elapsed as f64)
    }
}

/// Bytes per second over about the last second, for show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    /// Ten slots of 100 ms.
    slots: [u64; 11],
    slot: u64,
}

impl Meter {
    const SLOT_MICROS: u64 = 100_000;

    pub(crate) fn add(&mut self, now: Timestamp, bytes: u64) {
        let slot = now.as_micros() / Self::SLOT_MICROS;
        let behind = slot.saturating_sub(self.slot).min(11);
        for i in 0..behind {
            self.slots[((slot - i) % 11) as usize] = 0;
        }
        self.slot = self.slot.max(slot);
        self.slots[(self.slot % 11) as usize] += bytes;
    }

    /// Bits per second over the ten full slots before `now`.
    pub(crate) fn rate(&self, now: Timestamp) -> units::Bitrate {
        let slot = now.as_micros() / Self::SLOT_MICROS;
        let old = |i: u64| slot >= i && slot - i <= self.slot && self.slot - (slot - i) < 11;
        let bytes: u64 = (1..=10).filter(|i| old(*i)).map(|i| self.slots[((slot - i) % 11) as usize]).sum();
        units::Bitrate::from_bps(bytes * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `seconds` of reports every 20 ms at `rate` bytes per second.
    fn feed(capacity: &mut Capacity, from: &mut (u64, u32), millis: u64, rate: f64, queue: f64) {
        for _ in 0..millis / 20 {
            from.0 += 20_000;
            from.1 = from.1.wrapping_add((rate * 0.02) as u32);
            capacity.note_gap(from.0, from.1, queue);
            capacity.push(from.0, from.1, queue, 1_000.0);
        }
    }

    #[test]
    fn a_busy_link_shows_its_capacity_within_a_few_hundred_milliseconds() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, u32::MAX - 5_000);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        assert!((capacity.estimate() - 1e6).abs() < 3e4, "{}", capacity.estimate());
        feed(&mut capacity, &mut at, 500, 2e5, 30_000.0);
        assert!((capacity.estimate() - 2e5).abs() < 3e4, "{}", capacity.estimate());
    }

    #[test]
    fn a_fall_shows_of_late_before_the_estimate_follows() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, 0);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        feed(&mut capacity, &mut at, 60, 3e5, 30_000.0);
        assert!(capacity.estimate() > 7e5, "{}", capacity.estimate());
        assert!((capacity.lately() - 3e5).abs() < 3e4, "{}", capacity.lately());
        // Less arrives because less is sent.
        feed(&mut capacity, &mut at, 20, 1e5, 0.0);
        assert!((capacity.lately() - capacity.estimate()).abs() < 1.0);
        // A rise is the estimate's to follow.
        feed(&mut capacity, &mut at, 100, 4e6, 30_000.0);
        assert!((capacity.lately() - capacity.estimate()).abs() < 1.0);
    }

    #[test]
    fn what_stalls_is_believed_by_half_until_it_is_measured_again() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, 0);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        at.0 += 480_000;
        feed(&mut capacity, &mut at, 20, 1e6, 500_000.0);
        assert!((capacity.estimate() - 5e5).abs() < 3e4, "{}", capacity.estimate());
        feed(&mut capacity, &mut at, 300, 1e6, 200_000.0);
        assert!((capacity.estimate() - 1e6).abs() < 5e4, "{}", capacity.estimate());
    }

    #[test]
    fn a_pause_of_the_source_tells_nothing() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, 0);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        at.0 += 480_000;
        feed(&mut capacity, &mut at, 60, 1e6, 30_000.0);
        assert!(capacity.estimate() > 9.5e5, "{}", capacity.estimate());
        at.0 += 480_000;
        feed(&mut capacity, &mut at, 60, 1e6, f64::INFINITY);
        assert!(capacity.estimate() > 9.5e5, "marked: {}", capacity.estimate());
        (at.0, at.1) = (at.0 + 200_000, at.1 + 200_000);
        feed(&mut capacity, &mut at, 60, 1e6, 300_000.0);
        assert!(capacity.estimate() > 9.5e5, "reports lost: {}", capacity.estimate());
    }

    #[test]
    fn a_count_that_goes_back_is_no_rate() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, 0);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        at.1 = at.1.wrapping_sub(1 << 30);
        assert!(capacity.is_disowned(at.1) && !Capacity::new(1.0).is_disowned(at.1));
        assert!(!capacity.is_disowned(at.1.wrapping_add((1 << 30) - 100_000)), "overtaken");
        feed(&mut capacity, &mut at, 200, 1e6, 0.0);
        assert!(capacity.estimate() < 1.2e6, "{}", capacity.estimate());
    }

    #[test]
    fn an_idle_link_keeps_its_estimate() {
        let mut capacity = Capacity::new(50_000.0);
        let mut at = (1_000, 0);
        feed(&mut capacity, &mut at, 500, 1e6, 30_000.0);
        feed(&mut capacity, &mut at, 5_000, 1e5, 0.0);
        assert!(capacity.estimate() > 9e5, "{}", capacity.estimate());
    }

    #[test]
    fn the_meter_shows_the_last_second() {
        let mut meter = Meter::default();
        for i in 0..300 {
            meter.add(Timestamp::from_millis(i * 10), 125);
        }
        assert_eq!(meter.rate(Timestamp::from_millis(3_000)).as_bps(), 100_000);
        assert_eq!(meter.rate(Timestamp::from_millis(3_500)).as_bps(), 50_000);
        assert_eq!(meter.rate(Timestamp::from_millis(9_000)).as_bps(), 0);
    }
}
