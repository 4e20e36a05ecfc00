//! RTP packets (RFC 3550, TR-06-1 section 5.1) and RIST's header extension (TR-06-2 section 8).
//!
//! Refuses: RTP versions other than 2, padding or extensions longer than the packet. Contributing sources and header
//! extensions other than RIST's are skipped.

use super::reader::Reader;
use super::{Output, WireError};

/// Bytes of the RTP header without extension.
pub const HEADER_BYTES: usize = 12;
/// Bytes that [`RistExtension`] adds to the header.
pub const EXTENSION_BYTES: usize = 8;
/// The payload type of MPEG transport streams (RFC 3551); librist uses it for everything.
pub const PAYLOAD_TYPE_MPEG_TS: u8 = 33;
/// Ticks per second of the timestamp of [`PAYLOAD_TYPE_MPEG_TS`].
pub const CLOCK_HZ: u32 = 90_000;
/// The SSRC bit that tells a retransmission (1) from an original (0).
pub const SSRC_RETRANSMIT: u32 = 1;

const WHAT: &str = "an RTP packet";
const EXTENSION_ID: u16 = u16::from_be_bytes(*b"RI");
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;

/// What stands before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpHeader {
    /// The marker bit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number of the flow.
    pub sequence: u16,
    /// Media time in ticks of the payload type's clock, 90 kHz for MPEG-TS.
    pub timestamp: u32,
    /// The flow's SSRC as on the wire: its lowest bit marks a retransmission, see [`RtpHeader::flow`].
    pub ssrc: u32,
    /// RIST's header extension, when the packet has one.
    pub extension: Option<RistExtension>,
}

impl RtpHeader {
    /// The SSRC without the retransmission bit.
    pub const fn flow(&self) -> u32 {
        self.ssrc & !SSRC_RETRANSMIT
    }

    /// True for a retransmission.
    pub const fn is_retransmit(&self) -> bool {
        self.ssrc & SSRC_RETRANSMIT != 0
    }

    /// Appends header, extension and `payload` to `out`.
    pub fn emit(&self, payload: &[u8], out: &mut impl Output) {
        let mut head = [0; HEADER_BYTES];
        head[0] = if self.extension.is_some() { 0x80 | EXTENSION } else { 0x80 };
        head[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        head[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        head[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        head[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        out.put(&head);
        if let Some(extension) = self.extension {
            extension.emit(out);
        }
        out.put(payload);
    }
}

/// RIST's RTP header extension: null-packet deletion and the upper half of a 32-bit sequence number.
///
/// Layout after the RTP header: `52 49 00 01`, flags 1 (N 0x80, E 0x40, size bits 5-3), mask 1 (T 0x80, seven NPD bits),
/// sequence extension 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RistExtension {
    /// Which TS packets were deleted; `None` when null deletion is not in use (N = 0).
    pub null_deletion: Option<NullDeletion>,
    /// The upper 16 bits of the sequence number (E = 1).
    pub sequence_high: Option<u16>,
}

/// The null-deletion part of [`RistExtension`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NullDeletion {
    /// TS packets of the original payload, 1 to 7; 0 when the receiver has to infer it from mask and payload size.
    pub packets: u8,
    /// True for TS packets of 204 bytes instead of 188.
    pub long_packets: bool,
    /// Seven bits, the first TS packet in bit 6: 1 where a null packet was removed.
    pub mask: u8,
}

impl RistExtension {
    fn parse(body: [u8; 4]) -> Self {
        let [flags, mask, high0, high1] = body;
        Self {
            null_deletion: (flags & 0x80 != 0).then_some(NullDeletion {
                packets: flags >> 3 & 7,
                long_packets: mask & 0x80 != 0,
                mask: mask & 0x7f,
            }),
            sequence_high: (flags & 0x40 != 0).then_some(u16::from_be_bytes([high0, high1])),
        }
    }

    fn emit(self, out: &mut impl Output) {
        let mut flags = 0;
        let mut mask = 0;
        if let Some(deletion) = self.null_deletion {
            flags |= 0x80 | (deletion.packets & 7) << 3;
            mask = u8::from(deletion.long_packets) << 7 | deletion.mask & 0x7f;
        }
        if self.sequence_high.is_some() {
            flags |= 0x40;
        }
        out.put(&EXTENSION_ID.to_be_bytes());
        out.put(&[0, 1, flags, mask]);
        out.put(&self.sequence_high.unwrap_or(0).to_be_bytes());
    }
}

/// A parsed RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The header.
    pub header: RtpHeader,
    /// The payload without padding, with null packets still deleted.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Parses a whole packet.
    ///
    /// # Errors
    /// [`WireError`] when the packet is shorter than its parts or not RTP version 2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let [flags, kind] = reader.array()?;
        if flags >> 6 != 2 {
            return Err(WireError::Version { what: WHAT, got: flags >> 6 });
        }
        let mut header = RtpHeader {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: reader.u16()?,
            timestamp: reader.u32()?,
            ssrc: reader.u32()?,
            extension: None,
        };
        reader.take(usize::from(flags & 0x0f) * 4)?;
        if flags & EXTENSION != 0 {
            let id = reader.u16()?;
            let words = usize::from(reader.u16()?);
            let body = reader.take(words * 4)?;
            if id == EXTENSION_ID
                && let Some(first) = body.first_chunk()
            {
                header.extension = Some(RistExtension::parse(*first));
            }
        }
        let payload = if flags & PADDING == 0 { reader.rest() } else { without_padding(reader.rest())? };
        Ok(Self { header, payload })
    }
}

fn without_padding(bytes: &[u8]) -> Result<&[u8], WireError> {
    let padding = usize::from(bytes.last().copied().unwrap_or(0));
    match bytes.len().checked_sub(padding) {
        Some(payload) if padding > 0 => Ok(&bytes[..payload]),
        _ => Err(WireError::Field { what: WHAT, field: "padding", value: padding as u32 }),
    }
}

/// True when a datagram that shares its port with RTP is RTCP: the payload types 64 to 95 (without the marker bit) that
/// RFC 5761 section 4 sets aside, which contain every RTCP type from 192 to 223 and librist's raw 77.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [_, kind, ..] if (64..=95).contains(&(kind & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn librist_media_and_its_retransmission_differ_only_in_the_ssrc_bit() {
        let original = unhex("8021001dddeaee8bbbc14bb252495354544553543030303030303239");
        let packet = RtpPacket::parse(&original).unwrap();
        assert_eq!(packet.header.payload_type, PAYLOAD_TYPE_MPEG_TS);
        assert_eq!((packet.header.sequence, packet.header.timestamp), (29, 0xddea_ee8b));
        assert_eq!((packet.header.flow(), packet.header.is_retransmit()), (0xbbc1_4bb2, false));
        assert_eq!(packet.payload, b"RISTTEST00000029");
        let mut out = Vec::new();
        packet.header.emit(packet.payload, &mut out);
        assert_eq!(out, original);
        let copy = RtpHeader { ssrc: packet.header.ssrc | SSRC_RETRANSMIT, ..packet.header };
        assert_eq!((copy.flow(), copy.is_retransmit()), (0xbbc1_4bb2, true));
    }

    #[test]
    fn padding_sources_and_foreign_extensions_are_skipped() {
        let bytes = unhex("b1210001000000020000000400000009beef0001aabbccdd0102030003");
        let packet = RtpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.payload, packet.header.extension), (&[1, 2][..], None));
        let zero = unhex("a0210001000000020000000400");
        assert!(matches!(RtpPacket::parse(&zero), Err(WireError::Field { field: "padding", .. })));
        assert_eq!(
            RtpPacket::parse(&bytes[..18]),
            Err(WireError::Truncated { what: WHAT, need: 20, got: 18 }),
            "the extension header is cut"
        );
        assert_eq!(RtpPacket::parse(&[0x40, 33]), Err(WireError::Version { what: WHAT, got: 1 }));
    }

    pub(crate) fn header() -> impl Strategy<Value = RtpHeader> {
        let deletion = (0..8u8, any::<bool>(), 0..128u8).prop_map(|(packets, long_packets, mask)| NullDeletion {
            packets,
            long_packets,
            mask,
        });
        let extension = (proptest::option::of(deletion), any::<Option<u16>>())
            .prop_map(|(null_deletion, sequence_high)| RistExtension { null_deletion, sequence_high });
        (any::<bool>(), 0..128u8, any::<u16>(), any::<u32>(), any::<u32>(), proptest::option::of(extension)).prop_map(
            |(marker, payload_type, sequence, timestamp, ssrc, extension)| RtpHeader {
                marker,
                payload_type,
                sequence,
                timestamp,
                ssrc,
                extension,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(header in header(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = vec![0xee];
            header.emit(&payload, &mut out);
            prop_assert_eq!(RtpPacket::parse(&out[1..]), Ok(RtpPacket { header, payload: &payload }));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = RtpPacket::parse(&bytes);
        }
    }
}
