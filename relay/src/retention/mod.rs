//! Keeps what streams leave behind within its bounds: previews by age, recordings by age, size and free space ([`plan`]).
//!
//! A recording goes only for a reason that is configured or because the disk is filling up, the oldest first, and its stream's
//! page says so; a running stream's files are never touched. Directories of streams that the store does not know are left alone.

pub mod plan;

use crate::clock::unix_ms;
use crate::config::Config;
use crate::disk::{Disk, STORE_ROOM};
use crate::store::{Batch, Store, StoreError, StreamRecord};
use daemon::shutdown::Shutdown;
use plan::{Over, Removal};
use protocol::state::Severity;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use units::StreamId;

/// Pause between two looks. At 50 Mbit/s a recording grows by 375 MB in it, less than what running recordings leave free.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    config: Arc<Config>,
    store: Store,
    /// Sizes of preview and recording of streams that are over: they do not change any more.
    sizes: HashMap<StreamId, (u64, u64)>,
}

impl Keeper {
    /// A keeper of the configured bounds.
    pub fn new(config: Arc<Config>, store: Store) -> Self {
        Self { config, store, sizes: HashMap::new() }
    }

    /// Looks once a minute until `shutdown`.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        loop {
            let looked = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.look() {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot look after old recordings");
                }
                self
            });
            let Ok(keeper) = looked.await else { return };
            self = keeper;
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Deletes what is over its bounds. Blocks for the disk.
    ///
    /// # Errors
    /// The store's; a file that cannot be deleted is logged and tried again with the next look.
    pub fn look(&mut self) -> Result<(), StoreError> {
        let (mut over, mut running, mut known) = (Vec::new(), 0, HashMap::new());
        for record in self.store.scan::<StreamRecord>()? {
            let directory = self.directory(&record.id);
            let Some(ended_ms) = record.ended_ms.filter(|_| record.outcome.is_some()) else {
                running += size(&directory.join("recording"));
                continue;
            };
            let (preview, recording) = self
                .sizes
                .remove(&record.id)
                .unwrap_or_else(|| (size(&directory.join("hls")), size(&directory.join("recording"))));
            known.insert(record.id.clone(), (preview, recording));
            over.push(Over { stream: record.id, ended_ms, preview, recording });
        }
        self.sizes = known;
        let disk = Disk::of(&self.config.data_dir);
        for removal in plan::plan(&self.config.retention, unix_ms(), disk, running, &over) {
            match removal {
                Removal::Preview(stream) => {
                    self.delete(&stream, "hls");
                }
                Removal::Recording(stream, cause) => {
                    let bytes = self.sizes.get(&stream).map_or(0, |sizes| sizes.1);
                    if self.delete(&stream, "recording") {
                        let text = format!("recording deleted ({} MB): {}", bytes / 1_000_000, cause.as_str());
                        tracing::warn!(%stream, bytes, ?cause, "recording deleted");
                        self.note(&stream, text)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, stream: &StreamId, what: &str) -> bool {
        self.sizes.remove(stream);
        match fs::remove_dir_all(self.directory(stream).join(what)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(%stream, what, %error, "cannot delete what a stream left");
                false
            }
        }
    }

    fn note(&self, stream: &StreamId, text: String) -> Result<(), StoreError> {
        let Some(mut record) = self.store.get::<StreamRecord>(stream.as_str())? else { return Ok(()) };
        record.note(unix_ms(), Severity::Warning, text);
        self.store.commit_blocking(Batch::new().put(&record))
    }

    fn directory(&self, stream: &StreamId) -> PathBuf {
        self.config.data_dir.join("streams").join(stream.as_str())
    }
}

/// Bytes of the files of a directory; 0 where there is none.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// What operators must know of the disk, on every page: class and sentence. `None` while it is fine.
pub fn disk_notice(config: &Config) -> Option<(&'static str, String)> {
    let disk = Disk::of(&config.data_dir)?;
    let (place, left) = (config.data_dir.display(), disk.free / 1_000_000);
    if disk.free < STORE_ROOM {
        let text = format!(
            "The disk of {place} is full: nothing is recorded and no change can be kept. Live outputs go on. Free some space; the \
             rest goes on by itself then."
        );
        return Some(("bad", text));
    }
    if disk.free < disk.reserve() {
        let text = format!(
            "The disk of {place} is nearly full ({left} MB left): recordings stand still, live outputs go on. Free some space; \
             recording goes on by itself then."
        );
        return Some(("bad", text));
    }
    (disk.free < plan::floor(&config.retention, disk)).then(|| {
        let text = format!(
            "The disk of {place} is filling up ({left} MB left): the oldest recordings are being deleted. Copy away what you need."
        );
        ("warn", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_recording_goes_with_a_note_and_a_running_stream_keeps_everything() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let mut config = Config { data_dir: directory.path().to_owned(), ..Config::default() };
        config.retention.recording_days = 1;
        for (id, ended) in [("s-1", Some(1)), ("s-2", None), ("s-3", Some(unix_ms()))] {
            store.commit_blocking(Batch::new().put(&StreamRecord::example(id, ended))).unwrap();
            for what in ["hls", "recording"] {
                let place = directory.path().join("streams").join(id).join(what);
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join("file.ts"), [0x47; 188]).unwrap();
            }
        }
        let stranger = directory.path().join("streams/s-unknown/recording");
        fs::create_dir_all(&stranger).unwrap();
        let mut keeper = Keeper::new(Arc::new(config), store.clone());
        keeper.look().unwrap();
        keeper.look().unwrap();
        let there = |path: &str| directory.path().join("streams").join(path).exists();
        assert_eq!([there("s-1/hls"), there("s-1/recording")], [false, false]);
        assert_eq!([there("s-2/hls"), there("s-2/recording")], [true, true], "it runs");
        assert_eq!([there("s-3/hls"), there("s-3/recording")], [true, true], "it is young");
        assert!(stranger.exists());
        let timeline = store.get::<StreamRecord>("s-1").unwrap().unwrap().timeline;
        assert_eq!(timeline.len(), 1, "told once: {timeline:?}");
        assert!(timeline[0].text.starts_with("recording deleted") && timeline[0].text.contains("recording_days"));
    }
}
