//! How a device gets its identity: claim codes, and certificates of the relay's own CA.
//!
//! A claim code is single use, lives [`CLAIM_TTL`], and is kept as a hash. Who holds a certificate is in the store:
//! [`Enrolment::admit`] lets in the one certificate that was issued last to a device that is not revoked.

pub mod ca;
pub mod http;

use crate::broker::Admission;
use crate::clock::unix_ms;
use crate::secrets::{self, SecretsError, sha256_hex};
use crate::store::{Batch, ClaimRecord, DeviceRecord, Store, StoreError};
use ca::{Ca, CaError};
use protocol::Secret;
use protocol::enrolment::{ClaimLink, EnrolRequest, EnrolResponse};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use units::DeviceId;

/// How long a claim code is good.
pub const CLAIM_TTL: Duration = Duration::from_mins(15);
/// Most claim codes that wait to be used; one more is refused to the operator.
pub const CLAIMS_MAX: usize = 200;
/// Most devices, revoked ones included.
pub const DEVICES_MAX: usize = 20_000;
/// Longest device name, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Characters of a claim code: no two that look alike. 32 of them, so that a byte's low bits choose evenly.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Groups of four characters in a claim code: 80 bits.
const CODE_GROUPS: usize = 4;

/// What can go wrong with enrolment.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The code is not good (any more); deliberately not told apart.
    #[error("this claim code is not known, was used already, or is too old; make a new one in the dashboard")]
    PeerClaim,
    /// The request is unusable.
    #[error("the enrolment request cannot be used")]
    PeerRequest(#[source] CaError),
    /// The name is empty or too long.
    #[error("a device name has 1 to {NAME_CHARS_MAX} characters")]
    Name,
    /// Too many codes wait.
    #[error("{CLAIMS_MAX} claim codes wait to be used; let some of them run out")]
    TooManyClaims,
    /// Too many devices.
    #[error("{DEVICES_MAX} devices are enrolled, this relay takes no more")]
    TooManyDevices,
    /// There is no such device.
    #[error("there is no device {device}")]
    NoDevice {
        /// Its id.
        device: DeviceId,
    },
    /// The CA failed.
    #[error("the relay's CA failed")]
    Ca(#[source] CaError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("no random bytes")]
    Random(#[from] SecretsError),
}

/// Where devices find the relay.
#[derive(Debug, Clone)]
pub struct PublicAddress {
    /// Name or address.
    pub host: String,
    /// Port of the MQTT listener.
    pub broker_port: u16,
    /// Port of the enrolment listener.
    pub enrolment_port: u16,
}

/// Claims, certificates and who holds them.
#[derive(Debug)]
pub struct Enrolment {
    store: Store,
    ca: Arc<Ca>,
    /// One enrolment at a time: a code is used once even when two devices race for it.
    turn: tokio::sync::Mutex<()>,
}

impl Enrolment {
    /// Enrolment with this store and CA.
    pub fn new(store: Store, ca: Arc<Ca>) -> Self {
        Self { store, ca, turn: tokio::sync::Mutex::default() }
    }

    /// Makes a claim code for a device to be called `name`; gives the link to show once.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn make_claim(&self, name: &str, made_by: &str, at: &PublicAddress) -> Result<ClaimLink, EnrolError> {
        let name = checked_name(name)?;
        let _turn = self.turn.lock().await;
        let now = unix_ms();
        let (live, over): (Vec<_>, Vec<_>) =
            self.store.scan::<ClaimRecord>()?.into_iter().partition(|claim| claim.expires_ms > now);
        if live.len() >= CLAIMS_MAX {
            return Err(EnrolError::TooManyClaims);
        }
        let code = claim_code()?;
        let record = ClaimRecord {
            code_hash: hash_code(&code),
            name,
            expires_ms: now + CLAIM_TTL.as_millis() as u64,
            made_by: made_by.to_owned(),
        };
        let cleaned = over.iter().fold(Batch::new(), |batch, claim| batch.delete::<ClaimRecord>(&claim.code_hash));
        self.store.commit(cleaned.put(&record)).await?;
        Ok(ClaimLink {
            host: at.host.clone(),
            port: at.enrolment_port,
            claim_code: code,
            ca_fingerprint: self.ca.fingerprint(),
        })
    }

    /// Turns a claim into a device: the code is used up and the device recorded in one change.
    ///
    /// # Errors
    /// [`EnrolError`]; with a bad request the code stays good.
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        at: &PublicAddress,
    ) -> Result<(DeviceRecord, EnrolResponse), EnrolError> {
        let _turn = self.turn.lock().await;
        let hash = hash_code(&request.claim_code);
        let now = unix_ms();
        let claim = self.store.get::<ClaimRecord>(&hash)?.filter(|claim| claim.expires_ms > now);
        let claim = claim.ok_or(EnrolError::PeerClaim)?;
        if self.store.scan::<DeviceRecord>()?.len() >= DEVICES_MAX {
            return Err(EnrolError::TooManyDevices);
        }
        let device = device_id(&claim.name)?;
        let issued = self.ca.sign_device(&request.csr_pem, &device).map_err(|error| match error {
            CaError::PeerRequest(_) | CaError::PeerRequestLength => EnrolError::PeerRequest(error),
            error => EnrolError::Ca(error),
        })?;
        let record = DeviceRecord {
            id: device.clone(),
            name: claim.name.clone(),
            board: request.board.chars().take(NAME_CHARS_MAX).collect(),
            enrolled_ms: now,
            certificate_sha256: issued.sha256,
            revoked_ms: None,
        };
        self.store.commit(Batch::new().delete::<ClaimRecord>(&hash).put(&record)).await?;
        let response = EnrolResponse {
            device,
            certificate_pem: issued.pem,
            ca_pem: self.ca.certificate_pem.clone(),
            broker_host: at.host.clone(),
            broker_port: at.broker_port,
        };
        Ok((record, response))
    }

    /// Ends a device's trust. The caller closes its connection.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn revoke(&self, device: &DeviceId) -> Result<DeviceRecord, EnrolError> {
        let _turn = self.turn.lock().await;
        let record = self.store.get::<DeviceRecord>(device.as_str())?;
        let mut record = record.ok_or_else(|| EnrolError::NoDevice { device: device.clone() })?;
        record.revoked_ms.get_or_insert(unix_ms());
        self.store.commit(Batch::new().put(&record)).await?;
        Ok(record)
    }
}

impl Admission for Enrolment {
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<DeviceId, String> {
        let name = ca::common_name(certificate).ok_or("the certificate has no common name")?;
        let device: DeviceId =
            name.parse().map_err(|error| format!("the certificate's name is no device id: {error}"))?;
        match self.store.get::<DeviceRecord>(device.as_str()) {
            Ok(Some(record)) if record.revoked_ms.is_some() => Err(format!("device {device} is revoked")),
            Ok(Some(record)) if record.certificate_sha256 == sha256_hex(certificate) => Ok(device),
            Ok(Some(_)) => Err(format!("device {device} holds another certificate than the one issued last")),
            Ok(None) => Err(format!("there is no device {device}")),
            Err(error) => Err(format!("the store failed: {error}")),
        }
    }
}

fn checked_name(name: &str) -> Result<String, EnrolError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(EnrolError::Name);
    }
    Ok(name.to_owned())
}

/// "Van 7" becomes `van-7-3fa92c`: readable in logs, and never given twice.
fn device_id(name: &str) -> Result<DeviceId, EnrolError> {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase).take(40) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    let slug = if slug.trim_matches('-').is_empty() { "device" } else { slug.trim_matches('-') };
    let id = format!("{slug}-{}", hex::encode(secrets::random::<4>()?));
    Ok(id.parse().expect("a slug of a-z, 0-9 and '-' with eight digits is an id below 64 bytes"))
}

fn claim_code() -> Result<Secret, SecretsError> {
    let bytes = secrets::random::<{ CODE_GROUPS * 4 }>()?;
    let groups = bytes
        .chunks(4)
        .map(|group| group.iter().map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)])).collect::<String>());
    Ok(Secret::new(groups.collect::<Vec<_>>().join("-")))
}

/// Case and blanks do not matter to people who type a code.
fn hash_code(code: &Secret) -> String {
    sha256_hex(code.reveal().trim().to_ascii_uppercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::pem::PemObject as _;

    fn enrolment(directory: &std::path::Path) -> Enrolment {
        let store = Store::open(&directory.join("store")).unwrap();
        Enrolment::new(store, Arc::new(Ca::open(&directory.join("ca")).unwrap()))
    }

    fn address() -> PublicAddress {
        PublicAddress { host: "127.0.0.1".to_owned(), broker_port: 8883, enrolment_port: 8443 }
    }

    fn request(link: &ClaimLink) -> EnrolRequest {
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        EnrolRequest {
            claim_code: link.claim_code.clone(),
            csr_pem: csr.pem().unwrap(),
            board: "test".to_owned(),
            agent_version: "0".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_code_makes_one_device_and_is_refused_the_second_time() {
        let directory = tempfile::tempdir().unwrap();
        let enrolment = enrolment(directory.path());
        let link = enrolment.make_claim("  Van 7 (north) ", "admin", &address()).await.unwrap();
        let (record, response) = enrolment.enrol(&request(&link), &address()).await.unwrap();
        assert!(record.id.as_str().starts_with("van-7-north-"), "{}", record.id);
        assert_eq!(record.name, "Van 7 (north)");
        let der = CertificateDer::from_pem_slice(response.certificate_pem.as_bytes()).unwrap();
        assert_eq!(enrolment.admit(&der), Ok(record.id.clone()));
        assert!(matches!(enrolment.enrol(&request(&link), &address()).await, Err(EnrolError::PeerClaim)));

        enrolment.revoke(&record.id).await.unwrap();
        assert!(enrolment.admit(&der).unwrap_err().contains("revoked"));
    }

    #[tokio::test]
    async fn a_code_that_ran_out_is_refused_and_cleaned_away() {
        let directory = tempfile::tempdir().unwrap();
        let enrolment = enrolment(directory.path());
        let link = enrolment.make_claim("Van", "admin", &address()).await.unwrap();
        let hash = hash_code(&link.claim_code);
        let mut claim = enrolment.store.get::<ClaimRecord>(&hash).unwrap().unwrap();
        assert!(!format!("{claim:?}").contains(link.claim_code.reveal()), "only the hash is kept");
        claim.expires_ms = unix_ms() - 1;
        enrolment.store.commit(Batch::new().put(&claim)).await.unwrap();
        assert!(matches!(enrolment.enrol(&request(&link), &address()).await, Err(EnrolError::PeerClaim)));
        enrolment.make_claim("Other", "admin", &address()).await.unwrap();
        assert!(enrolment.store.get::<ClaimRecord>(&hash).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_bad_request_leaves_the_code_good() {
        let directory = tempfile::tempdir().unwrap();
        let enrolment = enrolment(directory.path());
        let link = enrolment.make_claim("Van", "admin", &address()).await.unwrap();
        let bad = EnrolRequest { csr_pem: "nonsense".to_owned(), ..request(&link) };
        assert!(matches!(enrolment.enrol(&bad, &address()).await, Err(EnrolError::PeerRequest(_))));
        enrolment.enrol(&request(&link), &address()).await.unwrap();
    }

    #[test]
    fn every_name_becomes_a_device_id() {
        for name in ["Van 7", "---", "日本", "Ünïcode Über", &"x".repeat(64)] {
            device_id(name).unwrap();
        }
        assert!(matches!(checked_name(" "), Err(EnrolError::Name)));
        assert!(matches!(checked_name(&"x".repeat(65)), Err(EnrolError::Name)));
    }
}
