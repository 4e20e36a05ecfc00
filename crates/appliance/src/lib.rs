//! The hardware of a field sender, behind traits: what first light needs of it.
//!
//! * [`Uplinks`]: network interfaces that could carry media, with their radio readings.
//! * [`CaptureInputs`]: where a picture could come from.
//! * [`Thermal`]: how hot the board is.
//!
//! [`linux`] reads the real machine (sysfs, `getifaddrs`, V4L2), [`fake`] plays a script from configuration. Both are
//! polled with the time as an argument and answer at once; neither starts threads, configures anything, nor decides
//! whether an uplink is good enough. Lists are bounded by [`UPLINKS_MAX`] and [`INPUTS_MAX`]; what is over is left out.

pub mod fake;
mod input;
pub mod linux;
mod uplink;

pub use input::{CaptureInput, CaptureInputs, InputSignal, InputSource};
pub use uplink::{Radio, Uplink, UplinkKind, Uplinks};

use thiserror::Error;
use units::Timestamp;

/// Most uplinks a scan gives.
pub const UPLINKS_MAX: usize = 16;
/// Most inputs a scan gives.
pub const INPUTS_MAX: usize = 32;

/// Why the hardware could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HardwareError {
    /// The kernel's list of interface addresses.
    #[error("cannot list the addresses of the network interfaces")]
    HardwareAddresses {
        /// What the kernel said.
        source: nix::Error,
    },
    /// A folder of sysfs.
    #[error("cannot read {}", path.display())]
    HardwareSysfs {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Temperature sensors of the board.
pub trait Thermal: Send {
    /// The hottest sensor now, degrees Celsius; `None` where there is none.
    fn temperature_c(&mut self, now: Timestamp) -> Option<f32>;
}

/// The hardware of one sender.
pub struct Appliance {
    /// What the hardware calls itself.
    pub board: String,
    /// Its network uplinks.
    pub uplinks: Box<dyn Uplinks>,
    /// Its capture inputs.
    pub inputs: Box<dyn CaptureInputs>,
    /// Its temperature.
    pub thermal: Box<dyn Thermal>,
}

impl std::fmt::Debug for Appliance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appliance").field("board", &self.board).finish_non_exhaustive()
    }
}
