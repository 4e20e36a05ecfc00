//! The JSON of devices and streams. Measured values stand beside their age.

use crate::fleet::DeviceSnapshot;
use crate::fleet::commands::Pending;
use crate::sessions::live::{StreamSnapshot, StreamWord};
use crate::store::TimelineEvent;
use protocol::command::Outcome;
use protocol::state::{DeviceState, OutputStatus};
use protocol::telemetry::StreamTelemetry;
use protocol::worker::receiver::ReceiverStats;
use serde::Serialize;
use std::time::Duration;
use units::{DeviceId, StreamId};
use uuid::Uuid;

/// A value and its age.
#[derive(Debug, Serialize)]
pub struct Aged<T> {
    /// The value.
    #[serde(flatten)]
    pub value: T,
    /// Milliseconds since it was measured, as far as this machine knows.
    pub age_ms: u64,
}

/// A value measured `age` ago.
fn aged<T>((value, age): (T, Duration)) -> Aged<T> {
    Aged { value, age_ms: age.as_millis() as u64 }
}

/// The sender's figures carry their age themselves: as sent by the device, here brought up to now.
fn aged_telemetry((telemetry, age): (StreamTelemetry, Duration)) -> StreamTelemetry {
    StreamTelemetry { age_ms: age.as_millis() as u64, ..telemetry }
}

/// One device.
#[derive(Debug, Serialize)]
pub struct DeviceView {
    id: DeviceId,
    name: String,
    board: String,
    online: bool,
    online_for_ms: Option<u64>,
    last_heard_ms: Option<u64>,
    offline_cause: Option<String>,
    revoked: bool,
    enrolled_ms: u64,
    state: Option<Aged<DeviceState>>,
    telemetry: Option<StreamTelemetry>,
    temperature_c: Option<f32>,
    commands: Vec<CommandView>,
    remarks: Vec<TimelineEvent>,
    stream: Option<StreamBrief>,
}

#[derive(Debug, Serialize)]
struct CommandView {
    id: Uuid,
    what: &'static str,
    by: String,
    at_ms: u64,
    outcome: Option<Outcome>,
    overdue: bool,
}

impl From<&Pending> for CommandView {
    fn from(it: &Pending) -> Self {
        let (outcome, by) = (it.outcome.clone(), it.by.clone());
        Self { id: it.id, what: it.what, by, at_ms: it.at_ms, outcome, overdue: it.overdue }
    }
}

#[derive(Debug, Serialize)]
struct StreamBrief {
    id: StreamId,
    state: StreamWord,
    on_air: bool,
    since_ms: u64,
}

impl DeviceView {
    /// The device, and the stream it has now.
    pub fn of(device: &DeviceSnapshot, stream: Option<StreamSnapshot>) -> Self {
        Self {
            id: device.record.id.clone(),
            name: device.name.clone(),
            board: device.record.board.clone(),
            online: device.online_for.is_some(),
            online_for_ms: device.online_for.map(|age| age.as_millis() as u64),
            last_heard_ms: device.last_heard_ms,
            offline_cause: device.offline_cause.clone(),
            revoked: device.record.revoked_ms.is_some(),
            enrolled_ms: device.record.enrolled_ms,
            state: device.report.clone().map(aged),
            telemetry: device.telemetry.clone().map(aged_telemetry),
            temperature_c: device.temperature_c.map(|(celsius, _)| celsius),
            commands: device.commands.iter().map(CommandView::from).collect(),
            remarks: device.remarks.clone(),
            stream: stream.map(|it| StreamBrief {
                id: it.record.id.clone(),
                state: it.word,
                on_air: it.on_air,
                since_ms: it.since_ms,
            }),
        }
    }
}

/// One stream.
#[derive(Debug, Serialize)]
pub struct StreamView {
    id: StreamId,
    device: DeviceId,
    device_name: String,
    state: StreamWord,
    since_ms: u64,
    on_air: bool,
    reason: Option<String>,
    next_step: Option<String>,
    started_by: String,
    created_ms: u64,
    on_air_ms: Option<u64>,
    ended_ms: Option<u64>,
    latency_ms: u32,
    bitrate_max_kbps: u64,
    port: u16,
    receiver_pid: Option<u32>,
    receiver: Option<Aged<ReceiverStats>>,
    sender: Option<StreamTelemetry>,
    outputs: Vec<OutputStatus>,
    destinations: Vec<DestinationBrief>,
    events: Vec<TimelineEvent>,
}

#[derive(Debug, Serialize)]
struct DestinationBrief {
    id: String,
    name: String,
}

impl StreamView {
    /// The stream, and its device where the sender's figures are wanted.
    pub fn of(stream: StreamSnapshot, device: Option<&DeviceSnapshot>) -> Self {
        let sender = device.and_then(|it| it.telemetry.clone()).filter(|(it, _)| it.stream == stream.record.id);
        let outputs = stream.outputs();
        let record = stream.record;
        Self {
            id: record.id,
            device: record.device,
            device_name: record.device_name,
            state: stream.word,
            since_ms: stream.since_ms,
            on_air: stream.on_air,
            reason: stream.reason,
            next_step: stream.next_step,
            started_by: record.started_by,
            created_ms: record.created_ms,
            on_air_ms: record.on_air_ms,
            ended_ms: record.ended_ms,
            latency_ms: record.latency_ms,
            bitrate_max_kbps: record.encoding.bitrate_max.as_kbps(),
            port: record.port,
            receiver_pid: stream.pid,
            receiver: stream.stats.map(aged),
            sender: sender.map(aged_telemetry),
            outputs,
            destinations: record
                .destinations
                .into_iter()
                .map(|it| DestinationBrief { id: it.id, name: it.name })
                .collect(),
            events: record.timeline,
        }
    }
}
