//! Settings of a tunnel.

use super::Encapsulation;
use crate::psk::{KeySize, Psk};
use crate::srp::SrpConfig;

/// Who opens the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// This end calls.
    Client,
    /// This end listens.
    Server,
}

/// Which way media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// This end sends media.
    Sender,
    /// This end receives media.
    Receiver,
}

/// Virtual UDP ports inside the tunnel (TR-06-2 section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtualPorts {
    /// Even destination port of media; RTCP goes to the odd one above. Default 1968 as in librist.
    pub flow: u16,
    /// Source port of media. librist uses 0x8000 plus the number of the link, counted from 1.
    pub media_source: u16,
    /// The sender's port for RTCP, to which the receiver answers.
    pub rtcp_source: u16,
}

impl Default for VirtualPorts {
    fn default() -> Self {
        Self { flow: 1968, media_source: 0x8001, rtcp_source: 0x8000 }
    }
}

/// Encryption by a shared passphrase.
#[derive(Debug, Clone)]
pub struct PskConfig {
    /// The passphrase, the same on both ends.
    pub psk: Psk,
    /// Key length of what this end sends; what it receives may differ.
    pub key_size: KeySize,
    /// Packets after which this end changes its nonce, at least 32. `None`: only before sequence numbers repeat.
    pub rotate_after_packets: Option<u32>,
    /// Accept a peer's encryption in the layout of revision 0, in which neighbouring packets share key stream.
    pub accept_revision_0: bool,
}

impl PskConfig {
    /// AES-256 without early rotation.
    pub fn new(passphrase: impl Into<Vec<u8>>) -> Self {
        Self {
            psk: Psk::new(passphrase),
            key_size: KeySize::Aes256,
            rotate_after_packets: None,
            accept_revision_0: false,
        }
    }
}

/// Settings of a [`Tunnel`](super::Tunnel).
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// Who opens the tunnel.
    pub role: Role,
    /// Which way media goes.
    pub side: Side,
    /// Encryption, if any.
    pub psk: Option<PskConfig>,
    /// Virtual ports.
    pub virtual_ports: VirtualPorts,
    /// How media and RTCP are wrapped. What comes in may be wrapped either way.
    pub encapsulation: Encapsulation,
    /// Login, if any; media and RTCP wait for it.
    pub srp: Option<SrpConfig>,
    /// Canonical name of this end, told in the keep-alive.
    pub cname: String,
    /// Vendor features told in the keep-alive.
    pub features: Vec<String>,
}

impl TunnelConfig {
    /// A clear tunnel without login on the default ports.
    pub fn new(role: Role, side: Side) -> Self {
        Self {
            role,
            side,
            psk: None,
            virtual_ports: VirtualPorts::default(),
            encapsulation: Encapsulation::default(),
            srp: None,
            cname: String::new(),
            features: Vec::new(),
        }
    }
}
