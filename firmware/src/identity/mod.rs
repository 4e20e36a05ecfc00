//! Who this device is: its key, made here and never shown, and what the relay gave it at enrolment.
//!
//! Files, all mode 0600: `device.key` (PKCS#8, PEM), `device.pem` (certificate), `ca.pem` (the relay's CA), `device.json`
//! (id and broker address). `device.json` is written last: without it the device is not enrolled.

mod key;

pub use key::DeviceKey;

use crate::data_dir::{StorageError, read_file, replace_file};
use protocol::enrolment::EnrolResponse;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;
use units::DeviceId;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest file of the identity, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no usable identity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("the identity cannot be stored or read")]
    Storage(#[from] StorageError),
    /// The key cannot be made or used.
    #[error("the device key {} is unusable; remove it to make a new one and enrol again", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A file is missing or damaged.
    #[error("{} is missing or damaged; enrol again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The certificate is for another key or another device.
    #[error("the certificate does not belong to this device's {what}; enrol again")]
    Mismatch {
        /// What does not match.
        what: &'static str,
    },
    /// rustls cannot use certificate, key or CA.
    #[error("certificate, key or CA cannot be used; enrol again")]
    Unusable {
        /// Why.
        source: rustls::Error,
    },
}

/// `device.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceFile {
    device: DeviceId,
    broker_host: String,
    broker_port: u16,
}

/// An enrolled device.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id, the certificate's common name.
    pub device: DeviceId,
    /// Host of the relay's MQTT listener.
    pub broker_host: String,
    /// Its port.
    pub broker_port: u16,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
}

impl Identity {
    /// Reads the identity in `folder`; `None` when the device is not enrolled.
    ///
    /// # Errors
    /// [`IdentityError`]: enrolled, but something is damaged; the message says what to do.
    pub fn load(folder: &Path, key: &DeviceKey) -> Result<Option<Self>, IdentityError> {
        let path = folder.join("device.json");
        let Some(content) = read_file(&path, FILE_BYTES_MAX)? else { return Ok(None) };
        let file: DeviceFile = serde_json::from_slice(&content).map_err(|_| IdentityError::Damaged { path })?;
        let certificate = read_certificate(&folder.join("device.pem"))?;
        let ca = read_certificate(&folder.join("ca.pem"))?;
        Self::new(file, certificate, ca, key).map(Some)
    }

    /// Checks what the relay gave and keeps it in `folder`.
    ///
    /// # Errors
    /// [`IdentityError::Mismatch`] when the certificate is for another key or id than the answer says: the relay's fault;
    /// nothing is written then.
    pub fn install(folder: &Path, response: &EnrolResponse, key: &DeviceKey) -> Result<Self, IdentityError> {
        let parse = |pem: &str, name: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|_| IdentityError::Damaged { path: PathBuf::from(name) })
        };
        let certificate = parse(&response.certificate_pem, "the certificate received")?;
        let ca = parse(&response.ca_pem, "the CA certificate received")?;
        let file = DeviceFile {
            device: response.device.clone(),
            broker_host: response.broker_host.clone(),
            broker_port: response.broker_port,
        };
        let json = serde_json::to_vec_pretty(&file).unwrap_or_default();
        let identity = Self::new(file, certificate, ca, key)?;
        crate::data_dir::remove_file(&folder.join("device.json"))?;
        replace_file(&folder.join("device.pem"), response.certificate_pem.as_bytes())?;
        replace_file(&folder.join("ca.pem"), response.ca_pem.as_bytes())?;
        replace_file(&folder.join("device.json"), &json)?;
        Ok(identity)
    }

    fn new(
        file: DeviceFile,
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        key: &DeviceKey,
    ) -> Result<Self, IdentityError> {
        check_certificate(&certificate, &file.device, key)?;
        let DeviceFile { device, broker_host, broker_port } = file;
        Ok(Self { device, broker_host, broker_port, certificate, ca })
    }

    /// TLS towards the relay's broker.
    ///
    /// # Errors
    /// [`IdentityError::Unusable`].
    pub fn tls_config(&self, key: &DeviceKey) -> Result<ClientConfig, IdentityError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
        crate::tls::device_config(self.ca.clone(), self.certificate.clone(), der)
            .map_err(|source| IdentityError::Unusable { source })
    }
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let damaged = || IdentityError::Damaged { path: path.to_owned() };
    let content = read_file(path, FILE_BYTES_MAX)?.ok_or_else(damaged)?;
    CertificateDer::from_pem_slice(&content).map_err(|_| damaged())
}

/// Common name and public key must be this device's.
fn check_certificate(
    certificate: &CertificateDer<'_>,
    device: &DeviceId,
    key: &DeviceKey,
) -> Result<(), IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Mismatch { what: "format" })?;
    let common_name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    if common_name != Some(device.as_str()) {
        return Err(IdentityError::Mismatch { what: "id" });
    }
    if parsed.public_key().subject_public_key.data != key.public_key() {
        return Err(IdentityError::Mismatch { what: "key" });
    }
    Ok(())
}
