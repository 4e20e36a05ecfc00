//! What must reach the relay, oldest first, on disk until the relay acknowledged it.

use protocol::topic::Leaf;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Most messages kept; one more pushes out the oldest.
pub const QUEUE_MESSAGES_MAX: usize = 1000;

/// Why the queue did not keep or give a message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The database failed.
    #[error("the offline queue cannot be written or read")]
    Storage(#[from] sled::Error),
}

/// Number of a message, growing with age.
pub type MessageNumber = u64;

/// The queue in a tree of the agent's database.
#[derive(Debug, Clone)]
pub struct OfflineQueue {
    db: sled::Db,
    tree: sled::Tree,
    /// Number of the next message: never given twice while the agent runs, also when the queue was empty in between.
    next_number: Arc<AtomicU64>,
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub number: MessageNumber,
    /// Where it goes.
    pub leaf: Leaf,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl OfflineQueue {
    /// The queue in `db`.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn open(db: &sled::Db) -> Result<Self, QueueError> {
        let tree = db.open_tree("outgoing")?;
        let next = tree.last()?.map_or(0, |(key, _)| number(&key) + 1);
        Ok(Self { db: db.clone(), tree, next_number: Arc::new(AtomicU64::new(next)) })
    }

    /// Adds a message and makes it durable; says how many old ones had to go.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn push(&self, leaf: Leaf, payload: &[u8]) -> Result<usize, QueueError> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let mut value = Vec::with_capacity(payload.len() + 1);
        value.push(leaf_code(leaf));
        value.extend_from_slice(payload);
        self.tree.insert(number.to_be_bytes(), value)?;
        let mut dropped = 0;
        while self.tree.len() > QUEUE_MESSAGES_MAX && self.tree.pop_min()?.is_some() {
            dropped += 1;
        }
        self.db.flush()?;
        Ok(dropped)
    }

    /// The oldest message after `after`.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn next(&self, after: Option<MessageNumber>) -> Result<Option<Queued>, QueueError> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        for entry in self.tree.range(from.to_be_bytes()..) {
            let (key, value) = entry?;
            let leaf = value.first().and_then(|code| leaf_of(*code));
            let Some(leaf) = leaf else {
                self.tree.remove(&key)?; // written by a build that knows more leaves
                continue;
            };
            return Ok(Some(Queued { number: number(&key), leaf, payload: value[1..].to_vec() }));
        }
        Ok(None)
    }

    /// Forgets an acknowledged message.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn remove(&self, number: MessageNumber) -> Result<(), QueueError> {
        // Not flushed: a message sent twice is harmless, reports and events carry their id.
        self.tree.remove(number.to_be_bytes())?;
        Ok(())
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
}

fn number(key: &[u8]) -> MessageNumber {
    key.try_into().map_or(0, u64::from_be_bytes)
}

const fn leaf_code(leaf: Leaf) -> u8 {
    match leaf {
        Leaf::CommandResult => 1,
        Leaf::Event => 2,
        Leaf::State | Leaf::Presence | Leaf::Telemetry | Leaf::Command | Leaf::Notice => 0,
    }
}

const fn leaf_of(code: u8) -> Option<Leaf> {
    match code {
        1 => Some(Leaf::CommandResult),
        2 => Some(Leaf::Event),
        _ => None,
    }
}

/// Opens the agent's database; a damaged one is set aside and a new one begun, because a device must go live with a lost queue.
/// One that cannot be opened because the disk is full or may not be written is left as it is.
///
/// # Errors
/// [`QueueError`]: not even a new one could be made; [`memory_database`] serves meanwhile.
pub fn open_database(path: &Path) -> Result<sled::Db, QueueError> {
    match try_open(path) {
        Some(Ok(db)) => return Ok(db),
        Some(Err(error)) if is_storage_fault(&error) => return Err(error.into()),
        Some(Err(error)) => tracing::warn!(%error, "database does not open"),
        None => {}
    }
    let aside = path.with_extension("damaged");
    let removed = std::fs::remove_dir_all(&aside);
    let moved = std::fs::rename(path, &aside);
    tracing::error!(aside = %aside.display(), ?removed, ?moved, "database does not open, set aside and begun anew");
    Ok(configuration(path).open()?)
}

/// A database that ends with the process, in shared memory.
///
/// # Errors
/// [`QueueError`]: there is no shared memory either.
pub fn memory_database() -> Result<sled::Db, QueueError> {
    Ok(sled::Config::new()
        .temporary(true)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(1 << 20)
        .flush_every_ms(None)
        .open()?)
}

/// The disk's fault, which passes; not the content's.
fn is_storage_fault(error: &sled::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    matches!(error, sled::Error::Io(error) if matches!(error.kind(), StorageFull | ReadOnlyFilesystem | PermissionDenied))
}

/// sled may panic on damage instead of returning an error: then `None`.
fn try_open(path: &Path) -> Option<Result<sled::Db, sled::Error>> {
    std::panic::catch_unwind(|| configuration(path).open()).ok()
}

fn configuration(path: &Path) -> sled::Config {
    sled::Config::new().path(path).mode(sled::Mode::LowSpace).cache_capacity(1 << 20).flush_every_ms(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_in_order_after_a_restart_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        {
            let queue = OfflineQueue::open(&open_database(&path).unwrap()).unwrap();
            queue.push(Leaf::Event, b"one").unwrap();
            queue.push(Leaf::CommandResult, b"two").unwrap();
        }
        let queue = OfflineQueue::open(&open_database(&path).unwrap()).unwrap();
        let first = queue.next(None).unwrap().unwrap();
        assert_eq!((first.leaf, first.payload.as_slice()), (Leaf::Event, &b"one"[..]));
        let second = queue.next(Some(first.number)).unwrap().unwrap();
        assert_eq!((second.leaf, second.payload.as_slice()), (Leaf::CommandResult, &b"two"[..]));
        assert_eq!(queue.next(Some(second.number)).unwrap(), None);
        queue.remove(first.number).unwrap();
        assert_eq!(queue.next(None).unwrap(), Some(second));
    }

    #[test]
    fn numbers_grow_also_when_the_queue_was_empty_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let queue = OfflineQueue::open(&open_database(&folder.path().join("queue")).unwrap()).unwrap();
        queue.push(Leaf::Event, b"one").unwrap();
        let first = queue.next(None).unwrap().unwrap();
        queue.remove(first.number).unwrap();
        queue.push(Leaf::Event, b"two").unwrap();
        assert_eq!(queue.next(Some(first.number)).unwrap().unwrap().payload, b"two");
    }

    #[test]
    fn at_the_bound_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let queue = OfflineQueue::open(&open_database(&folder.path().join("queue")).unwrap()).unwrap();
        for index in 0..QUEUE_MESSAGES_MAX + 3 {
            let dropped = queue.push(Leaf::Event, index.to_string().as_bytes()).unwrap();
            assert_eq!(dropped, usize::from(index >= QUEUE_MESSAGES_MAX));
        }
        assert_eq!(queue.len(), QUEUE_MESSAGES_MAX);
        assert_eq!(queue.next(None).unwrap().unwrap().payload, b"3");
    }

    #[test]
    fn a_database_that_does_not_open_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        std::fs::write(&path, "no directory").unwrap();
        let queue = OfflineQueue::open(&open_database(&path).unwrap()).unwrap();
        queue.push(Leaf::Event, b"one").unwrap();
        assert!(folder.path().join("queue.damaged").exists());
    }
}
