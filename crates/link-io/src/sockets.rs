//! Sockets that are opened again when they fail: the life a sender's link and a receiver's address have in common.

use crate::port_pair::PortPair;
use crate::receive_slots::ReceiveSlots;
use crate::reopen::Backoff;
use crate::udp::{Departure, Received, UdpPort};
use bond::Channel;
use std::io;
use units::Timestamp;

/// A socket, or the pair of Simple Profile, while it can be opened.
#[derive(Debug)]
pub(crate) struct Sockets {
    state: State,
    backoff: Backoff,
    /// Dropped by sockets that are closed by now, or while there was none.
    dropped_before: u64,
}

#[derive(Debug)]
enum State {
    Open(Box<PortPair>),
    Failed { retry_at: Timestamp },
}

impl Sockets {
    /// Not opened yet; to be tried at once.
    pub(crate) fn closed(now: Timestamp) -> Self {
        Self { state: State::Failed { retry_at: now }, backoff: Backoff::default(), dropped_before: 0 }
    }

    pub(crate) fn opened(pair: PortPair) -> Self {
        Self { state: State::Open(Box::new(pair)), backoff: Backoff::default(), dropped_before: 0 }
    }

    /// When to try to open them again; `None` while they are open.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Failed { retry_at } => Some(retry_at),
            State::Open(_) => None,
        }
    }

    /// Takes what an attempt to open them gave; after an error the next one follows a growing pause.
    ///
    /// # Errors
    /// That of the attempt.
    pub(crate) fn reopen(&mut self, now: Timestamp, attempt: io::Result<PortPair>) -> io::Result<()> {
        let opened = attempt.map(|pair| self.state = State::Open(Box::new(pair)));
        if opened.is_err() {
            self.state = State::Failed { retry_at: self.backoff.failed(now) };
        }
        opened
    }

    /// Closes them: they belong to an address or interface that is gone. True when they had worked since they failed last: what
    /// goes on failing is told once.
    pub(crate) fn fail(&mut self, now: Timestamp) -> bool {
        let is_news = self.backoff.is_fresh();
        self.dropped_before += self.pair().map_or(0, |pair| pair.dropped() + pair.waiting());
        self.state = State::Failed { retry_at: self.backoff.failed(now) };
        is_news
    }

    fn pair(&self) -> Option<&PortPair> {
        match &self.state {
            State::Open(pair) => Some(pair),
            State::Failed { .. } => None,
        }
    }

    /// The open sockets, with their channels; none after a failure.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (Channel, &UdpPort)> {
        self.pair().into_iter().flat_map(PortPair::iter)
    }

    pub(crate) fn port_mut(&mut self, channel: Channel) -> Option<&mut UdpPort> {
        match &mut self.state {
            State::Open(pair) => pair.get_mut(channel),
            State::Failed { .. } => None,
        }
    }

    /// The port of `channel` when it has something to flush.
    pub(crate) fn waiting_port_mut(&mut self, channel: Channel) -> Option<&mut UdpPort> {
        self.port_mut(channel).filter(|port| port.waiting() > 0)
    }

    /// Queues a datagram, or counts it as dropped while there is no socket.
    pub(crate) fn post(&mut self, channel: Channel, departure: Departure) {
        match self.port_mut(channel) {
            Some(port) => port.post(departure),
            None => self.dropped_before += 1,
        }
    }

    /// Takes arrivals from the socket of `channel` into `slots`, at most so many trains.
    ///
    /// # Errors
    /// What the kernel says about the socket.
    pub(crate) fn receive(
        &mut self,
        channel: Channel,
        slots: &mut ReceiveSlots,
        trains_max: usize,
    ) -> io::Result<Received> {
        self.port_mut(channel).map_or(Ok(Received::All), |port| port.receive(slots, trains_max))
    }

    /// The socket carries traffic: after its next failure the pauses start over.
    pub(crate) fn worked(&mut self) {
        self.backoff.worked();
    }

    /// Datagrams that never left.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped_before + self.pair().map_or(0, PortPair::dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bond::config::Profile;
    use bytes::Bytes;
    use std::net::{Ipv4Addr, SocketAddr};
    use units::Ecn;

    fn pair() -> PortPair {
        PortPair::open_neighbours(Profile::Main, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port")
    }

    fn departure() -> Departure {
        let (to, datagram) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), Bytes::from_static(b"x"));
        Departure { to, from: None, ecn: Ecn::NotEct, datagram }
    }

    #[test]
    fn what_a_failure_costs_is_counted() {
        let now = Timestamp::from_millis(1);
        let mut sockets = Sockets::opened(pair());
        sockets.post(Channel::Media, departure());
        assert_eq!((sockets.dropped(), sockets.ports().count()), (0, 1));
        assert!(sockets.fail(now));
        sockets.post(Channel::Media, departure());
        assert_eq!((sockets.dropped(), sockets.ports().count()), (2, 0));
        sockets.reopen(now, Ok(pair())).expect("opened");
        assert_eq!((sockets.dropped(), sockets.ports().count(), sockets.retry_at()), (2, 1, None));
    }

    #[test]
    fn attempts_are_spaced_until_the_socket_works() {
        let now = Timestamp::from_millis(1);
        let mut sockets = Sockets::closed(now);
        assert_eq!(sockets.retry_at(), Some(now));
        let refuse = || Err(io::ErrorKind::AddrInUse.into());
        let mut pause = || {
            sockets.reopen(now, refuse()).expect_err("refused");
            sockets.retry_at().expect("failed") - now
        };
        let first = pause();
        assert!(pause() > first);
        assert!(!sockets.fail(now), "nothing has worked since");
        sockets.worked();
        assert!(sockets.fail(now), "a failure after work is news");
        assert_eq!(sockets.retry_at().map(|at| at - now), Some(first));
    }
}
