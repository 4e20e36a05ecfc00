//! The operators' pages: server-rendered (askama), with live fragments over server-sent events ([`live`]).
//!
//! [`device_view`] and [`stream_view`] turn snapshots into what templates loop over; templates decide nothing. Every page
//! is served with a content security policy that allows this relay alone.

pub mod assets;
pub mod device_view;
pub mod format;
pub mod guard;
mod live;
mod media;
mod pages;
pub mod stream_view;

use crate::api;
use crate::app::App;
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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at once, live pages included.
pub const CONNECTIONS_MAX: usize = 1024;
/// Longest request body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Scripts, styles and connections from here only; blobs for the player; no frames around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All routes.
pub fn router(app: App) -> Router {
    let pages = Router::new()
        .route("/", get(pages::devices))
        .route("/login", get(pages::login_page).post(pages::log_in))
        .route("/logout", post(pages::log_out))
        .route("/claims", post(pages::make_claim))
        .route("/devices/{id}", get(pages::device))
        .route("/devices/{id}/start", post(pages::start))
        .route("/devices/{id}/stop", post(pages::stop))
        .route("/devices/{id}/settings", post(pages::settings))
        .route("/devices/{id}/revoke", post(pages::revoke))
        .route("/destinations", get(pages::destinations).post(pages::add_destination))
        .route("/destinations/{id}/delete", post(pages::delete_destination))
        .route("/streams", get(pages::streams))
        .route("/streams/{id}", get(pages::stream))
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
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    axum::serve(listener, service).with_graceful_shutdown(async move { shutdown.wait().await }).await
}

/// A listener with at most [`CONNECTIONS_MAX`] connections; further ones wait in the kernel's queue.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return std::future::pending().await;
        };
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        (Placed { stream, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The address at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A connection that gives its place back when it ends.
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
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
