//! What the encoder may produce: up slowly while links stay empty, down at once when packets wait.
//!
//! A link's capacity is only known when it is fully used, so the advice climbs beyond what is known as long as the encoder
//! follows and no queue shows; the first queue ends the climb, waiting packets turn it around.

use std::time::Duration;
use units::{Bitrate, Timestamp};

/// The climb, as a share per second: 20 % in half a second.
const CLIMB_PER_SECOND: f64 = 0.4;
/// The climb goes on only while the encoder produces this share of the advice.
const FOLLOWED_SHARE: f64 = 0.8;
/// Under pressure so much of the measured capacity is advised, so that the queue drains.
const PRESSED_SHARE: f64 = 0.85;
/// While queues show, no more than this share of the measured capacity is advised.
const BUSY_SHARE: f64 = 0.95;
/// After a cut the climb waits for so long.
const HOLD: Duration = Duration::from_millis(500);

/// The bond at one moment; rates in payload bits per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// What all usable links are believed to deliver.
    pub capacity: f64,
    /// What the encoder produced over the last second.
    pub media: f64,
    /// The longest queue in front of a usable link, in microseconds.
    pub queue_micros: f64,
    /// How long the oldest packet has been waiting for a link, as a share of the latency.
    pub waited_share: f64,
}

/// The advice and its memory.
#[derive(Debug, Clone)]
pub(crate) struct RateAdvice {
    bits: f64,
    at: Timestamp,
    climb_from: Timestamp,
}

impl RateAdvice {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { bits: 0.0, at: now, climb_from: now }
    }

    /// Follows the bond; called every few milliseconds. `max` is the most the encoder can produce.
    pub(crate) fn update(&mut self, now: Timestamp, measured: &Measured, max: Bitrate) {
        const QUEUE_SHOWS_MICROS: f64 = 30_000.0;
        const WAIT_SHOWS_SHARE: f64 = 0.1;
        let elapsed = (now - self.at).as_secs_f64().min(0.1);
        self.at = now;
        if measured.capacity <= 0.0 {
            return;
        }
        if measured.waited_share > WAIT_SHOWS_SHARE {
            self.bits = self.bits.min(measured.capacity * PRESSED_SHARE);
            self.climb_from = now + HOLD;
        } else if measured.queue_micros > QUEUE_SHOWS_MICROS {
            self.bits = self.bits.min((measured.capacity * BUSY_SHARE).max(measured.media * PRESSED_SHARE));
        } else if now >= self.climb_from && measured.media >= self.bits * FOLLOWED_SHARE {
            self.bits += self.bits * CLIMB_PER_SECOND * elapsed;
        }
        // What links are known to carry is never below what is advised, but for pressure.
        if measured.waited_share <= 0.02 && now >= self.climb_from {
            self.bits = self.bits.max(measured.capacity * PRESSED_SHARE);
        }
        self.bits = self.bits.min(max.as_bps() as f64);
    }

    /// The advice.
    pub(crate) fn get(&self) -> Bitrate {
        Bitrate::from_bps(self.bits as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Measured = Measured { capacity: 2e6, media: 2e6, queue_micros: 0.0, waited_share: 0.0 };

    fn run(advice: &mut RateAdvice, from_ms: u64, to_ms: u64, follow: bool, measured: Measured) {
        for ms in (from_ms..to_ms).step_by(10) {
            let media = if follow { advice.bits } else { measured.media };
            advice.update(Timestamp::from_millis(ms), &Measured { media, ..measured }, Bitrate::from_kbps(50_000));
        }
    }

    #[test]
    fn the_advice_doubles_in_two_seconds_while_links_stay_empty() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        run(&mut advice, 0, 2000, true, IDLE);
        assert!((3.4e6..4.4e6).contains(&advice.bits), "{}", advice.bits);
    }

    #[test]
    fn an_encoder_that_does_not_follow_ends_the_climb() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        run(&mut advice, 0, 5000, false, Measured { media: 1e6, ..IDLE });
        assert!((1.6e6..1.8e6).contains(&advice.bits), "{}", advice.bits);
    }

    #[test]
    fn waiting_packets_cut_at_once_and_hold() {
        let mut advice = RateAdvice::new(Timestamp::ZERO);
        run(&mut advice, 0, 2000, true, IDLE);
        run(&mut advice, 2000, 2010, true, Measured { waited_share: 0.2, ..IDLE });
        assert!(advice.bits <= 1.7e6);
        run(&mut advice, 2010, 2400, true, IDLE);
        assert!(advice.bits <= 1.7e6);
    }
}
