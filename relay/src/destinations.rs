//! Where streams are sent on to: checked, with keys sealed and never shown again.

use crate::clock::unix_ms;
use crate::secrets::{Sealer, SecretsError};
use crate::sessions::destination_place;
use crate::store::{Batch, DestinationKind, DestinationRecord, Store, StoreError};
use protocol::Secret;
use thiserror::Error;
use uuid::Uuid;

/// Most destinations.
pub const DESTINATIONS_MAX: usize = 500;
/// Longest name, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest URL, bytes.
pub const URL_BYTES_MAX: usize = 1024;
/// Longest key, bytes.
pub const SECRET_BYTES_MAX: usize = 1024;
/// Pass phrases of SRT have 10 to 79 characters (libsrt, `SRTO_PASSPHRASE`).
const SRT_PASSPHRASE_CHARS: std::ops::RangeInclusive<usize> = 10..=79;

/// Why a destination is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The name.
    #[error("a destination's name has 1 to {NAME_CHARS_MAX} characters")]
    Name,
    /// The URL's scheme.
    #[error("the address of an {kind} destination begins with {expected}")]
    Scheme {
        /// The kind.
        kind: &'static str,
        /// What it begins with.
        expected: &'static str,
    },
    /// The URL has no host, or characters that have no place in it.
    #[error("the address has no host, or blanks in it; it has the form {expected}")]
    Address {
        /// The form.
        expected: &'static str,
    },
    /// A user name or password in the URL.
    #[error("leave user names and keys out of the address: enter them as the key, which is kept sealed")]
    KeyInAddress,
    /// The SRT pass phrase's length.
    #[error("an SRT pass phrase has 10 to 79 characters")]
    Passphrase,
    /// The key's length.
    #[error("the key is longer than {SECRET_BYTES_MAX} bytes")]
    SecretLength,
    /// RTMP without key.
    #[error("an RTMP destination needs its stream key")]
    NoKey,
    /// Too many.
    #[error("{DESTINATIONS_MAX} destinations are kept; delete one first")]
    TooMany,
    /// No such destination.
    #[error("there is no destination {id}")]
    NotFound {
        /// As given.
        id: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error("the key cannot be sealed")]
    Secrets(#[from] SecretsError),
}

/// A destination as entered.
#[derive(Debug, Clone)]
pub struct NewDestination {
    /// What people call it.
    pub name: String,
    /// Protocol.
    pub kind: DestinationKind,
    /// Address.
    pub url: String,
    /// Stream key or pass phrase; may be empty for SRT.
    pub secret: Secret,
}

impl NewDestination {
    fn check(&self) -> Result<(), DestinationError> {
        let length = self.name.trim().chars().count();
        if length == 0 || length > NAME_CHARS_MAX || self.name.chars().any(char::is_control) {
            return Err(DestinationError::Name);
        }
        let (kind, schemes, expected): (_, &[&str], _) = match self.kind {
            DestinationKind::Rtmp => ("RTMP", &["rtmp://", "rtmps://"], "rtmp://host/app"),
            DestinationKind::Srt => ("SRT", &["srt://"], "srt://host:port"),
        };
        let rest = schemes.iter().find_map(|scheme| self.url.strip_prefix(scheme));
        let rest = rest.ok_or(DestinationError::Scheme { kind, expected })?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') || rest.to_ascii_lowercase().contains("passphrase=") {
            return Err(DestinationError::KeyInAddress);
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#';
        if authority.is_empty() || self.url.len() > URL_BYTES_MAX || self.url.contains(odd) {
            return Err(DestinationError::Address { expected });
        }
        let secret = self.secret.reveal();
        match self.kind {
            _ if secret.len() > SECRET_BYTES_MAX => Err(DestinationError::SecretLength),
            DestinationKind::Rtmp if secret.is_empty() => Err(DestinationError::NoKey),
            DestinationKind::Srt if !secret.is_empty() && !SRT_PASSPHRASE_CHARS.contains(&secret.chars().count()) => {
                Err(DestinationError::Passphrase)
            }
            _ => Ok(()),
        }
    }
}

/// Keeps a destination.
///
/// # Errors
/// [`DestinationError`].
pub async fn add(store: &Store, sealer: &Sealer, new: NewDestination) -> Result<DestinationRecord, DestinationError> {
    let new = NewDestination { url: new.url.trim().to_owned(), ..new };
    new.check()?;
    if store.scan::<DestinationRecord>()?.len() >= DESTINATIONS_MAX {
        return Err(DestinationError::TooMany);
    }
    let id = Uuid::now_v7().to_string();
    let secret = (!new.secret.is_empty()).then(|| sealer.seal(&destination_place(&id), &new.secret)).transpose()?;
    let name = new.name.trim().to_owned();
    let record = DestinationRecord { id, name, kind: new.kind, url: new.url, secret, created_ms: unix_ms() };
    store.commit(Batch::new().put(&record)).await?;
    Ok(record)
}

/// Forgets a destination. Streams that run keep sending to it.
///
/// # Errors
/// [`DestinationError`].
pub async fn delete(store: &Store, id: &str) -> Result<DestinationRecord, DestinationError> {
    let record = store.get::<DestinationRecord>(id)?;
    let record = record.ok_or_else(|| DestinationError::NotFound { id: id.chars().take(64).collect() })?;
    store.commit(Batch::new().delete::<DestinationRecord>(id)).await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: DestinationKind, url: &str, secret: &str) -> NewDestination {
        NewDestination { name: "Main".to_owned(), kind, url: url.to_owned(), secret: Secret::new(secret) }
    }

    #[test]
    fn a_wrong_destination_is_named() {
        use DestinationKind::{Rtmp, Srt};
        assert!(new(Rtmp, "rtmps://a.example/live2", "k").check().is_ok());
        assert!(new(Srt, "srt://127.0.0.1:9000?latency=200", "").check().is_ok());
        assert!(matches!(new(Rtmp, "http://a", "k").check(), Err(DestinationError::Scheme { .. })));
        assert!(matches!(new(Rtmp, "rtmp:///app", "k").check(), Err(DestinationError::Address { .. })));
        assert!(matches!(new(Rtmp, "rtmp://a/b c", "k").check(), Err(DestinationError::Address { .. })));
        assert!(matches!(new(Rtmp, "rtmp://u:p@a/b", "k").check(), Err(DestinationError::KeyInAddress)));
        assert!(matches!(new(Srt, "srt://a:1?passphrase=x", "").check(), Err(DestinationError::KeyInAddress)));
        assert!(matches!(new(Rtmp, "rtmp://a/b", "").check(), Err(DestinationError::NoKey)));
        assert!(matches!(new(Srt, "srt://a:1", "short").check(), Err(DestinationError::Passphrase)));
    }

    #[tokio::test]
    async fn a_key_is_kept_sealed_and_leaves_with_its_destination() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let sealer = Sealer::open(&directory.path().join("key")).unwrap();
        let kept = add(&store, &sealer, new(DestinationKind::Rtmp, " rtmp://a/b ", "live_secret")).await.unwrap();
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("live_secret") && kept.url == "rtmp://a/b", "{text}");
        let open = sealer.open_sealed(&destination_place(&kept.id), kept.secret.as_ref().unwrap()).unwrap();
        assert_eq!(open.reveal(), "live_secret");
        delete(&store, &kept.id).await.unwrap();
        assert!(matches!(delete(&store, &kept.id).await, Err(DestinationError::NotFound { .. })));
    }
}
