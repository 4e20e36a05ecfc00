//! The receiving end of a flow on real sockets.

mod called;
mod socket;
mod worker;

use crate::clock::{self, Clock};
use crate::error::{Closed, OpenError};
use crate::flow_thread::FlowThread;
use crate::media::UdpOutput;
use crate::queue::{Overflow, Queue, Taken, lock};
use crate::udp::ecn_allowed;
use bond::config::{Profile, ReceiverConfig};
use bond::event::{EVENTS_MAX, Event};
pub use bond::receiver::Delivered;
use bond::receiver::Receiver;
use bond::stats::ReceiverSnapshot;
use serde::Serialize;
use socket::ReceiverSocket;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use units::Timestamp;

/// Delivered packets waiting to be taken: four seconds of 20 Mbit/s.
pub const DELIVERIES_QUEUED_MAX: usize = 8192;
/// Addresses one receiver listens on or calls.
pub const SOCKETS_MAX: usize = 64;

/// What [`FlowReceiver::open`] needs.
#[derive(Debug, Clone)]
pub struct ReceiverOptions {
    /// The engine's settings.
    pub bond: ReceiverConfig,
    /// Addresses to listen on: the even port P in Simple Profile (RTCP uses P+1). Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Listening senders to call.
    pub connect: Vec<SocketAddr>,
}

/// What this crate itself dropped since the flow was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ReceiverIoCounters {
    /// Delivered packets dropped because nobody took them in time, or the UDP output could not be sent.
    pub deliveries_dropped: u64,
    /// Datagrams dropped because a socket was full, closed or failed.
    pub datagrams_dropped: u64,
    /// Sockets opened again after a failure.
    pub sockets_reopened: u64,
}

/// The latency that was asked for last, until the thread takes it.
type NewLatency = Mutex<Option<Duration>>;

/// What the thread publishes.
#[derive(Debug)]
struct Published {
    snapshot: Mutex<Arc<ReceiverSnapshot>>,
    counters: Mutex<ReceiverIoCounters>,
    deliveries: Queue<Delivered>,
    events: Queue<Event>,
}

/// Flows that are being received. All methods may be called from any thread; taking from one thread or task at a time
/// keeps the order.
///
/// Dropping it closes the sockets and ends the thread.
#[derive(Debug)]
pub struct FlowReceiver {
    clock: Clock,
    new_latency: Arc<NewLatency>,
    published: Arc<Published>,
    local_addrs: Vec<SocketAddr>,
    thread: FlowThread,
}

impl FlowReceiver {
    /// Opens the sockets and starts the thread.
    ///
    /// # Errors
    /// Settings that cannot work, an address that cannot be listened on, or a system without threads or file
    /// descriptors left.
    pub fn open(options: ReceiverOptions) -> Result<Self, OpenError> {
        Self::start(options, Vec::new())
    }

    /// Like [`FlowReceiver::open`], and sends what is delivered to `output` on the flow's own thread; nothing comes out
    /// of [`FlowReceiver::recv`] then.
    ///
    /// # Errors
    /// As for [`FlowReceiver::open`].
    pub fn open_to_udp(options: ReceiverOptions, output: UdpOutput) -> Result<Self, OpenError> {
        Self::start(options, vec![(None, output)])
    }

    /// The same for several flows told apart by their virtual port: each goes to the first output that names its port or
    /// none. What no output takes comes out of [`FlowReceiver::recv`].
    ///
    /// # Errors
    /// As for [`FlowReceiver::open`].
    pub fn open_to(options: ReceiverOptions, outputs: Vec<(Option<u16>, UdpOutput)>) -> Result<Self, OpenError> {
        Self::start(options, outputs)
    }

    fn start(options: ReceiverOptions, outputs: Vec<(Option<u16>, UdpOutput)>) -> Result<Self, OpenError> {
        let profile = options.bond.profile;
        check_addresses(profile, &options)?;
        let clock = Clock::start();
        let seed = clock::seed().map_err(|source| OpenError::System { what: "randomness", source })?;
        let now = clock.now();
        let config = ReceiverConfig { ecn: ecn_allowed(), ..options.bond };
        let machine = Receiver::new(config, seed, now).map_err(OpenError::Config)?;
        let sockets = open_sockets(profile, &options.listen, &options.connect)?;
        let local_addrs = sockets.iter().map(ReceiverSocket::local_addr).collect();
        let published = Arc::new(Published {
            snapshot: Mutex::new(Arc::new(machine.snapshot(now))),
            counters: Mutex::default(),
            deliveries: Queue::new(DELIVERIES_QUEUED_MAX, Overflow::DropOldest),
            events: Queue::new(EVENTS_MAX, Overflow::DropOldest),
        });
        let new_latency = Arc::new(NewLatency::default());
        let (signal, sleeper) = FlowThread::signal(worker::RHYTHM)?;
        let worker = worker::Worker::new(
            worker::Parts {
                machine,
                clock,
                new_latency: Arc::clone(&new_latency),
                published: Arc::clone(&published),
                signal: Arc::clone(&signal),
                sleeper,
                outputs,
            },
            sockets,
        );
        let thread = FlowThread::start("bond-receiver", signal, move || worker.run())?;
        Ok(Self { clock, new_latency, published, local_addrs, thread })
    }

    /// The next packet in order, waiting up to `timeout`; `Ok(None)` when none came in time.
    ///
    /// # Errors
    /// The flow was closed and everything delivered before is taken.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Delivered>, Closed> {
        self.published.deliveries.pop_timeout(timeout).map(|taken| taken.map(delivered)).map_err(|_| Closed)
    }

    /// The next packet in order, for async code of any runtime. Cancel safe; one task may wait at a time.
    ///
    /// # Errors
    /// The flow was closed and everything delivered before is taken.
    pub async fn recv(&self) -> Result<Delivered, Closed> {
        self.published.deliveries.pop().await.map(delivered).ok_or(Closed)
    }

    /// The present in the clock of [`Delivered::source_time`].
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Changes the latency budget while the flow runs.
    pub fn set_latency(&self, latency: Duration) {
        *lock(&self.new_latency) = Some(latency);
        self.thread.wake();
    }

    /// The state of flow and links, at most a second old.
    pub fn snapshot(&self) -> Arc<ReceiverSnapshot> {
        Arc::clone(&lock(&self.published.snapshot))
    }

    /// What was dropped outside the engine, at most a second old.
    pub fn io_counters(&self) -> ReceiverIoCounters {
        let counters = *lock(&self.published.counters);
        ReceiverIoCounters {
            deliveries_dropped: counters.deliveries_dropped + self.published.deliveries.dropped(),
            ..counters
        }
    }

    /// Events since the last call, oldest first; at most [`EVENTS_MAX`] are kept.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.published.events.drain_into(&mut events);
        events
    }

    /// The first local address: where it listens, or calls from.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs[0]
    }

    /// Every local address, in the order of `listen`, then `connect`.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Refuses further packets: whoever waits in [`FlowReceiver::recv`] or [`FlowReceiver::recv_timeout`] gets what is
    /// left and then [`Closed`]. The thread ends when the receiver is dropped.
    pub fn close(&self) {
        self.published.deliveries.close();
    }
}

/// A packet behind ones that the queue dropped is a discontinuity too.
fn delivered(taken: Taken<Delivered>) -> Delivered {
    Delivered { discontinuity: taken.item.discontinuity || taken.after_gap, ..taken.item }
}

fn check_addresses(profile: Profile, options: &ReceiverOptions) -> Result<(), OpenError> {
    let count = options.listen.len() + options.connect.len();
    if count == 0 {
        return Err(OpenError::ConfigNoAddress);
    }
    if count > SOCKETS_MAX {
        return Err(OpenError::ConfigTooMany { got: count, max: SOCKETS_MAX });
    }
    if let (Profile::Simple, Some(&address)) = (profile, options.connect.first()) {
        return Err(OpenError::ConfigConnectSimple { address });
    }
    let odd = options.listen.iter().find(|address| address.port() % 2 == 1);
    match (profile, odd) {
        (Profile::Simple, Some(&address)) => Err(OpenError::ConfigOddPort { address }),
        _ => Ok(()),
    }
}

fn open_sockets(
    profile: Profile,
    listen: &[SocketAddr],
    connect: &[SocketAddr],
) -> Result<Vec<ReceiverSocket>, OpenError> {
    let listening = listen.iter().map(|&address| {
        ReceiverSocket::listen(profile, address).map_err(|source| OpenError::SystemListen { address, source })
    });
    let calling = connect.iter().map(|&address| {
        ReceiverSocket::call(profile, address).map_err(|source| OpenError::System { what: "a socket", source })
    });
    listening.chain(calling).collect()
}
