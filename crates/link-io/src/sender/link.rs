//! The socket, or pair of sockets, of one link and its life.

use super::LinkSpec;
use super::interfaces::{Interfaces, Place, Turn, turn};
use crate::port_pair::PortPair;
use crate::receive_slots::ReceiveSlots;
use crate::reopen::{Remedy, diagnose};
use crate::sockets::Sockets;
use crate::udp::{Binding, Departure, Received, Train, UdpPort};
use bond::Channel;
use bond::config::{IPV4_UDP_BYTES, IPV6_UDP_BYTES, LinkOptions, Profile};
use bond::sender::LinkErrorKind;
use bytes::Bytes;
use std::io;
use std::net::{IpAddr, SocketAddr};
use units::{Ecn, LinkId, Timestamp};

/// One link: always known, with sockets while they can be opened.
#[derive(Debug)]
pub(crate) struct Link {
    spec: LinkSpec,
    profile: Profile,
    sockets: Sockets,
    /// Used last: a NAT keeps its mapping when they can be had again.
    last_ports: LocalPorts,
    /// Where it was when last looked for; `None` when the routes decide.
    place: Option<Place>,
    /// The address that packets left from last.
    last_address: Option<IpAddr>,
    /// Who called, on a link that listens.
    receiver: Option<SocketAddr>,
    /// What its interface takes, when last looked for.
    interface_mtu: Option<u16>,
    trial: Trial,
    /// Its trouble is in the log, and nothing was sent since.
    told: bool,
    pub(crate) counters: LinkCounters,
}

/// What the link did since it was added, besides sending and receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinkCounters {
    pub(crate) foreign: u64,
    pub(crate) reopened: u64,
}

/// Whether sockets that were opened again carry anything: an interface without a way opens them all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// They do, or that is known otherwise.
    Over,
    /// Nothing was sent yet.
    Untried,
    /// The first datagram has left.
    Passed,
}

/// Local port numbers; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
struct LocalPorts {
    media: u16,
    control: u16,
}

impl Link {
    /// A link with its sockets, or with the error that kept it from opening them; it is tried again.
    pub(crate) fn open(spec: LinkSpec, profile: Profile, now: Timestamp) -> (Self, Result<(), LinkErrorKind>) {
        let sockets = Sockets::closed(now);
        let interfaces = Interfaces::look().ok();
        let place = interfaces.as_ref().and_then(|interfaces| interfaces.place_of(&spec));
        let interface_mtu = interfaces.as_ref().and_then(|interfaces| interfaces.mtu_of(&spec));
        let (last_ports, counters) = (LocalPorts::default(), LinkCounters::default());
        let last_address = place.and_then(|place| place.address);
        let (receiver, trial, told) = (None, Trial::Over, false);
        let mut link = Self {
            spec,
            profile,
            sockets,
            last_ports,
            place,
            last_address,
            receiver,
            interface_mtu,
            trial,
            told,
            counters,
        };
        let opened = link.try_open(now);
        (link, opened)
    }

    pub(crate) fn id(&self) -> LinkId {
        self.spec.id
    }

    /// How the engine uses the link: as it was told, within what the interface takes.
    pub(crate) fn options(&self) -> LinkOptions {
        let mut options = self.spec.options.clone();
        if options.name.is_empty() {
            options.name.clone_from(&self.spec.name);
        }
        options.mtu = options.mtu.min(self.interface_mtu.unwrap_or(u16::MAX));
        options.header_bytes = if self.spec.remote.is_ipv4() { IPV4_UDP_BYTES } else { IPV6_UDP_BYTES };
        options
    }

    pub(crate) fn set_options(&mut self, options: LinkOptions) {
        self.spec.options = options;
    }

    /// Looks what the interface takes by now; true when that is something else than before.
    pub(crate) fn look_at_mtu(&mut self, interfaces: &Interfaces) -> bool {
        let before = self.options().mtu;
        // One that is gone will hardly come again with another.
        self.interface_mtu = interfaces.mtu_of(&self.spec).or(self.interface_mtu);
        self.options().mtu != before
    }

    /// Compares with what the machine's network is like by now.
    pub(crate) fn look_around(&mut self, interfaces: &Interfaces) -> Option<Turn> {
        let now = interfaces.place_of(&self.spec)?;
        let before = self.place.replace(now)?;
        let turn = turn(before, now);
        let last = self.last_address;
        self.last_address = now.address.or(last);
        // A lease that is renewed takes the old address away before the new one is there.
        if turn == Some(Turn::Came) && last.is_some() && now.address != last { Some(Turn::Moved) } else { turn }
    }

    /// The sockets, for waiting and counting.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Opens the sockets again, on the same ports when they are free.
    pub(crate) fn reopen(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        self.try_open(now)?;
        self.counters.reopened += 1;
        self.trial = Trial::Over;
        Ok(())
    }

    /// The same after a pause, though nothing is known to have changed: see [`Link::is_back`].
    pub(crate) fn retry(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        self.reopen(now)?;
        self.trial = Trial::Untried;
        Ok(())
    }

    /// It is known that the link is another one now, whatever comes of a [`Link::retry`].
    pub(crate) fn end_trial(&mut self) {
        self.trial = Trial::Over;
    }

    /// True once after a [`Link::retry`] that has helped: a datagram has left.
    pub(crate) fn is_back(&mut self) -> bool {
        let is_back = self.trial == Trial::Passed;
        if is_back {
            self.trial = Trial::Over;
        }
        is_back
    }

    fn try_open(&mut self, now: Timestamp) -> Result<(), LinkErrorKind> {
        let attempt = PortPair::open_free(self.profile, |channel| match channel {
            Channel::Media => self.bind(self.last_ports.media),
            Channel::Control => self.bind(self.last_ports.control),
        });
        self.sockets.reopen(now, attempt).map_err(|error| {
            self.tell(&error, "a link's socket cannot be opened, which is tried again");
            diagnose(&error).0
        })
    }

    /// Logs a trouble of the link, once until something is sent again: it is tried anew all the time.
    fn tell(&mut self, error: &io::Error, what: &'static str) {
        if !std::mem::replace(&mut self.told, true) {
            let name = self.options().name;
            tracing::warn!(link = %self.spec.id, name, device = self.spec.device, error = %error, "{what}");
        }
    }

    fn bind(&self, port: u16) -> io::Result<UdpPort> {
        if self.spec.listens {
            return UdpPort::open(&Binding { address: self.spec.remote, device: self.spec.device.clone() });
        }
        let mut binding = Binding::towards(self.spec.remote, self.spec.bind, self.spec.device.as_deref());
        if port != 0 {
            binding.address.set_port(port);
            if let Ok(same) = UdpPort::open(&binding) {
                same.tell_less();
                return Ok(same);
            }
            binding.address.set_port(0);
        }
        let port = UdpPort::open(&binding)?;
        port.tell_less();
        Ok(port)
    }

    fn remote(&self, channel: Channel) -> SocketAddr {
        let mut remote = self.spec.remote;
        if channel == Channel::Control {
            remote.set_port(remote.port().wrapping_add(1));
        }
        remote
    }

    /// True when the receiver calls.
    pub(crate) fn listens(&self) -> bool {
        self.spec.listens
    }

    /// Where the receiver of a link that listens is from now on.
    pub(crate) fn set_receiver(&mut self, address: SocketAddr) {
        self.receiver = Some(address);
    }

    /// Queues a datagram for the receiver; [`Link::flush`] sends it.
    pub(crate) fn post(&mut self, channel: Channel, ecn: Ecn, datagram: Bytes) {
        let to = if self.spec.listens { self.receiver } else { Some(self.remote(channel)) };
        if let Some(to) = to {
            self.sockets.post(channel, Departure { to, from: None, ecn, datagram });
        }
    }

    /// Queues a datagram for somebody who calls.
    pub(crate) fn answer(&mut self, to: SocketAddr, datagram: Bytes) {
        self.sockets.post(Channel::Media, Departure { to, from: None, ecn: Ecn::NotEct, datagram });
    }

    /// Sends what was posted.
    pub(crate) fn flush(&mut self, now: Timestamp, train: &mut Train) -> Result<(), LinkErrorKind> {
        for channel in [Channel::Media, Channel::Control] {
            let Some(port) = self.sockets.waiting_port_mut(channel) else { continue };
            let sent = port.counters().sent;
            let flushed = port.flush(train);
            let refused_bytes = port.refused_bytes();
            if port.counters().sent > sent {
                self.sockets.worked();
                self.told = false;
                if self.trial == Trial::Untried {
                    self.trial = Trial::Passed;
                }
            }
            flushed.map_err(|error| match self.failed(now, &error) {
                LinkErrorKind::TooLarge { .. } => LinkErrorKind::TooLarge { bytes: refused_bytes },
                kind => kind,
            })?;
        }
        Ok(())
    }

    /// Takes arrivals from the socket of `channel` into `slots`, at most so many trains.
    pub(crate) fn receive(
        &mut self,
        now: Timestamp,
        channel: Channel,
        slots: &mut ReceiveSlots,
        trains_max: usize,
    ) -> Result<Received, LinkErrorKind> {
        self.sockets.receive(channel, slots, trains_max).map_err(|error| self.failed(now, &error))
    }

    /// Whether a datagram on `channel` comes from the link's receiver; what comes from elsewhere is counted.
    pub(crate) fn admits(&mut self, channel: Channel, from: SocketAddr) -> bool {
        // Whoever calls is judged by the machine.
        let admitted = self.spec.listens || from == self.remote(channel);
        self.counters.foreign += u64::from(!admitted);
        admitted
    }

    /// Draws the consequence of a socket error.
    fn failed(&mut self, now: Timestamp, error: &io::Error) -> LinkErrorKind {
        let (kind, remedy) = diagnose(error);
        if remedy == Remedy::Reopen {
            self.tell(error, "a link's socket failed and is opened again");
            for (channel, port) in self.sockets.ports() {
                let number = port.local_addr().map_or(0, |address| address.port());
                match channel {
                    Channel::Media => self.last_ports.media = number,
                    Channel::Control => self.last_ports.control = number,
                }
            }
            self.trial = Trial::Over;
            self.sockets.fail(now);
        }
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const LATER: Duration = Duration::from_secs(3);

    fn send(link: &mut Link, now: Timestamp) -> Result<(), LinkErrorKind> {
        link.post(Channel::Media, Ecn::NotEct, Bytes::from_static(b"x"));
        link.flush(now, &mut Train::default())
    }

    fn link(remote: &str) -> Link {
        let bind = Some(Ipv4Addr::LOCALHOST.into());
        let spec = LinkSpec { bind, ..LinkSpec::new(LinkId(0), remote.parse().expect("an address")) };
        let (link, opened) = Link::open(spec, Profile::Main, Timestamp::ZERO);
        opened.expect("a socket");
        link
    }

    #[test]
    fn headers_of_the_ip_version_count() {
        let options = link("127.0.0.1:9").options();
        assert_eq!((options.mtu, options.header_bytes), (1500, IPV4_UDP_BYTES));
        let spec = LinkSpec::new(LinkId(0), "[::1]:9".parse().expect("an address"));
        let (link, _) = Link::open(spec, Profile::Main, Timestamp::ZERO);
        let options = link.options();
        assert_eq!((options.mtu, options.header_bytes), (1500, IPV6_UDP_BYTES));
    }

    #[test]
    fn a_link_is_back_once_its_new_socket_has_sent() {
        let mut link = link("127.0.0.1:9");
        let now = Timestamp::ZERO + LATER;
        assert!(send(&mut link, now).is_ok() && !link.is_back(), "it was never away");
        link.failed(now, &io::Error::from_raw_os_error(nix::libc::ENETUNREACH));
        link.retry(now + LATER).expect("opened");
        assert!(!link.is_back(), "an open socket proves no way");
        assert!(send(&mut link, now + LATER).is_ok() && link.is_back());
        assert!(!link.is_back(), "told once");
    }

    /// Goal: that nobody receives at the far end yet is no failure of the link: whoever comes is found at once, and the socket is kept.
    #[test]
    fn a_far_end_that_is_not_there_yet_costs_nothing() {
        let mut link = link(&free_ports::loopback(free_ports::free_pair()).to_string());
        for i in 0..20 {
            let now = Timestamp::ZERO + LATER * i;
            assert_eq!(send(&mut link, now), Ok(()));
            // The refusal of the machine itself comes back within the call.
            let mut slots = ReceiveSlots::new(1);
            assert_eq!(link.receive(now, Channel::Media, &mut slots, 1), Ok(Received::All));
        }
        assert_eq!((link.counters.reopened, link.sockets.dropped(), link.sockets.retry_at()), (0, 0, None));
    }

    /// From the machine's own address there is no way to another machine.
    #[test]
    fn a_link_without_a_way_is_not_back_however_often_its_socket_opens() {
        let mut link = link("192.0.2.1:9");
        for i in 1..4 {
            let now = Timestamp::ZERO + LATER * i;
            assert_eq!(send(&mut link, now), Err(LinkErrorKind::Unreachable));
            link.retry(now).expect("opened");
            assert!(!link.is_back());
        }
        assert_eq!(link.counters.reopened, 3);
    }
}
