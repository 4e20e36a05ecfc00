//! The relay's own certificate authority, in `<data>/ca/`.
//!
//! One CA signs the relay's server certificate and the devices' client certificates (X.509 v3, RFC 5280; ECDSA P-256).
//! Certificates do not run out: a field device's clock may be anywhere, and trust ends by revocation in the store, not
//! by date. The server's certificate is issued anew at each start, so that a changed `public_host` takes effect.

use crate::secrets::{SecretsError, sha256_hex, write_private};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;
use units::DeviceId;

/// Longest certificate request, bytes of PEM.
pub const CSR_BYTES_MAX: usize = 8 * 1024;

/// What can go wrong with certificates.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{} is damaged; restore it from a backup (a new CA would lock out every enrolled device)", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// A certificate or key file cannot be loaded for TLS.
    #[error("{} cannot be loaded for TLS", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate request is unusable: the device's fault.
    #[error("the certificate request cannot be used")]
    PeerRequest(#[source] rcgen::Error),
    /// The certificate request is too long: the device's fault.
    #[error("the certificate request is longer than {CSR_BYTES_MAX} bytes")]
    PeerRequestLength,
    /// Signing failed.
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
    /// No randomness.
    #[error("cannot make a key")]
    Random(#[from] SecretsError),
}

/// The open CA.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// The CA certificate, PEM.
    pub certificate_pem: String,
    /// The same, DER.
    pub certificate: CertificateDer<'static>,
    directory: PathBuf,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A certificate as it is issued.
#[derive(Debug)]
pub struct Issued {
    /// PEM.
    pub pem: String,
    /// SHA-256 of the DER, hexadecimal.
    pub sha256: String,
}

impl Ca {
    /// Reads the CA in `directory`, or makes it when there is none.
    ///
    /// # Errors
    /// [`CaError`]; a half-present CA is an error, never replaced.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        let fail = |source| CaError::File { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let (pem_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !pem_path.exists() && !key_path.exists() {
            make_ca(&pem_path, &key_path)?;
        }
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|source| CaError::File { path: path.to_owned(), source });
        let (certificate_pem, key_pem) = (read(&pem_path)?, read(&key_path)?);
        let damaged = |path: &Path, source| CaError::Damaged { path: path.to_owned(), source };
        let key = KeyPair::from_pem(&key_pem).map_err(|source| damaged(&key_path, source))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(|source| damaged(&pem_path, source))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|source| CaError::Pem { path: pem_path, source })?;
        Ok(Self { issuer, certificate_pem, certificate, directory: directory.to_owned() })
    }

    /// SHA-256 of the CA certificate's DER: what a claim link carries.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &self.certificate).as_ref());
        bytes
    }

    /// The relay's server certificate for `host`, its chain and key; written to `server.pem` and `server.key`.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn server_certificate(
        &self,
        host: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let (pem_path, key_path) = (self.directory.join("server.pem"), self.directory.join("server.key"));
        let key_fail = |source| CaError::File { path: key_path.clone(), source };
        let key = match fs::read_to_string(&key_path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|source| CaError::Damaged { path: key_path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(CaError::Sign)?;
                write_private(&key_path, key.serialize_pem().as_bytes()).map_err(key_fail)?;
                key
            }
            Err(error) => return Err(key_fail(error)),
        };
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(CaError::Sign)?;
        params.distinguished_name.push(DnType::CommonName, "Strata relay");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(CaError::Sign)?;
        write_private(&pem_path, certificate.pem().as_bytes())
            .map_err(|source| CaError::File { path: pem_path, source })?;
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())
            .map_err(|source| CaError::Pem { path: key_path, source })?;
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key))
    }

    /// A client certificate that names `device`, for the key that signed `csr_pem`. Nothing else is taken from the request.
    ///
    /// # Errors
    /// `Peer...` variants are the device's fault.
    pub fn sign_device(&self, csr_pem: &str, device: &DeviceId) -> Result<Issued, CaError> {
        if csr_pem.len() > CSR_BYTES_MAX {
            return Err(CaError::PeerRequestLength);
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::PeerRequest)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, device.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // Two certificates of one key differ: a device that is enrolled anew gets a certificate of its own.
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial()?));
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(CaError::Sign)?;
        Ok(Issued { pem: certificate.pem(), sha256: sha256_hex(certificate.der()) })
    }
}

/// 16 random bytes, positive and without a leading zero (RFC 5280, 4.1.2.2).
fn serial() -> Result<[u8; 16], SecretsError> {
    let mut bytes = crate::secrets::random::<16>()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(bytes)
}

fn make_ca(pem_path: &Path, key_path: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate().map_err(CaError::Sign)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Strata relay CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
    let write = |path: &Path, text: &str| {
        write_private(path, text.as_bytes()).map_err(|source| CaError::File { path: path.to_owned(), source })
    };
    write(key_path, &key.serialize_pem())?;
    write(pem_path, &certificate.pem())
}

/// The common name of a certificate that TLS has already checked.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_certificate_carries_the_relays_name_for_it_and_nothing_of_the_request() {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::open(directory.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "another-device");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let issued = ca.sign_device(&csr, &"van-7".parse().unwrap()).unwrap();
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        assert_eq!(common_name(&der).unwrap(), "van-7");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        assert_eq!(sha256_hex(&der), issued.sha256);
        assert_ne!(ca.sign_device(&csr, &"van-7".parse().unwrap()).unwrap().sha256, issued.sha256);
    }

    #[test]
    fn a_reopened_ca_is_the_same_and_a_damaged_one_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let first = Ca::open(directory.path()).unwrap().fingerprint();
        assert_eq!(Ca::open(directory.path()).unwrap().fingerprint(), first);
        fs::remove_file(directory.path().join("ca.key")).unwrap();
        assert!(matches!(Ca::open(directory.path()), Err(CaError::File { .. })));
        fs::write(directory.path().join("ca.key"), "nonsense").unwrap();
        assert!(matches!(Ca::open(directory.path()), Err(CaError::Damaged { .. })));
    }

    #[test]
    fn garbage_requests_are_the_devices_fault() {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::open(directory.path()).unwrap();
        let device: DeviceId = "van-7".parse().unwrap();
        assert!(matches!(ca.sign_device("nonsense", &device), Err(CaError::PeerRequest(_))));
        assert!(matches!(ca.sign_device(&"x".repeat(CSR_BYTES_MAX + 1), &device), Err(CaError::PeerRequestLength)));
    }
}
