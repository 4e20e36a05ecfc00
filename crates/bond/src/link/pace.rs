//! Pacing: when the next datagram may leave, so that bursts fill no queue.

use std::time::Duration;
use units::{Ecn, Timestamp};

use super::queue_limit::QUEUE_MICROS_MAX;
use super::{Link, QUEUE_NONE};

/// Datagrams that may leave back to back.
const BURST_PACKETS: f64 = 4.0;
/// The same on a path whose nodes mark short queues.
const BURST_PACKETS_MARKED: f64 = 2.0;
/// Pacing above the estimate, so that a window can fill and growth is found.
const PACING_GAIN: f64 = 4.0;
/// The same in front of a queue that has shown to be short.
const PACING_GAIN_SHALLOW: f64 = 1.25;
const QUEUE_SHALLOW: f64 = 100_000.0;
/// The same while a queue that is shorter still overflows: it is not empty, and more than this share is lost.
const PACING_GAIN_OVERFLOW: f64 = 1.05;
const QUEUE_SHORT: f64 = 50_000.0;
const OVERFLOW_LOSS: f64 = 0.04;

impl Link {
    /// When pacing lets the next datagram leave.
    pub(crate) fn next_send(&self) -> Timestamp {
        self.next_send
    }

    /// Notes a datagram for pacing, windows and counters; `order` counts over all links.
    pub(crate) fn on_sent(
        &mut self,
        now: Timestamp,
        order: u64,
        sequence: Option<u32>,
        bytes: usize,
        packet: Option<u64>,
        ecn: Ecn,
    ) {
        let sequence = self.echoed.as_mut().map(|echoed| echoed.next_number(bytes)).or(sequence);
        if let Some(sequence) = sequence.filter(|_| self.reported) {
            if self.sent.in_flight_bytes() == 0 {
                self.progress_at = now;
            }
            // A queue of a few packets is full of a burst before the link is.
            let burst = self.burst_queue(now);
            self.sent.push(now, order, sequence, bytes, packet, self.queue_with(0).max(burst));
            if burst <= 0.0 {
                self.sent.mark_alone();
            }
            if ecn.is_capable() {
                self.sent.mark_capable();
                self.ecn.on_sent();
            }
        }
        self.step_watch.on_sent(now, bytes, self.rate());
        self.sent_bytes.push(order, bytes);
        let at = now.as_micros() as f64;
        self.drained_at = (self.drained_at.max(at) + bytes as f64 * 1e6 / self.rate()).min(at + QUEUE_MICROS_MAX);
        self.counters.bytes_sent += bytes as u64;
        self.send_meter.add(now, bytes as u64);
        self.budget_used += bytes as u64 + u64::from(self.options.header_bytes);
        if packet.is_some() {
            self.counters.packets_sent += 1;
            self.media_at = now;
            self.pace(now, bytes);
        }
    }

    pub(crate) fn pace(&mut self, now: Timestamp, bytes: usize) {
        let marked = self.ecn.pacing(now);
        let most = self.options.rate_max.map_or(f64::INFINITY, |max| max.as_bps() as f64 / 8.0);
        let rate = if let Some(share) = marked {
            self.rate() * share
        } else if self.reported {
            // The gain is for what is believed; a limit that was set is kept.
            (self.rate() * self.pacing_gain()).min(most)
        } else if most < f64::INFINITY {
            most
        } else {
            return;
        };
        let gap = Duration::from_nanos((bytes as f64 * 1e9 / rate.max(1.0)) as u64);
        let burst = if marked.is_some() { BURST_PACKETS_MARKED } else { BURST_PACKETS };
        let burst = Duration::from_nanos((burst * bytes as f64 * 1e9 / rate.max(1.0)) as u64);
        self.next_send = self.next_send.max(now.back(burst)) + gap;
    }

    fn pacing_gain(&self) -> f64 {
        let full = self.delay.queue() > QUEUE_NONE.min(self.queue_limit.get() / 2.0);
        if self.queue_limit.get() < QUEUE_SHORT && self.loss > OVERFLOW_LOSS && full {
            PACING_GAIN_OVERFLOW
        } else if self.queue_limit.get() < QUEUE_SHALLOW {
            PACING_GAIN_SHALLOW
        } else {
            PACING_GAIN
        }
    }
}
