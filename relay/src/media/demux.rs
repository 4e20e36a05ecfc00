//! MPEG-TS packets to access units on the output timeline (ISO/IEC 13818-1 section 2.4.3).
//!
//! Follows the first program. A unit with a gap in its continuity counter, without timestamp, or without an end is
//! dropped whole and counted; the next clean unit of the track says [`Unit::after_loss`]. Scrambled packets and
//! garbage are counted and ignored. Nothing in the stream can make it panic or hold more than
//! [`UNIT_BYTES_MAX`] for each of [`super::psi::STREAMS_MAX`] tracks.

use super::aac;
use super::packet::{PACKET_BYTES, PID_PAT, Packet};
use super::pes::{self, PesHeader};
use super::psi::{ProgramMap, SectionAssembler, parse_pat, parse_pmt};
use super::timeline::{Place, Stamp, Timeline, wrapped_difference};
use super::unit::{Program, Track, TrackKind, Unit};
use super::video::{self, VideoUnit};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use units::Timestamp;

/// Longest access unit in bytes: an intra picture of a 50 Mbit/s stream has a tenth of it. A longer one is dropped.
pub const UNIT_BYTES_MAX: usize = 8 << 20;
/// Largest believed distance of the clock reference to the DTS, in ticks.
const CLOCK_LEAD_TICKS_MAX: i64 = 10 * pes::TICKS_PER_SECOND;

/// What was seen and what was dropped, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DemuxCounters {
    /// Whole access units of video.
    pub video_units: u64,
    /// AAC frames.
    pub audio_frames: u64,
    /// Units dropped because a part is missing or damaged.
    pub damaged_units: u64,
    /// Units dropped because their timestamps are missing or impossible.
    pub misplaced_units: u64,
    /// Gaps in continuity counters.
    pub continuity_gaps: u64,
    /// Packets dropped: no sync byte, marked as damaged, scrambled.
    pub bad_packets: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Demuxer {
    pat: SectionAssembler,
    pmt_pid: Option<u16>,
    pmt: SectionAssembler,
    program: Option<Arc<Program>>,
    /// Same order as the program's tracks.
    tracks: Vec<TrackAssembler>,
    /// Last clock reference, 27 MHz.
    clock: Option<u64>,
    counters: DemuxCounters,
}

/// What a packet begins, for those who cut the raw stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketRole {
    /// Program association or map.
    Table,
    /// A random access point of the leading track begins here; its decoding time on the output timeline.
    RandomAccess {
        /// Ticks.
        dts: i64,
    },
    /// Everything else.
    Other,
}

#[derive(Debug)]
struct TrackAssembler {
    pid: u16,
    continuity: Option<u8>,
    unit: Option<OpenUnit>,
    after_loss: bool,
}

#[derive(Debug)]
struct OpenUnit {
    place: Place,
    clock_lead: Option<i64>,
    random_access: bool,
    stream_id: u8,
    payload: BytesMut,
    /// Missing of a bounded packet.
    remaining: Option<usize>,
}

impl Demuxer {
    /// Everything counted so far.
    pub fn counters(&self) -> DemuxCounters {
        self.counters
    }

    /// The program, once known.
    pub fn program(&self) -> Option<&Arc<Program>> {
        self.program.as_ref()
    }

    /// Packets are missing before the next one: units that are open may have holes that the 4-bit counters cannot show.
    pub fn mark_gap(&mut self) {
        self.pat.abandon();
        self.pmt.abandon();
        for track in &mut self.tracks {
            if track.unit.take().is_some() {
                self.counters.damaged_units += 1;
                track.after_loss = true;
            }
            track.continuity = None;
        }
    }

    /// Another stream begins: everything known is forgotten, except what was counted.
    pub fn restart(&mut self) {
        self.mark_gap();
        *self = Self { counters: self.counters, ..Self::default() };
    }

    /// Takes one packet of 188 bytes; whole units are appended to `out`.
    pub fn handle_packet(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        timeline: &mut Timeline,
        out: &mut Vec<Unit>,
    ) -> PacketRole {
        let packet = match Packet::parse(bytes) {
            Ok(packet) if !packet.scrambled => packet,
            _ => {
                self.counters.bad_packets += 1;
                return PacketRole::Other;
            }
        };
        if packet.adaptation.pcr.is_some() {
            self.clock = packet.adaptation.pcr;
        }
        let Some(payload) = packet.payload else { return PacketRole::Other };
        if packet.pid == PID_PAT {
            self.handle_pat(packet.unit_start, payload);
            return PacketRole::Table;
        }
        if Some(packet.pid) == self.pmt_pid {
            self.handle_pmt(packet.unit_start, payload);
            return PacketRole::Table;
        }
        match self.tracks.iter().position(|track| track.pid == packet.pid) {
            Some(index) => self.handle_track(now, index, &packet, payload, timeline, out),
            None => PacketRole::Other,
        }
    }

    fn handle_pat(&mut self, unit_start: bool, payload: &[u8]) {
        let Some(pid) = self.pat.push(unit_start, payload).and_then(|section| parse_pat(&section)) else { return };
        if self.pmt_pid != Some(pid) {
            self.pmt_pid = Some(pid);
            self.pmt.abandon();
        }
    }

    fn handle_pmt(&mut self, unit_start: bool, payload: &[u8]) {
        let Some(map) = self.pmt.push(unit_start, payload).and_then(|section| parse_pmt(&section)) else { return };
        if self.program.as_ref().is_some_and(|program| program.map == map) {
            return;
        }
        self.tracks = map.streams.iter().map(|stream| TrackAssembler::new(stream.pid)).collect();
        self.program = Some(Arc::new(new_program(map)));
    }

    fn handle_track(
        &mut self,
        now: Timestamp,
        index: usize,
        packet: &Packet<'_>,
        payload: &[u8],
        timeline: &mut Timeline,
        out: &mut Vec<Unit>,
    ) -> PacketRole {
        let track = &mut self.tracks[index];
        match track.check_continuity(packet) {
            Continuity::Repeated => return PacketRole::Other,
            Continuity::Gap => {
                self.counters.continuity_gaps += 1;
                self.counters.damaged_units += u64::from(track.unit.take().is_some());
                track.after_loss = true;
            }
            Continuity::Follows => {}
        }
        if !packet.unit_start {
            self.append(index, payload, out);
            return PacketRole::Other;
        }
        self.finish_unbounded(index, out);
        self.begin_unit(now, index, packet, payload, timeline, out)
    }

    fn begin_unit(
        &mut self,
        now: Timestamp,
        index: usize,
        packet: &Packet<'_>,
        payload: &[u8],
        timeline: &mut Timeline,
        out: &mut Vec<Unit>,
    ) -> PacketRole {
        let Some(header) = pes::parse(payload) else {
            self.counters.damaged_units += 1;
            self.tracks[index].after_loss = true;
            return PacketRole::Other;
        };
        let Some((place, clock_lead)) = self.place(now, packet.pid, &header, timeline) else {
            self.counters.misplaced_units += 1;
            self.tracks[index].after_loss = true;
            return PacketRole::Other;
        };
        let content = &payload[header.header_bytes..];
        let random_access = packet.adaptation.random_access || self.looks_like_random_access(index, content);
        self.tracks[index].unit = Some(OpenUnit {
            place,
            clock_lead,
            random_access: packet.adaptation.random_access,
            stream_id: header.stream_id,
            payload: BytesMut::new(),
            remaining: header.payload_bytes,
        });
        self.append(index, content, out);
        let leads = self.program.as_ref().is_some_and(|program| program.lead() == index);
        if leads && random_access { PacketRole::RandomAccess { dts: place.dts } } else { PacketRole::Other }
    }

    fn place(
        &self,
        now: Timestamp,
        pid: u16,
        header: &PesHeader,
        timeline: &mut Timeline,
    ) -> Option<(Place, Option<i64>)> {
        let (pts, dts) = (header.pts?, header.dts?);
        let place = timeline.place(now, Stamp { pid, pts, dts }).ok()?;
        let lead = self.clock.map(|clock| wrapped_difference(dts, clock / 300));
        Some((place, lead.filter(|lead| (0..CLOCK_LEAD_TICKS_MAX).contains(lead))))
    }

    /// For senders that do not set the random access indicator: the parameter sets fit into the first packet.
    fn looks_like_random_access(&self, index: usize, content: &[u8]) -> bool {
        match self.program.as_ref().map(|program| program.tracks[index].kind) {
            Some(TrackKind::Video(codec)) => {
                let unit = video::inspect(codec, content);
                unit.random_access || unit.has_parameters()
            }
            _ => false,
        }
    }

    fn append(&mut self, index: usize, content: &[u8], out: &mut Vec<Unit>) {
        let track = &mut self.tracks[index];
        let Some(unit) = &mut track.unit else { return };
        let take = unit.remaining.map_or(content.len(), |remaining| remaining.min(content.len()));
        if unit.payload.len() + take > UNIT_BYTES_MAX {
            self.counters.damaged_units += 1;
            (track.unit, track.after_loss) = (None, true);
            return;
        }
        unit.payload.extend_from_slice(&content[..take]);
        if let Some(remaining) = &mut unit.remaining {
            *remaining -= take;
            if *remaining == 0 {
                self.finish(index, out);
            }
        }
    }

    /// A new unit begins: the one before ends here if it had no length of its own, else it is incomplete.
    fn finish_unbounded(&mut self, index: usize, out: &mut Vec<Unit>) {
        match &self.tracks[index].unit {
            Some(unit) if unit.remaining.is_some() => {
                self.counters.damaged_units += 1;
                (self.tracks[index].unit, self.tracks[index].after_loss) = (None, true);
            }
            Some(_) => self.finish(index, out),
            None => {}
        }
    }

    fn finish(&mut self, index: usize, out: &mut Vec<Unit>) {
        let (Some(open), Some(program)) = (self.tracks[index].unit.take(), &mut self.program) else { return };
        let payload = open.payload.freeze();
        let mut random_access = open.random_access;
        match program.tracks[index].kind {
            TrackKind::Video(codec) => {
                let video = video::inspect(codec, &payload);
                if !video.has_slice {
                    self.counters.damaged_units += 1;
                    return;
                }
                random_access |= video.random_access;
                self.counters.video_units += 1;
                note_video(program, index, &video);
            }
            TrackKind::Aac => {
                random_access = true;
                self.counters.audio_frames += note_aac(program, index, &payload);
            }
            TrackKind::Other => random_access = true,
        }
        if program.tracks[index].stream_id != open.stream_id {
            Arc::make_mut(program).tracks[index].stream_id = open.stream_id;
        }
        out.push(Unit {
            program: Arc::clone(program),
            track: index,
            pts: open.place.pts,
            dts: open.place.dts,
            clock_lead: open.clock_lead,
            random_access,
            epoch: open.place.epoch,
            after_loss: std::mem::take(&mut self.tracks[index].after_loss),
            payload,
        });
    }
}

fn new_program(map: ProgramMap) -> Program {
    let tracks = map.streams.iter().map(|stream| Track {
        kind: TrackKind::of_stream_type(stream.stream_type),
        video: None,
        aac: None,
        stream_id: 0,
    });
    Program { tracks: tracks.collect(), map }
}

fn note_video(program: &mut Arc<Program>, index: usize, unit: &VideoUnit) {
    let TrackKind::Video(codec) = program.tracks[index].kind else { return };
    if let Some(config) = unit.config(codec, program.tracks[index].video.as_ref()) {
        Arc::make_mut(program).tracks[index].video = Some(config);
    }
}

/// Counts the frames and keeps the configuration.
fn note_aac(program: &mut Arc<Program>, index: usize, payload: &Bytes) -> u64 {
    let mut count = 0;
    for frame in aac::frames(payload) {
        count += 1;
        if program.tracks[index].aac != Some(frame.config) {
            Arc::make_mut(program).tracks[index].aac = Some(frame.config);
        }
    }
    count
}

enum Continuity {
    Follows,
    Repeated,
    Gap,
}

impl TrackAssembler {
    fn new(pid: u16) -> Self {
        Self { pid, continuity: None, unit: None, after_loss: false }
    }

    fn check_continuity(&mut self, packet: &Packet<'_>) -> Continuity {
        let Some(last) = self.continuity.replace(packet.continuity) else { return Continuity::Follows };
        match packet.continuity.wrapping_sub(last) & 0x0f {
            1 => Continuity::Follows,
            _ if packet.adaptation.discontinuity => Continuity::Gap,
            0 => Continuity::Repeated,
            _ => Continuity::Gap,
        }
    }
}

/// Splits a datagram's payload into packets; a rest that is no whole packet is left out.
pub fn packets(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.chunks_exact(PACKET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;
    use proptest::prelude::*;

    fn pids(bytes: &[u8]) -> Vec<u16> {
        packets(bytes).map(|packet| Packet::parse(packet).unwrap().pid).collect()
    }

    #[test]
    fn a_programme_gives_its_pictures_sound_and_parameters() {
        let bytes = samples::mux(&samples::programme(2));
        let (units, demuxer) = samples::demux(&bytes);
        let program = demuxer.program().unwrap();
        assert_eq!(program.video().unwrap().to_string(), "H.264 High 4.0");
        assert_eq!(program.aac().unwrap().to_string(), "AAC-LC 48 kHz 2 ch");
        let video: Vec<&Unit> = units.iter().filter(|unit| unit.track == 0).collect();
        assert_eq!((video.len(), demuxer.counters().video_units), (50, 50));
        assert_eq!(demuxer.counters().audio_frames, 100);
        assert_eq!(video.iter().filter(|unit| unit.random_access).count(), 2);
        assert!(units.iter().all(|unit| !unit.after_loss));
    }

    #[test]
    fn a_lost_packet_costs_its_unit_and_no_other() {
        let bytes = samples::mux(&samples::programme(2));
        let (whole, _) = samples::demux(&bytes);
        // A packet in the middle of the first IDR picture (its third video packet).
        let victim = pids(&bytes).iter().enumerate().filter(|(_, pid)| **pid == 0x100).nth(2).unwrap().0;
        let mut holed = bytes.clone();
        holed.drain(victim * PACKET_BYTES..(victim + 1) * PACKET_BYTES);
        let (units, demuxer) = samples::demux(&holed);
        assert_eq!(units.len(), whole.len() - 1);
        assert_eq!((demuxer.counters().continuity_gaps, demuxer.counters().damaged_units), (1, 1));
        let next = units.iter().find(|unit| unit.track == 0).unwrap();
        assert!(next.after_loss && !next.random_access);
        assert_eq!(units.iter().filter(|unit| unit.after_loss).count(), 1);
    }

    #[test]
    fn a_gap_of_sixteen_packets_is_seen_when_it_is_announced() {
        let bytes = samples::mux(&[samples::picture(900_000, true, 9000), samples::picture(903_600, false, 10)]);
        let (mut demuxer, mut timeline, mut units) = (Demuxer::default(), Timeline::default(), Vec::new());
        for (index, packet) in packets(&bytes).enumerate() {
            if (10..26).contains(&index) {
                continue;
            }
            if index == 26 {
                demuxer.mark_gap();
            }
            demuxer.handle_packet(Timestamp::ZERO, packet, &mut timeline, &mut units);
        }
        assert_eq!((units.len(), demuxer.counters().damaged_units), (1, 1));
        assert!(units[0].after_loss && !units[0].random_access);
    }

    #[test]
    fn repeated_packets_and_foreign_pids_change_nothing() {
        let bytes = samples::mux(&samples::programme(1));
        let mut null = [0xff; PACKET_BYTES];
        null[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        let doubled: Vec<u8> = packets(&bytes).flat_map(|packet| [packet, packet, &null].concat()).collect();
        let strip = |units: Vec<Unit>| units.into_iter().map(|unit| (unit.dts, unit.payload)).collect::<Vec<_>>();
        // A repeated unit start opens the same unit anew; content is the same.
        assert_eq!(strip(samples::demux(&doubled).0), strip(samples::demux(&bytes).0));
    }

    #[test]
    fn random_access_points_are_reported_for_cutting() {
        let bytes = samples::mux(&samples::programme(2));
        let (mut demuxer, mut timeline, mut units) = (Demuxer::default(), Timeline::default(), Vec::new());
        let roles: Vec<PacketRole> = packets(&bytes)
            .map(|packet| demuxer.handle_packet(Timestamp::ZERO, packet, &mut timeline, &mut units))
            .collect();
        let cuts: Vec<usize> =
            (0..roles.len()).filter(|&index| matches!(roles[index], PacketRole::RandomAccess { .. })).collect();
        assert_eq!(cuts.len(), 2);
        assert!(cuts.iter().all(|&cut| roles[cut - 2..cut] == [PacketRole::Table; 2]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        /// Seeded damage of every kind: flipped bytes, lost, doubled and moved packets.
        #[test]
        fn damaged_streams_never_panic_and_never_go_back(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..200),
            moves in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>()), 0..20),
        ) {
            let mut bytes = samples::mux(&samples::programme(1));
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let mut order: Vec<usize> = (0..bytes.len() / PACKET_BYTES).collect();
            for (from, to) in moves {
                let packet = order.remove(from.index(order.len()));
                order.insert(to.index(order.len()), packet);
            }
            let shuffled: Vec<u8> =
                order.iter().flat_map(|at| bytes[at * PACKET_BYTES..(at + 1) * PACKET_BYTES].to_vec()).collect();
            let (units, _) = samples::demux(&shuffled);
            let mut last = std::collections::HashMap::new();
            for unit in units {
                let before = last.insert(unit.program.map.streams[unit.track].pid, unit.dts);
                prop_assert!(before.is_none_or(|before| before < unit.dts));
            }
        }
    }
}
