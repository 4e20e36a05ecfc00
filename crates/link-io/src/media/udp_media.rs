//! Media over UDP: datagrams of whole TS packets, in batches.
//!
//! A flow takes and gives media on its own thread (`open_from_udp`, `open_to_udp`): a thread in between would cost more
//! than the encryption.

use super::pack::Packer;
use crate::arrival_clock::ArrivalClock;
use crate::clock::Clock;
use crate::receive_slots::ReceiveSlots;
use crate::udp::{
    Binding, CALL_TRAINS_MAX, Departure, OUTBOX_DATAGRAMS_MAX, RECEIVE_CALLS_MAX, Received, Train, UdpPort,
};
use bond::Payload;
use bytes::Bytes;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use units::{Ecn, Timestamp};

/// A socket that media arrives on.
#[derive(Debug)]
pub struct UdpInput {
    port: UdpPort,
    slots: ReceiveSlots,
    arrival_clock: ArrivalClock,
    packer: Packer<Timestamp>,
}

impl UdpInput {
    /// Listens on `address`; a multicast address is joined.
    ///
    /// # Errors
    /// The address is taken or not on this machine, or the group cannot be joined.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let port = UdpPort::open(&Binding { address, device: None })?;
        port.tell_less();
        match address.ip() {
            IpAddr::V4(group) if group.is_multicast() => {
                port.socket().join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
            }
            IpAddr::V6(group) if group.is_multicast() => port.socket().join_multicast_v6(&group, 0)?,
            _ => {}
        }
        let (slots, packer) = (ReceiveSlots::new(CALL_TRAINS_MAX), Packer::new());
        Ok(Self { port, slots, arrival_clock: ArrivalClock::default(), packer })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Hands on what has arrived, with the present time: one payload a datagram, produced at the moment it arrived. Datagrams
    /// longer than `payload_bytes_max` are packed anew, and what is left of one waits for the next, up to [`UdpInput::due`]. Tells
    /// whether there may be more than a turn takes.
    ///
    /// # Errors
    /// What the kernel says about the socket.
    pub(crate) fn take(
        &mut self,
        clock: &Clock,
        payload_bytes_max: usize,
        mut each: impl FnMut(Timestamp, Payload),
    ) -> io::Result<Received> {
        self.packer.limit(payload_bytes_max);
        let (now, wall) = clock.with_wall();
        self.arrival_clock.look(now, wall);
        for _ in 0..RECEIVE_CALLS_MAX {
            self.slots.clear();
            let received = self.port.receive(&mut self.slots, CALL_TRAINS_MAX)?;
            let now = clock.now();
            for arrival in self.slots.arrivals() {
                let arrived = self.arrival_clock.arrival(arrival.stamp, now);
                let Ok(()) = self.packer.push_datagram(arrival.datagram, arrived, |bytes, class, source_time| {
                    each(now, Payload { bytes, source_time, class });
                    Ok::<_, Infallible>(())
                });
            }
            if received == Received::All {
                return Ok(Received::All);
            }
        }
        Ok(Received::MaybeMore)
    }

    /// When what is left of a datagram has waited long enough.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.packer.due()
    }

    /// Hands on what is left of a datagram.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Payload)) {
        let Ok(()) = self.packer.finish(|bytes, class, source_time| {
            each(Payload { bytes, source_time, class });
            Ok::<_, Infallible>(())
        });
    }

    pub(crate) fn port(&self) -> &UdpPort {
        &self.port
    }
}

/// A socket that media leaves on.
#[derive(Debug)]
pub struct UdpOutput {
    port: UdpPort,
    train: Train,
    to: SocketAddr,
}

impl UdpOutput {
    /// Sends to `to` from any port.
    ///
    /// # Errors
    /// No socket left.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { port: UdpPort::open(&Binding::towards(to, None, None))?, train: Train::default(), to })
    }

    /// Queues one payload; [`UdpOutput::flush`] sends, at the latest when the queue is full: a thread that the system has kept
    /// waiting has much to deliver at once.
    pub(crate) fn post(&mut self, payload: Bytes) {
        if self.port.waiting() >= OUTBOX_DATAGRAMS_MAX {
            self.flush();
        }
        self.port.post(Departure { to: self.to, from: None, ecn: Ecn::NotEct, datagram: payload });
    }

    /// Sends what was posted. What the network does not take is dropped and counted: media is never late for an output
    /// that nobody listens to.
    pub(crate) fn flush(&mut self) {
        while self.port.waiting() > 0 {
            match self.port.flush(&mut self.train) {
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
    use super::super::pack::{FILL_WAIT_MAX, FULL_PAYLOAD_BYTES};
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_too_long_datagrams_are_split_between_packets() {
        let clock = Clock::start();
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut output = UdpOutput::open(input.local_addr().expect("bound")).expect("a socket");
        for size in [1316, 188, 10 * 188] {
            output.post(Bytes::from(vec![0x47; size]));
        }
        output.flush();
        assert_eq!(output.port().counters().dropped, 0);
        let mut sizes = Vec::new();
        input
            .take(&clock, FULL_PAYLOAD_BYTES, |_, payload| {
                assert!(payload.source_time <= clock.now());
                sizes.push(payload.bytes.len());
            })
            .expect("a working socket");
        assert_eq!(sizes, [1316, 188, 7 * 188]);
        input.finish(|payload| assert_eq!(payload.bytes.len(), 3 * 188));
        input.take(&clock, FULL_PAYLOAD_BYTES, |_, _| panic!("everything was taken")).expect("a working socket");
    }

    #[test]
    fn what_is_left_of_a_datagram_waits_for_the_next_and_no_longer_than_it_may() {
        let clock = Clock::start();
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut output = UdpOutput::open(input.local_addr().expect("bound")).expect("a socket");
        let mut payloads: Vec<Payload> = Vec::new();
        for number in [1, 2] {
            output.post(Bytes::from_static(&[0x47; 1316]));
            output.flush();
            input.take(&clock, 1200, |_, payload| payloads.push(payload)).expect("a working socket");
            assert_eq!(payloads.len(), number);
        }
        let due = input.due().expect("two packets wait");
        input.finish(|payload| payloads.push(payload));
        assert_eq!(payloads.iter().map(|payload| payload.bytes.len() / 188).collect::<Vec<_>>(), [6, 6, 2]);
        let times: Vec<_> = payloads.iter().map(|payload| payload.source_time).collect();
        assert!(times[0] == times[1] && times[1] < times[2], "as old as the first packet in it: {times:?}");
        assert_eq!(due, times[2] + FILL_WAIT_MAX);
        assert_eq!(input.due(), None);
        input.finish(|_| panic!("everything was taken"));
    }

    #[test]
    fn more_than_the_queue_holds_leaves_at_once() {
        let clock = Clock::start();
        let mut input = UdpInput::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let mut output = UdpOutput::open(input.local_addr().expect("bound")).expect("a socket");
        for _ in 0..3 * OUTBOX_DATAGRAMS_MAX {
            output.post(Bytes::from_static(&[0x47; 188]));
        }
        output.flush();
        let mut count = 0;
        while input.take(&clock, FULL_PAYLOAD_BYTES, |_, _| count += 1).expect("a working socket")
            == Received::MaybeMore
        {}
        assert_eq!((count, output.port().counters().dropped), (3 * OUTBOX_DATAGRAMS_MAX, 0));
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
