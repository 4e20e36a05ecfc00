//! GRE-over-UDP header (TR-06-2 section 5.1).
//!
//! ```text
//! byte 0: C 0x80 checksum | 0x40 must be 0 | K 0x20 key | S 0x10 sequence | 0x0f ignored
//! byte 1: H 0x40 AES-256 | RV 0x38 revision | 0x07 must be 0
//! bytes 2-3: protocol type; then, each when its bit is set: checksum 4, nonce 4, sequence 4
//! ```

use super::reader::Reader;
use super::{Output, WireError};

/// The longest header this end writes, in bytes: with nonce and sequence.
pub const HEADER_BYTES_MAX: usize = 12;
/// The highest revision that is read as revision 2; above that a packet must be discarded.
pub const REVISION_MAX: u8 = 4;

const WHAT: &str = "a GRE header";
const CHECKSUM: u8 = 0x80;
const ROUTING: u8 = 0x40;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
const AES_256: u8 = 0x40;

/// What the GRE packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// 0x88B6: reduced-overhead datagram, revisions 0 and 1.
    ReducedOverhead,
    /// 0x88B5: keep-alive, revisions 0 and 1.
    KeepAlive,
    /// 0xCCE0: VSF header, revision 2 and up.
    Vsf,
    /// 0x0800: a whole IP datagram, of full-datagram mode or librist's out-of-band channel.
    Ip,
    /// 0x86DD: a whole IPv6 datagram (RFC 7676).
    Ipv6,
    /// 0x888E: EAP over LAN, never encrypted.
    Eapol,
    /// Anything else, to be ignored.
    Other(u16),
}

impl Protocol {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::ReducedOverhead => 0x88b6,
            Self::KeepAlive => 0x88b5,
            Self::Vsf => 0xcce0,
            Self::Ip => 0x0800,
            Self::Ipv6 => 0x86dd,
            Self::Eapol => 0x888e,
            Self::Other(code) => code,
        }
    }

    /// The meaning of a number on the wire.
    pub const fn from_code(code: u16) -> Self {
        match code {
            0x88b6 => Self::ReducedOverhead,
            0x88b5 => Self::KeepAlive,
            0xcce0 => Self::Vsf,
            0x0800 => Self::Ip,
            0x86dd => Self::Ipv6,
            0x888e => Self::Eapol,
            other => Self::Other(other),
        }
    }
}

/// A GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreHeader {
    /// RIST revision of the tunnel, 0 to 7.
    pub revision: u8,
    /// The H bit: AES-256 when [`GreHeader::nonce`] is there and the revision is 1 or more.
    pub aes_256: bool,
    /// What follows.
    pub protocol: Protocol,
    /// The nonce of encryption; `None` in the clear.
    pub nonce: Option<[u8; 4]>,
    /// Sequence number of this tunnel; librist 0.2.7 omits it in the clear.
    pub sequence: Option<u32>,
}

impl GreHeader {
    /// Splits the header from what it carries.
    ///
    /// # Errors
    /// [`WireError`] when it is cut, or a bit is set that must be 0, or the revision is one that must be discarded.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let [flags, version] = reader.array()?;
        if flags & ROUTING != 0 {
            return Err(WireError::Field { what: WHAT, field: "flags", value: u32::from(flags) });
        }
        if version & 0x07 != 0 {
            return Err(WireError::Version { what: WHAT, got: version & 0x07 });
        }
        let revision = version >> 3 & 7;
        if revision > REVISION_MAX {
            return Err(WireError::Version { what: WHAT, got: revision });
        }
        let protocol = Protocol::from_code(reader.u16()?);
        if flags & CHECKSUM != 0 {
            reader.u32()?;
        }
        let header = Self {
            revision,
            aes_256: version & AES_256 != 0,
            protocol,
            nonce: if flags & KEY == 0 { None } else { Some(reader.array()?) },
            sequence: if flags & SEQUENCE == 0 { None } else { Some(reader.u32()?) },
        };
        Ok((header, reader.rest()))
    }

    /// Appends the header, at most [`HEADER_BYTES_MAX`] bytes.
    pub fn emit(&self, out: &mut impl Output) {
        let key = if self.nonce.is_some() { KEY } else { 0 };
        let sequence = if self.sequence.is_some() { SEQUENCE } else { 0 };
        let aes_256 = if self.aes_256 { AES_256 } else { 0 };
        let [high, low] = self.protocol.code().to_be_bytes();
        out.put(&[key | sequence, aes_256 | (self.revision & 7) << 3, high, low]);
        if let Some(nonce) = self.nonce {
            out.put(&nonce);
        }
        if let Some(sequence) = self.sequence {
            out.put(&sequence.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn the_headers_of_both_librist_generations_parse() {
        let bare =
            GreHeader { revision: 0, aes_256: false, protocol: Protocol::ReducedOverhead, nonce: None, sequence: None };
        assert_eq!(GreHeader::parse(&unhex("000088b6aa")), Ok((bare, &[0xaa][..])));
        let bytes = unhex("304888b6583baba600000018");
        let header = GreHeader {
            revision: 1,
            aes_256: true,
            nonce: Some([0x58, 0x3b, 0xab, 0xa6]),
            sequence: Some(0x18),
            ..bare
        };
        assert_eq!(GreHeader::parse(&bytes), Ok((header, &[][..])));
        let mut out = Vec::new();
        header.emit(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(out.len(), HEADER_BYTES_MAX);
        let (vsf, _) = GreHeader::parse(&unhex("1010cce000000007")).unwrap();
        assert_eq!((vsf.revision, vsf.protocol, vsf.sequence), (2, Protocol::Vsf, Some(7)));
    }

    #[test]
    fn reserved_bits_and_future_revisions_are_refused() {
        assert!(matches!(GreHeader::parse(&unhex("400088b6")), Err(WireError::Field { field: "flags", .. })));
        assert_eq!(GreHeader::parse(&unhex("000188b6")), Err(WireError::Version { what: WHAT, got: 1 }));
        assert_eq!(GreHeader::parse(&unhex("002888b6")), Err(WireError::Version { what: WHAT, got: 5 }));
        assert_eq!(GreHeader::parse(&unhex("0020cce0")).unwrap().0.revision, 4);
        let bytes = unhex("900888b6ffff000000000005bb");
        let (checksummed, rest) = GreHeader::parse(&bytes).unwrap();
        assert_eq!((checksummed.sequence, rest), (Some(5), &[0xbb][..]));
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(
            revision in 0..=REVISION_MAX, aes_256: bool, code: u16, nonce: Option<[u8; 4]>, sequence: Option<u32>, tail: [u8; 3]
        ) {
            let header = GreHeader { revision, aes_256, protocol: Protocol::from_code(code), nonce, sequence };
            let mut out = Vec::new();
            header.emit(&mut out);
            out.extend_from_slice(&tail);
            prop_assert_eq!(GreHeader::parse(&out), Ok((header, &tail[..])));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = GreHeader::parse(&bytes);
        }
    }
}
