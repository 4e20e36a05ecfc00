//! Far ends whose settings do not fit this end's: the operator is told what to set, while nothing of theirs gets in.
//!
//! A stray datagram is no far end: it takes [`DATAGRAMS_MIN`] of one IP address for the same reason within [`PATIENCE`], and over a time
//! in which a log-in would have ended. Whoever floods the port fills no log: a reason is told at most once in [`CALM`].

use std::net::SocketAddr;
use std::time::Duration;
use units::Timestamp;

use crate::event::{Cause, Mismatch};
use crate::refused::Reason;

/// Datagrams that show a far end.
const DATAGRAMS_MIN: u64 = 3;
/// Time over which they come: a log-in takes a few round trips, in which nothing else passes.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const LOG_IN_AFTER: Duration = Duration::from_secs(5);
/// One that has been silent for so long is counted anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// Least time between two events of the same reason.
const CALM: Duration = Duration::from_mins(1);
/// Addresses looked at: links come from an address each. Of more, the one that was heard longest ago is forgotten.
const STREAKS_MAX: usize = 32;

/// Datagrams of one IP address, refused for one reason.
#[derive(Debug, Clone, Copy)]
struct Streak {
    reason: Mismatch,
    peer: SocketAddr,
    since: Timestamp,
    last: Timestamp,
    datagrams: u64,
}

/// What was refused lately of those who are not let in.
#[derive(Debug, Default)]
pub(crate) struct Mismatches {
    /// At most [`STREAKS_MAX`].
    streaks: Vec<Streak>,
    /// One a reason at most: when it was told.
    told: Vec<(Mismatch, Timestamp)>,
}

impl Mismatches {
    /// A datagram of `peer`, of which nothing has been taken yet, was refused; what the operator shall be told of it, if anything.
    pub(crate) fn note(&mut self, now: Timestamp, peer: SocketAddr, reason: Reason) -> Option<Cause> {
        let reason = match reason {
            Reason::Clear => Mismatch::Clear,
            Reason::Encrypted => Mismatch::Encrypted,
            Reason::WrongKey => Mismatch::WrongKey,
            Reason::LogIn => Mismatch::LogIn,
            Reason::Malformed => Mismatch::Malformed,
            Reason::Replayed | Reason::Stranger | Reason::Unwanted | Reason::OutOfWindow => return None,
        };
        let new = Streak { reason, peer, since: now, last: now, datagrams: 0 };
        self.streaks.retain(|streak| now - streak.last <= PATIENCE);
        let mine = |streak: &Streak| streak.reason == reason && streak.peer.ip() == peer.ip();
        let index = self.streaks.iter().position(mine).unwrap_or_else(|| {
            if self.streaks.len() >= STREAKS_MAX {
                let longest_ago = self.streaks.iter().enumerate().min_by_key(|(_, streak)| streak.last);
                if let Some((index, _)) = longest_ago {
                    self.streaks.swap_remove(index);
                }
            }
            self.streaks.push(new);
            self.streaks.len() - 1
        });
        let streak = &mut self.streaks[index];
        (streak.peer, streak.last) = (peer, now);
        streak.datagrams += 1;
        let after = if reason == Mismatch::LogIn { LOG_IN_AFTER } else { SHOWN_AFTER };
        let datagrams = streak.datagrams;
        if datagrams < DATAGRAMS_MIN || now - streak.since < after {
            return None;
        }
        match self.told.iter_mut().find(|(told, _)| *told == reason) {
            Some((_, at)) if now - *at < CALM => return None,
            Some((_, at)) => *at = now,
            None => self.told.push((reason, now)),
        }
        streak.datagrams = 0;
        Some(Cause::PeerRefused { peer, reason, datagrams })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 5000))
    }

    /// Two minutes of a datagram each 100 ms of the peers in turn: when which of them was told of.
    fn told(peers: &[u8], reason: Reason) -> Vec<(u64, SocketAddr)> {
        let mut mismatches = Mismatches::default();
        let note = |i: usize| {
            let at = Timestamp::from_millis(i as u64 * 100);
            match mismatches.note(at, peer(peers[i % peers.len()]), reason)? {
                Cause::PeerRefused { peer, .. } => Some((i as u64 * 100, peer)),
                _ => None,
            }
        };
        (0..1200).filter_map(note).collect()
    }

    #[test]
    fn a_sender_is_told_of_after_a_second_and_once_a_minute() {
        assert_eq!(told(&[1], Reason::WrongKey), [(1000, peer(1)), (61_000, peer(1))]);
        assert_eq!(told(&[1], Reason::LogIn), [(5000, peer(1)), (65_000, peer(1))]);
    }

    #[test]
    fn links_of_several_addresses_are_one_sender_and_a_flood_is_none() {
        assert_eq!(told(&[1, 2, 3], Reason::Clear).len(), 2);
        let many: Vec<u8> = (0..200).collect();
        assert!(told(&many, Reason::Malformed).is_empty());
    }

    #[test]
    fn strays_and_what_the_network_repeats_are_no_sender() {
        assert!(told(&[1], Reason::Replayed).is_empty());
        let mut mismatches = Mismatches::default();
        for minute in 0..10 {
            assert!(mismatches.note(Timestamp::from_millis(minute * 60_000), peer(1), Reason::Clear).is_none());
        }
    }
}
