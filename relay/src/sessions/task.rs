//! One running stream: feeds its [`Machine`] and carries out what it says.

use super::live::LiveStream;
use super::machine::{Action, Event, Machine, State};
use super::worker::{self, WorkerEvent, WorkerSpec};
use super::{ORDER_VALID_MS, Sessions, live};
use crate::clock::unix_ms;
use crate::store::{Batch, Store, StreamOutcome, StreamRecord};
use daemon::socket::Writer;
use protocol::Secret;
use protocol::command::{Command, Notice, Outcome};
use protocol::state::{Severity, StreamingState};
use protocol::stream::{ReceiverAddress, StreamSpec};
use protocol::worker::receiver::{FromReceiver, ReceiverState, ToReceiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use units::Timestamp;
use uuid::Uuid;

/// Pause between two looks at the clock.
const TICK: Duration = Duration::from_millis(250);
/// Pause between two words to the device on its stream.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);
/// Events of the receiver that wait; then its socket waits.
const WORKER_EVENTS_MAX: usize = 32;
/// Pause between attempts to store the end of a stream.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Longest write to the receiver.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    New,
    Resumed,
}

/// What others tell a stream.
#[derive(Debug)]
pub(super) enum Input {
    Stop { by: String },
    Answered { command: Uuid, outcome: Option<Outcome> },
    Reported(StreamingState),
}

pub(super) struct Task {
    sessions: Arc<Sessions>,
    record: StreamRecord,
    key: Secret,
    worker: WorkerSpec,
    live: Arc<Mutex<LiveStream>>,
    machine: Machine,
    first: Vec<Action>,
    epoch: Instant,
    stop_command: Option<Uuid>,
    writer: Option<Writer>,
    pid: Option<u32>,
    /// The receiver ran before this relay did, and its state was not entered yet.
    adopted: bool,
    /// Tells events of the current receiver from those of an earlier one.
    generation: u64,
    worker_events: mpsc::Sender<(u64, WorkerEvent)>,
    worker_queue: mpsc::Receiver<(u64, WorkerEvent)>,
}

impl Task {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        record: StreamRecord,
        key: Secret,
        worker: WorkerSpec,
        live: Arc<Mutex<LiveStream>>,
        beginning: Beginning,
    ) -> Self {
        let (machine, first) = match beginning {
            Beginning::New => Machine::start(Timestamp::ZERO),
            Beginning::Resumed => {
                Machine::resume(Timestamp::ZERO, record.on_air_ms.is_some(), record.stop_asked.clone())
            }
        };
        let (worker_events, worker_queue) = mpsc::channel(WORKER_EVENTS_MAX);
        Self {
            sessions,
            record,
            key,
            worker,
            live,
            machine,
            first,
            epoch: Instant::now(),
            stop_command: None,
            writer: None,
            pid: None,
            adopted: false,
            generation: 0,
            worker_events,
            worker_queue,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.epoch.elapsed().as_micros() as u64)
    }

    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let first = std::mem::take(&mut self.first);
        for action in first {
            self.act(action).await;
        }
        self.publish().await;
        let mut tick = tokio::time::interval(TICK);
        let mut notice = tokio::time::interval(NOTICE_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        notice.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.machine.is_over() {
            let event = tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => break,
                },
                event = self.worker_queue.recv() => match event {
                    Some((generation, event)) if generation == self.generation => self.heard(event),
                    _ => None,
                },
                _ = tick.tick() => Some(Event::Tick),
                _ = notice.tick() => {
                    self.tell_device();
                    None
                }
            };
            if let Some(event) = event {
                self.step(event).await;
            }
        }
        self.finish().await;
    }

    async fn step(&mut self, event: Event) {
        let before = self.machine.state().clone();
        let actions = self.machine.handle(self.now(), event);
        let after = self.machine.state().clone();
        let entered = std::mem::discriminant(&before) != std::mem::discriminant(&after);
        let noted = actions.iter().any(|action| matches!(action, Action::Note(..)));
        if entered {
            tracing::info!(stream = %self.record.id, from = ?before, to = ?after, "stream state");
            if matches!(after, State::OnAir { .. }) {
                self.record.on_air_ms.get_or_insert_with(unix_ms);
            }
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.state_since_ms = match (&live.receiver, self.adopted && matches!(after, State::OnAir { .. })) {
                // It was on air all the while.
                (Some((ReceiverState::Receiving { for_ms }, _)), true) => unix_ms().saturating_sub(*for_ms),
                _ => unix_ms(),
            };
            self.adopted = false;
        }
        for action in actions {
            self.act(action).await;
        }
        if self.machine.is_over() {
            return; // it is shown once that is kept
        }
        if entered || noted {
            self.publish().await;
        } else if before != after {
            self.show();
        }
    }

    /// Shows the record and state to viewers and keeps them.
    async fn publish(&mut self) {
        self.show();
        keep(&self.sessions.store, &self.record).await;
    }

    fn show(&self) {
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.record = self.record.clone();
            live.state = self.machine.state().clone();
            live.pid = self.pid;
        }
        self.sessions.note_change();
    }

    async fn input(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Stop { by } => {
                self.record.stop_asked.get_or_insert_with(|| by.clone());
                Some(Event::StopAsked { by })
            }
            Input::Answered { command, outcome } if command == self.record.start_command => {
                Some(Event::StartAnswered(outcome))
            }
            Input::Answered { command, outcome } if Some(command) == self.stop_command => {
                outcome.is_none_or(|outcome| outcome.is_final()).then_some(Event::StopAnswered)
            }
            Input::Reported(StreamingState::Idle) => Some(Event::DeviceIdle),
            Input::Reported(StreamingState::Failed { reason, next_step, .. }) => {
                Some(Event::DeviceFailed { reason, next_step })
            }
            Input::Reported(StreamingState::Recovering { reason, attempt, .. }) => {
                let text = format!("the device restarts its encoder (try {attempt}): {reason}");
                self.note(Severity::Warning, text);
                self.publish().await;
                Some(Event::DeviceSending)
            }
            Input::Answered { .. } | Input::Reported(StreamingState::Stopping { .. }) => None,
            Input::Reported(StreamingState::Starting { .. } | StreamingState::Sending { .. }) => {
                Some(Event::DeviceSending)
            }
        }
    }

    fn heard(&mut self, event: WorkerEvent) -> Option<Event> {
        match event {
            WorkerEvent::Up { pid, state, adopted, writer } => {
                self.writer = Some(writer);
                self.pid = Some(pid);
                if adopted {
                    self.adopted = true;
                    self.note(Severity::Info, format!("running receiver adopted (process {pid})"));
                }
                self.state_of_receiver(state)
            }
            WorkerEvent::Message(FromReceiver::Hello { state, .. } | FromReceiver::State(state)) => {
                self.state_of_receiver(state)
            }
            WorkerEvent::Message(FromReceiver::Stats(stats)) => {
                {
                    let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                    let now = Instant::now();
                    // Figures confirm the last word: it stands while they come.
                    if let Some((_, at)) = &mut live.receiver {
                        *at = now;
                    }
                    live.stats = Some((*stats, now));
                }
                self.sessions.note_change();
                None
            }
            WorkerEvent::Message(FromReceiver::Event { text }) => {
                self.note(Severity::Info, text.chars().take(protocol::limits::TEXT_CHARS_MAX).collect());
                self.show();
                None
            }
            WorkerEvent::Message(FromReceiver::Refused { reason }) => {
                self.note(Severity::Warning, format!("the receiver refused: {reason}"));
                self.show();
                None
            }
            WorkerEvent::Lost { cause } => {
                self.writer = None;
                self.pid = None;
                let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                let last = live.receiver.take();
                drop(live);
                match last {
                    // What it said of its own end says more than that its socket closed.
                    Some((ReceiverState::Ended, _)) => Some(Event::ReceiverEnded),
                    Some((ReceiverState::Failed { reason }, _)) => Some(Event::ReceiverLost { cause: reason }),
                    _ => Some(Event::ReceiverLost { cause }),
                }
            }
        }
    }

    fn state_of_receiver(&mut self, state: ReceiverState) -> Option<Event> {
        let event = match &state {
            ReceiverState::Ready { .. } => Some(Event::ReceiverReady),
            ReceiverState::Receiving { .. } => Some(Event::ReceiverReceiving),
            ReceiverState::Interrupted { .. } => Some(Event::ReceiverInterrupted),
            // The end counts when its process is gone and port and files are free.
            ReceiverState::Waiting | ReceiverState::Ended | ReceiverState::Failed { .. } => None,
        };
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.receiver = Some((state, Instant::now()));
        }
        self.show();
        event
    }

    fn note(&mut self, severity: Severity, text: String) {
        tracing::info!(stream = %self.record.id, text, "stream event");
        self.record.note(unix_ms(), severity, text);
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::StartReceiver { after } => self.start_receiver(after),
            Action::AskDevice => self.ask_device(),
            Action::StopDevice => {
                let id = Uuid::now_v7();
                self.stop_command = Some(id);
                let stop = Command::StopStream { valid_for_ms: ORDER_VALID_MS, stream: self.record.id.clone() };
                let by = self.record.stop_asked.clone().unwrap_or_else(|| "the relay".to_owned());
                self.sessions.fleet.command(id, &self.record.device, stop, &by);
            }
            Action::StopReceiver => self.tell_receiver(&ToReceiver::Stop).await,
            Action::KillReceiver => {
                if let Some(pid) = self.pid {
                    worker::kill(&self.worker.directory, pid);
                }
            }
            Action::Note(severity, text) => self.note(severity, text),
        }
    }

    fn start_receiver(&mut self, after: Duration) {
        self.generation += 1;
        let (spec, events, generation) = (self.worker.clone(), self.worker_events.clone(), self.generation);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            worker::run(spec, events, generation).await;
        });
    }

    fn ask_device(&mut self) {
        if !matches!(self.machine.state(), State::Starting { .. }) {
            // A device that lost the stream may still know the first order's id, and would do nothing for it.
            self.record.start_command = Uuid::now_v7();
        }
        let record = &self.record;
        let spec = StreamSpec {
            stream: record.id.clone(),
            receiver: ReceiverAddress { host: self.sessions.config.public_host.clone(), port: record.port },
            key: self.key.clone(),
            latency_ms: record.latency_ms,
            encoding: record.encoding.clone(),
            input: None,
            outputs: record.destinations.iter().map(|destination| destination.name.clone()).collect(),
        };
        let start = Command::StartStream { valid_for_ms: ORDER_VALID_MS, spec: Box::new(spec) };
        self.sessions.fleet.command(record.start_command, &record.device, start, &record.started_by);
    }

    async fn tell_receiver(&mut self, message: &ToReceiver) {
        let Some(writer) = &mut self.writer else { return };
        match tokio::time::timeout(WRITE_TIMEOUT, writer.send(message)).await {
            Ok(Ok(())) => {}
            // Its end, or its silence, is noticed by the reading side.
            Ok(Err(error)) => {
                tracing::warn!(stream = %self.record.id, error = &error as &dyn std::error::Error, "receiver not told");
            }
            Err(_) => tracing::warn!(stream = %self.record.id, "receiver does not read its socket"),
        }
    }

    /// The crew's red light.
    fn tell_device(&self) {
        let snapshot = live::snapshot(&self.live);
        let status = Notice::StreamStatus {
            stream: self.record.id.clone(),
            on_air: snapshot.on_air,
            outputs: snapshot.outputs(),
        };
        self.sessions.fleet.notice(&self.record.device, status);
    }

    async fn finish(mut self) {
        self.record.ended_ms = Some(unix_ms());
        self.record.key = None;
        self.record.outcome = Some(match self.machine.state().clone() {
            State::Failed { reason, next_step } => StreamOutcome::Failed { reason, next_step },
            State::Ended { cause } | State::Stopping { cause, .. } => StreamOutcome::Ended { cause },
            _ => StreamOutcome::Ended { cause: "the relay".to_owned() },
        });
        if matches!(self.record.outcome, Some(StreamOutcome::Ended { .. })) {
            self.note(Severity::Info, "ended".to_owned());
        }
        // Kept before it is shown: a relay restarted in between would take up a stream that was seen to be over.
        if !keep(&self.sessions.store, &self.record).await {
            tokio::spawn(keep_at_last(self.sessions.store.clone(), self.record.clone()));
        }
        tracing::info!(stream = %self.record.id, outcome = ?self.record.outcome, "stream is over");
        self.show();
        self.tell_device();
        self.sessions.note_over(&self.record);
        self.sessions.running().remove(&self.record.id);
        self.sessions.note_change();
    }
}

/// Whether the record is in the store.
async fn keep(store: &Store, record: &StreamRecord) -> bool {
    let kept = store.commit(Batch::new().put(record)).await;
    if let Err(error) = &kept {
        tracing::error!(stream = %record.id, error = error as &dyn std::error::Error, "cannot store the stream");
    }
    kept.is_ok()
}

/// Tries until the end of a stream is in the store: one such task a stream that ended while the disk was full.
async fn keep_at_last(store: Store, record: StreamRecord) {
    while store.commit(Batch::new().put(&record)).await.is_err() {
        tokio::time::sleep(KEEP_INTERVAL).await;
    }
    tracing::info!(stream = %record.id, "the stream's end is stored");
}
