//! How a flow is set up, at either end.

use std::time::Duration;
use thiserror::Error;
use units::{Bitrate, ByteCount};

pub use units::Secret;

/// The shortest latency budget.
pub const LATENCY_MIN: Duration = Duration::from_millis(50);
/// The longest latency budget.
pub const LATENCY_MAX: Duration = Duration::from_secs(10);
/// The default latency budget.
pub const LATENCY_DEFAULT: Duration = Duration::from_secs(1);
/// Packets that either end keeps at most: the 16-bit sequence space but for 4096 numbers, by which what comes late is told from
/// what is new.
pub const HISTORY_PACKETS_MAX: usize = 61_440;
/// Latency times packet rate must stay below this, which leaves a receiver room for what comes next: 63 Mbit/s within 10 s. Beyond
/// that media is played sooner than asked for;
/// [`Cause::NumbersExhausted`](crate::event::Cause::NumbersExhausted) tells it.
pub const LATENCY_PACKETS_MAX: usize = HISTORY_PACKETS_MAX - 1024;
/// Links of one flow.
pub const LINKS_MAX: usize = 16;
/// Flows of one receiver.
pub const FLOWS_MAX: usize = 64;
/// The default virtual destination port of a Main Profile flow.
pub const VIRTUAL_PORT_DEFAULT: u16 = 1968;
/// IPv4 and UDP headers, in bytes.
pub const IPV4_UDP_BYTES: u16 = 28;
/// IPv6 and UDP headers, in bytes.
pub const IPV6_UDP_BYTES: u16 = 48;

/// The RIST profile spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// RTP on port P, RTCP on P+1, no encryption.
    Simple,
    /// GRE over UDP on one port, encryption, login, several flows.
    #[default]
    Main,
}

/// Key length of the media encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeySize {
    /// AES-128.
    Aes128,
    /// AES-256.
    #[default]
    Aes256,
}

/// How media and RTCP are wrapped in the tunnel of Main Profile. Either way is always received, and answered as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encapsulation {
    /// With virtual ports. A peer that shows or says that it reads whole datagrams only gets these, from both ends.
    #[default]
    ReducedOverhead,
    /// As whole IPv4 datagrams, with 24 bytes more in each. librist does not read these.
    FullDatagram,
}

/// Pre-shared key encryption (TR-06-2 section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PskConfig {
    /// The passphrase, the same at both ends.
    pub passphrase: Secret,
    /// Length of the key used for sending; receiving follows the packet.
    pub key_size: KeySize,
    /// A fresh nonce after this many packets; `None` only when the sequence wraps.
    pub rotate_after_packets: Option<u32>,
}

/// A user name and password for the EAP-SRP login (TR-06-2 section 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// Whether the engine offers its own extension to the peer. A plain RIST peer ignores the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    /// Announce it and use it with a peer that announces it too.
    #[default]
    Offer,
    /// Behave as a plain RIST peer.
    Off,
}

/// The sending end of a flow.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Profile spoken on every link.
    pub profile: Profile,
    /// Encryption; Main Profile only.
    pub psk: Option<PskConfig>,
    /// Login at the receiver; Main Profile only.
    pub srp: Option<Login>,
    /// Canonical name sent in SDES; empty takes a default. At most 127 bytes.
    pub cname: String,
    /// Latency budget: from a payload's source time to its delivery. [`LATENCY_MIN`] to [`LATENCY_MAX`].
    pub latency: Duration,
    /// RTP SSRC of the flow, even: the lowest bit marks what is sent again. `None` draws one.
    pub flow_id: Option<u32>,
    /// Sequence number of the first packet. `None` draws one.
    pub first_sequence: Option<u16>,
    /// Virtual destination port of the media (even); RTCP uses the next one. Main Profile only.
    pub virtual_port: u16,
    /// How media and RTCP are wrapped. Main Profile only.
    pub encapsulation: Encapsulation,
    /// Leave TS null packets out on the wire and restore them at the receiver.
    pub null_deletion: bool,
    /// The engine's own extension.
    pub extension: Extension,
    /// The caller sends datagrams with the ECN codepoint they are given: congestion marks of the network (RFC 9331) are
    /// used towards a receiver that counts them, on paths that carry them. `link-io` sets it.
    pub ecn: bool,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            profile: Profile::Main,
            psk: None,
            srp: None,
            cname: String::new(),
            latency: LATENCY_DEFAULT,
            flow_id: None,
            first_sequence: None,
            virtual_port: VIRTUAL_PORT_DEFAULT,
            encapsulation: Encapsulation::default(),
            null_deletion: false,
            extension: Extension::Offer,
            ecn: false,
        }
    }
}

/// The receiving end of one or more flows.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// Profile spoken on every listening socket.
    pub profile: Profile,
    /// Encryption; Main Profile only.
    pub psk: Option<PskConfig>,
    /// Users that may log in; empty asks for no login. Main Profile only.
    pub srp_users: Vec<Login>,
    /// Canonical name sent in SDES; empty takes a default. At most 127 bytes.
    pub cname: String,
    /// Latency budget: from a payload's source time to its delivery. [`LATENCY_MIN`] to [`LATENCY_MAX`].
    pub latency: Duration,
    /// How long a gap may stay open before it is reported to a plain RIST sender; `None` follows the RTT.
    pub reorder: Option<Duration>,
    /// Virtual destination ports (even) whose flows are taken; empty takes any. Main Profile only.
    pub virtual_ports: Vec<u16>,
    /// Flows taken at the same time, on each of `virtual_ports` if there are any; packets of further ones are refused.
    /// [`FLOWS_MAX`] in all.
    pub flows_max: usize,
    /// The engine's own extension.
    pub extension: Extension,
    /// Tell senders that do not speak the extension how their flow arrives (TR-06-4-1), so that they adapt their rate.
    pub quality_messages: bool,
    /// The caller tells the ECN codepoint that datagrams came with: senders are told what was marked. `link-io`
    /// sets it.
    pub ecn: bool,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            profile: Profile::Main,
            psk: None,
            srp_users: Vec::new(),
            cname: String::new(),
            latency: LATENCY_DEFAULT,
            reorder: None,
            virtual_ports: Vec::new(),
            flows_max: 1,
            extension: Extension::Offer,
            quality_messages: true,
            ecn: false,
        }
    }
}

/// How one link of a sender is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOptions {
    /// Name for the operator ("modem-1"); also announced to the receiver. At most 64 bytes are kept.
    pub name: String,
    /// 0 is used first; a higher number is used only for what the lower ones can not carry in time.
    pub priority: u8,
    /// Never send faster than this.
    pub rate_max: Option<Bitrate>,
    /// What the link costs per byte, in any unit common to the links of a flow: of two that carry a packet in time and have
    /// room, the cheaper one is preferred over one that is faster by less than a tenth of the latency budget.
    pub price: u32,
    /// Once so much has been sent (with IP headers) since the flow first had a link of this id and name, it carries nothing but
    /// keep-alive. What it used counts on when it is removed and added again, of the last 64 that were removed; a new sender
    /// begins at nothing.
    pub byte_budget: Option<ByteCount>,
    /// Use the link beyond its byte budget while no other link is up.
    pub last_resort: bool,
    /// Keep an idle link awake with a copy of a packet now and then, 0.3 % of the media at most.
    pub keep_warm: bool,
    /// Fixed share towards a plain RIST peer; `None` lets the engine decide.
    pub weight: Option<u32>,
    /// Largest IP packet the path takes, in bytes.
    pub mtu: u16,
    /// IP and UDP headers of each datagram, in bytes: 28, with IPv6 48. `link-io` sets it.
    pub header_bytes: u16,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            priority: 0,
            rate_max: None,
            price: 0,
            byte_budget: None,
            last_resort: false,
            keep_warm: true,
            weight: None,
            mtu: 1500,
            header_bytes: IPV4_UDP_BYTES,
        }
    }
}

impl LinkOptions {
    /// The largest datagram that may be tried, in bytes of UDP payload.
    pub(crate) fn datagram_bytes_max(&self) -> u16 {
        self.mtu.saturating_sub(self.header_bytes)
    }
}

/// Why a configuration is refused; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The latency budget is out of range.
    #[error("the latency must be between {LATENCY_MIN:?} and {LATENCY_MAX:?}, not {got:?}")]
    Latency {
        /// The value given.
        got: Duration,
    },
    /// Encryption or login with Simple Profile, which has neither.
    #[error("Simple Profile has no encryption and no login: use Main Profile or leave them out")]
    SimpleProfileSecurity,
    /// The passphrase is empty.
    #[error("the passphrase is empty: give one or turn encryption off")]
    PassphraseEmpty,
    /// The virtual port is odd or zero.
    #[error("the virtual port must be even and not 0, not {got}")]
    VirtualPort {
        /// The value given.
        got: u16,
    },
    /// The flow's SSRC is odd.
    #[error("the flow id must be even, not {got}: its lowest bit marks packets that are sent again")]
    FlowId {
        /// The value given.
        got: u32,
    },
    /// The canonical name does not fit.
    #[error("the cname has {got} bytes, at most 127 fit")]
    Cname {
        /// Its length.
        got: usize,
    },
    /// No flow, or too many.
    #[error("flows_max must be 1 to {FLOWS_MAX} over all virtual ports, not {got}")]
    Flows {
        /// The value given, times the virtual ports.
        got: usize,
    },
    /// Simple Profile has no tunnel.
    #[error("Simple Profile has no tunnel for whole datagrams: use Main Profile or leave them out")]
    SimpleProfileEncapsulation,
    /// Simple Profile has no virtual ports.
    #[error("Simple Profile has no virtual ports: use Main Profile or leave them out")]
    SimpleProfilePorts,
}

pub(crate) fn check_latency(latency: Duration) -> Result<(), ConfigError> {
    if (LATENCY_MIN..=LATENCY_MAX).contains(&latency) { Ok(()) } else { Err(ConfigError::Latency { got: latency }) }
}

fn check_security(profile: Profile, psk: Option<&PskConfig>, login: bool) -> Result<(), ConfigError> {
    if profile == Profile::Simple && (psk.is_some() || login) {
        return Err(ConfigError::SimpleProfileSecurity);
    }
    if psk.is_some_and(|psk| psk.passphrase.reveal().is_empty()) {
        return Err(ConfigError::PassphraseEmpty);
    }
    Ok(())
}

fn check_virtual_port(port: u16) -> Result<(), ConfigError> {
    if port == 0 || port % 2 == 1 { Err(ConfigError::VirtualPort { got: port }) } else { Ok(()) }
}

fn check_cname(cname: &str) -> Result<(), ConfigError> {
    if cname.len() > 127 { Err(ConfigError::Cname { got: cname.len() }) } else { Ok(()) }
}

impl SenderConfig {
    /// Refuses what can not work.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_latency(self.latency)?;
        check_security(self.profile, self.psk.as_ref(), self.srp.is_some())?;
        check_cname(&self.cname)?;
        if self.profile == Profile::Simple && self.encapsulation == Encapsulation::FullDatagram {
            return Err(ConfigError::SimpleProfileEncapsulation);
        }
        if let Some(got) = self.flow_id.filter(|id| id % 2 == 1) {
            return Err(ConfigError::FlowId { got });
        }
        check_virtual_port(self.virtual_port)
    }
}

impl ReceiverConfig {
    /// Refuses what can not work.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_latency(self.latency)?;
        check_security(self.profile, self.psk.as_ref(), !self.srp_users.is_empty())?;
        check_cname(&self.cname)?;
        if self.profile == Profile::Simple && !self.virtual_ports.is_empty() {
            return Err(ConfigError::SimpleProfilePorts);
        }
        self.virtual_ports.iter().try_for_each(|port| check_virtual_port(*port))?;
        let flows = self.flows_max.saturating_mul(self.virtual_ports.len().max(1));
        if !(1..=FLOWS_MAX).contains(&flows) {
            return Err(ConfigError::Flows { got: flows });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_not_work_are_refused_by_name() {
        let psk = PskConfig {
            passphrase: Secret::new("secret words"),
            key_size: KeySize::Aes256,
            rotate_after_packets: None,
        };
        assert_eq!(SenderConfig::default().check(), Ok(()));
        assert_eq!(
            SenderConfig { latency: Duration::from_millis(10), ..Default::default() }.check(),
            Err(ConfigError::Latency { got: Duration::from_millis(10) })
        );
        assert_eq!(
            SenderConfig { profile: Profile::Simple, psk: Some(psk.clone()), ..Default::default() }.check(),
            Err(ConfigError::SimpleProfileSecurity)
        );
        assert_eq!(
            SenderConfig { virtual_port: 1969, ..Default::default() }.check(),
            Err(ConfigError::VirtualPort { got: 1969 })
        );
        assert_eq!(
            SenderConfig { flow_id: Some(4661), ..Default::default() }.check(),
            Err(ConfigError::FlowId { got: 4661 })
        );
        let encapsulation = Encapsulation::FullDatagram;
        assert_eq!(
            SenderConfig { profile: Profile::Simple, encapsulation, ..Default::default() }.check(),
            Err(ConfigError::SimpleProfileEncapsulation)
        );
        assert_eq!(ReceiverConfig { flows_max: 0, ..Default::default() }.check(), Err(ConfigError::Flows { got: 0 }));
        let ports = |virtual_ports: &[u16]| ReceiverConfig {
            virtual_ports: virtual_ports.to_vec(),
            flows_max: 30,
            ..Default::default()
        };
        assert_eq!(ports(&[2000, 2002]).check(), Ok(()));
        assert_eq!(ports(&[2000, 2002, 2004]).check(), Err(ConfigError::Flows { got: 90 }));
        assert_eq!(ports(&[2000, 2001]).check(), Err(ConfigError::VirtualPort { got: 2001 }));
        let simple = ReceiverConfig { profile: Profile::Simple, ..ports(&[2000]) };
        assert_eq!(simple.check(), Err(ConfigError::SimpleProfilePorts));
        assert!(!format!("{psk:?}").contains("secret words"));
    }
}
