//! One file of a recording.

use crate::media::packet::PACKET_BYTES;
use crate::outputs::files::StorageError;
use crate::outputs::wall_clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// How often a number that is taken is counted on.
const NUMBERS_TRIED_MAX: u32 = 1000;

/// A part being written.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) name: String,
    path: PathBuf,
    file: File,
    /// Bytes on the disk.
    pub(super) bytes: u64,
    pub(super) begun_at: Instant,
    /// Decoding time of its beginning on the output timeline.
    pub(super) media_start: Option<i64>,
}

impl Part {
    /// Makes the next part's file; the number orders parts whatever the wall clock does.
    pub(super) fn create(directory: &Path, media_start: Option<i64>) -> Result<Self, StorageError> {
        let first = next_number(directory);
        for number in first..first.saturating_add(NUMBERS_TRIED_MAX) {
            let name = format!("part-{number:06}-{}.ts", wall_clock::compact(SystemTime::now()));
            let path = directory.join(&name);
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    sync_directory(directory);
                    return Ok(Self { number, name, path, file, bytes: 0, begun_at: Instant::now(), media_start });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StorageError::Write { path, source }),
            }
        }
        Err(StorageError::Write { path: directory.to_owned(), source: io::ErrorKind::AlreadyExists.into() })
    }

    /// Appends and waits until it is on the disk. After an error the file ends with its last whole packet.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            let length = self.file.metadata().map_or(self.bytes, |metadata| metadata.len());
            let whole = length - length % PACKET_BYTES as u64;
            if let Err(error) = self.file.set_len(whole) {
                tracing::warn!(part = %self.name, %error, "cannot cut a part to whole packets");
            }
            return Err(StorageError::Write { path: self.path.clone(), source });
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn next_number(directory: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 1 };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("part-")?.split('-').next()?.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// So that a power cut does not lose the name of a file whose content is safe.
fn sync_directory(directory: &Path) {
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::warn!(directory = %directory.display(), %error, "cannot flush a directory");
    }
}
