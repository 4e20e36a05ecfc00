//! Measured values, once a second.

use crate::envelope::Body;
use crate::state::Radio;
use serde::{Deserialize, Serialize};
use units::{Bitrate, LinkId, LossRatio, StreamId};

/// A device's measurements, on [`crate::topic::Leaf::Telemetry`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Telemetry {
    /// The one kind there is.
    Telemetry {
        /// Milliseconds since the agent started; tells gaps and restarts.
        uptime_ms: u64,
        /// The stream measured, while there is one.
        #[serde(default)]
        stream: Option<StreamTelemetry>,
        /// Temperature of the board, degrees Celsius, where there is a sensor.
        #[serde(default)]
        temperature_c: Option<f32>,
        /// What the radios of the uplinks read, at most [`crate::limits::LINKS_MAX`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        radios: Vec<RadioReading>,
    },
}

impl Body for Telemetry {
    const KINDS: &'static [&'static str] = &["telemetry"];
}

/// What one uplink's radio reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RadioReading {
    /// Which uplink.
    pub link: LinkId,
    /// The reading, with its age when it was sent.
    #[serde(flatten)]
    pub radio: Radio,
}

/// One stream as its sender sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamTelemetry {
    /// Which stream.
    pub stream: StreamId,
    /// Age of these figures when they were sent, milliseconds.
    pub age_ms: u64,
    /// What the bond advises the encoder to produce.
    pub rate_advice: Bitrate,
    /// What the encoder was last asked for.
    pub encoder_target: Bitrate,
    /// Media handed to the bond.
    pub media_rate: Bitrate,
    /// Latency budget, milliseconds.
    pub latency_ms: u32,
    /// Payloads handed to the bond since the stream began.
    pub packets_in: u64,
    /// Retransmits sent since the stream began.
    pub retransmits: u64,
    /// Payloads dropped before they were sent, since the stream began.
    pub dropped: u64,
    /// Name of the encoder element in use: "mpph264enc", "x264enc".
    pub encoder: String,
    /// Each link.
    pub links: Vec<LinkTelemetry>,
}

/// One link of a bond as the sender sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkTelemetry {
    /// Which link.
    pub link: LinkId,
    /// What people call it.
    pub name: String,
    /// Life cycle.
    pub state: LinkState,
    /// Smoothed round-trip time, milliseconds; absent before the first measurement.
    #[serde(default)]
    pub rtt_ms: Option<f32>,
    /// Queue delay above the base one-way delay, milliseconds.
    #[serde(default)]
    pub queue_delay_ms: Option<f32>,
    /// All bytes sent.
    pub send_rate: Bitrate,
    /// Estimated capacity.
    pub capacity: Bitrate,
    /// Loss on the path before repair.
    pub loss: LossRatio,
    /// Packets sent since the stream began.
    pub packets_sent: u64,
    /// Retransmits sent since the stream began.
    pub retransmits: u64,
}

/// Life cycle of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Being tried before it carries its share.
    Probe,
    /// Carrying media.
    Up,
    /// Acknowledgements are late.
    Suspect,
    /// Dead until it answers again.
    Down,
}
