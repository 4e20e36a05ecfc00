//! Gilbert-Elliott loss: bad periods on the clock or per packet.

use crate::capacity::{MILLI, Nanos};
use crate::config::{BurstLoss, BurstPeriod};
use crate::rng::Rng;

#[derive(Debug)]
enum Process {
    Clock { until: Nanos, good_mean: f64, bad_mean: f64 },
    Packet { to_bad: f64, to_good: f64 },
}

/// The state of one burst-loss process.
#[derive(Debug)]
pub(crate) struct Burst {
    process: Process,
    bad: bool,
    loss_bad: f64,
    periods: Rng,
    inside: Rng,
}

impl Burst {
    pub(crate) fn new(config: &BurstLoss, seed: u64) -> Self {
        let mut periods = Rng::new(seed, 11);
        let share = if config.loss_bad > 0.0 { config.loss / config.loss_bad } else { 0.0 };
        let bad = periods.chance(share);
        let process = match config.period {
            BurstPeriod::Millis(ms) => {
                let bad_mean = ms * MILLI as f64;
                let good_mean = bad_mean * (1.0 - share) / share.max(1e-12);
                let first = periods.exponential(if bad { bad_mean } else { good_mean });
                Process::Clock { until: first as Nanos, good_mean, bad_mean }
            }
            BurstPeriod::Packets(n) => {
                Process::Packet { to_bad: share / (1.0 - share) / n.max(1.0), to_good: 1.0 / n.max(1.0) }
            }
        };
        Self { process, bad, loss_bad: config.loss_bad, periods, inside: Rng::new(seed, 12) }
    }

    /// Whether the packet that leaves at `at` (not going back) is lost.
    pub(crate) fn loses(&mut self, at: Nanos) -> bool {
        match &mut self.process {
            Process::Clock { until, good_mean, bad_mean } => {
                while *until <= at {
                    self.bad = !self.bad;
                    let mean = if self.bad { *bad_mean } else { *good_mean };
                    *until = until.saturating_add(self.periods.exponential(mean) as Nanos + 1);
                }
            }
            Process::Packet { to_bad, to_good } => {
                self.bad ^= self.periods.chance(if self.bad { *to_good } else { *to_bad });
            }
        }
        self.bad && (self.loss_bad >= 1.0 || self.inside.chance(self.loss_bad))
    }
}
