//! Application-defined packets (RFC 3550 section 6.7).

use super::{PT_APP, begin, finish};
use crate::wire::WireError;
use crate::wire::reader::Reader;

/// An APP packet that is none of RIST's own. Our messages use a name of their own and a subtype of 4 or more, because
/// librist does not look at the name of subtypes 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App<'a> {
    /// 0 to 31.
    pub subtype: u8,
    /// The sender's (or the media's) SSRC.
    pub ssrc: u32,
    /// Four characters.
    pub name: [u8; 4],
    /// A whole number of 32-bit words.
    pub body: &'a [u8],
}

impl<'a> App<'a> {
    pub(super) fn parse(subtype: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("an APP packet", body);
        Ok(Self { subtype, ssrc: reader.u32()?, name: reader.array()?, body: reader.rest() })
    }

    /// Appends the packet; a body that is no whole number of words is padded with zeros.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = begin(self.subtype, PT_APP, out);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(self.body);
        finish(start, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RtcpPacket, packets};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packets_parse_back(
            subtype in 4..32u8, ssrc: u32, name: [u8; 4], words in proptest::collection::vec(any::<[u8; 4]>(), 0..16)
        ) {
            let body = words.concat();
            let app = App { subtype, ssrc, name, body: &body };
            let mut out = Vec::new();
            app.emit(&mut out);
            prop_assert_eq!(packets(&out).next(), Some(Ok(RtcpPacket::App(app))));
        }
    }
}
