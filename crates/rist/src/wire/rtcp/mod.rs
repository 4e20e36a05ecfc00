//! RTCP compounds (RFC 3550, TR-06-1 section 5.2, TR-06-2 section 8): one file a message.
//!
//! [`packets`] walks a compound; each message type has an `emit` that appends to the caller's buffer. Statistics in
//! receiver reports of librist are zero or stale: never trust them. What a request of GStreamer's shrinks to is read too
//! ([`headless`]).

mod app;
mod echo;
mod headless;
mod nack;
mod report;
mod sdes;
mod xr;

pub use app::App;
pub use echo::{Echo, EchoKind};
pub use nack::{BitmaskEntry, ExtendedSequence, NACK_ENTRIES_MAX, NackBitmask, NackRange, RangeEntry};
pub use report::{ReceiverReport, ReportBlock, SenderReport};
pub use sdes::{CNAME_BYTES_MAX, Sdes};
pub use xr::{DelayBlock, Xr};

use super::reader::Reader;
use super::{Entries, WireError};

/// The most packets read from one compound; a datagram of empty packets cannot cost more than this.
pub const COMPOUND_PACKETS_MAX: usize = 32;
/// The name in RIST's own APP and feedback messages.
pub const RIST_NAME: [u8; 4] = *b"RIST";

const WHAT: &str = "an RTCP packet";
const PT_SR: u8 = 200;
const PT_RR: u8 = 201;
const PT_SDES: u8 = 202;
const PT_APP: u8 = 204;
const PT_RTPFB: u8 = 205;
const PT_XR: u8 = 207;
/// What newer librist writes instead of 207.
const PT_XR_LIBRIST: u8 = 77;

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// Type 200.
    SenderReport(SenderReport),
    /// Type 201, with any number of blocks and perhaps a link quality message.
    ReceiverReport(ReceiverReport<'a>),
    /// Type 202.
    Sdes(Sdes<'a>),
    /// Type 205, format 1: lost packets as bit masks.
    NackBitmask(NackBitmask<'a>),
    /// Type 204 "RIST", subtype 0: lost packets as ranges.
    NackRange(NackRange<'a>),
    /// Lost packets as ranges without a header, at the end of a compound of GStreamer's; of the flow it has.
    HeadlessRanges(Entries<'a, RangeEntry>),
    /// Type 204 "RIST", subtype 1: upper half of the sequence numbers in the NACKs that follow.
    ExtendedSequence(ExtendedSequence),
    /// Type 204 "RIST", subtype 2 (request).
    EchoRequest(Echo),
    /// Type 204 "RIST", subtype 3 (response).
    EchoResponse(Echo),
    /// Type 207 (or librist's 77).
    Xr(Xr<'a>),
    /// Type 204 with any other name or subtype.
    App(App<'a>),
    /// Anything else, well framed.
    Unknown {
        /// RTCP packet type.
        packet_type: u8,
        /// Count or subtype field, 0 to 31.
        count: u8,
        /// Everything after the 4-byte header.
        body: &'a [u8],
    },
}

/// Packets of a compound in order. After a framing error the walk ends; a packet that is framed well but wrong inside
/// yields its error and the walk goes on.
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound, seen: 0, described: false }
}

/// True when `compound` is a whole number of well-framed RTCP packets, whatever is in them: what garbage from a wrong
/// key is not.
pub fn is_plausible(compound: &[u8]) -> bool {
    let mut rest = compound;
    for _ in 0..COMPOUND_PACKETS_MAX {
        match Frame::split(rest) {
            Ok((_, [])) => return true,
            Ok((_, after)) => rest = after,
            Err(_) => return false,
        }
    }
    false
}

/// Iterator made by [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
    seen: usize,
    /// The last packet was a source description.
    described: bool,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<RtcpPacket<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.seen == COMPOUND_PACKETS_MAX {
            self.rest = &[];
            return Some(Err(WireError::CompoundTooLong));
        }
        self.seen += 1;
        if self.described
            && let Some(ranges) = headless::ranges(self.rest)
        {
            self.rest = &[];
            return Some(Ok(RtcpPacket::HeadlessRanges(ranges)));
        }
        match Frame::split(self.rest) {
            Ok((frame, rest)) => {
                self.rest = rest;
                self.described = frame.packet_type == PT_SDES;
                Some(frame.parse())
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The common header taken off.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let [flags, packet_type] = reader.array()?;
        if flags >> 6 != 2 {
            return Err(WireError::Version { what: WHAT, got: flags >> 6 });
        }
        let words = usize::from(reader.u16()?);
        let body = reader.take(words * 4)?;
        Ok((Self { count: flags & 0x1f, packet_type, body }, reader.rest()))
    }

    fn parse(self) -> Result<RtcpPacket<'a>, WireError> {
        match (self.packet_type, self.count) {
            (PT_SR, _) => SenderReport::parse(self.body).map(RtcpPacket::SenderReport),
            (PT_RR, blocks) => ReceiverReport::parse(blocks, self.body).map(RtcpPacket::ReceiverReport),
            (PT_SDES, _) => Sdes::parse(self.body).map(RtcpPacket::Sdes),
            (PT_RTPFB, 1) => NackBitmask::parse(self.body).map(RtcpPacket::NackBitmask),
            (PT_APP, subtype) => self.parse_app(subtype),
            (PT_XR | PT_XR_LIBRIST, _) => Xr::parse(self.body).map(RtcpPacket::Xr),
            (packet_type, count) => Ok(RtcpPacket::Unknown { packet_type, count, body: self.body }),
        }
    }

    fn parse_app(self, subtype: u8) -> Result<RtcpPacket<'a>, WireError> {
        let app = App::parse(subtype, self.body)?;
        if app.name != RIST_NAME {
            return Ok(RtcpPacket::App(app));
        }
        match subtype {
            0 => Ok(RtcpPacket::NackRange(NackRange::from_app(&app))),
            1 => ExtendedSequence::from_app(&app).map(RtcpPacket::ExtendedSequence),
            2 => Echo::from_app(&app).map(RtcpPacket::EchoRequest),
            3 => Echo::from_app(&app).map(RtcpPacket::EchoResponse),
            _ => Ok(RtcpPacket::App(app)),
        }
    }
}

/// Appends the common header with room for the length; [`finish`] fills it in.
fn begin(count: u8, packet_type: u8, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count & 0x1f, packet_type, 0, 0]);
    start
}

/// Pads the packet begun at `start` to whole words and writes its length.
fn finish(start: usize, out: &mut Vec<u8>) {
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    fn kinds(hex: &str) -> Vec<&'static str> {
        packets(&unhex(hex))
            .map(|packet| match packet.unwrap() {
                RtcpPacket::SenderReport(_) => "SR",
                RtcpPacket::ReceiverReport(_) => "RR",
                RtcpPacket::Sdes(_) => "SDES",
                RtcpPacket::NackBitmask(_) => "bitmask",
                RtcpPacket::NackRange(_) => "range",
                RtcpPacket::HeadlessRanges(_) => "headless",
                RtcpPacket::ExtendedSequence(_) => "EXTSEQ",
                RtcpPacket::EchoRequest(_) => "request",
                RtcpPacket::EchoResponse(_) => "response",
                RtcpPacket::Xr(_) => "XR",
                RtcpPacket::App(_) => "APP",
                RtcpPacket::Unknown { .. } => "unknown",
            })
            .collect()
    }

    #[test]
    fn the_walk_names_each_block_of_librists_compounds() {
        assert_eq!(
            kinds("80c8000603b7047eeeab79d31833dc0bdb24f440000000000000000081ca000303b7047e010573656e644100"),
            ["SR", "SDES"]
        );
        assert_eq!(
            kinds(
                "81c9000703b7047e0000000000000000000000000000000000000000842da8fe81ca000303b7047e0105726563764100\
                 80cf0004d04dd7df0400000283aa842da8fedf4782cc0005d04dd7df5249535483aa842da8fedfc800000000"
            ),
            ["RR", "SDES", "XR", "request"]
        );
    }

    #[test]
    fn an_endless_compound_is_cut_off() {
        let compound = unhex("80c9000100000001").repeat(COMPOUND_PACKETS_MAX + 5);
        let results: Vec<_> = packets(&compound).collect();
        assert_eq!(results.len(), COMPOUND_PACKETS_MAX + 1);
        assert_eq!(results[COMPOUND_PACKETS_MAX], Err(WireError::CompoundTooLong));
        assert!(!is_plausible(&compound));
    }

    #[test]
    fn a_bad_packet_inside_good_framing_does_not_hide_the_next() {
        let compound = unhex("80c800010000000180c9000100000002");
        let results: Vec<_> = packets(&compound).collect();
        assert!(matches!(results[0], Err(WireError::Truncated { .. })));
        assert!(is_plausible(&compound));
        assert!(matches!(results[1], Ok(RtcpPacket::ReceiverReport(report)) if report.ssrc == 2));
        let cut = unhex("80c900010000000180c9000200000002");
        let results: Vec<_> = packets(&cut).collect();
        assert_eq!(results[1], Err(WireError::Truncated { what: WHAT, need: 12, got: 8 }));
        assert_eq!(results.len(), 2);
        assert!(!is_plausible(&cut) && !is_plausible(&[]));
    }

    #[test]
    fn an_unknown_type_is_kept_whole() {
        let compound = unhex("83c0000101020304");
        assert_eq!(
            packets(&compound).next(),
            Some(Ok(RtcpPacket::Unknown { packet_type: 192, count: 3, body: &[1, 2, 3, 4] }))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            prop_assert!(packets(&bytes).count() <= COMPOUND_PACKETS_MAX + 1);
        }

        #[test]
        fn arbitrary_bodies_of_known_types_never_panic(
            count in 0..32u8, kind in proptest::sample::select(vec![200u8, 201, 202, 204, 205, 207, 77]), named: bool,
            mut body in proptest::collection::vec(any::<u8>(), 0..96)
        ) {
            if named && body.len() >= 8 {
                body[4..8].copy_from_slice(&RIST_NAME);
            }
            let mut bytes = Vec::new();
            let start = begin(count, kind, &mut bytes);
            bytes.extend_from_slice(&body);
            finish(start, &mut bytes);
            prop_assert_eq!(packets(&bytes).count(), 1);
            if let Some(Ok(packet)) = packets(&bytes).next() {
                let _ = format!("{packet:?}");
            }
        }
    }
}
