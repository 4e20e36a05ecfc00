//! The running stream on disk, sealed.
//!
//! Why it is kept at all: a box that loses power in the field should go on by itself when power is back, and a restarted
//! agent must be able to restart a streamer that died meanwhile. The order holds the bond's pass phrase, so the record is
//! encrypted (AES-256-GCM) with a key derived from the device's private key (HKDF-SHA256), mode 0600, and removed the
//! moment the stream is stopped or given up. A copy of the file without the device's key is of no use.

use crate::data_dir::{StorageError, read_file, remove_file, replace_file};
use crate::identity::DeviceKey;
use protocol::stream::StreamSpec;
use protocol::worker::streamer::StreamerLink;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest record, bytes.
const RECORD_BYTES_MAX: u64 = 256 * 1024;
/// Names what the derived key is for, and the layout of the record.
const PURPOSE: &[u8] = b"strata stream record 1";

/// What is kept of a running stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The order.
    pub spec: StreamSpec,
    /// The links last given to the streamer.
    #[serde(default)]
    pub links: Vec<StreamerLink>,
}

/// What the record file held when the agent began.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum KeptRecord {
    /// Nothing.
    #[default]
    Nothing,
    /// This.
    Stream(Box<StreamRecord>),
    /// Something that cannot be read.
    Unreadable,
}

/// Why a record could not be kept or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file.
    #[error("the stream record cannot be stored or read")]
    Storage(#[from] StorageError),
    /// Sealed by another key, cut, or changed.
    #[error("the stream record is damaged or of another device; it is ignored")]
    Damaged,
    /// ring failed.
    #[error("the stream record cannot be sealed")]
    Seal,
}

/// The record file of this device.
pub struct RecordFile {
    path: PathBuf,
    key: LessSafeKey,
}

impl std::fmt::Debug for RecordFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RecordFile {
    /// The record at `path`, sealed for the holder of `key`.
    ///
    /// # Errors
    /// [`RecordError::Seal`]: a defect of this build.
    pub fn new(path: PathBuf, key: &DeviceKey) -> Result<Self, RecordError> {
        let secret = Salt::new(HKDF_SHA256, b"strata").extract(key.pkcs8());
        let derived = secret.expand(&[PURPOSE], &AES_256_GCM).map_err(|_| RecordError::Seal)?;
        Ok(Self { path, key: LessSafeKey::new(UnboundKey::from(derived)) })
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// [`RecordError`]: the old record is still whole then.
    pub fn save(&self, record: &StreamRecord) -> Result<(), RecordError> {
        let mut content = Zeroizing::new(serde_json::to_vec(record).map_err(|_| RecordError::Seal)?);
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| RecordError::Seal)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut content)
            .map_err(|_| RecordError::Seal)?;
        let sealed = [&nonce[..], &content[..], tag.as_ref()].concat();
        Ok(replace_file(&self.path, &sealed)?)
    }

    /// The record, if there is one.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] when it cannot be unsealed.
    pub fn load(&self) -> Result<Option<StreamRecord>, RecordError> {
        let Some(mut sealed) = read_file(&self.path, RECORD_BYTES_MAX)?.map(Zeroizing::new) else { return Ok(None) };
        if sealed.len() < NONCE_LEN {
            return Err(RecordError::Damaged);
        }
        let (nonce, content) = sealed.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| RecordError::Damaged)?;
        let plain = self.key.open_in_place(nonce, Aad::from(PURPOSE), content).map_err(|_| RecordError::Damaged)?;
        serde_json::from_slice(plain).map(Some).map_err(|_| RecordError::Damaged)
    }

    /// Removes the record.
    ///
    /// # Errors
    /// [`RecordError::Storage`].
    pub fn remove(&self) -> Result<(), RecordError> {
        Ok(remove_file(&self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Secret;
    use protocol::stream::{EncodingSpec, ReceiverAddress};

    fn record() -> StreamRecord {
        let spec = StreamSpec {
            stream: "stream-1".parse().unwrap(),
            receiver: ReceiverAddress { host: "127.0.0.1".to_owned(), port: 5000 },
            key: Secret::new("open sesame open sesame"),
            latency_ms: 1000,
            encoding: EncodingSpec::default(),
            input: None,
            outputs: vec!["YouTube".to_owned()],
        };
        StreamRecord { spec, links: Vec::new() }
    }

    #[test]
    fn a_record_is_readable_only_with_the_devices_key() {
        let folder = tempfile::tempdir().unwrap();
        let other_folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.sealed");
        let file = RecordFile::new(path.clone(), &DeviceKey::load_or_create(folder.path()).unwrap()).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.save(&record()).unwrap();
        assert_eq!(file.load().unwrap(), Some(record()));
        let raw = std::fs::read(&path).unwrap();
        for word in [&b"sesame"[..], b"YouTube", b"stream-1"] {
            assert!(!raw.windows(word.len()).any(|window| window == word), "the file shows its content");
        }
        let thief = RecordFile::new(path, &DeviceKey::load_or_create(other_folder.path()).unwrap()).unwrap();
        assert!(matches!(thief.load(), Err(RecordError::Damaged)));
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn a_damaged_or_cut_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.sealed");
        let file = RecordFile::new(path.clone(), &DeviceKey::load_or_create(folder.path()).unwrap()).unwrap();
        file.save(&record()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 5, NONCE_LEN, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(file.load(), Err(RecordError::Damaged)), "cut at {cut}");
        }
        let mut flipped = whole;
        flipped[20] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(matches!(file.load(), Err(RecordError::Damaged)));
    }
}
