//! Starting a worker process that outlives its starter.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// A worker that was started.
#[derive(Debug)]
pub struct Worker {
    /// Its process id.
    pub pid: u32,
    /// Reap it with `try_wait` while the starter lives; a later starter only knows the pid from the worker's `Hello`.
    pub child: std::process::Child,
}

/// Starts `program` with `arguments` in a session of its own, so that neither the starter's end nor a signal to its
/// group reaches it. Standard input is closed; standard output and error are appended to `log` (created with mode 0600).
///
/// `environment` is added for what the starter's own does not set already. Arguments are visible to every user of the machine:
/// never put a secret there.
///
/// # Errors
/// The log cannot be opened or the program cannot be started.
pub fn detached(program: &Path, arguments: &[&str], environment: &[(&str, &Path)], log: &Path) -> io::Result<Worker> {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let log: File = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // The service manager's sockets are the starter's, not the worker's.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    // glibc gives every thread a heap of its own that keeps what it once held: 10 MB of a streamer's 140 (measured).
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        command.env("MALLOC_ARENA_MAX", "2");
    }
    command.envs(environment.iter().copied().filter(|(name, _)| std::env::var_os(name).is_none()));
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
    let child = command.spawn()?;
    Ok(Worker { pid: child.id(), child })
}

/// Whether a process with this id exists and is no zombie.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the last ')' of the command name.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_worker_has_its_own_session_and_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("worker.log");
        let arguments = ["-c", "cut -d' ' -f6 /proc/$$/stat; echo $$ $STRATA_TEST_LIST $PATH"];
        let environment = [("STRATA_TEST_LIST", Path::new("list.bin")), ("PATH", Path::new("not-taken"))];
        let mut worker = detached(Path::new("/bin/sh"), &arguments, &environment, &log).unwrap();
        worker.child.wait().unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        let numbers: Vec<&str> = text.split_whitespace().collect();
        let pid = worker.pid.to_string();
        assert_eq!(numbers[..2], [pid.as_str(); 2], "session id is the worker's own pid");
        assert_eq!(numbers[2], "list.bin");
        assert!(!text.contains("not-taken"), "what is set already stays: {text}");
        assert!(!is_running(worker.pid));
        assert!(is_running(std::process::id()));
    }
}
