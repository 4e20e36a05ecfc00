//! Round-trip echo (TR-06-1 section 5.2.6).

use super::{PT_APP, RIST_NAME, app::App, begin, finish};
use crate::wire::WireError;
use crate::wire::reader::Reader;

/// The most padding that is echoed, in bytes: an echo must not become an amplifier or a fragment.
const PADDING_BYTES_MAX: usize = 1200;

/// Which way an [`Echo`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoKind {
    /// Subtype 2.
    Request,
    /// Subtype 3.
    Response,
}

/// An echo request, or the response that repeats its SSRC, time and padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Echo {
    /// SSRC of the requester, in both directions.
    pub ssrc: u32,
    /// The requester's time in its own terms; opaque to the responder.
    pub timestamp: u64,
    /// Microseconds between request and response inside the responder. Meaningless in requests: librist 0.2.7 leaves
    /// stale bytes there.
    pub processing_delay_us: u32,
    /// Bytes of padding that followed, whole words; the response carries as many.
    pub padding_bytes: u16,
}

impl Echo {
    pub(super) fn from_app(app: &App<'_>) -> Result<Self, WireError> {
        let mut reader = Reader::new("an echo", app.body);
        Ok(Self {
            ssrc: app.ssrc,
            timestamp: reader.u64()?,
            processing_delay_us: reader.u32()?,
            padding_bytes: reader.rest().len().min(PADDING_BYTES_MAX) as u16,
        })
    }

    /// The response to this request, `processing_delay_us` after it came.
    #[must_use]
    pub const fn response(self, processing_delay_us: u32) -> Self {
        Self { processing_delay_us, ..self }
    }

    /// Appends the echo, 24 bytes and its padding.
    pub fn emit(&self, kind: EchoKind, out: &mut Vec<u8>) {
        let subtype = match kind {
            EchoKind::Request => 2,
            EchoKind::Response => 3,
        };
        let start = begin(subtype, PT_APP, out);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&RIST_NAME);
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.processing_delay_us.to_be_bytes());
        out.resize(out.len() + usize::from(self.padding_bytes), 0);
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
    fn the_answer_to_librists_request_is_what_librist_answers() {
        let request = unhex("82cc000503b7047e5249535483aa842da8e9160700000000");
        let Some(Ok(RtcpPacket::EchoRequest(echo))) = packets(&request).next() else { panic!("no request") };
        assert_eq!((echo.ssrc, echo.timestamp), (0x03b7_047e, 0x83aa_842d_a8e9_1607));
        let mut out = Vec::new();
        echo.response(0).emit(EchoKind::Response, &mut out);
        assert_eq!(out, unhex("83cc000503b7047e5249535483aa842da8e9160700000000"));
    }

    proptest! {
        #[test]
        fn echoes_parse_back(ssrc: u32, timestamp: u64, processing_delay_us: u32, padding_words in 0..=300u16, response: bool) {
            let echo = Echo { ssrc, timestamp, processing_delay_us, padding_bytes: padding_words * 4 };
            let kind = if response { EchoKind::Response } else { EchoKind::Request };
            let mut out = Vec::new();
            echo.emit(kind, &mut out);
            let expected = if response { RtcpPacket::EchoResponse(echo) } else { RtcpPacket::EchoRequest(echo) };
            prop_assert_eq!(packets(&out).next(), Some(Ok(expected)));
        }
    }
}
