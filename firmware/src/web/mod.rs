//! The crew's page, on the device itself: state, inputs, links, GO LIVE and stop. Works without a relay.
//!
//! Plain forms work without JavaScript; with it, sections are replaced as they change (`/events`, server-sent events).
//! `/api/v1/state` is the same as JSON. The page has no log-in: it is reached over the device's own access point. It is
//! guarded against foreign web sites ([`guard`]).

mod guard;
mod routes;
mod sections;

use crate::config::LocalPageConfig;
use crate::core::View;
use daemon::shutdown::Shutdown;
use protocol::command::SettingsChange;
use protocol::enrolment::ClaimLink;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Longest time given to requests in progress at the end.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// Most browsers kept up to date at once; one more sees the page and must load it anew by hand.
const WATCHERS_MAX: usize = 16;

/// The answer to a request of the crew: why it is refused, in words.
pub type Reply = oneshot::Sender<Result<(), String>>;

/// What the crew asks.
#[derive(Debug)]
pub enum PageRequest {
    /// GO LIVE.
    GoLive {
        /// Where the answer goes.
        reply: Reply,
    },
    /// Stop.
    Stop {
        /// Where the answer goes.
        reply: Reply,
    },
    /// Change settings.
    Settings {
        /// The change.
        change: SettingsChange,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Enrol with a relay.
    Claim {
        /// The claim link.
        link: ClaimLink,
        /// Where the answer goes.
        reply: Reply,
    },
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct PageState {
    pub(crate) view: watch::Receiver<View>,
    pub(crate) requests: mpsc::Sender<PageRequest>,
    pub(crate) shutdown: Shutdown,
    /// Places for browsers that are kept up to date.
    pub(crate) watchers: Arc<Semaphore>,
}

/// The page being served.
#[derive(Debug)]
pub struct Page {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Page {
    /// Waits for its end after shutdown.
    pub async fn ended(self) {
        let _ = tokio::time::timeout(END_TIME_MAX, self.task).await;
    }
}

/// Serves the page until shutdown.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    config: &LocalPageConfig,
    view: watch::Receiver<View>,
    requests: mpsc::Sender<PageRequest>,
    shutdown: Shutdown,
) -> std::io::Result<Page> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
    let state = PageState { view, requests, shutdown: shutdown.clone(), watchers };
    let router = routes::router(state, guard::Guard::new(&config.host_names));
    let mut shutdown = shutdown;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move { shutdown.wait().await });
    Ok(Page { address, task: tokio::spawn(async move { server.await }) })
}
