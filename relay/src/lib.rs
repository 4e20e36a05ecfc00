//! The relay: what devices connect to, operators look at, and streams come through.
//!
//! * Control plane, one process (`strata-relay`): [`broker`] (MQTT for devices), [`enrolment`] (their identity), [`fleet`]
//!   (what they say of themselves), [`sessions`] (streams from start to stop), [`accounts`], [`dashboard`] and [`api`] (HTTP),
//!   [`store`] (records).
//! * Data plane, one process a stream (`strata-receiver`), driven over a local socket by [`sessions`]: [`receiver`] takes
//!   the stream from the bond, [`media`] makes access units of it, [`outputs`] deliver them.
//!
//! The control plane never touches media, and may be restarted while streams run.

pub mod accounts;
pub mod api;
pub mod app;
pub mod broker;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod destinations;
pub mod disk;
pub mod door;
pub mod enrolment;
pub mod fleet;
pub mod media;
pub mod orders;
pub mod outputs;
pub mod problem;
pub mod receiver;
pub mod retention;
pub mod run;
pub mod secrets;
pub mod sessions;
pub mod store;
pub mod tls;
