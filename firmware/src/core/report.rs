//! What is published of the device: the reported state when it changed, measurements once a second.

use super::{Core, Output, RelayLink};
use appliance::{InputSignal, InputSource};
use protocol::limits::{INPUTS_MAX, LINKS_MAX, TEXT_CHARS_MAX};
use protocol::state::{DeviceState, InputKind, InputState, Signal, StreamingState, UplinkState};
use protocol::telemetry::{StreamTelemetry, Telemetry};
use std::time::Duration;
use units::Timestamp;

/// Shortest time between two publications of the state.
const STATE_PAUSE: Duration = Duration::from_millis(200);
/// Time after which drifting readings (signal strength) are published although nothing else changed.
const DRIFT_PAUSE: Duration = Duration::from_secs(5);
/// Smallest drift of a signal strength worth publishing, dB.
const DRIFT_DB: f32 = 1.0;

/// The state last published.
#[derive(Debug, Default)]
pub(super) struct Publication {
    last: Option<(Timestamp, DeviceState)>,
    /// When a change that came too soon after the last one is published.
    pub(super) due_at: Option<Timestamp>,
}

impl Core {
    /// The state as it is reported.
    pub(super) fn device_state(&self, now: Timestamp) -> DeviceState {
        DeviceState::State {
            agent_version: crate::VERSION.to_owned(),
            board: self.board.clone(),
            settings: self.settings.clone(),
            streaming: self.machine.report(now),
            inputs: self.inputs(),
            uplinks: crate::uplinks::report(now, &self.hardware.uplinks, &self.numbers),
        }
    }

    pub(super) fn inputs(&self) -> Vec<InputState> {
        self.hardware
            .inputs
            .iter()
            .take(INPUTS_MAX)
            .map(|input| InputState {
                id: input.id.clone(),
                name: input.name.clone(),
                kind: match input.source {
                    InputSource::Test { .. } => InputKind::Test,
                    InputSource::File { .. } => InputKind::File,
                    InputSource::V4l2 { .. } => InputKind::V4l2,
                    InputSource::Lan { .. } => InputKind::Lan,
                },
                signal: match &input.signal {
                    InputSignal::Present { mode } => Signal::Present { mode: mode.clone() },
                    InputSignal::Absent { reason } => {
                        Signal::Absent { reason: reason.chars().take(TEXT_CHARS_MAX).collect() }
                    }
                    InputSignal::Unknown => Signal::Unknown,
                },
            })
            .collect()
    }

    /// Publishes the state if it changed, at once or [`STATE_PAUSE`] after the last one.
    pub(super) fn publish_state(&mut self, now: Timestamp) {
        let state = self.device_state(now);
        self.publication.due_at = match &self.publication.last {
            None => Some(now),
            Some((at, last)) if steady(last) != steady(&state) => Some(*at + STATE_PAUSE),
            Some((at, last)) if has_drifted(last, &state) => Some(*at + DRIFT_PAUSE),
            Some(_) => None,
        };
        if self.publication.due_at.is_some_and(|due_at| now >= due_at) {
            self.publication = Publication { last: Some((now, state.clone())), due_at: None };
            self.outputs.push_back(Output::State(Box::new(state)));
        }
    }

    pub(super) fn publish_telemetry(&mut self, now: Timestamp) {
        if !matches!(self.relay, RelayLink::Connected { .. }) {
            return;
        }
        self.outputs.push_back(Output::Telemetry(Box::new(Telemetry::Telemetry {
            uptime_ms: now.as_millis(),
            stream: self.stream_telemetry(now),
            temperature_c: self.hardware.temperature_c,
            radios: crate::uplinks::radios(now, &self.hardware.uplinks, &self.numbers),
        })));
    }

    /// The streamer's last figures with their age now.
    pub(super) fn stream_telemetry(&self, now: Timestamp) -> Option<StreamTelemetry> {
        let (at, stats) = self.stats.as_ref()?;
        let mut stats = stats.clone();
        stats.age_ms = stats.age_ms.saturating_add((now - *at).as_millis() as u64);
        stats.links.truncate(LINKS_MAX);
        Some(stats)
    }
}

/// The state without what changes all the time.
fn steady(state: &DeviceState) -> DeviceState {
    let DeviceState::State { agent_version, board, settings, mut streaming, inputs, mut uplinks } = state.clone();
    if let StreamingState::Sending { for_ms, .. } = &mut streaming {
        *for_ms = 0;
    }
    for uplink in &mut uplinks {
        if let Some(radio) = &mut uplink.radio {
            (radio.signal_dbm, radio.age_ms) = (0.0, 0);
        }
    }
    DeviceState::State { agent_version, board, settings, streaming, inputs, uplinks }
}

fn has_drifted(last: &DeviceState, state: &DeviceState) -> bool {
    let (DeviceState::State { uplinks: last, .. }, DeviceState::State { uplinks, .. }) = (last, state);
    let dbm = |uplink: &UplinkState| uplink.radio.as_ref().map(|radio| radio.signal_dbm);
    last.iter().zip(uplinks).any(|(last, uplink)| match (dbm(last), dbm(uplink)) {
        (Some(last), Some(now)) => (last - now).abs() >= DRIFT_DB,
        _ => false,
    })
}
