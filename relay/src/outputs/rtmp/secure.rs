//! TLS 1.2 and 1.3 to a streaming platform, and what its errors mean for the operator.
//!
//! Platforms and their appliances still speak TLS 1.2 (RFC 5246), so it is offered here, for outputs only: the relay's own
//! listeners take nothing below 1.3. Certificates are checked against the machine's own authorities, so that an operator
//! can add one (`update-ca-certificates`, or `SSL_CERT_FILE`); there is no way to leave the check out.

use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, PeerIncompatible, RootCertStore, version,
};

/// Opens TLS on `stream` to the server called `host`.
///
/// # Errors
/// The server's or the certificate's fault; see [`sentence`].
pub async fn connect(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    connector()?.connect(name, stream).await
}

fn connector() -> io::Result<TlsConnector> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(TlsConnector::from(Arc::clone(config)));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other("this machine has no certificate authorities: install ca-certificates"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::clone(CONFIG.get_or_init(|| Arc::new(config)))))
}

/// What happened and what to do about it.
pub fn sentence(host: &str, error: &io::Error) -> String {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!(
                "{host} closed the connection during the TLS handshake: check the port; use rtmp:// if it has no TLS"
            ),
            _ => format!("cannot open a secure connection to {host} ({error})"),
        };
    };
    match cause {
        TlsError::InvalidCertificate(cause) => certificate_sentence(host, cause),
        TlsError::InvalidMessage(_) => {
            format!("{host} does not speak TLS on this port: check the port, or use rtmp:// if it has no TLS")
        }
        TlsError::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("{host} speaks only outdated TLS: it must offer TLS 1.2 or newer")
        }
        TlsError::PeerIncompatible(_) | TlsError::AlertReceived(AlertDescription::HandshakeFailure) => {
            format!("{host} and this relay have no TLS cipher in common ({cause}): the server needs a modern TLS setup")
        }
        TlsError::AlertReceived(alert) => {
            format!("{host} refused the TLS connection ({alert:?}): check the address and port")
        }
        _ => format!("cannot open a secure connection to {host} ({cause}): check the address and port"),
    }
}

fn certificate_sentence(host: &str, cause: &CertificateError) -> String {
    use CertificateError as C;
    match cause {
        C::UnknownIssuer | C::BadSignature => format!(
            "the certificate of {host} is signed by an authority this machine does not trust: check the address; for a \
             server of your own, add its CA to the relay's machine (update-ca-certificates)"
        ),
        C::Expired | C::ExpiredContext { .. } => {
            format!(
                "the certificate of {host} has expired: its operator must renew it; if not, set this machine's clock"
            )
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet: set this machine's clock")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            format!("the certificate of this server is not for {host}: use the name the platform gives, not another")
        }
        C::Revoked => format!("the certificate of {host} was revoked: do not stream there, ask its operator"),
        cause => format!("the certificate of {host} cannot be accepted ({cause}): ask its operator"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence_of(cause: TlsError) -> String {
        sentence("live.example", &io::Error::new(io::ErrorKind::InvalidData, cause))
    }

    #[test]
    fn each_tls_fault_names_its_reason_and_the_next_step() {
        let certificate = |cause| sentence_of(TlsError::InvalidCertificate(cause));
        for (text, reason, step) in [
            (certificate(CertificateError::UnknownIssuer), "does not trust", "update-ca-certificates"),
            (certificate(CertificateError::Expired), "has expired", "renew"),
            (certificate(CertificateError::NotValidYet), "not valid yet", "clock"),
            (certificate(CertificateError::NotValidForName), "not for live.example", "use the name"),
            (sentence_of(TlsError::AlertReceived(AlertDescription::ProtocolVersion)), "outdated", "TLS 1.2"),
            (sentence("h", &io::ErrorKind::UnexpectedEof.into()), "closed the connection", "rtmp://"),
        ] {
            assert!(text.contains(reason) && text.contains(step), "{text}");
        }
    }
}
