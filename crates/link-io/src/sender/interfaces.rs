//! What happens to the network interfaces that links use, told by the kernel the moment it happens (rtnetlink).
//!
//! The kernel's messages only wake us up; what changed is read from the system's list of interfaces and addresses, so a lost
//! or strange message does no harm.

use super::LinkSpec;
use super::discovery::Candidate;
use super::route_query::RouteQuery;
use super::routes::Routes;
use crate::waker::{SocketId, Watched};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, socket,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Groups of the kernel's messages (`rtnetlink(7)`): interfaces, IPv4 and IPv6 addresses, routes and rules.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000;
/// Messages read in one turn; the rest waits for the next.
const MESSAGES_MAX: usize = 64;
/// Bytes of a message that are taken off the queue; nobody reads them.
const MESSAGE_BYTES: usize = 4096;

/// The interface is there to be used.
const CARRIER: InterfaceFlags = InterfaceFlags::IFF_UP.union(InterfaceFlags::IFF_RUNNING);

/// The kernel's news about interfaces, addresses and routes.
#[derive(Debug)]
pub(crate) struct News {
    id: SocketId,
    socket: OwnedFd,
}

impl News {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system has no netlink for this process.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { id: SocketId::new(), socket })
    }

    /// Waits for some.
    pub(crate) fn watched(&self) -> Watched<'_> {
        Watched::new(self.id, &self.socket, false)
    }

    /// Takes what waits; true when something may have changed.
    pub(crate) fn take(&self) -> bool {
        let mut buffer = [0; MESSAGE_BYTES];
        let mut any = false;
        for _ in 0..MESSAGES_MAX {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) => any = true,
                Err(nix::errno::Errno::EAGAIN) => break,
                // Messages were lost: all the more reason to look.
                Err(_) => return true,
            }
        }
        any
    }
}

/// The place of a link in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The interface is there, up and has a carrier.
    pub(crate) carrier: bool,
    /// The address that packets leave from.
    pub(crate) address: Option<IpAddr>,
}

/// What became of a link's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing can be sent any more.
    Lost,
    /// Packets can be sent (again).
    Came,
    /// Packets leave from another address.
    Moved,
}

/// What lies between two looks at a place.
pub(crate) fn turn(before: Place, now: Place) -> Option<Turn> {
    let usable = |place: Place| place.carrier && place.address.is_some();
    match (usable(before), usable(now)) {
        (true, false) => Some(Turn::Lost),
        (false, true) => Some(Turn::Came),
        (true, true) if before.address != now.address => Some(Turn::Moved),
        _ => None,
    }
}

/// One address of an interface, or an interface without any.
struct Entry {
    name: String,
    flags: InterfaceFlags,
    address: Option<IpAddr>,
}

/// The interfaces and addresses of this machine at this moment.
pub(crate) struct Interfaces {
    entries: Vec<Entry>,
}

impl Interfaces {
    /// # Errors
    /// The system does not tell.
    pub(crate) fn look() -> io::Result<Self> {
        let entry = |address: nix::ifaddrs::InterfaceAddress| Entry {
            name: address.interface_name,
            flags: address.flags,
            address: address.address.as_ref().and_then(ip_of),
        };
        Ok(Self { entries: getifaddrs()?.map(entry).collect() })
    }

    /// The largest IP packet that the interface of a link takes; `None` when the system does not tell.
    pub(crate) fn mtu_of(&self, link: &LinkSpec) -> Option<u16> {
        let by_address = || {
            let address = link.bind.or_else(|| routed_address(link.remote).ok())?;
            self.entries.iter().find(|entry| entry.address == Some(address)).map(|entry| entry.name.as_str())
        };
        let name = link.device.as_deref().or_else(by_address)?;
        let mtu: u32 = std::fs::read_to_string(interface_file(name, "mtu")).ok()?.trim().parse().ok()?;
        Some(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Every interface, as a link towards `remote` would use it, in the system's order.
    pub(super) fn candidates(&self, remote: IpAddr, routes: &Routes) -> Vec<Candidate> {
        let reaches = |address: &IpAddr| {
            address.is_ipv4() == remote.is_ipv4() && !is_link_local(address) && !address.is_loopback()
        };
        let query = RouteQuery::open().ok();
        let mut candidates: Vec<Candidate> = Vec::new();
        for entry in &self.entries {
            if candidates.iter().any(|candidate| candidate.name == entry.name) {
                continue;
            }
            let of_name = self.entries.iter().filter(|other| other.name == entry.name);
            let addresses: Vec<IpAddr> = of_name.filter_map(|entry| entry.address).filter(reaches).collect();
            let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
            let main = routes.lead(&entry.name, remote);
            let index = if_nametoindex(entry.name.as_str()).ok();
            let leaves = |from: &IpAddr| query.as_ref().and_then(|query| query.leaves_by(*from, remote));
            let by_rule = || addresses.iter().find(|from| index.is_some() && leaves(from) == index).copied();
            let source = if main || loopback { None } else { by_rule() };
            candidates.push(Candidate {
                name: entry.name.clone(),
                carrier: entry.flags.contains(CARRIER),
                address: !addresses.is_empty(),
                internal: loopback || is_bridge(&entry.name),
                route: main || source.is_some(),
                source,
            });
        }
        candidates
    }

    /// The place of a link that is bound to a device or an address; `None` for one that follows the routes.
    pub(crate) fn place_of(&self, link: &LinkSpec) -> Option<Place> {
        if link.device.is_none() && link.bind.is_none() {
            return None;
        }
        let of_device = |entry: &&Entry| link.device.as_ref().is_none_or(|device| entry.name == *device);
        let wanted = |address: &IpAddr| match link.bind {
            Some(bind) => *address == bind,
            None => address.is_ipv4() == link.remote.is_ipv4() && !is_link_local(address),
        };
        let entries = || self.entries.iter().filter(of_device);
        let found = entries().find_map(|entry| entry.address.filter(wanted).map(|address| (address, entry.flags)));
        let flags = found.map_or_else(|| entries().next().map(|entry| entry.flags), |found| Some(found.1));
        Some(Place { carrier: flags.is_some_and(|flags| flags.contains(CARRIER)), address: found.map(|found| found.0) })
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

/// A network inside this machine: containers, virtual machines. Where the system does not tell, docker's own is known by its name.
fn is_bridge(interface: &str) -> bool {
    interface.starts_with("docker") || interface_file(interface, "bridge").exists()
}

fn interface_file(interface: &str, file: &str) -> PathBuf {
    Path::new("/sys/class/net").join(interface).join(file)
}

/// The address that packets to `remote` leave from.
fn routed_address(remote: SocketAddr) -> io::Result<IpAddr> {
    let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    // Sends nothing.
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

/// Addresses that reach no further than the next router.
fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::LinkId;

    fn link(device: Option<&str>, bind: Option<[u8; 4]>) -> LinkSpec {
        let remote = "127.0.0.1:5000".parse().expect("an address");
        LinkSpec { device: device.map(str::to_owned), bind: bind.map(IpAddr::from), ..LinkSpec::new(LinkId(0), remote) }
    }

    #[test]
    fn the_loopback_is_found_by_name_and_by_address() {
        let interfaces = Interfaces::look().expect("interfaces");
        let loopback = Place { carrier: true, address: Some(IpAddr::from([127, 0, 0, 1])) };
        assert_eq!(interfaces.place_of(&link(Some("lo"), None)), Some(loopback));
        assert_eq!(interfaces.place_of(&link(None, Some([127, 0, 0, 1]))), Some(loopback));
        assert_eq!(interfaces.place_of(&link(Some("strata-none0"), None)), Some(Place::default()));
        assert_eq!(interfaces.place_of(&link(None, None)), None, "the routes decide");
        for link in [link(Some("lo"), None), link(None, Some([127, 0, 0, 1])), link(None, None)] {
            assert_eq!(interfaces.mtu_of(&link), Some(u16::MAX), "{link:?}");
        }
        assert_eq!(interfaces.mtu_of(&link(Some("strata-none0"), None)), None);
        // The kernel lets no such socket go there: as without a route.
        let nowhere = LinkSpec { remote: "255.255.255.255:5000".parse().expect("an address"), ..link(None, None) };
        assert_eq!(interfaces.mtu_of(&nowhere), None, "that of an interface without any address");
    }

    #[test]
    fn the_loopback_is_no_candidate_that_reaches_anything() {
        let remote = IpAddr::from([192, 0, 2, 1]);
        let candidates = Interfaces::look().expect("interfaces").candidates(remote, &Routes::read());
        let loopback = candidates.iter().find(|candidate| candidate.name == "lo").expect("a loopback");
        assert!(loopback.internal && !loopback.address && loopback.carrier, "{loopback:?}");
        let mut names: Vec<&str> = candidates.iter().map(|candidate| candidate.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), candidates.len(), "each once: {candidates:?}");
    }

    #[test]
    fn a_turn_is_what_lies_between_two_looks() {
        let at = |last| Some(IpAddr::from([10, 0, 0, last]));
        let place = |carrier, address| Place { carrier, address };
        assert_eq!(turn(place(true, at(1)), place(false, at(1))), Some(Turn::Lost));
        assert_eq!(turn(place(true, at(1)), place(true, None)), Some(Turn::Lost));
        assert_eq!(turn(Place::default(), place(true, at(1))), Some(Turn::Came));
        assert_eq!(turn(place(true, at(1)), place(true, at(2))), Some(Turn::Moved));
        assert_eq!(turn(place(true, at(1)), place(true, at(1))), None);
        assert_eq!(turn(place(false, at(1)), place(false, None)), None);
    }

    #[test]
    fn news_can_be_listened_to() {
        let news = News::open().expect("netlink");
        news.take();
        assert!(!news.take(), "nothing waits any more");
    }
}
