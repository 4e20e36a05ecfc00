//! The socket, or pair of sockets, of one link and its life.

use super::LinkSpec;
use crate::port_pair::PortPair;
use crate::reopen::{Backoff, Remedy, diagnose};
use crate::udp::{Binding, Departure, Flushed, ReceiveSlots, Received, UdpPort};
use bond::Channel;
use bond::config::Profile;
use bond::sender::LinkErrorKind;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use units::{LinkId, Timestamp};

/// One link: always known, with sockets while they can be opened.
#[derive(Debug)]
pub(crate) struct Link {
    spec: LinkSpec,
    profile: Profile,
    sockets: Sockets,
    backoff: Backoff,
    pub(crate) counters: LinkCounters,
}

/// What the link did with datagrams since it was added, besides sending and receiving them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinkCounters {
    /// Dropped by sockets that are closed by now, or while there was none.
    dropped_before: u64,
    pub(crate) foreign: u64,
    pub(crate) reopened: u64,
}

#[derive(Debug)]
enum Sockets {
    Open(Box<PortPair>),
    /// `ports` were used last: a NAT keeps its mapping when they can be had again.
    Failed {
        retry_at: Timestamp,
        ports: Ports,
    },
}

/// Local port numbers; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
struct Ports {
    media: u16,
    control: u16,
}

impl Link {
    /// A link with its sockets, or with the error that kept it from opening them; it is tried again.
    pub(crate) fn open(spec: LinkSpec, profile: Profile, now: Timestamp) -> (Self, Result<(), LinkErrorKind>) {
        let sockets = Sockets::Failed { retry_at: now, ports: Ports::default() };
        let mut link = Self { spec, profile, sockets, backoff: Backoff::default(), counters: LinkCounters::default() };
        let opened = link.try_open(now);
        (link, opened)
    }

    pub(crate) fn id(&self) -> LinkId {
        self.spec.id
    }

    /// When to try to open the sockets again; `None` while they are open.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        match self.sockets {
            Sockets::Failed { retry_at, .. } => Some(retry_at),
            Sockets::Open(_) => None,
        }
    }

    /// Opens the sockets again, on the same ports when they are free.
    pub(crate) fn reopen(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        self.try_open(now)?;
        self.counters.reopened += 1;
        Ok(())
    }

    fn try_open(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        let Sockets::Failed { ports, .. } = self.sockets else { return Ok(()) };
        let pair = PortPair::open_free(self.profile, |channel| match channel {
            Channel::Media => self.bind(ports.media),
            Channel::Control => self.bind(ports.control),
        });
        match pair {
            Ok(pair) => {
                self.sockets = Sockets::Open(Box::new(pair));
                Ok(())
            }
            Err(error) => {
                let retry_at = self.backoff.failed(now);
                tracing::debug!(link = %self.spec.id, error = %error, "a link's socket cannot be opened");
                self.sockets = Sockets::Failed { retry_at, ports };
                Err(diagnose(&error).0)
            }
        }
    }

    fn bind(&self, port: u16) -> io::Result<UdpPort> {
        let mut binding = Binding::towards(self.spec.remote, self.spec.bind, self.spec.device.as_deref());
        if port != 0 {
            binding.address.set_port(port);
            if let Ok(same) = UdpPort::open(&binding) {
                return Ok(same);
            }
            binding.address.set_port(0);
        }
        UdpPort::open(&binding)
    }

    /// The open sockets, with their channels; none while the link has failed.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (Channel, &UdpPort)> {
        self.pair().into_iter().flat_map(PortPair::iter)
    }

    fn pair(&self) -> Option<&PortPair> {
        match &self.sockets {
            Sockets::Open(pair) => Some(pair),
            Sockets::Failed { .. } => None,
        }
    }

    fn port_mut(&mut self, channel: Channel) -> Option<&mut UdpPort> {
        match &mut self.sockets {
            Sockets::Open(pair) => pair.get_mut(channel),
            Sockets::Failed { .. } => None,
        }
    }

    fn remote(&self, channel: Channel) -> SocketAddr {
        let mut remote = self.spec.remote;
        if channel == Channel::Control {
            remote.set_port(remote.port().wrapping_add(1));
        }
        remote
    }

    /// Queues a datagram for the receiver; [`Link::flush`] sends it.
    pub(crate) fn post(&mut self, channel: Channel, datagram: Bytes) {
        let to = self.remote(channel);
        match self.port_mut(channel) {
            Some(port) => port.post(Departure { to, from: None, datagram }),
            None => self.counters.dropped_before += 1,
        }
    }

    /// Sends what was posted.
    pub(crate) fn flush(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        for channel in [Channel::Media, Channel::Control] {
            let Some(port) = self.port_mut(channel).filter(|port| port.waiting() > 0) else { continue };
            let sent = port.counters().sent;
            let flushed = port.flush();
            if port.counters().sent > sent {
                self.backoff.worked();
            }
            match flushed {
                Ok(Flushed::All | Flushed::Blocked) => {}
                Err(error) => return Err(self.failed(now, &error)),
            }
        }
        Ok(())
    }

    /// Takes arrivals from the socket of `channel` into `slots`.
    pub(crate) fn receive(
        &mut self,
        now: Timestamp,
        channel: Channel,
        slots: &mut ReceiveSlots,
    ) -> Result<Received, LinkErrorKind> {
        match self.port_mut(channel).map(|port| port.receive(slots)) {
            None => Ok(Received::All),
            Some(Ok(received)) => Ok(received),
            Some(Err(error)) => Err(self.failed(now, &error)),
        }
    }

    /// Whether a datagram on `channel` comes from the link's receiver; what comes from elsewhere is counted.
    pub(crate) fn admits(&mut self, channel: Channel, from: SocketAddr) -> bool {
        let admitted = from == self.remote(channel);
        self.counters.foreign += u64::from(!admitted);
        admitted
    }

    /// Draws the consequence of a socket error.
    fn failed(&mut self, now: Timestamp, error: &io::Error) -> LinkErrorKind {
        let (kind, remedy) = diagnose(error);
        if remedy == Remedy::Reopen {
            tracing::warn!(link = %self.spec.id, error = %error, "a link's socket failed and will be opened again");
            let port_of = |port: &UdpPort| port.local_addr().map_or(0, |address| address.port());
            let mut ports = Ports::default();
            for (channel, port) in self.ports() {
                match channel {
                    Channel::Media => ports.media = port_of(port),
                    Channel::Control => ports.control = port_of(port),
                }
            }
            self.counters.dropped_before += self.pair().map_or(0, |pair| pair.dropped() + pair.waiting());
            self.sockets = Sockets::Failed { retry_at: self.backoff.failed(now), ports };
        }
        kind
    }

    /// Datagrams that never left, since the link was added.
    pub(crate) fn dropped(&self) -> u64 {
        self.counters.dropped_before + self.pair().map_or(0, PortPair::dropped)
    }
}
