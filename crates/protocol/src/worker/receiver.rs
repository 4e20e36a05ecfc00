//! Relay and receiver.

use crate::Secret;
use crate::state::OutputStatus;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use units::{Bitrate, LossRatio, StreamId};

/// Relay to receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ToReceiver {
    /// Begin. Sent once per receiver process; a second one with the same stream is ignored, with another refused.
    Start(Box<StartReceiver>),
    /// Add an output, or replace the one with the same id.
    AddOutput(OutputSpec),
    /// Take an output away.
    RemoveOutput {
        /// Which.
        id: String,
    },
    /// Change the latency budget while live.
    SetLatency {
        /// Milliseconds.
        latency_ms: u32,
    },
    /// End: drain, close files, report `Ended`, exit with status 0.
    Stop,
}

/// All a receiver needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartReceiver {
    /// The stream.
    pub stream: StreamId,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Pass phrase of the bond's AES-256 encryption.
    pub key: Secret,
    /// Latency budget, milliseconds.
    pub latency_ms: u32,
    /// Directory of this stream's files; the receiver makes `hls/` and `recording/` in it.
    pub directory: String,
    /// Outputs from the beginning.
    pub outputs: Vec<OutputSpec>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Id within the stream.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it goes.
    pub target: OutputTarget,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "kebab-case")]
pub enum OutputTarget {
    /// HLS segments and playlist in `hls/` of the stream's directory.
    Hls,
    /// MPEG-TS parts and a gap list in `recording/` of the stream's directory.
    Recording,
    /// RTMP publish.
    Rtmp {
        /// `rtmp://host[:port]/app` or `rtmps://...`.
        url: String,
        /// Stream key.
        key: Secret,
    },
    /// SRT caller.
    Srt {
        /// `srt://host:port`, with `latency` and `streamid` as query parameters.
        url: String,
        /// Pass phrase, empty for none.
        #[serde(default)]
        passphrase: Secret,
    },
}

/// Receiver to relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FromReceiver {
    /// The first line of every connection.
    Hello {
        /// Process id.
        pid: u32,
        /// Version of the program.
        version: String,
        /// The stream it is running, if it was started.
        stream: Option<StreamId>,
        /// How it stands.
        state: ReceiverState,
    },
    /// The state changed.
    State(ReceiverState),
    /// Figures, once a second while running.
    Stats(Box<ReceiverStats>),
    /// Something that happened to the bond or an output, for the "why" timeline.
    Event {
        /// The sentence; never a key.
        text: String,
    },
    /// A request could not be carried out; the receiver goes on.
    Refused {
        /// Why, with what to do.
        reason: String,
    },
}

/// How a receiver stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ReceiverState {
    /// Waiting for `Start`.
    Waiting,
    /// Listening; no media yet.
    Ready {
        /// The UDP address in use.
        listen: SocketAddr,
    },
    /// Media arrives.
    Receiving {
        /// How long since media first arrived, milliseconds.
        for_ms: u64,
    },
    /// Media arrived before, and does not now.
    Interrupted {
        /// Since when, milliseconds.
        for_ms: u64,
    },
    /// Stopped as asked.
    Ended,
    /// Failed; the process exits with status 1 after this.
    Failed {
        /// Why, with what to do.
        reason: String,
    },
}

/// A stream as its receiver sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReceiverStats {
    /// Milliseconds since the receiver started; tells age and restarts.
    pub uptime_ms: u64,
    /// Media delivered in order and on time, current rate.
    pub rate: Bitrate,
    /// Payloads delivered since the stream began.
    pub delivered: u64,
    /// Payloads never delivered.
    pub lost: u64,
    /// Payloads that came too late (counted in `lost` too).
    pub late: u64,
    /// Payloads that were lost on a link and repaired in time.
    pub recovered: u64,
    /// Second copies dropped.
    pub duplicates: u64,
    /// Latency budget in force, milliseconds.
    pub latency_ms: u32,
    /// From the sender's media clock to delivery, milliseconds: budget plus the fastest path's delay where known.
    pub transit_ms: Option<f32>,
    /// Each link.
    pub links: Vec<ReceiverLink>,
    /// Each output.
    pub outputs: Vec<OutputStatus>,
    /// What is in the stream, once known.
    pub media: Option<MediaInfo>,
}

/// One link as the receiver sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiverLink {
    /// What the sender calls it, else its address.
    pub name: String,
    /// Its address now.
    pub peer: SocketAddr,
    /// Round-trip time, milliseconds.
    pub rtt_ms: Option<f32>,
    /// What it carries now.
    pub rate: Bitrate,
    /// Loss before repair.
    pub loss: LossRatio,
    /// Packets received.
    pub packets: u64,
    /// Time since its last packet, milliseconds.
    pub silent_ms: u64,
}

/// What is in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// "H.264 High 4.0".
    pub video: Option<String>,
    /// "1280x720".
    pub size: Option<String>,
    /// "AAC-LC 48 kHz 2 ch".
    pub audio: Option<String>,
    /// Access units since the stream began.
    pub video_frames: u64,
    /// Audio frames since the stream began.
    pub audio_frames: u64,
}
