//! The receiver process of one stream: bond in, outputs out, driven over its own socket by the relay.
//!
//! It owns the socket, outlives the relay, and ends only by `Stop`, a signal, or a failure. Never started and with nobody
//! connected it ends after [`IDLE_TIME_MAX`]. One control connection counts at a time: the newest.

mod intake;
mod stream;

use daemon::shutdown::Shutdown;
use daemon::socket::{Connection, Listener, Reader, SocketError, Writer};
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::worker::receiver::{FromReceiver, ReceiverState, ToReceiver};
use std::path::Path;
use std::time::Duration;
use stream::Stream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long a receiver waits for a relay that never starts it.
pub const IDLE_TIME_MAX: Duration = Duration::from_mins(1);
/// How often outputs are told that time passes, and the state is looked at.
const TICK: Duration = Duration::from_millis(200);
/// Ticks between two reports of figures.
const TICKS_PER_REPORT: u64 = 5;

/// Why a receiver ends with status 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiverError {
    /// The control socket cannot be served.
    #[error("the control socket failed")]
    Socket(#[from] SocketError),
    /// The stream failed; the relay was told.
    #[error("the stream failed: {reason}")]
    Stream {
        /// Why, with what to do.
        reason: String,
    },
}

/// Serves `socket` until the stream is over.
///
/// # Errors
/// [`ReceiverError`].
pub async fn run(socket: &Path, mut shutdown: Shutdown) -> Result<(), ReceiverError> {
    let listener = Listener::bind(socket, WORKER_LINE_BYTES_MAX).await?;
    let mut receiver = Receiver { stream: None, control: None, state: ReceiverState::Waiting };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut count, mut idle_since) = (0_u64, Instant::now());
    loop {
        if receiver.control.is_some() || receiver.stream.is_some() {
            idle_since = Instant::now();
        }
        let step = tokio::select! {
            connection = listener.accept() => Step::Connected(connection?),
            message = next_message(&mut receiver.control) => Step::Message(message),
            () = arrival(&mut receiver.stream) => Step::Nothing,
            _ = ticks.tick() => Step::Tick,
            () = shutdown.wait() => Step::Stop,
            () = sleep_until(idle_since + IDLE_TIME_MAX) => return Ok(()),
        };
        match step {
            Step::Connected(connection) => receiver.connected(connection).await,
            Step::Message(Message::Control(message)) => match *message {
                ToReceiver::Stop => return receiver.end().await,
                message => receiver.obey(message).await?,
            },
            Step::Message(Message::Malformed(reason)) => receiver.send(&FromReceiver::Refused { reason }).await,
            Step::Message(Message::Gone) => receiver.control = None,
            Step::Stop => return receiver.end().await,
            Step::Tick => {
                count += 1;
                receiver.tick(count.is_multiple_of(TICKS_PER_REPORT)).await;
            }
            Step::Nothing => {}
        }
    }
}

enum Step {
    Connected(Connection),
    Message(Message),
    Tick,
    Stop,
    Nothing,
}

enum Message {
    Control(Box<ToReceiver>),
    Malformed(String),
    Gone,
}

struct Receiver {
    stream: Option<Stream>,
    control: Option<(Reader, Writer)>,
    state: ReceiverState,
}

impl Receiver {
    async fn connected(&mut self, connection: Connection) {
        self.control = Some(connection.split());
        let hello = FromReceiver::Hello {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stream: self.stream.as_ref().map(|stream| stream.id().clone()),
            state: self.state.clone(),
        };
        self.send(&hello).await;
    }

    async fn obey(&mut self, message: ToReceiver) -> Result<(), ReceiverError> {
        let refusal = match (message, &mut self.stream) {
            (ToReceiver::Start(start), None) => return self.start(*start).await,
            (ToReceiver::Start(start), Some(stream)) if start.stream == *stream.id() => None,
            (ToReceiver::Start(_), Some(stream)) => Some(format!("this receiver runs stream {} already", stream.id())),
            (ToReceiver::AddOutput(spec), Some(stream)) => stream.add_output(spec).err(),
            (ToReceiver::RemoveOutput { id }, Some(stream)) => {
                stream.remove_output(&id);
                None
            }
            (ToReceiver::SetLatency { latency_ms }, Some(stream)) => {
                stream.set_latency(latency_ms);
                None
            }
            (ToReceiver::Stop, _) => None, // handled by the caller
            (_, None) => Some("this receiver was not started yet; send start first".to_owned()),
        };
        if let Some(reason) = refusal {
            tracing::warn!(reason, "refused");
            self.send(&FromReceiver::Refused { reason }).await;
        }
        Ok(())
    }

    async fn start(&mut self, start: protocol::worker::receiver::StartReceiver) -> Result<(), ReceiverError> {
        match Stream::open(start) {
            Ok(stream) => {
                tracing::info!(stream = %stream.id(), listen = %stream.listen(), "receiver listens");
                let state = ReceiverState::Ready { listen: stream.listen() };
                self.stream = Some(stream);
                self.change(state).await;
                Ok(())
            }
            Err(reason) => {
                self.change(ReceiverState::Failed { reason: reason.clone() }).await;
                Err(ReceiverError::Stream { reason })
            }
        }
    }

    async fn tick(&mut self, report: bool) {
        let Some(stream) = &mut self.stream else { return };
        stream.tick();
        let state = stream.state();
        let events = stream.take_events();
        let stats = report.then(|| stream.stats());
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) || report {
            self.change(state).await;
        }
        for text in events {
            tracing::info!(text, "stream event");
            self.send(&FromReceiver::Event { text }).await;
        }
        if let Some(stats) = stats {
            self.send(&FromReceiver::Stats(Box::new(stats))).await;
        }
    }

    async fn end(mut self) -> Result<(), ReceiverError> {
        if let Some(stream) = self.stream.take() {
            stream.end().await;
        }
        self.change(ReceiverState::Ended).await;
        tracing::info!("receiver ended");
        Ok(())
    }

    async fn change(&mut self, state: ReceiverState) {
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) {
            tracing::info!(old = ?self.state, new = ?state, "receiver state");
        }
        self.state = state.clone();
        self.send(&FromReceiver::State(state)).await;
    }

    /// A relay that does not take a message is gone; it connects again.
    async fn send(&mut self, message: &FromReceiver) {
        if let Some((_, writer)) = &mut self.control
            && let Err(error) = writer.send(message).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the relay is gone");
            self.control = None;
        }
    }
}

async fn next_message(control: &mut Option<(Reader, Writer)>) -> Message {
    let Some((reader, _)) = control else { return std::future::pending().await };
    match reader.next().await {
        Ok(Some(message)) => Message::Control(Box::new(message)),
        Err(SocketError::Malformed { source }) => {
            Message::Malformed(format!("the message is not understood: {source}"))
        }
        Ok(None) | Err(_) => Message::Gone,
    }
}

/// Takes one payload of the bond and feeds the outputs.
async fn arrival(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => stream.take_one().await,
        None => std::future::pending().await,
    }
}
