//! The sending end of a flow on real sockets.

mod commands;
mod discovery;
mod interfaces;
mod link;
mod rhythm;
mod route_query;
mod routes;
mod source_clock;
mod worker;

use crate::clock::{self, Clock};
use crate::error::{OpenError, PushError};
use crate::flow_thread::FlowThread;
use crate::media::UdpInput;
use crate::queue::{Overflow, Queue, Refused, lock};
use crate::udp::ecn_allowed;
use bond::config::{LINKS_MAX, LinkOptions, Profile, SenderConfig};
use bond::event::{EVENTS_MAX, Event};
use bond::sender::{RadioHint, Sender};
use bond::stats::SenderSnapshot;
use bond::{PAYLOAD_BYTES_MAX, PacketClass};
use bytes::Bytes;
use commands::{Command, Commands};
pub use discovery::LinkRule;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use units::{Bitrate, LinkId, Timestamp};

/// Payloads between the caller and the flow's thread: one second of 20 Mbit/s.
pub const PAYLOADS_QUEUED_MAX: usize = 2048;

/// One link of a sender and the socket it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// Unique within the flow.
    pub id: LinkId,
    /// Name for the operator; overrides an empty name in `options`.
    pub name: String,
    /// Local address to send from; `None` follows the routes.
    pub bind: Option<IpAddr>,
    /// Network interface to send through (`SO_BINDTODEVICE`); `None` follows the routes.
    pub device: Option<String>,
    /// The receiver; the even port P in Simple Profile. Where this end listens, when the receiver calls.
    pub remote: SocketAddr,
    /// The receiver calls, on `remote` (Main Profile only). `bind` is not used then.
    pub listens: bool,
    /// How the engine uses the link.
    pub options: LinkOptions,
}

impl LinkSpec {
    /// A link to `remote` that follows the routes and is called by its number.
    pub fn new(id: LinkId, remote: SocketAddr) -> Self {
        let name = id.to_string();
        Self { id, name, bind: None, device: None, remote, listens: false, options: LinkOptions::default() }
    }
}

/// What [`FlowSender::open`] needs.
#[derive(Debug, Clone)]
pub struct SenderOptions {
    /// The engine's settings.
    pub bond: SenderConfig,
    /// Links from the start; may be empty, more can be added.
    pub links: Vec<LinkSpec>,
}

/// What this crate itself dropped or refused since the flow was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SenderIoCounters {
    /// Payloads refused because the queue to the thread was full.
    pub payloads_refused: u64,
    /// Datagrams dropped because a socket was full, closed or failed.
    pub datagrams_dropped: u64,
    /// Datagrams ignored because they came from another address than the link's receiver.
    pub datagrams_foreign: u64,
    /// Sockets opened again after a failure.
    pub sockets_reopened: u64,
}

/// A media packet on its way to the thread.
#[derive(Debug)]
struct QueuedPayload {
    bytes: Bytes,
    class: PacketClass,
    source_time: Option<Duration>,
    pushed_at: Timestamp,
}

/// What the thread publishes.
#[derive(Debug)]
struct Published {
    snapshot: Mutex<Arc<SenderSnapshot>>,
    counters: Mutex<SenderIoCounters>,
    rate_advice_bps: AtomicU64,
    payload_bytes_max: AtomicUsize,
    /// Payloads that may be in the queue; none while the thread passes on what is in it.
    room: AtomicUsize,
    events: Queue<Event>,
}

/// A flow that is being sent. All methods may be called from any thread and none of them waits, but for
/// [`FlowSender::close`] and dropping.
#[derive(Debug)]
pub struct FlowSender {
    clock: Clock,
    payloads: Arc<Queue<QueuedPayload>>,
    commands: Arc<Commands>,
    published: Arc<Published>,
    thread: FlowThread,
}

impl FlowSender {
    /// Starts the flow's thread and opens a socket for each link.
    ///
    /// A link whose socket cannot be opened (its interface is not there yet) is no error: it starts as failed and is
    /// tried again.
    ///
    /// # Errors
    /// Settings that cannot work, or a system without threads or file descriptors left.
    pub fn open(options: SenderOptions) -> Result<Self, OpenError> {
        Self::start(options, None)
    }

    /// Like [`FlowSender::open`], and sends what arrives on `input` too, on the flow's own thread.
    ///
    /// # Errors
    /// As for [`FlowSender::open`].
    pub fn open_from_udp(options: SenderOptions, input: UdpInput) -> Result<Self, OpenError> {
        Self::start(options, Some(input))
    }

    fn start(options: SenderOptions, input: Option<UdpInput>) -> Result<Self, OpenError> {
        check_links(&options.links, options.bond.profile)?;
        let clock = Clock::start();
        let seed = clock::seed().map_err(|source| OpenError::System { what: "randomness", source })?;
        let profile = options.bond.profile;
        let latency = options.bond.latency;
        let now = clock.now();
        let config = SenderConfig { ecn: ecn_allowed(), ..options.bond };
        let machine = Sender::new(config, seed, now).map_err(OpenError::Config)?;
        let published = Arc::new(Published {
            snapshot: Mutex::new(Arc::new(machine.snapshot(now))),
            counters: Mutex::default(),
            rate_advice_bps: AtomicU64::new(machine.rate_advice(now).as_bps()),
            payload_bytes_max: AtomicUsize::new(machine.payload_bytes_max()),
            room: AtomicUsize::new(0),
            events: Queue::new(EVENTS_MAX, Overflow::DropOldest),
        });
        let payloads = Arc::new(Queue::new(PAYLOADS_QUEUED_MAX, Overflow::Refuse));
        let commands = Arc::new(Commands::default());
        let (signal, sleeper) = FlowThread::signal(rhythm::RHYTHM)?;
        let worker = worker::Worker::new(
            worker::Parts {
                machine,
                clock,
                profile,
                latency,
                payloads: Arc::clone(&payloads),
                commands: Arc::clone(&commands),
                published: Arc::clone(&published),
                signal: Arc::clone(&signal),
                sleeper,
                input,
            },
            options.links,
        );
        let thread = FlowThread::start("bond-sender", signal, move || worker.run())?;
        Ok(Self { clock, payloads, commands, published, thread })
    }

    /// Hands over the next packet of the flow: at most [`PAYLOAD_BYTES_MAX`] bytes, normally seven TS packets.
    ///
    /// `source_time` is the media time since the start of the flow; it decides when the receiver delivers. `None` means
    /// "produced now". Its relation to real time is taken from the packets themselves: none is ever in the future.
    ///
    /// # Errors
    /// The queue is full (the packet is lost and counted), the packet is too long, or the flow is closed.
    pub fn push(&self, bytes: Bytes, class: PacketClass, source_time: Option<Duration>) -> Result<(), PushError> {
        self.queue(QueuedPayload { bytes, class, source_time, pushed_at: self.clock.now() })
    }

    /// Like [`FlowSender::push`], for media without a time of its own that was produced `age` ago.
    ///
    /// # Errors
    /// As for [`FlowSender::push`].
    pub fn push_aged(&self, bytes: Bytes, class: PacketClass, age: Duration) -> Result<(), PushError> {
        self.queue(QueuedPayload { bytes, class, source_time: None, pushed_at: self.clock.now().back(age) })
    }

    fn queue(&self, payload: QueuedPayload) -> Result<(), PushError> {
        if payload.bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(PushError::TooLong { got: payload.bytes.len() });
        }
        self.payloads.push(payload).map_err(|refused| match refused {
            Refused::Full => PushError::Full,
            Refused::Closed => PushError::Closed,
        })?;
        self.thread.wake();
        Ok(())
    }

    /// False while the links carry no more than they have got, or none is up: a source that can wait asks before it pushes, and
    /// nothing of it is given up for want of time. A live source does not ask. What one read gives (tens of kilobytes) may be pushed
    /// after one yes.
    pub fn has_room(&self) -> bool {
        self.payloads.len() < self.published.room.load(Ordering::Acquire)
    }

    /// Adds a link while the flow runs; it replaces one of the same id.
    pub fn add_link(&self, link: LinkSpec) {
        self.command(Command::AddLink(link));
    }

    /// Takes a link out and closes its socket; what was in flight on it goes again over others.
    pub fn remove_link(&self, link: LinkId) {
        self.command(Command::RemoveLink(link));
    }

    /// From now on makes a link of every interface that the rule takes, and takes it out with the interface. Links that were
    /// added by hand stay as they are.
    pub fn follow_interfaces(&self, rule: LinkRule) {
        self.command(Command::FollowInterfaces(Box::new(rule)));
    }

    /// Changes priority, price, budget and the like of a link that goes on running on its socket.
    pub fn set_link_options(&self, link: LinkId, options: LinkOptions) {
        self.command(Command::SetLinkOptions(link, options));
    }

    /// Changes the latency budget while the flow runs.
    pub fn set_latency(&self, latency: Duration) {
        self.command(Command::SetLatency(latency));
    }

    /// Tells what the encoder can do; [`FlowSender::rate_advice`] stays within.
    pub fn set_encoder_range(&self, min: Bitrate, max: Bitrate) {
        self.command(Command::SetEncoderRange { min, max });
    }

    /// Passes on what a modem knows about its radio.
    pub fn radio_hint(&self, link: LinkId, hint: RadioHint) {
        self.command(Command::RadioHint { link, hint });
    }

    /// The present in the clock of [`SenderSnapshot::at`] and of events.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state of flow and links, at most a second old.
    pub fn snapshot(&self) -> Arc<SenderSnapshot> {
        Arc::clone(&lock(&self.published.snapshot))
    }

    /// What the encoder may produce, in payload bits; at most 100 ms old.
    pub fn rate_advice(&self) -> Bitrate {
        Bitrate::from_bps(self.published.rate_advice_bps.load(Ordering::Relaxed))
    }

    /// The longest payload that fits the links in use, in bytes; at most 100 ms old. Seven TS packets, fewer over links with
    /// a small MTU; what is longer is cut between TS packets, at the price of more headers.
    pub fn payload_bytes_max(&self) -> usize {
        self.published.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// What was dropped outside the engine, at most a second old.
    pub fn io_counters(&self) -> SenderIoCounters {
        SenderIoCounters { payloads_refused: self.payloads.dropped(), ..*lock(&self.published.counters) }
    }

    /// Events since the last call, oldest first; at most [`EVENTS_MAX`] are kept.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.published.events.drain_into(&mut events);
        events
    }

    /// Takes no more payloads, serves retransmissions until everything has arrived, but no longer than the latency
    /// budget, and ends the thread. Dropping instead ends it at once. Returns the events that were not taken yet.
    pub fn close(self) -> Vec<Event> {
        self.payloads.close();
        self.command(Command::Close);
        self.thread.join();
        let mut events = Vec::new();
        self.published.events.drain_into(&mut events);
        events
    }

    fn command(&self, command: Command) {
        self.commands.push(command);
        self.thread.wake();
    }
}

fn check_links(links: &[LinkSpec], profile: Profile) -> Result<(), OpenError> {
    if let Some(link) = links.iter().find(|link| link.listens && profile == Profile::Simple) {
        return Err(OpenError::ConfigListensSimple { link: link.id });
    }
    if let Some(link) = links.iter().find(|link| link.remote.port() % 2 == 1 && profile == Profile::Simple) {
        return Err(OpenError::ConfigOddPort { address: link.remote });
    }
    if links.len() > LINKS_MAX {
        return Err(OpenError::ConfigTooMany { got: links.len(), max: LINKS_MAX });
    }
    let mut seen = BTreeSet::new();
    match links.iter().find(|link| !seen.insert(link.id)) {
        Some(twice) => Err(OpenError::ConfigLinkTwice { link: twice.id }),
        None => Ok(()),
    }
}
