//! Media over UDP: datagrams of whole TS packets, in batches.

use super::ts::TS_PACKET_BYTES;
use crate::udp::{Binding, Departure, RECEIVE_CALLS_MAX, ReceiveSlots, Received, UdpPort};
use bond::PAYLOAD_BYTES_MAX;
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// Payload of a datagram that has to be split: seven TS packets.
const SPLIT_BYTES: usize = 7 * TS_PACKET_BYTES;

/// A socket that media arrives on.
pub struct UdpInput {
    port: UdpPort,
    slots: ReceiveSlots,
}

impl UdpInput {
    /// Listens on `address`; a multicast address is joined.
    ///
    /// # Errors
    /// The address is taken or not on this machine, or the group cannot be joined.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let port = UdpPort::open(&Binding { address, device: None })?;
        match address.ip() {
            IpAddr::V4(group) if group.is_multicast() => {
                port.socket().join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
            }
            IpAddr::V6(group) if group.is_multicast() => port.socket().join_multicast_v6(&group, 0)?,
            _ => {}
        }
        Ok(Self { port, slots: ReceiveSlots::new() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Waits up to `timeout` for media and appends its payloads to `out`: one a datagram, but one too long for a packet
    /// is split between TS packets.
    ///
    /// # Errors
    /// What the kernel says about the socket.
    pub fn receive(&mut self, timeout: Duration, out: &mut Vec<Bytes>) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        if let Err(errno) = poll(&mut [PollFd::new(self.port.as_fd(), PollFlags::POLLIN)], timeout)
            && errno != nix::errno::Errno::EINTR
        {
            return Err(errno.into());
        }
        for _ in 0..RECEIVE_CALLS_MAX {
            let received = self.port.receive(&mut self.slots)?;
            for arrival in self.slots.arrivals() {
                let size = if arrival.datagram.len() > PAYLOAD_BYTES_MAX { SPLIT_BYTES } else { PAYLOAD_BYTES_MAX };
                out.extend(arrival.datagram.chunks(size).map(Bytes::copy_from_slice));
            }
            if received == Received::All {
                break;
            }
        }
        Ok(())
    }
}

/// A socket that media leaves on.
#[derive(Debug)]
pub struct UdpOutput {
    port: UdpPort,
    to: SocketAddr,
}

impl UdpOutput {
    /// Sends to `to` from any port.
    ///
    /// # Errors
    /// No socket left.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { port: UdpPort::open(&Binding::towards(to, None, None))?, to })
    }

    /// Queues one payload; [`UdpOutput::flush`] sends.
    pub fn post(&mut self, payload: Bytes) {
        self.port.post(Departure { to: self.to, from: None, datagram: payload });
    }

    /// Sends what was posted. What the network does not take is dropped and counted: media is never late for an output
    /// that nobody listens to.
    pub fn flush(&mut self) {
        while self.port.waiting() > 0 {
            match self.port.flush() {
                Ok(_) => return,
                Err(error) => tracing::debug!(error = %error, "a datagram of the output was dropped"),
            }
        }
    }

    /// Payloads that did not leave.
    pub fn dropped(&self) -> u64 {
        self.port.counters().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(input: &mut UdpInput, count: usize) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        for _ in 0..100 {
            if payloads.len() >= count {
                break;
            }
            input.receive(Duration::from_millis(100), &mut payloads).expect("a working socket");
        }
        payloads
    }

    #[test]
    fn what_is_sent_is_received_and_too_long_datagrams_are_split_between_packets() {
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut output = UdpOutput::open(input.local_addr().expect("bound")).expect("a socket");
        for size in [1316, 188, 10 * 188] {
            output.post(Bytes::from(vec![size as u8; size]));
        }
        output.flush();
        let sizes: Vec<usize> = received(&mut input, 4).iter().map(Bytes::len).collect();
        assert_eq!(sizes, [1316, 188, 7 * 188, 3 * 188]);
        assert_eq!(output.dropped(), 0);
    }

    #[test]
    fn an_empty_socket_returns_after_the_timeout() {
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut payloads = Vec::new();
        input.receive(Duration::from_millis(1), &mut payloads).expect("a working socket");
        assert!(payloads.is_empty());
    }

    #[test]
    fn a_multicast_group_is_joined() {
        let group = SocketAddr::from(([239, 255, 77, 1], 0));
        match UdpInput::open(group) {
            Ok(input) => assert_eq!(input.local_addr().expect("bound").ip(), group.ip()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV), "no multicast route: {error}"),
        }
    }
}
