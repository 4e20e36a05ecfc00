//! Readiness and watchdog, by the protocol of `sd_notify(3)`; without a service manager it does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells the service manager that the program serves.
pub fn ready() {
    send("READY=1");
}

/// Tells the service manager that the program is ending.
pub fn stopping() {
    send("STOPPING=1");
}

/// Tells the service manager that the program is alive.
pub fn alive() {
    send("WATCHDOG=1");
}

/// How often [`alive`] must be called: half of the manager's limit, absent when it watches nothing.
pub fn watchdog_period() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

fn send(state: &str) {
    let Some(path) = std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty()) else { return };
    let outcome = UnixDatagram::unbound().and_then(|socket| {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = outcome {
        tracing::warn!(%error, state, "cannot notify the service manager");
    }
}
