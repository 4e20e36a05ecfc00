//! The receiver process: one stream from the bond to its outputs, told what to do on a socket of its own.
//!
//! It outlives the relay that started it: [`serve`] takes one controller after the other (the newest wins), and says
//! `Hello` to each. It holds no product decision beyond one stream, knows no other receiver, and writes only below the
//! stream's directory.

mod flow_choice;
mod picture_gate;
mod programme;
mod state;
mod stats;
mod stream;

use daemon::shutdown::Shutdown;
use daemon::socket::{Connection, Listener, Reader, SocketError, Writer};
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::worker::receiver::{FromReceiver, StartReceiver, ToReceiver};
use state::Standing;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use stream::Stream;
use units::Timestamp;

/// A receiver that was never started and that nobody is connected to ends after this time.
const ORPHANED_AFTER: Duration = Duration::from_mins(1);
/// A controller that does not read for so long is disconnected.
const SEND_TIME_MAX: Duration = Duration::from_secs(2);
/// How often the standing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Figures are sent every so many looks.
const LOOKS_PER_STATS: u32 = 10;
/// Events kept for the next controller; the oldest go first.
const EVENTS_MAX: usize = 256;

/// How the process should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Stopped,
    /// The stream failed.
    Failed,
}

/// Serves until told to stop.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(socket: &Path, mut shutdown: Shutdown) -> Result<End, SocketError> {
    let listener = Listener::bind(socket, WORKER_LINE_BYTES_MAX).await?;
    let mut receiver = Receiver::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    daemon::notify::ready();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(connection) => receiver.welcome(connection).await,
                Err(error) => tracing::warn!(%error, "a controller could not connect"),
            },
            request = next_request(&mut receiver.controller) => receiver.handle(request).await,
            _ = looks.tick() => receiver.look().await,
            () = shutdown.wait() => receiver.stopping = true,
        }
        if receiver.stopping {
            return Ok(receiver.end().await);
        }
    }
}

/// What the controller said; waits for ever without one.
async fn next_request(controller: &mut Option<Controller>) -> Result<Option<ToReceiver>, SocketError> {
    match controller {
        Some(controller) => controller.reader.next().await,
        None => std::future::pending().await,
    }
}

struct Controller {
    reader: Reader,
    writer: Writer,
}

struct Receiver {
    started: Instant,
    /// When the last controller left.
    alone_since: Instant,
    standing: Standing,
    stream: Option<Stream>,
    controller: Option<Controller>,
    events: VecDeque<String>,
    looks: u32,
    stopping: bool,
}

impl Receiver {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            alone_since: Instant::now(),
            standing: Standing::default(),
            stream: None,
            controller: None,
            events: VecDeque::new(),
            looks: 0,
            stopping: false,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.started.elapsed().as_micros() as u64)
    }

    async fn welcome(&mut self, connection: Connection) {
        if self.controller.is_some() {
            tracing::info!("another controller takes over");
        }
        let (reader, writer) = connection.split();
        self.controller = Some(Controller { reader, writer });
        let hello = FromReceiver::Hello {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stream: self.stream.as_ref().map(|stream| stream.id().clone()),
            state: self.standing.report(self.now()),
        };
        self.send(hello).await;
        self.send_events().await;
    }

    async fn send(&mut self, message: FromReceiver) {
        let Some(controller) = &mut self.controller else { return };
        let outcome = tokio::time::timeout(SEND_TIME_MAX, controller.writer.send(&message)).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(SocketError::LineTooLong { .. })) => tracing::warn!("a message is too long and was left out"),
            Ok(Err(error)) => self.dismiss(&error.to_string()),
            Err(_) => self.dismiss("it does not read"),
        }
    }

    fn dismiss(&mut self, cause: &str) {
        tracing::info!(cause, "the controller is gone; the stream goes on");
        self.controller = None;
        self.alone_since = Instant::now();
    }

    async fn handle(&mut self, request: Result<Option<ToReceiver>, SocketError>) {
        let refusal = match request {
            Ok(None) => return self.dismiss("it disconnected"),
            Err(error @ SocketError::Malformed { .. }) => {
                Some(format!("{error}: relay and receiver differ in version"))
            }
            Err(error) => return self.dismiss(&error.to_string()),
            Ok(Some(ToReceiver::Stop)) => {
                self.stopping = true;
                None
            }
            Ok(Some(ToReceiver::Start(start))) => self.start(&start).await,
            Ok(Some(other)) => self.change(other),
        };
        if let Some(reason) = refusal {
            tracing::warn!(reason, "a request was refused");
            self.send(FromReceiver::Refused { reason }).await;
        }
    }

    async fn start(&mut self, start: &StartReceiver) -> Option<String> {
        if let Some(stream) = &self.stream {
            return (*stream.id() != start.stream)
                .then(|| format!("this receiver runs stream {}: start another receiver", stream.id().as_str()));
        }
        match Stream::open(start, self.started) {
            Ok(stream) => {
                tracing::info!(stream = start.stream.as_str(), listen = %stream.listen(), "started");
                self.standing = Standing::Ready { listen: stream.listen() };
                self.stream = Some(stream);
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot start");
                self.standing = Standing::Failed { reason: describe(&error) };
                self.stopping = true;
            }
        }
        self.send_standing().await;
        None
    }

    fn change(&mut self, request: ToReceiver) -> Option<String> {
        let Some(stream) = &self.stream else {
            return Some("the receiver was not started yet: send Start first".to_owned());
        };
        let outcome = match request {
            ToReceiver::AddOutput(spec) => stream.add_output(spec),
            ToReceiver::RemoveOutput { id } => stream.remove_output(&id),
            ToReceiver::SetLatency { latency_ms } => {
                stream.set_latency(latency_ms);
                Ok(())
            }
            ToReceiver::Start(_) | ToReceiver::Stop => Ok(()),
        };
        outcome.err().map(|error| error.to_string())
    }

    async fn look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        let Some(stream) = &self.stream else {
            if self.controller.is_none() && self.alone_since.elapsed() >= ORPHANED_AFTER {
                tracing::warn!("nobody started this receiver; ending");
                self.stopping = true;
            }
            return;
        };
        let next = self.standing.next(self.now(), stream.last_unit());
        if next != self.standing {
            tracing::info!(old = ?self.standing, new = ?next, "the stream changed");
            self.standing = next;
            self.send_standing().await;
        }
        if self.looks.is_multiple_of(LOOKS_PER_STATS) {
            self.send_stats().await;
        }
    }

    async fn send_standing(&mut self) {
        let state = self.standing.report(self.now());
        self.send(FromReceiver::State(state)).await;
    }

    async fn send_stats(&mut self) {
        let Some(stream) = &self.stream else { return };
        let stats = stream.stats();
        for text in stream.take_events() {
            tracing::info!(text, "event");
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(text);
        }
        self.send_standing().await;
        self.send(FromReceiver::Stats(Box::new(stats))).await;
        self.send_events().await;
    }

    async fn send_events(&mut self) {
        while self.controller.is_some()
            && let Some(text) = self.events.pop_front()
        {
            self.send(FromReceiver::Event { text }).await;
        }
    }

    /// Drains and ends.
    async fn end(mut self) -> End {
        daemon::notify::stopping();
        if let Some(stream) = self.stream.take() {
            stream.close().await;
        }
        if let Standing::Failed { .. } = self.standing {
            return End::Failed;
        }
        self.standing = Standing::Ended;
        self.send_standing().await;
        End::Stopped
    }
}

/// An error and its causes in one sentence.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
