//! What the crew asks on the device's own page.

use super::{Core, Output, RelayLink, Request};
use crate::settings::SettingsError;
use crate::streaming::machine::Event;
use protocol::command::SettingsChange;
use protocol::state::DeviceEvent;
use std::time::Duration;
use thiserror::Error;
use units::Timestamp;

/// Longest wait for the relay to start a stream after GO LIVE.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);

/// Why a request of the crew is refused, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageRefusal {
    /// A stream is running already.
    #[error("a stream is running already; stop it first")]
    Busy,
    /// The device belongs to no relay.
    #[error("this device is not claimed yet; enter a claim link first")]
    NotEnrolled,
    /// No session with the relay.
    #[error("no connection to the relay ({reason}); going live needs it: check the links below")]
    NoRelay {
        /// Why.
        reason: String,
    },
    /// No picture.
    #[error("{reason}")]
    NoInput {
        /// Why.
        reason: String,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No stream to stop.
    #[error("no stream is running")]
    NotRunning,
}

impl Core {
    /// GO LIVE was pressed: the relay is asked for a stream.
    ///
    /// # Errors
    /// [`PageRefusal`]; it also stays on the page until it is resolved.
    pub fn go_live(&mut self, now: Timestamp) -> Result<(), PageRefusal> {
        let outcome = self.may_go_live();
        self.request = match &outcome {
            Ok(()) => {
                self.outputs.push_back(Output::AskGoLive);
                Request::Asked { at: now }
            }
            Err(PageRefusal::Busy) => Request::None,
            Err(refusal) => Request::Refused { detail: refusal.to_string() },
        };
        outcome
    }

    fn may_go_live(&self) -> Result<(), PageRefusal> {
        if self.machine.wanted().is_some() {
            return Err(PageRefusal::Busy);
        }
        match &self.relay {
            RelayLink::Connected { .. } => {}
            RelayLink::NotEnrolled => return Err(PageRefusal::NotEnrolled),
            RelayLink::Connecting => return Err(PageRefusal::NoRelay { reason: "still connecting".to_owned() }),
            RelayLink::Disconnected { reason, .. } => return Err(PageRefusal::NoRelay { reason: reason.clone() }),
        }
        let chosen = self.settings.input.as_ref();
        let present = match chosen {
            Some(id) => self.hardware.inputs.iter().find(|input| input.id == *id),
            None => self.first_input(),
        };
        match present {
            Some(_) => Ok(()),
            None => Err(PageRefusal::NoInput {
                reason: "the chosen input is not there; plug it in, or choose another one".to_owned(),
            }),
        }
    }

    /// Stop was pressed: the device stops at once and tells the relay.
    ///
    /// # Errors
    /// [`PageRefusal::NotRunning`].
    pub fn stop(&mut self, now: Timestamp) -> Result<(), PageRefusal> {
        self.request = Request::None;
        let Some(stream) = self.machine.report(now).stream().cloned() else { return Err(PageRefusal::NotRunning) };
        self.step(now, Event::Stop);
        self.outputs.push_back(Output::Event(DeviceEvent::StopRequested { stream }));
        self.publish_state(now);
        Ok(())
    }

    /// Settings were changed.
    ///
    /// # Errors
    /// [`PageRefusal::Settings`].
    pub fn change_settings(&mut self, now: Timestamp, change: &SettingsChange) -> Result<(), PageRefusal> {
        self.apply_settings(change)?;
        self.publish_state(now);
        Ok(())
    }

    /// Tells the operator that something could not be kept on disk.
    pub fn storage_failed(&mut self, now: Timestamp, what: &str) {
        self.remark(now, protocol::state::Severity::Error, &format!("{what}; check the device's storage"));
    }

    /// The wish to go live could not be handed to the session.
    pub fn go_live_not_sent(&mut self) {
        self.request = Request::Refused { detail: "the connection to the relay just ended; press again".to_owned() };
    }

    pub(super) fn give_up_request(&mut self, now: Timestamp) {
        if matches!(self.request, Request::Asked { at } if now - at >= REQUEST_TIME_MAX) {
            let detail = "the relay did not start a stream; ask the operator to look at the dashboard, or press again";
            self.request = Request::Refused { detail: detail.to_owned() };
        }
    }
}
