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
            let end = at + 5 + length_of(entry[3], entry[4]);
            let slot = &mut self.kinds[usize::from(pid_of(entry[1], entry[2]))];
            // Those of a map that goes on in another packet are as many as are here.
            match (kind_of(entry[0], &section[at + 5..end.min(section.len())]), *slot) {
                (Kind::Video { .. }, Kind::Video { .. }) => {} // keeps what it knows of the access unit under way
                (kind, _) => *slot = kind,
            }
            at = end;
        }
    }
}

/// By the stream type (ISO/IEC 13818-1 table 2-34, ATSC, and what muxers use beyond these), else by the descriptors.
fn kind_of(stream_type: u8, descriptors: &[u8]) -> Kind {
    let video = |codec| Kind::Video { codec, key: false };
    match stream_type {
        0x1B => video(Codec::Avc),
        0x24 => video(Codec::Hevc),
        0x01 | 0x02 | 0x10 | 0x33 | 0x42 | 0xD1 | 0xEA => video(Codec::Opaque),
        // MPEG-1, MPEG-2, AAC (ADTS, LATM, bare), MPEG-H; AC-3, DTS, TrueHD, E-AC-3, DTS-HD (0x86, its lossless kind, is that of
        // cue messages too); E-AC-3 of ATSC; DTS and PCM.
        0x03 | 0x04 | 0x0F | 0x11 | 0x1C | 0x2D | 0x2E | 0x81..=0x85 | 0x87 | 0x8A | 0x8B => Kind::Audio,
        // Private: PES packets, and what users define.
        0x06 | 0x80.. if Descriptors(descriptors).any(|(tag, body)| names_sound(tag, body)) => Kind::Audio,
        _ => Kind::Unknown,
    }
}

/// Whether a descriptor of a private stream says that it is sound: by its registration (SMPTE RA), or as DVB does
/// (ETSI EN 300 468 clause 6.1).
fn names_sound(tag: u8, body: &[u8]) -> bool {
    match tag {
        0x05 => {
            matches!(body.get(..4), Some(b"Opus" | b"AC-3" | b"EAC3" | b"AC-4" | b"BSSD" | b"DTS1" | b"DTS2" | b"DTS3"))
        }
        // AC-3, E-AC-3, DTS, AAC.
        0x6A | 0x7A | 0x7B | 0x7C => true,
        // The extension: DTS-HD, AC-4, DTS-UHD, and Opus as muxers write it.
        0x7F => matches!(body.first(), Some(0x0E | 0x15 | 0x21 | 0x80)),
        _ => false,
    }
}

/// A loop of descriptors: tag and body of each that is there as a whole.
struct Descriptors<'a>(&'a [u8]);

impl<'a> Iterator for Descriptors<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(length.into())?;
        self.0 = rest;
        Some((tag, body))
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

    /// What a stream with this entry in its program's map is taken for, the map having no more than is given.
    fn class_by(stream_type: u8, descriptors: &[u8]) -> PacketClass {
        let length = descriptors.len() as u8;
        let mut body = vec![0, 1, 0xC1, 0, 0, 0xE0, 0x41, 0xF0, 0, stream_type, 0xE0, AUDIO_PID as u8, 0xF0, length];
        body.extend_from_slice(descriptors);
        let mut classifier = Classifier::new();
        classifier.packet(&tables()[0]);
        classifier.packet(&table(PMT_PID, TABLE_PMT, &body));
        classifier.packet(&packet(AUDIO_PID, false, None, 0))
    }

    /// Goal: sound is known by the descriptors of a private stream, whoever muxed it, and nothing else is taken for it.
    #[test]
    fn sound_in_private_streams_is_known_by_its_descriptors() {
        let registered: [&[u8; 4]; 7] = [b"Opus", b"AC-3", b"EAC3", b"BSSD", b"DTS1", b"DTS2", b"DTS3"];
        for name in registered {
            let registration = [&[5, 4][..], name].concat();
            assert_eq!(class_by(0x06, &registration), PacketClass::Audio, "{name:?}");
            assert_eq!(
                class_by(0x06, &[&[0x0A, 4, b'd', b'e', b'u', 0][..], &registration].concat()),
                PacketClass::Audio
            );
            assert_eq!(class_by(0xC0, &registration), PacketClass::Audio, "a type that users define, {name:?}");
        }
        let dvb: [&[u8]; 7] = [
            &[0x6A, 1, 0],
            &[0x7A, 1, 0],
            &[0x7B, 5, 0, 0, 0, 0, 0],
            &[0x7C, 1, 0x58],
            &[0x7F, 2, 0x80, 2],
            &[0x7F, 2, 0x15, 0],
            &[0x6A, 0],
        ];
        for descriptors in dvb {
            assert_eq!(class_by(0x06, descriptors), PacketClass::Audio, "{descriptors:?}");
        }
        // Nothing, a language, teletext, subtitles, another registration, another extension, codes for cue messages.
        let other: [&[u8]; 7] = [
            &[],
            &[0x0A, 4, b'd', b'e', b'u', 0],
            &[0x56, 5, b'd', b'e', b'u', 9, 0],
            &[0x59, 8, b'd', b'e', b'u', 0x10, 0, 1, 0, 1],
            b"\x05\x04KLVA",
            &[0x7F, 1, 0x06],
            &[0x8A, 1, 1],
        ];
        for descriptors in other {
            assert_eq!(class_by(0x06, descriptors), PacketClass::Other, "{descriptors:?}");
        }
        assert_eq!(class_by(0x86, b"\x05\x04CUEI"), PacketClass::Other);
        assert_eq!(class_by(0x05, b"\x05\x04Opus"), PacketClass::Other, "sections carry no sound");
    }

    #[test]
    fn sound_is_known_by_its_stream_type() {
        for stream_type in [0x03, 0x04, 0x0F, 0x11, 0x1C, 0x81, 0x82, 0x83, 0x84, 0x85, 0x87, 0x8A] {
            assert_eq!(class_by(stream_type, &[]), PacketClass::Audio, "{stream_type:#x}");
        }
    }

    /// Goal: descriptors that lie about their length are survived, and what is whole before them still counts.
    #[test]
    fn descriptors_that_lie_are_survived() {
        for lie in [&[5][..], &[5, 255], &[5, 4, b'O'], &[0x7F, 0], &[5, 0], &[0x6A, 9, 0]] {
            assert_eq!(class_by(0x06, lie), PacketClass::Other, "{lie:?}");
            assert_eq!(class_by(0x06, &[&[0x6A, 1, 0][..], lie].concat()), PacketClass::Audio, "{lie:?}");
        }
        // A loop that is longer than its map, as in one that goes on in the next packet.
        let [pat, _] = tables();
        let body = |length: u8| {
            [&[0, 1, 0xC1, 0, 0, 0xE0, 0x41, 0xF0, 0, 6, 0xE0, AUDIO_PID as u8, 0xFF, length][..], b"\x05\x04Opus"]
                .concat()
        };
        for length in [0, 5, 7, 255] {
            let mut classifier = Classifier::new();
            for table in [pat, table(PMT_PID, TABLE_PMT, &body(length))] {
                classifier.packet(&table);
            }
            assert_eq!(classifier.packet(&packet(AUDIO_PID, false, None, 0)), PacketClass::Audio, "{length}");
        }
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let nonsense: Vec<u8> = (0..seed >> 27)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8 & 0x7F
                })
                .collect();
            class_by(0x06, &nonsense);
            seed = seed.wrapping_add(0x0912_3457);
        }
    }

    /// Goal: the sound of real muxers is known. Each makes a second of it.
    #[test]
    fn what_muxers_make_of_sound_is_known() {
        let ffmpeg = "ffmpeg -nostdin -v error -y -f lavfi -i sine=duration=1 -ar 48000 -ac 2 -f mpegts";
        let gstreamer = "gst-launch-1.0 -q audiotestsrc num-buffers=50 ! opusenc ! mpegtsmux ! filesink location=";
        let directory = tempfile::tempdir().expect("a directory");
        for (name, pid, command) in [
            ("opus", 0x100, format!("{ffmpeg} -c:a libopus ")),
            ("ac3", 0x100, format!("{ffmpeg} -c:a ac3 ")),
            ("dvb-ac3", 0x100, format!("{ffmpeg} -c:a ac3 -mpegts_flags system_b ")),
            ("dvb-eac3", 0x100, format!("{ffmpeg} -c:a eac3 -mpegts_flags system_b ")),
            ("dts", 0x100, format!("{ffmpeg} -c:a dca -strict -2 ")),
            ("pcm", 0x100, format!("{ffmpeg} -c:a s302m -strict -2 ")),
            ("gst-opus", 0x41, gstreamer.to_owned()),
        ] {
            let path = directory.path().join(name);
            let line = format!("{command}{}", path.display());
            let mut words = line.split_whitespace();
            let status = std::process::Command::new(words.next().expect("a program")).args(words).status();
            assert!(status.expect("installed by `make test`").success(), "{line}");
            let bytes = std::fs::read(&path).expect("written");
            let mut classifier = Classifier::new();
            let classes = bytes.as_chunks().0.iter().filter_map(|packet| {
                let class = classifier.packet(packet);
                (TsPacket::parse(packet)?.pid() == pid).then_some(class)
            });
            let classes: Vec<_> = classes.collect();
            assert!(classes.len() > 10, "{name}: {} packets", classes.len());
            assert!(classes.iter().all(|class| *class == PacketClass::Audio), "{name}: {classes:?}");
        }
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
