//! Who is let in: 4-tuples of which nothing is known yet.
//!
//! A source address is easily forged, so a 4-tuple is *half-open* until it has answered an echo request, whose SSRC only
//! its address was told, or has delivered media for a while (senders without echoes). Strangers cannot keep a sender out:
//! * [`Door`](crate::door::Door) bounds how many unknown sources are looked at;
//! * [`HALF_OPEN_MAX`] are remembered, [`HALF_OPEN_PER_ADDRESS`] of one IP address, for [`HALF_OPEN_KEPT`]; the one silent
//!   for longest makes room;
//! * none is sent more bytes than it sent, also while it delivers media, before it has answered an echo;
//! * whoever has delivered media is never put out while it is heard.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;
use units::Timestamp;

use super::peer::Peer;
use super::{PEERS_MAX, Receiver};
use crate::event::Cause;
use crate::refused::Reason;

/// Half-open 4-tuples.
pub const HALF_OPEN_MAX: usize = 64;
/// The same with one IP address: every link of a sender behind one NAT.
pub const HALF_OPEN_PER_ADDRESS: usize = 16;
/// A half-open 4-tuple that has been silent for so long is forgotten.
const HALF_OPEN_KEPT: Duration = Duration::from_secs(3);
/// Packets a flow took from a 4-tuple that show as much as an echo.
const MEDIA_PROVES: u32 = 8;

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

impl Receiver {
    /// Whether a datagram of an unknown 4-tuple is looked at.
    pub(super) fn admit_newcomer(&mut self, now: Timestamp, local: u16, from: SocketAddr) -> bool {
        let admitted = self.door.admit(now, local, from);
        if !admitted {
            self.refused.count(Reason::Stranger);
        }
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
        let answered = peer.answered_at.is_some();
        let reached = if peer.taken >= MEDIA_PROVES || (answered && peer.taken > 0) {
            Standing::Delivered
        } else if answered {
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
        if before == Standing::HalfOpen && self.peers[index].moved.is_none() {
            let name = self.peers[index].announced_name();
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
