//! Who is let in: 4-tuples of which nothing is known yet.
//!
//! A source address is easily forged, so a 4-tuple is *half-open* until it has answered an echo request, whose SSRC only
//! its address was told, or has delivered media for a while (senders without echoes). Strangers cannot keep a sender out:
//! * a second looks at [`NEWCOMERS_PER_SECOND`] unknown sources, and at [`RETURNING_PER_SECOND`] more that were seen shortly
//!   before: a sender sends again, a forged source need not exist;
//! * [`HALF_OPEN_MAX`] are remembered, [`HALF_OPEN_PER_ADDRESS`] of one IP address, for [`HALF_OPEN_KEPT`]; the one silent
//!   for longest makes room;
//! * none is sent more bytes than it sent;
//! * whoever has delivered media is never put out while it is heard.

use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;
use units::Timestamp;

use super::peer::Peer;
use super::{PEERS_MAX, Receiver};
use crate::event::Cause;

/// Unknown sources looked at per second: each may cost a key derivation.
const NEWCOMERS_PER_SECOND: u32 = 32;
/// The same for sources seen shortly before.
const RETURNING_PER_SECOND: u32 = 32;
/// Half-open 4-tuples.
pub const HALF_OPEN_MAX: usize = 64;
/// The same with one IP address: every link of a sender behind one NAT.
pub const HALF_OPEN_PER_ADDRESS: usize = 16;
/// A half-open 4-tuple that has been silent for so long is forgotten.
const HALF_OPEN_KEPT: Duration = Duration::from_secs(3);
/// Packets a flow took from a 4-tuple that show as much as an echo.
const MEDIA_PROVES: u32 = 8;
/// Sources remembered for a short time, by a hash.
const SEEN: usize = 4096;

/// How much a 4-tuple has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing: its address may be forged.
    HalfOpen,
    /// It is where it says, or we called it.
    Proven,
    /// It delivered media too.
    Delivered,
}

/// The sources that came lately.
#[derive(Debug)]
pub(super) struct Door {
    secret: [u8; 32],
    second: Timestamp,
    newcomers: u32,
    returning: u32,
    seen: Vec<u64>,
}

impl Door {
    pub(super) fn new(now: Timestamp, secret: [u8; 32]) -> Self {
        Self { secret, second: now, newcomers: 0, returning: 0, seen: vec![0; SEEN] }
    }

    /// Whether a datagram of an unknown source is looked at.
    fn admit(&mut self, now: Timestamp, local: u16, from: SocketAddr) -> bool {
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.newcomers, self.returning) = (now, 0, 0);
        }
        let tag = self.tag(local, from);
        let place = &mut self.seen[(tag % SEEN as u64) as usize];
        let returns = std::mem::replace(place, tag) == tag;
        let (count, max) = if self.newcomers < NEWCOMERS_PER_SECOND || !returns {
            (&mut self.newcomers, NEWCOMERS_PER_SECOND)
        } else {
            (&mut self.returning, RETURNING_PER_SECOND)
        };
        let admitted = *count < max;
        *count += u32::from(admitted);
        admitted
    }

    /// Nobody else can tell which sources share a place.
    fn tag(&self, local: u16, from: SocketAddr) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(local.to_be_bytes());
        hash.update(from.port().to_be_bytes());
        match from.ip() {
            std::net::IpAddr::V4(ip) => hash.update(ip.octets()),
            std::net::IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        let hash: [u8; 32] = hash.finalize().into();
        hash[..8].iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte))
    }
}

impl Receiver {
    /// Whether a datagram of an unknown 4-tuple is looked at.
    pub(super) fn admit_newcomer(&mut self, now: Timestamp, local: u16, from: SocketAddr) -> bool {
        let admitted = self.door.admit(now, local, from);
        self.refused += u64::from(!admitted);
        admitted
    }

    /// Remembers a half-open peer; others that are silent make room.
    pub(super) fn add_peer(&mut self, peer: Peer) -> usize {
        let half_open = |other: &Peer| other.standing == Standing::HalfOpen;
        let neighbour = |other: &Peer| half_open(other) && other.address.ip() == peer.address.ip();
        let count = |of: &dyn Fn(&Peer) -> bool| self.peers.iter().filter(|other| of(other)).count();
        let crowd: Option<&dyn Fn(&Peer) -> bool> = if count(&neighbour) >= HALF_OPEN_PER_ADDRESS {
            Some(&neighbour)
        } else if count(&half_open) >= HALF_OPEN_MAX {
            Some(&half_open)
        } else {
            None
        };
        let oldest = crowd.and_then(|of| {
            let of_crowd = self.peers.iter().enumerate().filter(|(_, other)| of(other));
            of_crowd.min_by_key(|(_, other)| other.heard_at).map(|(index, _)| index)
        });
        if let Some(oldest) = oldest {
            self.peers.remove(oldest);
        }
        self.peers.push(peer);
        self.peers.len() - 1
    }

    /// Lets a peer rise to what it has shown by now.
    pub(super) fn promote(&mut self, now: Timestamp, index: usize) {
        let Some(peer) = self.peers.get(index) else { return };
        let reached = if peer.taken >= MEDIA_PROVES || (peer.answered && peer.taken > 0) {
            Standing::Delivered
        } else if peer.answered {
            Standing::Proven
        } else {
            return;
        };
        let (before, address) = (peer.standing, peer.address);
        if reached <= before {
            return;
        }
        let index = match before {
            Standing::HalfOpen => match self.make_room(now, index) {
                Some(index) => index,
                None => return,
            },
            _ => index,
        };
        self.peers[index].standing = reached;
        if before == Standing::HalfOpen {
            let name = self.peers[index].name.clone();
            self.note(now, Cause::PeerAppeared { peer: address, name });
        }
    }

    /// Makes room for the half-open peer at `index` among the others; gives its index then, or `None` when there is none: all
    /// deliver media.
    fn make_room(&mut self, now: Timestamp, index: usize) -> Option<usize> {
        let known = |peer: &Peer| peer.standing > Standing::HalfOpen;
        if self.peers.iter().filter(|peer| known(peer)).count() < PEERS_MAX {
            return Some(index);
        }
        let of_address =
            |peer: &Peer| self.peers.iter().filter(|o| known(o) && o.address.ip() == peer.address.ip()).count();
        let leaves = self.peers.iter().enumerate().filter(|(_, peer)| {
            known(peer) && !peer.called && !(peer.standing == Standing::Delivered && peer.is_live(now))
        });
        let (leaves, _) = leaves
            .min_by_key(|(_, peer)| (peer.is_live(now), peer.standing, Reverse(of_address(peer)), peer.heard_at))?;
        self.peers.remove(leaves);
        Some(if leaves < index { index - 1 } else { index })
    }

    /// Forgets half-open peers that fell silent.
    pub(super) fn forget_half_open(&mut self, now: Timestamp) {
        self.peers.retain(|peer| peer.standing > Standing::HalfOpen || now - peer.heard_at < HALF_OPEN_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> SocketAddr {
        SocketAddr::from(((0xc633_0000 | number >> 8).to_be_bytes(), 1024 + (number & 0xff) as u16))
    }

    #[test]
    fn who_comes_again_is_let_in_whatever_the_crowd() {
        let mut door = Door::new(Timestamp::ZERO, [7; 32]);
        let (mut strangers, mut waited) = (0, 0);
        for number in 0..100_000 {
            let now = Timestamp::from_micros(u64::from(number) * 100);
            strangers += u32::from(door.admit(now, 0, source(number)));
            // Every 20 ms in the second half of each second.
            if number % 200 == 0 && number % 10_000 > 5_000 {
                waited = if door.admit(now, 0, source(u32::MAX)) { 0 } else { waited + 1 };
                assert!(waited <= 3, "turned away {waited} times at {now:?}");
            }
        }
        assert_eq!(strangers, 10 * NEWCOMERS_PER_SECOND);
    }
}
