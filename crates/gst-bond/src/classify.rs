//! What a TS packet carries: program tables, sound, key pictures, clock (ISO/IEC 13818-1). Pure.
//!
//! Tables are read only from the TS packet they begin in; a program whose map is longer than that is classified by what is
//! seen of it. Nothing here allocates.

use bond::PacketClass;
use link_io::media::{TS_PACKET_BYTES, TsPacket};

const PIDS: usize = 8192;
const PID_PAT: u16 = 0;
const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;

/// What a PID is known to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Map,
    Video {
        /// The access unit under way is a key picture.
        key: bool,
    },
    Audio,
}

/// Learns the PIDs of a transport stream from its tables and names the class of each packet.
#[derive(Debug)]
pub(crate) struct Classifier {
    /// Indexed by PID.
    kinds: Box<[Kind; PIDS]>,
}

impl Classifier {
    pub(crate) fn new() -> Self {
        Self { kinds: Box::new([Kind::Unknown; PIDS]) }
    }

    /// The class of one TS packet.
    pub(crate) fn class(&mut self, packet: &[u8; TS_PACKET_BYTES]) -> PacketClass {
        let Some(ts) = TsPacket::parse(packet) else { return PacketClass::Other };
        let pid = ts.pid();
        let unit_start = packet[1] & 0x40 != 0;
        let payload = payload(packet);
        if pid == PID_PAT {
            if unit_start {
                self.learn_programs(section(payload, TABLE_PAT));
            }
            return PacketClass::ParameterSet;
        }
        match &mut self.kinds[usize::from(pid)] {
            Kind::Map => {
                if unit_start {
                    self.learn_streams(section(payload, TABLE_PMT));
                }
                PacketClass::ParameterSet
            }
            Kind::Audio => PacketClass::Audio,
            Kind::Video { key } if !payload.is_empty() => {
                if unit_start {
                    *key = ts.random_access();
                }
                match (*key, unit_start) {
                    // The first packet of a key access unit holds the parameter sets.
                    (true, true) => PacketClass::ParameterSet,
                    (true, false) => PacketClass::Idr,
                    (false, _) => PacketClass::Video,
                }
            }
            Kind::Video { .. } | Kind::Unknown if ts.pcr().is_some() => PacketClass::Clock,
            Kind::Video { .. } | Kind::Unknown => PacketClass::Other,
        }
    }

    fn learn_programs(&mut self, section: Option<&[u8]>) {
        let Some(section) = section else { return };
        for entry in section.get(5..).unwrap_or_default().as_chunks::<4>().0 {
            let program = u16::from_be_bytes([entry[0], entry[1]]);
            let pid = pid_of(entry[2], entry[3]);
            if program != 0 && self.kinds[usize::from(pid)] == Kind::Unknown {
                self.kinds[usize::from(pid)] = Kind::Map;
            }
        }
    }

    fn learn_streams(&mut self, section: Option<&[u8]>) {
        let Some(section) = section.filter(|section| section.len() >= 9) else { return };
        let mut at = 9 + length_of(section[7], section[8]);
        while let Some(entry) = section.get(at..at + 5) {
            let slot = &mut self.kinds[usize::from(pid_of(entry[1], entry[2]))];
            match (kind_of(entry[0]), *slot) {
                (Kind::Video { .. }, Kind::Video { .. }) => {} // keeps what it knows of the access unit under way
                (kind, _) => *slot = kind,
            }
            at += 5 + length_of(entry[3], entry[4]);
        }
    }
}

/// Stream types of ISO/IEC 13818-1 table 2-34 and ATSC.
fn kind_of(stream_type: u8) -> Kind {
    match stream_type {
        0x01 | 0x02 | 0x10 | 0x1B | 0x24 | 0x33 | 0x42 | 0xD1 | 0xEA => Kind::Video { key: false },
        0x03 | 0x04 | 0x0F | 0x11 | 0x81 | 0x87 => Kind::Audio,
        _ => Kind::Unknown,
    }
}

fn pid_of(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low]) & 0x1FFF
}

fn length_of(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high, low]) & 0x0FFF)
}

/// The bytes behind header and adaptation field.
fn payload(packet: &[u8; TS_PACKET_BYTES]) -> &[u8] {
    let start = match packet[3] & 0x30 {
        0x10 => 4,
        0x30 => 5 + usize::from(packet[4]),
        _ => TS_PACKET_BYTES,
    };
    packet.get(start..).unwrap_or_default()
}

/// The body of a section of `table` that begins in this payload: from `table_id_extension` up to the CRC.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let start = 1 + usize::from(*payload.first()?);
    let section = payload.get(start..)?;
    if *section.first()? != table {
        return None;
    }
    let length = length_of(*section.get(1)?, *section.get(2)?).checked_sub(4)?;
    let body = section.get(3..)?;
    Some(&body[..length.min(body.len())])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PMT_PID: u16 = 0x20;
    pub(crate) const VIDEO_PID: u16 = 0x41;
    pub(crate) const AUDIO_PID: u16 = 0x42;

    /// A TS packet: payload filled with `fill`, an adaptation field with `flags` when given.
    pub(crate) fn packet(pid: u16, unit_start: bool, flags: Option<u8>, fill: u8) -> [u8; TS_PACKET_BYTES] {
        let mut bytes = [fill; TS_PACKET_BYTES];
        bytes[0] = 0x47;
        bytes[1..3].copy_from_slice(&(pid | if unit_start { 0x4000 } else { 0 }).to_be_bytes());
        bytes[3] = 0x10;
        if let Some(flags) = flags {
            bytes[3] = 0x30;
            bytes[4] = 7;
            bytes[5] = flags;
            bytes[6..12].fill(0);
        }
        bytes
    }

    fn table(pid: u16, table: u8, body: &[u8]) -> [u8; TS_PACKET_BYTES] {
        let mut bytes = packet(pid, true, None, 0xFF);
        bytes[4] = 0;
        bytes[5] = table;
        bytes[6..8].copy_from_slice(&(0xB000 | (body.len() as u16 + 4)).to_be_bytes());
        bytes[8..8 + body.len()].copy_from_slice(body);
        bytes
    }

    pub(crate) fn tables() -> [[u8; TS_PACKET_BYTES]; 2] {
        let pat = table(PID_PAT, TABLE_PAT, &[0, 1, 0xC1, 0, 0, 0, 1, 0xE0, PMT_PID as u8]);
        let pmt = table(
            PMT_PID,
            TABLE_PMT,
            // program, version, section, last, PCR PID, 2 bytes of program descriptors; H.264; AAC with a descriptor
            &[
                0, 1, 0xC1, 0, 0, 0xE0, 0x41, 0xF0, 2, 9, 9, 0x1B, 0xE0, 0x41, 0xF0, 0, 0x0F, 0xE0, 0x42, 0xF0, 3, 1,
                2, 3,
            ],
        );
        [pat, pmt]
    }

    fn taught() -> Classifier {
        let mut classifier = Classifier::new();
        for table in tables() {
            assert_eq!(classifier.class(&table), PacketClass::ParameterSet);
        }
        classifier
    }

    #[test]
    fn tables_teach_which_pid_is_what() {
        let mut classifier = taught();
        assert_eq!(classifier.class(&packet(AUDIO_PID, true, None, 0)), PacketClass::Audio);
        assert_eq!(classifier.class(&packet(VIDEO_PID, true, None, 0)), PacketClass::Video);
        assert_eq!(classifier.class(&packet(0x1FFF, false, None, 0xFF)), PacketClass::Other);
    }

    #[test]
    fn a_key_picture_lasts_until_the_next_access_unit() {
        let mut classifier = taught();
        assert_eq!(classifier.class(&packet(VIDEO_PID, true, Some(0x50), 0)), PacketClass::ParameterSet);
        assert_eq!(classifier.class(&packet(VIDEO_PID, false, None, 0)), PacketClass::Idr);
        for table in tables() {
            classifier.class(&table); // repeated tables change nothing
        }
        assert_eq!(classifier.class(&packet(VIDEO_PID, false, None, 0)), PacketClass::Idr);
        assert_eq!(classifier.class(&packet(VIDEO_PID, true, Some(0x10), 0)), PacketClass::Video);
        assert_eq!(classifier.class(&packet(VIDEO_PID, false, None, 0)), PacketClass::Video);
    }

    #[test]
    fn a_packet_with_nothing_but_a_clock_is_a_clock() {
        let mut clock = packet(0x100, false, Some(0x10), 0xFF);
        clock[3] = 0x20;
        clock[4] = 183;
        assert_eq!(taught().class(&clock), PacketClass::Clock);
    }

    #[test]
    fn nonsense_is_survived() {
        let mut classifier = Classifier::new();
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let mut bytes = [0; TS_PACKET_BYTES];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (seed >> 24) as u8;
            }
            bytes[0] = 0x47;
            bytes[1] &= 0x40; // low PIDs, so that tables occur
            bytes[2] &= 0x03;
            classifier.class(&bytes);
        }
    }
}
