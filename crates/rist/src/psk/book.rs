//! What the tunnels of one end know together of the nonces under their passphrase.
//!
//! The links of a bond share a passphrase, so what is sent on one of them decrypts on each: a stranger who overhears one
//! link may hand its datagrams in at another. The book tells which nonces are this end's own (it is reflected), which were
//! given up and with which number (it is a recording), and which belong to another link that is in use.

use super::Nonce;
use crate::tunnel::TunnelError;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use units::Timestamp;

/// Nonces of the peer that are remembered with their highest number after they went out of use, and nonces of this end; of
/// either the oldest are forgotten first. Some 2 MB at most, after as many changes of keys.
pub const NONCES_REMEMBERED_MAX: usize = 1 << 16;
/// Nonces of which it is known to which tunnel they belong; the one silent for longest is forgotten first.
const HOMES_MAX: usize = 256;
/// A nonce that was used within so long is in use.
pub(super) const IN_USE: Duration = Duration::from_secs(2);

/// Shared by the tunnels of one end that share a passphrase: clones are the same book.
#[derive(Debug, Clone, Default)]
pub struct NonceBook(Arc<Mutex<Pages>>);

/// A tunnel, in its book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TunnelId(u64);

/// Why a nonce belongs to a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// It goes on where the tunnel's former nonce ended: rotation by the peer, or a rival whose numbers are near.
    Continues,
    /// Its peer has answered an echo of this tunnel under it, or announced it under one with which it had.
    Answered,
}

/// A tunnel without a nonce of its own that takes packets under this one.
struct Guest {
    nonce: Nonce,
    tunnel: TunnelId,
    came_at: Timestamp,
    used_at: Timestamp,
}

#[derive(Default)]
struct Pages {
    tunnels: u64,
    own: Remembered,
    given_up: Remembered,
    homes: Vec<Home>,
    guests: Vec<Guest>,
}

/// A nonce and the tunnel to which it belongs.
struct Home {
    nonce: Nonce,
    tunnel: TunnelId,
    claim: Claim,
    used_at: Timestamp,
    /// `None` for one that is announced and not yet used.
    highest: Option<u32>,
}

/// Nonces with a number each, at most [`NONCES_REMEMBERED_MAX`].
#[derive(Default)]
struct Remembered {
    numbers: BTreeMap<Nonce, u32>,
    /// Oldest first.
    order: VecDeque<Nonce>,
}

impl Remembered {
    fn note(&mut self, nonce: Nonce, number: u32) {
        if let Some(known) = self.numbers.get_mut(&nonce) {
            *known = number.max(*known);
            return;
        }
        if self.order.len() >= NONCES_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
        self.numbers.insert(nonce, number);
        self.order.push_back(nonce);
    }
}

impl NonceBook {
    /// A new tunnel of this end.
    pub(crate) fn enter(&self) -> TunnelId {
        let mut pages = self.pages();
        pages.tunnels += 1;
        TunnelId(pages.tunnels)
    }

    /// This end sends under `nonce`.
    pub(crate) fn note_own(&self, nonce: Nonce) {
        self.pages().own.note(nonce, 0);
    }

    /// `nonce` went out of use, with `highest` as its highest number.
    pub(crate) fn give_up(&self, nonce: Nonce, highest: u32) {
        let mut pages = self.pages();
        pages.homes.retain(|home| home.nonce != nonce || home.highest > Some(highest));
        pages.given_up.note(nonce, highest);
    }

    /// The peer of `tunnel` uses `nonce`, up to the number `highest`. An answer outweighs what only continues.
    pub(crate) fn note_home(&self, now: Timestamp, nonce: Nonce, tunnel: TunnelId, claim: Claim, highest: u32) {
        self.note(now, nonce, tunnel, claim, Some(highest));
    }

    /// The peer of `tunnel` says that it will use `nonce`, and that one must be believed by `claim`.
    pub(crate) fn note_next(&self, now: Timestamp, nonce: Nonce, tunnel: TunnelId, claim: Claim) {
        self.note(now, nonce, tunnel, claim, None);
    }

    fn note(&self, now: Timestamp, nonce: Nonce, tunnel: TunnelId, claim: Claim, highest: Option<u32>) {
        let mut pages = self.pages();
        let homes = &mut pages.homes;
        if let Some(home) = homes.iter_mut().find(|home| home.nonce == nonce) {
            home.highest = home.highest.max(highest);
            if home.tunnel == tunnel || claim >= home.claim || now.since(home.used_at) >= IN_USE {
                (home.tunnel, home.claim, home.used_at) = (tunnel, claim, now);
            }
            return;
        }
        if homes.len() >= HOMES_MAX
            && let Some((oldest, _)) = homes.iter().enumerate().min_by_key(|(_, home)| home.used_at)
        {
            homes.swap_remove(oldest);
        }
        homes.push(Home { nonce, tunnel, claim, used_at: now, highest });
    }

    /// Why `nonce` belongs to another tunnel than `tunnel`, if it does and is in use there.
    pub(crate) fn elsewhere(&self, now: Timestamp, nonce: Nonce, tunnel: TunnelId) -> Option<Claim> {
        let of_other = |home: &&Home| home.nonce == nonce && home.tunnel != tunnel && now.since(home.used_at) < IN_USE;
        self.pages().homes.iter().find(of_other).map(|home| home.claim)
    }

    /// Why `nonce` belongs to `tunnel`, if it does.
    pub(crate) fn claim(&self, nonce: Nonce, tunnel: TunnelId) -> Option<Claim> {
        self.pages().homes.iter().find(|home| home.nonce == nonce && home.tunnel == tunnel).map(|home| home.claim)
    }

    /// `tunnel`, which has no nonce of its own yet, has taken a packet under `nonce`.
    pub(crate) fn note_guest(&self, now: Timestamp, nonce: Nonce, tunnel: TunnelId) {
        let guests = &mut self.pages().guests;
        if let Some(guest) = guests.iter_mut().find(|guest| guest.nonce == nonce && guest.tunnel == tunnel) {
            guest.used_at = now;
            return;
        }
        guests.retain(|guest| now.since(guest.used_at) < IN_USE);
        if guests.len() >= HOMES_MAX
            && let Some((oldest, _)) = guests.iter().enumerate().min_by_key(|(_, guest)| guest.used_at)
        {
            guests.swap_remove(oldest);
        }
        guests.push(Guest { nonce, tunnel, came_at: now, used_at: now });
    }

    /// Whether a nonce under which `tunnel`, which has none of its own yet, took packets was used at another tunnel too since then.
    /// (A link that has moved is heard at its new address only.)
    pub(crate) fn is_contested(&self, now: Timestamp, tunnel: TunnelId) -> bool {
        let pages = self.pages();
        let guests = &pages.guests;
        let rivals = |mine: &Guest| {
            let there = guests.iter().map(|guest| (guest.nonce, guest.tunnel, guest.used_at));
            let at_home = pages.homes.iter().map(|home| (home.nonce, home.tunnel, home.used_at));
            there.chain(at_home).any(|(nonce, other, used_at)| {
                nonce == mine.nonce && other != tunnel && used_at > mine.came_at && now.since(used_at) < IN_USE
            })
        };
        guests.iter().any(|guest| guest.tunnel == tunnel && now.since(guest.used_at) < IN_USE && rivals(guest))
    }

    /// Judges a nonce that a tunnel does not hold: the number below which everything under it is a replay, if any.
    ///
    /// # Errors
    /// [`TunnelError::Reflected`] when it is this end's own.
    pub(crate) fn floor(&self, nonce: Nonce) -> Result<Option<u32>, TunnelError> {
        let pages = self.pages();
        if pages.own.numbers.contains_key(&nonce) {
            return Err(TunnelError::Reflected);
        }
        let home = pages.homes.iter().find(|home| home.nonce == nonce).and_then(|home| home.highest);
        Ok(pages.given_up.numbers.get(&nonce).copied().max(home))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // No holder can leave it half written: nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("own", &self.own.order.len())
            .field("given_up", &self.given_up.order.len())
            .field("homes", &self.homes.len())
            .field("guests", &self.guests.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let book = NonceBook::default();
        for n in 1..=NONCES_REMEMBERED_MAX as u32 + 1 {
            book.give_up(n.to_be_bytes(), n);
            book.note_own((n | 1 << 31).to_be_bytes());
        }
        assert_eq!(book.floor([0, 0, 0, 1]), Ok(None), "forgotten");
        assert_eq!(book.floor([0, 0, 0, 2]), Ok(Some(2)));
        assert_eq!(book.floor([0x80, 0, 0, 1]), Ok(None), "forgotten");
        assert_eq!(book.floor([0x80, 0, 0, 2]), Err(TunnelError::Reflected));
        let (tunnel, other) = (book.enter(), book.enter());
        for n in 0..=HOMES_MAX as u32 {
            let now = Timestamp::from_millis(u64::from(n));
            book.note_home(now, (n | 1 << 30).to_be_bytes(), tunnel, Claim::Answered, n);
        }
        let now = Timestamp::from_millis(300);
        assert_eq!(book.elsewhere(now, [0x40, 0, 0, 0], other), None, "forgotten");
        assert_eq!(book.elsewhere(now, [0x40, 0, 0, 1], other), Some(Claim::Answered));
        assert_eq!(book.elsewhere(now, [0x40, 0, 0, 1], tunnel), None, "it is its own");
        assert_eq!(book.elsewhere(now + IN_USE, [0x40, 0, 0, 1], other), None, "out of use");
        assert_eq!(book.0.lock().unwrap().homes.len(), HOMES_MAX);
    }

    #[test]
    fn an_answer_outweighs_what_only_continues() {
        let (book, nonce, now) = (NonceBook::default(), [1, 2, 3, 4], Timestamp::ZERO);
        let (tunnel, rival) = (book.enter(), book.enter());
        book.note_home(now, nonce, rival, Claim::Continues, 1);
        book.note_home(now, nonce, tunnel, Claim::Continues, 2);
        assert_eq!(book.elsewhere(now, nonce, rival), Some(Claim::Continues));
        book.note_home(now, nonce, tunnel, Claim::Answered, 3);
        book.note_home(now, nonce, rival, Claim::Continues, 4);
        assert_eq!(book.elsewhere(now, nonce, rival), Some(Claim::Answered));
        book.note_home(now, nonce, rival, Claim::Answered, 5);
        assert_eq!(book.elsewhere(now, nonce, tunnel), Some(Claim::Answered), "the link has moved");
    }

    #[test]
    fn the_highest_number_counts_wherever_it_came_from() {
        let (book, nonce) = (NonceBook::default(), [1, 2, 3, 4]);
        let tunnel = book.enter();
        book.note_home(Timestamp::ZERO, nonce, tunnel, Claim::Answered, 70);
        book.give_up(nonce, 50);
        assert_eq!(book.floor(nonce), Ok(Some(70)), "another tunnel still uses it");
        book.give_up(nonce, 90);
        book.give_up(nonce, 20);
        assert_eq!(book.floor(nonce), Ok(Some(90)));
    }
}
