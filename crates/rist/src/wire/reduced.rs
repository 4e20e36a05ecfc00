//! Reduced-overhead header (TR-06-2 section 5.3): the virtual UDP ports in front of a tunnelled datagram.

use super::reader::Reader;
use super::{Output, WireError};

/// Bytes of the header.
pub const BYTES: usize = 4;

/// Virtual ports of a tunnelled datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReducedHeader {
    /// Virtual source port.
    pub source: u16,
    /// Virtual destination port: even for media, odd for the RTCP of the flow one below.
    pub destination: u16,
}

impl ReducedHeader {
    /// Splits the header from the datagram it carries.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for less than [`BYTES`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut reader = Reader::new("a reduced-overhead header", bytes);
        let header = Self { source: reader.u16()?, destination: reader.u16()? };
        Ok((header, reader.rest()))
    }

    /// Appends the header.
    pub fn emit(&self, out: &mut impl Output) {
        out.put(&self.source.to_be_bytes());
        out.put(&self.destination.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(source: u16, destination: u16, tail: [u8; 2]) {
            let header = ReducedHeader { source, destination };
            let mut out = Vec::new();
            header.emit(&mut out);
            out.extend_from_slice(&tail);
            prop_assert_eq!(ReducedHeader::parse(&out), Ok((header, &tail[..])));
            prop_assert!(ReducedHeader::parse(&out[..3]).is_err());
        }
    }
}
