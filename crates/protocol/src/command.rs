//! What the relay tells a device, and how it is answered.

use crate::envelope::Body;
use crate::state::OutputStatus;
use crate::stream::{EncodingSpec, StreamSpec};
use serde::{Deserialize, Serialize};
use units::StreamId;
use uuid::Uuid;

/// An order to a device, on [`crate::topic::Leaf::Command`].
///
/// The envelope's id is the command's id: a device that sees an id again repeats its last report and does nothing else.
/// Each order carries `valid_for_ms`, counted from the envelope's `sent_at_ms`; later it is answered with
/// [`Outcome::Expired`]. Clocks may differ: a device judges by the smallest delay it has seen from this relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Command {
    /// Go live.
    StartStream {
        /// How long the order is good, milliseconds.
        valid_for_ms: u32,
        /// What to send, and where.
        spec: Box<StreamSpec>,
    },
    /// End a stream. Ending a stream that is not running is done, not an error.
    StopStream {
        /// How long the order is good, milliseconds.
        valid_for_ms: u32,
        /// Which stream.
        stream: StreamId,
    },
    /// Change settings. Absent fields stay as they are.
    ApplySettings {
        /// How long the order is good, milliseconds.
        valid_for_ms: u32,
        /// The changes.
        settings: SettingsChange,
    },
}

impl Body for Command {
    const KINDS: &'static [&'static str] = &["start-stream", "stop-stream", "apply-settings"];
}

impl Command {
    /// How long the order is good after it was sent, milliseconds.
    pub const fn valid_for_ms(&self) -> u32 {
        match self {
            Self::StartStream { valid_for_ms, .. }
            | Self::StopStream { valid_for_ms, .. }
            | Self::ApplySettings { valid_for_ms, .. } => *valid_for_ms,
        }
    }
}

/// A change of a device's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsChange {
    /// The name people see, 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Id of the input to use when a stream names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Latency budget for streams started on the device, milliseconds; live streams change at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Encoding for streams started on the device; the bitrate range of a live stream changes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingSpec>,
}

/// A device's word on one command, on [`crate::topic::Leaf::CommandResult`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CommandReport {
    /// The outcome so far; a later one replaces it.
    Result {
        /// Which command.
        command: Uuid,
        /// How it stands.
        outcome: Outcome,
    },
}

impl Body for CommandReport {
    const KINDS: &'static [&'static str] = &["result"];
}

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Begun; a final outcome follows.
    Accepted,
    /// Carried out.
    Done,
    /// Not carried out, nothing changed.
    Rejected {
        /// Why.
        reason: Rejection,
        /// The reason in words for the operator, with what to do.
        detail: String,
    },
    /// It arrived after its time.
    Expired,
}

impl Outcome {
    /// Whether nothing more follows.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Accepted)
    }
}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// The message could not be read.
    Malformed,
    /// This device does not speak that version.
    UnknownVersion,
    /// This device does not know that kind of command.
    UnknownKind,
    /// A field is out of range.
    Invalid,
    /// Another stream is running.
    Busy,
    /// The input is absent or without signal.
    NoInput,
    /// No link is usable.
    NoLink,
    /// The media process failed.
    MediaFailed,
    /// A reason this build does not know.
    #[serde(other)]
    Other,
}

/// What the relay tells a device without wanting an answer, on [`crate::topic::Leaf::Notice`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Notice {
    /// What the relay sees of the device's stream: the crew's red light. Once a second while a stream exists.
    StreamStatus {
        /// Which stream.
        stream: StreamId,
        /// Media arrives at the receiver now.
        on_air: bool,
        /// The outputs it feeds.
        outputs: Vec<OutputStatus>,
    },
    /// A request from the device's own page was refused.
    RequestRefused {
        /// Why, in words, with what to do.
        detail: String,
    },
}

impl Body for Notice {
    const KINDS: &'static [&'static str] = &["stream-status", "request-refused"];
}
