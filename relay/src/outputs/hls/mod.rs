//! HLS: TS segments and a live playlist in a directory (RFC 8216).
//!
//! Files appear whole (written aside, then renamed) and in order: first the segment, then the playlist that names it. A
//! thread of its own, so that a slow disk is nobody else's trouble.

pub mod playlist;
pub mod segmenter;

use super::files::{self, StorageError};
use super::queue::{Feed, Item};
use super::status::StatusCell;
use playlist::Playlist;
use segmenter::{Cut, Segmenter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Name of the playlist.
pub const PLAYLIST_FILE: &str = "live.m3u8";
/// When nothing came for so long, what there is becomes a segment, so that players show all of it.
const IDLE_AFTER: Duration = Duration::from_secs(3);

/// Writes segments until the feed ends; then the playlist says that the stream is over.
pub fn run(directory: PathBuf, mut feed: Feed, status: &StatusCell) {
    let mut hls = Hls::open(directory, status);
    let mut segmenter = Segmenter::default();
    let mut last_unit = Instant::now();
    while let Some(item) = feed.next_at_leisure() {
        let cut = match item {
            Item::Unit { unit, after_gap } => {
                last_unit = Instant::now();
                segmenter.push(SystemTime::now(), &unit, after_gap)
            }
            Item::Tick if last_unit.elapsed() >= IDLE_AFTER => segmenter.finish(),
            Item::Tick | Item::Raw(_) => None,
        };
        if let Some(cut) = cut {
            hls.write(&cut, status);
        }
    }
    if let Some(cut) = segmenter.finish() {
        hls.write(&cut, status);
    }
    hls.end(status);
}

/// The files.
struct Hls {
    directory: PathBuf,
    playlist: Playlist,
    /// A segment could not be written: the next does not continue the one before it.
    lost_one: bool,
    wrote_one: bool,
}

impl Hls {
    fn open(directory: PathBuf, status: &StatusCell) -> Self {
        if let Err(error) = files::make_directory(&directory) {
            status.failed(&error.sentence());
        }
        let playlist = std::fs::read_to_string(directory.join(PLAYLIST_FILE))
            .map_or_else(|_| Playlist::default(), |text| Playlist::after(&text));
        Self { directory, playlist, lost_one: false, wrote_one: false }
    }

    fn write(&mut self, cut: &Cut, status: &StatusCell) {
        match self.try_write(cut) {
            Ok(()) => {
                self.lost_one = false;
                status.add_bytes(cut.bytes.len());
                status.active();
            }
            Err(error) => {
                self.lost_one = true;
                status.failed(&error.sentence());
            }
        }
    }

    fn try_write(&mut self, cut: &Cut) -> Result<(), StorageError> {
        if self.lost_one {
            files::make_directory(&self.directory)?;
        }
        let segment = self.playlist.next(cut.duration, cut.starts_at, cut.discontinuity || self.lost_one);
        files::write_whole(&self.directory.join(segment.file_name()), &cut.bytes)?;
        let first = segment.sequence;
        let old = self.playlist.push(segment);
        let listed = files::write_whole(&self.directory.join(PLAYLIST_FILE), self.playlist.render(false).as_bytes());
        // Also where the disk refused the list: they make room.
        for segment in old {
            remove(&self.directory.join(segment.file_name()));
        }
        listed?;
        if !std::mem::replace(&mut self.wrote_one, true) {
            self.remove_leftovers(first);
        }
        Ok(())
    }

    /// Deletes what an earlier process left.
    fn remove_leftovers(&self, first: u64) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix("segment-")?.split('.').next()?.parse::<u64>().ok());
            if number.is_some_and(|number| number < first) {
                remove(&entry.path());
            }
        }
    }

    fn end(&self, status: &StatusCell) {
        let path = self.directory.join(PLAYLIST_FILE);
        if self.wrote_one
            && let Err(error) = files::write_whole(&path, self.playlist.render(true).as_bytes())
        {
            status.failed(&error.sentence());
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot delete an old segment");
    }
}
