//! Synthetic media for unit tests: small, but with everything that is looked at.

use super::demux::{Demuxer, packets};
use super::mux::Muxer;
use super::nal::VideoCodec;
use super::psi::{ProgramMap, StreamEntry};
use super::timeline::Timeline;
use super::unit::{Program, Track, TrackKind, Unit};
use super::video;
use bytes::Bytes;
use std::sync::Arc;
use units::Timestamp;

/// x264, High, level 4.0, 1920x1080.
pub(crate) const SPS: &str = "67640028acd940780227e5c044000003000400000300c83c60c658";
pub(crate) const PPS: &str = "68ebe3cb22c0";
/// Ticks between pictures: 25 a second.
pub(crate) const FRAME_TICKS: i64 = 3600;

pub(crate) fn program() -> Arc<Program> {
    let stream = |pid, stream_type| StreamEntry { pid, stream_type, descriptors: Bytes::new() };
    let track = |kind, stream_id| Track { kind, video: None, aac: None, stream_id };
    Arc::new(Program {
        map: ProgramMap {
            program: 1,
            descriptors: Bytes::new(),
            streams: vec![stream(0x100, 0x1b), stream(0x101, 0x0f)],
        },
        tracks: vec![track(TrackKind::Video(VideoCodec::H264), 0xe0), track(TrackKind::Aac, 0xc0)],
    })
}

/// A picture of about `bytes`; an IDR one comes with its parameter sets.
pub(crate) fn picture(dts: i64, idr: bool, bytes: usize) -> Unit {
    let mut payload = vec![0, 0, 0, 1, 9, 0xf0];
    if idr {
        for set in [SPS, PPS] {
            payload.extend_from_slice(&[0, 0, 0, 1]);
            payload.extend_from_slice(&hex::decode(set).unwrap());
        }
    }
    payload.extend_from_slice(&[0, 0, 1, if idr { 0x65 } else { 0x41 }]);
    payload.extend((0..bytes).map(|index| (index % 251) as u8 | 1));
    let mut program = Arc::unwrap_or_clone(program());
    let unit = video::inspect(VideoCodec::H264, &payload);
    program.tracks[0].video = unit.config(VideoCodec::H264, None);
    Unit {
        program: Arc::new(program),
        track: 0,
        pts: dts + FRAME_TICKS,
        dts,
        clock_lead: Some(54_000),
        random_access: idr,
        epoch: 0,
        after_loss: false,
        payload: payload.into(),
    }
}

/// One PES packet of `frames` AAC frames.
pub(crate) fn sound(dts: i64, frames: usize) -> Unit {
    let frame = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0xc0, 0, 1, 2, 3, 4, 5, 6, 7];
    let payload: Bytes = frame.repeat(frames).into();
    let mut program = Arc::unwrap_or_clone(program());
    program.tracks[1].aac = super::aac::frames(&payload).next().map(|frame| frame.config);
    Unit {
        program: Arc::new(program),
        track: 1,
        pts: dts,
        dts,
        clock_lead: None,
        random_access: true,
        epoch: 0,
        after_loss: false,
        payload,
    }
}

/// `seconds` of 25 pictures a second, an IDR picture at each whole second, and sound, as units with one common program.
pub(crate) fn programme(seconds: i64) -> Vec<Unit> {
    let mut all = Vec::new();
    for frame in 0..seconds * 25 {
        let dts = 900_000 + frame * FRAME_TICKS;
        let idr = frame % 25 == 0;
        all.push(picture(dts, idr, if idr { 5000 } else { 700 }));
        all.push(sound(dts - 9000, 2));
    }
    // Through the wire, so that all share one program as they do in life.
    demux(&mux(&all)).0
}

pub(crate) fn mux(units: &[Unit]) -> Vec<u8> {
    let (mut muxer, mut bytes) = (Muxer::default(), Vec::new());
    for unit in units {
        muxer.write_unit(unit, &mut bytes);
    }
    bytes
}

pub(crate) fn demux(bytes: &[u8]) -> (Vec<Unit>, Demuxer) {
    let (mut demuxer, mut timeline, mut units) = (Demuxer::default(), Timeline::default(), Vec::new());
    for packet in packets(bytes) {
        demuxer.handle_packet(Timestamp::from_millis(1000), packet, &mut timeline, &mut units);
    }
    (units, demuxer)
}
