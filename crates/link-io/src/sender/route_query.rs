//! By which interface packets from one of this machine's addresses leave: the kernel is asked (`RTM_GETROUTE` of
//! `rtnetlink(7)`), as by `ip route get TO from FROM`. So rules count (`ip rule`, one table for each modem), as they will for
//! what is sent. What the kernel does not answer is no route.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes of an answer; the kernel's have some 150.
const ANSWER_BYTES: usize = 4096;
const MESSAGE_HEADER_BYTES: usize = 16;
const ROUTE_HEADER_BYTES: usize = 12;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A way to ask, for as long as it is kept.
pub(super) struct RouteQuery {
    socket: OwnedFd,
}

impl RouteQuery {
    /// # Errors
    /// The system has no netlink for this process.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        Ok(Self { socket: socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)? })
    }

    /// The index of the interface by which packets from `from` to `to` leave; `None` when there is no way.
    pub(super) fn leaves_by(&self, from: IpAddr, to: IpAddr) -> Option<u32> {
        send(self.socket.as_raw_fd(), &question(from, to), MsgFlags::empty()).ok()?;
        // The kernel has answered before the call above returns.
        let mut answer = [0; ANSWER_BYTES];
        let bytes = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
        interface_in(answer.get(..bytes)?)
    }
}

fn question(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    let (from, to) = (octets(from), octets(to));
    let bits = |address: &[u8]| (address.len() * 8) as u8;
    // Message header (length below), then: family, bits of both addresses, service, table, protocol, scope, type, flags.
    let mut message = Vec::with_capacity(80);
    message.extend([0; 4]);
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, bits(&to), bits(&from), 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, address) in [(RTA_DST, to), (RTA_SRC, from)] {
        message.extend(((ATTRIBUTE_HEADER_BYTES + address.len()) as u16).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(address);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The outgoing interface in an answer; `None` for an error, a route that refuses and what is cut off.
fn interface_in(answer: &[u8]) -> Option<u32> {
    let two = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let four = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let end = usize::try_from(four(0)?).ok()?.min(answer.len());
    if two(4)? != RTM_NEWROUTE || *answer.get(MESSAGE_HEADER_BYTES + 7)? != RTN_UNICAST {
        return None;
    }
    let mut at = MESSAGE_HEADER_BYTES + ROUTE_HEADER_BYTES;
    while at + ATTRIBUTE_HEADER_BYTES <= end {
        let (length, kind) = (usize::from(two(at)?), two(at + 2)?);
        if kind == RTA_OIF {
            return four(at + ATTRIBUTE_HEADER_BYTES).filter(|_| length == ATTRIBUTE_HEADER_BYTES + 4);
        }
        // Attributes are padded to four bytes.
        at += length.max(ATTRIBUTE_HEADER_BYTES).next_multiple_of(4);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::net::if_::if_nametoindex;

    #[test]
    fn the_kernel_tells_by_which_interface_an_address_leaves() {
        let query = RouteQuery::open().expect("netlink");
        let leaves =
            |from: &str, to: &str| query.leaves_by(from.parse().expect("an address"), to.parse().expect("an address"));
        let loopback = if_nametoindex("lo").expect("a loopback");
        // What stays in the machine is no route of the kind that is looked for.
        assert_eq!(leaves("127.0.0.1", "127.0.0.2"), None);
        // Nobody's address.
        assert_eq!(leaves("198.51.100.7", "192.0.2.1"), None);
        assert_ne!(leaves("127.0.0.1", "192.0.2.1"), Some(loopback));
    }

    fn answer(kind: u16, route: u8, attributes: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; MESSAGE_HEADER_BYTES + ROUTE_HEADER_BYTES];
        answer.extend(attributes);
        let length = answer.len() as u32;
        answer[..4].copy_from_slice(&length.to_ne_bytes());
        answer[4..6].copy_from_slice(&kind.to_ne_bytes());
        answer[MESSAGE_HEADER_BYTES + 7] = route;
        answer
    }

    fn attribute(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((ATTRIBUTE_HEADER_BYTES + body.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_interface_is_found_among_the_attributes_of_an_answer() {
        let attributes =
            [attribute(7, &[9; 5]), attribute(RTA_OIF, &7u32.to_ne_bytes()), attribute(5, &[1; 4])].concat();
        let good = answer(RTM_NEWROUTE, RTN_UNICAST, &attributes);
        assert_eq!(interface_in(&good), Some(7));
        assert_eq!(interface_in(&answer(2, RTN_UNICAST, &attributes)), None, "an error");
        assert_eq!(interface_in(&answer(RTM_NEWROUTE, 7, &attributes)), None, "unreachable");
        assert_eq!(interface_in(&answer(RTM_NEWROUTE, RTN_UNICAST, &attribute(RTA_OIF, &[1]))), None);
        for length in 0..good.len() {
            let _ = interface_in(&good[..length]);
        }
        // Attributes without a length are passed over, not read for ever.
        assert_eq!(interface_in(&answer(RTM_NEWROUTE, RTN_UNICAST, &[0; 64])), None);
    }
}
