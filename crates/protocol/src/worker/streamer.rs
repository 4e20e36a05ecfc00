//! Agent and streamer.

use crate::stream::StreamSpec;
use crate::telemetry::StreamTelemetry;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use units::{Bitrate, LinkId, Secret, StreamId};

/// Agent to streamer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ToStreamer {
    /// Begin. Sent once per streamer process; a second one with the same stream is ignored, with another refused.
    Start(Box<StartStreamer>),
    /// Add a link to the running bond, or replace the one with the same id.
    AddLink(StreamerLink),
    /// Take a link out of the bond.
    RemoveLink {
        /// Which.
        link: LinkId,
    },
    /// Change the latency budget while live.
    SetLatency {
        /// Milliseconds.
        latency_ms: u32,
    },
    /// Change the encoder's bitrate range while live.
    SetBitrateRange {
        /// Lowest.
        min: Bitrate,
        /// Highest.
        max: Bitrate,
    },
    /// End: drain, report `Ended`, exit with status 0.
    Stop,
}

/// All a streamer needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartStreamer {
    /// What to send, and where.
    pub spec: StreamSpec,
    /// The source, resolved by the agent.
    pub source: Source,
    /// The first links.
    pub links: Vec<StreamerLink>,
}

/// Where the picture comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Source {
    /// Moving pattern with running clock and tone.
    Test {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Frames per second.
        frames_per_second: u32,
    },
    /// A media file, looped without a gap in time.
    File {
        /// Path on the device.
        path: String,
    },
    /// A V4L2 capture device.
    V4l2 {
        /// `/dev/video0`.
        device: String,
        /// ALSA device of its sound; silence when absent.
        #[serde(default)]
        audio_device: Option<String>,
    },
    /// A stream from the local network, by URI (`rtsp://`, `srt://`, `udp://`, `rtmp://`).
    Lan {
        /// The address; may hold a password or a stream key.
        uri: Secret,
    },
}

/// One link of the bond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamerLink {
    /// The bond's number for it.
    pub link: LinkId,
    /// What people call it.
    pub name: String,
    /// Local address to bind to.
    #[serde(default)]
    pub bind: Option<IpAddr>,
    /// Interface to bind to.
    #[serde(default)]
    pub device: Option<String>,
    /// Where its packets go.
    pub remote: SocketAddr,
}

/// Streamer to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FromStreamer {
    /// The first line of every connection.
    Hello {
        /// Process id.
        pid: u32,
        /// Version of the program.
        version: String,
        /// The stream it is running, if it was started.
        stream: Option<StreamId>,
        /// How it stands.
        state: StreamerState,
    },
    /// The state changed.
    State(StreamerState),
    /// Figures, once a second while running.
    Stats(Box<StreamTelemetry>),
    /// Something that happened to the bond or the source, for the "why" timeline.
    Event {
        /// The sentence.
        text: String,
    },
    /// A request could not be carried out; the streamer goes on.
    Refused {
        /// Why, with what to do.
        reason: String,
    },
}

/// How a streamer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StreamerState {
    /// Waiting for `Start`.
    Waiting,
    /// The pipeline is being built and the source opened.
    Opening,
    /// Media flows into the bond.
    Running {
        /// How long, milliseconds.
        for_ms: u64,
        /// Name of the video encoder element in use.
        encoder: String,
    },
    /// Stopped as asked.
    Ended,
    /// Failed; the process exits with status 1 after this.
    Failed {
        /// Why, in words.
        reason: String,
        /// What to try.
        next_step: String,
        /// Whether trying again with the same `Start` can help.
        retry: bool,
    },
}
