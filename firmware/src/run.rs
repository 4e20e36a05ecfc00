//! The agent's edge: carries out what [`crate::core`] decides, with sockets, files, processes and the clock.

use crate::commands::LedgerStore;
use crate::config::Config;
use crate::core::{Beginning, ClaimView, Core, HardwareSnapshot, Output, View};
use crate::data_dir::DataDir;
use crate::enrolment::{EnrolError, enrol};
use crate::identity::{DeviceKey, Identity};
use crate::mqtt::queue::{OfflineQueue, memory_database, open_database};
use crate::mqtt::{RelayEvent, SessionHandle};
use crate::settings::{self, Origin};
use crate::streaming::port::{self, PortCommand, PortEvent};
use crate::streaming::record::{KeptRecord, RecordFile};
use crate::web::{self, PageRequest};
use anyhow::Context as _;
use appliance::Appliance;
use daemon::shutdown::Shutdown;
use protocol::enrolment::ClaimLink;
use protocol::state::{DeviceEvent, Severity};
use protocol::topic::Leaf;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use units::{DeviceId, Timestamp};

/// How often the hardware is looked at.
const SCAN_PERIOD: Duration = Duration::from_secs(1);
/// Pause between tries of a claim from a file while the relay cannot be reached.
const CLAIM_PAUSE: Duration = Duration::from_secs(2);
/// Tries of a claim from a file.
const CLAIM_TRIES_MAX: u32 = 150;
/// Items waiting in the channels to the agent's loop.
const CHANNEL_MAX: usize = 16;
/// A defect: the process ends, the service manager starts it anew, and the stream goes on meanwhile.
const TASK_DIED: &str = "a part of the agent died";
/// Longest time given to the session to say offline.
const SESSION_END_TIME_MAX: Duration = Duration::from_secs(3);

/// The process's monotonic clock.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Timestamp {
        Timestamp::ZERO + self.0.elapsed()
    }

    fn instant(self, at: Timestamp) -> tokio::time::Instant {
        (self.0 + at.since(Timestamp::ZERO)).into()
    }
}

/// Runs the agent until shutdown. `claim_file` holds a claim link for a device that is not enrolled.
///
/// # Errors
/// The agent cannot begin: data directory, key, database or the page's address are unusable.
pub async fn run(config: Config, claim_file: Option<PathBuf>, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let data = DataDir::create(&config.data_dir)?;
    let _lock = data.lock()?; // before the database, which must not be set aside while another agent uses it
    let key = Arc::new(DeviceKey::load_or_create(&data.identity())?);
    let storage = open_storage(&data)?;
    let db = &storage.db;
    let queue = OfflineQueue::open(db)?;
    let mut appliance = config.appliance();

    let (agent, mut relay_events, session) =
        Agent::begin(&config, data.clone(), key, &storage, queue, &appliance.board, &shutdown)?;
    let Parts { mut agent, mut port_events, page_requests } = agent;
    let (page_sender, mut pages) = page_requests;
    let page = web::serve(&config.local_page, agent.view.subscribe(), page_sender, shutdown.clone())
        .await
        .with_context(|| format!("cannot serve the page on {}", config.local_page.listen))?;
    agent.core.handle_hardware(agent.clock.now(), scan(&mut appliance, Timestamp::ZERO, &HardwareSnapshot::default()));
    let mut hardware = scan_regularly(appliance, agent.clock)?;
    if let Some(file) = claim_file.filter(|_| agent.device.is_none()) {
        agent.claim_from_file(&file);
    }
    daemon::notify::ready();
    tracing::info!(page = %page.address, device = agent.device.as_ref().map_or("none", DeviceId::as_str), "agent runs");

    loop {
        agent.carry_out_all().await;
        let due = agent.clock.instant(agent.core.poll_timeout());
        tokio::select! {
            event = relay_events.recv() => match event {
                Some(event) => agent.core.handle_relay(agent.clock.now(), event),
                // The session ends with the shutdown, and may be faster than this loop.
                None if shutdown.is_fired() => break,
                None => anyhow::bail!(TASK_DIED),
            },
            event = port_events.recv() => agent.core.handle_port(agent.clock.now(), event.context(TASK_DIED)?),
            snapshot = hardware.recv() => {
                agent.core.handle_hardware(agent.clock.now(), snapshot.context(TASK_DIED)?);
            }
            Some(request) = pages.recv() => agent.page_request(request),
            Some(news) = agent.news.recv() => agent.take_news(news),
            () = tokio::time::sleep_until(due) => {
                agent.core.handle_timeout(agent.clock.now());
                daemon::notify::alive();
            }
            () = shutdown.wait() => break,
        }
    }
    daemon::notify::stopping();
    // The streamer goes on: a stream outlives its agent.
    let _ = tokio::time::timeout(SESSION_END_TIME_MAX, session).await;
    page.ended().await;
    Ok(())
}

/// Results of background work.
enum News {
    Resolved { host: String, outcome: Result<Vec<IpAddr>, String> },
    Claimed(Result<Identity, EnrolError>),
}

struct Agent {
    core: Core,
    clock: Clock,
    data: DataDir,
    key: Arc<DeviceKey>,
    board: String,
    device: Option<DeviceId>,
    claim: ClaimView,
    record: RecordFile,
    ledger: LedgerStore,
    session: SessionHandle,
    port: mpsc::Sender<PortCommand>,
    view: watch::Sender<View>,
    news_sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// Sent when the view shows what was asked: the browser reads it at once.
    reply: Option<(web::Reply, Result<(), String>)>,
}

struct Parts {
    agent: Agent,
    port_events: mpsc::Receiver<PortEvent>,
    page_requests: (mpsc::Sender<PageRequest>, mpsc::Receiver<PageRequest>),
}

impl Agent {
    fn begin(
        config: &Config,
        data: DataDir,
        key: Arc<DeviceKey>,
        storage: &Storage,
        queue: OfflineQueue,
        board: &str,
        shutdown: &Shutdown,
    ) -> anyhow::Result<(Parts, mpsc::Receiver<RelayEvent>, tokio::task::JoinHandle<()>)> {
        let clock = Clock(Instant::now());
        let mut remarks: Vec<_> = storage.remark.clone().into_iter().collect();
        let identity = Identity::load(&data.identity(), &key).unwrap_or_else(|error| {
            tracing::error!(%error, "no usable identity");
            None
        });
        let device = identity.as_ref().map(|identity| identity.device.clone());
        let record = RecordFile::new(data.stream_record(), &key)?;
        let ledger = LedgerStore::open(&storage.db)?;
        let beginning = Beginning {
            board: board.to_owned(),
            settings: load_settings(&data, &mut remarks),
            commands: ledger.load(),
            record: load_record(&record, &mut remarks),
            enrolled: device.is_some(),
            remarks,
        };
        let core = Core::new(clock.now(), beginning);
        let (session, relay_events, session_task) =
            crate::mqtt::start(Arc::clone(&key), identity, queue, data.mqtt_socket(), shutdown.clone());
        let (port, port_events) = port::start(config.streamer_program(), &data);
        let (news_sender, news) = mpsc::channel(CHANNEL_MAX);
        let (view, _) = watch::channel(core.view(clock.now()));
        let board = board.to_owned();
        let claim = ClaimView::None;
        let reply = None;
        let agent = Self {
            core,
            clock,
            data,
            key,
            board,
            device,
            claim,
            record,
            ledger,
            session,
            port,
            view,
            news_sender,
            news,
            reply,
        };
        let parts = Parts { agent, port_events, page_requests: mpsc::channel(CHANNEL_MAX) };
        Ok((parts, relay_events, session_task))
    }

    /// All outputs of the core, then the new view.
    async fn carry_out_all(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.carry_out(output);
        }
        let mut view = self.core.view(self.clock.now());
        view.device = self.device.as_ref().map(ToString::to_string);
        view.claim = self.claim.clone();
        self.view.send_replace(view);
        if let Some((reply, outcome)) = self.reply.take() {
            let _ = reply.send(outcome); // the browser may be gone
        }
        tokio::task::yield_now().await;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Report(report) => self.session.enqueue(Leaf::CommandResult, report),
            Output::Event(event) => self.session.enqueue(Leaf::Event, event),
            Output::AskGoLive => {
                if !self.session.urgent(Leaf::Event, DeviceEvent::GoLiveRequested) {
                    self.core.go_live_not_sent();
                }
            }
            Output::State(state) => self.session.set_state(*state),
            Output::Telemetry(telemetry) => self.session.telemetry(*telemetry),
            Output::KeepCommand { entry, forgotten } => {
                self.check("a command's outcome could not be kept", &self.ledger.keep(&entry, &forgotten));
            }
            Output::SaveSettings(settings) => {
                self.check("the settings could not be saved", &settings::save(&self.data.settings(), &settings));
            }
            Output::SaveRecord(record) => {
                self.check("the stream's record could not be saved", &self.record.save(&record));
            }
            Output::RemoveRecord => self.check("the stream's record could not be removed", &self.record.remove()),
            Output::Resolve { host } => self.resolve(host),
            Output::NetworkChanged => self.session.network_changed(),
            Output::Port(command) => {
                if let Err(error) = self.port.try_send(command) {
                    tracing::error!(%error, "the streamer's port takes no command");
                }
            }
        }
    }

    /// A storage fault is told to the operator; the stream goes on.
    fn check<E: std::fmt::Display>(&mut self, what: &str, outcome: &Result<(), E>) {
        if let Err(error) = outcome {
            tracing::error!(%error, what, "storage failed");
            self.core.storage_failed(self.clock.now(), what);
        }
    }

    fn resolve(&self, host: String) {
        let news = self.news_sender.clone();
        tokio::spawn(async move {
            // The port is not used; the resolver wants one.
            let outcome = tokio::net::lookup_host((host.as_str(), 0)).await;
            let outcome = outcome
                .map(|addresses| addresses.map(|address| address.ip()).collect())
                .map_err(|error| error.to_string());
            let _ = news.send(News::Resolved { host, outcome }).await;
        });
    }

    fn page_request(&mut self, request: PageRequest) {
        let now = self.clock.now();
        let (outcome, reply) = match request {
            PageRequest::GoLive { reply } => (self.core.go_live(now), reply),
            PageRequest::Stop { reply } => (self.core.stop(now), reply),
            PageRequest::Settings { change, reply } => (self.core.change_settings(now, &change), reply),
            PageRequest::Claim { link, reply } => {
                self.claim_once(link);
                (Ok(()), reply)
            }
        };
        self.reply = Some((reply, outcome.map_err(|refusal| refusal.to_string())));
    }

    fn claim_once(&mut self, link: ClaimLink) {
        if self.claim == ClaimView::Asking {
            return;
        }
        self.claim = ClaimView::Asking;
        let (data, key, board, news) =
            (self.data.clone(), Arc::clone(&self.key), self.board.clone(), self.news_sender.clone());
        tokio::spawn(async move {
            let _ = news.send(News::Claimed(enrol(&data, &link, &key, &board).await)).await;
        });
    }

    /// For scripted enrolment: tried again while the relay cannot be reached.
    fn claim_from_file(&mut self, file: &Path) {
        let link = match read_claim(file) {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "claim file is unusable");
                self.claim = ClaimView::Failed { detail: format!("{error:#}") };
                return;
            }
        };
        self.claim = ClaimView::Asking;
        let (data, key, board, news) =
            (self.data.clone(), Arc::clone(&self.key), self.board.clone(), self.news_sender.clone());
        tokio::spawn(async move {
            let mut outcome = enrol(&data, &link, &key, &board).await;
            for _ in 1..CLAIM_TRIES_MAX {
                if !matches!(outcome, Err(EnrolError::PeerUnreachable { .. } | EnrolError::PeerTimeout)) {
                    break;
                }
                tokio::time::sleep(CLAIM_PAUSE).await;
                outcome = enrol(&data, &link, &key, &board).await;
            }
            let _ = news.send(News::Claimed(outcome)).await;
        });
    }

    fn take_news(&mut self, news: News) {
        let now = self.clock.now();
        match news {
            News::Resolved { host, outcome } => self.core.handle_resolved(now, &host, outcome),
            News::Claimed(Ok(identity)) => {
                tracing::info!(device = %identity.device, "enrolled");
                self.claim = ClaimView::None;
                self.device = Some(identity.device.clone());
                self.session.set_identity(identity);
                self.core.handle_enrolled(now);
            }
            News::Claimed(Err(error)) => {
                let detail = crate::in_words(&error);
                tracing::error!(detail, "claim failed");
                self.claim = ClaimView::Failed { detail };
            }
        }
    }
}

/// The agent's database, and what the operator should know of it.
struct Storage {
    db: sled::Db,
    remark: Option<(Severity, String)>,
}

/// A full disk must not keep a device off the air: then the queue is kept in memory.
fn open_storage(data: &DataDir) -> anyhow::Result<Storage> {
    let error = match open_database(&data.queue()) {
        Ok(db) => return Ok(Storage { db, remark: None }),
        Err(error) => crate::in_words(&error),
    };
    tracing::error!(error, "the database cannot be opened, memory serves until the next start");
    let text = format!(
        "{error}; what the relay has not acknowledged is lost at the next restart: free some space on the device's disk, then \
         restart its agent"
    );
    let db = memory_database().context("cannot keep the queue, neither on disk nor in memory")?;
    Ok(Storage { db, remark: Some((Severity::Error, text)) })
}

fn read_claim(file: &Path) -> anyhow::Result<ClaimLink> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the claim file {}", file.display()))?;
    text.trim().parse().with_context(|| format!("the claim file {} holds no claim link", file.display()))
}

fn load_settings(data: &DataDir, remarks: &mut Vec<(Severity, String)>) -> protocol::state::Settings {
    let (settings, origin) = settings::load(&data.settings());
    match origin {
        Origin::File | Origin::Defaults => {}
        Origin::Previous { reason } => {
            tracing::warn!(reason, "previous settings taken");
            remarks.push((Severity::Warning, format!("{reason}; the settings before the last change are in force")));
        }
        Origin::Lost { reason } => {
            tracing::error!(reason, "settings lost, defaults taken");
            remarks.push((Severity::Error, format!("{reason}; default settings are in force, check them")));
        }
    }
    settings
}

fn load_record(file: &RecordFile, remarks: &mut Vec<(Severity, String)>) -> KeptRecord {
    match file.load() {
        Ok(None) => KeptRecord::Nothing,
        Ok(Some(record)) => KeptRecord::Stream(Box::new(record)),
        Err(error) => {
            tracing::error!(%error, "stream record unusable");
            remarks.push((Severity::Error, crate::in_words(&error)));
            KeptRecord::Unreadable
        }
    }
}

/// The hardware now; what cannot be read stays as it was.
fn scan(appliance: &mut Appliance, now: Timestamp, last: &HardwareSnapshot) -> HardwareSnapshot {
    let uplinks = appliance.uplinks.scan(now).unwrap_or_else(|error| {
        tracing::warn!(%error, "uplinks not read");
        last.uplinks.clone()
    });
    let inputs = appliance.inputs.scan(now).unwrap_or_else(|error| {
        tracing::warn!(%error, "inputs not read");
        last.inputs.clone()
    });
    HardwareSnapshot { uplinks, inputs, temperature_c: appliance.thermal.temperature_c(now) }
}

/// A thread of its own, because sysfs may block; it ends with the receiver.
fn scan_regularly(mut appliance: Appliance, clock: Clock) -> std::io::Result<mpsc::Receiver<HardwareSnapshot>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("hardware".to_owned()).spawn(move || {
        let mut last = HardwareSnapshot::default();
        loop {
            std::thread::sleep(SCAN_PERIOD);
            last = scan(&mut appliance, clock.now(), &last);
            if sender.blocking_send(last.clone()).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
