//! What the HTTP handlers share.

use crate::accounts::Accounts;
use crate::config::Config;
use crate::enrolment::{Enrolment, PublicAddress};
use crate::fleet::Fleet;
use crate::secrets::Sealer;
use crate::sessions::Sessions;
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Most pages that follow live events at once; one more is told to come back.
pub const EVENT_STREAMS_MAX: usize = 256;

/// The relay as the HTTP handlers see it.
#[derive(Debug)]
pub struct Relay {
    /// Configuration.
    pub config: Arc<Config>,
    /// Records.
    pub store: Store,
    /// Seals destinations' keys.
    pub sealer: Arc<Sealer>,
    /// Users and log-ins.
    pub accounts: Accounts,
    /// Claims and certificates.
    pub enrolment: Arc<Enrolment>,
    /// Devices.
    pub fleet: Arc<Fleet>,
    /// Streams.
    pub sessions: Arc<Sessions>,
    /// Where devices find us.
    pub address: PublicAddress,
    /// One permit a page that follows live events.
    pub event_streams: Arc<Semaphore>,
    /// One permit a recording that is downloaded.
    pub downloads: Arc<Semaphore>,
    /// Fires when the program ends: live pages must not hold it.
    pub shutdown: daemon::shutdown::Shutdown,
}

/// What handlers get.
pub type App = Arc<Relay>;
