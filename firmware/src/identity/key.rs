//! The device's private key.

use super::{FILE_BYTES_MAX, IdentityError};
use crate::data_dir::{read_file, replace_file};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// An ECDSA P-256 key, made on the device at first boot. `Debug` hides it.
pub struct DeviceKey(KeyPair);

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(hidden)")
    }
}

impl DeviceKey {
    /// Reads `device.key` in `folder`, or makes it.
    ///
    /// # Errors
    /// [`IdentityError`]: the file is damaged or cannot be written.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join("device.key");
        let fail = |source| IdentityError::Key { path: path.clone(), source };
        if let Some(content) = read_file(&path, FILE_BYTES_MAX)?.map(Zeroizing::new) {
            let pem = std::str::from_utf8(&content).unwrap_or_default();
            return KeyPair::from_pem(pem).map(Self).map_err(fail);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        replace_file(&path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        Ok(Self(key))
    }

    /// A certificate request (PKCS#10, PEM) signed by this key; the relay gives the name.
    ///
    /// # Errors
    /// The request cannot be built: a defect of this build.
    pub fn request_pem(&self) -> Result<String, rcgen::Error> {
        CertificateParams::new(Vec::new())?.serialize_request(&self.0)?.pem()
    }

    /// The public key's bits.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    /// The private key, PKCS#8 DER: for TLS and for deriving the sealing key, nothing else.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.0.serialized_der()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_kept_private_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let key = DeviceKey::load_or_create(folder.path()).unwrap();
        let again = DeviceKey::load_or_create(folder.path()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        let mode = std::fs::metadata(folder.path().join("device.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(format!("{key:?}"), "DeviceKey(hidden)");
        assert!(key.request_pem().unwrap().contains("CERTIFICATE REQUEST"));
    }

    #[test]
    fn a_damaged_key_is_named_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("device.key"), "damage").unwrap();
        let error = DeviceKey::load_or_create(folder.path()).unwrap_err().to_string();
        assert!(error.contains("device.key"), "{error}");
        assert_eq!(std::fs::read(folder.path().join("device.key")).unwrap(), b"damage");
    }
}
