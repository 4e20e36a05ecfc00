//! What the store holds: one struct a table.

use super::Record;
use crate::secrets::Sealed;
use protocol::state::{DeviceState, Severity};
use protocol::stream::EncodingSpec;
use serde::{Deserialize, Serialize};
use units::{DeviceId, StreamId};
use uuid::Uuid;

macro_rules! record {
    ($type:ty, $table:literal, $record:ident => $key:expr) => {
        impl Record for $type {
            const TABLE: &'static str = $table;
            fn key(&self) -> String {
                let $record = self;
                $key
            }
        }
    };
}

/// A person who may log in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserRecord {
    /// Log-in name.
    pub name: String,
    /// Argon2id, PHC string.
    pub password_hash: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}
record!(UserRecord, "user", user => user.name.clone());

/// A browser that is logged in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginRecord {
    /// SHA-256 of the cookie's token, hexadecimal.
    pub token_hash: String,
    /// Who.
    pub user: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
}
record!(LoginRecord, "login", login => login.token_hash.clone());

/// A claim code that was given out and not used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// SHA-256 of the code, hexadecimal.
    pub code_hash: String,
    /// What the device will be called.
    pub name: String,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
    /// Who made it.
    pub made_by: String,
}
record!(ClaimRecord, "claim", claim => claim.code_hash.clone());

/// An enrolled device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its id, the common name of its certificate.
    pub id: DeviceId,
    /// What it was called when it was claimed; its own settings may name it anew.
    pub name: String,
    /// What its hardware calls itself.
    pub board: String,
    /// When it was enrolled, Unix milliseconds.
    pub enrolled_ms: u64,
    /// SHA-256 of its certificate (DER), hexadecimal: only this one is let in.
    pub certificate_sha256: String,
    /// When it was revoked, Unix milliseconds.
    #[serde(default)]
    pub revoked_ms: Option<u64>,
}
record!(DeviceRecord, "device", device => device.id.to_string());

/// What a device last said of itself: the relay's retained copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportRecord {
    /// Which device.
    pub device: DeviceId,
    /// When it arrived, Unix milliseconds.
    pub at_ms: u64,
    /// The report.
    pub state: DeviceState,
}
record!(ReportRecord, "report", report => report.device.to_string());

/// Where a stream may be sent on to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationRecord {
    /// Id, also the output's id within a stream.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Protocol.
    pub kind: DestinationKind,
    /// `rtmp://...` or `srt://...`, without the key.
    pub url: String,
    /// Stream key (RTMP) or pass phrase (SRT), sealed for `destination/<id>`.
    #[serde(default)]
    pub secret: Option<Sealed>,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}
record!(DestinationRecord, "destination", destination => destination.id.clone());

/// Kinds of destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationKind {
    /// RTMP or RTMPS publish.
    Rtmp,
    /// SRT caller.
    Srt,
}

/// One stream, from start to stop and in the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its id.
    pub id: StreamId,
    /// Whose.
    pub device: DeviceId,
    /// What the device was called.
    pub device_name: String,
    /// Who started it: a user's name, or "device".
    pub started_by: String,
    /// When it was asked for, Unix milliseconds.
    pub created_ms: u64,
    /// When media first arrived, Unix milliseconds.
    #[serde(default)]
    pub on_air_ms: Option<u64>,
    /// When it ended or failed, Unix milliseconds.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<StreamOutcome>,
    /// Who asked for its end, once someone did.
    #[serde(default)]
    pub stop_asked: Option<String>,
    /// UDP port of its receiver.
    pub port: u16,
    /// Pass phrase of the bond, sealed for `stream/<id>`; gone when it has ended.
    #[serde(default)]
    pub key: Option<Sealed>,
    /// Latency budget, milliseconds.
    pub latency_ms: u32,
    /// What was asked of the encoder.
    pub encoding: EncodingSpec,
    /// Its destinations as they were at the start.
    pub destinations: Vec<DestinationRecord>,
    /// Id of the start command.
    pub start_command: Uuid,
    /// What happened, oldest first, at most [`TIMELINE_EVENTS_MAX`].
    pub timeline: Vec<TimelineEvent>,
}
record!(StreamRecord, "stream", stream => stream.id.to_string());

/// Most events kept of one stream; the oldest after the first go first.
pub const TIMELINE_EVENTS_MAX: usize = 300;

/// How a stream came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StreamOutcome {
    /// It was stopped.
    Ended {
        /// By whom or what.
        cause: String,
    },
    /// It could not go on.
    Failed {
        /// Why.
        reason: String,
        /// What to do.
        next_step: String,
    },
}

/// One line of the "why" timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// How bad.
    pub severity: Severity,
    /// The sentence; never a key.
    pub text: String,
}

impl StreamRecord {
    /// Adds a line, within [`TIMELINE_EVENTS_MAX`]; the first line stays.
    pub fn note(&mut self, at_ms: u64, severity: Severity, text: impl Into<String>) {
        if self.timeline.len() >= TIMELINE_EVENTS_MAX {
            self.timeline.remove(1);
        }
        self.timeline.push(TimelineEvent { at_ms, severity, text: text.into() });
    }
}

#[cfg(test)]
impl StreamRecord {
    /// One to begin a test with.
    pub(crate) fn example(id: &str, ended_ms: Option<u64>) -> Self {
        Self {
            id: id.parse().unwrap(),
            device: "van-7".parse().unwrap(),
            device_name: "Van".to_owned(),
            started_by: "admin".to_owned(),
            created_ms: 0,
            on_air_ms: None,
            ended_ms,
            outcome: ended_ms.map(|_| StreamOutcome::Ended { cause: "admin".to_owned() }),
            stop_asked: None,
            port: 5000,
            key: None,
            latency_ms: 1000,
            encoding: EncodingSpec::default(),
            destinations: Vec::new(),
            start_command: Uuid::nil(),
            timeline: Vec::new(),
        }
    }
}
