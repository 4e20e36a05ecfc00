//! What a GRE packet carries, and whether a right key can have made it.

use super::TunnelError;
use crate::wire::buffer_negotiation::BufferNegotiation;
use crate::wire::datagram::{Addresses, Datagram};
use crate::wire::gre::Protocol;
use crate::wire::keepalive::KeepAlive;
use crate::wire::reduced::ReducedHeader;
use crate::wire::rtp::is_rtcp;
use crate::wire::vsf::VsfSubtype;
use crate::wire::{WireError, rtcp};

/// How media and RTCP are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrap {
    /// With virtual ports.
    Reduced,
    /// As whole IP datagrams between these.
    Full(Addresses),
}

/// The content of a datagram, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Media { ports: ReducedHeader, wrap: Wrap, rtp: &'a [u8] },
    Rtcp { ports: ReducedHeader, wrap: Wrap, compound: &'a [u8] },
    KeepAlive(KeepAlive<'a>),
    FutureNonce([u8; 4]),
    BufferNegotiation(BufferNegotiation),
    OutOfBand(&'a [u8]),
    Other,
}

impl<'a> Content<'a> {
    pub(super) fn parse(protocol: Protocol, revision: u8, body: &'a [u8]) -> Result<Self, TunnelError> {
        match protocol {
            Protocol::ReducedOverhead => Self::reduced(body),
            Protocol::KeepAlive => Ok(Self::KeepAlive(KeepAlive::parse(body)?)),
            Protocol::Vsf if revision < 2 => {
                let (what, field) = ("a GRE header", "revision of a VSF packet");
                Err(WireError::Field { what, field, value: u32::from(revision) }.into())
            }
            Protocol::Vsf => Self::vsf(body),
            Protocol::Ip | Protocol::Ipv6 => Self::full(body),
            Protocol::Eapol | Protocol::Other(_) => Ok(Self::Other),
        }
    }

    fn vsf(bytes: &'a [u8]) -> Result<Self, TunnelError> {
        let (subtype, body) = VsfSubtype::parse(bytes)?;
        match subtype {
            VsfSubtype::ReducedOverhead => Self::reduced(body),
            VsfSubtype::KeepAlive => Ok(Self::KeepAlive(KeepAlive::parse(body)?)),
            VsfSubtype::FutureNonce => match body.first_chunk() {
                Some(nonce) => Ok(Self::FutureNonce(*nonce)),
                None => Err(WireError::Truncated { what: "a future nonce", need: 4, got: body.len() }.into()),
            },
            VsfSubtype::BufferNegotiation => Ok(Self::BufferNegotiation(BufferNegotiation::parse(body)?)),
            VsfSubtype::Other(_) => Ok(Self::Other),
        }
    }

    fn reduced(bytes: &'a [u8]) -> Result<Self, TunnelError> {
        let (ports, datagram) = ReducedHeader::parse(bytes)?;
        Ok(Self::of_ports(ports, Wrap::Reduced, datagram))
    }

    fn full(bytes: &'a [u8]) -> Result<Self, TunnelError> {
        Ok(match Datagram::parse(bytes)? {
            Some(Datagram { addresses, ports, payload }) => Self::of_ports(ports, Wrap::Full(addresses), payload),
            None => Self::OutOfBand(bytes),
        })
    }

    fn of_ports(ports: ReducedHeader, wrap: Wrap, datagram: &'a [u8]) -> Self {
        if is_rtcp(datagram) {
            Self::Rtcp { ports, wrap, compound: datagram }
        } else {
            Self::Media { ports, wrap, rtp: datagram }
        }
    }

    /// True for a whole UDP datagram, which may go anywhere and carry anything.
    pub(super) const fn is_full(&self) -> bool {
        matches!(self, Self::Media { wrap: Wrap::Full(_), .. } | Self::Rtcp { wrap: Wrap::Full(_), .. })
    }

    /// How much a decrypted content proves that the key was right.
    pub(super) fn evidence(&self, protocol: Protocol) -> Evidence {
        let genuine = match self {
            // Lengths, checksums.
            _ if self.is_full() => true,
            // RIST's RTP is version 2 without padding or contributing sources; the caller checks the ports.
            Self::Media { rtp, .. } => rtp.len() >= crate::wire::rtp::HEADER_BYTES && rtp[0] & 0xef == 0x80,
            Self::Rtcp { compound, .. } => rtcp::is_plausible(compound),
            Self::KeepAlive(_) if protocol == Protocol::Vsf => true,
            Self::KeepAlive(keepalive) => match keepalive.announcement() {
                Ok(Some(_)) => true,
                // Eight bytes without structure: anything decrypts to that.
                _ => return Evidence::None,
            },
            // These come behind four bytes of VSF header that must be right.
            Self::FutureNonce(_) | Self::BufferNegotiation(_) => true,
            Self::OutOfBand(ip) => is_ip(ip),
            Self::Other => return Evidence::None,
        };
        if genuine { Evidence::Genuine } else { Evidence::Garbage }
    }
}

/// What decrypted bytes say about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Garbage of a wrong key looks like this once in millions.
    Genuine,
    /// Nothing: it may be genuine, but nothing may change because of it.
    None,
    /// A right key never makes this.
    Garbage,
}

/// A header without options, and the right length.
fn is_ip(bytes: &[u8]) -> bool {
    let length = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
    match bytes {
        [0x45, _, high, low, ..] => length(high, low) == bytes.len(),
        [0x60, 0, 0, 0, high, low, ..] => length(high, low) + 40 == bytes.len(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_rtp_as_rist_makes_it_proves_a_key() {
        let ports = ReducedHeader { source: 1, destination: 2 };
        let evidence =
            |rtp: &[u8]| Content::Media { ports, wrap: Wrap::Reduced, rtp }.evidence(Protocol::ReducedOverhead);
        for first in 0..=255u8 {
            let mut rtp = [0; 20];
            rtp[0] = first;
            // Version 2; of the other bits only that of the header extension may be set.
            let expected = if matches!(first, 0x80 | 0x90) { Evidence::Genuine } else { Evidence::Garbage };
            assert_eq!(evidence(&rtp), expected, "{first:#x}");
        }
        assert_eq!(evidence(&[0x80; 11]), Evidence::Garbage, "shorter than a header");
        assert_eq!(evidence(&[0x80; 12]), Evidence::Genuine);
    }

    proptest! {
        #[test]
        fn a_future_nonce_parses_back(nonce: [u8; 4], tail in proptest::collection::vec(any::<u8>(), 0..8), cut in 0..4usize) {
            let mut bytes = Vec::new();
            VsfSubtype::FutureNonce.emit(&mut bytes);
            let head = bytes.len();
            bytes.extend(nonce);
            let short = Content::parse(Protocol::Vsf, 2, &bytes[..head + cut]);
            let truncated = matches!(short, Err(TunnelError::Wire(WireError::Truncated { .. })));
            prop_assert!(truncated);
            bytes.extend(tail);
            prop_assert_eq!(Content::parse(Protocol::Vsf, 2, &bytes), Ok(Content::FutureNonce(nonce)));
            prop_assert!(Content::parse(Protocol::Vsf, 1, &bytes).is_err(), "no message of revision 1");
        }
    }
}
