//! When a packet sent now is expected at the far end, and how much may be on its way.

use units::Timestamp;

use super::path_check::Room;
use super::{EMPTY_PACKETS, Link, PACKET_BYTES, REPORT_INTERVAL_MICROS};

/// Packets that may always be on their way.
const WINDOW_PACKETS_MIN: u64 = 4;
/// To show its path a link is lowered by so many times the queue that is allowed for.
const DRAIN_QUEUES: f64 = 1.5;
/// A link that has been overdue for so long carries nothing just now.
const STALL_MICROS: f64 = 100_000.0;

impl Link {
    /// Path delay of this link on a scale common to all links: the far clock when it is known, else half a round trip.
    pub(crate) fn path_delay(&self) -> f64 {
        match self.delay.base() {
            Some(base) if self.reported && self.echoed.is_none() => base as f64,
            _ => self.round_trip_low() / 2.0 + self.clock_offset,
        }
    }

    /// The share of its rate that the link carries just now: the less, the longer it has been stalling.
    pub(crate) fn moving(&self, now: Timestamp) -> f64 {
        (1.0 - self.overdue(now) / STALL_MICROS).max(0.0)
    }

    /// Microseconds that `bytes` more bytes would wait in front of the bottleneck.
    pub(crate) fn queue_with(&self, bytes: u64) -> f64 {
        let pipe = self.round_trip_usual() + self.report_interval() / 2.0;
        ((self.sent.in_flight_bytes() + bytes) as f64 * 1e6 / self.rate() - pipe).max(0.0)
    }

    /// Microseconds until what was sent has drained at the believed capacity. A burst after a pause queues, however little is on
    /// its way.
    pub(crate) fn burst_queue(&self, now: Timestamp) -> f64 {
        (self.drained_at - now.as_micros() as f64).max(0.0)
    }

    /// When a packet sent now is expected behind everything that was sent, on the scale of [`Link::arrival`].
    pub(crate) fn arrival_behind(&self, now: Timestamp) -> f64 {
        now.as_micros() as f64 + self.path_delay() + self.burst_queue(now).max(self.queue_with(0))
    }

    /// How much longer than usual the far end has confirmed nothing, in microseconds.
    pub(crate) fn overdue(&self, now: Timestamp) -> f64 {
        let Some(oldest) = self.sent.oldest_waiting() else { return 0.0 };
        if let Some(echoed) = &self.echoed {
            let late = echoed.late(now, self.round_trip_low(), self.capacity.estimate()).unwrap_or(0.0);
            return (late - 1.5 * self.report_interval() - 4.0 * self.delay.jitter()).max(0.0);
        }
        // The oldest is next in line: whatever stood before it has arrived, so no queue has to be waited for.
        let after_sending = (now - oldest).as_micros() as f64 - self.round_trip_low();
        let after_progress = (now - self.progress_at).as_micros() as f64 - PACKET_BYTES as f64 * 1e6 / self.rate();
        let report = REPORT_INTERVAL_MICROS * 1.5 + 4.0 * self.delay.jitter();
        (after_sending.min(after_progress) - report).max(0.0)
    }

    /// When a packet of `bytes` bytes sent now is expected at the far end, on the scale of [`Link::path_delay`] added to
    /// our clock.
    pub(crate) fn arrival(&self, now: Timestamp, bytes: u64) -> f64 {
        // A link that stalls is expected to stall for as long again.
        now.as_micros() as f64 + self.path_delay() + self.queue_with(bytes) + self.overdue(now)
    }

    /// When what is confirmed now had arrived at the earliest, on the scale of [`Link::arrival`].
    pub(crate) fn confirmed_at(&self, now: Timestamp) -> f64 {
        now.as_micros() as f64 + self.path_delay() - self.round_trip_low() - REPORT_INTERVAL_MICROS
    }

    /// Bytes that may be on their way while a queue of `queue_micros` is wanted in front of the bottleneck, which carries `rate`
    /// bytes per second.
    pub(crate) fn window(&self, queue_micros: f64, rate: f64) -> u64 {
        match self.path_check.room() {
            Room::Full => {}
            Room::Less => return self.drained(queue_micros),
            Room::None => return 0,
        }
        let queue = queue_micros.min(self.queue_limit.get());
        let bytes = rate * (self.round_trip_usual() + self.report_wait() + queue) / 1e6;
        bytes as u64 + WINDOW_PACKETS_MIN * PACKET_BYTES
    }

    /// What arrived is on its way for so long more, until it is told of: in the mean, towards a plain peer at most; in microseconds.
    fn report_wait(&self) -> f64 {
        if self.echoed.is_some() { self.echo_interval() } else { REPORT_INTERVAL_MICROS / 2.0 }
    }

    /// So few bytes on the way that a queue of `queue_micros` is gone, even if the path is believed to be that much longer
    /// than it is; at least half of what fills the path.
    pub(super) fn drained(&self, queue_micros: f64) -> u64 {
        let pipe = self.round_trip_low() + if self.echoed.is_some() { self.echo_interval() } else { 0.0 };
        let micros = (pipe - DRAIN_QUEUES * queue_micros).max(pipe / 2.0);
        (self.rate() * micros / 1e6) as u64 + EMPTY_PACKETS * PACKET_BYTES
    }
}
