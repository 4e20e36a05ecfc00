//! How a device gets its identity: one HTTPS call to the relay named by the claim link.
//!
//! The relay is trusted by the fingerprint of its CA in the link and nothing else; see [`crate::tls`]. The answer must hold
//! the same CA and a certificate for this device's own key.

use crate::data_dir::DataDir;
use crate::identity::{DeviceKey, Identity, IdentityError};
use crate::tls::{WrongAuthority, enrolment_config, fingerprint};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::enrolment::{ClaimLink, ENROL_PATH, EnrolRefusal, EnrolRequest, EnrolResponse};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for the whole exchange.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why the device could not be enrolled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// Nobody answers.
    #[error("cannot reach the relay at {host}:{port}; check the network and the claim link")]
    PeerUnreachable {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("the relay did not answer within {} seconds; check the network and try again", EXCHANGE_TIME_MAX.as_secs())]
    PeerTimeout,
    /// The relay is not the one that made the link.
    #[error(
        "this is not the relay that made the claim link (its certificate authority differs); get a new link from the dashboard"
    )]
    PeerWrongAuthority,
    /// No TLS 1.3 with a certificate for that host.
    #[error("no secure connection to the relay")]
    PeerTls {
        /// Why.
        source: io::Error,
    },
    /// The exchange broke.
    #[error("the exchange with the relay broke; try again")]
    PeerHttp {
        /// Why.
        source: hyper::Error,
    },
    /// The relay said no.
    #[error("{}", refusal.detail)]
    Refused {
        /// Its words.
        refusal: EnrolRefusal,
    },
    /// The answer cannot be read.
    #[error("the relay's answer (status {status}) cannot be used; update the older side")]
    PeerAnswer {
        /// HTTP status.
        status: StatusCode,
    },
    /// The host of the link is no host.
    #[error("the claim link's host {host:?} is no host name or address")]
    ClaimHost {
        /// The host.
        host: String,
    },
    /// The identity received cannot be used or stored.
    #[error("the identity received cannot be used")]
    Identity(#[from] IdentityError),
    /// The request could not be made: a defect.
    #[error("the certificate request cannot be made")]
    Request {
        /// Why.
        source: rcgen::Error,
    },
    /// rustls refuses its settings: a defect.
    #[error("TLS cannot be set up")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
}

/// Enrols this device with the relay that `link` names and keeps the identity.
///
/// # Errors
/// [`EnrolError`]: its text is for the crew; nothing is stored then.
pub async fn enrol(data: &DataDir, link: &ClaimLink, key: &DeviceKey, board: &str) -> Result<Identity, EnrolError> {
    let request = EnrolRequest {
        claim_code: link.claim_code.clone(),
        csr_pem: key.request_pem().map_err(|source| EnrolError::Request { source })?,
        board: board.to_owned(),
        agent_version: crate::VERSION.to_owned(),
    };
    let response = tokio::time::timeout(EXCHANGE_TIME_MAX, exchange(link, &request))
        .await
        .map_err(|_| EnrolError::PeerTimeout)??;
    check_authority(link, &response)?;
    Ok(Identity::install(&data.identity(), &response, key)?)
}

/// The CA to trust from now on must be the one that was trusted for this call.
fn check_authority(link: &ClaimLink, response: &EnrolResponse) -> Result<(), EnrolError> {
    let ca = CertificateDer::from_pem_slice(response.ca_pem.as_bytes()).ok();
    match ca {
        Some(ca) if fingerprint(&ca) == link.ca_fingerprint => Ok(()),
        _ => Err(EnrolError::PeerWrongAuthority),
    }
}

async fn exchange(link: &ClaimLink, request: &EnrolRequest) -> Result<EnrolResponse, EnrolError> {
    let stream = connect(link).await?;
    let http = |source| EnrolError::PeerHttp { source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let driver = tokio::spawn(connection);
    let body = serde_json::to_vec(request).unwrap_or_default();
    let request = Request::post(ENROL_PATH)
        .header("host", format!("{}:{}", link.host, link.port))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| EnrolError::ClaimHost { host: link.host.clone() })?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    let answer = answer.map_err(|_| EnrolError::PeerAnswer { status })?.to_bytes();
    read_answer(status, &answer)
}

fn read_answer(status: StatusCode, answer: &[u8]) -> Result<EnrolResponse, EnrolError> {
    if status.is_success() {
        return serde_json::from_slice(answer).map_err(|_| EnrolError::PeerAnswer { status });
    }
    match serde_json::from_slice(answer) {
        Ok(refusal) => Err(EnrolError::Refused { refusal }),
        Err(_) => Err(EnrolError::PeerAnswer { status }),
    }
}

async fn connect(link: &ClaimLink) -> Result<TlsStream<TcpStream>, EnrolError> {
    let name =
        ServerName::try_from(link.host.clone()).map_err(|_| EnrolError::ClaimHost { host: link.host.clone() })?;
    let config = enrolment_config(link.ca_fingerprint).map_err(|source| EnrolError::Tls { source })?;
    let stream = TcpStream::connect((link.host.as_str(), link.port))
        .await
        .map_err(|source| EnrolError::PeerUnreachable { host: link.host.clone(), port: link.port, source })?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(name_fault)
}

/// Tells the wrong relay from other TLS faults.
fn name_fault(source: io::Error) -> EnrolError {
    let wrong = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|error| {
        matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))
            if other.0.downcast_ref::<WrongAuthority>().is_some())
    });
    if wrong { EnrolError::PeerWrongAuthority } else { EnrolError::PeerTls { source } }
}
