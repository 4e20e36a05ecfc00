//! What a link is like; deserializable, so that a scenario can be a file.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::capacity::{MILLI, Nanos, Trace};

/// The bottleneck of one direction. Rates count IP bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Capacity {
    /// No bottleneck and no queue.
    #[default]
    Unlimited,
    /// The same rate all the time.
    Constant {
        /// Thousand bits per second; 0 lets nothing pass.
        kbps: u64,
    },
    /// A rate that changes at given times.
    Steps {
        /// `(from_ms, kbps)`, ascending; the first also holds before its time.
        steps: Vec<(u64, u64)>,
    },
    /// Recorded delivery opportunities, replayed in a loop.
    Trace {
        /// The recording.
        trace: Trace,
        /// Where in the recording time 0 lies.
        #[serde(default)]
        offset_ms: u64,
        /// Multiplies the bytes of each opportunity; 1 when absent.
        #[serde(default = "one")]
        scale: f64,
    },
}

/// How long the bad periods of a Gilbert-Elliott process last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BurstPeriod {
    /// Mean in milliseconds; the same bad periods whatever is sent.
    Millis(f64),
    /// Mean in packets; the state changes per packet.
    Packets(f64),
}

/// Gilbert-Elliott loss after the bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurstLoss {
    /// Long-run share of lost packets, 0 to below `loss_bad`.
    pub loss: f64,
    /// Mean length of a bad period.
    pub period: BurstPeriod,
    /// Share lost inside a bad period; 1 when absent.
    #[serde(default = "one")]
    pub loss_bad: f64,
}

/// What happens to packets during an outage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// They are lost, with everything queued.
    #[default]
    Lose,
    /// They wait, as in a radio stall.
    Hold,
}

/// A time without service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// First millisecond without service.
    pub from_ms: u64,
    /// First millisecond with service again.
    pub to_ms: u64,
    /// What happens to packets meanwhile.
    #[serde(default)]
    pub kind: OutageKind,
}

impl Outage {
    pub(crate) fn covers(&self, at: Nanos) -> bool {
        self.from_ms * MILLI <= at && at < self.to_ms * MILLI
    }
}

/// What a path does to the ECN field of packets, beside marking in its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EcnPath {
    /// Leaves it alone.
    #[default]
    Pass,
    /// Clears it ("bleaches").
    Clear,
    /// Drops packets that say they are capable.
    Drop,
    /// Marks every packet as having met congestion, capable or not.
    MarkAll,
}

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// The bottleneck.
    pub capacity: Capacity,
    /// Drop-tail limit in front of the bottleneck, in IP bytes.
    pub queue_bytes: u64,
    /// Propagation delay.
    pub delay_ms: f64,
    /// `(from_ms, delay_ms)`, ascending: the delay changes at these times.
    pub delay_steps: Vec<(u64, f64)>,
    /// Half-normal extra delay with this scale.
    pub jitter_ms: f64,
    /// Correlation time of the jitter; 0 is independent from packet to packet.
    pub jitter_tau_ms: f64,
    /// Jitter may reorder. Without it a packet never overtakes another.
    pub jitter_reorders: bool,
    /// Share of packets held back by `reorder_ms` and overtaken by later ones.
    pub reorder: f64,
    /// Extra delay of those.
    pub reorder_ms: f64,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Independent loss after the bottleneck.
    pub loss: f64,
    /// Bursty loss after the bottleneck.
    pub burst_loss: Option<BurstLoss>,
    /// Larger packets (IP bytes) vanish.
    pub mtu: Option<u32>,
    /// `(from_ms, mtu)`, ascending: the MTU changes at these times, as on another route.
    pub mtu_steps: Vec<(u64, u32)>,
    /// Times without service, ascending.
    pub outages: Vec<Outage>,
    /// Active queue management: ECN-capable packets that spend longer than this in the queue and their service are marked as
    /// having met congestion (the step of L4S, `ce_threshold` of CoDel). `None` never marks. Others are dropped by a full
    /// queue only.
    pub mark_above_ms: Option<f64>,
    /// `(from_ms, what)`, ascending: what the path does to the ECN field from these times on; before, it leaves it alone.
    pub ecn_steps: Vec<(u64, EcnPath)>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            capacity: Capacity::Unlimited,
            queue_bytes: 256_000,
            delay_ms: 0.0,
            delay_steps: Vec::new(),
            jitter_ms: 0.0,
            jitter_tau_ms: 0.0,
            jitter_reorders: false,
            reorder: 0.0,
            reorder_ms: 0.0,
            duplicate: 0.0,
            loss: 0.0,
            burst_loss: None,
            mtu: None,
            mtu_steps: Vec::new(),
            outages: Vec::new(),
            mark_above_ms: None,
            ecn_steps: Vec::new(),
        }
    }
}

/// Both directions of a path and what they share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// Name for reports.
    pub name: String,
    /// From the sender to the receiver.
    pub up: LinkConfig,
    /// From the receiver to the sender.
    pub down: LinkConfig,
    /// Outages of both directions, besides their own.
    pub outages: Vec<Outage>,
    /// At these times the sender's public source address changes and the old one goes dead.
    pub rebind_ms: Vec<u64>,
}

const fn one() -> f64 {
    1.0
}

/// Why a configuration is refused; the caller's fault.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A share is not within 0 to 1.
    #[error("{what} must be between 0 and 1, not {got}")]
    Share {
        /// Which setting.
        what: &'static str,
        /// Its value.
        got: f64,
    },
    /// A delay or length is negative or not a number.
    #[error("{what} must be a number of at least 0, not {got}")]
    Negative {
        /// Which setting.
        what: &'static str,
        /// Its value.
        got: f64,
    },
    /// The long-run loss of a burst process is not below the loss inside a burst.
    #[error("burst loss {loss} must be below the loss inside a burst, {loss_bad}")]
    BurstLoss {
        /// Long-run.
        loss: f64,
        /// In a burst.
        loss_bad: f64,
    },
    /// Times must ascend.
    #[error("{what} must be in ascending order")]
    Order {
        /// Which list.
        what: &'static str,
    },
    /// The list of steps is empty.
    #[error("capacity steps: give at least one")]
    NoSteps,
    /// A line of a recording is no number.
    #[error("recording line {line}: expected milliseconds, found {found:?}")]
    TraceLine {
        /// Counted from 1.
        line: usize,
        /// What stands there, shortened.
        found: String,
    },
    /// A recording must ascend and end after 0.
    #[error("a recording needs at least one opportunity after 0 ms, in ascending order")]
    TraceOrder,
}

impl LinkConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let share = |what, got: f64| {
            if (0.0..=1.0).contains(&got) { Ok(()) } else { Err(ConfigError::Share { what, got }) }
        };
        let length = |what, got: f64| {
            if got.is_finite() && got >= 0.0 { Ok(()) } else { Err(ConfigError::Negative { what, got }) }
        };
        share("loss", self.loss)?;
        share("duplicate", self.duplicate)?;
        share("reorder", self.reorder)?;
        length("delay_ms", self.delay_ms)?;
        length("jitter_ms", self.jitter_ms)?;
        length("jitter_tau_ms", self.jitter_tau_ms)?;
        length("reorder_ms", self.reorder_ms)?;
        for step in &self.delay_steps {
            length("delay_steps", step.1)?;
        }
        if !self.delay_steps.is_sorted_by_key(|step| step.0) {
            return Err(ConfigError::Order { what: "delay_steps" });
        }
        if !self.mtu_steps.is_sorted_by_key(|step| step.0) {
            return Err(ConfigError::Order { what: "mtu_steps" });
        }
        length("mark_above_ms", self.mark_above_ms.unwrap_or(0.0))?;
        if !self.ecn_steps.is_sorted_by_key(|step| step.0) {
            return Err(ConfigError::Order { what: "ecn_steps" });
        }
        if self.outages.iter().any(|o| o.to_ms < o.from_ms) || !self.outages.is_sorted_by_key(|o| o.from_ms) {
            return Err(ConfigError::Order { what: "outages" });
        }
        if let Some(burst) = &self.burst_loss {
            share("burst_loss.loss_bad", burst.loss_bad)?;
            share("burst_loss.loss", burst.loss)?;
            let (BurstPeriod::Millis(mean) | BurstPeriod::Packets(mean)) = burst.period;
            length("burst_loss.period", mean)?;
            if burst.loss >= burst.loss_bad {
                return Err(ConfigError::BurstLoss { loss: burst.loss, loss_bad: burst.loss_bad });
            }
        }
        match &self.capacity {
            Capacity::Steps { steps } if steps.is_empty() => Err(ConfigError::NoSteps),
            Capacity::Steps { steps } if !steps.is_sorted_by_key(|step| step.0) => {
                Err(ConfigError::Order { what: "capacity steps" })
            }
            Capacity::Trace { scale, .. } => {
                if *scale > 0.0 && scale.is_finite() {
                    Ok(())
                } else {
                    Err(ConfigError::Negative { what: "capacity scale", got: *scale })
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_file_describes_a_path() {
        let text = r#"
            name = "att"
            rebind_ms = [15000]
            outages = [{ from_ms = 10, to_ms = 20, kind = "hold" }]
            [up]
            capacity = { trace = { trace = [1, 2, 2, 9], offset_ms = 4 } }
            queue_bytes = 300000
            delay_ms = 40
            burst_loss = { loss = 0.05, period = { millis = 60.0 } }
            mark_above_ms = 5
            ecn_steps = [[3000, "mark_all"]]
            [down]
            capacity = { constant = { kbps = 10000 } }
        "#;
        let path: PathConfig = toml::from_str(text).unwrap();
        assert_eq!(
            path.up.capacity,
            Capacity::Trace { trace: Trace::new(vec![1, 2, 2, 9]).unwrap(), offset_ms: 4, scale: 1.0 }
        );
        assert_eq!(path.outages[0].kind, OutageKind::Hold);
        assert_eq!((path.up.mark_above_ms, &path.up.ecn_steps[..]), (Some(5.0), &[(3000, EcnPath::MarkAll)][..]));
        assert_eq!(path.up.burst_loss.unwrap().loss_bad.to_bits(), 1f64.to_bits());
        assert_eq!(path.down.queue_bytes, 256_000);
        assert!(toml::from_str::<PathConfig>("[up]\nspeed = 3").is_err());
        assert!(toml::from_str::<PathConfig>("[up.capacity.trace]\ntrace = [3, 1]").is_err());
    }
}
