//! What a GRE packet carries, and whether a right key can have made it.

use super::TunnelError;
use crate::wire::buffer_negotiation::BufferNegotiation;
use crate::wire::gre::Protocol;
use crate::wire::keepalive::KeepAlive;
use crate::wire::reduced::ReducedHeader;
use crate::wire::rtp::is_rtcp;
use crate::wire::vsf::VsfSubtype;
use crate::wire::{WireError, rtcp};

/// The content of a datagram, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Media { ports: ReducedHeader, rtp: &'a [u8] },
    Rtcp { ports: ReducedHeader, compound: &'a [u8] },
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
            Protocol::Ip => Ok(Self::OutOfBand(body)),
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
        if is_rtcp(datagram) {
            Ok(Self::Rtcp { ports, compound: datagram })
        } else {
            Ok(Self::Media { ports, rtp: datagram })
        }
    }

    /// How much a decrypted content proves that the key was right.
    pub(super) fn evidence(&self, protocol: Protocol) -> Evidence {
        let genuine = match self {
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
            Self::OutOfBand(ip) => is_ipv4(ip),
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

fn is_ipv4(bytes: &[u8]) -> bool {
    matches!(bytes, [0x45, _, high, low, ..] if usize::from(u16::from_be_bytes([*high, *low])) == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_rtp_as_rist_makes_it_proves_a_key() {
        let ports = ReducedHeader { source: 1, destination: 2 };
        let evidence = |rtp: &[u8]| Content::Media { ports, rtp }.evidence(Protocol::ReducedOverhead);
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
