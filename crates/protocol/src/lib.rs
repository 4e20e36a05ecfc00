//! The words that agent, relay, streamer and receiver say to each other. No I/O.
//!
//! * [`topic`]: every MQTT topic, spelled once.
//! * [`envelope`]: version, id, time and kind around each MQTT payload; unknown versions and kinds are typed errors.
//! * [`command`], [`state`], [`telemetry`]: what travels between relay and device.
//! * [`stream`]: what a stream is asked to be.
//! * [`enrolment`]: the one HTTP exchange before a device has a certificate.
//! * [`worker`]: the JSON lines between a control process and its media process on a local socket.
//!
//! Payloads are JSON. Fields are only ever added; a reader ignores fields it does not know, so an old device works
//! with a new relay. Golden files in `tests/golden` pin every message. Sizes are bounded by [`limits`].

pub mod command;
pub mod enrolment;
pub mod envelope;
pub mod limits;
pub mod state;
pub mod stream;
pub mod telemetry;
pub mod topic;
pub mod worker;

pub use envelope::{Envelope, EnvelopeError};
pub use topic::Topic;
pub use units::Secret;
