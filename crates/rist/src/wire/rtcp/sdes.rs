//! Source description with a canonical name (RFC 3550 section 6.5).

use super::{PT_SDES, begin, finish};
use crate::wire::WireError;
use crate::wire::reader::Reader;

/// The longest canonical name written, in bytes; librist keeps 127.
pub const CNAME_BYTES_MAX: usize = 127;

const ITEM_END: u8 = 0;
const ITEM_CNAME: u8 = 1;

/// The first chunk of a source description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdes<'a> {
    /// The SSRC described.
    pub ssrc: u32,
    /// Its canonical name, bytes as sent (a label, not necessarily UTF-8); empty when there is none.
    pub cname: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a source description", body);
        let ssrc = reader.u32()?;
        while !matches!(reader.rest(), [] | [ITEM_END, ..]) {
            let kind = reader.u8()?;
            let bytes = usize::from(reader.u8()?);
            let text = reader.take(bytes)?;
            if kind == ITEM_CNAME {
                return Ok(Self { ssrc, cname: text });
            }
        }
        Ok(Self { ssrc, cname: &[] })
    }

    /// Appends the description; a name longer than [`CNAME_BYTES_MAX`] is cut.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let cname = &self.cname[..self.cname.len().min(CNAME_BYTES_MAX)];
        let start = begin(1, PT_SDES, out);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&[ITEM_CNAME, cname.len() as u8]);
        out.extend_from_slice(cname);
        out.push(ITEM_END);
        finish(start, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RtcpPacket, packets};
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn the_captured_name_parses_and_emits() {
        let bytes = unhex("81ca000303b7047e010573656e644100");
        let sdes = Sdes { ssrc: 0x03b7_047e, cname: b"sendA" };
        assert_eq!(packets(&bytes).next(), Some(Ok(RtcpPacket::Sdes(sdes))));
        let mut out = Vec::new();
        sdes.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn other_items_are_skipped_and_lying_lengths_refused() {
        let tool_first = unhex("81ca0003000000010601780102686900");
        assert_eq!(packets(&tool_first).next(), Some(Ok(RtcpPacket::Sdes(Sdes { ssrc: 1, cname: b"hi" }))));
        assert!(matches!(packets(&unhex("81ca00020000000101ff7879")).next(), Some(Err(WireError::Truncated { .. }))));
        assert_eq!(
            packets(&unhex("81ca000100000005")).next(),
            Some(Ok(RtcpPacket::Sdes(Sdes { ssrc: 5, cname: &[] })))
        );
    }

    proptest! {
        #[test]
        fn names_parse_back(ssrc: u32, cname in proptest::collection::vec(any::<u8>(), 0..=CNAME_BYTES_MAX)) {
            let sdes = Sdes { ssrc, cname: &cname };
            let mut out = Vec::new();
            sdes.emit(&mut out);
            prop_assert_eq!(out.len(), (10 + cname.len() + 1).div_ceil(4) * 4);
            prop_assert_eq!(packets(&out).next(), Some(Ok(RtcpPacket::Sdes(sdes))));
        }
    }
}
