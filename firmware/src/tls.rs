//! TLS 1.3 towards the relay: whom the device trusts, and why no clock is needed.
//!
//! The only trust anchor is the relay's own CA, pinned by its fingerprint at enrolment. A field device may have no clock
//! at boot, so the validity dates of the relay's certificate are not judged: it is checked as of a moment at which it was
//! valid. Chain, signature and name are judged as always. A leaked relay key is answered by a new CA, not by waiting.

use rustls::client::WantsClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The relay did not show the CA that the claim link names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the relay's certificate authority is not the one named by the claim link")]
pub struct WrongAuthority;

/// SHA-256 of a certificate's DER.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// For the time before a device has an identity: trusts the CA with the given fingerprint, which the relay must send
/// along in its chain.
///
/// # Errors
/// rustls refuses the settings: a defect of this build.
pub fn enrolment_config(ca_fingerprint: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
    Ok(trusting(Anchor::Fingerprint(ca_fingerprint))?.with_no_client_auth())
}

/// For an enrolled device: trusts `ca`, shows `certificate`.
///
/// # Errors
/// The CA, the certificate or the key cannot be used: the identity is damaged, enrol again.
pub fn device_config(
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    authority_verifier(ca.clone(), &provider())?; // a damaged one is told here, not at each connection
    trusting(Anchor::Authority(ca))?.with_client_auth_cert(vec![certificate], key)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn trusting(anchor: Anchor) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = provider();
    let verifier = Arc::new(RelayVerifier { anchor, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn authority_verifier(
    ca: CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// A moment at which `certificate` is valid.
fn valid_moment(certificate: &CertificateDer<'_>) -> Result<UnixTime, rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Whom the device trusts.
#[derive(Debug)]
enum Anchor {
    /// The relay's CA, kept since enrolment.
    Authority(CertificateDer<'static>),
    /// The CA with this fingerprint, which the relay must show in its chain.
    Fingerprint([u8; 32]),
}

/// Judges everything but the dates.
#[derive(Debug)]
struct RelayVerifier {
    anchor: Anchor,
    provider: Arc<CryptoProvider>,
}

impl RelayVerifier {
    fn authority(&self, shown: &[CertificateDer<'_>]) -> Result<CertificateDer<'static>, rustls::Error> {
        let wrong = || CertificateError::Other(OtherError(Arc::new(WrongAuthority)));
        match &self.anchor {
            Anchor::Authority(ca) => Ok(ca.clone()),
            Anchor::Fingerprint(expected) => {
                let found = shown.iter().find(|certificate| fingerprint(certificate) == *expected);
                found.map(|ca| ca.clone().into_owned()).ok_or_else(|| rustls::Error::InvalidCertificate(wrong()))
            }
        }
    }
}

impl ServerCertVerifier for RelayVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = authority_verifier(self.authority(intermediates)?, &self.provider)?;
        // The relay's own CA signs leaves directly: what else it shows is not needed.
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, valid_moment(end_entity)?)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
