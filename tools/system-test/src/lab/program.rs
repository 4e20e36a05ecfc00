//! One running program of the lab: its process, its log, its end.

use crate::readers::READER_SUFFIX;
use anyhow::{Context as _, Result, bail};
use daemon::spawn::is_running;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// How often an awaited end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a log an error quotes.
const QUOTED_LINES: usize = 15;

/// Where the product's programs are: beside the running program (or one above, for a test).
///
/// # Errors
/// A program is not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let directories = own.ancestors().skip(1).take(2);
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not built beside {}: run `make build` (cargo build --workspace) first", own.display())
    })
}

/// A program that was started, in a process group of its own, so that Ctrl-C on a terminal reaches only the lab.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `program`; its output is appended to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::start_with(program, arguments, log, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(program: &Path, arguments: &[&str], log: &Path, environment: &[(&str, &Path)]) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        command.envs(environment.iter().copied());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// # Errors
    /// It has ended, with the end of its log.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended with {status}; its log ends:\n{}", self.name, self.log_end()),
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// SIGKILL, and the wait for its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().map(drop).with_context(|| format!("cannot wait for {}", self.name))
    }

    /// SIGTERM, and the wait for an orderly end.
    ///
    /// # Errors
    /// It did not end within `limit` (then it is killed), or with a status other than 0.
    pub async fn terminate(&mut self, limit: Duration) -> Result<()> {
        signal(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + limit;
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}; its log ends:\n{}", self.name, self.log_end()),
                None if Instant::now() > deadline => {
                    self.kill()?;
                    bail!("{} did not end within {limit:?} of SIGTERM and was killed", self.name);
                }
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Waits until a process that may be nobody's child of ours is gone.
pub async fn gone(pid: u32, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while is_running(pid) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}

/// A process and its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub pid: u32,
    /// Its name, without directories.
    pub program: String,
    /// Its arguments, joined by spaces.
    pub command: String,
}

impl Found {
    fn is_of_a_lab(&self) -> bool {
        self.program.starts_with("strata-") || self.program.ends_with(READER_SUFFIX)
    }
}

/// Programs of a lab in `directory`, also those that outlived their starter: each has its configuration, socket or file there
/// among its arguments; a reader its name. Whatever else works on files there (a pager, an editor) is not ours.
pub fn below(directory: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Found> = pids
        .filter(|pid| *pid != own && is_running(*pid))
        .filter_map(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let arguments: Vec<_> = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            let below = arguments.iter().any(|argument| Path::new(argument.as_ref()).starts_with(directory));
            let program = arguments.first()?.rsplit('/').next()?.to_owned();
            let process = Found { pid, program, command: arguments.join(" ").trim_end().to_owned() };
            (below && process.is_of_a_lab()).then_some(process)
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_found_by_its_directory_and_ends_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let log = directory.path().join("log");
        let shell = directory.path().join("strata-shell");
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
        // A shell that starts nothing: until its child has become another program, it has the shell's command line.
        let arguments = ["-c", "trap 'echo bye; exit 0' TERM; exec 3<>\"$1\"; echo up; read -r line <&3", "sh"];
        let mut arguments = arguments.to_vec();
        let file = file.display().to_string();
        arguments.push(&file);
        let mut pager = Command::new("tail").arg("-f").arg(&file).stdout(Stdio::null()).spawn().unwrap();
        let mut program = Program::start(&shell, &arguments, &log).unwrap();
        while !program.log_end().contains("up") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let found: Vec<u32> = below(directory.path()).iter().map(|found| found.pid).collect();
        assert_eq!(found, [program.pid()], "and not the pager, which is somebody else's");
        program.terminate(Duration::from_secs(5)).await.unwrap();
        assert_eq!(program.log_end(), "up\nbye");
        assert!(gone(program.pid(), Duration::ZERO).await);
        assert_eq!(below(directory.path()), []);
        pager.kill().unwrap();
        pager.wait().unwrap();
    }

    #[tokio::test]
    async fn a_program_that_fails_is_reported_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut program = Program::start(Path::new("/bin/sh"), &["-c", "echo no such thing; exit 3"], &log).unwrap();
        program.child.wait().unwrap();
        let error = program.expect_running().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such thing"), "{error}");
    }
}
