//! What the services share: configuration files, logging, readiness and watchdog, orderly shutdown, the worker socket, and
//! starting a worker that outlives its starter. No product decision lives here.

pub mod config;
pub mod log;
pub mod notify;
pub mod shutdown;
pub mod socket;
pub mod spawn;
