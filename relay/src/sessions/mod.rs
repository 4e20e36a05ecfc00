//! Streams from start to stop: [`machine`] decides, this module does it.
//!
//! One task a live stream owns its machine, its receiver's socket and its record. The record is in the store before the
//! receiver is started, with port and sealed key, so that a restarted relay finds every stream again: it adopts the
//! receivers that run ([`Sessions::resume`]) and starts those that died.

mod error;
pub mod files;
pub mod live;
pub mod machine;
pub mod ports;
mod task;
pub mod worker;

use crate::clock::unix_ms;
use crate::config::Config;
use crate::fleet::{Fleet, FleetEvent};
use crate::secrets::{self, Sealer, SecretsError};
use crate::store::{Batch, DestinationKind, DestinationRecord, DeviceRecord, Store, StoreError, StreamRecord};
pub use error::SessionError;

use live::{LiveStream, StreamSnapshot};
use protocol::Secret;
use protocol::command::{Command, Notice};
use protocol::limits::OUTPUTS_MAX;
use protocol::state::{DeviceState, Severity, StreamingState};
use protocol::stream::{LATENCY_MS_MAX, LATENCY_MS_MIN, SpecError};
use protocol::worker::receiver::{OutputSpec, OutputTarget};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use task::Input;
use tokio::sync::{mpsc, watch};
use units::{Bitrate, DeviceId, StreamId};
use uuid::Uuid;

/// How long a start or stop order is good, milliseconds.
pub const ORDER_VALID_MS: u32 = 15_000;
/// Inputs that wait for a stream's task.
const INPUTS_MAX: usize = 64;
/// Streams that run on their device without being ours are stopped at most this often.
const STRAY_STOP_INTERVAL: Duration = Duration::from_secs(10);
/// Room for the outputs that every stream has: HLS and recording.
const DESTINATIONS_MAX: usize = OUTPUTS_MAX - 2;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct StartRequest {
    /// Ids of destinations.
    pub destinations: Vec<String>,
    /// Highest video bitrate; the default when absent.
    pub bitrate_max: Option<Bitrate>,
    /// Latency budget, milliseconds; the default when absent.
    pub latency_ms: Option<u32>,
}

#[derive(Debug)]
struct Session {
    device: DeviceId,
    port: u16,
    started_by: String,
    inbox: mpsc::Sender<Input>,
    live: Arc<Mutex<LiveStream>>,
}

/// The streams.
#[derive(Debug)]
pub struct Sessions {
    config: Arc<Config>,
    store: Store,
    sealer: Arc<Sealer>,
    fleet: Arc<Fleet>,
    running: Mutex<BTreeMap<StreamId, Session>>,
    /// The last stream of each device that is over: its failure stays on screen until the next start.
    last_over: Mutex<HashMap<DeviceId, StreamRecord>>,
    /// One start at a time, so that a device is never given two streams.
    turn: tokio::sync::Mutex<()>,
    last_port: Mutex<Option<u16>>,
    changed: watch::Sender<u64>,
}

impl Sessions {
    /// No stream runs yet; see [`Self::resume`].
    pub fn new(config: Arc<Config>, store: Store, sealer: Arc<Sealer>, fleet: Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self {
            config,
            store,
            sealer,
            fleet,
            running: Mutex::default(),
            last_over: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            last_port: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<StreamId, Session>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes; wait on it to redraw.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Directory of a stream's files.
    pub fn directory(&self, stream: &StreamId) -> PathBuf {
        self.config.data_dir.join("streams").join(stream.as_str())
    }

    /// Takes up the streams that ran when the relay ended. Returns how many.
    ///
    /// # Errors
    /// [`SessionError`]: the store's.
    pub fn resume(self: &Arc<Self>) -> Result<usize, SessionError> {
        let mut count = 0;
        for record in self.store.scan::<StreamRecord>()? {
            if record.outcome.is_some() {
                self.note_over(&record);
                continue;
            }
            tracing::info!(stream = %record.id, device = %record.device, "stream taken up after a restart");
            let id = record.id.clone();
            match self.run(record, task::Beginning::Resumed) {
                Ok(()) => count += 1,
                // One stream whose key does not open must not keep the relay from serving the others.
                Err(error) => {
                    tracing::error!(stream = %id, error = &error as &dyn std::error::Error, "stream cannot be taken up");
                }
            }
        }
        Ok(count)
    }

    /// Starts a stream; returns as soon as it is recorded and under way.
    ///
    /// # Errors
    /// [`SessionError`]; `Peer...` variants are the asker's.
    pub async fn start(
        self: &Arc<Self>,
        device: &DeviceId,
        request: StartRequest,
        by: &str,
    ) -> Result<StreamId, SessionError> {
        let _turn = self.turn.lock().await;
        let snapshot = self.fleet.get(device).filter(|it| it.record.revoked_ms.is_none());
        let snapshot = snapshot.ok_or_else(|| SessionError::PeerNoDevice { device: device.clone() })?;
        if let Some(session) = self.running().values().find(|session| session.device == *device) {
            return Err(SessionError::PeerBusy { device: snapshot.name, by: session.started_by.clone() });
        }
        if snapshot.online_for.is_none() {
            return Err(SessionError::PeerOffline { device: snapshot.name });
        }
        let destinations = self.destinations(&request.destinations)?;
        let latency_ms = request.latency_ms.unwrap_or(self.config.streams.latency_ms);
        if !(LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(&latency_ms) {
            return Err(SpecError::Latency { got: latency_ms }.into());
        }
        let encoding = self.config.streams.encoding(request.bitrate_max);
        encoding.check()?;
        let id: StreamId = Uuid::now_v7().to_string().parse().expect("a UUID is made of 0-9, a-f and '-'");
        let key = secrets::token()?;
        let mut record = StreamRecord {
            device: device.clone(),
            device_name: snapshot.name.clone(),
            started_by: by.to_owned(),
            created_ms: unix_ms(),
            on_air_ms: None,
            ended_ms: None,
            outcome: None,
            stop_asked: None,
            port: self.port()?,
            key: Some(self.sealer.seal(&key_place(&id), &key)?),
            latency_ms,
            encoding,
            destinations,
            start_command: Uuid::now_v7(),
            timeline: Vec::new(),
            id,
        };
        record.note(record.created_ms, Severity::Info, format!("start asked for by {by}"));
        let directory = self.directory(&record.id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| SessionError::Directory { path: directory, source })?;
        let forgotten = self.forgotten()?;
        let batch = forgotten.iter().fold(Batch::new(), |batch, old| batch.delete::<StreamRecord>(old.as_str()));
        self.store.commit(batch.put(&record)).await?;
        for old in forgotten {
            tracing::warn!(stream = %old, "stream forgotten with its recording, the history is full");
            let directory = self.directory(&old);
            // What cannot be deleted is left alone from now on: nobody knows its stream any more.
            tokio::task::spawn_blocking(move || drop(fs::remove_dir_all(directory)));
        }
        let id = record.id.clone();
        tracing::info!(stream = %id, %device, by, port = record.port, "stream starts");
        self.run(record, task::Beginning::New)?;
        Ok(id)
    }

    /// The oldest streams beyond `[retention] streams_max`.
    fn forgotten(&self) -> Result<Vec<StreamId>, SessionError> {
        let over: Vec<_> = self.store.scan::<StreamRecord>()?.into_iter().filter(|it| it.outcome.is_some()).collect();
        let surplus = (over.len() + 1).saturating_sub(self.config.retention.streams_max);
        // Ids are UUIDv7: their order is the order of time.
        Ok(over.into_iter().take(surplus).map(|record| record.id).collect())
    }

    fn destinations(&self, ids: &[String]) -> Result<Vec<DestinationRecord>, SessionError> {
        if ids.len() > DESTINATIONS_MAX {
            return Err(SessionError::PeerTooMany { got: ids.len() });
        }
        let mut found: Vec<DestinationRecord> = Vec::new();
        for id in ids {
            let record = self.store.get::<DestinationRecord>(id)?;
            let record = record.ok_or_else(|| SessionError::PeerNoDestination { id: id.chars().take(64).collect() })?;
            if !found.iter().any(|known| known.id == record.id) {
                found.push(record);
            }
        }
        Ok(found)
    }

    fn port(&self) -> Result<u16, SessionError> {
        let receivers = &self.config.receivers;
        let taken: Vec<u16> = self.running().values().map(|session| session.port).collect();
        let mut last = self.last_port.lock().unwrap_or_else(PoisonError::into_inner);
        let port = ports::free(receivers.bind, receivers.port_first, receivers.port_last, *last, &taken);
        *last = port.or(*last);
        port.ok_or(SessionError::NoPort)
    }

    /// Stops the device's stream.
    ///
    /// # Errors
    /// [`SessionError::PeerIdle`].
    pub async fn stop(&self, device: &DeviceId, by: &str) -> Result<StreamId, SessionError> {
        let found =
            self.running().iter().find(|(_, it)| it.device == *device).map(|(id, it)| (id.clone(), it.inbox.clone()));
        let (id, inbox) = found.ok_or_else(|| SessionError::PeerIdle { device: device.clone() })?;
        let _ = inbox.send(Input::Stop { by: by.to_owned() }).await;
        Ok(id)
    }

    fn run(self: &Arc<Self>, record: StreamRecord, beginning: task::Beginning) -> Result<(), SessionError> {
        let sealed = record.key.as_ref().ok_or(SecretsError::Sealed)?;
        let key = self.sealer.open_sealed(&key_place(&record.id), sealed)?;
        let outputs = self.outputs(&record)?;
        let (inbox, inputs) = mpsc::channel(INPUTS_MAX);
        let live = Arc::new(Mutex::new(LiveStream::new(record.clone())));
        let session = Session {
            device: record.device.clone(),
            port: record.port,
            started_by: record.started_by.clone(),
            inbox,
            live: Arc::clone(&live),
        };
        self.running().insert(record.id.clone(), session);
        let worker = worker::WorkerSpec {
            program: self.config.receiver_program(),
            directory: self.directory(&record.id),
            plugins: self.config.data_dir.join("gstreamer-registry.bin"),
            start: protocol::worker::receiver::StartReceiver {
                stream: record.id.clone(),
                listen: (self.config.receivers.bind, record.port).into(),
                key: key.clone(),
                latency_ms: record.latency_ms,
                directory: self.directory(&record.id).to_string_lossy().into_owned(),
                outputs,
            },
        };
        let task = task::Task::new(Arc::clone(self), record, key, worker, live, beginning);
        tokio::spawn(task.run(inputs));
        self.note_change();
        Ok(())
    }

    fn note_over(&self, record: &StreamRecord) {
        let mut over = self.last_over.lock().unwrap_or_else(PoisonError::into_inner);
        // Ids are UUIDv7: the greater one is the later one.
        let known = over.entry(record.device.clone()).or_insert_with(|| record.clone());
        if known.id <= record.id {
            *known = record.clone();
        }
    }

    /// The device's last stream that is over.
    pub fn last_over(&self, device: &DeviceId) -> Option<StreamSnapshot> {
        let over = self.last_over.lock().unwrap_or_else(PoisonError::into_inner);
        over.get(device).cloned().map(StreamSnapshot::of_record)
    }

    /// A stream of the store that does not run here. While the disk is full its end may not be stored yet.
    fn not_running(&self, record: StreamRecord) -> StreamSnapshot {
        let ended = self.last_over(&record.device).filter(|it| record.outcome.is_none() && it.record.id == record.id);
        ended.unwrap_or_else(|| StreamSnapshot::of_record(record))
    }

    fn outputs(&self, record: &StreamRecord) -> Result<Vec<OutputSpec>, SessionError> {
        let own = |id: &str, name: &str, target| OutputSpec { id: id.to_owned(), name: name.to_owned(), target };
        let mut outputs = vec![
            own("hls", "Preview (HLS)", OutputTarget::Hls),
            own("recording", "Recording", OutputTarget::Recording),
        ];
        for destination in &record.destinations {
            let secret = match &destination.secret {
                Some(sealed) => self.sealer.open_sealed(&destination_place(&destination.id), sealed)?,
                None => Secret::default(),
            };
            let url = destination.url.clone();
            let target = match destination.kind {
                DestinationKind::Rtmp => OutputTarget::Rtmp { url, key: secret },
                DestinationKind::Srt => OutputTarget::Srt { url, passphrase: secret },
            };
            outputs.push(own(&destination.id, &destination.name, target));
        }
        Ok(outputs)
    }

    /// The stream that a device has now.
    pub fn of_device(&self, device: &DeviceId) -> Option<StreamSnapshot> {
        let live = self.running().values().find(|it| it.device == *device).map(|it| Arc::clone(&it.live))?;
        Some(live::snapshot(&live))
    }

    /// All running streams, oldest first.
    pub fn list_running(&self) -> Vec<StreamSnapshot> {
        let live: Vec<_> = self.running().values().map(|session| Arc::clone(&session.live)).collect();
        live.iter().map(|live| live::snapshot(live)).collect()
    }

    /// One stream, running or over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, id: &StreamId) -> Result<Option<StreamSnapshot>, StoreError> {
        let live = self.running().get(id).map(|session| Arc::clone(&session.live));
        match live {
            Some(live) => Ok(Some(live::snapshot(&live))),
            None => Ok(self.store.get::<StreamRecord>(id.as_str())?.map(|record| self.not_running(record))),
        }
    }

    /// The history, newest first, running streams included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(&self) -> Result<Vec<StreamSnapshot>, StoreError> {
        let mut running: HashMap<_, _> =
            self.list_running().into_iter().map(|snapshot| (snapshot.record.id.clone(), snapshot)).collect();
        let records = self.store.scan::<StreamRecord>()?.into_iter().rev();
        Ok(records.map(|it| running.remove(&it.id).unwrap_or_else(|| self.not_running(it))).collect())
    }

    /// Carries the devices' words to the streams they are about, until the fleet ends.
    pub async fn follow(self: Arc<Self>, mut events: mpsc::Receiver<FleetEvent>) {
        let mut strays: HashMap<DeviceId, Instant> = HashMap::new();
        while let Some(event) = events.recv().await {
            match event {
                FleetEvent::CommandOutcome { command, device, outcome } => {
                    self.tell(&device, Input::Answered { command, outcome }).await;
                }
                FleetEvent::Reported { device, state } => self.reported(&device, *state, &mut strays).await,
                FleetEvent::GoLiveRequested { device } => self.go_live(&device).await,
                FleetEvent::StopRequested { device, stream } => {
                    let inbox = self.running().get(&stream).filter(|it| it.device == device).map(|it| it.inbox.clone());
                    if let Some(inbox) = inbox {
                        let _ = inbox.send(Input::Stop { by: "the device".to_owned() }).await;
                    }
                }
            }
        }
    }

    async fn tell(&self, device: &DeviceId, input: Input) {
        let inbox = self.running().values().find(|it| it.device == *device).map(|it| it.inbox.clone());
        if let Some(inbox) = inbox {
            let _ = inbox.send(input).await;
        }
    }

    async fn reported(&self, device: &DeviceId, state: DeviceState, strays: &mut HashMap<DeviceId, Instant>) {
        let DeviceState::State { streaming, .. } = state;
        let ours = streaming
            .stream()
            .is_none_or(|stream| self.running().get(stream).is_some_and(|session| session.device == *device));
        if ours {
            self.tell(device, Input::Reported(streaming)).await;
            return;
        }
        let (StreamingState::Starting { stream }
        | StreamingState::Sending { stream, .. }
        | StreamingState::Recovering { stream, .. }) = streaming
        else {
            return;
        };
        // It sends a stream that ended here while it was away.
        let now = Instant::now();
        strays.retain(|_, at| now.duration_since(*at) < STRAY_STOP_INTERVAL);
        if strays.contains_key(device) {
            return;
        }
        strays.insert(device.clone(), now);
        tracing::warn!(%device, %stream, "device sends a stream that is over; it is told to stop");
        self.fleet.command(
            Uuid::now_v7(),
            device,
            Command::StopStream { valid_for_ms: ORDER_VALID_MS, stream },
            "the relay",
        );
    }

    /// GO LIVE on the device: the destinations of its last stream, else none.
    async fn go_live(self: &Arc<Self>, device: &DeviceId) {
        let usual = self.history().unwrap_or_default().into_iter().find(|it| it.record.device == *device);
        let known = self.store.scan::<DestinationRecord>().unwrap_or_default();
        let mut destinations: Vec<String> = match usual {
            Some(stream) => stream.record.destinations.into_iter().map(|it| it.id).collect(),
            None => known.iter().map(|it| it.id.clone()).take(1).collect(),
        };
        destinations.retain(|id| known.iter().any(|it| it.id == *id));
        let request = StartRequest { destinations, ..StartRequest::default() };
        if let Err(error) = self.start(device, request, "the device").await {
            tracing::warn!(%device, error = &error as &dyn std::error::Error, "go-live on the device refused");
            self.fleet.notice(device, Notice::RequestRefused { detail: error.to_string() });
        }
    }

    /// Ends the streams of a revoked device.
    pub async fn revoked(&self, record: &DeviceRecord, by: &str) {
        self.tell(&record.id, Input::Stop { by: format!("{by} (device revoked)") }).await;
    }
}

/// Where a stream's key is sealed for.
fn key_place(stream: &StreamId) -> String {
    format!("stream/{stream}")
}

/// Where a destination's secret is sealed for.
pub fn destination_place(id: &str) -> String {
    format!("destination/{id}")
}
