//! The operators' pages: server-rendered (askama), with live fragments over server-sent events ([`live`]).
//!
//! [`device_view`] and [`stream_view`] turn snapshots into what templates loop over; templates decide nothing. Every page
//! is served with a content security policy that allows this relay alone.

pub mod assets;
pub mod device_detail;
pub mod device_view;
pub mod format;
pub mod guard;
mod live;
mod media;
mod pages;
pub mod stream_view;
pub mod words;

pub use media::DOWNLOADS_MAX;

use crate::api;
use crate::app::App;
use crate::door::{Door, Limits, LocalProxy};
use crate::problem::Problem;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Live pages included. An office of operators behind one address fits; a TLS proxy on this machine speaks for everybody, and
/// limits them itself.
pub const LIMITS: Limits = Limits {
    connections_max: 1024,
    per_address_max: 128,
    local_proxy: LocalProxy::Exempt,
    silence_max: Duration::from_mins(1),
    life_max: None,
};
/// Longest request body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Scripts, styles and connections from here only; blobs for the player; no frames around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All routes.
pub fn router(app: App) -> Router {
    let pages = Router::new()
        .route("/", get(pages::devices::devices))
        .route("/login", get(pages::login::login_page).post(pages::login::log_in))
        .route("/logout", post(pages::login::log_out))
        .route("/claims", post(pages::devices::make_claim))
        .route("/devices/{id}", get(pages::devices::device))
        .route("/devices/{id}/start", post(pages::devices::start))
        .route("/devices/{id}/stop", post(pages::devices::stop))
        .route("/devices/{id}/settings", post(pages::devices::settings))
        .route("/devices/{id}/revoke", post(pages::devices::revoke))
        .route("/destinations", get(pages::destinations::destinations).post(pages::destinations::add_destination))
        .route("/destinations/{id}/delete", post(pages::destinations::delete_destination))
        .route("/streams", get(pages::streams::streams))
        .route("/streams/{id}", get(pages::streams::stream))
        .fallback(async || Problem::not_found("page"))
        .layer(middleware::from_fn(problems_as_pages));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/favicon.ico", get(async || Redirect::permanent(&assets::path("icon.svg"))))
        .route("/assets/{hash}/{name}", get(assets::serve))
        .route("/devices-events", get(live::devices))
        .route("/streams/{id}/events", get(live::stream))
        .route("/streams/{id}/hls/{file}", get(media::hls))
        .route("/streams/{id}/recording", get(media::recording))
        .route("/streams/{id}/recording.ts", get(media::download))
        .merge(api::routes())
        .merge(pages)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(guarded))
        .with_state(app)
}

/// Serves pages and API on `listener` until the program ends.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, app: App) -> io::Result<()> {
    let mut shutdown = app.shutdown.clone();
    let service = router(app).into_make_service_with_connect_info::<Peer>();
    axum::serve(Door::new(listener, LIMITS), service).with_graceful_shutdown(async move { shutdown.wait().await }).await
}

impl Connected<IncomingStream<'_, Door<TcpListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door<TcpListener>>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The address at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Adds the headers that keep pages to themselves.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "same-origin");
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Shows a problem as a page, and who is not logged in the way to do so.
async fn problems_as_pages(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let json = wants_json(request.headers());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Problem>() {
        Some(problem) if !json => {
            if problem.status == StatusCode::UNAUTHORIZED && path != "/login" {
                let next = if method == Method::GET && path != "/" { format!("?next={path}") } else { String::new() };
                return Redirect::to(&format!("/login{next}")).into_response();
            }
            pages::problem(&problem)
        }
        _ => response,
    }
}

/// Whether a script asks.
pub(crate) fn wants_json(headers: &axum::http::HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"))
}
