//! Access units to MPEG-TS packets: a clean stream on the output timeline, whatever came in.
//!
//! PIDs, stream types and descriptors stay the sender's; continuity counters, PES headers and the clock reference are made
//! here. The clock reference runs a constant time ahead of the leading track's DTS, so it is exactly as regular as the
//! pictures are.

use super::packet::{PACKET_BYTES, PID_PAT, SYNC_BYTE};
use super::pes::{self, TICKS_PER_SECOND, TIMESTAMP_BITS};
use super::psi::{emit_pat, emit_pmt, packetize};
use super::unit::{Program, Unit};
use std::sync::Arc;

/// PID of the program map, unless the sender uses it for a track.
const MAP_PID: u16 = 0x1000;
/// How far the clock reference is behind the DTS when the sender's own distance is not known, in ticks.
const CLOCK_LEAD_TICKS: i64 = TICKS_PER_SECOND * 7 / 10;
/// Smallest distance, in ticks: sound that is interleaved late must not be late against the clock.
const CLOCK_LEAD_TICKS_MIN: i64 = TICKS_PER_SECOND / 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Muxer {
    program: Option<Arc<Program>>,
    tables: Option<Tables>,
    pat_continuity: u8,
    pmt_continuity: u8,
    /// By track.
    continuity: Vec<u8>,
    clock_lead: Option<i64>,
    epoch: u32,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Tables {
    pat: Vec<u8>,
    pmt: Vec<u8>,
    pmt_pid: u16,
}

impl Muxer {
    /// Writes program association and map, as a segment begins with. Nothing before the first unit.
    pub fn write_tables(&mut self, out: &mut Vec<u8>) {
        let Some(tables) = &self.tables else { return };
        packetize(&tables.pat, PID_PAT, &mut self.pat_continuity, out);
        packetize(&tables.pmt, tables.pmt_pid, &mut self.pmt_continuity, out);
    }

    /// Writes a unit; before each random access point of the leading track, and where the program changed, the tables.
    pub fn write_unit(&mut self, unit: &Unit, out: &mut Vec<u8>) {
        let changed = self.adopt(unit);
        if changed || unit.starts_output() {
            self.write_tables(out);
        }
        let Some(stream) = unit.program.map.streams.get(unit.track) else { return };
        let mut header = std::mem::take(&mut self.scratch);
        header.clear();
        pes::emit(unit.track().stream_id, wire(unit.pts), wire(unit.dts), unit.payload.len(), &mut header);
        let clock =
            (unit.track == unit.program.lead()).then(|| wire(unit.dts - self.clock_lead.unwrap_or(CLOCK_LEAD_TICKS)));
        let first = FirstPacket { clock, random_access: unit.random_access, discontinuity: unit.epoch != self.epoch };
        self.epoch = unit.epoch;
        write_pes(stream.pid, &mut self.continuity[unit.track], first, &header, &unit.payload, out);
        self.scratch = header;
    }

    /// Takes over the unit's program; says whether the tables changed.
    fn adopt(&mut self, unit: &Unit) -> bool {
        if unit.track == unit.program.lead() && (self.clock_lead.is_none() || self.epoch != unit.epoch) {
            self.clock_lead = unit.clock_lead.map(|lead| lead.max(CLOCK_LEAD_TICKS_MIN));
        }
        if self.program.as_ref().is_some_and(|program| Arc::ptr_eq(program, &unit.program)) {
            return false;
        }
        let changed = self.program.as_ref().is_none_or(|program| program.map != unit.program.map);
        if changed {
            let map = &unit.program.map;
            let pmt_pid = if map.streams.iter().any(|stream| stream.pid == MAP_PID) { MAP_PID + 1 } else { MAP_PID };
            let pcr_pid = map.streams.get(unit.program.lead()).map_or(0x1fff, |stream| stream.pid);
            self.tables =
                emit_pmt(map, pcr_pid).map(|pmt| Tables { pat: emit_pat(map.program, pmt_pid), pmt, pmt_pid });
            self.continuity.resize(map.streams.len(), 0);
        }
        self.program = Some(Arc::clone(&unit.program));
        changed
    }
}

#[derive(Clone, Copy)]
struct FirstPacket {
    clock: Option<u64>,
    random_access: bool,
    discontinuity: bool,
}

fn write_pes(pid: u16, continuity: &mut u8, first: FirstPacket, header: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    let total = header.len() + payload.len();
    out.reserve((total / (PACKET_BYTES - 4) + 2) * PACKET_BYTES);
    let mut adaptation = Vec::with_capacity(8);
    if first.clock.is_some() || first.random_access || first.discontinuity {
        let flags = u8::from(first.discontinuity) << 7 | u8::from(first.random_access) << 6;
        adaptation.push(flags | u8::from(first.clock.is_some()) << 4);
        if let Some(clock) = first.clock {
            adaptation.extend_from_slice(&((clock >> 1) as u32).to_be_bytes());
            adaptation.extend_from_slice(&[(clock as u8 & 1) << 7 | 0x7e, 0]);
        }
    }
    let (mut header, mut payload, mut unit_start) = (header, payload, true);
    while unit_start || !header.is_empty() || !payload.is_empty() {
        let left = header.len() + payload.len();
        let has_adaptation = !adaptation.is_empty();
        let mut room = PACKET_BYTES - 4 - if has_adaptation { 1 + adaptation.len() } else { 0 };
        let [high, low] = pid.to_be_bytes();
        let stuffing = room.saturating_sub(left);
        let control = if has_adaptation || stuffing > 0 { 0x30 } else { 0x10 };
        out.extend_from_slice(&[SYNC_BYTE, u8::from(unit_start) << 6 | high, low, control | *continuity & 0x0f]);
        *continuity = continuity.wrapping_add(1) & 0x0f;
        if control == 0x30 {
            room -= stuffing;
            write_adaptation(&adaptation, stuffing, has_adaptation, out);
        }
        let from_header = header.len().min(room);
        out.extend_from_slice(&header[..from_header]);
        let from_payload = payload.len().min(room - from_header);
        out.extend_from_slice(&payload[..from_payload]);
        (header, payload, unit_start) = (&header[from_header..], &payload[from_payload..], false);
        adaptation.clear();
    }
}

/// `stuffing` counts bytes beyond the field's own (its length byte too, where there is no field yet).
fn write_adaptation(field: &[u8], stuffing: usize, has_field: bool, out: &mut Vec<u8>) {
    if has_field {
        out.push((field.len() + stuffing) as u8);
        out.extend_from_slice(field);
        out.resize(out.len() + stuffing, 0xff);
        return;
    }
    out.push((stuffing - 1) as u8);
    if stuffing > 1 {
        out.push(0);
        out.resize(out.len() + stuffing - 2, 0xff);
    }
}

fn wire(ticks: i64) -> u64 {
    ticks as u64 & ((1 << TIMESTAMP_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::demux::packets;
    use crate::media::packet::Packet;
    use crate::media::samples;

    #[test]
    fn what_is_written_is_read_back() {
        let units: Vec<Unit> = [0, 1, 180, 183, 184, 185, 400, 70_000]
            .iter()
            .enumerate()
            .map(|(frame, &size)| samples::picture(900_000 + frame as i64 * 3600, frame == 0, size))
            .collect();
        let bytes = samples::mux(&units);
        assert_eq!(bytes.len() % PACKET_BYTES, 0);
        let (read, demuxer) = samples::demux(&bytes);
        // The last is unbounded and still open.
        assert_eq!(read.len(), units.len() - 1);
        let first = read[0].dts;
        for (read, written) in read.iter().zip(&units) {
            assert_eq!(read.payload, written.payload);
            assert_eq!(read.pts - read.dts, written.pts - written.dts);
            assert_eq!(read.dts - first, written.dts - units[0].dts);
            assert_eq!(read.random_access, written.random_access);
        }
        let counters = demuxer.counters();
        assert_eq!((counters.continuity_gaps, counters.damaged_units, counters.bad_packets), (0, 0, 0));
    }

    #[test]
    fn the_clock_is_as_regular_as_the_pictures_and_always_ahead() {
        let units = samples::programme(3);
        let bytes = samples::mux(&units);
        let clocks: Vec<u64> =
            packets(&bytes).filter_map(|packet| Packet::parse(packet).unwrap().adaptation.pcr).collect();
        assert!(clocks.len() > 70);
        assert!(clocks.windows(2).all(|pair| pair[1] - pair[0] == 3600 * 300));
        assert_eq!(units[0].dts - (clocks[0] / 300) as i64, 54_000);
    }
}
