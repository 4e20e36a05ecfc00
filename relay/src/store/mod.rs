//! The relay's records: `sled` behind a small interface, with a JSON export to rebuild it from.
//!
//! One tree holds all tables under prefixes (`device/van-7`), so that a [`Batch`] is atomic across tables. A value is one
//! version byte and JSON. [`Store::commit`] returns after `flush` **and** `fsync`: `sled` alone flushes with
//! `sync_file_range`, which guarantees nothing after a power cut. The export keeps two generations
//! ([`export`]); when the database does not open, it is set aside and rebuilt from the newest export that is whole. The same
//! when it opens but has forgotten: each commit carries a number, and a database behind its own export has lost some.
//!
//! Not for telemetry: this is for records that people make and that change a few times a minute.

mod export;
mod records;

pub use records::*;

use crate::disk::{Disk, STORE_ROOM};
use export::Entry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Memory for `sled`'s page cache, bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Key of the number of the last commit; before all tables, and of none.
const COMMIT_NUMBER_KEY: &[u8] = b"!commit";
/// Changes are exported at most this often.
const EXPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Exporting takes at most one part in so many of the time: it writes all records, and some change every few seconds.
const EXPORT_SHARE: u32 = 50;
/// Databases that did not open, kept for who wants to look; older ones are deleted.
const BROKEN_KEPT: usize = 2;

/// One kind of record.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// Prefix of its keys; no '/'.
    const TABLE: &'static str;
    /// Version of its JSON, written in front of it.
    const VERSION: u8 = 1;
    /// Its key within the table.
    fn key(&self) -> String;
}

/// What can go wrong with the store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A directory or file cannot be used.
    #[error("cannot use {} of the store", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No room for a change.
    #[error("the disk of {} is full ({} MB left), the change was not made; free some space and try again", directory.display(), left / 1_000_000)]
    DiskFull {
        /// Where.
        directory: PathBuf,
        /// What is left, in bytes.
        left: u64,
    },
    /// The database failed.
    #[error("the database failed to {operation}; check the disk")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: sled::Error,
    },
    /// The database does not open, and no export is whole.
    #[error("the database does not open and no export in {} can be read; restore a backup of that directory", directory.display())]
    NothingWhole {
        /// Where they were looked for.
        directory: PathBuf,
    },
    /// A record was written by a newer relay.
    #[error("record {key} has version {got}, this relay reads up to {known}; run the newer relay")]
    Newer {
        /// Its key.
        key: String,
        /// Its version.
        got: u8,
        /// The newest known.
        known: u8,
    },
    /// A record is not what its table holds.
    #[error("record {key} cannot be read")]
    Malformed {
        /// Its key.
        key: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// The task that wrote was cancelled.
    #[error("the store is shutting down")]
    Cancelled,
}

/// Changes that happen together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<(String, Option<Vec<u8>>)>,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts or replaces a record.
    #[must_use]
    pub fn put<R: Record>(mut self, record: &R) -> Self {
        let mut value = vec![R::VERSION];
        serde_json::to_writer(&mut value, record).expect("records have string keys and no failing serializers");
        self.changes.push((full_key::<R>(&record.key()), Some(value)));
        self
    }

    /// Deletes a record.
    #[must_use]
    pub fn delete<R: Record>(mut self, key: &str) -> Self {
        self.changes.push((full_key::<R>(key), None));
        self
    }
}

fn full_key<R: Record>(key: &str) -> String {
    format!("{}/{key}", R::TABLE)
}

/// The open store; clone it freely.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: sled::Db,
    /// `sled`'s log file, for `fsync`.
    file: File,
    directory: PathBuf,
    changed: AtomicBool,
    /// Number of the last commit. One commit at a time, so that numbers only grow.
    commit: Mutex<u64>,
}

impl Store {
    /// Opens `directory`, and rebuilds the database from its export when it does not open.
    ///
    /// # Errors
    /// [`StoreError`]: the disk's, or nothing is whole.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::File { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let path = directory.join("sled");
        let existed = path.exists();
        let db = match open_sled(&path) {
            Ok(db) => match forgotten(directory, &db)? {
                None => db,
                Some(cause) => {
                    drop(db);
                    rebuild(directory, &path, &cause)?
                }
            },
            // A running relay holds the lock: its database is fine and must not be set aside.
            Err(Broken::Failed(error)) if is_locked(&error) => {
                return Err(StoreError::Database { operation: "open: another process uses it", source: error });
            }
            Err(broken) if existed => rebuild(directory, &path, &broken.to_string())?,
            Err(Broken::Failed(source)) => return Err(StoreError::Database { operation: "open", source }),
            Err(Broken::Panicked) => return Err(StoreError::NothingWhole { directory: directory.to_owned() }),
        };
        let log = path.join("db");
        let file = File::open(&log).map_err(|source| StoreError::File { path: log, source })?;
        let commit = Mutex::new(commit_number(&db)?);
        let inner = Inner { db, file, directory: directory.to_owned(), changed: AtomicBool::new(true), commit };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One record.
    ///
    /// # Errors
    /// [`StoreError`]: the record cannot be read.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let key = full_key::<R>(key);
        let value = self.inner.db.get(&key).map_err(|source| StoreError::Database { operation: "read", source })?;
        value.map(|value| parse(&key, &value)).transpose()
    }

    /// All records of a table, by key.
    ///
    /// # Errors
    /// [`StoreError`]: a record cannot be read.
    pub fn scan<R: Record>(&self) -> Result<Vec<R>, StoreError> {
        let mut records = Vec::new();
        for pair in self.inner.db.scan_prefix(full_key::<R>("")) {
            let (key, value) = pair.map_err(|source| StoreError::Database { operation: "read", source })?;
            records.push(parse(&String::from_utf8_lossy(&key), &value)?);
        }
        Ok(records)
    }

    /// Carries out `batch`; afterwards it survives a power cut. Blocks for the disk.
    ///
    /// # Errors
    /// [`StoreError`]: the change may or may not have happened.
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.check_room()?;
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key.as_bytes(), value),
                None => changes.remove(key.as_bytes()),
            }
        }
        let Inner { db, file, directory, changed, commit } = &*self.inner;
        let mut number = commit.lock().unwrap_or_else(PoisonError::into_inner);
        changes.insert(COMMIT_NUMBER_KEY, &(*number + 1).to_be_bytes());
        db.apply_batch(changes).map_err(|source| StoreError::Database { operation: "write", source })?;
        db.flush().map_err(|source| StoreError::Database { operation: "flush", source })?;
        file.sync_all().map_err(|source| StoreError::File { path: directory.join("sled/db"), source })?;
        *number += 1;
        changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Before `sled` is touched: what it makes of a disk that is full to the last byte is not worth finding out.
    fn check_room(&self) -> Result<(), StoreError> {
        let directory = &self.inner.directory;
        match Disk::of(directory) {
            Some(disk) if disk.free < STORE_ROOM => {
                Err(StoreError::DiskFull { directory: directory.clone(), left: disk.free })
            }
            _ => Ok(()),
        }
    }

    /// [`Self::commit_blocking`] off the async threads.
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.commit_blocking(batch)).await.map_err(|_| StoreError::Cancelled)?
    }

    /// Writes the export when something changed since the last one.
    ///
    /// # Errors
    /// [`StoreError`]: the disk's.
    pub fn export_blocking(&self) -> Result<(), StoreError> {
        self.check_room()?;
        if !self.inner.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome =
            self.entries().and_then(|(number, entries)| export::write(&self.inner.directory, number, &entries));
        if outcome.is_err() {
            self.inner.changed.store(true, Ordering::Release);
        }
        outcome
    }

    /// All records, and the number of the last commit in them.
    fn entries(&self) -> Result<(u64, Vec<Entry>), StoreError> {
        let number = self.inner.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for pair in self.inner.db.iter() {
            let (key, value) = pair.map_err(|source| StoreError::Database { operation: "read", source })?;
            if key != COMMIT_NUMBER_KEY {
                entries.push(Entry::new(&key, &value)?);
            }
        }
        Ok((*number, entries))
    }

    /// Keeps the export fresh until `shutdown`, and writes it a last time then.
    pub async fn keep_exported(self, mut shutdown: daemon::shutdown::Shutdown) {
        let mut told = false;
        let mut pause = EXPORT_INTERVAL;
        loop {
            let ended = tokio::select! {
                () = shutdown.wait() => true,
                () = tokio::time::sleep(pause) => false,
            };
            let (store, began) = (self.clone(), Instant::now());
            let outcome = tokio::task::spawn_blocking(move || store.export_blocking()).await;
            // A large store is written less often.
            pause = EXPORT_INTERVAL.max(began.elapsed() * EXPORT_SHARE);
            match outcome {
                Ok(Err(error)) if !told => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot export the store; it is tried again"
                    );
                    told = true;
                }
                Ok(Ok(())) => told = false,
                _ => {}
            }
            if ended {
                return;
            }
        }
    }
}

fn parse<R: Record>(key: &str, value: &[u8]) -> Result<R, StoreError> {
    let (version, json) = value.split_first().unwrap_or((&0, &[]));
    if *version > R::VERSION {
        return Err(StoreError::Newer { key: key.to_owned(), got: *version, known: R::VERSION });
    }
    serde_json::from_slice(json).map_err(|source| StoreError::Malformed { key: key.to_owned(), source })
}

#[derive(Debug, Error)]
enum Broken {
    #[error("it does not open: {0}")]
    Failed(sled::Error),
    #[error("it does not open: it panicked")]
    Panicked,
}

fn commit_number(db: &sled::Db) -> Result<u64, StoreError> {
    let value = db.get(COMMIT_NUMBER_KEY).map_err(|source| StoreError::Database { operation: "read", source })?;
    Ok(value.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// Whether the database lacks commits that its export has; why it is not to be used, then.
fn forgotten(directory: &Path, db: &sled::Db) -> Result<Option<String>, StoreError> {
    let has = commit_number(db)?;
    let exported = export::read(directory).map_or(0, |export| export.commit);
    Ok((has < exported).then(|| format!("it ends at commit {has}, its export at {exported}")))
}

fn open_sled(path: &Path) -> Result<sled::Db, Broken> {
    let config = sled::Config::default().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(Broken::Failed(error)),
        Err(_) => Err(Broken::Panicked),
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("lock"))
}

fn rebuild(directory: &Path, path: &Path, cause: &str) -> Result<sled::Db, StoreError> {
    tracing::error!(cause, "the database is not whole, rebuilding it from its export");
    let export = export::read(directory).ok_or_else(|| StoreError::NothingWhole { directory: directory.to_owned() })?;
    let aside = directory.join(format!("sled.broken-{}", crate::clock::unix_ms()));
    fs::rename(path, &aside).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    forget_broken(directory);
    let db = match open_sled(path) {
        Ok(db) => db,
        Err(Broken::Failed(source)) => return Err(StoreError::Database { operation: "open afresh", source }),
        Err(Broken::Panicked) => return Err(StoreError::NothingWhole { directory: directory.to_owned() }),
    };
    let mut batch = sled::Batch::default();
    batch.insert(COMMIT_NUMBER_KEY, &export.commit.to_be_bytes());
    for entry in export.entries {
        batch.insert(entry.key.as_bytes(), entry.value());
    }
    db.apply_batch(batch).map_err(|source| StoreError::Database { operation: "rebuild", source })?;
    db.flush().map_err(|source| StoreError::Database { operation: "flush", source })?;
    Ok(db)
}

/// Deletes all but the newest databases that were set aside.
fn forget_broken(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_broken =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"sled.broken-"));
    let mut broken: Vec<PathBuf> = entries.filter(of_broken).collect();
    // The names end in the time, and have the same length for the next two centuries.
    broken.sort();
    for old in broken.iter().rev().skip(BROKEN_KEPT) {
        if let Err(error) = fs::remove_dir_all(old) {
            tracing::warn!(path = %old.display(), %error, "cannot delete a broken database");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        id: String,
        text: String,
    }

    impl Record for Note {
        const TABLE: &'static str = "note";
        fn key(&self) -> String {
            self.id.clone()
        }
    }

    fn note(id: &str, text: &str) -> Note {
        Note { id: id.to_owned(), text: text.to_owned() }
    }

    /// Makes `sled` fail to open: its log cannot be read as a file.
    fn break_database(directory: &Path) {
        fs::remove_file(directory.join("sled/db")).unwrap();
        fs::create_dir(directory.join("sled/db")).unwrap();
    }

    #[test]
    fn a_database_that_opens_but_has_forgotten_is_rebuilt_too() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.commit_blocking(Batch::new().put(&note("a", "one"))).unwrap();
        store.commit_blocking(Batch::new().put(&note("b", "two"))).unwrap();
        store.export_blocking().unwrap();
        drop(store);
        // An emptied log is what a recycled segment looks like after a power cut: sled opens it without complaint.
        fs::write(directory.path().join("sled/db"), b"").unwrap();
        for entry in fs::read_dir(directory.path().join("sled")).unwrap().filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with("snap.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.scan::<Note>().unwrap(), [note("a", "one"), note("b", "two")]);
        store.commit_blocking(Batch::new().put(&note("c", "three"))).unwrap();
        drop(store);
        assert_eq!(Store::open(directory.path()).unwrap().scan::<Note>().unwrap().len(), 3, "numbers go on");
    }

    #[test]
    fn records_are_kept_over_a_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.commit_blocking(Batch::new().put(&note("a", "one")).put(&note("b", "two"))).unwrap();
        store.commit_blocking(Batch::new().delete::<Note>("a").put(&note("c", "three"))).unwrap();
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.scan::<Note>().unwrap(), [note("b", "two"), note("c", "three")]);
        assert_eq!(store.get::<Note>("a").unwrap(), None);
    }

    #[test]
    fn a_broken_database_is_set_aside_and_rebuilt_from_the_export() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for i in 0..50 {
            store.commit_blocking(Batch::new().put(&note(&format!("{i:02}"), "text"))).unwrap();
        }
        store.export_blocking().unwrap();
        drop(store);
        break_database(directory.path());
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.scan::<Note>().unwrap().len(), 50);
        assert_eq!(store.get::<Note>("49").unwrap(), Some(note("49", "text")));
        let aside = fs::read_dir(directory.path()).unwrap().filter_map(Result::ok);
        assert_eq!(aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("sled.broken-")).count(), 1);
    }

    #[test]
    fn a_torn_newest_export_falls_back_to_the_generation_before() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.commit_blocking(Batch::new().put(&note("a", "old"))).unwrap();
        store.export_blocking().unwrap();
        store.commit_blocking(Batch::new().put(&note("a", "new"))).unwrap();
        store.export_blocking().unwrap();
        drop(store);
        let newest = directory.path().join("export.json");
        let text = fs::read_to_string(&newest).unwrap();
        fs::write(&newest, &text[..text.len() / 2]).unwrap();
        break_database(directory.path());
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.get::<Note>("a").unwrap(), Some(note("a", "old")));
    }

    #[test]
    fn with_no_whole_export_nothing_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path()).unwrap());
        break_database(directory.path());
        assert!(matches!(Store::open(directory.path()), Err(StoreError::NothingWhole { .. })));
        assert!(directory.path().join("sled").exists());
    }

    #[test]
    fn a_second_opener_is_refused_and_harms_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.commit_blocking(Batch::new().put(&note("a", "one"))).unwrap();
        store.export_blocking().unwrap();
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Database { .. })));
        assert_eq!(store.get::<Note>("a").unwrap(), Some(note("a", "one")));
    }

    #[test]
    fn a_record_of_a_newer_relay_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.inner.db.insert(b"note/a", b"\x02{}").unwrap();
        assert!(matches!(store.get::<Note>("a"), Err(StoreError::Newer { got: 2, known: 1, .. })));
    }
}
