//! Free ports for tests, each given to one user only.
//!
//! A test tells a port to a program that binds it a moment later. Until then nothing holds it, so three things are needed:
//! it lies below the range from which the kernel draws ports for sockets bound to 0; no other test gets it (an abstract socket,
//! a name that only the kernel keeps, tells the processes of one network); and looking for it leaves no trace. Binding it
//! to see whether that goes would: a child that another thread is starting holds a copy of every socket until it becomes its
//! program, and so keeps a port bound that its parent has closed. The kernel's tables tell without.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where they lie: blocks of 16 pairs, each held by one process.
const FIRST: u16 = 10_000;
const BLOCKS: u16 = 300;
const BLOCK_PORTS: u16 = 32;
/// The longest that a program may take to listen.
const LISTENS_MAX: Duration = Duration::from_secs(20);
/// The kernel's tables of sockets. Reading TCP's takes it milliseconds: they are asked only for what is to be a TCP port.
const UDP: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];
const TCP: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

static GIVEN: Mutex<Given> = Mutex::new(Given { blocks: Vec::new(), left: 0..0 });

/// What this process has.
struct Given {
    /// Sockets whose names hold its blocks.
    blocks: Vec<UnixDatagram>,
    /// Ports of the last block that nobody was given yet.
    left: Range<u16>,
}

/// `port` of this machine, for itself only.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An even UDP port that nobody uses, nor the next one; given to nobody else while this process lives.
///
/// # Panics
/// None is left.
pub fn free_pair() -> u16 {
    free(UDP)
}

/// A TCP port that nobody uses; given to nobody else while this process lives.
///
/// # Panics
/// None is left.
pub fn free_tcp_port() -> u16 {
    free(TCP)
}

fn free(tables: [&str; 2]) -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        while let Some(port) = given.left.next() {
            let other = given.left.next();
            if other.is_some_and(|other| is_free(tables, &[port, other])) {
                return port;
            }
        }
        let (held, left) = hold_block();
        given.blocks.push(held);
        given.left = left;
    }
}

/// Waits until some program has bound UDP port `port`: on a busy machine one takes a second to start, and a stream does not
/// wait. (Trying to bind it would be in the program's way.)
///
/// # Panics
/// None has after 20 s.
pub fn wait_until_bound(port: u16) {
    let started = Instant::now();
    while is_free(UDP, &[port]) {
        assert!(started.elapsed() < LISTENS_MAX, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hold_block() -> (UnixDatagram, Range<u16>) {
    // Processes begin at different places, so that what one leaves behind in the kernel is not another's first.
    let start = std::process::id() * 7;
    (0..u32::from(BLOCKS))
        .find_map(|look| {
            let block = ((start + look) % u32::from(BLOCKS)) as u16;
            let name = UnixAddr::from_abstract_name(format!("strata-test-ports-{block}")).ok()?;
            let first = FIRST + block * BLOCK_PORTS;
            Some((UnixDatagram::bind_addr(&name).ok()?, first..first + BLOCK_PORTS))
        })
        .unwrap_or_else(|| panic!("no free ports from {FIRST} to {}", FIRST + BLOCKS * BLOCK_PORTS))
}

/// Whether no socket in the kernel's `tables` has one of `ports` as its own. A table that is absent (no IPv6) has none.
fn is_free(tables: [&str; 2], ports: &[u16]) -> bool {
    let ends: Vec<String> = ports.iter().map(|port| format!(":{port:04X}")).collect();
    let taken = |line: &str| {
        // "  sl  local_address rem_address ..."
        let local = line.split_whitespace().nth(1).unwrap_or_default();
        ends.iter().any(|end| local.ends_with(end))
    };
    !tables.iter().any(|table| std::fs::read_to_string(table).unwrap_or_default().lines().any(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn each_is_given_once_and_what_is_taken_never() {
        let pairs: Vec<u16> = (0..40).map(|_| free_pair()).collect();
        let distinct: BTreeSet<u16> = pairs.iter().copied().collect();
        assert_eq!(distinct.len(), pairs.len());
        assert!(pairs.iter().all(|pair| pair % 2 == 0));

        let [udp, tcp] = [pairs[0], free_tcp_port()];
        assert!(!distinct.contains(&tcp));
        let _udp = UdpSocket::bind(loopback(udp + 1)).unwrap();
        let _tcp = TcpListener::bind(loopback(tcp)).unwrap();
        assert!(!is_free(UDP, &[udp, udp + 1]) && is_free(UDP, &[udp]) && is_free(UDP, &[tcp]));
        assert!(!is_free(TCP, &[tcp]));
        wait_until_bound(udp + 1);
    }

    /// A look at a port that leaves it taken now and then: binding it did so to 1 of 400 here.
    #[test]
    fn looking_leaves_a_port_free_while_others_start_programs() {
        let done = AtomicBool::new(false);
        let taken = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        Command::new("true").status().expect("every machine has it");
                    }
                });
            }
            let ports = (0..5000).map(|look| 20_100 + look % 500);
            let taken: Vec<u16> =
                ports.filter(|port| is_free(UDP, &[*port]) && UdpSocket::bind(loopback(*port)).is_err()).collect();
            done.store(true, Ordering::Relaxed);
            taken
        });
        assert_eq!(taken, []);
    }
}
