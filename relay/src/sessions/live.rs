//! What can be seen of a stream: the relay's truth with its age.

use super::machine::State;
use crate::store::{StreamOutcome, StreamRecord};
use protocol::state::OutputStatus;
use protocol::worker::receiver::{ReceiverState, ReceiverStats};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Figures older than this are not shown as current, and nothing is ON AIR by them.
pub const FRESH: Duration = Duration::from_secs(3);

/// The word for where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamWord {
    /// Being started; no media yet.
    Starting,
    /// Media arrives.
    OnAir,
    /// Media arrived before, and does not now.
    Interrupted,
    /// Being ended.
    Stopping,
    /// Ended as asked.
    Ended,
    /// Given up.
    Failed,
}

impl StreamWord {
    /// As in JSON and CSS.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::OnAir => "on-air",
            Self::Interrupted => "interrupted",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// Shared between a stream's task and its viewers.
#[derive(Debug)]
pub struct LiveStream {
    /// The record, timeline included.
    pub record: StreamRecord,
    /// Where the machine is.
    pub state: State,
    /// The receiver's word, and when it came.
    pub receiver: Option<(ReceiverState, Instant)>,
    /// Its figures, and when they came.
    pub stats: Option<(ReceiverStats, Instant)>,
    /// Its process id.
    pub pid: Option<u32>,
    /// When the state was entered, Unix milliseconds.
    pub state_since_ms: u64,
}

impl LiveStream {
    pub(super) fn new(record: StreamRecord) -> Self {
        let state = State::Starting { since: units::Timestamp::ZERO, asked: false, warned: false };
        let state_since_ms = record.created_ms;
        Self { record, state, receiver: None, stats: None, pid: None, state_since_ms }
    }
}

/// A stream as of now.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    /// The record, timeline included.
    pub record: StreamRecord,
    /// Where it is.
    pub word: StreamWord,
    /// When it got there, Unix milliseconds.
    pub since_ms: u64,
    /// Whether the receiver confirms, now, that media arrives.
    pub on_air: bool,
    /// Why it is interrupted, stopping, ended or failed.
    pub reason: Option<String>,
    /// What to do about it.
    pub next_step: Option<String>,
    /// The receiver's figures and their age.
    pub stats: Option<(ReceiverStats, Duration)>,
    /// The receiver's process id.
    pub pid: Option<u32>,
}

impl StreamSnapshot {
    /// A stream that is over, or that is not running in this relay.
    pub fn of_record(record: StreamRecord) -> Self {
        let (word, reason, next_step) = match &record.outcome {
            Some(StreamOutcome::Failed { reason, next_step }) => {
                (StreamWord::Failed, Some(reason.clone()), Some(next_step.clone()))
            }
            Some(StreamOutcome::Ended { cause }) => (StreamWord::Ended, Some(format!("stopped by {cause}")), None),
            None => (StreamWord::Stopping, None, None),
        };
        let since_ms = record.ended_ms.unwrap_or(record.created_ms);
        Self { word, since_ms, on_air: false, reason, next_step, stats: None, pid: None, record }
    }

    /// The outputs as last reported.
    pub fn outputs(&self) -> Vec<OutputStatus> {
        self.stats.as_ref().map(|(stats, _)| stats.outputs.clone()).unwrap_or_default()
    }
}

/// A look at a running stream.
pub fn snapshot(live: &Mutex<LiveStream>) -> StreamSnapshot {
    let live = live.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let (word, reason, next_step) = match &live.state {
        State::Starting { asked, .. } => {
            let waits = if *asked { "the device was asked, no media yet" } else { "the receiver is being started" };
            (StreamWord::Starting, Some(waits.to_owned()), None)
        }
        State::OnAir { .. } => (StreamWord::OnAir, None, None),
        State::Interrupted { cause, .. } => (StreamWord::Interrupted, Some(cause.clone()), None),
        State::Stopping { cause, .. } => (StreamWord::Stopping, Some(format!("asked for by {cause}")), None),
        State::Ended { cause } => (StreamWord::Ended, Some(format!("stopped by {cause}")), None),
        State::Failed { reason, next_step } => (StreamWord::Failed, Some(reason.clone()), Some(next_step.clone())),
    };
    let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
    let receiving = matches!(&live.receiver, Some((ReceiverState::Receiving { .. }, at)) if fresh(*at));
    StreamSnapshot {
        record: live.record.clone(),
        word,
        since_ms: live.state_since_ms,
        on_air: word == StreamWord::OnAir && receiving,
        reason,
        next_step,
        stats: live.stats.clone().map(|(stats, at)| (stats, now.saturating_duration_since(at))),
        pid: live.pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Timestamp;

    fn live(state: State, heard_ago: Duration) -> Mutex<LiveStream> {
        let heard = Instant::now().checked_sub(heard_ago).unwrap();
        let mut live = LiveStream::new(StreamRecord::example("s-1", None));
        live.state = state;
        live.receiver = Some((ReceiverState::Receiving { for_ms: 0 }, heard));
        Mutex::new(live)
    }

    /// ON AIR needs both: the machine's state, and the receiver's word of the last three seconds.
    #[test]
    fn on_air_is_the_receivers_fresh_word_and_nothing_else() {
        let on_air = || State::OnAir { since: Timestamp::ZERO };
        assert!(snapshot(&live(on_air(), Duration::ZERO)).on_air);
        assert!(!snapshot(&live(on_air(), FRESH)).on_air, "a word of three seconds ago is none");
        let starting = State::Starting { since: Timestamp::ZERO, asked: true, warned: false };
        assert!(!snapshot(&live(starting, Duration::ZERO)).on_air);
        let silent = live(on_air(), Duration::ZERO);
        silent.lock().unwrap().receiver = None;
        assert!(!snapshot(&silent).on_air, "a dead receiver says nothing");
    }

    #[test]
    fn an_unconfirmed_stream_has_a_badge_of_its_own() {
        use crate::dashboard::words::Badge;
        let text =
            |heard_ago| Badge::of_stream(&snapshot(&live(State::OnAir { since: Timestamp::ZERO }, heard_ago))).text;
        assert_eq!([text(Duration::ZERO), text(FRESH)], ["ON AIR", "UNCONFIRMED"]);
    }
}
