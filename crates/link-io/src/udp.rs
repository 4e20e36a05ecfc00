//! One UDP socket with large buffers, batched receive (recvmmsg + GRO) and batched send (GSO).
//!
//! The kernel never fragments what is sent here (path-MTU probing needs the truth), and a send that finds no room waits
//! in a bounded outbox for the socket to become writable. Where the kernel or an interface refuses to cut trains into
//! datagrams (GSO), they go one by one from then on; with `BOND_GSO=off` in the environment they always do.

use crate::receive_slots::{Meta, ReceiveSlots, SLOT_BYTES};
use crate::waker::{SocketId, Watched};
use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use units::Ecn;

/// Room for arrivals while the thread does something else: 1.6 s of 20 Mbit/s.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Room for departures. A queue in the kernel is delay nobody measures before it is there, so it stays short of what a
/// slow modem sends in a second; the engine paces anyway.
const SEND_BUFFER_BYTES: usize = 512 << 10;
/// Datagrams that wait for a socket to become writable; later ones are dropped and counted.
pub(crate) const OUTBOX_DATAGRAMS_MAX: usize = 256;
/// Datagrams handed to the kernel in one call at most.
const GSO_DATAGRAMS_MAX: usize = 32;
/// Bytes handed to the kernel in one call at most (the kernel's own limit is 65535 with headers).
const GSO_BYTES_MAX: usize = 60_000;
/// Datagram trains taken from the kernel in one call.
pub(crate) const CALL_TRAINS_MAX: usize = if BATCH_SIZE < 16 { BATCH_SIZE } else { 16 };
/// Room for what the kernel tells beside a train: when it came (32 bytes), where it is cut (24), to which address it was sent
/// (40) and its ECN field (24). What finds no room is missing, the last first.
const CONTROL_BYTES: usize = 160;
/// Calls in which a media input takes what waits, before the rest of the turn.
pub(crate) const RECEIVE_CALLS_MAX: usize = 8;

/// Whether trains may be handed to the kernel at all: for drivers that take them and send something else.
fn trains_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| std::env::var_os("BOND_GSO").is_none_or(|value| value != "off"))
}

/// Whether the ECN field may be used at all: for networks that do worse with it than what is found out about them.
pub(crate) fn ecn_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| std::env::var_os("BOND_ECN").is_none_or(|value| value != "off"))
}

/// Where a socket is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Local address and port; port 0 lets the kernel choose.
    pub(crate) address: SocketAddr,
    /// Network interface the traffic must use (`SO_BINDTODEVICE`), whatever the routes say.
    pub(crate) device: Option<String>,
}

impl Binding {
    /// A free port that can talk to `remote`, on `bind` (or any address) and `device` (or any interface).
    pub(crate) fn towards(remote: SocketAddr, bind: Option<IpAddr>, device: Option<&str>) -> Self {
        let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        Self { address: SocketAddr::new(bind.unwrap_or(any), 0), device: device.map(str::to_owned) }
    }
}

/// What a socket did since it was opened, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    /// Dropped because the outbox was full or the kernel had no buffer.
    pub(crate) dropped: u64,
}

/// Whether the socket may hold more arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// As much was taken as a call takes.
    MaybeMore,
    /// The socket is empty.
    All,
}

/// One departure.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    pub(crate) to: SocketAddr,
    /// Local address to send from, where the socket has several.
    pub(crate) from: Option<IpAddr>,
    pub(crate) ecn: Ecn,
    pub(crate) datagram: Bytes,
}

/// Where a train is put together that the kernel cuts; shared by the sockets of one thread, so that it stays in the cache.
#[derive(Debug, Default)]
pub(crate) struct Train(Vec<u8>);

/// How the outbox stands after a flush.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything left.
    All,
    /// The socket is full; flush again when it is writable.
    Blocked,
}

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub(crate) struct UdpPort {
    id: SocketId,
    socket: UdpSocket,
    state: UdpSocketState,
    /// See [`trains_allowed`].
    trains: bool,
    outbox: VecDeque<Departure>,
    counters: Counters,
    /// Trains that a call brings, the most of some calls.
    brought: usize,
    /// Size of the datagram that the kernel refused last.
    refused_bytes: usize,
}

impl AsFd for UdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl UdpPort {
    /// Opens and binds.
    ///
    /// # Errors
    /// The address is in use or not on this machine, the device is missing, or the process may not bind to it.
    pub(crate) fn open(binding: &Binding) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(binding.address), Type::DGRAM, Some(Protocol::UDP))?;
        enlarge_buffers(&socket);
        if let Some(device) = &binding.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.bind(&binding.address.into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            id: SocketId::new(),
            socket,
            state,
            trains: trains_allowed(),
            outbox: VecDeque::new(),
            counters: Counters::default(),
            brought: 0,
            refused_bytes: 0,
        })
    }

    /// Of arrivals only where they come from and when is of interest: neither the address they were sent to nor their ECN field,
    /// which the kernel would tell at a cost.
    pub(crate) fn tell_less(&self) {
        // What cannot be turned off is told.
        let _ = setsockopt(&self.socket, sockopt::Ipv4PacketInfo, &false);
        let _ = setsockopt(&self.socket, sockopt::IpRecvTos, &false);
        let _ = setsockopt(&self.socket, sockopt::Ipv6RecvPacketInfo, &false);
        let _ = setsockopt(&self.socket, sockopt::Ipv6RecvTClass, &false);
    }

    /// Waits for datagrams, and for room to send while something waits for it.
    pub(crate) fn watched(&self) -> Watched<'_> {
        Watched::new(self.id, self, self.waiting() > 0)
    }

    /// The socket itself, for options beyond this type.
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Size of the datagram at which [`UdpPort::flush`] failed last; 0 before.
    pub(crate) fn refused_bytes(&self) -> usize {
        self.refused_bytes
    }

    /// Departures that wait for [`UdpPort::flush`], or for room in the socket after one.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Takes waiting datagrams from the kernel into `slots`, oldest first, behind what these hold; at most so many trains.
    ///
    /// # Errors
    /// What the kernel says about the socket, never "nothing there"; nothing is added to `slots` then.
    pub(crate) fn receive(&mut self, slots: &mut ReceiveSlots, trains_max: usize) -> io::Result<Received> {
        // The headers remember how much the kernel told last, so that each call takes new ones; no more than it is likely to need.
        let trains = (2 * self.brought + 2).min(CALL_TRAINS_MAX).min(trains_max).min(slots.room());
        if trains == 0 {
            return Ok(Received::MaybeMore);
        }
        let (vacant, metas) = slots.vacant(trains);
        let mut parts = vacant.iter_mut();
        let mut buffers: [[IoSliceMut<'_>; 1]; CALL_TRAINS_MAX] = std::array::from_fn(|_| {
            let part = parts.next().map_or(&mut [][..], |slot| &mut slot[..SLOT_BYTES]);
            [IoSliceMut::new(part)]
        });
        let mut headers = MultiHeaders::preallocate(trains, Some(Vec::with_capacity(CONTROL_BYTES)));
        let buffers = &mut buffers[..trains];
        let received = recvmmsg(self.socket.as_raw_fd(), &mut headers, buffers, MsgFlags::empty(), None);
        let mut brought = 0;
        match received {
            Ok(messages) => {
                for (message, meta) in messages.zip(metas) {
                    // What comes from nowhere is empty.
                    *meta = Meta::read(&message).unwrap_or_default();
                    brought += 1;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        slots.fill(brought);
        self.brought = brought.max(self.brought * 7 / 8);
        Ok(if brought == trains { Received::MaybeMore } else { Received::All })
    }

    /// Puts a datagram in the outbox; [`UdpPort::flush`] sends it.
    pub(crate) fn post(&mut self, departure: Departure) {
        if self.outbox.len() < OUTBOX_DATAGRAMS_MAX {
            self.outbox.push_back(departure);
        } else {
            self.counters.dropped += 1;
        }
    }

    /// Sends the outbox, neighbours of one size and destination in one call.
    ///
    /// # Errors
    /// What the kernel says about the datagram at the front, which is dropped and counted; the rest stays.
    pub(crate) fn flush(&mut self, train: &mut Train) -> io::Result<Flushed> {
        while !self.outbox.is_empty() {
            let count = self.train_length();
            match self.send_train(count, train) {
                Ok(()) => {
                    self.outbox.drain(..count);
                    self.counters.sent += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                // Segmentation offload was refused and is off from now on: the same datagrams go one by one.
                Err(_) if count > 1 && self.state.max_gso_segments() == 1 => {}
                Err(error) => {
                    self.refused_bytes = self.outbox.front().map_or(0, |front| front.datagram.len());
                    self.outbox.drain(..count);
                    self.counters.dropped += count as u64;
                    return Err(error);
                }
            }
        }
        Ok(Flushed::All)
    }

    /// How many datagrams at the front of the outbox can leave in one call: equal ones, and a shorter last.
    fn train_length(&self) -> usize {
        let Some(first) = self.outbox.front() else { return 0 };
        let size = first.datagram.len();
        let possible = if self.trains { self.state.max_gso_segments() } else { 1 };
        let limit = possible.min(GSO_DATAGRAMS_MAX).min(GSO_BYTES_MAX / size.max(1)).max(1);
        let mut count = 1;
        for next in self.outbox.iter().skip(1).take(limit - 1) {
            let alike = next.to == first.to && next.from == first.from && next.ecn == first.ecn;
            if !alike || next.datagram.len() > size {
                break;
            }
            count += 1;
            if next.datagram.len() < size {
                break;
            }
        }
        count
    }

    fn send_train(&self, count: usize, Train(train): &mut Train) -> io::Result<()> {
        let Some(first) = self.outbox.front() else { return Ok(()) };
        let size = first.datagram.len();
        let contents: &[u8] = if count == 1 {
            &first.datagram
        } else {
            train.clear();
            self.outbox.iter().take(count).for_each(|departure| train.extend_from_slice(&departure.datagram));
            train
        };
        let segment_size = (count > 1).then_some(size);
        let ecn = match first.ecn {
            Ecn::NotEct => None,
            Ecn::Ect1 => Some(EcnCodepoint::Ect1),
            Ecn::Ect0 => Some(EcnCodepoint::Ect0),
            Ecn::Ce => Some(EcnCodepoint::Ce),
        };
        let transmit = Transmit { destination: first.to, ecn, contents, segment_size, src_ip: first.from };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

/// Asks for large buffers: past the system's limit where the process may, up to it where not.
fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::receive_slots::Arrival;
    use std::time::{Duration, SystemTime};

    /// Waits until the kernel stamps what arrives: it begins a moment after the first socket asks for that, and until then gives
    /// the time of reading.
    pub(crate) fn wait_for_stamps() {
        let (mut here, mut slots) = (loopback(), ReceiveSlots::new(1));
        let to = here.local_addr().expect("bound");
        for _ in 0..1000 {
            post(&mut here, to, b"x");
            here.flush(&mut Train::default()).expect("sent");
            std::thread::sleep(Duration::from_millis(2));
            let read_at = SystemTime::now();
            slots.clear();
            here.receive(&mut slots, 1).expect("a working socket");
            let stamp = slots.stamp(0).expect("a stamp");
            if read_at.duration_since(SystemTime::UNIX_EPOCH + stamp).is_ok() {
                return;
            }
        }
        panic!("no stamps");
    }

    fn loopback() -> UdpPort {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        UdpPort::open(&Binding { address, device: None }).expect("a loopback socket")
    }

    fn post(port: &mut UdpPort, to: SocketAddr, datagram: &[u8]) {
        port.post(Departure { to, from: None, ecn: Ecn::NotEct, datagram: Bytes::copy_from_slice(datagram) });
    }

    /// What `read` finds in everything that waits.
    fn received_as<T>(port: &mut UdpPort, read: impl Fn(Arrival<'_>) -> T) -> Vec<T> {
        let mut slots = ReceiveSlots::new(CALL_TRAINS_MAX);
        let mut all = Vec::new();
        loop {
            slots.clear();
            let received = port.receive(&mut slots, CALL_TRAINS_MAX).expect("a working socket");
            all.extend(slots.arrivals().map(&read));
            if received == Received::All {
                return all;
            }
        }
    }

    fn received(port: &mut UdpPort) -> Vec<Vec<u8>> {
        received_as(port, |arrival| arrival.datagram.to_vec())
    }

    #[test]
    fn datagrams_of_mixed_sizes_arrive_whole_and_in_order() {
        let (mut here, mut there) = (loopback(), loopback());
        let to = there.local_addr().expect("bound");
        let sent: Vec<Vec<u8>> =
            (0..100_u8).map(|i| vec![i; [1316, 1316, 1316, 40, 1400, 700][usize::from(i) % 6]]).collect();
        for datagram in &sent {
            post(&mut here, to, datagram);
        }
        assert_eq!(here.flush(&mut Train::default()).expect("a working socket"), Flushed::All);
        assert_eq!(received(&mut there), sent);
        assert_eq!(here.counters(), Counters { sent: 100, ..Counters::default() });
    }

    #[test]
    fn every_datagram_keeps_its_ecn_codepoint() {
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
            let open = || UdpPort::open(&Binding { address, device: None }).expect("a loopback socket");
            let (mut here, mut there) = (open(), open());
            let to = there.local_addr().expect("bound");
            let codepoints = [Ecn::Ect1, Ecn::Ect1, Ecn::NotEct, Ecn::Ce, Ecn::Ect0, Ecn::Ect0];
            for (number, ecn) in (0..60_u8).zip(codepoints.into_iter().cycle()) {
                here.post(Departure { to, from: None, ecn, datagram: Bytes::from(vec![number; 1000]) });
            }
            assert_eq!(here.train_length(), 2.min(here.state.max_gso_segments()), "trains are of one codepoint");
            assert_eq!(here.flush(&mut Train::default()).expect("a working socket"), Flushed::All);
            let seen = received_as(&mut there, |arrival| (arrival.datagram[0], arrival.ecn));
            assert!(seen.iter().copied().eq((0..60).zip(codepoints.into_iter().cycle())), "{seen:?}");
        }
    }

    #[test]
    fn without_trains_datagrams_leave_one_by_one() {
        let (mut here, mut there) = (loopback(), loopback());
        here.trains = false;
        let to = there.local_addr().expect("bound");
        let sent = vec![vec![5; 1000]; 20];
        for datagram in &sent {
            post(&mut here, to, datagram);
        }
        assert_eq!(here.train_length(), 1);
        assert_eq!(here.flush(&mut Train::default()).expect("a working socket"), Flushed::All);
        assert_eq!(received(&mut there), sent);
    }

    #[test]
    fn a_train_ends_at_a_shorter_datagram_or_another_destination() {
        let (mut here, to, other) = (loopback(), loopback(), loopback());
        let (to, other) = (to.local_addr().expect("bound"), other.local_addr().expect("bound"));
        for size in [1000, 1000, 600, 600] {
            post(&mut here, to, &vec![7; size]);
        }
        assert_eq!(here.train_length(), 3.min(here.state.max_gso_segments()));
        here.outbox.clear();
        post(&mut here, to, &[1; 500]);
        post(&mut here, other, &[1; 500]);
        assert_eq!(here.train_length(), 1);
        here.outbox.clear();
        post(&mut here, to, &[1; 500]);
        post(&mut here, to, &[1; 501]);
        assert_eq!(here.train_length(), 1);
    }

    #[test]
    fn the_outbox_is_bounded_and_counts_what_it_drops() {
        let mut here = loopback();
        let to = here.local_addr().expect("bound");
        for _ in 0..OUTBOX_DATAGRAMS_MAX + 5 {
            post(&mut here, to, b"x");
        }
        assert_eq!(here.counters().dropped, 5);
        assert_eq!(here.waiting(), OUTBOX_DATAGRAMS_MAX);
    }

    #[test]
    fn an_oversize_datagram_is_an_error_and_the_next_one_leaves() {
        let (mut here, mut there) = (loopback(), loopback());
        let to = there.local_addr().expect("bound");
        post(&mut here, to, &vec![0; 65_530]);
        post(&mut here, to, b"next");
        let error = here.flush(&mut Train::default()).expect_err("longer than the interface carries");
        assert!(quinn_udp::is_msg_size_err(&error), "{error}");
        assert_eq!(here.refused_bytes(), 65_530);
        assert_eq!(here.flush(&mut Train::default()).expect("a working socket"), Flushed::All);
        assert_eq!(received(&mut there), [b"next".to_vec()]);
    }

    #[test]
    fn arrivals_say_where_from_and_where_to() {
        let mut wildcard =
            UdpPort::open(&Binding { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), device: None })
                .expect("one");
        let port = wildcard.local_addr().expect("bound").port();
        let mut here = loopback();
        let second = IpAddr::from([127, 0, 0, 2]);
        post(&mut here, SocketAddr::new(second, port), b"hello");
        here.flush(&mut Train::default()).expect("sent");
        let seen = received_as(&mut wildcard, |a| (a.from, a.to, a.stamp.is_some()));
        assert_eq!(seen, [(here.local_addr().expect("bound"), Some(second), true)]);
        let datagram = Bytes::from_static(b"answer");
        wildcard.post(Departure { to: seen[0].0, from: seen[0].1, ecn: Ecn::NotEct, datagram });
        wildcard.flush(&mut Train::default()).expect("sent");
        let from = received_as(&mut here, |a| a.from);
        assert_eq!(from, [SocketAddr::new(second, port)], "the answer comes from the address that was called");
    }

    #[test]
    fn a_missing_device_is_refused_when_opening() {
        let binding = Binding::towards(SocketAddr::from(([127, 0, 0, 1], 9)), None, Some("strata-none0"));
        assert!(UdpPort::open(&binding).is_err());
    }
    #[test]
    fn no_more_is_taken_than_there_may_be_and_the_rest_comes_later() {
        let (mut here, mut there) = (loopback(), loopback());
        here.trains = false;
        let to = there.local_addr().expect("bound");
        for number in 0..6 {
            post(&mut here, to, &[number; 10]);
        }
        here.flush(&mut Train::default()).expect("sent");
        let mut slots = ReceiveSlots::new(5);
        let mut receive =
            |slots: &mut ReceiveSlots, most| there.receive(slots, most).expect("a working socket") == Received::All;
        assert!(!receive(&mut slots, 1) && slots.filled() == 1);
        assert!(!receive(&mut slots, 3) && slots.filled() > 1 && slots.filled() <= 4, "{}", slots.filled());
        while slots.room() > 0 {
            assert!(!receive(&mut slots, 9));
        }
        assert!(!receive(&mut slots, 9), "without room nobody knows");
        let mut held: Vec<u8> =
            (0..5).map(|train| slots.train(train).next().expect("a datagram").datagram[0]).collect();
        slots.clear();
        assert!(receive(&mut slots, 9));
        held.push(slots.train(0).next().expect("a datagram").datagram[0]);
        assert_eq!(held, [0, 1, 2, 3, 4, 5]);
    }
}
