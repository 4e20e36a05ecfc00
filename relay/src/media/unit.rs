//! Access units on the output timeline: what every output is fed with.

use super::aac::AacConfig;
use super::nal::VideoCodec;
use super::psi::ProgramMap;
use super::video::VideoConfig;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// What an elementary stream carries, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Pictures.
    Video(VideoCodec),
    /// AAC in ADTS.
    Aac,
    /// Passed through where the output can: other audio, subtitles, metadata.
    Other,
}

impl TrackKind {
    /// By the program map's stream type (ISO/IEC 13818-1 table 2-34).
    pub const fn of_stream_type(stream_type: u8) -> Self {
        match stream_type {
            0x1b => Self::Video(VideoCodec::H264),
            0x24 => Self::Video(VideoCodec::H265),
            0x0f => Self::Aac,
            _ => Self::Other,
        }
    }

    /// Whether it is video.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::Video(_))
    }
}

/// One elementary stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What it carries.
    pub kind: TrackKind,
    /// Known from the first unit with parameter sets on.
    pub video: Option<VideoConfig>,
    /// Known from the first frame on.
    pub aac: Option<AacConfig>,
    /// `stream_id` of its PES packets.
    pub stream_id: u8,
}

/// The elementary streams of a program; replaced as a whole when anything in it changes, so that a consumer compares
/// pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// As it came; `tracks` has the same order.
    pub map: ProgramMap,
    /// In the order of `map.streams`.
    pub tracks: Vec<Track>,
}

impl Program {
    /// The first video track.
    pub fn video(&self) -> Option<&VideoConfig> {
        self.tracks.iter().find_map(|track| track.video.as_ref())
    }

    /// The first AAC track.
    pub fn aac(&self) -> Option<AacConfig> {
        self.tracks.iter().find_map(|track| track.aac)
    }

    /// Index of the track that leads: segments and sessions begin at its random access points. The first video track,
    /// else the first.
    pub fn lead(&self) -> usize {
        self.tracks.iter().position(|track| track.kind.is_video()).unwrap_or(0)
    }
}

/// One access unit: a picture, or what one PES packet of another track holds.
#[derive(Clone)]
pub struct Unit {
    /// The program it belongs to.
    pub program: Arc<Program>,
    /// Index into the program's tracks.
    pub track: usize,
    /// Presentation, in ticks of 90 kHz on the output timeline.
    pub pts: i64,
    /// Decoding, in ticks of 90 kHz on the output timeline; strictly rises within a track.
    pub dts: i64,
    /// How far the sender's clock reference was behind the DTS, in ticks of 90 kHz.
    pub clock_lead: Option<i64>,
    /// A decoder can start here.
    pub random_access: bool,
    /// Counts the sender's time bases; where it changes, the picture was interrupted.
    pub epoch: u32,
    /// Units of this track were lost just before.
    pub after_loss: bool,
    /// Annex B, ADTS frames, or whatever the PES packet held.
    pub payload: Bytes,
}

impl Unit {
    /// Its track.
    pub fn track(&self) -> &Track {
        &self.program.tracks[self.track]
    }

    /// Whether a segment or a session can begin with it.
    pub fn starts_output(&self) -> bool {
        self.random_access && self.track == self.program.lead()
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("kind", &self.track().kind)
            .field("pts", &self.pts)
            .field("dts", &self.dts)
            .field("random_access", &self.random_access)
            .field("epoch", &self.epoch)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
