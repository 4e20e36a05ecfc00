//! All decisions of the agent, without socket, file or clock.
//!
//! Contract: hand in what happened with one of the `handle_*` methods or a crew's request, then drain
//! [`Core::poll_output`] until it is empty, then wait until [`Core::poll_timeout`] and call [`Core::handle_timeout`]. Time
//! never goes back. Outputs are carried out in order; they are bounded because each input makes a bounded number.

mod commands;
mod page;
mod report;
mod stream;
mod view;

pub use page::PageRefusal;
pub use view::{ClaimView, FRESH_TIME_MAX, LinkView, OnAirView, RelayView, RequestView, View};

use crate::commands::{DelayClock, Entry, Ledger};
use crate::mqtt::RelayEvent;
use crate::streaming::machine::{Event, Kept, Machine};
use crate::streaming::port::{PortCommand, PortEvent};
use crate::streaming::record::{KeptRecord, StreamRecord};
use crate::uplinks::LinkNumbers;
use appliance::{CaptureInput, Uplink};
use protocol::Envelope;
use protocol::command::{CommandReport, Notice};
use protocol::state::{DeviceEvent, DeviceState, OutputStatus, Settings, Severity};
use protocol::telemetry::{StreamTelemetry, Telemetry};
use protocol::topic::Leaf;
use protocol::worker::streamer::StreamerLink;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use units::{LinkId, StreamId, Timestamp};
use uuid::Uuid;

/// How often telemetry is published and views are refreshed.
const PERIOD: Duration = Duration::from_secs(1);
/// Most remarks of the streamer passed on in one [`REMARKS_WINDOW`]; further ones are dropped.
const REMARKS_MAX: u32 = 30;
/// See [`REMARKS_MAX`].
const REMARKS_WINDOW: Duration = Duration::from_mins(1);

/// What the hardware shows now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HardwareSnapshot {
    /// Network uplinks.
    pub uplinks: Vec<Uplink>,
    /// Capture inputs.
    pub inputs: Vec<CaptureInput>,
    /// Temperature, degrees Celsius.
    pub temperature_c: Option<f32>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Publish now or after the next connection.
    Report(CommandReport),
    /// Publish now or after the next connection.
    Event(DeviceEvent),
    /// Ask the relay for a stream, in the running session or not at all: an old wish must not start a stream later.
    AskGoLive,
    /// Keep this state published.
    State(Box<DeviceState>),
    /// Publish, or drop when there is no session.
    Telemetry(Box<Telemetry>),
    /// Keep a command's outcome on disk and forget the oldest.
    KeepCommand {
        /// The command.
        entry: Box<Entry>,
        /// Those to forget.
        forgotten: Vec<Uuid>,
    },
    /// Keep the settings on disk.
    SaveSettings(Box<Settings>),
    /// Keep the running stream on disk.
    SaveRecord(Box<StreamRecord>),
    /// Remove it from disk.
    RemoveRecord,
    /// Find the addresses of a host, then [`Core::handle_resolved`].
    Resolve {
        /// The host.
        host: String,
    },
    /// Ask something of the streamer process.
    Port(PortCommand),
    /// An uplink came, went or changed its address: try the relay again without waiting.
    NetworkChanged,
}

/// How the device stands with its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RelayLink {
    NotEnrolled,
    Connecting,
    Connected { since: Timestamp },
    Disconnected { since: Timestamp, reason: String },
}

/// What became of the crew's last GO LIVE.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    None,
    Asked { at: Timestamp },
    Refused { detail: String },
}

/// What the relay last said of a stream.
#[derive(Debug, Clone)]
struct RelayWord {
    at: Timestamp,
    stream: StreamId,
    on_air: bool,
    outputs: Vec<OutputStatus>,
}

/// What the agent begins with.
#[derive(Debug, Default)]
pub struct Beginning {
    /// What the hardware calls itself.
    pub board: String,
    /// The settings kept.
    pub settings: Settings,
    /// The commands kept, oldest first.
    pub commands: Vec<Entry>,
    /// The stream that was running.
    pub record: KeptRecord,
    /// Whether the device has an identity.
    pub enrolled: bool,
    /// What the operator should know of the beginning: lost settings, a damaged record.
    pub remarks: Vec<(Severity, String)>,
}

/// The agent's mind.
#[derive(Debug)]
pub struct Core {
    board: String,
    settings: Settings,
    machine: Machine,
    ledger: Ledger,
    clock: DelayClock,
    hardware: HardwareSnapshot,
    numbers: LinkNumbers,
    /// Host of the wanted stream's receiver and its addresses, best first.
    receiver: (String, Vec<IpAddr>),
    /// What the streamer was told last.
    known_links: BTreeMap<LinkId, StreamerLink>,
    stats: Option<(Timestamp, StreamTelemetry)>,
    relay: RelayLink,
    word: Option<RelayWord>,
    request: Request,
    publication: report::Publication,
    remarks: (Timestamp, u32),
    next_period: Timestamp,
    outputs: VecDeque<Output>,
}

impl Core {
    /// An agent that begins.
    pub fn new(now: Timestamp, beginning: Beginning) -> Self {
        let Beginning { board, settings, commands, record, enrolled, remarks } = beginning;
        let mut core = Self {
            board,
            settings,
            machine: Machine::default(),
            ledger: Ledger::new(commands),
            clock: DelayClock::default(),
            hardware: HardwareSnapshot::default(),
            numbers: LinkNumbers::default(),
            receiver: (String::new(), Vec::new()),
            known_links: BTreeMap::new(),
            stats: None,
            relay: if enrolled { RelayLink::Connecting } else { RelayLink::NotEnrolled },
            word: None,
            request: Request::None,
            publication: report::Publication::default(),
            remarks: (now, 0),
            next_period: now,
            outputs: VecDeque::new(),
        };
        for (severity, text) in remarks {
            core.outputs.push_back(Output::Event(DeviceEvent::Remark { severity, text }));
        }
        core.boot(now, record);
        core
    }

    fn boot(&mut self, now: Timestamp, record: KeptRecord) {
        let kept = match record {
            KeptRecord::Nothing => Kept::Nothing,
            KeptRecord::Unreadable => Kept::Unreadable,
            KeptRecord::Stream(record) => {
                self.numbers.adopt(&record.links);
                self.known_links = record.links.into_iter().map(|link| (link.link, link)).collect();
                Kept::Stream(Box::new(record.spec))
            }
        };
        let stream = match &kept {
            Kept::Stream(spec) => Some(&spec.stream),
            Kept::Nothing | Kept::Unreadable => None,
        };
        self.settle_forgotten_commands(stream);
        self.step(now, Event::Boot(kept));
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Core::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Timestamp {
        let timers = [self.machine.poll_timeout(), self.publication.due_at];
        timers.into_iter().flatten().fold(self.next_period, Timestamp::min)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.step(now, Event::Tick);
        if now >= self.next_period {
            self.next_period = now + PERIOD;
            self.give_up_request(now);
            self.publish_telemetry(now);
        }
        self.publish_state(now);
    }

    /// The device has an identity now.
    pub fn handle_enrolled(&mut self, now: Timestamp) {
        self.relay = RelayLink::Connecting;
        self.publish_state(now);
    }

    /// The session with the relay.
    pub fn handle_relay(&mut self, now: Timestamp, event: RelayEvent) {
        match event {
            RelayEvent::Connected => {
                self.clock.reset();
                self.relay = RelayLink::Connected { since: now };
                tracing::info!("connected to the relay");
            }
            RelayEvent::Disconnected { reason } => {
                let since = match self.relay {
                    RelayLink::Disconnected { since, .. } => since,
                    _ => now,
                };
                self.relay = RelayLink::Disconnected { since, reason };
            }
            RelayEvent::Message { leaf: Leaf::Command, payload } => self.command(now, &payload),
            RelayEvent::Message { leaf: Leaf::Notice, payload } => self.notice(now, &payload),
            RelayEvent::Message { leaf, .. } => tracing::warn!(?leaf, "message on an unexpected topic ignored"),
        }
        self.publish_state(now);
    }

    /// The hardware was looked at.
    pub fn handle_hardware(&mut self, now: Timestamp, snapshot: HardwareSnapshot) {
        self.numbers.assign(&snapshot.uplinks);
        let links_changed = self.hardware.uplinks != snapshot.uplinks;
        let ways_changed = !same_ways(&self.hardware.uplinks, &snapshot.uplinks);
        self.hardware = snapshot;
        if links_changed {
            self.update_links();
        }
        if ways_changed {
            self.outputs.push_back(Output::NetworkChanged);
        }
        self.publish_state(now);
    }

    /// The streamer process did something.
    pub fn handle_port(&mut self, now: Timestamp, event: PortEvent) {
        self.streamer_news(now, event);
        self.publish_state(now);
    }

    /// The addresses of a host, best first; empty is an error too.
    pub fn handle_resolved(&mut self, now: Timestamp, host: &str, outcome: Result<Vec<IpAddr>, String>) {
        self.resolved(now, host, outcome);
        self.publish_state(now);
    }

    fn notice(&mut self, now: Timestamp, payload: &[u8]) {
        match Envelope::<Notice>::parse(payload) {
            Ok(envelope) => {
                self.clock.lateness(now, envelope.sent_at_ms);
                match envelope.body {
                    Notice::StreamStatus { stream, on_air, outputs } => {
                        self.word = Some(RelayWord { at: now, stream, on_air, outputs });
                    }
                    Notice::RequestRefused { detail } => self.request = Request::Refused { detail },
                }
            }
            Err(error) => tracing::warn!(%error, "notice ignored"),
        }
    }

    /// Tells the operator, at most [`REMARKS_MAX`] times in a [`REMARKS_WINDOW`].
    fn remark(&mut self, now: Timestamp, severity: Severity, text: &str) {
        let (from, said) = &mut self.remarks;
        if now - *from >= REMARKS_WINDOW {
            (*from, *said) = (now, 0);
        }
        *said += 1;
        if *said > REMARKS_MAX {
            tracing::warn!(text, "remark dropped, too many");
            return;
        }
        let text = text.chars().take(protocol::limits::TEXT_CHARS_MAX).collect();
        self.outputs.push_back(Output::Event(DeviceEvent::Remark { severity, text }));
    }
}

/// Whether both give the same ways to the relay, whatever their radios read.
fn same_ways(before: &[Uplink], now: &[Uplink]) -> bool {
    let way = |uplink: &Uplink| (uplink.interface.clone(), uplink.addresses.clone(), uplink.problem.is_none());
    before.len() == now.len() && before.iter().zip(now).all(|(before, now)| way(before) == way(now))
}

#[cfg(test)]
mod tests;
