//! Program association and program map tables (ISO/IEC 13818-1 section 2.4.4): read from packets, written as packets.
//!
//! Only the first program of a transport stream is followed: the product's senders make one.

use super::packet::{PACKET_BYTES, SYNC_BYTE};
use bytes::Bytes;

/// Longest section: 3 bytes before and up to 1021 after the length field.
const SECTION_BYTES_MAX: usize = 1024;
/// Elementary streams of a program; further ones are ignored.
pub const STREAMS_MAX: usize = 16;

/// An elementary stream as the program map table lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Where its packets are.
    pub pid: u16,
    /// Table 2-34: 0x1b is H.264, 0x24 H.265, 0x0f AAC in ADTS.
    pub stream_type: u8,
    /// Descriptors, as they came.
    pub descriptors: Bytes,
}

/// A program map table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramMap {
    /// Number of the program.
    pub program: u16,
    /// Descriptors of the program, as they came.
    pub descriptors: Bytes,
    /// At most [`STREAMS_MAX`], in their order.
    pub streams: Vec<StreamEntry>,
}

/// Collects the packets of one PID into sections.
#[derive(Debug, Default)]
pub struct SectionAssembler {
    section: Vec<u8>,
    open: bool,
}

impl SectionAssembler {
    /// Takes a packet's payload; returns a whole section with right checksum when one ends in it. Sections that are
    /// damaged or not in force yet are dropped. Of several sections in one packet the first is read.
    pub fn push(&mut self, unit_start: bool, payload: &[u8]) -> Option<Vec<u8>> {
        let mut payload = payload;
        if unit_start {
            let (&pointer, rest) = payload.split_first()?;
            payload = rest.get(usize::from(pointer)..)?;
            self.section.clear();
            self.open = true;
        }
        if !self.open {
            return None;
        }
        let room = SECTION_BYTES_MAX - self.section.len();
        self.section.extend_from_slice(&payload[..payload.len().min(room)]);
        let header = self.section.first_chunk::<3>()?;
        let length = 3 + usize::from(u16::from_be_bytes([header[1] & 0x0f, header[2]]));
        if length > SECTION_BYTES_MAX {
            self.abandon();
            return None;
        }
        if self.section.len() < length {
            return None;
        }
        self.open = false;
        self.section.truncate(length);
        let section = std::mem::take(&mut self.section);
        let in_force = section.get(5).is_some_and(|byte| byte & 1 == 1);
        (length >= 12 && in_force && crc32_mpeg(&section) == 0).then_some(section)
    }

    /// Drops what was collected: packets are missing.
    pub fn abandon(&mut self) {
        self.section.clear();
        self.open = false;
    }
}

/// PID of the first program's map, from a whole association section.
pub fn parse_pat(section: &[u8]) -> Option<u16> {
    if *section.first()? != 0 {
        return None;
    }
    let entries = section.get(8..section.len().checked_sub(4)?)?;
    let map = entries.chunks_exact(4).find(|entry| entry[0] != 0 || entry[1] != 0)?;
    Some(u16::from_be_bytes([map[2] & 0x1f, map[3]]))
}

/// A whole program map section.
pub fn parse_pmt(section: &[u8]) -> Option<ProgramMap> {
    if *section.first()? != 2 {
        return None;
    }
    let body = section.get(..section.len().checked_sub(4)?)?;
    let length_at = |at: usize| Some(usize::from(u16::from_be_bytes([body.get(at)? & 0x0f, *body.get(at + 1)?])));
    let program = u16::from_be_bytes([*body.get(3)?, *body.get(4)?]);
    let mut at = 12 + length_at(10)?;
    let descriptors = Bytes::copy_from_slice(body.get(12..at)?);
    let mut streams = Vec::new();
    while at + 5 <= body.len() && streams.len() < STREAMS_MAX {
        let end = at + 5 + length_at(at + 3)?;
        streams.push(StreamEntry {
            stream_type: body[at],
            pid: u16::from_be_bytes([body[at + 1] & 0x1f, body[at + 2]]),
            descriptors: Bytes::copy_from_slice(body.get(at + 5..end)?),
        });
        at = end;
    }
    Some(ProgramMap { program, descriptors, streams })
}

/// Writes an association section for one program.
pub fn emit_pat(program: u16, map_pid: u16) -> Vec<u8> {
    let [high, low] = program.to_be_bytes();
    let [pid_high, pid_low] = map_pid.to_be_bytes();
    finish_section(0, 1, &[high, low, 0xe0 | pid_high, pid_low])
}

/// Writes a program map section; `None` when the descriptors do not fit into one section.
pub fn emit_pmt(map: &ProgramMap, pcr_pid: u16) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let [high, low] = pcr_pid.to_be_bytes();
    body.extend_from_slice(&[0xe0 | high, low]);
    push_descriptors(&mut body, &map.descriptors);
    for stream in &map.streams {
        let [high, low] = stream.pid.to_be_bytes();
        body.extend_from_slice(&[stream.stream_type, 0xe0 | high, low]);
        push_descriptors(&mut body, &stream.descriptors);
    }
    (body.len() <= SECTION_BYTES_MAX - 12).then(|| finish_section(2, map.program, &body))
}

fn push_descriptors(body: &mut Vec<u8>, descriptors: &[u8]) {
    let [high, low] = ((descriptors.len() & 0x0fff) as u16).to_be_bytes();
    body.extend_from_slice(&[0xf0 | high, low]);
    body.extend_from_slice(descriptors);
}

fn finish_section(table: u8, id: u16, body: &[u8]) -> Vec<u8> {
    let [length_high, length_low] = ((body.len() + 9) as u16).to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let mut section = vec![table, 0xb0 | length_high, length_low, id_high, id_low, 0xc1, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32_mpeg(&section).to_be_bytes());
    section
}

/// Writes a section as TS packets, counting `continuity` on.
pub fn packetize(section: &[u8], pid: u16, continuity: &mut u8, out: &mut Vec<u8>) {
    let mut rest = section;
    let mut first = true;
    while first || !rest.is_empty() {
        let [high, low] = pid.to_be_bytes();
        out.extend_from_slice(&[SYNC_BYTE, u8::from(first) << 6 | high, low, 0x10 | *continuity & 0x0f]);
        *continuity = continuity.wrapping_add(1) & 0x0f;
        let room = if first {
            out.push(0);
            PACKET_BYTES - 5
        } else {
            PACKET_BYTES - 4
        };
        let (now, later) = rest.split_at(rest.len().min(room));
        out.extend_from_slice(now);
        out.resize(out.len() + room - now.len(), 0xff);
        (rest, first) = (later, false);
    }
}

/// CRC of Annex A: polynomial 0x04c11db7, most significant bit first, over a section with its CRC it is 0.
pub fn crc32_mpeg(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)] ^ (crc << 8))
}

static CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet::Packet;
    use proptest::prelude::*;

    fn collect(packets: &[u8]) -> Option<Vec<u8>> {
        let mut assembler = SectionAssembler::default();
        packets.chunks_exact(PACKET_BYTES).find_map(|bytes| {
            let packet = Packet::parse(bytes).unwrap();
            assembler.push(packet.unit_start, packet.payload.unwrap())
        })
    }

    fn map(descriptor_bytes: usize) -> ProgramMap {
        ProgramMap {
            program: 1,
            descriptors: Bytes::new(),
            streams: vec![
                StreamEntry { pid: 0x100, stream_type: 0x1b, descriptors: Bytes::new() },
                StreamEntry { pid: 0x101, stream_type: 0x0f, descriptors: vec![7; descriptor_bytes].into() },
            ],
        }
    }

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(crc32_mpeg(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn tables_survive_being_written_and_read() {
        let mut packets = Vec::new();
        packetize(&emit_pat(1, 0x1000), 0, &mut 15, &mut packets);
        assert_eq!(packets.len(), PACKET_BYTES);
        assert_eq!(parse_pat(&collect(&packets).unwrap()), Some(0x1000));
        for descriptor_bytes in [0, 6, 300] {
            packets.clear();
            packetize(&emit_pmt(&map(descriptor_bytes), 0x100).unwrap(), 0x1000, &mut 15, &mut packets);
            assert_eq!(packets.len() % PACKET_BYTES, 0);
            assert_eq!(parse_pmt(&collect(&packets).unwrap()), Some(map(descriptor_bytes)));
        }
        assert_eq!(emit_pmt(&map(2000), 0x100), None);
    }

    #[test]
    fn a_section_with_a_flipped_bit_is_dropped() {
        let mut packets = Vec::new();
        packetize(&emit_pat(1, 0x1000), 0, &mut 0, &mut packets);
        packets[14] ^= 4;
        assert_eq!(collect(&packets), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            payloads in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..184)), 0..20),
            section in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut assembler = SectionAssembler::default();
            for (start, payload) in &payloads {
                assembler.push(*start, payload);
            }
            parse_pat(&section);
            parse_pmt(&section);
        }
    }
}
