//! The demo's directory: one demo at a time, each run afresh, nothing outside it.

use crate::lab::program::{below, gone, signal};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long programs of a demo that died may take to end.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// The lock file, which also marks the directory as a demo's.
const LOCK: &str = "strata-demo.lock";

/// The directory while this demo holds it.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// Takes the directory: ends what a demo that died left running there, and empties `run/`.
    pub(crate) async fn take(directory: &Path) -> Result<Self> {
        refuse_foreign(directory)?;
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let directory = directory.canonicalize().with_context(|| format!("cannot find {}", directory.display()))?;
        let lock =
            File::create(directory.join(LOCK)).with_context(|| format!("cannot write to {}", directory.display()))?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!("another demo uses {}; end it, or choose another directory with DATA=", directory.display());
        };
        let place = Self { directory, _lock: lock };
        place.end_leftovers().await?;
        let run = place.run_directory();
        if run.exists() {
            std::fs::remove_dir_all(&run).with_context(|| format!("cannot empty {}", run.display()))?;
        }
        std::fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
        Ok(place)
    }

    /// Where this run's files are.
    pub(crate) fn run_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    async fn end_leftovers(&self) -> Result<()> {
        for process in below(&self.run_directory()) {
            println!("Ending what an earlier demo left running: {} (pid {})", process.command, process.pid);
            signal(process.pid, Signal::SIGTERM);
            if !gone(process.pid, END_TIME_MAX).await {
                signal(process.pid, Signal::SIGKILL);
                if !gone(process.pid, END_TIME_MAX).await {
                    bail!("process {} of an earlier demo cannot be ended", process.pid);
                }
            }
        }
        Ok(())
    }
}

/// A directory that holds something and was never a demo's is not ours to empty.
fn refuse_foreign(directory: &Path) -> Result<()> {
    let run = directory.join("run");
    if run.exists() && !directory.join(LOCK).exists() {
        bail!("{} exists and is not a demo's; choose another directory with DATA=", run.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_taken_once_and_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::take(directory.path()).await.unwrap();
        std::fs::write(place.run_directory().join("old"), "").unwrap();
        let error = Place::take(directory.path()).await.unwrap_err().to_string();
        assert!(error.contains("another demo") && error.contains("DATA="), "{error}");
        drop(place);
        let place = Place::take(directory.path()).await.unwrap();
        assert_eq!(std::fs::read_dir(place.run_directory()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_foreign_run_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("run/precious");
        std::fs::create_dir(directory.path().join("run")).unwrap();
        std::fs::write(&file, "").unwrap();
        assert!(Place::take(directory.path()).await.is_err());
        assert!(file.exists());
    }
}
