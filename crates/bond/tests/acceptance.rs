//! The acceptance figures of the bond, in virtual time, as one table: target, measured, met or missed.
//!
//! The table is committed (`tests/acceptance/table.txt`); a change of the engine shows as its difference, and an unmet figure
//! stays visible as "missed". The test then fails and writes the new table beside it, as `table.txt.new`: read it, and move it
//! to `table.txt` to take it over. The encoder follows the rate advice or, where a figure says so, makes a fixed load. Links are
//! constant or made-up cellular ones, so that the table is the same everywhere.

#[path = "acceptance/outage.rs"]
mod outage;
#[path = "acceptance/rate.rs"]
mod rate;
#[path = "acceptance/repair.rs"]
mod repair;
mod simulation;

use link_sim::PathConfig;
use simulation::committed;
use simulation::follow::{self, Encoder};
use simulation::{load, scenario};
use std::time::Duration;
use units::Bitrate;

const HEAD: &str = "| # | figure | target | measured | |\n|---|---|---|---|---|\n";
/// Which side of the target is good.
#[derive(Debug, Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
struct Row {
    /// In the list of figures that the bond is accepted by.
    number: u8,
    figure: String,
    target: Target,
    unit: &'static str,
    measured: f64,
}

impl Row {
    fn new(number: u8, figure: impl Into<String>, target: Target, unit: &'static str, measured: f64) -> Self {
        Self { number, figure: figure.into(), target, unit, measured }
    }

    fn met(&self) -> bool {
        match self.target {
            Target::AtLeast(bound) => self.measured >= bound,
            Target::AtMost(bound) => self.measured <= bound,
        }
    }

    fn line(&self) -> String {
        let (sign, bound) = match self.target {
            Target::AtLeast(bound) => (">=", bound),
            Target::AtMost(bound) => ("<=", bound),
        };
        let show = |value: f64| {
            if value != 0.0 && value.abs() < 0.01 { format!("{value:.1e}") } else { format!("{value:.2}") }
        };
        let bound = if bound >= 0.01 || bound == 0.0 { bound.to_string() } else { format!("{bound:e}") };
        let verdict = if self.met() { "met" } else { "missed" };
        let unit = self.unit;
        format!(
            "| {} | {} | {sign} {bound}{unit} | {}{unit} | {verdict} |\n",
            self.number,
            self.figure,
            show(self.measured)
        )
    }
}

fn milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Four equal links of 5 Mbit/s, round trips 40 to 120 ms, one second of queue.
fn equal() -> Vec<PathConfig> {
    [20.0, 30.0, 45.0, 60.0]
        .iter()
        .enumerate()
        .map(|(i, delay)| scenario::link(&format!("l{i}"), 5000, *delay, 625))
        .collect()
}

fn limited(share: f64) -> Encoder {
    let bps = share * 4.0 * 5e6 * load::PAYLOAD_BYTES as f64 / follow::WIRE_BYTES as f64;
    Encoder { max: Bitrate::from_bps(bps as u64), ..Default::default() }
}

/// An encoder that takes no advice.
fn fixed(share: f64) -> Encoder {
    let max = limited(share).max;
    Encoder { min: max, max }
}

/// Goal: every figure, as measured; the committed table shows which are met.
#[test]
fn acceptance_table() {
    let mut rows = Vec::new();
    for part in [rate::rows, outage::rows, repair::rows] {
        part(&mut rows);
    }
    rows.sort_by_key(|row| row.number);
    let table: String = rows.iter().map(Row::line).collect();
    committed::settle("acceptance/table.txt", &format!("{HEAD}{table}"));
}
