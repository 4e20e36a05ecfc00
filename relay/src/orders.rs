//! What operators order of a device besides streams: settings, and the end of its trust.

use crate::app::Relay;
use crate::problem::Problem;
use crate::sessions::ORDER_VALID_MS;
use axum::http::StatusCode;
use protocol::command::{Command, SettingsChange};
use protocol::state::DeviceState;
use protocol::stream::{LATENCY_MS_MAX, LATENCY_MS_MIN, SpecError};
use units::{Bitrate, DeviceId};
use uuid::Uuid;

/// Longest device name, characters (as in [`SettingsChange::name`]).
const NAME_CHARS_MAX: usize = 64;

/// Settings as asked for; absent ones stay.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsRequest {
    /// The name people see.
    pub name: Option<String>,
    /// Id of the input.
    pub input: Option<String>,
    /// Latency budget, milliseconds.
    pub latency_ms: Option<u32>,
    /// Highest video bitrate.
    pub bitrate_max_kbps: Option<u64>,
}

impl Relay {
    /// Orders a device to change its settings; gives the command's id. They count as changed once the device reports them.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn order_settings(&self, id: &DeviceId, asked: SettingsRequest, by: &str) -> Result<Uuid, Problem> {
        let device = self.fleet.get(id).filter(|it| it.record.revoked_ms.is_none());
        let device = device.ok_or_else(|| Problem::not_found("device"))?;
        if device.online_for.is_none() {
            let detail = format!("{} is offline; change its settings when it is connected", device.name);
            return Err(Problem::new(StatusCode::CONFLICT, "offline", detail));
        }
        let name = asked.name.map(|name| name.trim().to_owned());
        if name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > NAME_CHARS_MAX) {
            return Err(Problem::bad_request(format!("a device name has 1 to {NAME_CHARS_MAX} characters")));
        }
        if let Some(got) = asked.latency_ms.filter(|it| !(LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(it)) {
            return Err(Problem::bad_request(SpecError::Latency { got }.to_string()));
        }
        let encoding = asked.bitrate_max_kbps.map(|kbps| {
            let mut encoding = match &device.report {
                Some((DeviceState::State { settings, .. }, _)) => settings.encoding.clone(),
                None => self.config.streams.encoding(None),
            };
            encoding.bitrate_max = Bitrate::from_kbps(kbps);
            encoding.bitrate_min = encoding.bitrate_min.min(encoding.bitrate_max);
            encoding
        });
        if let Some(encoding) = &encoding {
            encoding.check().map_err(|error| Problem::bad_request(error.to_string()))?;
        }
        let settings = SettingsChange { name, input: asked.input, latency_ms: asked.latency_ms, encoding };
        let command = Uuid::now_v7();
        self.fleet.command(command, id, Command::ApplySettings { valid_for_ms: ORDER_VALID_MS, settings }, by);
        tracing::info!(device = %id, by, "settings ordered");
        Ok(command)
    }

    /// Ends a device's trust: its certificate, its connection and its stream, at once.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn revoke(&self, id: &DeviceId, by: &str) -> Result<(), Problem> {
        let record = self.enrolment.revoke(id).await?;
        self.sessions.revoked(&record, by).await;
        self.fleet.put(record);
        tracing::warn!(device = %id, by, "device revoked");
        Ok(())
    }
}
