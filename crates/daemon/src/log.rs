//! Logging to standard error.

use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Length at which a worker's log is begun anew; one old log is kept beside it.
const WORKER_BYTES_MAX: u64 = 1024 * 1024;
/// How often its length is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Starts logging to standard error, at `info` unless the environment variable `STRATA_LOG` holds a filter
/// (`debug`, `relay=debug,info`). Plain text on a terminal, JSON lines with `STRATA_LOG_FORMAT=json`.
///
/// The embedded broker's library never logs: it prints whole packets, and commands carry keys; what matters of it is
/// logged by its user.
///
/// Calling it twice keeps the first.
pub fn init() {
    init_at("info");
}

/// Like [`init`], with another filter while `STRATA_LOG` holds none.
pub fn init_at(filter: &str) {
    let quiet = "rumqttd=off".parse().expect("a target and a level are a directive");
    let filter = EnvFilter::try_from_env("STRATA_LOG").unwrap_or_else(|_| EnvFilter::new(filter)).add_directive(quiet);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("STRATA_LOG_FORMAT").is_ok_and(|format| format == "json");
    let outcome = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    drop(outcome); // a second call finds a subscriber in place and keeps it
}

/// Like [`init`], in a worker whose standard error is a file ([`crate::spawn::detached`]), for as long as it runs: when the
/// file is longer than a mebibyte, it becomes `NAME.old.log` and another is begun. Whatever else is standard error is left
/// alone.
pub fn init_worker() {
    init();
    keep_short(WORKER_BYTES_MAX, LOOK_EVERY);
}

fn keep_short(max: u64, every: Duration) {
    let look = move || {
        if let Err(error) = begin_anew(max) {
            tracing::warn!(%error, "the log cannot be begun anew");
        }
    };
    // A worker that ends soon, again and again, has to look, too.
    look();
    let looking = move || {
        loop {
            std::thread::sleep(every);
            look();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("log".to_owned()).spawn(looking) {
        tracing::warn!(%error, "the log is not kept short");
    }
}

/// Where standard error is a file longer than `max` bytes, that and standard output go on in a new one.
fn begin_anew(max: u64) -> io::Result<()> {
    let stderr = io::stderr();
    if let Some(file) = next_file(stderr.as_fd(), max)? {
        dup2_stdout(&file)?;
        dup2_stderr(&file)?;
    }
    Ok(())
}

/// The file after `log`, if that is one longer than `max` bytes: of the same name, the old one has another now. A log that
/// cannot have another, because it has none any more, is emptied.
fn next_file(log: BorrowedFd<'_>, max: u64) -> io::Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let status = fstat(log)?;
    let regular = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    if !regular || u64::try_from(status.st_size).unwrap_or(0) <= max {
        return Ok(None);
    }
    let path = std::fs::read_link(Path::new("/proc/self/fd").join(log.as_raw_fd().to_string()))?;
    let old = path.with_extension("old.log");
    if std::fs::rename(&path, &old).is_err() {
        File::from(log.try_clone_to_owned()?).set_len(0)?;
        return Ok(None);
    }
    let next = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    // What cannot be begun anew, on a full disk, goes on under its name.
    next.inspect_err(|_| drop(std::fs::rename(&old, &path))).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::detached;
    use std::io::Write as _;

    const LINES: u32 = 200;
    const MAX: u64 = 1000;

    /// Set in the process that the test starts: itself once more, as the worker.
    const WORKER: (&str, &str) = ("STRATA_TEST_LOG_WORKER", "yes");

    fn say_much() {
        keep_short(MAX, Duration::from_millis(1));
        for line in 0..LINES {
            writeln!(io::stderr(), "line {line}").unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_worker_s_log_is_begun_anew_and_its_end_is_kept() {
        if std::env::var_os(WORKER.0).is_some() {
            return say_much();
        }
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("worker.log");
        std::fs::write(&log, "of an earlier one\n".repeat(100)).unwrap();
        let arguments = ["--exact", "--nocapture", "log::tests::a_worker_s_log_is_begun_anew_and_its_end_is_kept"];
        let worker = [(WORKER.0, Path::new(WORKER.1))];
        let mut worker = detached(&std::env::current_exe().unwrap(), &arguments, &worker, &log).unwrap();
        assert!(worker.child.wait().unwrap().success());
        let [new, old] = [&log, &log.with_extension("old.log")].map(|path| std::fs::read_to_string(path).unwrap());
        assert!(new.len() < 3 * MAX as usize && old.len() < 3 * MAX as usize, "{} and {} bytes", new.len(), old.len());
        assert!(!old.contains("earlier"), "{old}");
        let numbers = |text: &str| -> Vec<u32> {
            text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
        };
        let kept = numbers(&(old + &new));
        assert!(kept.windows(2).all(|two| two[1] == two[0] + 1), "no line is missing in what is kept: {kept:?}");
        assert_eq!(kept.last(), Some(&(LINES - 1)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_without_a_name_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.log");
        let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        log.write_all(&[b'.'; 2000]).unwrap();
        assert!(next_file(log.as_fd(), 2000).unwrap().is_none());
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert!(next_file(log.as_fd(), MAX).unwrap().is_none());
        assert_eq!(log.metadata().unwrap().len(), 0);
    }
}
