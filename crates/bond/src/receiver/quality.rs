//! Source adaptation (TR-06-4-1): a plain RIST sender is told, period by period, how its flow arrives.
//!
//! Sent to every link of a flow at once and with one number, as the standard asks; not to a sender whose keep-alive says
//! that it does not adapt, and not to one that speaks the engine's extension, whose reports tell more and sooner. What a
//! packet's fate is, is counted when it is known: `lost` is always the sum of `recovered` and `unrecovered`.

use std::time::Duration;
use units::Timestamp;

use rist::wire::lqm::Lqm;

use super::Receiver;
use super::flow::{Flow, FlowTotals, Origin, Taken};

/// Length of a period.
const PERIOD: Duration = Duration::from_secs(1);
/// A period with packets lost for good or late is cut short, but no shorter than this.
const PERIOD_MIN: Duration = Duration::from_millis(200);

/// One flow's counts since the last message.
#[derive(Debug, Clone)]
pub(crate) struct Quality {
    began: Timestamp,
    sequence: u32,
    originals: u64,
    original_bytes: u64,
    retransmissions: u64,
    retransmission_bytes: u64,
    /// The flow's totals when the period began.
    base: FlowTotals,
}

impl Quality {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            began: now,
            sequence: 0,
            originals: 0,
            original_bytes: 0,
            retransmissions: 0,
            retransmission_bytes: 0,
            base: FlowTotals::default(),
        }
    }

    /// Counts an RTP packet of `bytes` bytes with its header. An original that came over two links counts once, every
    /// retransmission counts.
    pub(super) fn count(&mut self, origin: Origin, taken: Taken, bytes: usize) {
        match (origin, taken) {
            (Origin::First, Taken::New | Taken::Late) => {
                self.originals += 1;
                self.original_bytes += bytes as u64;
            }
            (Origin::Retransmitted, Taken::New | Taken::Late | Taken::Duplicate) => {
                self.retransmissions += 1;
                self.retransmission_bytes += bytes as u64;
            }
            _ => {}
        }
    }

    /// The message for the period that ends now, when it is time for one; a new period begins then.
    fn poll(&mut self, now: Timestamp, totals: &FlowTotals, latency: Duration) -> Option<Lqm> {
        let elapsed = now - self.began;
        let bad_news = totals.lost + totals.late.total() > self.base.lost + self.base.late.total();
        if elapsed < PERIOD && !(bad_news && elapsed >= PERIOD_MIN) {
            return None;
        }
        // At least PERIOD_MIN; whole milliseconds, so that periods have no gap between them.
        let period_ms = elapsed.as_millis() as u64;
        let word = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let since = |of: fn(&FlowTotals) -> u64| of(totals).saturating_sub(of(&self.base));
        let recovered = since(|totals| totals.recovered + totals.repaired);
        let unrecovered = since(|totals| totals.lost);
        let message = Lqm {
            sequence: self.sequence,
            period_ms: word(period_ms),
            nack_window_ms: word(latency.as_millis() as u64),
            source_received: word(self.originals),
            originals_lost: word(recovered + unrecovered),
            retransmissions_received: word(self.retransmissions),
            recovered: word(recovered),
            unrecovered: word(unrecovered),
            late: word(since(|totals| totals.late.total())),
            // Bits in a millisecond are kilobits in a second.
            source_kbps: word(self.original_bytes * 8 / period_ms),
            retransmission_kbps: word(self.retransmission_bytes * 8 / period_ms),
        };
        *self = Self {
            sequence: self.sequence.wrapping_add(1),
            base: *totals,
            ..Self::new(self.began + Duration::from_millis(period_ms))
        };
        Some(message)
    }
}

impl Receiver {
    /// Tells the senders whose period is over.
    pub(super) fn send_quality(&mut self, now: Timestamp) {
        for index in 0..self.flows.len() {
            let latency = self.flows[index].latency(self.config.latency);
            let Flow { id, quality, totals, .. } = &mut self.flows[index];
            let Some(message) = quality.poll(now, totals, latency) else { continue };
            let id = *id;
            let links: Vec<usize> =
                (0..self.peers.len()).filter(|i| self.peers[*i].serves(id) && self.peers[*i].is_live(now)).collect();
            let adapts = |i: &usize| !self.peers[*i].extension && self.peers[*i].adapts != Some(false);
            if !self.config.quality_messages || links.is_empty() || !links.iter().all(adapts) {
                continue;
            }
            self.quality_messages += 1;
            for link in links {
                self.begin_compound_with(Some(&message));
                self.send_compound(now, link, Some(id.port));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::LatePackets;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_period_counts_each_original_once_and_every_retransmission() {
        let mut quality = Quality::new(ms(5));
        for taken in [Taken::New, Taken::New, Taken::Duplicate, Taken::Late, Taken::Refused] {
            quality.count(Origin::First, taken, 1000);
            quality.count(Origin::Retransmitted, taken, 500);
        }
        let late = LatePackets { originals: 1, ..LatePackets::default() };
        let totals = FlowTotals { recovered: 3, lost: 2, late, ..FlowTotals::default() };
        assert_eq!(quality.poll(ms(204), &totals, Duration::from_millis(700)), None);
        let message = quality.poll(ms(205), &totals, Duration::from_millis(700));
        let expected = Lqm {
            sequence: 0,
            period_ms: 200,
            nack_window_ms: 700,
            source_received: 3,
            originals_lost: 5,
            retransmissions_received: 4,
            recovered: 3,
            unrecovered: 2,
            late: 1,
            source_kbps: 120,
            retransmission_kbps: 80,
        };
        assert_eq!(message, Some(expected));
    }

    #[test]
    fn periods_have_no_gaps_and_good_news_wait_a_second() {
        let mut quality = Quality::new(ms(0));
        let totals = FlowTotals { recovered: 9, ..FlowTotals::default() };
        let mut told = 0;
        for at in (10..=5_010).step_by(10) {
            // Looks do not fall on milliseconds.
            let now = Timestamp::from_micros(at * 1000 + 700);
            if let Some(message) = quality.poll(now, &totals, Duration::from_secs(1)) {
                told += u64::from(message.period_ms);
                assert!((1000..1011).contains(&message.period_ms), "{message:?}");
                assert_eq!(message.recovered, if message.sequence == 0 { 9 } else { 0 });
            }
        }
        assert_eq!(quality.began, ms(told));
        assert_eq!(quality.sequence, 5);
    }
}
