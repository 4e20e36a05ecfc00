//! The queue in front of a bottleneck: one link's own, or one that several links share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use units::Timestamp;

use crate::capacity::{NEVER, Nanos, Server, nanos};
use crate::config::{Capacity, ConfigError, LinkConfig};

/// Packets a queue holds at most, whatever their size.
const PACKETS_MAX: usize = 1 << 20;

/// A drop-tail queue and what serves it.
#[derive(Debug)]
pub(crate) struct Queue {
    server: Server,
    bytes_max: u64,
    /// `(leaves, bytes)` of what is in the queue or in service, oldest first.
    waiting: VecDeque<(Nanos, u64)>,
    bytes: u64,
    now: Nanos,
}

impl Queue {
    pub(crate) fn new(server: Server, bytes_max: u64) -> Self {
        Self { server, bytes_max, waiting: VecDeque::new(), bytes: 0, now: 0 }
    }

    /// Lets time pass; it does not go back.
    pub(crate) fn advance(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        while let Some((leaves, bytes)) = self.waiting.front().copied()
            && leaves <= self.now
        {
            self.bytes -= bytes;
            self.waiting.pop_front();
        }
        self.now
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        matches!(self.server, Server::Unlimited)
    }

    /// Bytes that could leave in `from..to`; `None` when unlimited.
    pub(crate) fn bytes_between(&self, from: Nanos, to: Nanos) -> Option<f64> {
        self.server.bytes_between(from, to)
    }

    /// When the last byte of a packet that comes in now leaves; [`NEVER`] when it does not. `None` when there is no room.
    pub(crate) fn push(&mut self, bytes: u64) -> Option<Nanos> {
        if self.is_unlimited() {
            return Some(self.now);
        }
        if self.bytes + bytes > self.bytes_max || self.waiting.len() >= PACKETS_MAX {
            return None;
        }
        let leaves = self.server.serve(self.now, bytes);
        self.waiting.push_back((leaves, bytes));
        self.bytes += bytes;
        Some(leaves)
    }

    /// The packet that came in last, and what comes after it, is lost from `at` on.
    pub(crate) fn cut(&mut self, at: Nanos) {
        if let Some(last) = self.waiting.back_mut() {
            last.0 = at;
        }
        self.server.flush(at);
    }

    /// What the last packet left behind would never be served.
    pub(crate) fn is_never(leaves: Nanos) -> bool {
        leaves >= NEVER
    }
}

/// One queue and bottleneck that several links share, as two subscriptions in one radio cell do, or two interfaces behind one
/// access. Clones are the same bottleneck. It stands in place of the links' own; time does not go back over all of them.
#[derive(Debug, Clone)]
pub struct Bottleneck(Arc<Mutex<Queue>>);

impl Bottleneck {
    /// A bottleneck with a queue of `queue_bytes` IP bytes.
    ///
    /// # Errors
    /// A setting out of range; the caller's fault.
    pub fn new(capacity: &Capacity, queue_bytes: u64) -> Result<Self, ConfigError> {
        LinkConfig { capacity: capacity.clone(), ..LinkConfig::default() }.check()?;
        Ok(Self(Arc::new(Mutex::new(Queue::new(Server::new(capacity, &[]), queue_bytes)))))
    }

    /// IP bytes that all links together can carry in `from..to`; `None` when there is no limit.
    pub fn capacity_between(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        self.lock().bytes_between(nanos(from), nanos(to))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves numbers that are each valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
