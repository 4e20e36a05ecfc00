//! How a link loses packets, remembered for longer than its bursts are apart.

use units::Timestamp;

/// Time after which what was seen counts for a third.
const MEMORY_MICROS: f64 = 30e6;
/// Below this share a link counts as free of loss: one stray packet in thousands asks for no protection.
const LOSS_FREE: f64 = 3e-4;
/// The share is not known before so many packets.
const PACKETS_MIN: f64 = 200.0;
/// A burst may last so many times its mean: nine of ten that are as random as radio do not.
const BURST_DOUBT: f64 = 2.3;

/// What became of packets of one link, as one report tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Losses {
    /// Packets that arrived.
    pub arrived: u32,
    /// Packets that did not.
    pub lost: u32,
    /// Losses without an arrival between them count as one run.
    pub runs: u32,
    /// Time from the first to the last packet of runs, summed up, in microseconds.
    pub span_micros: f64,
}

/// The losses of one link.
#[derive(Debug, Clone)]
pub(crate) struct LossModel {
    at: Timestamp,
    packets: f64,
    lost: f64,
    runs: f64,
    span_micros: f64,
}

impl LossModel {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { at: now, packets: 0.0, lost: 0.0, runs: 0.0, span_micros: 0.0 }
    }

    /// Takes what a report tells.
    pub(crate) fn push(&mut self, now: Timestamp, losses: &Losses) {
        let kept = (-((now - self.at).as_micros() as f64) / MEMORY_MICROS).exp();
        self.at = now;
        self.packets = self.packets * kept + f64::from(losses.arrived + losses.lost);
        self.lost = self.lost * kept + f64::from(losses.lost);
        self.runs = self.runs * kept + f64::from(losses.runs);
        self.span_micros = self.span_micros * kept + losses.span_micros;
    }

    /// Share of packets lost in the long run; 0 when the link counts as free of loss.
    pub(crate) fn share(&self) -> f64 {
        let share = self.lost / self.packets.max(PACKETS_MIN);
        if share < LOSS_FREE { 0.0 } else { share.min(1.0) }
    }

    /// How long a burst of losses may last, in microseconds; 0 when losses come singly.
    pub(crate) fn burst_micros(&self) -> f64 {
        if self.lost < 1.5 * self.runs || self.runs <= 0.0 {
            return 0.0;
        }
        // From the first to the last lost packet; the burst reaches half a gap further at both ends.
        let length = self.lost / self.runs;
        self.span_micros / self.runs * length / (length - 1.0) * BURST_DOUBT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(model: &mut LossModel, from_s: u64, seconds: u64, each: Losses) {
        for ms in (from_s * 1000..(from_s + seconds) * 1000).step_by(20) {
            model.push(Timestamp::from_millis(ms), &each);
        }
    }

    #[test]
    fn bursts_are_remembered_until_the_next() {
        let mut model = LossModel::new(Timestamp::ZERO);
        for burst in 0..12 {
            feed(&mut model, burst * 5, 5, Losses { arrived: 6, ..Losses::default() });
            let burst_of_30 = Losses { arrived: 3, lost: 30, runs: 1, span_micros: 50_000.0 };
            model.push(Timestamp::from_millis(burst * 5000 + 4990), &burst_of_30);
        }
        feed(&mut model, 60, 4, Losses { arrived: 6, ..Losses::default() });
        // 30 of 1533.
        assert!((model.share() - 0.0196).abs() < 0.003, "{}", model.share());
        assert!((model.burst_micros() - 118_966.0).abs() < 1.0, "{}", model.burst_micros());
    }

    #[test]
    fn single_losses_are_no_burst_and_a_stray_one_is_nothing() {
        let mut model = LossModel::new(Timestamp::ZERO);
        model.push(Timestamp::ZERO, &Losses { arrived: 40, lost: 1, runs: 1, span_micros: 0.0 });
        assert!(model.share() > 0.0, "a loss counts before much is known");
        feed(&mut model, 0, 20, Losses { arrived: 6, ..Losses::default() });
        assert_eq!(model.share().to_bits(), 0f64.to_bits());
        feed(&mut model, 20, 20, Losses { arrived: 19, lost: 1, runs: 1, span_micros: 0.0 });
        assert!((model.share() - 0.046).abs() < 0.005, "{}", model.share());
        assert_eq!(model.burst_micros().to_bits(), 0f64.to_bits());
    }
}
