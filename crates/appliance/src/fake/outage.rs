//! When a scripted thing is gone.

use serde::Deserialize;
use units::Timestamp;

/// An interval, seconds since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// First second of absence.
    pub from_s: f64,
    /// When it is back; never when absent.
    #[serde(default = "never")]
    pub to_s: f64,
}

fn never() -> f64 {
    f64::INFINITY
}

impl Outage {
    /// Whether any of `outages` covers `now`.
    pub fn any(outages: &[Self], now: Timestamp) -> bool {
        let now = now.as_secs_f64();
        outages.iter().any(|outage| (outage.from_s..outage.to_s).contains(&now))
    }
}
