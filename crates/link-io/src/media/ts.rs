//! The few fields of an MPEG-TS packet that pacing needs (ISO/IEC 13818-1, 2.4.3).

use std::time::Duration;

/// Length of a TS packet in bytes.
pub const TS_PACKET_BYTES: usize = 188;
/// First byte of every TS packet.
const SYNC: u8 = 0x47;
/// Ticks of the system clock per microsecond.
const TICKS_PER_MICRO: u64 = 27;
/// PCR counts wrap here: 33 bits of 90 kHz, 300 ticks of 27 MHz each.
const PCR_WRAP_TICKS: u64 = (1 << 33) * 300;

/// A checked view of one TS packet.
#[derive(Debug, Clone, Copy)]
pub struct TsPacket<'a> {
    bytes: &'a [u8; TS_PACKET_BYTES],
}

impl<'a> TsPacket<'a> {
    /// A view of the packet at the start of `bytes`; `None` without a sync byte or the full length.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; TS_PACKET_BYTES] = bytes.first_chunk()?;
        (bytes[0] == SYNC).then_some(Self { bytes })
    }

    /// Packet identifier, 13 bits.
    pub fn pid(self) -> u16 {
        u16::from_be_bytes([self.bytes[1], self.bytes[2]]) & 0x1FFF
    }

    /// Flags of the adaptation field, when there is one with flags.
    fn adaptation_flags(self) -> Option<u8> {
        (self.bytes[3] & 0x20 != 0 && self.bytes[4] > 0).then_some(self.bytes[5])
    }

    /// A decoder can start here: the packet opens a key frame.
    pub fn random_access(self) -> bool {
        self.adaptation_flags().is_some_and(|flags| flags & 0x40 != 0)
    }

    /// The clock or the counters jump here on purpose.
    pub fn discontinuity(self) -> bool {
        self.adaptation_flags().is_some_and(|flags| flags & 0x80 != 0)
    }

    /// The programme clock reference carried here.
    pub fn pcr(self) -> Option<Pcr> {
        let flags = self.adaptation_flags()?;
        if flags & 0x10 == 0 || self.bytes[4] < 7 {
            return None;
        }
        let b = &self.bytes[6..12];
        let base = u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])) << 1 | u64::from(b[4] >> 7);
        let extension = u64::from(b[4] & 1) << 8 | u64::from(b[5]);
        Some(Pcr { ticks: base * 300 + extension })
    }
}

/// A programme clock reference: a count of 27 MHz that wraps after 26.5 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pcr {
    ticks: u64,
}

impl Pcr {
    /// Time from `earlier` to `self`, through the wrap; what looks like a step back is nearly a day.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = (self.ticks + PCR_WRAP_TICKS - earlier.ticks) % PCR_WRAP_TICKS;
        Duration::from_micros(ticks / TICKS_PER_MICRO)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A TS packet of `pid`, with a PCR of `micros` when given, the rest filled with `fill`.
    pub(crate) fn packet(pid: u16, pcr_micros: Option<u64>, fill: u8) -> [u8; TS_PACKET_BYTES] {
        let mut bytes = [fill; TS_PACKET_BYTES];
        bytes[0] = SYNC;
        bytes[1..3].copy_from_slice(&pid.to_be_bytes());
        bytes[3] = 0x10;
        if let Some(micros) = pcr_micros {
            let ticks = micros * TICKS_PER_MICRO % PCR_WRAP_TICKS;
            let (base, extension) = (ticks / 300, ticks % 300);
            bytes[3] = 0x30;
            bytes[4] = 7;
            bytes[5] = 0x10;
            bytes[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
            bytes[10] = ((base & 1) as u8) << 7 | 0x7E | (extension >> 8) as u8;
            bytes[11] = extension as u8;
        }
        bytes
    }

    #[test]
    fn the_clock_is_read_where_the_flags_say_so() {
        let bytes = packet(0x100, Some(1_000_000), 0xAA);
        let with = TsPacket::parse(&bytes).expect("a packet");
        assert_eq!((with.pid(), with.random_access(), with.discontinuity()), (0x100, false, false));
        assert_eq!(with.pcr(), Some(Pcr { ticks: 27_000_000 }));
        assert_eq!(TsPacket::parse(&packet(0x100, None, 0xFF)).expect("a packet").pcr(), None);
        let mut short_field = bytes;
        short_field[4] = 1;
        assert_eq!(TsPacket::parse(&short_field).expect("a packet").pcr(), None);
        assert!(TsPacket::parse(&bytes[1..]).is_none());
        assert!(TsPacket::parse(&bytes[..187]).is_none());
    }

    #[test]
    fn clock_differences_pass_through_the_wrap() {
        let late = Pcr { ticks: PCR_WRAP_TICKS - 27_000 };
        assert_eq!(Pcr { ticks: 27_000 }.since(late), Duration::from_millis(2));
        assert!(late.since(Pcr { ticks: PCR_WRAP_TICKS - 1 }) > Duration::from_hours(24));
    }
}
