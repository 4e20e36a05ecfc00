//! Headers of packetized elementary streams (ISO/IEC 13818-1 section 2.4.3.6).

/// Bits of a PTS or DTS.
pub const TIMESTAMP_BITS: u32 = 33;
/// Ticks of PTS and DTS in a second.
pub const TICKS_PER_SECOND: i64 = 90_000;

/// What a PES header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PesHeader {
    /// 0xe0.. is video, 0xc0.. audio, 0xbd private.
    pub stream_id: u8,
    /// Bytes of payload after the header; `None` when unbounded (video only).
    pub payload_bytes: Option<usize>,
    /// 33 bits at 90 kHz.
    pub pts: Option<u64>,
    /// 33 bits at 90 kHz; the PTS where absent.
    pub dts: Option<u64>,
    /// Bytes of the header itself.
    pub header_bytes: usize,
}

/// Reads the header at the start of `bytes`; `None` when there is none, or not all of it.
pub fn parse(bytes: &[u8]) -> Option<PesHeader> {
    let fixed = bytes.first_chunk::<9>()?;
    if fixed[..3] != [0, 0, 1] || fixed[6] & 0xc0 != 0x80 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let header_bytes = 9 + usize::from(fixed[8]);
    let optional = bytes.get(9..header_bytes)?;
    let pts = if fixed[7] & 0x80 == 0 { None } else { Some(parse_timestamp(*optional.first_chunk()?)?) };
    let dts = if fixed[7] & 0xc0 == 0xc0 { Some(parse_timestamp(*optional.get(5..)?.first_chunk()?)?) } else { pts };
    let payload_bytes = if length == 0 { None } else { Some((length + 6).checked_sub(header_bytes)?) };
    Some(PesHeader { stream_id: fixed[3], payload_bytes, pts, dts, header_bytes })
}

fn parse_timestamp(bytes: [u8; 5]) -> Option<u64> {
    let markers = bytes[0] & bytes[2] & bytes[4] & 1;
    let value = u64::from(bytes[0] & 0x0e) << 29
        | u64::from(bytes[1]) << 22
        | u64::from(bytes[2] & 0xfe) << 14
        | u64::from(bytes[3]) << 7
        | u64::from(bytes[4] >> 1);
    (markers == 1).then_some(value)
}

/// Writes a header with PTS, and DTS where it differs, for `payload_bytes` of payload.
pub fn emit(stream_id: u8, pts: u64, dts: u64, payload_bytes: usize, out: &mut Vec<u8>) {
    let optional: u8 = if pts == dts { 5 } else { 10 };
    // The length field is 16 bits; longer (video) packets are unbounded.
    let length = u16::try_from(payload_bytes + 3 + usize::from(optional)).unwrap_or(0);
    let [high, low] = length.to_be_bytes();
    out.extend_from_slice(&[0, 0, 1, stream_id, high, low, 0x84]);
    if pts == dts {
        out.extend_from_slice(&[0x80, optional]);
        emit_timestamp(2, pts, out);
    } else {
        out.extend_from_slice(&[0xc0, optional]);
        emit_timestamp(3, pts, out);
        emit_timestamp(1, dts, out);
    }
}

fn emit_timestamp(prefix: u8, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[
        prefix << 4 | (value >> 29) as u8 & 0x0e | 1,
        (value >> 22) as u8,
        (value >> 14) as u8 | 1,
        (value >> 7) as u8,
        (value << 1) as u8 | 1,
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_survive_being_written_and_read(pts in 0..1_u64 << 33, dts in 0..1_u64 << 33, size in 0..200_000_usize) {
            let mut bytes = Vec::new();
            emit(0xe0, pts, dts, size, &mut bytes);
            let header = parse(&bytes).unwrap();
            prop_assert_eq!((header.pts, header.dts), (Some(pts), Some(dts)));
            prop_assert_eq!(header.header_bytes, bytes.len());
            let bounded = size + header.header_bytes - 6 <= 65_535;
            prop_assert_eq!(header.payload_bytes, bounded.then_some(size));
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&bytes);
            if bytes.len() > 7 {
                bytes[..3].copy_from_slice(&[0, 0, 1]);
                bytes[6] = 0x80;
                parse(&bytes);
            }
        }
    }
}
