//! What became of each command, by its id: an order seen again is answered again and not carried out again.

use protocol::command::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use units::StreamId;
use uuid::Uuid;

/// Most commands remembered; the oldest is forgotten first. A relay repeats a command for minutes at most.
pub const COMMANDS_MAX: usize = 256;

/// What a command wants, as far as its end is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "kebab-case")]
pub enum Purpose {
    /// Final when the stream is being sent, or failed.
    Start {
        /// Which stream.
        stream: StreamId,
    },
    /// Final when the stream has ended.
    Stop {
        /// Which stream.
        stream: StreamId,
    },
    /// Final at once.
    Immediate,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub command: Uuid,
    /// What it wants.
    pub purpose: Purpose,
    /// How it stands.
    pub outcome: Outcome,
}

/// All commands remembered, at most [`COMMANDS_MAX`].
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Uuid, Entry>,
    /// Oldest first.
    order: VecDeque<Uuid>,
}

impl Ledger {
    /// A ledger with what was kept on disk, oldest first.
    pub fn new(kept: Vec<Entry>) -> Self {
        let mut ledger = Self::default();
        for entry in kept {
            ledger.record(entry);
        }
        ledger
    }

    /// How a command stands, if it was seen.
    pub fn outcome(&self, command: Uuid) -> Option<&Outcome> {
        self.entries.get(&command).map(|entry| &entry.outcome)
    }

    /// Takes note of a command or of its new outcome; gives the ids that had to be forgotten.
    pub fn record(&mut self, entry: Entry) -> Vec<Uuid> {
        let command = entry.command;
        if self.entries.insert(command, entry).is_none() {
            self.order.push_back(command);
        }
        let mut forgotten = Vec::new();
        while self.order.len() > COMMANDS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
            forgotten.push(oldest);
        }
        forgotten
    }

    /// Commands that were accepted and have no final outcome, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|command| self.entries.get(command)).filter(|entry| !entry.outcome.is_final())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u128, outcome: Outcome) -> Entry {
        Entry { command: Uuid::from_u128(number), purpose: Purpose::Immediate, outcome }
    }

    #[test]
    fn a_later_outcome_replaces_the_earlier_and_keeps_the_age() {
        let mut ledger = Ledger::default();
        ledger.record(entry(1, Outcome::Accepted));
        ledger.record(entry(2, Outcome::Accepted));
        ledger.record(entry(1, Outcome::Done));
        assert_eq!(ledger.outcome(Uuid::from_u128(1)), Some(&Outcome::Done));
        assert_eq!(ledger.pending().map(|entry| entry.command.as_u128()).collect::<Vec<_>>(), [2]);
        assert_eq!(ledger.outcome(Uuid::from_u128(3)), None);
    }

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let mut ledger = Ledger::default();
        for number in 0..COMMANDS_MAX as u128 {
            assert!(ledger.record(entry(number, Outcome::Done)).is_empty());
        }
        assert_eq!(ledger.record(entry(1000, Outcome::Done)), [Uuid::from_u128(0)]);
        assert_eq!(ledger.outcome(Uuid::from_u128(0)), None);
        assert_eq!(ledger.outcome(Uuid::from_u128(1)), Some(&Outcome::Done));
    }
}
