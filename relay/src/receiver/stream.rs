//! The running stream: the bond's end, the programme made of it, and the outputs.
//!
//! One task takes what the bond delivers and pushes it into the outputs' queues; it never waits for anything else. The
//! controller's requests and the figures reach it through a lock that is held for microseconds.

use super::programme::{Delivery, Programme};
use super::stats;
use crate::outputs::Output;
use bond::config::{KeySize, Profile, PskConfig, ReceiverConfig};
use link_io::OpenError;
use link_io::receiver::{Delivered, FlowReceiver, ReceiverOptions};
use protocol::limits::OUTPUTS_MAX;
use protocol::worker::receiver::{OutputSpec, ReceiverStats, StartReceiver};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use units::{StreamId, Timestamp};

/// How often the outputs are told that time passes.
const TICK: Duration = Duration::from_millis(250);
/// How long the outputs may take to deliver what is queued at the end.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);
/// Flows taken at the same time: a sender, its restarted self, and one that hangs.
const FLOWS_MAX: usize = 4;

/// The stream of this process.
pub struct Stream {
    id: StreamId,
    directory: PathBuf,
    flow: Arc<FlowReceiver>,
    inner: Arc<Mutex<Inner>>,
    feeding: JoinHandle<()>,
    started: Instant,
}

struct Inner {
    programme: Programme,
    outputs: Vec<Output>,
    events: Vec<String>,
    /// Lost packets that were told to the recording.
    lost_told: u64,
}

/// Why an output was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputRefused {
    /// Too many.
    #[error("a stream feeds at most {OUTPUTS_MAX} outputs: remove one first")]
    TooMany,
    /// Unknown id.
    #[error("there is no output {id:?}")]
    Unknown {
        /// The id.
        id: String,
    },
}

impl Stream {
    /// Opens the socket and starts the outputs.
    ///
    /// # Errors
    /// The address or the key cannot be used.
    pub fn open(start: &StartReceiver, started: Instant) -> Result<Self, OpenError> {
        let psk = PskConfig { passphrase: start.key.clone(), key_size: KeySize::Aes256, rotate_after_packets: None };
        let flow = FlowReceiver::open(ReceiverOptions {
            bond: ReceiverConfig {
                profile: Profile::Main,
                psk: Some(psk),
                latency: Duration::from_millis(u64::from(start.latency_ms)),
                flows_max: FLOWS_MAX,
                ..ReceiverConfig::default()
            },
            listen: vec![start.listen],
            connect: Vec::new(),
        })?;
        let flow = Arc::new(flow);
        let directory = PathBuf::from(&start.directory);
        let outputs =
            start.outputs.iter().take(OUTPUTS_MAX).map(|spec| Output::start(spec.clone(), &directory)).collect();
        let inner =
            Arc::new(Mutex::new(Inner { programme: Programme::default(), outputs, events: Vec::new(), lost_told: 0 }));
        let feeding = tokio::spawn(feed(Arc::clone(&flow), Arc::clone(&inner), started));
        Ok(Self { id: start.stream.clone(), directory, flow, inner, feeding, started })
    }

    /// Which stream it is.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.flow.local_addr()
    }

    /// When the last whole access unit came, from the start of the process.
    pub fn last_unit(&self) -> Option<Timestamp> {
        lock(&self.inner).programme.last_unit()
    }

    /// Changes the latency budget.
    pub fn set_latency(&self, latency_ms: u32) {
        self.flow.set_latency(Duration::from_millis(u64::from(latency_ms)));
    }

    /// Adds an output, or replaces the one with its id; one that is the same already goes on.
    ///
    /// # Errors
    /// Too many outputs.
    pub fn add_output(&self, spec: OutputSpec) -> Result<(), OutputRefused> {
        let mut inner = lock(&self.inner);
        if inner.outputs.iter().any(|output| *output.spec() == spec) {
            return Ok(());
        }
        if let Some(at) = inner.outputs.iter().position(|output| output.spec().id == spec.id) {
            let old = inner.outputs.remove(at);
            tokio::spawn(finish_output(old));
        } else if inner.outputs.len() >= OUTPUTS_MAX {
            return Err(OutputRefused::TooMany);
        }
        let output = Output::start(spec, &self.directory);
        inner.outputs.push(output);
        Ok(())
    }

    /// Takes an output away.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn remove_output(&self, id: &str) -> Result<(), OutputRefused> {
        let mut inner = lock(&self.inner);
        let at = inner.outputs.iter().position(|output| output.spec().id == id);
        let at = at.ok_or_else(|| OutputRefused::Unknown { id: id.to_owned() })?;
        let old = inner.outputs.remove(at);
        tokio::spawn(finish_output(old));
        Ok(())
    }

    /// The figures now; call it about once a second.
    pub fn stats(&self) -> ReceiverStats {
        let mut stats = stats::of_bond(&self.flow.snapshot());
        stats.lost += self.flow.io_counters().deliveries_dropped;
        let now = Instant::now();
        let inner = lock(&self.inner);
        stats.uptime_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        stats.outputs = inner.outputs.iter().map(|output| output.report(now)).collect();
        stats.media = inner.programme.media();
        stats
    }

    /// Sentences since the last call.
    pub fn take_events(&self) -> Vec<String> {
        let mut events: Vec<String> = self.flow.events().iter().map(|event| event.cause.to_string()).collect();
        let mut inner = lock(&self.inner);
        events.append(&mut inner.events);
        events.extend(inner.outputs.iter().flat_map(Output::take_changes));
        events
    }

    /// Ends everything: what is queued is delivered first, within a limit.
    pub async fn close(self) {
        self.flow.close();
        // The feeder takes what is left and ends by itself.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.feeding).await;
        let outputs = std::mem::take(&mut lock(&self.inner).outputs);
        let endings: Vec<_> = outputs.into_iter().map(|output| tokio::spawn(finish_output(output))).collect();
        for ending in endings {
            let _ = ending.await;
        }
    }
}

async fn finish_output(output: Output) {
    let id = output.spec().id.clone();
    if !output.finish(FINISH_TIME_MAX).await {
        tracing::warn!(output = %id, "an output did not end in time and is left to itself");
    }
}

async fn feed(flow: Arc<FlowReceiver>, inner: Arc<Mutex<Inner>>, started: Instant) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            delivered = flow.recv() => {
                let Ok(delivered) = delivered else { return };
                let now = Timestamp::from_micros(started.elapsed().as_micros() as u64);
                let lost = if delivered.discontinuity { flow.snapshot().lost_packets } else { 0 };
                let Delivered { flow, bytes, discontinuity: gap, .. } = delivered;
                lock(&inner).deliver(now, Delivery { flow, bytes, gap, lost: None }, lost);
            }
            _ = ticks.tick() => lock(&inner).outputs.iter_mut().for_each(Output::tick),
        }
    }
}

impl Inner {
    /// `lost`: all packets the bond has lost, where this payload is behind a gap; up to a second old.
    fn deliver(&mut self, now: Timestamp, delivery: Delivery, lost: u64) {
        let new = lost.saturating_sub(self.lost_told);
        self.lost_told += new;
        let fed = self.programme.feed(now, &Delivery { lost: (new > 0).then_some(new), ..delivery });
        if fed.switched {
            self.events.push("the sender began anew; the outputs go on".to_owned());
        }
        for output in &mut self.outputs {
            for unit in &fed.units {
                output.push_unit(unit);
            }
            if let Some(raw) = &fed.raw {
                output.push_raw(raw);
            }
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // A panic while feeding is a fault of one payload; the next finds a usable state.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
