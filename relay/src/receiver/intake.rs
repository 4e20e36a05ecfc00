//! From payloads of the bond to what outputs are fed with. Pure: time is an argument.

use crate::media::demux::{Demuxer, PacketRole, packets};
use crate::media::packet::{PACKET_BYTES, PID_PAT, Packet};
use crate::media::timeline::Timeline;
use crate::media::unit::Unit;
use crate::outputs::queue::{Missing, Raw};
use bytes::Bytes;
use protocol::worker::receiver::MediaInfo;
use units::Timestamp;

/// Longest program tables that are kept for the beginning of a part, in bytes; longer ones are no tables.
const TABLE_BYTES_MAX: usize = 16 * PACKET_BYTES;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Intake {
    flow: Option<u32>,
    demuxer: Demuxer,
    timeline: Timeline,
    units: Vec<Unit>,
    association: Vec<u8>,
    map: Vec<u8>,
    media_time: Option<i64>,
}

impl Intake {
    /// Takes a payload of `flow`, with what the bond could not deliver before it: gives the packets for those who store
    /// them, and the units that became whole.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        flow: u32,
        bytes: &Bytes,
        missing: Missing,
    ) -> (Raw, impl Iterator<Item = Unit> + '_) {
        let missing = self.note_break(flow, missing);
        let mut cut = None;
        for (index, packet) in packets(bytes).enumerate() {
            match self.demuxer.handle_packet(now, packet, &mut self.timeline, &mut self.units) {
                PacketRole::RandomAccess { dts } => {
                    cut = cut.or(Some(index * PACKET_BYTES));
                    self.media_time = Some(dts);
                }
                PacketRole::Table => self.keep_table(packet),
                PacketRole::Other => {}
            }
        }
        if let Some(last) = self.units.last() {
            self.media_time = self.media_time.max(Some(last.dts));
        }
        let whole = bytes.len() / PACKET_BYTES * PACKET_BYTES;
        let raw = Raw {
            packets: bytes.slice(..whole),
            cut,
            tables: Bytes::from([self.association.as_slice(), &self.map].concat()),
            media_time: self.media_time,
            missing,
        };
        (raw, self.units.drain(..))
    }

    fn note_break(&mut self, flow: u32, missing: Missing) -> Missing {
        let before = self.flow.replace(flow);
        if before.is_some_and(|before| before != flow) {
            self.demuxer.restart();
            self.timeline.break_here();
            (self.association, self.map) = Default::default();
            return Missing::NewSender;
        }
        if missing != Missing::Nothing {
            self.demuxer.mark_gap();
        }
        missing
    }

    fn keep_table(&mut self, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else { return };
        let table = if packet.pid == PID_PAT { &mut self.association } else { &mut self.map };
        if packet.unit_start {
            table.clear();
        }
        if table.len() < TABLE_BYTES_MAX {
            table.extend_from_slice(bytes);
        }
    }

    /// What is in the stream, once known.
    pub(super) fn media(&self) -> Option<MediaInfo> {
        let program = self.demuxer.program()?;
        let counters = self.demuxer.counters();
        let video = program.video();
        let sequence = video.and_then(|video| video.sequence.as_ref());
        Some(MediaInfo {
            video: video.map(ToString::to_string),
            size: sequence.map(|sequence| format!("{}x{}", sequence.width, sequence.height)),
            audio: program.aac().map(|aac| aac.to_string()),
            video_frames: counters.video_units,
            audio_frames: counters.audio_frames,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    const NOTHING: Missing = Missing::Nothing;

    fn payloads(bytes: &[u8]) -> Vec<Bytes> {
        bytes.chunks(7 * PACKET_BYTES).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn packets_go_through_untouched_and_units_come_out() {
        let bytes = samples::mux(&samples::programme(2));
        let mut intake = Intake::default();
        let (mut stored, mut units, mut cuts) = (Vec::new(), 0, 0);
        for payload in payloads(&bytes) {
            let (raw, whole) = intake.take(Timestamp::ZERO, 1, &payload, NOTHING);
            units += whole.count();
            stored.extend_from_slice(&raw.packets);
            cuts += usize::from(raw.cut.is_some());
            if let Some(cut) = raw.cut {
                assert!(raw.packets[cut] == 0x47 && raw.tables.len() == 2 * PACKET_BYTES);
            }
        }
        assert!(stored == bytes && cuts == 2, "{cuts}");
        assert!(units >= 98, "all but the last of each track: {units}");
        let media = intake.media().unwrap();
        assert_eq!((media.size.as_deref(), media.video.as_deref()), (Some("1920x1080"), Some("H.264 High 4.0")));
        assert!(media.video_frames >= 49 && media.audio_frames >= 98, "{media:?}");
    }

    #[test]
    fn a_new_sender_and_a_loss_are_told() {
        let bytes = samples::mux(&samples::programme(1));
        let mut intake = Intake::default();
        let lost = Missing::Lost { packets: Some(2) };
        let said = [NOTHING, NOTHING, lost, NOTHING];
        let steps = payloads(&bytes).into_iter().zip(said);
        let told: Vec<_> = steps.map(|(it, missing)| intake.take(Timestamp::ZERO, 1, &it, missing).0.missing).collect();
        assert_eq!(told, said);
        let (raw, _) = intake.take(Timestamp::ZERO, 2, &payloads(&bytes)[0], NOTHING);
        assert_eq!(raw.missing, Missing::NewSender);
    }
}
