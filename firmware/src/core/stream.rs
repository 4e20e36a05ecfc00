//! The streaming machine's actions carried out, and the streamer's news taken in.

use super::{Core, Output};
use crate::streaming::machine::{Action, Event, WorkerEvent};
use crate::streaming::port::{PortCommand, PortEvent, PortNews};
use crate::streaming::record::StreamRecord;
use crate::uplinks::{changes, links};
use appliance::{CaptureInput, InputSignal, InputSource};
use protocol::state::Severity;
use protocol::stream::StreamSpec;
use protocol::worker::streamer::{FromStreamer, Source, StartStreamer, ToStreamer};
use std::net::IpAddr;
use units::Timestamp;

impl Core {
    /// One event into the machine, and all that follows from it.
    pub(super) fn step(&mut self, now: Timestamp, event: Event) {
        self.machine.handle(now, event);
        while let Some(action) = self.machine.poll_action() {
            self.carry_out(now, action);
        }
    }

    fn carry_out(&mut self, now: Timestamp, action: Action) {
        match action {
            Action::Remember(_) => {
                self.known_links.clear();
                self.save_record();
            }
            Action::Forget => self.outputs.push_back(Output::RemoveRecord),
            Action::Resolve { host } => self.resolve(now, host),
            Action::Launch { generation, mode } => {
                self.stats = None;
                self.outputs.push_back(Output::Port(PortCommand::Launch { generation, mode }));
            }
            Action::SendStart(spec) => self.send_start(now, *spec),
            Action::SyncLinks => self.sync_links(now),
            Action::SendStop => self.send(ToStreamer::Stop),
            Action::Kill => self.outputs.push_back(Output::Port(PortCommand::Kill)),
            Action::Reached(milestone) => self.reached(&milestone),
        }
    }

    pub(super) fn send(&mut self, line: ToStreamer) {
        self.outputs.push_back(Output::Port(PortCommand::Send(Box::new(line))));
    }

    fn resolve(&mut self, now: Timestamp, host: String) {
        match host.parse::<IpAddr>() {
            Ok(address) => self.resolved(now, &host, Ok(vec![address])),
            Err(_) => self.outputs.push_back(Output::Resolve { host }),
        }
    }

    /// An address found before serves when a name cannot be resolved now.
    pub(super) fn resolved(&mut self, now: Timestamp, host: &str, outcome: Result<Vec<IpAddr>, String>) {
        if self.machine.spec().is_none_or(|spec| spec.receiver.host != host) {
            return; // of a stream that is over
        }
        match outcome {
            Ok(addresses) if !addresses.is_empty() => self.receiver = (host.to_owned(), addresses),
            _ if self.receiver.0 == host => tracing::warn!(host, "name not resolved, the last address serves"),
            outcome => {
                let why = outcome.err().unwrap_or_else(|| "it has no address".to_owned());
                let reason = format!("the relay's name {host} cannot be resolved ({why}); check the device's network");
                return self.step(now, Event::CannotStart { reason });
            }
        }
        self.update_links();
        self.step(now, Event::Resolved);
    }

    fn send_start(&mut self, now: Timestamp, spec: StreamSpec) {
        let wanted = links(&self.hardware.uplinks, &self.numbers, self.receiver_addresses(&spec), spec.receiver.port);
        let source = match self.source(&spec) {
            Ok(source) => source,
            Err(reason) => return self.step(now, Event::CannotStart { reason }),
        };
        if wanted.is_empty() {
            let reason = self.no_link_reason();
            return self.step(now, Event::CannotStart { reason });
        }
        let first = wanted.values().cloned().collect();
        self.known_links = wanted;
        self.send(ToStreamer::Start(Box::new(StartStreamer { spec, source, links: first })));
        self.save_record();
    }

    fn receiver_addresses(&self, spec: &StreamSpec) -> &[IpAddr] {
        if self.receiver.0 == spec.receiver.host { &self.receiver.1 } else { &[] }
    }

    /// A streamer that ran before this agent: find where its links should go, then tell it the differences.
    fn sync_links(&mut self, now: Timestamp) {
        if let Some(host) = self.machine.spec().map(|spec| spec.receiver.host.clone()) {
            self.resolve(now, host);
        }
    }

    /// Tells a running streamer which links came and went.
    pub(super) fn update_links(&mut self) {
        let Some(spec) = self.machine.spec().filter(|_| self.machine.is_open()) else { return };
        let receiver = self.receiver_addresses(spec);
        if receiver.is_empty() {
            return;
        }
        let wanted = links(&self.hardware.uplinks, &self.numbers, receiver, spec.receiver.port);
        let lines = changes(&self.known_links, &wanted);
        if lines.is_empty() {
            return;
        }
        self.known_links = wanted;
        for line in lines {
            match &line {
                ToStreamer::AddLink(link) => tracing::info!(link = %link.link, name = link.name, "link added"),
                ToStreamer::RemoveLink { link } => tracing::info!(%link, "link removed"),
                _ => {}
            }
            self.send(line);
        }
        self.save_record();
    }

    pub(super) fn save_record(&mut self) {
        if let Some(spec) = self.machine.spec().cloned() {
            let record = StreamRecord { spec, links: self.known_links.values().cloned().collect() };
            self.outputs.push_back(Output::SaveRecord(Box::new(record)));
        }
    }

    pub(super) fn streamer_news(&mut self, now: Timestamp, event: PortEvent) {
        let PortEvent { generation, news } = event;
        let event = match news {
            PortNews::Gone { reason } => WorkerEvent::Gone { reason },
            PortNews::Line(line) => match *line {
                FromStreamer::Hello { stream, state, .. } => WorkerEvent::Attached { stream, state },
                FromStreamer::State(state) => WorkerEvent::State(state),
                FromStreamer::Stats(stats) => {
                    if self.machine.wanted() == Some(&stats.stream) {
                        self.stats = Some((now, *stats));
                    }
                    WorkerEvent::Heard
                }
                FromStreamer::Event { text } => {
                    self.remark(now, Severity::Info, &text);
                    WorkerEvent::Heard
                }
                FromStreamer::Refused { reason } => {
                    tracing::warn!(reason, "streamer refused a request");
                    self.remark(now, Severity::Warning, &format!("the streamer refused a request: {reason}"));
                    WorkerEvent::Heard
                }
            },
        };
        self.step(now, Event::Worker { generation, event });
        if self.machine.wanted().is_none() {
            self.stats = None;
        }
    }

    /// The input a stream takes: the one it names, else the settings', else the first with a signal.
    pub(super) fn source(&self, spec: &StreamSpec) -> Result<Source, String> {
        let input = match spec.input.as_ref().or(self.settings.input.as_ref()) {
            Some(id) => self
                .hardware
                .inputs
                .iter()
                .find(|input| input.id == *id)
                .ok_or_else(|| format!("this device has no input {id:?}; choose another one or plug it in"))?,
            None => self.first_input().ok_or("no input with a signal; plug in a camera, or choose the test pattern")?,
        };
        match &input.signal {
            InputSignal::Absent { reason } => Err(format!("input {:?} has no signal: {reason}", input.name)),
            _ => Ok(source(&input.source)),
        }
    }

    pub(super) fn first_input(&self) -> Option<&CaptureInput> {
        self.hardware.inputs.iter().find(|input| !matches!(input.signal, InputSignal::Absent { .. }))
    }

    pub(super) fn no_link_reason(&self) -> String {
        let reasons: Vec<String> = self
            .hardware
            .uplinks
            .iter()
            .map(|uplink| format!("{}: {}", uplink.name, uplink.problem.as_deref().unwrap_or("no way to the relay")))
            .collect();
        if reasons.is_empty() {
            return "no network at all; plug in a cable or a modem, or join a Wi-Fi".to_owned();
        }
        format!("no network is usable ({})", reasons.join("; "))
    }
}

fn source(source: &InputSource) -> Source {
    match source.clone() {
        InputSource::Test { width, height, frames_per_second } => Source::Test { width, height, frames_per_second },
        InputSource::File { path } => Source::File { path },
        InputSource::V4l2 { device, audio_device } => Source::V4l2 { device, audio_device },
        InputSource::Lan { uri } => Source::Lan { uri },
    }
}
