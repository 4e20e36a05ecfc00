//! TLS below the MQTT client.
//!
//! The client library is used without its TLS (its feature pins an outdated certificate library): it connects to a Unix
//! socket in the data directory, mode 0600, and this task carries the bytes over our own TLS stream. The socket exists
//! only while one connection is being made.

use crate::identity::{DeviceKey, Identity, IdentityError};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use rustls::pki_types::ServerName;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpStream, UnixListener};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for TCP. The kernel asks again after 1 and 3 s, then only after 7 and 15: a new try asks sooner.
const TCP_TIME_MAX: Duration = Duration::from_secs(4);
/// Longest wait for TCP and TLS together: five round trips of a very slow link.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// A connection whose bytes are not acknowledged for so long is dead, milliseconds: its uplink is gone, or the relay is.
/// Telemetry makes bytes each second.
const UNACKNOWLEDGED_MS_MAX: u32 = 8_000;

/// Why there is no secure connection to the relay.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// Nobody answers.
    #[error("cannot reach the relay at {host}:{port}; check the device's network, then the relay")]
    PeerUnreachable {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the relay at {host}:{port} did not answer within {} seconds; check the device's network", CONNECT_TIME_MAX.as_secs())]
    PeerTimeout {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// TLS failed.
    #[error("no secure connection to the relay; if the relay was set up anew, claim this device again")]
    PeerTls {
        /// Why.
        source: io::Error,
    },
    /// The identity cannot be used.
    #[error("the device's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// The host in the identity is no host.
    #[error("the relay's host {host:?} is no host name or address; claim this device again")]
    Host {
        /// The host.
        host: String,
    },
    /// The local socket cannot be made.
    #[error("cannot make the socket {}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Connects to the relay's broker.
///
/// # Errors
/// [`BridgeError`]; its text is for the crew.
pub async fn connect(identity: &Identity, key: &DeviceKey) -> Result<TlsStream<TcpStream>, BridgeError> {
    let (host, port) = (identity.broker_host.clone(), identity.broker_port);
    tokio::time::timeout(CONNECT_TIME_MAX, connect_untimed(identity, key))
        .await
        .unwrap_or(Err(BridgeError::PeerTimeout { host, port }))
}

async fn connect_untimed(identity: &Identity, key: &DeviceKey) -> Result<TlsStream<TcpStream>, BridgeError> {
    let (host, port) = (identity.broker_host.as_str(), identity.broker_port);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| BridgeError::Host { host: host.to_owned() })?;
    let config = identity.tls_config(key)?;
    let unreachable = |source| BridgeError::PeerUnreachable { host: host.to_owned(), port, source };
    let stream = tokio::time::timeout(TCP_TIME_MAX, TcpStream::connect((host, port)))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(unreachable)?;
    // Small messages that should leave at once.
    stream.set_nodelay(true).map_err(unreachable)?;
    setsockopt(&stream, TcpUserTimeout, &UNACKNOWLEDGED_MS_MAX).map_err(|error| unreachable(error.into()))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|source| BridgeError::PeerTls { source })
}

/// Offers `stream` to the one client that connects to the socket at `path`; ends when either side does.
///
/// # Errors
/// [`BridgeError::Socket`].
pub fn offer(path: &Path, mut stream: TlsStream<TcpStream>) -> Result<tokio::task::JoinHandle<()>, BridgeError> {
    let fail = |source| BridgeError::Socket { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
    let path = path.to_owned();
    Ok(tokio::spawn(async move {
        let accepted = listener.accept().await;
        drop(listener);
        let _ = std::fs::remove_file(&path); // the next connection makes its own
        let Ok((mut local, _)) = accepted else { return };
        match tokio::io::copy_bidirectional(&mut local, &mut stream).await {
            Ok((up, down)) => tracing::debug!(up, down, "relay connection ended"),
            Err(error) => tracing::debug!(%error, "relay connection broke"),
        }
    }))
}
