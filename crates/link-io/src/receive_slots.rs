//! Where datagrams are received: memory for trains of them, and what the kernel tells of each.

use nix::sys::socket::{ControlMessageOwned, RecvMsg, SockaddrStorage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;
use units::Ecn;

/// What one receive slot holds: a coalesced train of datagrams.
pub(crate) const SLOT_BYTES: usize = 65_536;
/// Distance of the slots in memory. Were it a power of two, their first bytes, all that most of them ever hold, would compete
/// for the same few lines of the cache.
const SLOT_STRIDE: usize = SLOT_BYTES + 1472;

/// What the kernel tells of a train.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    len: usize,
    /// Length of each datagram but the last.
    stride: usize,
    from: SocketAddr,
    to: Option<IpAddr>,
    stamp: Option<Duration>,
    ecn: Ecn,
}

impl Default for Meta {
    fn default() -> Self {
        let from = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { len: 0, stride: 0, from, to: None, stamp: None, ecn: Ecn::NotEct }
    }
}

impl Meta {
    /// `None` for what comes from no IP address.
    pub(crate) fn read(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let address = message.address?;
        let v4 = address.as_sockaddr_in().map(|from| SocketAddr::from(SocketAddrV4::from(*from)));
        let v6 = || address.as_sockaddr_in6().map(|from| SocketAddr::from(SocketAddrV6::from(*from)));
        let mut meta = Self { len: message.bytes, stride: message.bytes, from: v4.or_else(v6)?, ..Self::default() };
        for told in message.cmsgs().into_iter().flatten() {
            match told {
                ControlMessageOwned::ScmTimestampns(stamp) => meta.stamp = Some(stamp.into()),
                ControlMessageOwned::UdpGroSegments(stride) => {
                    meta.stride = usize::try_from(stride).unwrap_or(message.bytes);
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    meta.to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    meta.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                ControlMessageOwned::Ipv4Tos(tos) => meta.ecn = Ecn::from_bits(tos),
                ControlMessageOwned::Ipv6TClass(class) => meta.ecn = Ecn::from_bits((class & 3) as u8),
                _ => {}
            }
        }
        Some(meta)
    }

    /// The datagrams of the train that begins in `slot`.
    fn cut(self, slot: &mut [u8]) -> impl Iterator<Item = Arrival<'_>> {
        slot[..self.len].chunks_mut(self.stride.max(1)).map(move |datagram| Arrival {
            from: self.from,
            to: self.to,
            stamp: self.stamp,
            ecn: self.ecn,
            datagram,
        })
    }
}

/// Where arrivals are put; shared by the sockets of one thread.
#[derive(Debug)]
pub(crate) struct ReceiveSlots {
    /// Slots of [`SLOT_STRIDE`] bytes; memory that was never needed is never there.
    slots: Vec<Box<[u8]>>,
    metas: Vec<Meta>,
    filled: usize,
}

impl ReceiveSlots {
    /// Room for so many trains.
    pub(crate) fn new(trains: usize) -> Self {
        Self { slots: Vec::new(), metas: vec![Meta::default(); trains], filled: 0 }
    }

    /// Forgets what they hold.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Exchanges two trains.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        self.slots.swap(one, other);
        self.metas.swap(one, other);
    }

    /// Forgets all but the first.
    pub(crate) fn truncate(&mut self, trains: usize) {
        self.filled = self.filled.min(trains);
    }

    /// The next so many slots, of which [`SLOT_BYTES`] may be used, and where to note what they are filled with.
    pub(crate) fn vacant(&mut self, trains: usize) -> (&mut [Box<[u8]>], &mut [Meta]) {
        let end = self.filled + trains;
        while self.slots.len() < end {
            self.slots.push(vec![0; SLOT_STRIDE].into_boxed_slice());
        }
        (&mut self.slots[self.filled..end], &mut self.metas[self.filled..end])
    }

    /// So many more are filled.
    pub(crate) fn fill(&mut self, trains: usize) {
        self.filled += trains;
    }

    /// Trains they hold.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Trains there is room for.
    pub(crate) fn room(&self) -> usize {
        self.metas.len() - self.filled
    }

    /// Kernel receive stamp of a train, wall clock since the epoch.
    pub(crate) fn stamp(&self, train: usize) -> Option<Duration> {
        self.metas[train].stamp
    }

    /// The datagrams of a train.
    pub(crate) fn train(&mut self, train: usize) -> impl Iterator<Item = Arrival<'_>> {
        self.metas[train].cut(&mut self.slots[train])
    }

    /// The datagrams of all trains.
    pub(crate) fn arrivals(&mut self) -> impl Iterator<Item = Arrival<'_>> {
        self.slots.iter_mut().zip(&self.metas).take(self.filled).flat_map(|(slot, meta)| meta.cut(slot))
    }
}

/// One arrival.
pub(crate) struct Arrival<'a> {
    pub(crate) from: SocketAddr,
    /// The local address it was sent to.
    pub(crate) to: Option<IpAddr>,
    /// Kernel receive stamp, wall clock since the epoch.
    pub(crate) stamp: Option<Duration>,
    /// The same for the whole train: the kernel joins none that differ.
    pub(crate) ecn: Ecn,
    pub(crate) datagram: &'a mut [u8],
}
