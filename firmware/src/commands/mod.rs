//! Commands: each carried out once, in time, and always answered.
//!
//! * [`clock`]: whether a command came too late, judged without a common clock.
//! * [`ledger`]: what became of each command, by its id.
//! * [`store`]: the ledger on disk.

pub mod clock;
pub mod ledger;
pub mod store;

pub use clock::DelayClock;
pub use ledger::{Entry, Ledger, Purpose};
pub use store::LedgerStore;

use protocol::EnvelopeError;
use protocol::command::{Outcome, Rejection};
use protocol::limits::TEXT_CHARS_MAX;

/// A rejection with its words cut to the protocol's limit.
pub fn rejected(reason: Rejection, detail: &str) -> Outcome {
    Outcome::Rejected { reason, detail: detail.chars().take(TEXT_CHARS_MAX).collect() }
}

/// The answer to a command that cannot be read.
pub fn unreadable(error: &EnvelopeError) -> Outcome {
    let reason = match error {
        EnvelopeError::Version { .. } => Rejection::UnknownVersion,
        EnvelopeError::Kind { .. } => Rejection::UnknownKind,
        _ => Rejection::Malformed,
    };
    match std::error::Error::source(error) {
        Some(cause) => rejected(reason, &format!("{error}: {cause}")),
        None => rejected(reason, &error.to_string()),
    }
}
