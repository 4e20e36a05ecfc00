//! VSF EtherType header (TR-06-2 section 5.2, 0xCCE0): names the content of a GRE packet of revision 2.

use super::reader::Reader;
use super::{Output, WireError};

/// Bytes of the header.
pub const BYTES: usize = 4;
const TYPE_RIST: u16 = 0;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VsfSubtype {
    /// A reduced-overhead datagram, 0x0000.
    ReducedOverhead,
    /// A keep-alive, 0x8000.
    KeepAlive,
    /// The nonce that the sender will use next, 0x8001.
    FutureNonce,
    /// librist's buffer negotiation, 0x8002.
    BufferNegotiation,
    /// Anything else, to be ignored.
    Other(u16),
}

impl VsfSubtype {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::ReducedOverhead => 0x0000,
            Self::KeepAlive => 0x8000,
            Self::FutureNonce => 0x8001,
            Self::BufferNegotiation => 0x8002,
            Self::Other(code) => code,
        }
    }

    /// The meaning of a number on the wire.
    pub const fn from_code(code: u16) -> Self {
        match code {
            0x0000 => Self::ReducedOverhead,
            0x8000 => Self::KeepAlive,
            0x8001 => Self::FutureNonce,
            0x8002 => Self::BufferNegotiation,
            other => Self::Other(other),
        }
    }

    /// Splits the header from what it announces.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or [`WireError::Field`] when the protocol is not RIST's.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        const WHAT: &str = "a VSF header";
        let mut reader = Reader::new(WHAT, bytes);
        let kind = reader.u16()?;
        if kind != TYPE_RIST {
            return Err(WireError::Field { what: WHAT, field: "type", value: u32::from(kind) });
        }
        let subtype = Self::from_code(reader.u16()?);
        Ok((subtype, reader.rest()))
    }

    /// Appends the header.
    pub fn emit(self, out: &mut impl Output) {
        out.put(&TYPE_RIST.to_be_bytes());
        out.put(&self.code().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(code: u16, tail: [u8; 2]) {
            let subtype = VsfSubtype::from_code(code);
            let mut out = Vec::new();
            subtype.emit(&mut out);
            out.extend_from_slice(&tail);
            prop_assert_eq!(subtype.code(), code);
            prop_assert_eq!(VsfSubtype::parse(&out), Ok((subtype, &tail[..])));
            out[1] = 1;
            let foreign = VsfSubtype::parse(&out);
            prop_assert_eq!(foreign, Err(WireError::Field { what: "a VSF header", field: "type", value: 1 }));
        }
    }
}
