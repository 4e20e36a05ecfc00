//! The enrolment listener: HTTPS with the relay's own CA, one call, `POST /enrol`.
//!
//! It faces strangers: [`LIMITS`] for connections, [`BODY_BYTES_MAX`] for a body, and a small allowance of wrong codes for each
//! address.

use super::{EnrolError, Enrolment, PublicAddress};
use crate::accounts::throttle::{Throttle, ThrottleKey};
use crate::door::{Door, Limits, LocalProxy};
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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An enrolment is one request of a few kilobytes: who has not sent it within seconds never will. A workshop that enrols many
/// devices from one address at once is served some at a time.
pub const LIMITS: Limits = Limits {
    connections_max: 128,
    per_address_max: 16,
    local_proxy: LocalProxy::Counted,
    silence_max: Duration::from_secs(10),
    life_max: Some(Duration::from_secs(30)),
};
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
    axum::serve(Door::new(listener, LIMITS), router).with_graceful_shutdown(async move { shutdown.wait().await }).await
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

impl Connected<IncomingStream<'_, Door<tls::Listener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door<tls::Listener>>) -> Self {
        Self(*stream.remote_addr())
    }
}
