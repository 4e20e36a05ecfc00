//! One tunnel of Main Profile: GRE over UDP between two address pairs (TR-06-2).
//!
//! A [`Tunnel`] frames, encrypts and numbers what one link carries; it knows nothing of flows, retransmission or time-outs.
//! One tunnel per UDP 4-tuple. It speaks revision 1 until the peer has shown revision 2, and accepts what librist 0.2.7
//! sends (revision bits 0 and no sequence number in the clear).
//!
//! With a passphrase set, datagrams that are clear, forged, replayed, reflected or of a stream with another passphrase are
//! refused with a [`TunnelError`] and change nothing. So are those of another link of the same bond, overheard and repeated,
//! where the links share a [`NonceBook`] and both have answered an echo ([`Tunnel::vouch`]); before that, such a datagram is
//! taken once, as if the network had doubled it onto this link. AES-CTR carries no authentication, so an attacker who can
//! hold back a genuine datagram can still flip bits in it; SSRC and sequence checks above this layer bound what that is
//! good for.
//!
//! A recording of another session under the same passphrase is taken like a peer that started anew (its nonce is unknown):
//! use a fresh passphrase for each stream. It never makes the tunnel refuse its peer: what is in use gives way to nothing,
//! and what gave way after a silence comes back with its next number. While sixteen recordings are played at once
//! ([`NonceLimit`](TunnelError::NonceLimit)) a peer that starts anew has to wait.

mod config;
mod content;
mod emit;
mod error;
mod next_nonce;
mod parse;
mod wraps;

pub use config::{PskConfig, Role, Side, TunnelConfig, VirtualPorts};
pub use error::TunnelError;
pub use wraps::Encapsulation;

use crate::psk::{Inbound, KeySize, NonceBook, Outbound, Psk};
use crate::random::Random;
use crate::srp::{LoginState, Machine};
use crate::wire::buffer_negotiation::BufferNegotiation;
use crate::wire::keepalive::{Announcement, Implementation, KeepAlive, Vendor};
use crate::wire::{datagram, gre};
use next_nonce::NextNonce;
use wraps::PeerWraps;

/// Flows that one tunnel carries at most, told apart by virtual port.
pub const FLOWS_MAX: usize = 8;
/// The most bytes that framing puts before an RTP packet: GRE with nonce and sequence, and IPv6 with UDP (12 bytes without, VSF
/// and virtual ports need 8).
pub const OVERHEAD_BYTES_MAX: usize = gre::HEADER_BYTES_MAX + datagram::HEADERS_BYTES_MAX;
/// The revision this end speaks first.
const REVISION_FIRST: u8 = 1;
/// The highest revision this end speaks.
const REVISION_HIGHEST: u8 = 2;

/// What a datagram brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// GRE sequence number of the peer's tunnel, a per-link loss counter; `None` when the peer sends none, and for
    /// datagrams that prove nothing.
    pub sequence: Option<u32>,
    /// Even virtual port of the flow; the default flow's for contents without ports.
    pub flow_port: u16,
    /// The content.
    pub inner: Inner<'a>,
}

/// Content of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner<'a> {
    /// An RTP packet.
    Media(&'a [u8]),
    /// An RTCP compound.
    Rtcp(&'a [u8]),
    /// A keep-alive, perhaps with an announcement.
    KeepAlive(KeepAlive<'a>),
    /// librist's buffer negotiation.
    BufferNegotiation(BufferNegotiation),
    /// A login frame, already handled; ask [`Tunnel::poll_control`] for what to answer.
    Eapol,
    /// A whole IP datagram that is neither media nor RTCP of a flow, such as librist's out-of-band channel; to be ignored.
    OutOfBand(&'a [u8]),
    /// Valid, but nothing for the layers above. Also a keep-alive under encryption that proves nothing.
    Nothing,
}

/// One tunnel. See the module.
#[derive(Debug)]
pub struct Tunnel {
    role: Role,
    side: Side,
    ports: VirtualPorts,
    encapsulation: Encapsulation,
    peer_wraps: PeerWraps,
    accept_revision_0: bool,
    random: Random,
    revision: u8,
    sequence: u32,
    outbound: Option<Outbound>,
    inbound: Option<Inbound>,
    /// Of the session before, until the peer has used the key of the present one.
    previous: Option<Inbound>,
    /// Shared with the other tunnels of this end.
    book: NonceBook,
    flows: Vec<FlowPorts>,
    /// What the peer is told of the nonce that comes next.
    next_nonce: Option<NextNonce>,
    /// True when the peer makes use of that.
    announces_nonces: bool,
    mac: [u8; 6],
    announcement: Vec<u8>,
    login: Option<Machine>,
    /// The passphrase as configured, for a peer that asks for it after the login.
    passphrase: Option<(Psk, KeySize)>,
}

/// Where RTCP of a flow goes: learned from the sender's RTCP.
#[derive(Debug, Clone, Copy)]
struct FlowPorts {
    flow: u16,
    rtcp_peer: u16,
}

impl Tunnel {
    /// A tunnel that has sent and seen nothing. `seed` must differ between tunnels that share a passphrase, also over
    /// restarts: their nonces are drawn from it, and the same nonce twice reveals plaintext.
    pub fn new(config: TunnelConfig, seed: u64) -> Self {
        Self::with_book(config, seed, NonceBook::default())
    }

    /// The same for one of several tunnels of this end that share a passphrase and `book`. The two ends of a tunnel must
    /// not share one.
    pub fn with_book(config: TunnelConfig, seed: u64, book: NonceBook) -> Self {
        let mut random = Random::from_seed(seed);
        let mut mac: [u8; 6] = random.bytes();
        mac[0] = mac[0] & 0xfc | 0x02; // unicast, locally administered
        let announcement = announcement(&config);
        let accept_revision_0 = config.psk.as_ref().is_some_and(|psk| psk.accept_revision_0);
        let inbound = config.psk.as_ref().map(|psk| Inbound::new(psk.psk.clone(), book.clone()));
        let passphrase = config.psk.as_ref().map(|psk| (psk.psk.clone(), psk.key_size));
        let login = config.srp.map(|srp| {
            let use_key = srp.use_session_key && config.psk.is_none();
            Machine::new(config.role, srp, use_key)
        });
        let outbound =
            config.psk.map(|psk| Outbound::new(psk.psk, psk.key_size, psk.rotate_after_packets, &mut random));
        Self {
            role: config.role,
            side: config.side,
            ports: config.virtual_ports,
            encapsulation: config.encapsulation,
            peer_wraps: PeerWraps::default(),
            accept_revision_0,
            random,
            revision: REVISION_FIRST,
            sequence: 0,
            outbound,
            inbound,
            previous: None,
            book,
            flows: Vec::new(),
            next_nonce: None,
            announces_nonces: false,
            mac,
            announcement,
            login,
            passphrase,
        }
    }

    /// The peer is one that takes announcements of nonces in any revision (this implementation does): from now on each is
    /// announced, repeatedly, before it is used, so that no stranger who is faster can pass it off as another link's.
    pub const fn announce_nonces(&mut self) {
        self.announces_nonces = true;
    }

    /// True when media and RTCP may flow: at once, or after the login.
    pub fn is_ready(&self) -> bool {
        self.login.as_ref().is_none_or(|login| login.session().is_some())
    }

    /// How far the login is; `None` when none is configured.
    pub fn login_state(&self) -> Option<LoginState> {
        self.login.as_ref().map(Machine::state)
    }

    /// The revision this end speaks at present, 1 or 2.
    pub const fn revision(&self) -> u8 {
        self.revision
    }

    /// The GRE sequence number of the next datagram.
    pub const fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// Lets the GRE sequence numbers go on at `sequence`. They never go back; where that would take them past their end they
    /// begin anew, with another nonce.
    pub fn skip_to(&mut self, sequence: u32) {
        if sequence > self.sequence {
            self.sequence = sequence;
        } else if sequence.wrapping_sub(self.sequence) as i32 > 0 {
            self.sequence = 0;
        }
    }

    /// Bytes that framing adds to an RTP packet at present, without UDP and IP.
    pub fn overhead_bytes(&self) -> usize {
        let gre = if self.outbound.is_some() { 12 } else { 8 };
        let vsf = if self.revision >= 2 { 4 } else { 0 };
        match self.peer_wraps.choose(self.encapsulation, self.role) {
            Some((_, addresses)) => gre + addresses.headers_bytes(),
            None => gre + vsf + 4,
        }
    }
}

fn announcement(config: &TunnelConfig) -> Vec<u8> {
    let mut json = Vec::new();
    Announcement {
        vendor: Vendor {
            implementation: Implementation {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                product: "strata".to_owned(),
                vendor_name: "Strata".to_owned(),
            },
            features: config.features.clone(),
            cname: Some(config.cname.clone()).filter(|cname| !cname.is_empty()),
        },
        ..Announcement::default()
    }
    .emit(&mut json);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::keepalive::Capabilities;
    use units::Timestamp;

    #[test]
    fn a_farewell_is_a_keep_alive_with_one_bit_more() {
        for psk in [None, Some(PskConfig::new("x"))] {
            let config = |role, side| TunnelConfig { psk: psk.clone(), ..TunnelConfig::new(role, side) };
            let mut sender = Tunnel::new(config(Role::Client, Side::Sender), 1);
            let mut receiver = Tunnel::new(config(Role::Server, Side::Receiver), 2);
            for revision in [REVISION_FIRST, REVISION_HIGHEST] {
                sender.revision = revision;
                let told: Vec<_> = [Tunnel::emit_keepalive, Tunnel::emit_disconnect]
                    .into_iter()
                    .map(|emit| {
                        let mut out = Vec::new();
                        emit(&mut sender, Timestamp::ZERO, &mut out);
                        match receiver.parse(Timestamp::ZERO, &mut out).map(|received| received.inner) {
                            Ok(Inner::KeepAlive(told)) => (told.mac, told.capabilities, told.tail.to_vec()),
                            other => panic!("{other:?}"),
                        }
                    })
                    .collect();
                let (mac, capabilities, tail) = told[0].clone();
                assert!(!capabilities.contains(Capabilities::DISCONNECT));
                assert_eq!(told[1], (mac, capabilities.with(Capabilities::DISCONNECT), tail));
            }
        }
    }

    #[test]
    fn numbers_are_skipped_and_never_repeated_under_a_nonce() {
        let config = TunnelConfig { psk: Some(PskConfig::new("x")), ..TunnelConfig::new(Role::Server, Side::Sender) };
        let mut tunnel = Tunnel::new(config, 1);
        let sent = |tunnel: &mut Tunnel| {
            let mut out = Vec::new();
            let sequence = tunnel.emit_keepalive(Timestamp::ZERO, &mut out);
            (out[4..8].to_vec(), sequence)
        };
        let (nonce, first) = sent(&mut tunnel);
        tunnel.skip_to(5);
        assert_eq!((sent(&mut tunnel), first), ((nonce.clone(), 5), 0));
        tunnel.skip_to(5);
        tunnel.skip_to(3);
        assert_eq!(sent(&mut tunnel), (nonce.clone(), 6));
        tunnel.skip_to(0x7000_0000);
        tunnel.skip_to(0xE000_0000);
        assert_eq!(sent(&mut tunnel), (nonce.clone(), 0xE000_0000));
        tunnel.skip_to(9);
        let (renewed, sequence) = sent(&mut tunnel);
        assert!(sequence == 0 && renewed != nonce, "{sequence}");
    }
}
