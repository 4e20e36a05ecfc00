//! The connection to one receiver process: adopt the one that runs, or start one; then carry its messages.

use daemon::socket::{Connection, Reader, SocketError, Writer};
use daemon::spawn;
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::worker::receiver::{FromReceiver, ReceiverState, StartReceiver, ToReceiver};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use units::StreamId;

/// How long a new receiver may take to listen on its socket.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a receiver may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A receiver reports figures once a second: this long without a word after the first, and it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long the first figures may take.
const FIRST_FIGURES_MAX: Duration = Duration::from_mins(1);
/// How long a receiver that closed its socket may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(25);

/// File names in a stream's directory.
pub const SOCKET_NAME: &str = "receiver.sock";
const LOG_NAME: &str = "receiver.log";

/// What a receiver is started with.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// The program.
    pub program: PathBuf,
    /// The stream's directory.
    pub directory: PathBuf,
    /// Where GStreamer keeps its list of plug-ins for all receivers; it would else write it to the user's home.
    pub plugins: PathBuf,
    /// What it is told.
    pub start: StartReceiver,
}

/// What is heard of a receiver.
#[derive(Debug)]
pub enum WorkerEvent {
    /// Connected.
    Up {
        /// Its process id.
        pid: u32,
        /// How it stands.
        state: ReceiverState,
        /// Whether it ran before.
        adopted: bool,
        /// The way to it.
        writer: Writer,
    },
    /// It said something.
    Message(FromReceiver),
    /// It is gone.
    Lost {
        /// Why.
        cause: String,
    },
}

/// Why a receiver is not there.
#[derive(Debug, Error)]
#[non_exhaustive]
enum WorkerError {
    #[error("cannot start {}: {source}; is it installed beside strata-relay?", program.display())]
    Spawn { program: PathBuf, source: std::io::Error },
    #[error("it ended at once ({status}), see receiver.log")]
    EndedAtOnce { status: std::process::ExitStatus },
    #[error("it did not open its socket within {} s", SPAWN_TIMEOUT.as_secs())]
    NoSocket,
    #[error("it did not say hello within {} s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("it runs another stream, {other}")]
    OtherStream { other: StreamId },
    #[error("its socket broke: {source}")]
    Socket { source: SocketError },
    #[error("it said nothing for too long")]
    Silent,
    #[error("its process ended")]
    Closed,
}

/// Finds or starts the receiver and reports it until it is gone; `Lost` is the last event.
pub async fn run(spec: WorkerSpec, events: mpsc::Sender<(u64, WorkerEvent)>, generation: u64) {
    let mut child = None;
    let mut pid = None;
    let outcome = converse(&spec, &events, generation, &mut child, &mut pid).await;
    // One that hangs or speaks nonsense, or whose stream is over, holds port and socket: it must be gone before the next.
    reap(&spec.directory, child, pid).await;
    if let Err(error) = outcome {
        let _ = events.send((generation, WorkerEvent::Lost { cause: error.to_string() })).await;
    }
}

/// Ends well only when nobody listens any more, because the stream is over.
async fn converse(
    spec: &WorkerSpec,
    events: &mpsc::Sender<(u64, WorkerEvent)>,
    generation: u64,
    child: &mut Option<std::process::Child>,
    known_pid: &mut Option<u32>,
) -> Result<(), WorkerError> {
    let socket = spec.directory.join(SOCKET_NAME);
    let (connection, adopted) = match Connection::open(&socket, WORKER_LINE_BYTES_MAX).await {
        Ok(connection) => (connection, true),
        Err(_) => (spawn_and_connect(spec, &socket, child).await?, false),
    };
    let (mut reader, mut writer) = connection.split();
    let hello = timeout(HELLO_TIMEOUT, next(&mut reader)).await.map_err(|_| WorkerError::NoHello)??;
    let FromReceiver::Hello { pid, stream, state, version } = hello else { return Err(WorkerError::NoHello) };
    *known_pid = Some(pid);
    match stream {
        None => {
            let start = ToReceiver::Start(Box::new(spec.start.clone()));
            writer.send(&start).await.map_err(|source| WorkerError::Socket { source })?;
        }
        Some(stream) if stream == spec.start.stream => {}
        Some(other) => return Err(WorkerError::OtherStream { other }),
    }
    tracing::info!(stream = %spec.start.stream, pid, version, adopted, "receiver connected");
    if events.send((generation, WorkerEvent::Up { pid, state, adopted, writer })).await.is_err() {
        return Ok(());
    }
    let mut silence_max = FIRST_FIGURES_MAX;
    loop {
        let message = timeout(silence_max, next(&mut reader)).await.map_err(|_| WorkerError::Silent)??;
        if matches!(message, FromReceiver::Stats(_)) {
            silence_max = SILENCE_MAX;
        }
        if events.send((generation, WorkerEvent::Message(message))).await.is_err() {
            return Ok(());
        }
    }
}

/// The next message that can be read; one that cannot is skipped with a warning.
async fn next(reader: &mut Reader) -> Result<FromReceiver, WorkerError> {
    loop {
        match reader.next::<FromReceiver>().await {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => return Err(WorkerError::Closed),
            Err(error @ SocketError::Malformed { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "receiver's message skipped");
            }
            Err(source) => return Err(WorkerError::Socket { source }),
        }
    }
}

async fn spawn_and_connect(
    spec: &WorkerSpec,
    socket: &Path,
    child: &mut Option<std::process::Child>,
) -> Result<Connection, WorkerError> {
    let argument = socket.to_string_lossy();
    let environment = [("GST_REGISTRY", spec.plugins.as_path())];
    let worker = spawn::detached(&spec.program, &["--socket", &argument], &environment, &spec.directory.join(LOG_NAME))
        .map_err(|source| WorkerError::Spawn { program: spec.program.clone(), source })?;
    let child = child.insert(worker.child);
    let deadline = Instant::now() + SPAWN_TIMEOUT;
    loop {
        if let Ok(connection) = Connection::open(socket, WORKER_LINE_BYTES_MAX).await {
            return Ok(connection);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(WorkerError::EndedAtOnce { status });
        }
        if Instant::now() >= deadline {
            return Err(WorkerError::NoSocket);
        }
        sleep(POLL).await;
    }
}

/// Waits for the process to end, kills it when it does not, and collects its status.
async fn reap(directory: &Path, child: Option<std::process::Child>, pid: Option<u32>) {
    let Some(pid) = child.as_ref().map(std::process::Child::id).or(pid) else { return };
    let mut child = child;
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while Instant::now() < deadline {
        let gone = match &mut child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !spawn::is_running(pid),
        };
        if gone {
            return;
        }
        sleep(POLL).await;
    }
    kill(directory, pid);
    if let Some(mut child) = child {
        let _ = tokio::task::spawn_blocking(move || child.wait()).await;
    }
}

/// Kills the receiver with this id, if the process with that id is one of this directory.
pub fn kill(directory: &Path, pid: u32) {
    let socket = directory.join(SOCKET_NAME);
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours = arguments.split(|byte| *byte == 0).any(|argument| argument == socket.as_os_str().as_encoded_bytes());
    // A process id may have been given to a stranger since.
    if ours {
        tracing::warn!(pid, "killing a receiver that does not end");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
}
