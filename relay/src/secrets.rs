//! Randomness, hashes of tokens, and sealing of secrets at rest.
//!
//! Sealing is ChaCha20-Poly1305 (RFC 8439) with a key in a file of its own, so that a copy of the database or of its
//! export gives away no stream key. The place of use is authenticated with the text: a sealed value moved to another
//! record does not open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of a random token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// What can go wrong with secrets.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Random,
    /// The sealing key cannot be read or written.
    #[error("cannot use the sealing key {}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sealing key has the wrong length.
    #[error("the sealing key {} has {got} bytes instead of {TOKEN_BYTES}; restore it from a backup", path.display())]
    KeyLength {
        /// Which file.
        path: PathBuf,
        /// Its length.
        got: usize,
    },
    /// A sealed value was changed, moved, or sealed with another key.
    #[error("a sealed value does not open; the sealing key is not the one it was sealed with, enter the secret again")]
    Sealed,
}

/// `N` random bytes.
///
/// # Errors
/// [`SecretsError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SecretsError::Random)?;
    Ok(bytes)
}

/// A fresh 256-bit token, base64url.
///
/// # Errors
/// [`SecretsError::Random`].
pub fn token() -> Result<Secret, SecretsError> {
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>()?)))
}

/// SHA-256 in hexadecimal: how tokens are kept, and fingerprints shown.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// A secret as it is kept at rest: base64url of nonce and ciphertext. `Debug` shows it, it gives nothing away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// Seals and opens secrets.
pub struct Sealer {
    key: LessSafeKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(hidden)")
    }
}

impl Sealer {
    /// Reads the key file, or makes it (mode 0600) when there is none.
    ///
    /// # Errors
    /// [`SecretsError`]: the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, SecretsError> {
        let fail = |source| SecretsError::KeyFile { path: path.to_owned(), source };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = random::<TOKEN_BYTES>()?;
                write_private(path, &bytes).map_err(fail)?;
                bytes.to_vec()
            }
            Err(error) => return Err(fail(error)),
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| SecretsError::KeyLength { path: path.to_owned(), got: bytes.len() })?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals `secret` for `place` ("destination/<id>/key").
    ///
    /// # Errors
    /// [`SecretsError::Random`].
    pub fn seal(&self, place: &str, secret: &Secret) -> Result<Sealed, SecretsError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut text = secret.reveal().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(|_| SecretsError::Random)?;
        Ok(Sealed(URL_SAFE_NO_PAD.encode([&nonce[..], &text].concat())))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// [`SecretsError::Sealed`].
    pub fn open_sealed(&self, place: &str, sealed: &Sealed) -> Result<Secret, SecretsError> {
        let mut bytes = URL_SAFE_NO_PAD.decode(&sealed.0).map_err(|_| SecretsError::Sealed)?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SecretsError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretsError::Sealed)?;
        let open = self.key.open_in_place(nonce, Aad::from(place), text).map_err(|_| SecretsError::Sealed)?;
        std::str::from_utf8(open).map(Secret::new).map_err(|_| SecretsError::Sealed)
    }
}

/// Writes `bytes` to a new file with mode 0600, whole or not at all.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let part = path.with_file_name(name);
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_in_its_place_and_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&directory.path().join("a.key")).unwrap();
        let sealed = sealer.seal("destination/d1/key", &Secret::new("open sesame")).unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains("sesame"));
        assert_eq!(sealer.open_sealed("destination/d1/key", &sealed).unwrap().reveal(), "open sesame");
        assert!(matches!(sealer.open_sealed("destination/d2/key", &sealed), Err(SecretsError::Sealed)));
        let again = Sealer::open(&directory.path().join("a.key")).unwrap();
        assert_eq!(again.open_sealed("destination/d1/key", &sealed).unwrap().reveal(), "open sesame");
        let other = Sealer::open(&directory.path().join("b.key")).unwrap();
        assert!(matches!(other.open_sealed("destination/d1/key", &sealed), Err(SecretsError::Sealed)));
        assert!(matches!(sealer.open_sealed("x", &Sealed("AAA".into())), Err(SecretsError::Sealed)));
    }

    #[test]
    fn a_key_file_is_private_and_a_short_one_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sealing.key");
        Sealer::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Sealer::open(&path), Err(SecretsError::KeyLength { got: 5, .. })));
    }
}
