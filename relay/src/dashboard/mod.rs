//! The operators' pages: server-rendered, with live fragments over server-sent events.

pub mod guard;

use crate::api;
use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Longest request body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .merge(api::routes())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

/// Serves pages and API on `listener` until the program ends.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, app: App) -> io::Result<()> {
    let mut shutdown = app.shutdown.clone();
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(async move { shutdown.wait().await }).await
}
