//! Emulated network paths between real sockets: `link_sim` links behind UDP ports, with a NAT that can be rebound.

use super::seen::Seen;
use bond::config::Profile;
use free_ports::{free_pair, loopback};
use link_sim::{Path, PathConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use units::Timestamp;

/// Bytes of IP and UDP headers.
const HEADER_BYTES: usize = 28;

/// Paths that run until dropped.
pub struct Proxy {
    /// Where the sender sends to, one a path; the even port in Simple Profile.
    pub fronts: Vec<SocketAddr>,
    bindings: Arc<AtomicU32>,
    /// Paths that carry nothing, one bit each.
    cut: Arc<AtomicU32>,
    /// One for each path.
    seen: Vec<Arc<Mutex<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One UDP port of a path.
struct Lane {
    index: usize,
    front: UdpSocket,
    back: UdpSocket,
    binding: u32,
    target: SocketAddr,
    client: Option<SocketAddr>,
    path: Path<Vec<u8>>,
    seen: Arc<Mutex<Seen>>,
}

impl Proxy {
    /// Paths to `targets`, each as `config` says. `seed` makes their losses.
    pub fn start(profile: Profile, targets: &[SocketAddr], config: &PathConfig, seed: u64) -> Self {
        Self::start_each(profile, targets.iter().map(|target| (*target, config)), seed)
    }

    /// Paths to targets, each as its own configuration says.
    pub fn start_each<'a>(
        profile: Profile,
        targets: impl Iterator<Item = (SocketAddr, &'a PathConfig)>,
        seed: u64,
    ) -> Self {
        let mut lanes = Vec::new();
        let (mut fronts, mut all_seen) = (Vec::new(), Vec::new());
        for (i, (target, config)) in targets.enumerate() {
            let (media, control) = bind_pair();
            fronts.push(media.local_addr().expect("bound"));
            let seed = seed * 1000 + i as u64 * 2;
            let seen = Arc::new(Mutex::new(Seen::new(profile)));
            all_seen.push(Arc::clone(&seen));
            let lane = |front, target, seed| Lane::new(i, front, target, config, seed, Arc::clone(&seen));
            lanes.push(lane(media, target, seed));
            if profile == Profile::Simple {
                let target = SocketAddr::new(target.ip(), target.port() + 1);
                lanes.push(lane(control, target, seed + 1));
            }
        }
        let bindings = Arc::new(AtomicU32::new(0));
        let cut = Arc::new(AtomicU32::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (bindings, cut, stop) = (Arc::clone(&bindings), Arc::clone(&cut), Arc::clone(&stop));
            move || carry(lanes, &bindings, &cut, &stop)
        });
        Self { fronts, bindings, cut, seen: all_seen, stop, thread: Some(thread) }
    }

    /// From now on path `index` carries nothing, in either direction, and nobody is told.
    pub fn cut(&self, index: usize) {
        self.cut.fetch_or(1 << index, Ordering::SeqCst);
    }

    /// What has passed each path until now.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.iter().map(|seen| seen.lock().expect("no panic inside the lock").clone()).collect()
    }

    /// Gives every path another public source port; answers to the old ones vanish.
    pub fn rebind(&self) {
        self.bindings.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn socket(port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(loopback(port))?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    Ok(socket)
}

/// Sockets on an even port and the next one. Another process may be faster on a port that was free.
fn bind_pair() -> (UdpSocket, UdpSocket) {
    std::iter::repeat_with(free_pair)
        .take(100)
        .find_map(|port| Some((socket(port).ok()?, socket(port + 1).ok()?)))
        .expect("a free pair of ports")
}

impl Lane {
    fn new(
        index: usize,
        front: UdpSocket,
        target: SocketAddr,
        config: &PathConfig,
        seed: u64,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        let path = Path::new(config.clone(), seed).expect("a path that can be");
        let back = socket(0).expect("a free port");
        Self { index, front, back, binding: 0, target, client: None, path, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic inside the lock")
    }

    fn rebind(&mut self, binding: u32) {
        if binding != self.binding {
            self.binding = binding;
            self.back = socket(0).expect("a free port");
        }
    }

    fn take(&mut self, now: Timestamp) {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = self.front.recv_from(&mut buffer) {
            self.client = Some(from);
            self.seen().client_sends(&buffer[..length]);
            // What the link drops is its own affair.
            let _ = self.path.push_up(now, length + HEADER_BYTES, buffer[..length].to_vec());
        }
        while let Ok((length, _)) = self.back.recv_from(&mut buffer) {
            self.seen().target_sends(&buffer[..length]);
            let binding = self.path.binding(now);
            let _ = self.path.push_down(now, binding, length + HEADER_BYTES, buffer[..length].to_vec());
        }
    }

    fn give(&mut self, now: Timestamp, cut: bool) {
        while let Some(delivery) = self.path.poll_up(now) {
            if cut {
                continue;
            }
            self.seen().target_gets(&delivery.packet.1);
            let _ = self.back.send_to(&delivery.packet.1, self.target);
        }
        while let Some(delivery) = self.path.poll_down(now) {
            if let Some(client) = self.client.filter(|_| !cut) {
                let _ = self.front.send_to(&delivery.packet, client);
            }
        }
    }
}

fn carry(mut lanes: Vec<Lane>, bindings: &AtomicU32, cut: &AtomicU32, stop: &AtomicBool) {
    let started = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let now = Timestamp::ZERO + started.elapsed();
        for lane in &mut lanes {
            lane.rebind(bindings.load(Ordering::SeqCst));
            lane.take(now);
            lane.give(now, cut.load(Ordering::SeqCst) >> lane.index & 1 == 1);
        }
        let next = lanes.iter().filter_map(|lane| lane.path.next_event()).min().unwrap_or(Timestamp::MAX);
        let wait = next.since(Timestamp::ZERO + started.elapsed()).min(Duration::from_millis(20));
        let mut fds: Vec<PollFd<'_>> = lanes
            .iter()
            .flat_map(|lane| [lane.front.as_fd(), lane.back.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let wait = wait.max(Duration::from_millis(1));
        let _ = poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO));
    }
}
