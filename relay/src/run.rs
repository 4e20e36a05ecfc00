//! Puts the relay together, runs it, and takes it down in order.

use crate::accounts::{AccountError, Accounts};
use crate::app::Relay;
use crate::broker::{Admission, Broker, BrokerError, UP_QUEUE_MAX};
use crate::config::Config;
use crate::dashboard;
use crate::enrolment::ca::{Ca, CaError};
use crate::enrolment::{Enrolment, PublicAddress, http as enrolment_http};
use crate::fleet::{EVENTS_QUEUE_MAX, Fleet};
use crate::retention::Keeper;
use crate::secrets::{Sealer, SecretsError};
use crate::sessions::{SessionError, Sessions};
use crate::store::{Store, StoreError};
use crate::tls::{self, Clients, TlsError};
use daemon::shutdown::Shutdown;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// How long open HTTP requests may take at the end.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Why the relay does not start, or ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The sealing key.
    #[error("cannot open the sealing key")]
    Secrets(#[from] SecretsError),
    /// The CA.
    #[error("cannot open the certificate authority")]
    Ca(#[from] CaError),
    /// The accounts.
    #[error("cannot open the accounts")]
    Accounts(#[from] AccountError),
    /// A TLS listener.
    #[error("cannot listen for devices")]
    Tls(#[from] TlsError),
    /// The broker.
    #[error("cannot start the broker")]
    Broker(#[from] BrokerError),
    /// Running streams.
    #[error("cannot take up the running streams")]
    Sessions(#[from] SessionError),
    /// The dashboard's listener.
    #[error("cannot listen on {address} for the dashboard; is another process using it?")]
    Dashboard {
        /// Address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The message router died: the service manager starts the relay anew, streams go on meanwhile.
    #[error("{0}")]
    Fatal(String),
}

/// Addresses that the relay listens on.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Pages and API.
    pub dashboard: SocketAddr,
    /// MQTT.
    pub broker: SocketAddr,
    /// Enrolment.
    pub enrolment: SocketAddr,
}

/// Runs the relay until `shutdown`; `ready` is called once all listeners are open.
///
/// # Errors
/// [`RelayError`].
pub async fn run(config: Config, shutdown: Shutdown, ready: impl FnOnce(Addresses)) -> Result<(), RelayError> {
    let config = Arc::new(config);
    let data = &config.data_dir;
    for directory in [data.clone(), data.join("streams")] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| RelayError::DataDir { path: directory, source })?;
    }
    let store = Store::open(&data.join("store"))?;
    let sealer = Arc::new(Sealer::open(&data.join("sealing.key"))?);
    let ca = Arc::new(Ca::open(&data.join("ca"))?);
    let accounts = Accounts::open(store.clone(), data).await?;
    let enrolment = Arc::new(Enrolment::new(store.clone(), Arc::clone(&ca)));
    let fleet = Arc::new(Fleet::open(store.clone())?);
    let sessions = Sessions::new(Arc::clone(&config), store.clone(), Arc::clone(&sealer), Arc::clone(&fleet));

    let (chain, key) = ca.server_certificate(&config.public_host)?;
    let broker_tls = tls::server_config(chain.clone(), key.clone_key(), Clients::CertifiedBy(ca.certificate.clone()))?;
    let enrolment_tls = tls::server_config(chain, key, Clients::Anyone)?;
    let enrolment_listener = tls::Listener::bind(config.enrolment.listen, enrolment_tls).await?;
    let dashboard_address = config.dashboard.listen;
    let dashboard_fail = |source| RelayError::Dashboard { address: dashboard_address, source };
    let dashboard_listener = TcpListener::bind(dashboard_address).await.map_err(dashboard_fail)?;

    let (up, up_queue) = mpsc::channel(UP_QUEUE_MAX);
    let (fatal, mut fatal_queue) = mpsc::channel(1);
    let admission: Arc<dyn Admission> = Arc::clone(&enrolment) as _;
    // Devices come in as soon as the broker listens: fleet and sessions follow from the first message on.
    let (events, events_queue) = mpsc::channel(EVENTS_QUEUE_MAX);
    let broker = Broker::start(config.broker.listen, broker_tls, admission, up, fatal).await?;
    fleet.attach(broker.clone());
    let following = Arc::clone(&fleet);
    tokio::spawn(async move { following.run(up_queue, events).await });
    let resumed = sessions.resume()?;
    tokio::spawn(Arc::clone(&sessions).follow(events_queue));

    let addresses = Addresses {
        dashboard: dashboard_listener.local_addr().map_err(dashboard_fail)?,
        broker: broker.address(),
        enrolment: enrolment_listener.address(),
    };
    let address = PublicAddress {
        host: config.public_host.clone(),
        broker_port: addresses.broker.port(),
        enrolment_port: addresses.enrolment.port(),
    };
    let enrolled = Arc::clone(&fleet);
    let enrolment_served = tokio::spawn(enrolment_http::serve(
        enrolment_listener,
        Arc::clone(&enrolment),
        address.clone(),
        Arc::new(move |record| enrolled.put(record.clone())),
        shutdown.clone(),
    ));
    let app = Arc::new(Relay {
        config: Arc::clone(&config),
        store: store.clone(),
        sealer,
        accounts,
        enrolment,
        fleet,
        sessions,
        address,
        event_streams: Arc::new(Semaphore::new(crate::app::EVENT_STREAMS_MAX)),
        downloads: Arc::new(Semaphore::new(dashboard::DOWNLOADS_MAX)),
        shutdown: shutdown.clone(),
    });
    let keeper = Keeper::new(Arc::clone(&config), store.clone());
    tokio::spawn(keeper.run(shutdown.clone()));
    let exported = tokio::spawn(store.keep_exported(shutdown.clone()));
    let pages = tokio::spawn(dashboard::serve(dashboard_listener, app));
    tracing::info!(
        dashboard = %addresses.dashboard, broker = %addresses.broker, enrolment = %addresses.enrolment, resumed,
        "relay is up"
    );
    ready(addresses);

    let mut ended = shutdown.clone();
    let outcome = tokio::select! {
        () = ended.wait() => Ok(()),
        Some(cause) = fatal_queue.recv() => Err(RelayError::Fatal(cause)),
    };
    if outcome.is_ok() {
        let drained = async { drop(tokio::join!(pages, enrolment_served, exported)) };
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
    }
    outcome
}
