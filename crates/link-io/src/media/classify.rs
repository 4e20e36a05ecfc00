//! What a TS packet carries: program tables, sound, key pictures, clock (ISO/IEC 13818-1). Pure.
//!
//! Tables are read only from the TS packet they begin in; a program whose map is longer than that is classified by what is
//! seen of it. A key picture is one that the muxer marks as random access point, or that opens with the parameter sets or
//! the IDR slice of H.264 (ISO/IEC 14496-10 table 7-1) or H.265 (ISO/IEC 23008-2 table 7-1). Nothing here allocates but
//! [`Classifier::new`].

use super::ts::{TS_PACKET_BYTES, TsPacket};
use bond::PacketClass;

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
        codec: Codec,
        /// The access unit under way is a key picture.
        key: bool,
    },
    Audio,
}

/// How the NAL units of a picture are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Avc,
    Hevc,
    /// Only the muxer's mark tells.
    Opaque,
}

/// Learns the PIDs of a transport stream from its tables and names the class of each packet.
#[derive(Debug)]
pub struct Classifier {
    /// Indexed by PID.
    kinds: Box<[Kind; PIDS]>,
}

impl Default for Classifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Classifier {
    /// Knows no PID yet.
    pub fn new() -> Self {
        Self { kinds: Box::new([Kind::Unknown; PIDS]) }
    }

    /// The class of a payload of whole TS packets: that of its most important one. What is no TS packet is
    /// [`PacketClass::Other`].
    pub fn payload(&mut self, payload: &[u8]) -> PacketClass {
        let packets = payload.as_chunks().0.iter();
        packets.map(|packet| self.packet(packet)).max_by_key(|class| weight(*class)).unwrap_or(PacketClass::Other)
    }

    /// The class of one TS packet.
    pub fn packet(&mut self, packet: &[u8; TS_PACKET_BYTES]) -> PacketClass {
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
            Kind::Video { codec, key } if !payload.is_empty() => {
                if unit_start {
                    *key = ts.random_access() || opens_key_picture(*codec, payload);
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
    let video = |codec| Kind::Video { codec, key: false };
    match stream_type {
        0x1B => video(Codec::Avc),
        0x24 => video(Codec::Hevc),
        0x01 | 0x02 | 0x10 | 0x33 | 0x42 | 0xD1 | 0xEA => video(Codec::Opaque),
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

/// Whether the first TS packet of an access unit shows a parameter set or an IDR slice.
fn opens_key_picture(codec: Codec, payload: &[u8]) -> bool {
    let headers = payload.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]).map(|bytes| bytes[3]);
    // A PES start code (stream id from 0xBC up) has the forbidden bit set and is no NAL unit.
    let mut nal_headers = headers.filter(|header| header & 0x80 == 0);
    match codec {
        Codec::Avc => nal_headers.any(|header| matches!(header & 0x1F, 5 | 7 | 8)),
        Codec::Hevc => nal_headers.any(|header| matches!(header >> 1, 16..=21 | 32..=34)),
        Codec::Opaque => false,
    }
}

/// Order of importance: without tables and parameter sets nothing decodes; a lost key picture spoils all up to the next; a
/// gap in the sound is heard.
fn weight(class: PacketClass) -> u8 {
    match class {
        PacketClass::ParameterSet => 5,
        PacketClass::Idr => 4,
        PacketClass::Audio => 3,
        PacketClass::Video => 2,
        PacketClass::Clock => 1,
        PacketClass::Other => 0,
    }
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
            assert_eq!(classifier.packet(&table), PacketClass::ParameterSet);
        }
        classifier
    }

    #[test]
    fn tables_teach_which_pid_is_what() {
        let mut classifier = taught();
        assert_eq!(classifier.packet(&packet(AUDIO_PID, true, None, 0)), PacketClass::Audio);
        assert_eq!(classifier.packet(&packet(VIDEO_PID, true, None, 0)), PacketClass::Video);
        assert_eq!(classifier.packet(&packet(0x1FFF, false, None, 0xFF)), PacketClass::Other);
    }

    #[test]
    fn a_key_picture_lasts_until_the_next_access_unit() {
        let mut classifier = taught();
        assert_eq!(classifier.packet(&packet(VIDEO_PID, true, Some(0x50), 0)), PacketClass::ParameterSet);
        assert_eq!(classifier.packet(&packet(VIDEO_PID, false, None, 0)), PacketClass::Idr);
        for table in tables() {
            classifier.packet(&table); // repeated tables change nothing
        }
        assert_eq!(classifier.packet(&packet(VIDEO_PID, false, None, 0)), PacketClass::Idr);
        assert_eq!(classifier.packet(&packet(VIDEO_PID, true, Some(0x10), 0)), PacketClass::Video);
        assert_eq!(classifier.packet(&packet(VIDEO_PID, false, None, 0)), PacketClass::Video);
    }

    /// An access unit that the muxer did not mark: a PES header, then the NAL units named by their header bytes.
    fn unmarked(pid: u16, nal_headers: &[u8]) -> [u8; TS_PACKET_BYTES] {
        let mut bytes = packet(pid, true, None, 0xAA);
        bytes[4..13].copy_from_slice(&[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0]);
        for (i, header) in nal_headers.iter().enumerate() {
            bytes[20 + 10 * i..25 + 10 * i].copy_from_slice(&[0, 0, 0, 1, *header]);
        }
        bytes
    }

    #[test]
    fn parameter_sets_and_idr_slices_make_a_key_picture_without_a_mark() {
        let opens = |stream_type: u8, nal_headers: &[u8]| {
            let mut classifier = Classifier::new();
            let [pat, mut pmt] = tables();
            let place = pmt.iter().rposition(|byte| *byte == 0x1B).expect("the video stream");
            pmt[place] = stream_type;
            assert!([pat, pmt].iter().all(|table| classifier.packet(table) == PacketClass::ParameterSet));
            classifier.packet(&unmarked(VIDEO_PID, nal_headers))
        };
        let (key, other) = (PacketClass::ParameterSet, PacketClass::Video);
        assert_eq!(opens(0x1B, &[0x09, 0x67, 0x68]), key, "H.264: delimiter, SPS, PPS");
        assert_eq!(opens(0x1B, &[0x09, 0x65]), key, "H.264: IDR");
        assert_eq!(opens(0x1B, &[0x09, 0x41]), other, "H.264: predicted");
        assert_eq!(opens(0x24, &[0x46, 0x40]), key, "H.265: delimiter, VPS");
        assert_eq!(opens(0x24, &[0x26]), key, "H.265: IDR_W_RADL");
        assert_eq!(opens(0x24, &[0x46, 0x02]), other, "H.265: predicted");
        assert_eq!(opens(0x02, &[0x67]), other, "MPEG-2 has no NAL units");
    }

    #[test]
    fn a_payload_is_as_important_as_its_most_important_packet() {
        let mut classifier = taught();
        let (video, audio) = (packet(VIDEO_PID, false, None, 0), packet(AUDIO_PID, false, None, 0));
        assert_eq!(classifier.payload(&[video, audio, video].concat()), PacketClass::Audio);
        assert_eq!(classifier.payload(&[video, video].concat()), PacketClass::Video);
        assert_eq!(classifier.payload(&[video, tables()[0]].concat()), PacketClass::ParameterSet);
        assert_eq!(classifier.payload(b"no packet"), PacketClass::Other);
        assert_eq!(classifier.payload(&[1; 188]), PacketClass::Other);
    }

    #[test]
    fn a_packet_with_nothing_but_a_clock_is_a_clock() {
        let mut clock = packet(0x100, false, Some(0x10), 0xFF);
        clock[3] = 0x20;
        clock[4] = 183;
        assert_eq!(taught().packet(&clock), PacketClass::Clock);
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
            classifier.packet(&bytes);
        }
    }
}
