//! The ledger on disk: a tree of the agent's database, by command id. Ids are UUIDv7, so their order is that of age.

use super::ledger::{COMMANDS_MAX, Entry};
use uuid::Uuid;

/// Where outcomes are kept.
#[derive(Debug)]
pub struct LedgerStore {
    db: sled::Db,
    tree: sled::Tree,
}

impl LedgerStore {
    /// The ledger in `db`.
    ///
    /// # Errors
    /// The database failed.
    pub fn open(db: &sled::Db) -> Result<Self, sled::Error> {
        Ok(Self { db: db.clone(), tree: db.open_tree("commands")? })
    }

    /// What was kept, oldest first, at most [`COMMANDS_MAX`]; entries that cannot be read are left out.
    pub fn load(&self) -> Vec<Entry> {
        let newest = self.tree.iter().rev().flatten().take(COMMANDS_MAX);
        let mut entries: Vec<Entry> = newest.filter_map(|(_, value)| serde_json::from_slice(&value).ok()).collect();
        entries.reverse();
        entries
    }

    /// Keeps an outcome durably and forgets old ones.
    ///
    /// # Errors
    /// The database failed.
    pub fn keep(&self, entry: &Entry, forgotten: &[Uuid]) -> Result<(), sled::Error> {
        let value = serde_json::to_vec(entry).unwrap_or_default();
        self.tree.insert(entry.command.as_bytes(), value)?;
        for command in forgotten {
            self.tree.remove(command.as_bytes())?;
        }
        self.db.flush().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;
    use crate::mqtt::queue::open_database;
    use protocol::command::Outcome;

    #[test]
    fn outcomes_survive_a_restart_in_order_of_age() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue");
        let entry = |number, outcome| Entry { command: Uuid::from_u128(number), purpose: Purpose::Immediate, outcome };
        {
            let store = LedgerStore::open(&open_database(&path).unwrap()).unwrap();
            store.keep(&entry(2, Outcome::Accepted), &[]).unwrap();
            store.keep(&entry(1, Outcome::Done), &[]).unwrap();
            store.keep(&entry(2, Outcome::Expired), &[]).unwrap();
            store.keep(&entry(3, Outcome::Done), &[Uuid::from_u128(1)]).unwrap();
        }
        let store = LedgerStore::open(&open_database(&path).unwrap()).unwrap();
        assert_eq!(store.load(), [entry(2, Outcome::Expired), entry(3, Outcome::Done)]);
    }
}
