//! The streaming platforms of the lab: ffmpeg listening for RTMP and SRT, started again whenever a connection ends, as a
//! platform takes a stream back.

use anyhow::{Context as _, Result};
use daemon::shutdown::{Shutdown, Trigger};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// How a reader's process name ends; it begins with the directory of its lab.
pub const READER_SUFFIX: &str = "-reader";
/// Pause between two listeners of one reader.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// How long a stopped ffmpeg may take to close its file.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

/// Which protocol a reader speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP, as a server that is published to.
    Rtmp,
    /// SRT, as a listener.
    Srt,
}

/// What a reader does with what it gets.
#[derive(Debug, Clone)]
pub enum Use {
    /// Decodes it and throws the picture away.
    Decode,
    /// Takes it and throws it away, undecoded.
    Discard,
    /// Keeps it as it came, one file a connection, below this directory.
    Keep(PathBuf),
}

/// What a reader has seen.
#[derive(Debug, Clone, Default)]
pub struct ReaderFigures {
    /// Connections that brought media.
    pub connections: u32,
    /// Video frames of all connections.
    pub frames: u64,
    /// Files kept, oldest first.
    pub files: Vec<PathBuf>,
    /// Last complaints of ffmpeg.
    pub complaints: Vec<String>,
}

const COMPLAINTS_MAX: usize = 20;

/// A running reader; dropping it ends its ffmpeg.
#[derive(Debug)]
pub struct Reader {
    figures: Arc<Mutex<ReaderFigures>>,
    stop: Trigger,
    task: Option<JoinHandle<()>>,
}

impl Reader {
    /// Listens on `port` of 127.0.0.1 on behalf of the lab in `directory`. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// ffmpeg is not installed.
    pub fn start(protocol: Protocol, port: u16, key: &str, directory: &Path, purpose: Use) -> Result<Self> {
        check_tools(&["ffmpeg"])?;
        let figures = Arc::new(Mutex::new(ReaderFigures::default()));
        let (stop, stopped) = Shutdown::manual();
        let url = match protocol {
            Protocol::Rtmp => format!("rtmp://127.0.0.1:{port}/live/{key}"),
            Protocol::Srt => format!("srt://127.0.0.1:{port}?mode=listener"),
        };
        let name = match protocol {
            Protocol::Rtmp => "rtmp",
            Protocol::Srt => "srt",
        };
        let name = directory.join(format!("{name}{READER_SUFFIX}"));
        let listener = Listener { protocol, url, name, purpose, figures: Arc::clone(&figures) };
        Ok(Self { figures, stop, task: Some(tokio::spawn(listener.run(stopped))) })
    }

    /// What it has seen so far.
    pub fn figures(&self) -> ReaderFigures {
        lock(&self.figures).clone()
    }

    /// Ends it and closes its files.
    pub async fn stop(mut self) -> ReaderFigures {
        self.stop.fire();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        self.figures()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn lock(figures: &Mutex<ReaderFigures>) -> std::sync::MutexGuard<'_, ReaderFigures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Listener {
    protocol: Protocol,
    url: String,
    /// Its name among the processes: a reader whose lab was killed is found by it.
    name: PathBuf,
    purpose: Use,
    figures: Arc<Mutex<ReaderFigures>>,
}

impl Listener {
    async fn run(self, mut stopped: Shutdown) {
        let mut number = 0;
        while !stopped.is_fired() {
            number += 1;
            if let Err(error) = self.listen_once(number, &mut stopped).await {
                self.complain(format!("{error:#}"));
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    async fn listen_once(&self, number: u32, stopped: &mut Shutdown) -> Result<()> {
        let mut command = Command::new("ffmpeg");
        command.arg0(&self.name);
        command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-nostats", "-y"]);
        command.args(["-progress", "pipe:1", "-stats_period", "0.5", "-analyzeduration", "2000000"]);
        if self.protocol == Protocol::Rtmp {
            command.args(["-listen", "1"]);
        }
        command.args(["-i", &self.url]);
        let file = match &self.purpose {
            Use::Decode => {
                command.args(["-f", "null", "-"]);
                None
            }
            Use::Discard => {
                command.args(["-map", "0", "-c", "copy", "-f", "null", "-"]);
                None
            }
            Use::Keep(directory) => {
                let file = directory.join(self.file_name(number));
                command.args(["-map", "0", "-c", "copy", "-flush_packets", "1"]).arg(&file);
                Some(file)
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.process_group(0);
        let mut child = command.spawn().context("cannot start ffmpeg")?;
        let progress = child.stdout.take().context("ffmpeg has no output pipe")?;
        let complaints = child.stderr.take().context("ffmpeg has no error pipe")?;
        let mut progress = BufReader::new(progress).lines();
        let mut complaints = BufReader::new(complaints).lines();
        let before = lock(&self.figures).frames;
        let (mut complaining, mut brought) = (true, false);
        loop {
            tokio::select! {
                line = progress.next_line() => {
                    let Some(line) = line? else { break };
                    let frames = line.strip_prefix("frame=").and_then(|text| text.trim().parse::<u64>().ok());
                    if let Some(frames) = frames.filter(|frames| *frames > 0) {
                        let mut figures = lock(&self.figures);
                        figures.frames = before + frames;
                        if !brought {
                            brought = true;
                            figures.connections += 1;
                            figures.files.extend(file.clone());
                        }
                    }
                }
                line = complaints.next_line(), if complaining => match line? {
                    Some(line) => self.complain(line),
                    None => complaining = false,
                },
                () = stopped.wait() => {
                    interrupt(&child);
                    let _ = tokio::time::timeout(CLOSE_TIME_MAX, child.wait()).await;
                    break;
                }
            }
        }
        if tokio::time::timeout(CLOSE_TIME_MAX, child.wait()).await.is_err() {
            child.kill().await.context("cannot end ffmpeg")?;
        }
        Ok(())
    }

    fn file_name(&self, number: u32) -> String {
        match self.protocol {
            Protocol::Rtmp => format!("rtmp-{number:03}.flv"),
            Protocol::Srt => format!("srt-{number:03}.ts"),
        }
    }

    fn complain(&self, text: String) {
        let mut figures = lock(&self.figures);
        if figures.complaints.len() >= COMPLAINTS_MAX {
            figures.complaints.remove(0);
        }
        figures.complaints.push(text);
    }
}

/// Asks ffmpeg to finish its file.
fn interrupt(child: &tokio::process::Child) {
    if let Some(pid) = child.id() {
        crate::lab::program::signal(pid, nix::sys::signal::Signal::SIGINT);
    }
}

/// Whether ffmpeg and ffprobe can be started.
///
/// # Errors
/// One cannot, with what to do.
pub fn check_tools(tools: &[&str]) -> Result<()> {
    for tool in tools {
        let status =
            std::process::Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.with_context(|| format!("{tool} is not installed: run `make setup`"))?;
    }
    Ok(())
}
