//! From what the bond delivers to what the outputs are fed with: one stream of access units, and the packets as they came.
//!
//! Pure but for the outputs it pushes to: time comes in as an argument.

use super::flow_choice::{Choice, FlowChoice};
use super::picture_gate::PictureGate;
use crate::media::demux::{Demuxer, PacketRole};
use crate::media::packet::{PACKET_BYTES, PID_PAT, SYNC_BYTE};
use crate::media::timeline::Timeline;
use crate::media::unit::{TrackKind, Unit};
use crate::outputs::queue::{Missing, Raw};
use bytes::{Bytes, BytesMut};
use protocol::worker::receiver::MediaInfo;
use std::sync::Arc;
use units::Timestamp;

/// Table packets kept for the beginning of a recording's part: association and map, the map of three packets at most.
const TABLE_PACKETS_MAX: usize = 4;

/// One payload, as the bond delivered it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which flow.
    pub flow: u32,
    /// Whole TS packets.
    pub bytes: Bytes,
    /// Payloads before it are missing.
    pub gap: bool,
    /// How many, where the bond's figures tell already.
    pub lost: Option<u64>,
}

/// What came of a payload.
#[derive(Debug, Default)]
pub struct Fed {
    /// Whole access units that the outputs can use.
    pub units: Vec<Arc<Unit>>,
    /// The payload for the recording; absent when it is to be ignored.
    pub raw: Option<Raw>,
    /// Another sender began.
    pub switched: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Programme {
    choice: FlowChoice,
    demuxer: Demuxer,
    timeline: Timeline,
    gate: PictureGate,
    tables: Tables,
    media_time: Option<i64>,
    last_unit: Option<Timestamp>,
    scratch: Vec<Unit>,
}

impl Programme {
    /// Takes a payload.
    pub fn feed(&mut self, now: Timestamp, delivery: &Delivery) -> Fed {
        let choice = self.choice.choose(now, delivery.flow);
        let mut missing = Missing::Nothing;
        match choice {
            Choice::Ignore => return Fed::default(),
            Choice::Switch => {
                self.demuxer.restart();
                self.timeline.break_here();
                self.tables = Tables::default();
                missing = Missing::NewSender;
            }
            Choice::Follow if delivery.gap => {
                self.demuxer.mark_gap();
                missing = Missing::Lost { packets: delivery.lost };
            }
            Choice::Follow => {}
        }
        let cut = self.demux(now, &delivery.bytes);
        if !self.scratch.is_empty() {
            self.last_unit = Some(now);
        }
        let units = self.scratch.drain(..).filter(|unit| self.gate.passes(unit)).map(Arc::new).collect();
        let raw = Raw {
            packets: delivery.bytes.clone(),
            cut,
            tables: self.tables.bytes(),
            media_time: self.media_time,
            missing,
        };
        Fed { units, raw: Some(raw), switched: choice == Choice::Switch }
    }

    /// Returns where a part may begin: at the tables that lead to a random access point, or at that itself.
    fn demux(&mut self, now: Timestamp, bytes: &[u8]) -> Option<usize> {
        let (mut cut, mut tables_since) = (None, None);
        for (index, packet) in bytes.chunks_exact(PACKET_BYTES).enumerate() {
            let at = index * PACKET_BYTES;
            match self.demuxer.handle_packet(now, packet, &mut self.timeline, &mut self.scratch) {
                PacketRole::Table => {
                    self.tables.keep(packet);
                    tables_since = tables_since.or(Some(at));
                    continue;
                }
                PacketRole::RandomAccess { dts } => {
                    self.media_time = Some(dts);
                    cut = cut.or(Some(tables_since.unwrap_or(at)));
                }
                PacketRole::Other => {}
            }
            tables_since = None;
        }
        cut
    }

    /// When the last whole access unit came.
    pub fn last_unit(&self) -> Option<Timestamp> {
        self.last_unit
    }

    /// What is in the stream.
    pub fn media(&self) -> Option<MediaInfo> {
        let program = self.demuxer.program()?;
        let counters = self.demuxer.counters();
        let video = program.video();
        let other_audio = || {
            let other = program.map.streams.iter().zip(&program.tracks);
            let stream = other.into_iter().find(|(_, track)| track.kind == TrackKind::Other)?.0;
            Some(format!("stream type {:#04x}", stream.stream_type))
        };
        Some(MediaInfo {
            video: video.map(ToString::to_string),
            size: video
                .and_then(|video| video.sequence)
                .map(|sequence| format!("{}x{}", sequence.width, sequence.height)),
            audio: program.aac().map(|aac| aac.to_string()).or_else(other_audio),
            video_frames: counters.video_units,
            audio_frames: counters.audio_frames,
        })
    }

    /// Units that were dropped because a part of them is missing or damaged.
    #[cfg(test)]
    fn damaged_units(&self) -> u64 {
        self.demuxer.counters().damaged_units
    }
}

/// The last table packets, as they came.
#[derive(Debug, Default)]
struct Tables {
    packets: Vec<Bytes>,
    joined: Bytes,
}

impl Tables {
    fn keep(&mut self, packet: &[u8]) {
        if packet.first() != Some(&SYNC_BYTE) {
            return;
        }
        let is_pat = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == PID_PAT;
        if is_pat {
            self.packets.clear();
        }
        if self.packets.len() < TABLE_PACKETS_MAX && (is_pat || !self.packets.is_empty()) {
            self.packets.push(Bytes::copy_from_slice(packet));
        }
        // Whole only when the map is there too.
        if self.packets.len() > 1 {
            let mut joined = BytesMut::new();
            self.packets.iter().for_each(|packet| joined.extend_from_slice(packet));
            self.joined = joined.freeze();
        }
    }

    fn bytes(&self) -> Bytes {
        self.joined.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    fn deliveries(flow: u32, seconds: i64) -> Vec<Delivery> {
        let bytes = Bytes::from(samples::mux(&samples::programme(seconds)));
        let step = 7 * PACKET_BYTES;
        (0..bytes.len().div_ceil(step))
            .map(|index| Delivery {
                flow,
                bytes: bytes.slice(index * step..bytes.len().min((index + 1) * step)),
                gap: false,
                lost: None,
            })
            .collect()
    }

    fn feed(programme: &mut Programme, at_ms: u64, deliveries: &[Delivery]) -> Vec<Fed> {
        deliveries.iter().map(|delivery| programme.feed(Timestamp::from_millis(at_ms), delivery)).collect()
    }

    fn video_times(fed: &[Fed]) -> Vec<i64> {
        fed.iter().flat_map(|fed| &fed.units).filter(|unit| unit.track == 0).map(|unit| unit.dts).collect()
    }

    #[test]
    fn a_restarted_sender_continues_the_timeline_and_is_a_gap_in_the_recording() {
        let mut programme = Programme::default();
        let first = feed(&mut programme, 1000, &deliveries(10, 2));
        let second = feed(&mut programme, 5000, &deliveries(20, 2));
        assert!(second[0].switched && !second[1].switched);
        assert_eq!(second[0].raw.as_ref().unwrap().missing, Missing::NewSender);
        let (before, after) = (video_times(&first), video_times(&second));
        assert_eq!(before.len() + after.len(), 100);
        // Four seconds passed; the sound of the new sender is a tenth of a second early.
        let pause = after[0] - before[before.len() - 1];
        assert!((pause - 4 * 90_000).abs() <= 9000, "{pause}");
        assert!(second.iter().flat_map(|fed| &fed.units).all(|unit| unit.epoch == 1));
        // What the old one still sends is ignored.
        let late = feed(&mut programme, 5100, &deliveries(10, 1));
        assert!(late.iter().all(|fed| fed.units.is_empty() && fed.raw.is_none()));
    }

    #[test]
    fn a_gap_costs_the_open_unit_and_is_told_to_the_recording() {
        let mut programme = Programme::default();
        let mut all = deliveries(10, 2);
        let whole = video_times(&feed(&mut Programme::default(), 0, &all)).len();
        all.remove(2);
        all[2].gap = true;
        let fed = feed(&mut programme, 0, &all);
        assert_eq!(fed[2].raw.as_ref().unwrap().missing, Missing::Lost { packets: None });
        assert_eq!(fed.iter().filter(|fed| fed.raw.as_ref().unwrap().missing != Missing::Nothing).count(), 1);
        assert!(programme.damaged_units() >= 1);
        let came = video_times(&fed).len();
        assert!(came < whole && came >= whole - 3, "{came} of {whole}");
    }

    #[test]
    fn parts_may_begin_at_the_tables_before_an_idr_picture() {
        let mut programme = Programme::default();
        let fed = feed(&mut programme, 0, &deliveries(10, 3));
        let cuts: Vec<&Raw> = fed.iter().filter_map(|fed| fed.raw.as_ref()).filter(|raw| raw.cut.is_some()).collect();
        assert_eq!(cuts.len(), 3);
        for raw in cuts {
            let at = raw.cut.unwrap();
            let pid = u16::from_be_bytes([raw.packets[at + 1] & 0x1f, raw.packets[at + 2]]);
            // The tables and the picture may be in different payloads; then the kept tables serve.
            assert!(pid == PID_PAT || (at == 0 && raw.tables.len() == 2 * PACKET_BYTES), "{pid:#x} at {at}");
        }
    }

    #[test]
    fn media_is_described_once_it_is_known() {
        let mut programme = Programme::default();
        assert_eq!(programme.media(), None);
        feed(&mut programme, 0, &deliveries(10, 1));
        let media = programme.media().unwrap();
        assert_eq!(media.video.as_deref(), Some("H.264 High 4.0"));
        assert_eq!(media.size.as_deref(), Some("1920x1080"));
        assert_eq!(media.audio.as_deref(), Some("AAC-LC 48 kHz 2 ch"));
        assert_eq!((media.video_frames, media.audio_frames), (25, 50));
    }
}
