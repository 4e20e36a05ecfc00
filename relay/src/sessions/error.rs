//! Why a stream does not start or stop.

use super::DESTINATIONS_MAX;
use crate::secrets::SecretsError;
use crate::store::StoreError;
use protocol::stream::SpecError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use units::DeviceId;

/// Why a stream does not start or stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No such device.
    #[error("there is no device {device}")]
    PeerNoDevice {
        /// As given.
        device: DeviceId,
    },
    /// The device is offline.
    #[error("{device} is offline; start it when it is connected")]
    PeerOffline {
        /// Its name.
        device: String,
    },
    /// The device has a stream.
    #[error("{device} is streaming already, started by {by}; stop that stream first")]
    PeerBusy {
        /// Its name.
        device: String,
        /// Who started it.
        by: String,
    },
    /// The device has no stream.
    #[error("{device} has no stream to stop")]
    PeerIdle {
        /// As given.
        device: DeviceId,
    },
    /// A destination is unknown.
    #[error("there is no destination {id}; it may have been deleted")]
    PeerNoDestination {
        /// As given.
        id: String,
    },
    /// Too many destinations.
    #[error("{got} destinations are too many, a stream feeds at most {DESTINATIONS_MAX}")]
    PeerTooMany {
        /// How many.
        got: usize,
    },
    /// A value is out of range.
    #[error(transparent)]
    PeerSpec(#[from] SpecError),
    /// All ports are in use.
    #[error("every port of [receivers] port_first to port_last is in use; stop a stream or widen the range")]
    NoPort,
    /// The stream's directory cannot be made.
    #[error("cannot make {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error("the stream's key cannot be sealed or opened")]
    Secrets(#[from] SecretsError),
}
