//! Free ports on loopback, each given to one user only.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Below the range from which the kernel draws ports for sockets bound to 0.
const FIRST: u16 = 12_000;
const PAIRS: u16 = 9_000;
/// The longest that a program may take to listen.
const LISTENS_MAX: Duration = Duration::from_secs(20);

/// The last pair given, and what holds every pair given so far.
static GIVEN: Mutex<(Option<u16>, Vec<UnixDatagram>)> = Mutex::new((None, Vec::new()));

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An even port that is free together with the next one, and given to nobody else while this process lives: what is bound a
/// moment later by another program may not be taken by a test process beside this one. A name that only the kernel keeps
/// (an abstract socket) tells them.
pub fn free_pair() -> u16 {
    let mut given = GIVEN.lock().expect("no panic inside the lock");
    let mut pair = given.0.unwrap_or((std::process::id() * 389 % u32::from(PAIRS)) as u16);
    loop {
        pair = (pair + 1) % PAIRS;
        let port = FIRST + 2 * pair;
        let Some(held) = hold(port) else { continue };
        if [port, port + 1].iter().all(|p| UdpSocket::bind(loopback(*p)).is_ok()) {
            given.0 = Some(pair);
            given.1.push(held);
            return port;
        }
    }
}

fn hold(port: u16) -> Option<UnixDatagram> {
    let name = UnixAddr::from_abstract_name(format!("strata-test-port-{port}")).expect("a short name");
    UnixDatagram::bind_addr(&name).ok()
}

/// Waits until some program has bound UDP port `port`: on a busy machine one takes a second to start, and a stream does not
/// wait. (Trying to bind it would be in the program's way.)
///
/// # Panics
/// None has after 20 s.
pub fn wait_until_bound(port: u16) {
    let local = format!(":{port:04X} ");
    let started = Instant::now();
    loop {
        let sockets = std::fs::read_to_string("/proc/net/udp").expect("the kernel's list of sockets");
        if sockets.lines().any(|line| line.contains(&local)) {
            return;
        }
        assert!(started.elapsed() < LISTENS_MAX, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
