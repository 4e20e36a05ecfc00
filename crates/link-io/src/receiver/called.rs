//! Which of its addresses each peer called: a socket that is bound to any must answer from there. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Peers that are remembered; past it the memory starts over.
const PEERS_MAX: usize = 1024;
/// Peers that are found without a hash, which would cost as much as reading a datagram does: as many as a flow has links.
const RECENT_MAX: usize = bond::config::LINKS_MAX;

/// The addresses that peers called.
#[derive(Debug, Default)]
pub(crate) struct Called {
    /// The last that were new among these, in no order.
    recent: Vec<(SocketAddr, IpAddr)>,
    /// The place of the next one when there is no room.
    next: usize,
    all: HashMap<SocketAddr, IpAddr>,
}

impl Called {
    /// Remembers that `peer` called `address`, for each of its datagrams.
    pub(crate) fn note(&mut self, peer: SocketAddr, address: IpAddr) {
        match self.recent.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, called)) if *called == address => return,
            Some((_, called)) => *called = address,
            None => self.make_recent(peer, address),
        }
        if self.all.len() >= PEERS_MAX && !self.all.contains_key(&peer) {
            self.all.clear();
        }
        self.all.insert(peer, address);
    }

    /// What `peer` called, as far as remembered.
    pub(crate) fn by(&self, peer: SocketAddr) -> Option<IpAddr> {
        let recent = self.recent.iter().find(|(known, _)| *known == peer);
        recent.map(|(_, called)| *called).or_else(|| self.all.get(&peer).copied())
    }

    fn make_recent(&mut self, peer: SocketAddr, address: IpAddr) {
        if self.recent.len() < RECENT_MAX {
            self.recent.push((peer, address));
        } else {
            self.recent[self.next] = (peer, address);
            self.next = (self.next + 1) % RECENT_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn peer(number: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(198, 51, 100, 7), u16::try_from(number + 1).expect("a port")))
    }

    #[test]
    fn every_peer_is_told_apart_also_when_it_calls_another_address() {
        let mut called = Called::default();
        for _ in 0..2 {
            for number in 0..3 * RECENT_MAX {
                called.note(peer(number), if number % 3 == 0 { ONE } else { OTHER });
            }
        }
        called.note(peer(3), OTHER);
        let last = peer(3 * RECENT_MAX - 1);
        called.note(last, ONE);
        called.note(last, OTHER);
        called.note(last, ONE);
        for number in 0..3 * RECENT_MAX - 1 {
            assert_eq!(called.by(peer(number)), Some(if number % 3 == 0 && number != 3 { ONE } else { OTHER }));
        }
        assert_eq!((called.by(last), called.by(peer(3 * RECENT_MAX))), (Some(ONE), None));
    }

    #[test]
    fn peers_are_remembered_up_to_a_bound() {
        let mut called = Called::default();
        for number in 0..=PEERS_MAX {
            called.note(peer(number), ONE);
        }
        assert_eq!((called.all.len(), called.recent.len()), (1, RECENT_MAX));
        called.note(peer(0), OTHER);
        assert_eq!((called.all.len(), called.by(peer(0)), called.by(peer(1))), (2, Some(OTHER), None));
    }
}
