//! TLS 1.3 listeners that one slow or idle peer cannot hold up.
//!
//! TCP accept never waits for a handshake: each runs in a task of its own with a time limit, and the finished streams
//! come out of a bounded queue. A handshake ends after [`HANDSHAKE_TIMEOUT`]. With more than [`HANDSHAKES_PER_ADDRESS_MAX`] of one
//! address at once, that address's oldest is closed for the newcomer, with more than [`HANDSHAKES_MAX`] in all the oldest of all:
//! who opens connections and stays silent shuts nobody out, and last of all those who come from elsewhere.

use crate::door::shares::network_of;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A connection after its handshake.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Longest handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most handshakes at once on one listener.
pub const HANDSHAKES_MAX: usize = 256;
/// Most handshakes at once of one address.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 32;
/// Finished handshakes that wait for their taker.
const READY_MAX: usize = 256;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why a listener cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate or key is unusable.
    #[error("the relay's certificate cannot be used for TLS")]
    Certificate(#[source] rustls::Error),
    /// The CA is unusable for checking clients.
    #[error("the relay's CA cannot be used to check clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another process using it?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone)]
pub enum Clients {
    /// Anyone; enrolment.
    Anyone,
    /// Only holders of a certificate of this CA.
    CertifiedBy(CertificateDer<'static>),
}

/// TLS 1.3 with `chain` and `key`.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Clients,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Certificate)?;
    let builder = match clients {
        Clients::Anyone => builder.with_no_client_auth(),
        Clients::CertifiedBy(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca).map_err(TlsError::Certificate)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(TlsError::Verifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(chain, key).map(Arc::new).map_err(TlsError::Certificate)
}

/// A listening socket whose handshakes run on their own.
#[derive(Debug)]
pub struct Listener {
    ready: mpsc::Receiver<(TlsStream, SocketAddr)>,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`TlsError::Listen`].
    pub async fn bind(address: SocketAddr, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let fail = |source| TlsError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(accept_loop(listener, TlsAcceptor::from(config), sender));
        Ok(Self { ready, address })
    }

    /// The address in use.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection; `None` when the listener has ended.
    pub async fn next(&mut self) -> Option<(TlsStream, SocketAddr)> {
        self.ready.recv().await
    }
}

async fn accept_loop(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<(TlsStream, SocketAddr)>) {
    let mut handshakes = Handshakes::default();
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let network = network_of(peer.ip());
        handshakes.make_room(network);
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        let handshake = tokio::spawn(async move {
            // Small control messages: waiting to fill a segment only adds delay. A failure costs nothing else.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                // A full queue, or no taker at shutdown: the peer comes again.
                Ok(Ok(stream)) => drop(ready.try_send((stream, peer))),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "tls handshake failed"),
                Err(_) => tracing::debug!(%peer, "tls handshake timed out"),
            }
        });
        handshakes.running.push_back((network, handshake.abort_handle()));
    }
}

/// The handshakes under way, oldest first.
#[derive(Debug, Default)]
struct Handshakes {
    running: VecDeque<(IpAddr, AbortHandle)>,
}

impl Handshakes {
    /// Room for one more of `network`.
    fn make_room(&mut self, network: IpAddr) {
        self.running.retain(|(_, handshake)| !handshake.is_finished());
        let of_network = self.running.iter().filter(|(of, _)| *of == network).count();
        let surplus = if of_network >= HANDSHAKES_PER_ADDRESS_MAX {
            self.running.iter().position(|(of, _)| *of == network)
        } else {
            (self.running.len() >= HANDSHAKES_MAX).then_some(0)
        };
        if let Some((of, handshake)) = surplus.and_then(|at| self.running.remove(at)) {
            tracing::debug!(%of, "oldest handshake closed, too many at once");
            handshake.abort();
        }
    }
}
