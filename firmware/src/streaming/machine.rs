//! Every state of a stream and every move between them.
//!
//! Pure: [`Machine::handle`] takes the time and an event, changes the state, and leaves [`Action`]s to be drained with
//! [`Machine::poll_action`]; [`Machine::poll_timeout`] says when [`Event::Tick`] is due. A stream that was being sent is
//! brought back for as long as nobody stops it; one that never ran is given up after [`START_ATTEMPTS_MAX`] tries.

use protocol::state::StreamingState;
use protocol::stream::StreamSpec;
use protocol::worker::streamer::StreamerState;
use std::collections::VecDeque;
use std::time::Duration;
use units::{StreamId, Timestamp};

/// Tries before a stream that never ran is given up.
pub const START_ATTEMPTS_MAX: u32 = 5;
/// Wait before the second try; doubles with each.
pub const RETRY_WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait between tries: the picture must be back soon after its cause is.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(4);
/// A stream sent this long without trouble counts its tries anew.
pub const CALM_AFTER: Duration = Duration::from_secs(30);
/// Longest wait for the receiver's address.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the streamer to start and say hello.
pub const LAUNCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait from the start order to flowing media.
pub const OPEN_TIME_MAX: Duration = Duration::from_secs(20);
/// A running streamer speaks every second; silent this long, it hangs.
pub const SILENCE_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest wait for a streamer to end by itself, and again for it to die.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Number of a launch: events of an earlier streamer process are told apart by it.
pub type Generation = u64;

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The agent began, with what was kept of a stream.
    Boot(Kept),
    /// A checked order to send; ask [`Machine::can_start`] first.
    Start(Box<StreamSpec>),
    /// End the stream.
    Stop,
    /// The receiver's address is known.
    Resolved,
    /// Something that the start needs is missing now.
    CannotStart {
        /// What, and what to do.
        reason: String,
    },
    /// The streamer process of a launch.
    Worker {
        /// Which launch.
        generation: Generation,
        /// What it did.
        event: WorkerEvent,
    },
    /// Time passed.
    Tick,
}

/// What the disk says of the stream that was wanted when the agent ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Kept {
    /// There was none: a streamer that still runs was asked to end.
    #[default]
    Nothing,
    /// This one.
    Stream(Box<StreamSpec>),
    /// There was one and it cannot be read: a streamer that runs may be on air.
    Unreadable,
}

/// What a streamer process does.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// It is connected and said hello.
    Attached {
        /// The stream it runs.
        stream: Option<StreamId>,
        /// How it stands.
        state: StreamerState,
    },
    /// Its state changed.
    State(StreamerState),
    /// It said something else: it is alive.
    Heard,
    /// It is gone, or never came.
    Gone {
        /// Why, in words.
        reason: String,
    },
}

/// How a launch finds its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchMode {
    /// Only connect to a running one.
    Attach,
    /// Connect to a running one or start one.
    Spawn,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Keep the stream on disk.
    Remember(Box<StreamSpec>),
    /// Remove it from disk.
    Forget,
    /// Find the receiver's addresses, then [`Event::Resolved`] or [`Event::CannotStart`].
    Resolve {
        /// Host of the receiver.
        host: String,
    },
    /// Connect to a streamer.
    Launch {
        /// Number of this launch.
        generation: Generation,
        /// How.
        mode: LaunchMode,
    },
    /// Give the connected streamer its stream, or [`Event::CannotStart`].
    SendStart(Box<StreamSpec>),
    /// Tell the connected streamer, which was running before, which links there are now.
    SyncLinks,
    /// Ask it to end.
    SendStop,
    /// Kill it if it is still there.
    Kill,
    /// Tell who waits for it.
    Reached(Milestone),
}

/// What commands wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Milestone {
    /// Media is being sent.
    Sending {
        /// Which stream.
        stream: StreamId,
    },
    /// The stream ended as asked.
    Ended {
        /// Which stream.
        stream: StreamId,
    },
    /// The stream failed for good.
    Failed {
        /// Which stream.
        stream: StreamId,
        /// Why.
        reason: String,
        /// What to try next.
        next_step: String,
    },
}

/// Another stream is running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream} is {what}; stop it first, or wait until it has ended")]
pub struct Busy {
    /// Which.
    pub stream: StreamId,
    /// What it is doing.
    pub what: &'static str,
}

/// A stream to be sent.
#[derive(Debug, Clone, PartialEq)]
struct Job {
    stream: StreamId,
    /// Absent for a stream found running of which nothing was kept.
    spec: Option<Box<StreamSpec>>,
    /// Media was sent before.
    has_run: bool,
}

/// How far a stream is on the way to being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Waiting before the next try.
    Waiting { until: Timestamp },
    /// The receiver's address is being found.
    Resolving { until: Timestamp },
    /// The process is being started.
    Launching { until: Timestamp },
    /// The process has its order and opens source and bond.
    Opening { until: Timestamp },
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setback {
    reason: String,
    attempt: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Idle,
    /// On the way to being sent; with a setback, on the way back.
    Starting {
        job: Job,
        step: Step,
        setback: Option<Setback>,
    },
    Sending {
        job: Job,
        since: Timestamp,
        steady_from: Timestamp,
        heard_at: Timestamp,
        attempt: u32,
    },
    Stopping {
        stream: StreamId,
        until: Timestamp,
        killed: bool,
    },
    Failed {
        stream: StreamId,
        reason: String,
        next_step: String,
    },
}

/// The stream of one device.
#[derive(Debug)]
pub struct Machine {
    state: State,
    generation: Generation,
    /// A streamer found running at boot is kept although nothing is known of its order.
    adopts_unknown: bool,
    actions: VecDeque<Action>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { state: State::Idle, generation: 0, adopts_unknown: false, actions: VecDeque::new() }
    }
}

impl Machine {
    /// Takes an event; drain [`Machine::poll_action`] afterwards.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Boot(kept) => self.boot(now, kept),
            Event::Start(spec) => self.start(now, spec),
            Event::Stop => self.stop(now),
            Event::Resolved => self.resolved(now),
            Event::CannotStart { reason } => self.cannot_start(now, reason),
            Event::Worker { generation, event } if generation == self.generation => self.worker(now, event),
            Event::Worker { .. } => {} // of a process given up before
            Event::Tick => self.tick(now),
        }
    }

    /// The next thing to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due; `None` while nothing can time out.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.state {
            State::Idle | State::Failed { .. } => None,
            State::Starting { step, .. } => Some(step.until()),
            State::Sending { heard_at, .. } => Some(*heard_at + SILENCE_TIME_MAX),
            State::Stopping { until, .. } => Some(*until),
        }
    }

    /// Whether `stream` may be started: nothing else runs.
    ///
    /// # Errors
    /// [`Busy`] names what runs. The same stream is never busy with itself unless it is being stopped.
    pub fn can_start(&self, stream: &StreamId) -> Result<(), Busy> {
        let busy = |stream: &StreamId, what| Err(Busy { stream: stream.clone(), what });
        match &self.state {
            State::Starting { job, .. } if job.stream != *stream => busy(&job.stream, "being started"),
            State::Sending { job, .. } if job.stream != *stream => busy(&job.stream, "being sent"),
            State::Stopping { stream, .. } => busy(stream, "being ended"),
            _ => Ok(()),
        }
    }

    /// The stream that is wanted now, on its way or sent.
    pub fn wanted(&self) -> Option<&StreamId> {
        match &self.state {
            State::Starting { job, .. } | State::Sending { job, .. } => Some(&job.stream),
            _ => None,
        }
    }

    /// Whether media of `stream` is being sent.
    pub fn is_sending(&self, stream: &StreamId) -> bool {
        matches!(&self.state, State::Sending { job, .. } if job.stream == *stream)
    }

    /// Whether the streamer has its order, so that links and rates can be changed.
    pub fn is_open(&self) -> bool {
        matches!(&self.state, State::Sending { .. } | State::Starting { step: Step::Opening { .. }, .. })
    }

    /// The order of the wanted stream, to be changed while live; later starts use the changed one.
    pub fn spec_mut(&mut self) -> Option<&mut StreamSpec> {
        match &mut self.state {
            State::Starting { job, .. } | State::Sending { job, .. } => job.spec.as_deref_mut(),
            _ => None,
        }
    }

    /// The order of the wanted stream.
    pub fn spec(&self) -> Option<&StreamSpec> {
        match &self.state {
            State::Starting { job, .. } | State::Sending { job, .. } => job.spec.as_deref(),
            _ => None,
        }
    }

    /// The state as it is reported.
    pub fn report(&self, now: Timestamp) -> StreamingState {
        match self.state.clone() {
            State::Idle => StreamingState::Idle,
            State::Starting { job, setback: None, .. } => StreamingState::Starting { stream: job.stream },
            State::Starting { job, setback: Some(Setback { reason, attempt }), .. } => {
                StreamingState::Recovering { stream: job.stream, reason, attempt }
            }
            State::Sending { job, since, .. } => {
                StreamingState::Sending { stream: job.stream, for_ms: (now - since).as_millis() as u64 }
            }
            State::Stopping { stream, .. } => StreamingState::Stopping { stream },
            State::Failed { stream, reason, next_step } => StreamingState::Failed { stream, reason, next_step },
        }
    }

    fn boot(&mut self, now: Timestamp, kept: Kept) {
        self.adopts_unknown = kept == Kept::Unreadable;
        if let Kept::Stream(spec) = kept {
            let job = Job { stream: spec.stream.clone(), spec: Some(spec), has_run: true };
            let step = Step::Launching { until: now + LAUNCH_TIME_MAX };
            let setback = Setback { reason: "the agent was restarted".to_owned(), attempt: 0 };
            self.move_to(State::Starting { job, step, setback: Some(setback) }, "record found");
        }
        self.launch(LaunchMode::Attach);
    }

    fn start(&mut self, now: Timestamp, spec: Box<StreamSpec>) {
        if self.can_start(&spec.stream).is_err() {
            return;
        }
        if self.wanted() == Some(&spec.stream) {
            if self.is_sending(&spec.stream) {
                self.reached(Milestone::Sending { stream: spec.stream });
            }
            return;
        }
        self.actions.push_back(Action::Remember(spec.clone()));
        let job = Job { stream: spec.stream.clone(), spec: Some(spec), has_run: false };
        self.resolve(now, job, None, "start ordered");
    }

    fn stop(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Failed { stream, .. } => self.reached(Milestone::Ended { stream }),
            State::Starting { job, step: Step::Waiting { .. } | Step::Resolving { .. }, .. } => {
                self.actions.push_back(Action::Forget);
                self.reached(Milestone::Ended { stream: job.stream });
            }
            State::Starting { job, step: Step::Launching { .. }, .. } => {
                self.actions.extend([Action::Forget, Action::Kill]);
                let stopping = State::Stopping { stream: job.stream, until: now + STOP_TIME_MAX, killed: true };
                self.move_to(stopping, "stop asked");
            }
            State::Starting { job, step: Step::Opening { .. }, .. } | State::Sending { job, .. } => {
                self.actions.extend([Action::Forget, Action::SendStop]);
                let stopping = State::Stopping { stream: job.stream, until: now + STOP_TIME_MAX, killed: false };
                self.move_to(stopping, "stop asked");
            }
            stopping @ State::Stopping { .. } => self.state = stopping,
        }
    }

    fn resolved(&mut self, now: Timestamp) {
        if let State::Starting { step: step @ Step::Resolving { .. }, .. } = &mut self.state {
            *step = Step::Launching { until: now + LAUNCH_TIME_MAX };
            self.launch(LaunchMode::Spawn);
        }
    }

    fn cannot_start(&mut self, now: Timestamp, reason: String) {
        match &self.state {
            State::Starting { step: Step::Resolving { .. }, .. } => self.set_back(now, reason, Worker::Absent),
            // The process is there and has no order; the next try finds it waiting or starts another.
            State::Starting { step: Step::Opening { .. }, .. } => self.set_back(now, reason, Worker::Present),
            _ => {}
        }
    }

    fn worker(&mut self, now: Timestamp, event: WorkerEvent) {
        if let State::Sending { heard_at, .. } = &mut self.state {
            *heard_at = now;
        }
        match event {
            WorkerEvent::Attached { stream, state } => self.attached(now, stream, state),
            WorkerEvent::State(state) => self.worker_state(now, state),
            WorkerEvent::Heard => {}
            WorkerEvent::Gone { reason } => self.gone(now, reason),
        }
    }

    fn attached(&mut self, now: Timestamp, running: Option<StreamId>, state: StreamerState) {
        match (&mut self.state, running) {
            (State::Starting { job, step: step @ Step::Launching { .. }, .. }, None) => {
                *step = Step::Opening { until: now + OPEN_TIME_MAX };
                if let Some(spec) = &job.spec {
                    self.actions.push_back(Action::SendStart(spec.clone()));
                }
            }
            (State::Starting { job, step: step @ Step::Launching { .. }, .. }, Some(running))
                if running == job.stream =>
            {
                *step = Step::Opening { until: now + OPEN_TIME_MAX };
                self.actions.push_back(Action::SyncLinks);
                self.worker_state(now, state);
            }
            (State::Starting { step: Step::Launching { .. }, .. }, Some(_)) => {
                self.set_back(now, "a streamer of an earlier stream was still running".to_owned(), Worker::Present);
            }
            (State::Idle, Some(running))
                if self.adopts_unknown && matches!(state, StreamerState::Opening | StreamerState::Running { .. }) =>
            {
                let job = Job { stream: running, spec: None, has_run: true };
                let step = Step::Opening { until: now + OPEN_TIME_MAX };
                let setback = Setback { reason: "the agent was restarted".to_owned(), attempt: 0 };
                self.move_to(State::Starting { job, step, setback: Some(setback) }, "running streamer found");
                self.worker_state(now, state);
            }
            (State::Idle | State::Failed { .. }, _) => self.actions.push_back(Action::Kill),
            _ => {}
        }
    }

    fn worker_state(&mut self, now: Timestamp, worker: StreamerState) {
        match (&mut self.state, worker) {
            (State::Starting { .. }, StreamerState::Running { for_ms, .. }) => self.running(now, for_ms),
            (State::Starting { .. } | State::Sending { .. }, StreamerState::Failed { reason, next_step, retry }) => {
                if retry {
                    self.set_back(now, reason, Worker::Present);
                } else {
                    self.fail(reason, &next_step);
                }
            }
            (State::Starting { .. } | State::Sending { .. }, StreamerState::Ended) => {
                self.set_back(now, "the streamer ended without being asked".to_owned(), Worker::Present);
            }
            // It exits by itself now.
            (State::Stopping { until, .. }, StreamerState::Ended) => *until = now + STOP_TIME_MAX,
            _ => {}
        }
    }

    fn running(&mut self, now: Timestamp, for_ms: u64) {
        let State::Starting { job, setback, .. } = std::mem::replace(&mut self.state, State::Idle) else { return };
        let stream = job.stream.clone();
        let since = now.back(Duration::from_millis(for_ms));
        let attempt = setback.map_or(0, |setback| setback.attempt);
        let job = Job { has_run: true, ..job };
        self.move_to(State::Sending { job, since, steady_from: now, heard_at: now, attempt }, "media flows");
        self.reached(Milestone::Sending { stream });
    }

    fn gone(&mut self, now: Timestamp, reason: String) {
        match &self.state {
            State::Starting { step: Step::Launching { .. } | Step::Opening { .. }, .. } | State::Sending { .. } => {
                self.set_back(now, reason, Worker::Absent);
            }
            State::Stopping { stream, .. } => {
                let stream = stream.clone();
                self.move_to(State::Idle, "streamer ended");
                self.reached(Milestone::Ended { stream });
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match &mut self.state {
            State::Starting { step: Step::Waiting { .. }, .. } => {
                let State::Starting { job, setback, .. } = std::mem::replace(&mut self.state, State::Idle) else {
                    return;
                };
                self.resolve(now, job, setback, "next try");
            }
            State::Starting { step: Step::Resolving { .. }, .. } => {
                self.set_back(now, "the relay's name could not be resolved in time".to_owned(), Worker::Absent);
            }
            State::Starting { step: Step::Launching { .. }, .. } => {
                self.set_back(now, "the streamer did not start in time".to_owned(), Worker::Present);
            }
            State::Starting { step: Step::Opening { .. }, .. } => {
                self.set_back(now, "the streamer did not open its source in time".to_owned(), Worker::Present);
            }
            State::Sending { .. } => self.set_back(now, "the streamer hung".to_owned(), Worker::Present),
            State::Stopping { until, killed: killed @ false, .. } => {
                *killed = true;
                *until = now + STOP_TIME_MAX;
                self.actions.push_back(Action::Kill);
            }
            State::Stopping { stream, .. } => {
                let stream = stream.clone();
                self.move_to(State::Idle, "streamer would not die");
                self.reached(Milestone::Ended { stream });
            }
            State::Idle | State::Failed { .. } => {}
        }
    }

    /// One more try after a wait, or the end of trying.
    fn set_back(&mut self, now: Timestamp, reason: String, worker: Worker) {
        if worker == Worker::Present {
            self.actions.push_back(Action::Kill);
        }
        let (job, tried) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Starting { job, setback, .. } => (job, setback.map_or(0, |setback| setback.attempt)),
            State::Sending { job, steady_from, attempt, .. } => {
                (job, if now - steady_from >= CALM_AFTER { 0 } else { attempt })
            }
            other => {
                self.state = other;
                return;
            }
        };
        let attempt = tried.saturating_add(1);
        if job.spec.is_none() {
            return self.give_up(job, reason, "start the stream again: the agent has no copy of its order");
        }
        if !job.has_run && attempt >= START_ATTEMPTS_MAX {
            return self.give_up(job, reason, "mend the cause, then start again");
        }
        let wait = RETRY_WAIT_MIN.saturating_mul(1 << tried.min(8)).min(RETRY_WAIT_MAX);
        let step = Step::Waiting { until: now + wait };
        self.move_to(State::Starting { job, step, setback: Some(Setback { reason, attempt }) }, "set back");
    }

    /// The streamer says that trying again is of no use.
    fn fail(&mut self, reason: String, next_step: &str) {
        let (State::Starting { job, .. } | State::Sending { job, .. }) =
            std::mem::replace(&mut self.state, State::Idle)
        else {
            return;
        };
        self.actions.push_back(Action::Kill);
        self.give_up(job, reason, next_step);
    }

    fn give_up(&mut self, job: Job, reason: String, next_step: &str) {
        self.actions.push_back(Action::Forget);
        let (stream, next_step) = (job.stream, next_step.to_owned());
        let failed = State::Failed { stream: stream.clone(), reason: reason.clone(), next_step: next_step.clone() };
        self.move_to(failed, "given up");
        self.reached(Milestone::Failed { stream, reason, next_step });
    }

    fn resolve(&mut self, now: Timestamp, job: Job, setback: Option<Setback>, cause: &'static str) {
        let host = job.spec.as_ref().map(|spec| spec.receiver.host.clone()).unwrap_or_default();
        self.actions.push_back(Action::Resolve { host });
        let step = Step::Resolving { until: now + RESOLVE_TIME_MAX };
        self.move_to(State::Starting { job, step, setback }, cause);
    }

    fn launch(&mut self, mode: LaunchMode) {
        self.generation += 1;
        self.actions.push_back(Action::Launch { generation: self.generation, mode });
    }

    fn reached(&mut self, milestone: Milestone) {
        self.actions.push_back(Action::Reached(milestone));
    }

    fn move_to(&mut self, state: State, cause: &'static str) {
        tracing::info!(
            state = state.name(),
            stream = state.stream().map_or("", StreamId::as_str),
            cause,
            "stream state"
        );
        self.state = state;
    }
}

/// Whether there is a process to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Present,
    Absent,
}

impl Step {
    const fn until(self) -> Timestamp {
        match self {
            Self::Waiting { until }
            | Self::Resolving { until }
            | Self::Launching { until }
            | Self::Opening { until } => until,
        }
    }
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting { setback: None, .. } => "starting",
            Self::Starting { .. } => "recovering",
            Self::Sending { .. } => "sending",
            Self::Stopping { .. } => "stopping",
            Self::Failed { .. } => "failed",
        }
    }

    const fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::Idle => None,
            Self::Starting { job, .. } | Self::Sending { job, .. } => Some(&job.stream),
            Self::Stopping { stream, .. } | Self::Failed { stream, .. } => Some(stream),
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
