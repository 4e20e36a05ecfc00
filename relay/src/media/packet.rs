//! One MPEG-TS packet (ISO/IEC 13818-1 section 2.4.3): a checked view of 188 bytes.

use thiserror::Error;

/// Size of a TS packet in bytes.
pub const PACKET_BYTES: usize = 188;
/// First byte of every TS packet.
pub const SYNC_BYTE: u8 = 0x47;
/// PID of the program association table.
pub const PID_PAT: u16 = 0;
/// PID of stuffing packets.
pub const PID_NULL: u16 = 0x1fff;

/// Why bytes are no usable TS packet; the sender's or the network's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Not 188 bytes.
    #[error("a TS packet has 188 bytes, not {got}")]
    Size {
        /// Bytes given.
        got: usize,
    },
    /// The sync byte is missing.
    #[error("a TS packet begins with 0x47, not {got:#04x}")]
    Sync {
        /// First byte.
        got: u8,
    },
    /// The transport error indicator is set: a demodulator or gateway before us knows it is damaged.
    #[error("the packet is marked as damaged")]
    MarkedDamaged,
    /// The adaptation field is longer than the packet.
    #[error("the adaptation field does not fit into the packet")]
    Adaptation,
}

/// What the adaptation field says (section 2.4.3.4); all absent without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adaptation {
    /// The continuity counter may jump here.
    pub discontinuity: bool,
    /// A decoder can start here.
    pub random_access: bool,
    /// Program clock reference in units of 27 MHz.
    pub pcr: Option<u64>,
}

/// A TS packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// 13 bits.
    pub pid: u16,
    /// A PES packet or section begins in the payload.
    pub unit_start: bool,
    /// The payload is scrambled.
    pub scrambled: bool,
    /// 4 bits, counts packets with payload.
    pub continuity: u8,
    /// The adaptation field.
    pub adaptation: Adaptation,
    /// The payload, absent when the packet has none.
    pub payload: Option<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`PacketError`]; the bytes should be dropped.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        if bytes.len() != PACKET_BYTES {
            return Err(PacketError::Size { got: bytes.len() });
        }
        if bytes[0] != SYNC_BYTE {
            return Err(PacketError::Sync { got: bytes[0] });
        }
        if bytes[1] & 0x80 != 0 {
            return Err(PacketError::MarkedDamaged);
        }
        let (mut adaptation, mut start) = (Adaptation::default(), 4);
        if bytes[3] & 0x20 != 0 {
            let length = usize::from(bytes[4]);
            let field = bytes.get(5..5 + length).ok_or(PacketError::Adaptation)?;
            adaptation = parse_adaptation(field);
            start = 5 + length;
        }
        let payload = (bytes[3] & 0x10 != 0).then(|| &bytes[start..]);
        Ok(Self {
            pid: u16::from_be_bytes([bytes[1] & 0x1f, bytes[2]]),
            unit_start: bytes[1] & 0x40 != 0,
            scrambled: bytes[3] & 0xc0 != 0,
            continuity: bytes[3] & 0x0f,
            adaptation,
            payload,
        })
    }
}

fn parse_adaptation(field: &[u8]) -> Adaptation {
    let Some((&flags, rest)) = field.split_first() else { return Adaptation::default() };
    let pcr = (flags & 0x10 != 0).then(|| rest.first_chunk::<6>()).flatten().map(|bytes| {
        let base =
            u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) << 1 | u64::from(bytes[4] >> 7);
        let extension = u64::from(u16::from_be_bytes([bytes[4] & 1, bytes[5]]));
        base * 300 + extension
    });
    Adaptation { discontinuity: flags & 0x80 != 0, random_access: flags & 0x40 != 0, pcr }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_where_the_standard_puts_them() {
        let mut bytes = [0xff; PACKET_BYTES];
        // unit start, PID 0x100, adaptation + payload, counter 7; adaptation of 7 bytes: random access, PCR.
        bytes[..12].copy_from_slice(&[0x47, 0x41, 0x00, 0x37, 7, 0x50, 0, 0, 0, 1, 0xfe, 0x0a]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.pid, packet.unit_start, packet.continuity), (0x100, true, 7));
        assert!(packet.adaptation.random_access && !packet.adaptation.discontinuity);
        assert_eq!(packet.adaptation.pcr, Some(3 * 300 + 10));
        assert_eq!(packet.payload.unwrap().len(), PACKET_BYTES - 12);
    }

    #[test]
    fn damaged_packets_are_refused_by_name() {
        let mut bytes = [0; PACKET_BYTES];
        assert_eq!(Packet::parse(&bytes[1..]), Err(PacketError::Size { got: 187 }));
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Sync { got: 0 }));
        bytes[..5].copy_from_slice(&[0x47, 0x81, 0, 0x30, 184]);
        assert_eq!(Packet::parse(&bytes), Err(PacketError::MarkedDamaged));
        bytes[1] = 1;
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Adaptation));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), PACKET_BYTES)) {
            bytes[0] = SYNC_BYTE;
            let _ = Packet::parse(&bytes);
        }
    }
}
