//! Commands of the relay: read, judged, carried out, answered.

use super::{Core, Output, Request};
use crate::commands::{Entry, Purpose, rejected, unreadable};
use crate::settings;
use crate::streaming::machine::{Event, Milestone};
use protocol::Envelope;
use protocol::command::{Command, CommandReport, Outcome, Rejection, SettingsChange};
use protocol::stream::StreamSpec;
use protocol::worker::streamer::ToStreamer;
use std::time::Duration;
use units::{StreamId, Timestamp};
use uuid::Uuid;

impl Core {
    /// A payload on the command topic.
    pub(super) fn command(&mut self, now: Timestamp, payload: &[u8]) {
        match Envelope::<Command>::parse(payload) {
            Ok(envelope) => {
                let late = self.clock.lateness(now, envelope.sent_at_ms);
                self.consider(now, envelope.id, late, envelope.body);
            }
            Err(error) => match error.message_id() {
                Some(id) if self.ledger.outcome(id).is_some() => self.answer_again(id),
                Some(id) => self.record(id, Purpose::Immediate, unreadable(&error)),
                None => tracing::warn!(%error, "unreadable command without id ignored"),
            },
        }
    }

    fn consider(&mut self, now: Timestamp, id: Uuid, late: Duration, command: Command) {
        if self.ledger.outcome(id).is_some() {
            return self.answer_again(id);
        }
        if late > Duration::from_millis(u64::from(command.valid_for_ms())) {
            tracing::warn!(command = %id, late_ms = late.as_millis() as u64, "command came after its time");
            return self.record(id, Purpose::Immediate, Outcome::Expired);
        }
        tracing::info!(command = %id, "command received");
        match command {
            Command::StartStream { spec, .. } => self.start_stream(now, id, spec),
            Command::StopStream { stream, .. } => self.stop_stream(now, id, stream),
            Command::ApplySettings { settings, .. } => {
                let outcome = match self.apply_settings(&settings) {
                    Ok(()) => Outcome::Done,
                    Err(error) => rejected(Rejection::Invalid, &error.to_string()),
                };
                self.record(id, Purpose::Immediate, outcome);
            }
        }
    }

    fn start_stream(&mut self, now: Timestamp, id: Uuid, spec: Box<StreamSpec>) {
        let purpose = Purpose::Start { stream: spec.stream.clone() };
        if let Err(outcome) = self.may_start(&spec) {
            return self.record(id, purpose, outcome);
        }
        self.record(id, purpose, Outcome::Accepted);
        self.request = Request::None;
        self.step(now, Event::Start(spec));
    }

    /// Everything that can be known before the streamer is asked.
    fn may_start(&self, spec: &StreamSpec) -> Result<(), Outcome> {
        spec.check().map_err(|error| rejected(Rejection::Invalid, &error.to_string()))?;
        self.machine.can_start(&spec.stream).map_err(|error| rejected(Rejection::Busy, &error.to_string()))?;
        self.source(spec).map_err(|reason| rejected(Rejection::NoInput, &reason))?;
        if self.hardware.uplinks.iter().all(|uplink| uplink.problem.is_some()) {
            return Err(rejected(Rejection::NoLink, &self.no_link_reason()));
        }
        Ok(())
    }

    fn stop_stream(&mut self, now: Timestamp, id: Uuid, stream: StreamId) {
        let concerns_us = self.machine.report(now).stream() == Some(&stream);
        let purpose = Purpose::Stop { stream };
        if !concerns_us {
            return self.record(id, purpose, Outcome::Done);
        }
        self.record(id, purpose, Outcome::Accepted);
        self.step(now, Event::Stop);
    }

    /// Puts a change of settings in force, keeps it, and changes a live stream.
    pub(super) fn apply_settings(&mut self, change: &SettingsChange) -> Result<(), settings::SettingsError> {
        let new = settings::apply(&self.settings, change)?;
        self.settings = new;
        self.outputs.push_back(Output::SaveSettings(Box::new(self.settings.clone())));
        self.change_live(change);
        Ok(())
    }

    fn change_live(&mut self, change: &SettingsChange) {
        let Some(spec) = self.machine.spec_mut() else { return };
        let mut lines = Vec::new();
        if let Some(latency_ms) = change.latency_ms.filter(|latency_ms| *latency_ms != spec.latency_ms) {
            spec.latency_ms = latency_ms;
            lines.push(ToStreamer::SetLatency { latency_ms });
        }
        if let Some(encoding) = &change.encoding {
            let (min, max) = (encoding.bitrate_min, encoding.bitrate_max);
            if (min, max) != (spec.encoding.bitrate_min, spec.encoding.bitrate_max) {
                (spec.encoding.bitrate_min, spec.encoding.bitrate_max) = (min, max);
                lines.push(ToStreamer::SetBitrateRange { min, max });
            }
        }
        if lines.is_empty() {
            return;
        }
        if self.machine.is_open() {
            for line in lines {
                self.send(line);
            }
        }
        self.save_record();
    }

    /// Finishes the commands that waited for it.
    pub(super) fn reached(&mut self, milestone: &Milestone) {
        let waiting: Vec<Entry> = self.ledger.pending().cloned().collect();
        for Entry { command, purpose, .. } in waiting {
            if let Some(outcome) = outcome(&purpose, milestone) {
                self.record(command, purpose, outcome);
            }
        }
    }

    /// Commands that were accepted before a restart and that nothing will finish any more.
    pub(super) fn settle_forgotten_commands(&mut self, kept: Option<&StreamId>) {
        let waiting: Vec<Entry> = self.ledger.pending().cloned().collect();
        for Entry { command, purpose, .. } in waiting {
            let outcome = match &purpose {
                Purpose::Start { stream } if Some(stream) == kept => continue,
                Purpose::Stop { .. } => Outcome::Done, // its record is gone, or it is stopped again below
                _ => rejected(Rejection::MediaFailed, "the agent was restarted before this was done; send it again"),
            };
            self.record(command, purpose, outcome);
        }
    }

    fn record(&mut self, command: Uuid, purpose: Purpose, outcome: Outcome) {
        tracing::info!(%command, ?outcome, "command result");
        let entry = Entry { command, purpose, outcome };
        let forgotten = self.ledger.record(entry.clone());
        self.outputs.push_back(Output::KeepCommand { entry: Box::new(entry), forgotten });
        self.answer_again(command);
    }

    fn answer_again(&mut self, command: Uuid) {
        if let Some(outcome) = self.ledger.outcome(command).cloned() {
            self.outputs.push_back(Output::Report(CommandReport::Result { command, outcome }));
        }
    }
}

/// What a milestone means to a command.
fn outcome(purpose: &Purpose, milestone: &Milestone) -> Option<Outcome> {
    match (purpose, milestone) {
        (Purpose::Start { stream: wanted }, Milestone::Sending { stream }) if wanted == stream => Some(Outcome::Done),
        (Purpose::Start { stream: wanted }, Milestone::Failed { stream, reason, next_step }) if wanted == stream => {
            Some(rejected(Rejection::MediaFailed, &format!("{reason}; {next_step}")))
        }
        (Purpose::Start { stream: wanted }, Milestone::Ended { stream }) if wanted == stream => {
            Some(rejected(Rejection::Other, "the stream was stopped before media flowed"))
        }
        (Purpose::Stop { stream: wanted }, Milestone::Ended { stream } | Milestone::Failed { stream, .. })
            if wanted == stream =>
        {
            Some(Outcome::Done)
        }
        _ => None,
    }
}
