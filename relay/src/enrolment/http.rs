//! The enrolment listener: HTTPS with the relay's own CA, one call, `POST /enrol`.
//!
//! It faces strangers. A connection lives [`CONNECTION_TTL`] at most, [`CONNECTIONS_MAX`] exist at once, a body has
//! [`BODY_BYTES_MAX`] at most, and each address has a small allowance of wrong codes.

use super::{EnrolError, Enrolment, PublicAddress};
use crate::accounts::throttle::{Throttle, ThrottleKey};
use crate::tls;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use protocol::enrolment::{ENROL_PATH, EnrolRefusal, EnrolRefusalReason, EnrolRequest};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Longest life of one connection.
pub const CONNECTION_TTL: Duration = Duration::from_secs(30);
/// Most connections at once; a newcomer waits.
pub const CONNECTIONS_MAX: usize = 64;
/// Longest request body.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// What to do when a device was enrolled.
pub type OnEnrolled = Arc<dyn Fn(&crate::store::DeviceRecord) + Send + Sync>;

#[derive(Clone)]
struct Desk {
    enrolment: Arc<Enrolment>,
    address: PublicAddress,
    wrong_codes: Arc<Mutex<Throttle>>,
    on_enrolled: OnEnrolled,
}

/// Serves enrolment on `listener` until `shutdown`.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: tls::Listener,
    enrolment: Arc<Enrolment>,
    address: PublicAddress,
    on_enrolled: OnEnrolled,
    mut shutdown: daemon::shutdown::Shutdown,
) -> io::Result<()> {
    let desk = Desk { enrolment, address, wrong_codes: Arc::default(), on_enrolled };
    let router = Router::new()
        .route(ENROL_PATH, post(enrol))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
        .into_make_service_with_connect_info::<Peer>();
    let listener = Door { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.wait().await }).await
}

async fn enrol(
    State(desk): State<Desk>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    body: Json<EnrolRequest>,
) -> Response {
    let key = ThrottleKey::address(peer.ip());
    let allowed = desk.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner).check(Instant::now(), &key);
    if let Err(wait) = allowed {
        let detail = format!("too many wrong claim codes from this address; wait {} s", wait.as_secs() + 1);
        return refuse(StatusCode::TOO_MANY_REQUESTS, EnrolRefusalReason::TooManyTries, detail);
    }
    let board: String = body.board.chars().take(64).collect();
    match desk.enrolment.enrol(&body, &desk.address).await {
        Ok((record, response)) => {
            tracing::info!(device = %record.id, %peer, board, "device enrolled");
            (desk.on_enrolled)(&record);
            Json(response).into_response()
        }
        Err(error @ EnrolError::PeerClaim) => {
            tracing::warn!(%peer, "enrolment refused, claim code not good");
            desk.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner).failed(Instant::now(), &key);
            refuse(StatusCode::FORBIDDEN, EnrolRefusalReason::ClaimRefused, error.to_string())
        }
        Err(error @ EnrolError::PeerRequest(_)) => {
            tracing::warn!(%peer, error = &error as &dyn std::error::Error, "enrolment refused");
            let detail = format!("{error}; the agent must send a PKCS#10 request in PEM");
            refuse(StatusCode::BAD_REQUEST, EnrolRefusalReason::BadRequest, detail)
        }
        Err(error) => {
            tracing::error!(%peer, error = &error as &dyn std::error::Error, "enrolment failed");
            let detail = "the relay could not enrol the device; see the relay's log".to_owned();
            refuse(StatusCode::INTERNAL_SERVER_ERROR, EnrolRefusalReason::Other, detail)
        }
    }
}

fn refuse(status: StatusCode, reason: EnrolRefusalReason, detail: String) -> Response {
    (status, Json(EnrolRefusal { reason, detail })).into_response()
}

/// The peer's address.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Hands finished TLS connections to axum.
struct Door {
    listener: tls::Listener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Door {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match self.listener.next().await {
            Some((stream, peer)) => {
                let end = Box::pin(tokio::time::sleep(CONNECTION_TTL));
                (Mortal { stream, end, _place: place }, peer)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.address())
    }
}

/// A connection with an end: reading fails after [`CONNECTION_TTL`].
struct Mortal {
    stream: tls::TlsStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Mortal {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
