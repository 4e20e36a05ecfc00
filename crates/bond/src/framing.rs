//! How RTP and RTCP travel on one link: bare on two ports (Simple Profile) or in a GRE tunnel (Main Profile).

use bytes::Bytes;
use rist::psk::{NonceBook, Ownership, Psk};
use rist::srp::{Entropy, ExchangeLimit, Password, SrpConfig};
use rist::tunnel::{Inner, Role, Side, Tunnel, TunnelConfig, TunnelError};
use rist::wire::keepalive::Capabilities;
use rist::wire::rtp::RtpHeader;
use units::Timestamp;

use crate::blocks::Blocks;
use crate::config::{Encapsulation, Extension, KeySize, Login, PskConfig, ReceiverConfig, SenderConfig};
use crate::extension::{ECN_FEATURE, FEATURE};
use crate::farewell::Signals;
use crate::fec;
use crate::payload::Channel;
use crate::random::Random;
use crate::refused::Reason;

/// Headroom for RTP and its extension when a datagram is allocated, and for what the tunnel adds to RTCP.
const HEADROOM: usize = 28;
/// The most that the tunnel adds to what is wrapped with virtual ports, or as whole IPv4 datagrams: with encryption and VSF.
const REDUCED_BYTES: usize = 20;
const FULL_BYTES: usize = 40;

/// What a datagram held.
#[derive(Debug)]
pub(crate) enum Inbound<'a> {
    /// An RTP packet.
    Media(&'a [u8]),
    /// An RTCP compound.
    Rtcp(&'a [u8]),
    /// A keep-alive: whether the peer announces the engine's extension, and repair packets and ECN counts within it; whether
    /// it adapts its rate to what the receiver tells (capability A of TR-06-2); whether it closes the link.
    KeepAlive { extension: bool, fec: bool, ecn: bool, adapts: bool, signals: Signals },
    /// Part of a log-in, of which this end knows nothing.
    LogIn,
    /// Handled below, or of no interest.
    Nothing,
}

/// A datagram taken apart.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    /// Its per-link number, when it has one.
    pub sequence: Option<u32>,
    /// The even virtual port of the flow it belongs to; 0 in Simple Profile.
    pub port: u16,
    /// What it held.
    pub inbound: Inbound<'a>,
}

/// A datagram that tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed or not authentic.
    Invalid(Reason),
    /// The far end has to log in first; it has been asked to.
    LoginFirst,
}

/// What the tunnels of one end share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    nonces: NonceBook,
    exchanges: ExchangeLimit,
}

impl Common {
    fn login(&self, logins: Vec<rist::srp::Login>, random: &mut Random) -> SrpConfig {
        SrpConfig { exchanges: self.exchanges.clone(), ..SrpConfig::new(logins, entropy(random)) }
    }
}

/// One link's framing.
#[derive(Debug)]
pub(crate) enum Framing {
    Simple,
    Main(Box<Tunnel>),
}

impl Framing {
    /// The framing of a sender's link.
    pub(crate) fn client(config: &SenderConfig, common: &Common, random: &mut Random) -> Self {
        Self::sender(config, Role::Client, common, random)
    }

    /// The framing of a receiver that calls a sender, at the sender.
    pub(crate) fn listening_sender(config: &SenderConfig, common: &Common, random: &mut Random) -> Self {
        Self::sender(config, Role::Server, common, random)
    }

    fn sender(config: &SenderConfig, role: Role, common: &Common, random: &mut Random) -> Self {
        let mut tunnel = tunnel_config(role, Side::Sender, config.psk.as_ref(), &config.cname, config.extension);
        tunnel.features.extend(ecn_feature(config.extension, config.ecn));
        tunnel.virtual_ports.flow = config.virtual_port;
        if config.encapsulation == Encapsulation::FullDatagram {
            tunnel.encapsulation = rist::tunnel::Encapsulation::full_datagram(role);
        }
        tunnel.srp = config.srp.as_ref().map(|login| common.login(vec![srp_login(login)], random));
        Self::Main(Box::new(Tunnel::with_book(tunnel, random.next_u64(), common.nonces.clone())))
    }

    /// The framing of a 4-tuple that calls a receiver.
    pub(crate) fn server(config: &ReceiverConfig, common: &Common, random: &mut Random) -> Self {
        Self::receiver(config, Role::Server, common, random)
    }

    /// The framing of a receiver that calls a sender.
    pub(crate) fn calling_receiver(config: &ReceiverConfig, common: &Common, random: &mut Random) -> Self {
        Self::receiver(config, Role::Client, common, random)
    }

    fn receiver(config: &ReceiverConfig, role: Role, common: &Common, random: &mut Random) -> Self {
        let mut tunnel = tunnel_config(role, Side::Receiver, config.psk.as_ref(), &config.cname, config.extension);
        tunnel.features.extend(ecn_feature(config.extension, config.ecn));
        if !config.srp_users.is_empty() {
            tunnel.srp = Some(common.login(config.srp_users.iter().map(srp_login).collect(), random));
        }
        Self::Main(Box::new(Tunnel::with_book(tunnel, random.next_u64(), common.nonces.clone())))
    }

    /// The most that framing adds to RTP and RTCP, as long as the far end asks for nothing else.
    pub(crate) fn overhead_bytes_max(config: &SenderConfig) -> usize {
        match config.encapsulation {
            Encapsulation::ReducedOverhead => REDUCED_BYTES,
            Encapsulation::FullDatagram => FULL_BYTES,
        }
    }

    /// What framing adds at present, at least.
    fn overhead_bytes(&self) -> usize {
        match self {
            Self::Simple => 0,
            Self::Main(tunnel) => tunnel.overhead_bytes(),
        }
    }

    /// Lets the per-link numbers go on behind those of another framing of the link, `more` numbers further.
    pub(crate) fn number_behind(&mut self, other: &Self, more: u32) {
        if let (Self::Main(tunnel), Self::Main(other)) = (self, other) {
            tunnel.skip_to(other.next_sequence().wrapping_add(more));
        }
    }

    /// True when the per-link number `sequence` is one of the `back` that were given out last.
    pub(crate) fn has_sent(&self, sequence: u32, back: u32) -> bool {
        match self {
            Self::Simple => false,
            Self::Main(tunnel) => (1..=back).contains(&tunnel.next_sequence().wrapping_sub(sequence)),
        }
    }

    /// Frames an RTP packet: returns the datagram and its per-link number.
    pub(crate) fn media(
        &mut self,
        now: Timestamp,
        header: &RtpHeader,
        payload: &[u8],
        blocks: &mut Blocks,
    ) -> (Bytes, Option<u32>) {
        let headroom = HEADROOM + self.overhead_bytes();
        blocks.packet(payload.len() + headroom, |datagram| match self {
            Self::Simple => {
                header.emit(payload, datagram);
                None
            }
            Self::Main(tunnel) => Some(tunnel.emit_rtp(now, header, payload, datagram)),
        })
    }

    /// Frames an RTCP compound of the default flow; `None` before the login, when the tunnel lets nothing pass.
    pub(crate) fn rtcp(&mut self, now: Timestamp, compound: &[u8]) -> Option<(Channel, Vec<u8>, Option<u32>)> {
        self.rtcp_of(now, None, compound)
    }

    /// The same for the flow with the even virtual port `port`.
    pub(crate) fn rtcp_of(
        &mut self,
        now: Timestamp,
        port: Option<u16>,
        compound: &[u8],
    ) -> Option<(Channel, Vec<u8>, Option<u32>)> {
        let headroom = HEADROOM + self.overhead_bytes();
        match self {
            Self::Simple => Some((Channel::Control, compound.to_vec(), None)),
            Self::Main(tunnel) => {
                let mut out = Vec::with_capacity(compound.len() + headroom);
                let sequence = match port {
                    Some(port) => tunnel.emit_rtcp_on(now, port, compound, &mut out),
                    None => tunnel.emit_rtcp(now, compound, &mut out),
                };
                (!out.is_empty()).then_some((Channel::Media, out, Some(sequence)))
            }
        }
    }

    /// A keep-alive; `None` in Simple Profile, which has none.
    pub(crate) fn keep_alive(&mut self, now: Timestamp) -> Option<(Vec<u8>, u32)> {
        match self {
            Self::Simple => None,
            Self::Main(tunnel) => {
                let mut out = Vec::with_capacity(256);
                let sequence = tunnel.emit_keepalive(now, &mut out);
                (!out.is_empty()).then_some((out, sequence))
            }
        }
    }

    /// A keep-alive that says that this end closes the link; `None` in Simple Profile.
    pub(crate) fn goodbye(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        match self {
            Self::Simple => None,
            Self::Main(tunnel) => {
                let mut out = Vec::with_capacity(256);
                tunnel.emit_disconnect(now, &mut out);
                (!out.is_empty()).then_some(out)
            }
        }
    }

    /// A datagram that the tunnel itself wants sent, and its per-link number if it has one.
    pub(crate) fn control(&mut self, now: Timestamp) -> Option<(Vec<u8>, Option<u32>)> {
        match self {
            Self::Simple => None,
            Self::Main(tunnel) => {
                let mut out = Vec::new();
                let next = tunnel.next_sequence();
                let numbered = |tunnel: &Tunnel| (tunnel.next_sequence() != next).then_some(next);
                tunnel.poll_control(now, &mut out).then(|| (out, numbered(tunnel)))
            }
        }
    }

    /// The datagram last unpacked answered an echo that was asked for by this framing: its sender hears this link.
    pub(crate) fn vouch(&mut self, now: Timestamp) {
        if let Self::Main(tunnel) = self {
            tunnel.vouch(now);
        }
    }

    /// Whose the datagram last unpacked is.
    pub(crate) fn ownership(&self, now: Timestamp) -> Ownership {
        match self {
            Self::Simple => Ownership::Peer,
            Self::Main(tunnel) => tunnel.ownership(now),
        }
    }

    /// Unpacks a datagram.
    pub(crate) fn parse<'a>(
        &mut self,
        now: Timestamp,
        channel: Channel,
        offer: Extension,
        bytes: &'a mut [u8],
    ) -> Result<Parsed<'a>, Refusal> {
        let simple = |inbound| Parsed { sequence: None, port: 0, inbound };
        match self {
            Self::Simple if is_rtcp(bytes) => Ok(simple(Inbound::Rtcp(bytes))),
            Self::Simple if channel == Channel::Media => Ok(simple(Inbound::Media(bytes))),
            Self::Simple => Err(Refusal::Invalid(Reason::Malformed)),
            Self::Main(tunnel) => {
                let received = tunnel.parse(now, bytes).map_err(|error| match error {
                    TunnelError::NotAuthenticated => Refusal::LoginFirst,
                    other => Refusal::Invalid(other.into()),
                })?;
                let inbound = match received.inner {
                    Inner::Media(rtp) => Inbound::Media(rtp),
                    Inner::Rtcp(compound) => Inbound::Rtcp(compound),
                    Inner::KeepAlive(keep_alive) => {
                        let announced = keep_alive.announcement().ok().flatten();
                        let features = announced.map(|a| a.vendor.features).unwrap_or_default();
                        let named = |feature: &str| offer == Extension::Offer && features.iter().any(|f| f == feature);
                        let adapts = keep_alive.capabilities.contains(Capabilities::ADAPTIVE_ENCODING);
                        let (extension, fec, ecn) = (named(FEATURE), named(fec::FEATURE), named(ECN_FEATURE));
                        if extension {
                            tunnel.announce_nonces();
                        }
                        Inbound::KeepAlive { extension, fec, ecn, adapts, signals: Signals::of(&keep_alive) }
                    }
                    Inner::Eapol if tunnel.login_state().is_none() => Inbound::LogIn,
                    _ => Inbound::Nothing,
                };
                Ok(Parsed { sequence: received.sequence, port: received.flow_port, inbound })
            }
        }
    }
}

fn srp_login(login: &Login) -> rist::srp::Login {
    rist::srp::Login { username: login.user.clone(), password: Password::new(login.password.reveal()) }
}

fn entropy(random: &mut Random) -> Entropy {
    Entropy::new(random.bytes())
}

fn ecn_feature(offer: Extension, ecn: bool) -> Option<String> {
    (ecn && offer == Extension::Offer).then(|| ECN_FEATURE.to_owned())
}

fn tunnel_config(role: Role, side: Side, psk: Option<&PskConfig>, cname: &str, extension: Extension) -> TunnelConfig {
    let mut config = TunnelConfig::new(role, side);
    cname.clone_into(&mut config.cname);
    if extension == Extension::Offer {
        config.features.extend([FEATURE, fec::FEATURE].map(str::to_owned));
    }
    config.psk = psk.map(|psk| rist::tunnel::PskConfig {
        psk: Psk::new(psk.passphrase.reveal()),
        key_size: match psk.key_size {
            KeySize::Aes128 => rist::psk::KeySize::Aes128,
            KeySize::Aes256 => rist::psk::KeySize::Aes256,
        },
        rotate_after_packets: psk.rotate_after_packets,
        accept_revision_0: false,
    });
    config
}

/// RTCP has packet types 200 to 207, which no RTP packet with a marker bit and a payload type of 72 to 79 is.
fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes[0] >> 6 == 2 && (200..=207).contains(&bytes[1])
}
