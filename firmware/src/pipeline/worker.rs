//! The streamer process: a socket, and the one session behind it.
//!
//! The agent connects, is greeted with `Hello`, and may leave and come back: nothing here waits for it. The process ends
//! when its session has (status 0 after a stop, 1 after a failure), or when nobody came within [`UNCLAIMED_TIME_MAX`].

use super::session::{Session, SessionCommand, SessionReport};
use daemon::shutdown::Shutdown;
use daemon::socket::{Connection, Listener, SocketError, Writer};
use protocol::limits::{LINKS_MAX, WORKER_LINE_BYTES_MAX};
use protocol::worker::streamer::{FromStreamer, StartStreamer, StreamerState, ToStreamer};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use units::{LinkId, StreamId};

/// How long a process that was never started waits for somebody to connect.
pub const UNCLAIMED_TIME_MAX: Duration = Duration::from_mins(1);
/// Connections at the same time; one more is closed at once. One is normal, two while an agent is replaced.
const CONNECTIONS_MAX: usize = 8;
/// Messages a slow connection may be behind; older ones are left out for it.
const BEHIND_MAX: usize = 64;
/// Requests and reports waiting for the process.
const WAITING_MAX: usize = 64;
/// How long the last messages may take to be read.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// How the stream stands; what `Hello` tells.
#[derive(Debug, Clone)]
struct Standing {
    stream: Option<StreamId>,
    state: StreamerState,
}

/// A line from a connection, with the way back to it alone.
struct Request {
    message: ToStreamer,
    replies: mpsc::Sender<FromStreamer>,
}

/// Serves the socket at `path` until the stream is over.
///
/// # Errors
/// The socket cannot be made, or another streamer serves it.
pub async fn serve(path: &Path, shutdown: Shutdown) -> Result<ExitCode, SocketError> {
    let listener = Listener::bind(path, WORKER_LINE_BYTES_MAX).await?;
    Ok(Worker::new().run(&listener, shutdown).await)
}

struct Worker {
    session: Option<Session>,
    links: BTreeSet<LinkId>,
    standing: watch::Sender<Standing>,
    news: broadcast::Sender<FromStreamer>,
    requests: (mpsc::Sender<Request>, mpsc::Receiver<Request>),
    reports: (mpsc::Sender<SessionReport>, mpsc::Receiver<SessionReport>),
    connections: JoinSet<()>,
}

impl Worker {
    fn new() -> Self {
        Self {
            session: None,
            links: BTreeSet::new(),
            standing: watch::Sender::new(Standing { stream: None, state: StreamerState::Waiting }),
            news: broadcast::Sender::new(BEHIND_MAX),
            requests: mpsc::channel(WAITING_MAX),
            reports: mpsc::channel(WAITING_MAX),
            connections: JoinSet::new(),
        }
    }

    async fn run(mut self, listener: &Listener, mut shutdown: Shutdown) -> ExitCode {
        let mut asked_to_end = false;
        let code = loop {
            let unclaimed = self.session.is_none() && self.connections.is_empty();
            tokio::select! {
                accepted = listener.accept() => self.accepted(accepted),
                Some(request) = self.requests.1.recv() => self.handle(request),
                Some(report) = self.reports.1.recv() => {
                    if let Some(code) = self.publish(report) {
                        break code;
                    }
                }
                Some(_) = self.connections.join_next() => {}
                () = shutdown.wait(), if !asked_to_end => {
                    asked_to_end = true;
                    match &self.session {
                        Some(session) => {
                            if let Err(error) = session.command(SessionCommand::Stop) {
                                tracing::warn!(%error, "the stream cannot be told to stop");
                                break ExitCode::FAILURE;
                            }
                        }
                        None => break ExitCode::SUCCESS,
                    }
                }
                () = tokio::time::sleep(UNCLAIMED_TIME_MAX), if unclaimed => {
                    tracing::info!("nobody came: ending");
                    break ExitCode::SUCCESS;
                }
            }
        };
        self.farewell().await;
        code
    }

    fn accepted(&mut self, accepted: Result<Connection, SocketError>) {
        match accepted {
            Ok(_) if self.connections.len() >= CONNECTIONS_MAX => {
                tracing::warn!(limit = CONNECTIONS_MAX, "too many connections: one is closed");
            }
            Ok(connection) => {
                let (news, standing) = (self.news.subscribe(), self.standing.subscribe());
                self.connections.spawn(converse(connection, news, standing, self.requests.0.clone()));
            }
            Err(error) => tracing::warn!(%error, "a connection was lost before it began"),
        }
    }

    fn handle(&mut self, request: Request) {
        let refusal = match request.message {
            ToStreamer::Start(start) => self.start(*start),
            ToStreamer::AddLink(link) => {
                if self.links.len() >= LINKS_MAX && !self.links.contains(&link.link) {
                    Some(format!("a bond has at most {LINKS_MAX} links: take one out first"))
                } else {
                    self.links.insert(link.link);
                    self.command(SessionCommand::AddLink(link))
                }
            }
            ToStreamer::RemoveLink { link } => {
                self.links.remove(&link);
                self.command(SessionCommand::RemoveLink(link))
            }
            ToStreamer::SetLatency { latency_ms } => self.command(SessionCommand::SetLatency(latency_ms)),
            ToStreamer::SetBitrateRange { min, max } => self.command(SessionCommand::SetBitrateRange { min, max }),
            ToStreamer::Stop if self.session.is_some() => self.command(SessionCommand::Stop),
            ToStreamer::Stop => {
                // Nothing to drain: end as after a stream.
                let ended = SessionReport::State(StreamerState::Ended);
                self.reports.0.try_send(ended).err().map(|_| "too busy to stop: try again".to_owned())
            }
        };
        if let Some(reason) = refusal {
            tracing::warn!(reason, "request refused");
            // A connection that does not read its replies loses them.
            let _ = request.replies.try_send(FromStreamer::Refused { reason });
        }
    }

    /// The reason why not, if it does not start.
    fn start(&mut self, start: StartStreamer) -> Option<String> {
        let running = self.standing.borrow().stream.clone();
        match running {
            Some(running) if running == start.spec.stream => None,
            Some(running) => Some(format!("this streamer runs stream {running}: stop it first")),
            None if start.links.len() > LINKS_MAX => Some(format!("a bond has at most {LINKS_MAX} links")),
            None => {
                let stream = start.spec.stream.clone();
                self.links = start.links.iter().map(|link| link.link).collect();
                let reports = self.reports.0.clone();
                let spawned = Session::spawn(start, move |report| {
                    // The session's own thread may wait; fails only when the process is ending.
                    let _ = reports.blocking_send(report);
                });
                match spawned {
                    Ok(session) => {
                        tracing::info!(%stream, "stream starts");
                        self.session = Some(session);
                        self.standing.send_modify(|standing| standing.stream = Some(stream));
                        None
                    }
                    Err(error) => Some(format!("the system gives no thread: {error}")),
                }
            }
        }
    }

    fn command(&self, command: SessionCommand) -> Option<String> {
        match &self.session {
            None => Some("no stream is running: send Start first".to_owned()),
            Some(session) => session.command(command).err().map(|refused| refused.to_string()),
        }
    }

    /// Tells every connection; the exit code when this was the last report.
    fn publish(&mut self, report: SessionReport) -> Option<ExitCode> {
        let mut code = None;
        let message = match report {
            SessionReport::State(state) => {
                code = match &state {
                    StreamerState::Ended => Some(ExitCode::SUCCESS),
                    StreamerState::Failed { .. } => Some(ExitCode::FAILURE),
                    _ => None,
                };
                let stream = self.standing.borrow().stream.clone();
                let before = self.standing.send_replace(Standing { stream, state: state.clone() });
                if still_running(&before.state, &state) {
                    return None; // only `Hello` tells how long
                }
                FromStreamer::State(state)
            }
            SessionReport::Stats(stats) => FromStreamer::Stats(stats),
            SessionReport::Event(text) => FromStreamer::Event { text },
            SessionReport::Refused(reason) => FromStreamer::Refused { reason },
        };
        // Fails only when nobody is connected.
        let _ = self.news.send(message);
        code
    }

    /// Lets the connections read the last messages.
    async fn farewell(mut self) {
        if let Some(session) = self.session.take() {
            // It has made its last report: this is immediate.
            drop(tokio::task::spawn_blocking(move || session.join()).await);
        }
        drop(self.news);
        drop(self.requests);
        let flushed = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL_TIME_MAX, flushed).await.is_err() {
            tracing::warn!("a connection did not read the last messages");
        }
    }
}

fn still_running(before: &StreamerState, now: &StreamerState) -> bool {
    use StreamerState::Running;
    matches!((before, now), (Running { encoder: a, .. }, Running { encoder: b, .. }) if a == b)
}

/// One connection until it or the process ends.
async fn converse(
    connection: Connection,
    mut news: broadcast::Receiver<FromStreamer>,
    standing: watch::Receiver<Standing>,
    requests: mpsc::Sender<Request>,
) {
    let (mut reader, mut writer) = connection.split();
    let (replies, mut own) = mpsc::channel(WAITING_MAX);
    let Standing { stream, state } = standing.borrow().clone();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut sent = writer.send(&FromStreamer::Hello { pid: std::process::id(), version, stream, state }).await;
    let mut listening = true;
    while sent.is_ok() {
        sent = tokio::select! {
            biased;
            Some(reply) = own.recv() => writer.send(&reply).await,
            message = news.recv() => match message {
                Ok(message) => writer.send(&message).await,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a connection reads too slowly");
                    Ok(())
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            line = reader.next::<ToStreamer>(), if listening => match line {
                Ok(Some(message)) => {
                    listening = requests.send(Request { message, replies: replies.clone() }).await.is_ok();
                    Ok(())
                }
                Ok(None) => return,
                Err(error) => refuse_line(&mut writer, error).await,
            },
        };
    }
    if let Err(error) = sent {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A line that is no message is refused and the connection goes on; anything else ends it.
async fn refuse_line(writer: &mut Writer, error: SocketError) -> Result<(), SocketError> {
    let reason = match &error {
        SocketError::Malformed { source } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    tracing::warn!(reason, "line refused");
    let told = writer.send(&FromStreamer::Refused { reason: super::fault::clip(&reason) }).await;
    if matches!(error, SocketError::Malformed { .. }) { told } else { Err(error) }
}
