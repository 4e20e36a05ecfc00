//! Free ports on loopback, each given to one user only.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;

/// Below the range from which the kernel draws ports for sockets bound to 0.
const FIRST: u16 = 12_000;
const PAIRS: u16 = 9_000;

static NEXT: Mutex<Option<u16>> = Mutex::new(None);

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An even port that is free together with the next one. Test processes start at places far apart: several may run.
pub fn free_pair() -> u16 {
    let mut next = NEXT.lock().expect("no panic inside the lock");
    let mut pair = next.unwrap_or((std::process::id() * 389 % u32::from(PAIRS)) as u16);
    loop {
        pair = (pair + 1) % PAIRS;
        let port = FIRST + 2 * pair;
        if [port, port + 1].iter().all(|p| UdpSocket::bind(loopback(*p)).is_ok()) {
            *next = Some(pair);
            return port;
        }
    }
}
