//! Media over UDP: datagrams of whole TS packets, in batches.
//!
//! A flow takes and gives media on its own thread (`open_from_udp`, `open_to_udp`): a thread in between would cost more
//! than the encryption.

use super::classify::Classifier;
use super::pack::FULL_PAYLOAD_BYTES;
use crate::clock::Clock;
use crate::udp::{Binding, Departure, RECEIVE_CALLS_MAX, ReceiveSlots, Received, UdpPort};
use bond::{PAYLOAD_BYTES_MAX, Payload};
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;
use units::Timestamp;

/// Memory for payloads is taken in pieces of this size; each is given back with the last payload in it.
const BLOCK_BYTES: usize = 32 * 1024;

/// A socket that media arrives on.
#[derive(Debug)]
pub struct UdpInput {
    port: UdpPort,
    slots: ReceiveSlots,
    classifier: Classifier,
    /// Payloads are cut from blocks of [`BLOCK_BYTES`]: one allocation for many.
    block: BytesMut,
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
        Ok(Self { port, slots: ReceiveSlots::new(), classifier: Classifier::new(), block: BytesMut::new() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Hands on what has arrived, with the present time: one payload a datagram, produced at the moment it arrived, but one
    /// too long for a packet is split between TS packets. Tells whether there may be more than a turn takes.
    ///
    /// # Errors
    /// What the kernel says about the socket.
    pub(crate) fn take(&mut self, clock: &Clock, mut each: impl FnMut(Timestamp, Payload)) -> io::Result<Received> {
        for _ in 0..RECEIVE_CALLS_MAX {
            let received = self.port.receive(&mut self.slots)?;
            let (now, wall) = (clock.now(), SystemTime::now());
            for arrival in self.slots.arrivals() {
                let source_time = Clock::arrival(now, wall, arrival.stamp);
                let too_long = arrival.datagram.len() > PAYLOAD_BYTES_MAX;
                for bytes in arrival.datagram.chunks(if too_long { FULL_PAYLOAD_BYTES } else { PAYLOAD_BYTES_MAX }) {
                    let class = self.classifier.payload(bytes);
                    if self.block.capacity() < bytes.len() {
                        self.block = BytesMut::with_capacity(BLOCK_BYTES);
                    }
                    self.block.extend_from_slice(bytes);
                    each(now, Payload { bytes: self.block.split().freeze(), source_time, class });
                }
            }
            if received == Received::All {
                return Ok(Received::All);
            }
        }
        Ok(Received::MaybeMore)
    }

    pub(crate) fn port(&self) -> &UdpPort {
        &self.port
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
    pub(crate) fn post(&mut self, payload: Bytes) {
        self.port.post(Departure { to: self.to, from: None, datagram: payload });
    }

    /// Sends what was posted. What the network does not take is dropped and counted: media is never late for an output
    /// that nobody listens to.
    pub(crate) fn flush(&mut self) {
        while self.port.waiting() > 0 {
            match self.port.flush() {
                Ok(_) => return,
                Err(error) => tracing::debug!(error = %error, "a datagram of the output was dropped"),
            }
        }
    }

    pub(crate) fn port(&self) -> &UdpPort {
        &self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_too_long_datagrams_are_split_between_packets() {
        let clock = Clock::start();
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut output = UdpOutput::open(input.local_addr().expect("bound")).expect("a socket");
        for size in [1316, 188, 10 * 188] {
            output.post(Bytes::from(vec![size as u8; size]));
        }
        output.flush();
        assert_eq!(output.port().counters().dropped, 0);
        let mut sizes = Vec::new();
        input
            .take(&clock, |_, payload| {
                assert!(payload.source_time <= clock.now());
                sizes.push(payload.bytes.len());
            })
            .expect("a working socket");
        assert_eq!(sizes, [1316, 188, 7 * 188, 3 * 188]);
        input.take(&clock, |_, _| panic!("everything was taken")).expect("a working socket");
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
