//! What the relay knows of its devices: who is connected, what they last said, what was asked of them.
//!
//! Every value carries the moment it arrived; nothing here is "set" before a device reported it. Commands are pending
//! until the device's final word or their deadline ([`commands`]). Bounds: devices by enrolment, commands and remarks of a
//! device by [`commands::PENDING_MAX`] and [`REMARKS_MAX`].

pub mod commands;

use crate::broker::{Broker, Up};
use crate::clock::unix_ms;
use crate::store::{Batch, DeviceRecord, ReportRecord, Store, StoreError, TimelineEvent};
use commands::{Ledger, Pending};
use protocol::command::{Command, CommandReport, Notice, Outcome, SettingsChange};
use protocol::envelope::{Body, Envelope};
use protocol::limits::{LINKS_MAX, TEXT_CHARS_MAX};
use protocol::state::{DeviceEvent, DeviceState, Presence, Settings};
use protocol::telemetry::{RadioReading, StreamTelemetry, Telemetry};
use protocol::topic::{Leaf, Topic};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use units::{DeviceId, StreamId};
use uuid::Uuid;

/// Remarks kept of one device; the oldest go first.
pub const REMARKS_MAX: usize = 20;
/// A reported state is written to the store at most this often; it is the device's to repeat, not ours to guarantee.
const REPORT_STORE_INTERVAL: Duration = Duration::from_secs(10);
/// How long the order is good that tells a new device its name, milliseconds.
const NAME_VALID_MS: u32 = 15_000;
/// Pause between looks at deadlines.
const TICK: Duration = Duration::from_millis(250);
/// Events that wait for the sessions; then the fleet waits, and the broker holds devices back.
pub const EVENTS_QUEUE_MAX: usize = 256;

/// What the sessions should know.
#[derive(Debug)]
pub enum FleetEvent {
    /// A command's outcome; `None` when the deadline passed without a final word.
    CommandOutcome {
        /// Which command.
        command: Uuid,
        /// Whose.
        device: DeviceId,
        /// How it stands.
        outcome: Option<Outcome>,
    },
    /// The device reported its state.
    Reported {
        /// Which.
        device: DeviceId,
        /// What.
        state: Box<DeviceState>,
    },
    /// The crew pressed GO LIVE.
    GoLiveRequested {
        /// On which device.
        device: DeviceId,
    },
    /// The crew pressed stop.
    StopRequested {
        /// On which device.
        device: DeviceId,
        /// Which stream.
        stream: StreamId,
    },
}

#[derive(Debug)]
struct Device {
    record: DeviceRecord,
    peer: Option<SocketAddr>,
    online_since: Option<Instant>,
    last_heard_ms: Option<u64>,
    offline_cause: Option<String>,
    report: Option<(DeviceState, Instant)>,
    report_from_store: bool,
    report_stored: Option<Instant>,
    report_dirty: bool,
    telemetry: Option<(StreamTelemetry, Instant)>,
    temperature_c: Option<(f32, Instant)>,
    radios: (Vec<RadioReading>, Option<Instant>),
    ledger: Ledger,
    remarks: VecDeque<TimelineEvent>,
    malformed: u64,
    /// Whether it was told the name it was claimed under.
    name_told: bool,
}

impl Device {
    fn new(record: DeviceRecord) -> Self {
        Self {
            record,
            peer: None,
            online_since: None,
            last_heard_ms: None,
            offline_cause: None,
            report: None,
            report_from_store: false,
            report_stored: None,
            report_dirty: false,
            telemetry: None,
            temperature_c: None,
            radios: (Vec::new(), None),
            ledger: Ledger::default(),
            remarks: VecDeque::new(),
            malformed: 0,
            name_told: false,
        }
    }

    /// The name in force: the device's own, unless that is still the one all devices come with.
    fn name(&self) -> String {
        match &self.report {
            Some((DeviceState::State { settings, .. }, _)) if !is_factory_name(&settings.name) => settings.name.clone(),
            _ => self.record.name.clone(),
        }
    }
}

fn is_factory_name(name: &str) -> bool {
    name.is_empty() || name == Settings::default().name
}

/// One device, as of now.
#[derive(Debug, Clone)]
pub struct DeviceSnapshot {
    /// Who.
    pub record: DeviceRecord,
    /// The name in force: the device's own, else the claim's.
    pub name: String,
    /// For how long it has been online, if it is.
    pub online_for: Option<Duration>,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// When it was last heard, Unix milliseconds.
    pub last_heard_ms: Option<u64>,
    /// Why it is offline, where known.
    pub offline_cause: Option<String>,
    /// Its reported state, and the age of that.
    pub report: Option<(DeviceState, Duration)>,
    /// Whether the report was made before this relay was started.
    pub report_is_old: bool,
    /// Its stream's figures, and their age.
    pub telemetry: Option<(StreamTelemetry, Duration)>,
    /// Board temperature, degrees Celsius, and its age.
    pub temperature_c: Option<(f32, Duration)>,
    /// What the radios of its uplinks read, and how long ago each was told.
    pub radios: Vec<(RadioReading, Duration)>,
    /// Commands without a final word, and the last ones that have it; oldest first.
    pub commands: Vec<Pending>,
    /// What it remarked, oldest first.
    pub remarks: Vec<TimelineEvent>,
}

/// The devices.
#[derive(Debug)]
pub struct Fleet {
    store: Store,
    broker: OnceLock<Broker>,
    devices: Mutex<BTreeMap<DeviceId, Device>>,
    changed: watch::Sender<u64>,
}

impl Fleet {
    /// The devices of the store, all offline.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let mut devices = BTreeMap::new();
        for record in store.scan::<DeviceRecord>()? {
            devices.insert(record.id.clone(), Device::new(record));
        }
        let now = Instant::now();
        for report in store.scan::<ReportRecord>()? {
            if let Some(device) = devices.get_mut(&report.device) {
                let age = Duration::from_millis(unix_ms().saturating_sub(report.at_ms));
                device.report = Some((report.state, now.checked_sub(age).unwrap_or(now)));
                device.report_from_store = true;
                device.last_heard_ms = Some(report.at_ms);
            }
        }
        Ok(Self { store, broker: OnceLock::new(), devices: Mutex::new(devices), changed: watch::Sender::new(0) })
    }

    /// Gives the fleet its way to the devices; once.
    pub fn attach(&self, broker: Broker) {
        let _ = self.broker.set(broker);
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes; wait on it to redraw.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes in an enrolled or revoked device; a revoked one loses its connection at once.
    pub fn put(&self, record: DeviceRecord) {
        if record.revoked_ms.is_some()
            && let Some(broker) = self.broker.get()
        {
            broker.close(&record.id);
        }
        match self.devices().entry(record.id.clone()) {
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().record = record,
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Device::new(record));
            }
        }
        self.note_change();
    }

    /// One device.
    pub fn get(&self, id: &DeviceId) -> Option<DeviceSnapshot> {
        let now = Instant::now();
        self.devices().get(id).map(|device| snapshot(device, now))
    }

    /// All devices that are not revoked, by id.
    pub fn list(&self) -> Vec<DeviceSnapshot> {
        let now = Instant::now();
        let devices = self.devices();
        devices.values().filter(|device| device.record.revoked_ms.is_none()).map(|it| snapshot(it, now)).collect()
    }

    /// Orders something; the command waits for a device that is away, until its deadline. `id` makes a repeated order the
    /// same order.
    pub fn command(&self, id: Uuid, device: &DeviceId, command: Command, by: &str) {
        let envelope = Envelope::new(id, unix_ms(), command);
        let now = Instant::now();
        if let Some(entry) = self.devices().get_mut(device) {
            entry.ledger.add(Pending::new(now, unix_ms(), by, &envelope));
        }
        self.send(device, Leaf::Command, &envelope);
        self.note_change();
    }

    /// Tells a device something that wants no answer; lost when it is away.
    pub fn notice(&self, device: &DeviceId, notice: Notice) {
        self.send(device, Leaf::Notice, &Envelope::new(Uuid::now_v7(), unix_ms(), notice));
    }

    fn send<T: Body>(&self, device: &DeviceId, leaf: Leaf, envelope: &Envelope<T>) {
        let Some(broker) = self.broker.get() else { return };
        if let Err(error) = broker.send(Topic::new(device.clone(), leaf), envelope.emit()) {
            tracing::debug!(%device, ?leaf, %error, "message not sent");
        }
    }

    /// Reads what devices say until the broker is gone.
    pub async fn run(&self, mut up: mpsc::Receiver<Up>, events: mpsc::Sender<FleetEvent>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                up = up.recv() => match up {
                    Some(up) => self.handle(up),
                    None => return,
                },
                _ = tick.tick() => {
                    self.store_reports().await;
                    self.overdue()
                }
            };
            for event in outcome {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn handle(&self, up: Up) -> Vec<FleetEvent> {
        let events = match up {
            Up::Connected { device, peer } => {
                if let Some(entry) = self.devices().get_mut(&device) {
                    entry.peer = Some(peer);
                    entry.malformed = 0;
                }
                Vec::new()
            }
            Up::Disconnected { device, cause } => {
                if let Some(entry) = self.devices().get_mut(&device) {
                    entry.peer = None;
                    entry.online_since = None;
                    entry.offline_cause = Some(cause);
                }
                Vec::new()
            }
            Up::Message { topic, payload } => self.message(&topic, &payload),
        };
        self.note_change();
        events
    }

    fn message(&self, topic: &Topic, payload: &[u8]) -> Vec<FleetEvent> {
        let device = &topic.device;
        if let Some(entry) = self.devices().get_mut(device) {
            entry.last_heard_ms = Some(unix_ms());
        }
        match topic.leaf {
            Leaf::Presence => self.read(device, payload, |it| self.presence(device, &it)),
            Leaf::State => self.read(device, payload, |it: DeviceState| self.reported(device, it)),
            Leaf::Telemetry => self.read(device, payload, |it| self.measured(device, it)),
            Leaf::CommandResult => self.read(device, payload, |it| self.answered(device, it)),
            Leaf::Event => self.read(device, payload, |it| self.event(device, it)),
            Leaf::Command | Leaf::Notice => Vec::new(),
        }
    }

    fn read<T: Body>(
        &self,
        device: &DeviceId,
        payload: &[u8],
        take: impl FnOnce(T) -> Vec<FleetEvent>,
    ) -> Vec<FleetEvent> {
        match Envelope::<T>::parse(payload) {
            Ok(envelope) => take(envelope.body),
            Err(error) => {
                let mut devices = self.devices();
                let count = devices.get_mut(device).map_or(1, |entry| {
                    entry.malformed += 1;
                    entry.malformed
                });
                // One warning a connection: a device that speaks wrongly does so once a second.
                if count == 1 {
                    tracing::warn!(%device, error = &error as &dyn std::error::Error, "message cannot be read");
                }
                Vec::new()
            }
        }
    }

    fn presence(&self, device: &DeviceId, presence: &Presence) -> Vec<FleetEvent> {
        let connected = self.broker.get().is_some_and(|broker| broker.is_connected(device));
        let mut resend = Vec::new();
        if let Some(entry) = self.devices().get_mut(device) {
            match presence {
                // A late "online" of a connection that is gone already changes nothing.
                Presence::Online if connected => {
                    entry.online_since.get_or_insert_with(Instant::now);
                    entry.offline_cause = None;
                    resend = entry.ledger.unanswered(Instant::now());
                }
                Presence::Online => {}
                Presence::Offline => {
                    entry.online_since = None;
                    entry.offline_cause.get_or_insert_with(|| "the device went down in order".to_owned());
                }
            }
        }
        for envelope in resend {
            self.send(device, Leaf::Command, &envelope);
        }
        Vec::new()
    }

    fn reported(&self, device: &DeviceId, state: DeviceState) -> Vec<FleetEvent> {
        let DeviceState::State { settings, .. } = &state;
        let mut claimed_name = None;
        if let Some(entry) = self.devices().get_mut(device) {
            if is_factory_name(&settings.name) && !entry.name_told {
                entry.name_told = true;
                claimed_name = Some(entry.record.name.clone());
            }
            entry.report = Some((state.clone(), Instant::now()));
            entry.report_from_store = false;
            entry.report_dirty = true;
        }
        if let Some(name) = claimed_name {
            // The crew should read on its own page what the operator called it.
            let settings = SettingsChange { name: Some(name), ..SettingsChange::default() };
            let command = Command::ApplySettings { valid_for_ms: NAME_VALID_MS, settings };
            self.command(Uuid::now_v7(), device, command, "the relay");
        }
        vec![FleetEvent::Reported { device: device.clone(), state: Box::new(state) }]
    }

    fn measured(&self, device: &DeviceId, telemetry: Telemetry) -> Vec<FleetEvent> {
        let Telemetry::Telemetry { stream, temperature_c, mut radios, .. } = telemetry;
        radios.truncate(LINKS_MAX);
        let now = Instant::now();
        if let Some(entry) = self.devices().get_mut(device) {
            entry.telemetry = stream.map(|stream| {
                let age = Duration::from_millis(stream.age_ms.min(60_000));
                (stream, now.checked_sub(age).unwrap_or(now))
            });
            entry.temperature_c = temperature_c.map(|celsius| (celsius, now));
            entry.radios = (radios, Some(now));
        }
        Vec::new()
    }

    fn answered(&self, device: &DeviceId, report: CommandReport) -> Vec<FleetEvent> {
        let CommandReport::Result { command, outcome } = report;
        let known = self.devices().get_mut(device).is_some_and(|entry| entry.ledger.answer(command, outcome.clone()));
        if !known {
            tracing::debug!(%device, %command, "answer to an unknown command");
            return Vec::new();
        }
        tracing::info!(%device, %command, ?outcome, "command answered");
        vec![FleetEvent::CommandOutcome { command, device: device.clone(), outcome: Some(outcome) }]
    }

    fn event(&self, device: &DeviceId, event: DeviceEvent) -> Vec<FleetEvent> {
        match event {
            DeviceEvent::GoLiveRequested => vec![FleetEvent::GoLiveRequested { device: device.clone() }],
            DeviceEvent::StopRequested { stream } => {
                vec![FleetEvent::StopRequested { device: device.clone(), stream }]
            }
            DeviceEvent::Remark { severity, text } => {
                let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
                if let Some(entry) = self.devices().get_mut(device) {
                    if entry.remarks.len() >= REMARKS_MAX {
                        entry.remarks.pop_front();
                    }
                    entry.remarks.push_back(TimelineEvent { at_ms: unix_ms(), severity, text });
                }
                Vec::new()
            }
        }
    }

    fn overdue(&self) -> Vec<FleetEvent> {
        let now = Instant::now();
        let mut events = Vec::new();
        for (id, entry) in self.devices().iter_mut() {
            for command in entry.ledger.expire(now) {
                tracing::warn!(device = %id, %command, "command not answered in time");
                events.push(FleetEvent::CommandOutcome { command, device: id.clone(), outcome: None });
            }
        }
        if !events.is_empty() {
            self.note_change();
        }
        events
    }

    async fn store_reports(&self) {
        let now = Instant::now();
        let mut batch = None;
        for (id, entry) in self.devices().iter_mut() {
            let due = entry.report_stored.is_none_or(|at| now.duration_since(at) >= REPORT_STORE_INTERVAL);
            if let Some((state, _)) = entry.report.as_ref().filter(|_| entry.report_dirty && due) {
                let record = ReportRecord { device: id.clone(), at_ms: unix_ms(), state: state.clone() };
                batch = Some(batch.unwrap_or_else(Batch::new).put(&record));
                entry.report_dirty = false;
                entry.report_stored = Some(now);
            }
        }
        if let Some(batch) = batch
            && let Err(error) = self.store.commit(batch).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot store reported states");
        }
    }
}

fn snapshot(device: &Device, now: Instant) -> DeviceSnapshot {
    let age = |at: Instant| now.saturating_duration_since(at);
    DeviceSnapshot {
        record: device.record.clone(),
        name: device.name(),
        online_for: device.online_since.map(age),
        peer: device.peer,
        last_heard_ms: device.last_heard_ms,
        offline_cause: device.offline_cause.clone(),
        report: device.report.clone().map(|(state, at)| (state, age(at))),
        report_is_old: device.report_from_store,
        telemetry: device.telemetry.clone().map(|(telemetry, at)| (telemetry, age(at))),
        temperature_c: device.temperature_c.map(|(celsius, at)| (celsius, age(at))),
        radios: device
            .radios
            .1
            .map_or_else(Vec::new, |at| device.radios.0.iter().map(|reading| (reading.clone(), age(at))).collect()),
        commands: device.ledger.list(),
        remarks: device.remarks.iter().cloned().collect(),
    }
}
