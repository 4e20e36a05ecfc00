//! Files of the outputs: made whole or not at all, readable by the service only, and errors that say what to do.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why something could not be stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A directory cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// So little is left that the rest of the machine needs it.
    #[error("the disk of {} is nearly full", path.display())]
    NearlyFull {
        /// Where.
        path: PathBuf,
        /// What is left, in bytes.
        left: u64,
    },
}

impl StorageError {
    /// For the operator: what happened and what to do.
    pub fn sentence(&self) -> String {
        let (path, source) = match self {
            Self::Directory { path, source } | Self::Write { path, source } => (path, source),
            // Without the figure: it changes all the time, and the sentence would be news each time.
            Self::NearlyFull { .. } => return format!("{self}: free some space, it goes on by itself then"),
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                format!("the disk of {} is full: free some space, it goes on by itself then", path.display())
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                format!("{self} ({source}): make the directory writable for the relay's user")
            }
            _ => format!("{self} ({source}): check the disk"),
        }
    }
}

/// Makes a directory (mode 0700) unless it is there.
///
/// # Errors
/// [`StorageError::Directory`].
pub fn make_directory(path: &Path) -> Result<(), StorageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StorageError::Directory { path: path.to_owned(), source })
}

/// Writes a file aside and renames it, so that a reader sees the old or the new one, never a part.
///
/// # Errors
/// [`StorageError::Write`]; nothing is left behind.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let aside = path.with_extension("tmp");
    let attempt =
        create(&aside).and_then(|mut file| file.write_all(content)).and_then(|()| std::fs::rename(&aside, path));
    attempt.map_err(|source| {
        // It may not even be there.
        let _ = std::fs::remove_file(&aside);
        StorageError::Write { path: path.to_owned(), source }
    })
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_an_error_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("live.m3u8");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        std::fs::create_dir(directory.path().join("taken")).unwrap();
        let error = write_whole(&directory.path().join("taken"), b"x").unwrap_err();
        assert!(error.sentence().contains("taken"), "{}", error.sentence());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_full_disk_is_called_that() {
        let source = io::Error::from_raw_os_error(28);
        let error = StorageError::Write { path: "/data/x.ts".into(), source };
        assert_eq!(error.sentence(), "the disk of /data/x.ts is full: free some space, it goes on by itself then");
    }
}
