//! One local address of a receiver: a socket, or the pair of Simple Profile.

use super::called::Called;
use crate::port_pair::PortPair;
use crate::receive_slots::ReceiveSlots;
use crate::reopen::{Remedy, diagnose};
use crate::sockets::Sockets;
use crate::udp::{Binding, Departure, Received, Train};
use bond::Channel;
use bond::config::Profile;
use bytes::Bytes;
use std::io;
use std::net::{IpAddr, SocketAddr};
use units::{Ecn, Timestamp};

/// Attempts to find an even port whose neighbour is free too.
const PAIR_ATTEMPTS_MAX: usize = 64;

/// A listening or calling socket (pair) that is opened again when it fails.
#[derive(Debug)]
pub(crate) struct ReceiverSocket {
    profile: Profile,
    /// Where it is bound since it was first opened.
    local: SocketAddr,
    /// The sender it calls.
    remote: Option<SocketAddr>,
    sockets: Sockets,
    /// Of use where the socket is bound to any address.
    called: Called,
    pub(crate) reopened: u64,
}

impl ReceiverSocket {
    /// Listens on `address`, and on the next port in Simple Profile.
    pub(crate) fn listen(profile: Profile, address: SocketAddr) -> io::Result<Self> {
        let attempts = if address.port() == 0 { PAIR_ATTEMPTS_MAX } else { 1 };
        let mut last = None;
        for _ in 0..attempts {
            match PortPair::open_neighbours(profile, address) {
                Ok(pair) => return Self::new(profile, pair),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// A free port to call `remote` from.
    pub(crate) fn call(profile: Profile, remote: SocketAddr) -> io::Result<Self> {
        let mut socket = Self::listen(profile, Binding::towards(remote, None, None).address)?;
        socket.remote = Some(remote);
        Ok(socket)
    }

    fn new(profile: Profile, pair: PortPair) -> io::Result<Self> {
        Ok(Self {
            profile,
            local: pair.local_addr()?,
            remote: None,
            sockets: Sockets::opened(pair),
            called: Called::default(),
            reopened: 0,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The sender to call from here.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The sockets, for waiting and counting.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Opens the sockets again where they were. True when that worked.
    pub(crate) fn reopen(&mut self, now: Timestamp) -> bool {
        let opened = self.sockets.reopen(now, PortPair::open_neighbours(self.profile, self.local));
        match &opened {
            Ok(()) => self.reopened += 1,
            Err(error) => tracing::debug!(local = %self.local, error = %error, "a socket cannot be opened"),
        }
        opened.is_ok()
    }

    /// Takes arrivals from the socket of `channel` into `slots`, at most so many trains.
    pub(crate) fn receive(
        &mut self,
        now: Timestamp,
        channel: Channel,
        slots: &mut ReceiveSlots,
        trains_max: usize,
    ) -> Received {
        let held = slots.filled();
        match self.sockets.receive(channel, slots, trains_max) {
            Ok(received) => {
                if slots.filled() > held {
                    self.sockets.worked();
                }
                received
            }
            Err(error) => {
                self.failed(now, &error);
                Received::All
            }
        }
    }

    /// Remembers which local address `peer` called.
    pub(crate) fn note_called(&mut self, peer: SocketAddr, called: Option<IpAddr>) {
        if let Some(called) = called.filter(|_| self.local.ip().is_unspecified()) {
            self.called.note(peer, called);
        }
    }

    /// Queues a datagram; [`ReceiverSocket::flush`] sends it.
    pub(crate) fn post(&mut self, channel: Channel, to: SocketAddr, datagram: Bytes) {
        let from = self.called.by(to);
        self.sockets.post(channel, Departure { to, from, ecn: Ecn::NotEct, datagram });
    }

    /// Sends what was posted. One unreachable peer does not keep the others waiting.
    pub(crate) fn flush(&mut self, now: Timestamp, train: &mut Train) {
        for channel in [Channel::Media, Channel::Control] {
            while let Some(port) = self.sockets.waiting_port_mut(channel) {
                match port.flush(train) {
                    Ok(_) => break,
                    Err(error) => self.failed(now, &error),
                }
            }
        }
    }

    /// Draws the consequence of a socket error: a peer without a route costs only its datagram, for other peers may be
    /// well; an error of the socket itself has it opened again.
    fn failed(&mut self, now: Timestamp, error: &io::Error) {
        let (_, remedy) = diagnose(error);
        let of_peer = matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable);
        if remedy == Remedy::Keep || of_peer {
            return;
        }
        if self.sockets.fail(now) {
            tracing::warn!(local = %self.local, error = %error, "a socket failed and will be opened again until it works");
        } else {
            tracing::debug!(local = %self.local, error = %error, "a socket failed again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn any_port() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[test]
    fn simple_profile_takes_an_even_port_and_its_neighbour() {
        let socket = ReceiverSocket::listen(Profile::Simple, any_port()).expect("a free pair");
        let ports: Vec<u16> = socket.sockets().ports().map(|(_, p)| p.local_addr().expect("bound").port()).collect();
        assert_eq!((ports.len(), ports[0] % 2, ports[1]), (2, 0, ports[0] + 1));
        assert_eq!(socket.local_addr().port(), ports[0]);
    }

    #[test]
    fn a_taken_port_is_refused() {
        let first = ReceiverSocket::listen(Profile::Main, any_port()).expect("a free port");
        let second = ReceiverSocket::listen(Profile::Main, first.local_addr());
        assert_eq!(second.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_failed_socket_comes_back_on_its_port() {
        let now = Timestamp::from_millis(1);
        let mut socket = ReceiverSocket::listen(Profile::Main, any_port()).expect("a free port");
        let local = socket.local_addr();
        socket.failed(now, &io::Error::from_raw_os_error(nix::libc::EMSGSIZE));
        assert_eq!(socket.sockets().retry_at(), None, "one datagram is no reason");
        socket.failed(now, &io::Error::from_raw_os_error(nix::libc::ENETUNREACH));
        assert_eq!(socket.sockets().retry_at(), None, "one peer is no reason");
        socket.failed(now, &io::Error::from_raw_os_error(nix::libc::ENODEV));
        assert!(socket.sockets().retry_at().is_some_and(|at| at > now));
        assert!(socket.reopen(now));
        assert_eq!((socket.sockets().retry_at(), socket.reopened), (None, 1));
        assert_eq!(socket.sockets().ports().next().and_then(|(_, p)| p.local_addr().ok()), Some(local));
    }

    /// Looking at it is no proof: one that fails whenever it sends would be opened ten times a second.
    #[test]
    fn a_socket_works_when_something_came() {
        let now = Timestamp::from_millis(1);
        let mut socket = ReceiverSocket::listen(Profile::Main, any_port()).expect("a free port");
        let mut slots = ReceiveSlots::new(1);
        let mut pause = |socket: &mut ReceiverSocket| {
            assert_eq!(socket.receive(now, Channel::Media, &mut slots, 1) == Received::All, slots.filled() == 0);
            slots.clear();
            socket.failed(now, &io::Error::from_raw_os_error(nix::libc::ENODEV));
            let pause = socket.sockets().retry_at().expect("failed") - now;
            assert!(socket.reopen(now));
            pause
        };
        let first = pause(&mut socket);
        assert_eq!(pause(&mut socket), 2 * first);
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.send_to(b"x", socket.local_addr()).expect("sent");
        assert_eq!(pause(&mut socket), first);
    }
}
