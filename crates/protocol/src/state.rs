//! What a device says of itself.

use crate::envelope::Body;
use crate::stream::EncodingSpec;
use serde::{Deserialize, Serialize};
use units::{Bitrate, LinkId, StreamId};

/// A device's reported state, on [`crate::topic::Leaf::State`]: the whole of it, on change and on connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceState {
    /// The one kind there is.
    State {
        /// Version of the agent.
        agent_version: String,
        /// What the hardware calls itself.
        board: String,
        /// Settings in force.
        settings: Settings,
        /// The stream, if any.
        streaming: StreamingState,
        /// Capture inputs, at most [`crate::limits::INPUTS_MAX`].
        inputs: Vec<InputState>,
        /// Network uplinks, at most [`crate::limits::LINKS_MAX`].
        uplinks: Vec<UplinkState>,
    },
}

impl Body for DeviceState {
    const KINDS: &'static [&'static str] = &["state"];
}

/// Settings in force on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The name people see.
    pub name: String,
    /// Id of the input to use when a stream names none.
    pub input: Option<String>,
    /// Latency budget for streams started on the device, milliseconds.
    pub latency_ms: u32,
    /// Encoding for streams started on the device.
    pub encoding: EncodingSpec,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: "Strata".to_owned(), input: None, latency_ms: 1000, encoding: EncodingSpec::default() }
    }
}

/// What the device's stream is doing, as the device knows it. ON AIR is the relay's word, not the device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StreamingState {
    /// No stream.
    Idle,
    /// The media process is being started.
    Starting {
        /// Which stream.
        stream: StreamId,
    },
    /// Media is being sent.
    Sending {
        /// Which stream.
        stream: StreamId,
        /// How long, milliseconds.
        for_ms: u64,
    },
    /// The media process died or found no way out; it is being started again.
    Recovering {
        /// Which stream.
        stream: StreamId,
        /// Why, in words.
        reason: String,
        /// How often it was tried.
        attempt: u32,
    },
    /// The stream is being ended.
    Stopping {
        /// Which stream.
        stream: StreamId,
    },
    /// The stream failed for good; stays until the next start or stop.
    Failed {
        /// Which stream.
        stream: StreamId,
        /// Why, in words.
        reason: String,
        /// What to try next.
        next_step: String,
    },
}

impl StreamingState {
    /// The stream this state is about.
    pub const fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::Idle => None,
            Self::Starting { stream }
            | Self::Sending { stream, .. }
            | Self::Recovering { stream, .. }
            | Self::Stopping { stream }
            | Self::Failed { stream, .. } => Some(stream),
        }
    }
}

/// One capture input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputState {
    /// Stable id: `test`, `file`, `v4l2-video0`, `lan-1`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What kind of source it is.
    pub kind: InputKind,
    /// Whether there is a picture to take.
    pub signal: Signal,
}

/// Kinds of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    /// Moving pattern with running clock and tone.
    Test,
    /// A media file, looped.
    File,
    /// A V4L2 capture device (HDMI-RX, UVC).
    V4l2,
    /// A stream from the local network (RTSP, SRT, RTMP, UDP).
    Lan,
}

/// State of an input's signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "kebab-case")]
pub enum Signal {
    /// Present.
    Present {
        /// "1920x1080p50" where known.
        #[serde(default)]
        mode: Option<String>,
    },
    /// Absent.
    Absent {
        /// Why and what to do, in words.
        reason: String,
    },
    /// Known only once it is opened.
    Unknown,
}

/// One network uplink of the device, whether or not a bond uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkState {
    /// The bond's number for it.
    pub link: LinkId,
    /// What people call it: "Modem 1 (Vodafone)".
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// What it is.
    pub kind: UplinkKind,
    /// Whether it may carry media, and if not, why.
    pub usable: Usability,
    /// Radio, for modems and Wi-Fi.
    #[serde(default)]
    pub radio: Option<Radio>,
}

/// Kinds of uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkKind {
    /// Cellular modem.
    Modem,
    /// Wi-Fi as a client.
    Wifi,
    /// Wired.
    Ethernet,
}

/// Whether an uplink can carry media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "usable", rename_all = "kebab-case")]
pub enum Usability {
    /// It can.
    Yes,
    /// It cannot.
    No {
        /// Why and what to do, in words: "registered, no data: check plan and APN".
        reason: String,
    },
}

/// Radio readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Radio {
    /// "4G", "5G", "Wi-Fi".
    pub technology: String,
    /// Operator or network name.
    pub operator: String,
    /// Signal strength, dBm.
    pub signal_dbm: f32,
    /// Age of the reading, milliseconds.
    pub age_ms: u64,
}

/// Whether a device is connected, on [`crate::topic::Leaf::Presence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Presence {
    /// Said by the device after it connects.
    Online,
    /// Said by the last will, or by the device before it goes down.
    Offline,
}

impl Body for Presence {
    const KINDS: &'static [&'static str] = &["online", "offline"];
}

/// Something that happened on a device, on [`crate::topic::Leaf::Event`]; kept while offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceEvent {
    /// The crew pressed GO LIVE: the relay is asked to start a stream with its usual destinations.
    GoLiveRequested,
    /// The crew pressed stop; the device has already stopped sending.
    StopRequested {
        /// Which stream.
        stream: StreamId,
    },
    /// Something the operator should see.
    Remark {
        /// How bad.
        severity: Severity,
        /// What happened, and what to do.
        text: String,
    },
}

impl Body for DeviceEvent {
    const KINDS: &'static [&'static str] = &["go-live-requested", "stop-requested", "remark"];
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Healing by itself, but wrong.
    Warning,
    /// A person must act.
    Error,
}

/// How one output of a stream stands, as the receiver process knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStatus {
    /// Id within the stream: the destination's id, or `hls`, `recording`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How it stands.
    pub state: OutputState,
    /// Bytes delivered so far.
    #[serde(default)]
    pub bytes: u64,
    /// What it carries now.
    #[serde(default)]
    pub rate: Bitrate,
}

/// State of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum OutputState {
    /// Nothing to send yet.
    Waiting,
    /// Connecting.
    Connecting,
    /// Delivering.
    Active,
    /// Broken; trying again.
    Retrying {
        /// Why, in words, with what to do; never a key.
        reason: String,
        /// When, milliseconds from now.
        next_try_ms: u64,
    },
    /// Given up or full disk: a person must act.
    Failed {
        /// Why, in words, with what to do; never a key.
        reason: String,
    },
}
