//! The streamer process: starting it, connecting to it, speaking with it, killing it.
//!
//! One task carries out [`PortCommand`]s in order and tells [`PortEvent`]s. The streamer outlives the agent: it is started
//! in a session of its own, and its process id is kept beside its socket, so that a later agent can end one that hangs.

use super::machine::{Generation, LaunchMode};
use crate::data_dir::{DataDir, read_file, remove_file, replace_file};
use daemon::socket::{Connection, Reader, SocketError, Writer};
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::worker::streamer::{FromStreamer, ToStreamer};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for a started process to listen.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(8);
/// Pause between tries to connect to it.
const CONNECT_PAUSE: Duration = Duration::from_millis(25);
/// Longest wait for the first line of a connection.
const HELLO_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest wait for a line to be taken.
const SEND_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a process that closed its socket to end, and for a killed one to be gone.
const END_TIME_MAX: Duration = Duration::from_secs(3);
/// Pause between looks at a process that should end.
const END_PAUSE: Duration = Duration::from_millis(20);
/// Commands and events waiting in the channels.
const CHANNEL_MAX: usize = 64;

/// What the agent asks of the process.
#[derive(Debug)]
pub enum PortCommand {
    /// Connect to it, after starting it where the mode says so.
    Launch {
        /// Number of the launch, given back with each event.
        generation: Generation,
        /// How.
        mode: LaunchMode,
    },
    /// Send it a line; dropped when it is not connected.
    Send(Box<ToStreamer>),
    /// Kill it, if it is there.
    Kill,
}

/// What the process did.
#[derive(Debug)]
pub struct PortEvent {
    /// Of which launch.
    pub generation: Generation,
    /// What.
    pub news: PortNews,
}

/// What the process did.
#[derive(Debug)]
pub enum PortNews {
    /// It said something; the first is its hello.
    Line(Box<FromStreamer>),
    /// It is gone, or never came. The last event of a launch.
    Gone {
        /// Why, in words.
        reason: String,
    },
}

/// Starts the task; it ends, leaving the process alone, when the sender is dropped.
pub fn start(program: PathBuf, data: &DataDir) -> (mpsc::Sender<PortCommand>, mpsc::Receiver<PortEvent>) {
    let (commands_sender, commands) = mpsc::channel(CHANNEL_MAX);
    let (events, events_receiver) = mpsc::channel(CHANNEL_MAX);
    let socket = data.streamer_socket();
    let pid_file = socket.with_extension("pid");
    let port = Port { program, socket, pid_file, log: data.streamer_log(), commands, next: None, events, child: None };
    tokio::spawn(port.run());
    (commands_sender, events_receiver)
}

struct Port {
    program: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
    commands: mpsc::Receiver<PortCommand>,
    /// A command that interrupted another and waits for its turn.
    next: Option<PortCommand>,
    events: mpsc::Sender<PortEvent>,
    /// The process, where this agent started it.
    child: Option<std::process::Child>,
}

/// A connection whose hello was read.
struct Attached {
    reader: Reader,
    writer: Writer,
    hello: FromStreamer,
}

/// How a launch went.
enum Attempt {
    /// Connected, or not, and why.
    Finished(Result<Box<Attached>, String>),
    /// A kill or another launch came first.
    CalledOff,
    /// Nobody asks any more.
    AgentEnds,
}

impl Port {
    async fn run(mut self) {
        loop {
            let command = match self.next.take() {
                Some(command) => Some(command),
                None => self.commands.recv().await,
            };
            match command {
                None => return,
                Some(PortCommand::Launch { generation, mode }) => self.launch(generation, mode).await,
                Some(PortCommand::Kill) => self.kill().await,
                Some(PortCommand::Send(_)) => tracing::debug!("line for an absent streamer dropped"),
            }
        }
    }

    async fn launch(&mut self, generation: Generation, mode: LaunchMode) {
        match self.attempt(mode).await {
            Attempt::Finished(Ok(attached)) => self.converse(generation, *attached).await,
            Attempt::Finished(Err(reason)) => self.tell(generation, PortNews::Gone { reason }).await,
            Attempt::CalledOff => {
                self.kill().await;
                self.tell(generation, PortNews::Gone { reason: "the start was called off".to_owned() }).await;
            }
            Attempt::AgentEnds => {}
        }
    }

    async fn attempt(&mut self, mode: LaunchMode) -> Attempt {
        let Self { program, socket, pid_file, log, commands, next, child, .. } = self;
        let attaching = attach(program, socket, pid_file, log, child, mode);
        tokio::pin!(attaching);
        loop {
            tokio::select! {
                outcome = &mut attaching => return Attempt::Finished(outcome.map(Box::new)),
                command = commands.recv() => match command {
                    None => return Attempt::AgentEnds,
                    Some(PortCommand::Send(_)) => tracing::debug!("line for an absent streamer dropped"),
                    Some(PortCommand::Kill) => return Attempt::CalledOff,
                    Some(launch @ PortCommand::Launch { .. }) => {
                        *next = Some(launch);
                        return Attempt::CalledOff;
                    }
                },
            }
        }
    }

    async fn converse(&mut self, generation: Generation, attached: Attached) {
        let Attached { mut reader, mut writer, hello } = attached;
        self.tell(generation, PortNews::Line(Box::new(hello))).await;
        loop {
            tokio::select! {
                line = reader.next() => match line {
                    Ok(Some(line)) => self.tell(generation, PortNews::Line(Box::new(line))).await,
                    Err(error @ SocketError::Malformed { .. }) => tracing::warn!(%error, "line of the streamer ignored"),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "streamer socket failed");
                        break;
                    }
                },
                command = self.commands.recv() => match command {
                    None => return,
                    Some(PortCommand::Send(line)) => {
                        if !matches!(timeout(SEND_TIME_MAX, writer.send(&line)).await, Ok(Ok(()))) {
                            break;
                        }
                    }
                    Some(PortCommand::Kill) => break self.kill().await,
                    Some(launch @ PortCommand::Launch { .. }) => {
                        self.next = Some(launch);
                        return;
                    }
                },
            }
        }
        let reason = self.ending().await;
        self.tell(generation, PortNews::Gone { reason }).await;
    }

    async fn tell(&self, generation: Generation, news: PortNews) {
        let _ = self.events.send(PortEvent { generation, news }).await; // an error: the agent is ending
    }

    /// Waits for a process that closed its socket to end, kills it if it does not, and says how it ended.
    async fn ending(&mut self) -> String {
        if let Some(pid) = self.pid() {
            wait_for_end(pid, self.child.as_mut()).await;
        }
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        self.kill().await;
        match status {
            Some(status) => format!("the streamer ended ({status})"),
            None => "the streamer ended".to_owned(),
        }
    }

    async fn kill(&mut self) {
        if let Some(pid) = self.pid() {
            let outcome =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
            tracing::info!(pid, ?outcome, "streamer killed");
            wait_for_end(pid, self.child.as_mut()).await;
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.try_wait(); // reaps it
        }
        let _ = remove_file(&self.pid_file);
    }

    /// The running streamer: our child, or the one noted beside the socket, if that number is still a streamer's.
    fn pid(&mut self) -> Option<u32> {
        if let Some(child) = &mut self.child {
            return child.try_wait().ok()?.is_none().then(|| child.id());
        }
        let noted = read_file(&self.pid_file, 32).ok()??;
        let pid = std::str::from_utf8(&noted).ok()?.trim().parse().ok()?;
        (daemon::spawn::is_running(pid) && serves(pid, &self.socket)).then_some(pid)
    }
}

/// Whether the process `pid` was started to serve `socket`: a number may have been given to another process since.
fn serves(pid: u32, socket: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == socket.as_os_str().as_encoded_bytes())
}

async fn wait_for_end(pid: u32, mut child: Option<&mut std::process::Child>) {
    let until = Instant::now() + END_TIME_MAX;
    while Instant::now() < until {
        // A child has ended when it can be reaped: its first thread may be gone while others still end.
        let ended = match child.as_deref_mut() {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !daemon::spawn::is_running(pid),
        };
        if ended {
            return;
        }
        sleep(END_PAUSE).await;
    }
}

/// Connects to a running streamer, or starts one first. Dropped half way, a started process stays in `child`.
async fn attach(
    program: &Path,
    socket: &Path,
    pid_file: &Path,
    log: &Path,
    child: &mut Option<std::process::Child>,
    mode: LaunchMode,
) -> Result<Attached, String> {
    if let Ok(connection) = Connection::open(socket, WORKER_LINE_BYTES_MAX).await {
        return greet(connection, pid_file).await;
    }
    if mode == LaunchMode::Attach {
        return Err("no streamer is running".to_owned());
    }
    let path = socket.to_str().ok_or("the data directory's path is not UTF-8")?;
    // GStreamer's list of plug-ins would else be written to the user's home.
    let plugins = log.with_file_name("gstreamer-registry.bin");
    let worker = daemon::spawn::detached(program, &["--socket", path], &[("GST_REGISTRY", &plugins)], log)
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    tracing::info!(pid = worker.pid, "streamer started");
    let _ = replace_file(pid_file, worker.pid.to_string().as_bytes());
    let child = child.insert(worker.child);
    let until = Instant::now() + LISTEN_TIME_MAX;
    loop {
        if let Ok(connection) = Connection::open(socket, WORKER_LINE_BYTES_MAX).await {
            return greet(connection, pid_file).await;
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the streamer ended at once ({status}); its log: {}", log.display()));
        }
        if Instant::now() >= until {
            return Err("the streamer does not listen on its socket".to_owned());
        }
        sleep(CONNECT_PAUSE).await;
    }
}

async fn greet(connection: Connection, pid_file: &Path) -> Result<Attached, String> {
    let (mut reader, writer) = connection.split();
    match timeout(HELLO_TIME_MAX, reader.next::<FromStreamer>()).await {
        Ok(Ok(Some(hello @ FromStreamer::Hello { .. }))) => {
            if let FromStreamer::Hello { pid, .. } = &hello {
                let _ = replace_file(pid_file, pid.to_string().as_bytes());
            }
            Ok(Attached { reader, writer, hello })
        }
        Ok(Ok(_)) => Err("the streamer did not begin with its hello; update the older program".to_owned()),
        Ok(Err(error)) => Err(format!("the streamer's hello cannot be read: {error}")),
        Err(_) => Err("the streamer does not answer".to_owned()),
    }
}
