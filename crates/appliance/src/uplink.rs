//! Network interfaces that could carry media.

use crate::HardwareError;
use std::net::IpAddr;
use units::{LinkId, Timestamp};

/// The network uplinks of a device.
pub trait Uplinks: Send {
    /// Every uplink there is now, usable or not, in a stable order.
    ///
    /// # Errors
    /// [`HardwareError`]: nothing is known of any uplink now; the caller keeps what it knew.
    fn scan(&mut self, now: Timestamp) -> Result<Vec<Uplink>, HardwareError>;
}

/// One network interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// Name of the interface: its identity while the device runs.
    pub interface: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: UplinkKind,
    /// The bond's number for it where the configuration fixes one.
    pub link: Option<LinkId>,
    /// Local addresses media can be sent from, preferred first; never empty while `problem` is `None`.
    pub addresses: Vec<IpAddr>,
    /// Whether sockets must be bound to the interface and not only to an address of it.
    pub bind_to_interface: bool,
    /// Reached through this address instead of the peer's own, port kept: an emulated link.
    pub gateway: Option<IpAddr>,
    /// Why it cannot carry media and what to do, in words; `None` when it can.
    pub problem: Option<String>,
    /// Radio readings, for modems and Wi-Fi.
    pub radio: Option<Radio>,
}

/// Kinds of uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkKind {
    /// Cellular modem.
    Modem,
    /// Wi-Fi as a client.
    Wifi,
    /// Wired.
    Ethernet,
}

/// Radio readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Radio {
    /// "4G", "5G", "Wi-Fi".
    pub technology: String,
    /// Operator or network name.
    pub operator: String,
    /// Signal strength, dBm.
    pub signal_dbm: f32,
    /// When it was read.
    pub read_at: Timestamp,
}
