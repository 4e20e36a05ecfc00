//! How an output stands, written by the output and read by the receiver once a second.

use protocol::limits::TEXT_CHARS_MAX;
use protocol::state::{OutputState, OutputStatus};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use units::{Bitrate, ByteCount};

/// A state that changes less than every second keeps its change as an event; see [`StatusCell::take_changes`].
const CHANGES_MAX: usize = 32;

/// Reports that a rate is taken over: two segments of a preview, which is written every two seconds.
const RATE_REPORTS: usize = 4;

/// Shared between an output and the receiver.
#[derive(Debug, Clone)]
pub struct StatusCell(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    id: String,
    name: String,
    state: State,
    bytes: u64,
    /// Bytes at the last reports, oldest first, at most [`RATE_REPORTS`].
    rated: VecDeque<(Instant, u64)>,
    changes: Vec<String>,
    /// What was told last.
    told: Option<String>,
}

/// The same as [`OutputState`], with the time of the next attempt as a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Connecting,
    Active,
    Retrying { reason: String, at: Instant },
    Failed { reason: String },
}

impl StatusCell {
    /// Nothing to send yet.
    pub fn new(id: &str, name: &str) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            id: id.to_owned(),
            name: name.to_owned(),
            state: State::Waiting,
            bytes: 0,
            rated: VecDeque::new(),
            changes: Vec::new(),
            told: None,
        })))
    }

    /// Nothing to send.
    pub fn waiting(&self) {
        self.change(State::Waiting, None);
    }

    /// An attempt begins.
    pub fn connecting(&self) {
        self.change(State::Connecting, None);
    }

    /// It delivers.
    pub fn active(&self) {
        self.change(State::Active, Some("delivering"));
    }

    /// It broke; the next attempt is after `pause`.
    pub fn retrying(&self, reason: &str, pause: Duration) {
        let reason = cut(reason);
        let text = format!("{reason}; trying again");
        self.change(State::Retrying { reason, at: Instant::now() + pause }, Some(&text));
    }

    /// A person must act.
    pub fn failed(&self, reason: &str) {
        let reason = cut(reason);
        let text = reason.clone();
        self.change(State::Failed { reason }, Some(&text));
    }

    /// Bytes were delivered.
    pub fn add_bytes(&self, bytes: usize) {
        self.lock().bytes += bytes as u64;
    }

    /// Enters a state. `told` goes to the timeline and the log, unless it was the last thing told: a platform that is down is
    /// tried again for hours, and says nothing new.
    fn change(&self, state: State, told: Option<&str>) {
        let mut inner = self.lock();
        if let Some(told) = told
            && inner.told.as_deref() != Some(told)
        {
            tracing::info!(output = %inner.id, old = ?inner.state, new = ?state, "output changed");
            let sentence = format!("output {}: {told}", inner.name);
            if inner.changes.len() < CHANGES_MAX {
                inner.changes.push(sentence);
            }
            inner.told = Some(told.to_owned());
        }
        inner.state = state;
    }

    /// The status now; call it about once a second: the rate is over the last [`RATE_REPORTS`] calls.
    pub fn report(&self, now: Instant) -> OutputStatus {
        let mut inner = self.lock();
        let rate = inner.rated.front().map_or(Bitrate::ZERO, |(at, bytes)| {
            Bitrate::of(ByteCount::new(inner.bytes - bytes), now.saturating_duration_since(*at))
        });
        if inner.rated.len() == RATE_REPORTS {
            inner.rated.pop_front();
        }
        let bytes = inner.bytes;
        inner.rated.push_back((now, bytes));
        OutputStatus {
            id: inner.id.clone(),
            name: inner.name.clone(),
            state: match &inner.state {
                State::Waiting => OutputState::Waiting,
                State::Connecting => OutputState::Connecting,
                State::Active => OutputState::Active,
                State::Retrying { reason, at } => OutputState::Retrying {
                    reason: reason.clone(),
                    next_try_ms: at.saturating_duration_since(now).as_millis() as u64,
                },
                State::Failed { reason } => OutputState::Failed { reason: reason.clone() },
            },
            bytes: inner.bytes,
            rate,
        }
    }

    /// Sentences about changes since the last call, for the timeline of causes.
    pub fn take_changes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().changes)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain values: usable whatever happened to another holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_writes_every_two_seconds_has_a_steady_rate() {
        let cell = StatusCell::new("hls", "Preview");
        let start = Instant::now();
        let rates: Vec<u64> = (0..12)
            .map(|second| {
                if second % 2 == 0 {
                    cell.add_bytes(250_000);
                }
                cell.report(start + Duration::from_secs(second)).rate.as_kbps()
            })
            .collect();
        assert_eq!(rates[4..], [1000; 8]);
    }

    #[test]
    fn a_status_tells_state_rate_and_each_change_once() {
        let cell = StatusCell::new("d1", "Main");
        let start = Instant::now();
        assert_eq!(cell.report(start).state, OutputState::Waiting);
        cell.active();
        cell.add_bytes(125_000);
        let report = cell.report(start + Duration::from_secs(1));
        assert_eq!((report.bytes, report.rate), (125_000, Bitrate::from_kbps(1000)));
        cell.retrying("refused", Duration::from_secs(2));
        cell.connecting();
        cell.retrying("refused", Duration::from_secs(4));
        let OutputState::Retrying { reason, next_try_ms } = cell.report(start).state else { panic!("state") };
        assert!(reason == "refused" && (3000..=10_000).contains(&next_try_ms));
        assert_eq!(cell.take_changes(), ["output Main: delivering", "output Main: refused; trying again"]);
        cell.connecting();
        cell.retrying("refused", Duration::from_secs(4));
        assert_eq!(cell.take_changes(), Vec::<String>::new(), "the same again is no news");
        cell.active();
        cell.retrying("refused", Duration::from_secs(1));
        assert_eq!(cell.take_changes().len(), 2, "after success it is");
    }
}
