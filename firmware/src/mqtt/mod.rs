//! The device's MQTT session with the relay: MQTT 3.1.1 over TLS 1.3 with the device's certificate.
//!
//! * [`backoff`]: when to try again.
//! * [`queue`]: what must reach the relay, kept on disk while there is no session.
//! * [`bridge`]: TLS below the MQTT client, which knows no TLS itself.
//! * [`session`]: one connection from CONNECT to its end, and the task that keeps making new ones.
//!
//! The session is clean, so commands never wait for an absent device. Telemetry is dropped when there is no room; events
//! and command results wait in the queue; the reported state is one retained message, the newest wins.

pub mod backoff;
mod bridge;
pub mod queue;
mod session;

pub use session::{RelayEvent, Session, SessionHandle, start};
