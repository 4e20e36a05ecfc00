//! Hardware that plays a script: for demonstration, development and tests on a machine without modems or cameras.
//!
//! Everything follows from the configuration and the time: two runs with the same configuration show the same readings
//! at the same times.

mod inputs;
mod outage;
mod uplinks;

pub use inputs::{FakeInput, FakeInputKind, FakeInputs};
pub use outage::Outage;
pub use uplinks::{FakeUplink, FakeUplinks};

use crate::{Appliance, Thermal};
use serde::Deserialize;
use units::Timestamp;

/// The script.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeConfig {
    /// What the hardware calls itself.
    pub board: String,
    /// Base of all pseudo-random movement.
    pub seed: u64,
    /// What the temperature sensor says, degrees Celsius; no sensor when absent.
    pub temperature_c: Option<f32>,
    /// Network uplinks, at most [`crate::UPLINKS_MAX`].
    pub uplinks: Vec<FakeUplink>,
    /// Inputs, at most [`crate::INPUTS_MAX`].
    pub inputs: Vec<FakeInput>,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            board: "Simulated sender".to_owned(),
            seed: 1,
            temperature_c: None,
            uplinks: Vec::new(),
            inputs: Vec::new(),
        }
    }
}

/// Hardware as scripted.
pub fn open(config: &FakeConfig) -> Appliance {
    Appliance {
        board: config.board.clone(),
        uplinks: Box::new(FakeUplinks::new(&config.uplinks, config.seed)),
        inputs: Box::new(FakeInputs::new(&config.inputs)),
        thermal: Box::new(FakeThermal(config.temperature_c)),
    }
}

struct FakeThermal(Option<f32>);

impl Thermal for FakeThermal {
    fn temperature_c(&mut self, _now: Timestamp) -> Option<f32> {
        self.0
    }
}
