//! The data directory: every path the agent writes to, and how files in it are replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest path of a Unix socket that the kernel takes, bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a file of the data directory could not be written or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A directory cannot be made.
    #[error("cannot make the directory {}", path.display())]
    StorageDirectory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    StorageWrite {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    StorageRead {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent uses the directory.
    #[error("another agent uses the data directory {}; end it, or choose another data_dir", path.display())]
    ConfigInUse {
        /// Which.
        path: PathBuf,
    },
    /// The path of the data directory leaves no room for a socket's name.
    #[error("data_dir is too long: {} has more than {SOCKET_PATH_BYTES_MAX} bytes; choose a shorter one", path.display())]
    ConfigPathTooLong {
        /// The longest socket path.
        path: PathBuf,
    },
}

/// Paths below the configured data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Holds the data directory for one agent; the kernel lets go when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: nix::fcntl::Flock<File>,
}

impl DataDir {
    /// Makes the directories that are missing, mode 0700.
    ///
    /// # Errors
    /// [`StorageError`]: the operator's fault; the message names the path.
    pub fn create(root: &Path) -> Result<Self, StorageError> {
        let this = Self(root.to_owned());
        for path in [root.to_owned(), this.identity(), this.run()] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| StorageError::StorageDirectory { path, source })?;
        }
        let longest = this.streamer_socket();
        if longest.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(StorageError::ConfigPathTooLong { path: longest });
        }
        Ok(this)
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`StorageError::ConfigInUse`] while another agent has it.
    pub fn lock(&self) -> Result<DataDirLock, StorageError> {
        let path = self.0.join("lock");
        let fail = |source| StorageError::StorageWrite { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(fail)?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
            .map(|file| DataDirLock { _file: file })
            .map_err(|_| StorageError::ConfigInUse { path: self.0.clone() })
    }

    /// Key, certificate and what names the relay.
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// Sockets, the streamer's log, GStreamer's list of plug-ins and the sealed record of the running stream.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Where the streamer listens.
    pub fn streamer_socket(&self) -> PathBuf {
        self.run().join("streamer.sock")
    }

    /// What the streamer prints.
    pub fn streamer_log(&self) -> PathBuf {
        self.run().join("streamer.log")
    }

    /// Between the MQTT client and the TLS task.
    pub fn mqtt_socket(&self) -> PathBuf {
        self.run().join("mqtt.sock")
    }

    /// The running stream, sealed.
    pub fn stream_record(&self) -> PathBuf {
        self.run().join("stream.sealed")
    }

    /// The settings.
    pub fn settings(&self) -> PathBuf {
        self.0.join("settings.toml")
    }

    /// Database of the offline queue and the commands ledger.
    pub fn queue(&self) -> PathBuf {
        self.0.join("queue")
    }
}

/// Replaces `path` by `content` so that a power cut leaves the old or the new file, never a part; mode 0600.
///
/// # Errors
/// [`StorageError::StorageWrite`].
pub fn replace_file(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let fail = |source| StorageError::StorageWrite { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    remove_file(&new)?; // left by a crash: its mode would stay
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(fail)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)?;
    sync_folder(path).map_err(fail)
}

/// Removes `path`; it may be absent already.
///
/// # Errors
/// [`StorageError::StorageWrite`].
pub fn remove_file(path: &Path) -> Result<(), StorageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::StorageWrite { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The content of `path`, at most `bytes_max`; `None` when it is absent.
///
/// # Errors
/// [`StorageError::StorageRead`], also when it is longer.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
    use std::io::Read as _;
    let fail = |source| StorageError::StorageRead { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(fail)?,
    };
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > bytes_max {
        return Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, "longer than it can be")));
    }
    Ok(Some(content))
}

/// Makes a rename in the folder of `path` survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_replaced_file_is_private_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(folder.path().join("settings.toml.new"), "left by a crash").unwrap();
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(read_file(&path, 3).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(read_file(&path, 2), Err(StorageError::StorageRead { .. })));
        assert_eq!(read_file(&folder.path().join("absent"), 2).unwrap(), None);
    }

    #[test]
    fn a_second_agent_is_refused_and_a_later_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::create(folder.path()).unwrap();
        let lock = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(StorageError::ConfigInUse { .. })));
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn directories_are_private_and_a_path_too_long_for_sockets_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::create(&folder.path().join("data")).unwrap();
        assert_eq!(std::fs::metadata(data.identity()).unwrap().permissions().mode() & 0o777, 0o700);
        let long = folder.path().join("x".repeat(100));
        assert!(matches!(DataDir::create(&long), Err(StorageError::ConfigPathTooLong { .. })));
    }
}
