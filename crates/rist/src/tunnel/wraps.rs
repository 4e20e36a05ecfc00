//! How a tunnel wraps media and RTCP: with virtual ports (reduced overhead), or as whole IP datagrams (full-datagram mode).
//!
//! Reduced overhead goes to whoever has used it, and first. A peer that has used whole datagrams only gets these, and so does
//! one that has used neither and says in its keep-alive that it does not read the other (bit V). What a peer has shown
//! outweighs what a keep-alive says: one that is forged must not turn a stream to librist, which tells nothing and reads
//! reduced overhead only, into something that it ignores.

use super::Role;
use super::content::Wrap;
use crate::wire::datagram::Addresses;
use crate::wire::gre::Protocol;

/// The setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encapsulation {
    /// Virtual ports, 4 bytes in front of RTP; whole IP datagrams only towards a peer that reads nothing else.
    #[default]
    ReducedOverhead,
    /// Whole IP datagrams between these addresses, 28 bytes more (48 with IPv6) less the virtual ports.
    FullDatagram(Addresses),
}

impl Encapsulation {
    /// Whole IPv4 datagrams between the addresses that are set aside for the ends of a tunnel that have none (RFC 6333):
    /// 192.0.0.2 is who calls, 192.0.0.1 who listens.
    pub const fn full_datagram(role: Role) -> Self {
        Self::FullDatagram(default_addresses(role))
    }
}

const fn default_addresses(role: Role) -> Addresses {
    const LISTENS: [u8; 4] = [192, 0, 0, 1];
    const CALLS: [u8; 4] = [192, 0, 0, 2];
    match role {
        Role::Client => Addresses::V4 { source: CALLS, destination: LISTENS },
        Role::Server => Addresses::V4 { source: LISTENS, destination: CALLS },
    }
}

/// What the peer has shown and said of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerWraps {
    /// It has used reduced overhead.
    reduced: bool,
    /// Its last whole datagram, and under which GRE protocol type that came.
    full: Option<(Protocol, Addresses)>,
    /// Its last keep-alive has no bit V.
    pub refuses_reduced: bool,
}

impl PeerWraps {
    pub(super) fn learn(&mut self, protocol: Protocol, wrap: Wrap) {
        match wrap {
            Wrap::Reduced => self.reduced = true,
            Wrap::Full(addresses) => self.full = Some((protocol, addresses)),
        }
    }

    /// How to wrap what goes to it: the addresses of a whole datagram and its GRE protocol type, or `None` for reduced overhead.
    pub(super) fn choose(&self, own: Encapsulation, role: Role) -> Option<(Protocol, Addresses)> {
        let back = self.full.map(|(protocol, addresses)| (protocol, addresses.reversed()));
        match own {
            Encapsulation::FullDatagram(addresses) => Some((protocol_of(addresses), addresses)),
            Encapsulation::ReducedOverhead if self.reduced => None,
            Encapsulation::ReducedOverhead if self.refuses_reduced => {
                let addresses = default_addresses(role);
                Some(back.unwrap_or((protocol_of(addresses), addresses)))
            }
            Encapsulation::ReducedOverhead => back,
        }
    }
}

const fn protocol_of(addresses: Addresses) -> Protocol {
    match addresses {
        Addresses::V4 { .. } => Protocol::Ip,
        Addresses::V6 { .. } => Protocol::Ipv6,
    }
}
