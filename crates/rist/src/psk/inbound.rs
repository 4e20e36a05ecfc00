//! Keys of what the peer sends.

use super::book::{Claim, IN_USE, NonceBook, TunnelId};
use super::replay::{Freshness, REPLAY_WINDOW_PACKETS, ReplayWindow};
use super::{IvLayout, KeySize, Nonce, PacketKey, Psk, RateLimiter};
use crate::tunnel::TunnelError;
use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// Nonces not yet proven whose derived keys are kept, oldest replaced first.
pub const CANDIDATE_NONCES_MAX: usize = 2;
/// Nonces in use. One is the peer's; more come of rotations, restarts and of replays from other links or former sessions.
pub const ACCEPTED_NONCES_MAX: usize = 16;
/// A nonce that the peer has rotated away from gives way to the next one after this silence: at the fastest rotation
/// there are fifteen others in between.
const ROTATED: Duration = Duration::from_millis(200);

/// Derivations for unknown nonces whose sequence goes on where a known one is: rotation by the peer.
const ROTATIONS_PER_SECOND_MAX: u32 = 64;
/// Derivations for any other unknown nonce: a peer that starts again, or an attacker who guesses.
const RESTARTS_PER_SECOND_MAX: u32 = 8;

/// The peer's packets under one proven nonce.
#[derive(Debug)]
struct Accepted {
    nonce: Nonce,
    key: PacketKey,
    window: ReplayWindow,
    used_at: Timestamp,
}

impl Accepted {
    /// Whether a nonce whose numbers begin at `sequence` goes on where this one is.
    fn is_followed_by(&self, sequence: u32) -> bool {
        (1..=REPLAY_WINDOW_PACKETS).contains(&sequence.wrapping_sub(self.window.highest()))
    }
}

#[derive(Debug)]
struct Candidate {
    nonce: Nonce,
    key: PacketKey,
}

/// Whose datagram came in at a tunnel. All are genuine, but somebody may have overheard them on another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The tunnel's peer, as far as anything tells.
    Peer,
    /// Under the same nonce some come in at another tunnel at the same time, and no answer to an echo has shown yet where it belongs.
    Open,
    /// The tunnel's peer uses another nonce: it has started anew, or this is another link's.
    Other,
}

/// Names the key that decrypted a packet, until the packet is accepted or refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    Accepted { index: usize, far_ahead: bool },
    Candidate { nonce: Nonce },
}

#[derive(Debug)]
pub(crate) struct Inbound {
    psk: Psk,
    book: NonceBook,
    tunnel: TunnelId,
    /// Newest first, at most [`ACCEPTED_NONCES_MAX`].
    accepted: VecDeque<Accepted>,
    /// Oldest first, at most [`CANDIDATE_NONCES_MAX`].
    candidates: VecDeque<Candidate>,
    /// The nonce that belongs to this tunnel, and why.
    home: Option<(Nonce, Claim)>,
    /// The nonce of the packet last accepted.
    latest: Option<Nonce>,
    rotations: RateLimiter,
    restarts: RateLimiter,
}

impl Inbound {
    pub(crate) fn new(psk: Psk, book: NonceBook) -> Self {
        let per_second = |count: u32| RateLimiter::new(Duration::from_secs(1) / count, count);
        Self {
            psk,
            tunnel: book.enter(),
            book,
            accepted: VecDeque::with_capacity(CANDIDATE_NONCES_MAX),
            candidates: VecDeque::with_capacity(CANDIDATE_NONCES_MAX + 1),
            home: None,
            latest: None,
            rotations: per_second(ROTATIONS_PER_SECOND_MAX),
            restarts: per_second(RESTARTS_PER_SECOND_MAX),
        }
    }

    /// Decrypts `body` in place. The result is trusted only after [`Self::accept`].
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        nonce: Nonce,
        size: KeySize,
        sequence: u32,
        layout: IvLayout,
        body: &mut [u8],
    ) -> Result<Slot, TunnelError> {
        if self.is_elsewhere(now, nonce, sequence) {
            return Err(TunnelError::OtherLink);
        }
        if let Some(index) = self.position(nonce) {
            let known = &self.accepted[index];
            if known.key.size() != size {
                return Err(TunnelError::Implausible);
            }
            let far_ahead = match known.window.judge(sequence) {
                Freshness::Fresh => false,
                Freshness::FarAhead => true,
                Freshness::Replayed => return Err(TunnelError::Replayed { sequence }),
            };
            known.key.apply(sequence, layout, body);
            return Ok(Slot::Accepted { index, far_ahead });
        }
        if self.book.floor(nonce)?.is_some_and(|floor| sequence <= floor) {
            return Err(TunnelError::Replayed { sequence });
        }
        let rotated = self.continues(now, sequence);
        self.candidate(now, nonce, size, rotated)?.key.apply(sequence, layout, body);
        Ok(Slot::Candidate { nonce })
    }

    /// Takes a packet that decrypted plausibly into the books; from here on it is a replay.
    pub(crate) fn accept(&mut self, now: Timestamp, slot: Slot, sequence: u32) -> Result<(), TunnelError> {
        match slot {
            Slot::Accepted { index, far_ahead: true } => {
                self.accepted[index].window.note_far(sequence);
                Err(TunnelError::FarAhead { sequence })
            }
            Slot::Accepted { index, far_ahead: false } => {
                let known = &mut self.accepted[index];
                known.window.accept(sequence);
                known.used_at = now;
                self.latest = Some(known.nonce);
                let nonce = known.nonce;
                self.note_guest(now, nonce);
                let known = &self.accepted[index];
                if let Some((home, claim)) = self.home.filter(|(home, _)| *home == known.nonce) {
                    self.book.note_home(now, home, self.tunnel, claim, known.window.highest());
                }
                Ok(())
            }
            Slot::Candidate { nonce } => self.promote(now, nonce, sequence),
        }
    }

    /// The peer that sent the packet last accepted hears what this tunnel sends: its nonce belongs to this tunnel.
    pub(crate) fn vouch(&mut self, now: Timestamp) {
        let Some(index) = self.latest.and_then(|nonce| self.position(nonce)) else { return };
        let known = &self.accepted[index];
        self.home = Some((known.nonce, Claim::Answered));
        self.book.note_home(now, known.nonce, self.tunnel, Claim::Answered, known.window.highest());
    }

    /// Takes what the packet last accepted announced: the peer's next nonce. Its key is derived, and it belongs where the
    /// present one does: nobody else's link can claim it by being first.
    pub(crate) fn expect(&mut self, now: Timestamp, nonce: Nonce, size: KeySize) -> Result<(), TunnelError> {
        if self.position(nonce).is_some() {
            return Ok(());
        }
        self.book.floor(nonce)?;
        if let Some((_, claim)) = self.home.filter(|(home, _)| self.latest == Some(*home)) {
            self.book.note_next(now, nonce, self.tunnel, claim);
        }
        self.candidate(now, nonce, size, true).map(|_| ())
    }

    /// Whether anything has decrypted.
    pub(crate) fn is_proven(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Whether something has decrypted under `nonce`, and it is in use.
    pub(crate) fn holds(&self, nonce: Nonce) -> bool {
        self.position(nonce).is_some()
    }

    fn position(&self, nonce: Nonce) -> Option<usize> {
        self.accepted.iter().position(|known| known.nonce == nonce)
    }

    /// The nonce that belongs to this tunnel, while it is in use.
    fn home(&self, now: Timestamp) -> Option<&Accepted> {
        let (home, _) = self.home?;
        self.accepted.iter().find(|known| known.nonce == home && now.since(known.used_at) < IN_USE)
    }

    /// Whether this tunnel has, in use, a nonce that is known to be its peer's.
    fn is_at_home(&self, now: Timestamp) -> bool {
        self.home.is_some_and(|(_, claim)| claim == Claim::Answered) && self.home(now).is_some()
    }

    fn note_guest(&self, now: Timestamp, nonce: Nonce) {
        if !self.is_at_home(now) {
            self.book.note_guest(now, nonce, self.tunnel);
        }
    }

    /// Whose packet was accepted last.
    pub(crate) fn ownership(&self, now: Timestamp) -> Ownership {
        let own = self.home.map(|(home, _)| home) == self.latest;
        match self.is_at_home(now) {
            true if own => Ownership::Peer,
            true => Ownership::Other,
            false if self.book.is_contested(now, self.tunnel) => Ownership::Open,
            false => Ownership::Peer,
        }
    }

    /// Whether the nonce is that of another link, while this one has its own. A tunnel without takes it: its peer has moved.
    fn is_elsewhere(&self, now: Timestamp, nonce: Nonce, sequence: u32) -> bool {
        if self.home.is_none_or(|(home, _)| home == nonce) {
            return false;
        }
        let Some(home) = self.home(now) else { return false };
        match self.book.elsewhere(now, nonce, self.tunnel) {
            Some(Claim::Answered) => true,
            Some(Claim::Continues) => !home.is_followed_by(sequence),
            None => false,
        }
    }

    fn candidate(
        &mut self,
        now: Timestamp,
        nonce: Nonce,
        size: KeySize,
        rotated: bool,
    ) -> Result<&Candidate, TunnelError> {
        let known = |candidate: &Candidate| candidate.nonce == nonce && candidate.key.size() == size;
        if let Some(index) = self.candidates.iter().position(known) {
            return Ok(&self.candidates[index]);
        }
        if nonce == [0; 4] {
            return Err(TunnelError::ZeroNonce);
        }
        let limiter = if rotated { &mut self.rotations } else { &mut self.restarts };
        if !limiter.allow(now) {
            return Err(TunnelError::DerivationLimit);
        }
        if self.candidates.len() == CANDIDATE_NONCES_MAX {
            self.candidates.pop_front();
        }
        self.candidates.push_back(Candidate { nonce, key: self.psk.derive(nonce, size) });
        Ok(&self.candidates[self.candidates.len() - 1])
    }

    /// Whether the number goes on where a nonce in use is.
    fn continues(&self, now: Timestamp, sequence: u32) -> bool {
        self.accepted.iter().any(|known| now.since(known.used_at) < IN_USE && known.is_followed_by(sequence))
    }

    /// A nonce has decrypted a packet. What is in use never gives way to it.
    fn promote(&mut self, now: Timestamp, nonce: Nonce, sequence: u32) -> Result<(), TunnelError> {
        let unused_for = if self.continues(now, sequence) { ROTATED } else { IN_USE };
        if self.accepted.len() >= ACCEPTED_NONCES_MAX {
            let unused = self.accepted.iter().enumerate().min_by_key(|(_, known)| known.used_at);
            let unused = unused.filter(|(_, known)| now.since(known.used_at) >= unused_for);
            let Some((unused, _)) = unused else { return Err(TunnelError::NonceLimit) };
            if let Some(old) = self.accepted.remove(unused) {
                self.book.give_up(old.nonce, old.window.highest());
            }
        }
        let floor = self.book.floor(nonce)?;
        let Some(index) = self.candidates.iter().rposition(|candidate| candidate.nonce == nonce) else { return Ok(()) };
        let Some(Candidate { nonce, key }) = self.candidates.remove(index) else { return Ok(()) };
        self.candidates.retain(|candidate| candidate.nonce != nonce);
        let window = ReplayWindow::above(floor, sequence);
        if self.home(now).is_some_and(|home| home.is_followed_by(sequence)) {
            let claim = self.book.claim(nonce, self.tunnel).unwrap_or(Claim::Continues);
            self.home = Some((nonce, claim));
            self.book.note_home(now, nonce, self.tunnel, claim, window.highest());
        }
        self.accepted.push_front(Accepted { nonce, key, window, used_at: now });
        self.latest = Some(nonce);
        self.note_guest(now, nonce);
        Ok(())
    }
}

impl Drop for Inbound {
    /// What this tunnel took is a replay in the next one.
    fn drop(&mut self) {
        for known in &self.accepted {
            self.book.give_up(known.nonce, known.window.highest());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: KeySize = KeySize::Aes128;

    fn inbound() -> Inbound {
        Inbound::new(Psk::new("x"), NonceBook::default())
    }

    fn open(inbound: &mut Inbound, now: Timestamp, nonce: Nonce, sequence: u32) -> Result<Slot, TunnelError> {
        inbound.open(now, nonce, SIZE, sequence, IvLayout::SequenceFirst, &mut [0; 4])
    }

    fn receive(inbound: &mut Inbound, now: Timestamp, nonce: Nonce, sequence: u32) -> Result<(), TunnelError> {
        let slot = open(inbound, now, nonce, sequence)?;
        inbound.accept(now, slot, sequence)
    }

    #[test]
    fn unknown_nonces_never_push_out_proven_ones() {
        let mut inbound = inbound();
        let mut now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 0).unwrap();
        receive(&mut inbound, now, [0, 0, 0, 2], 1).unwrap();
        for guess in 0..200u8 {
            now += Duration::from_millis(500);
            let slot = open(&mut inbound, now, [9, 9, 9, guess], 7).unwrap();
            assert!(matches!(slot, Slot::Candidate { .. }), "decrypted, not accepted");
        }
        assert_eq!(inbound.candidates.len(), CANDIDATE_NONCES_MAX);
        receive(&mut inbound, now, [0, 0, 0, 1], 3).unwrap();
        receive(&mut inbound, now, [0, 0, 0, 2], 2).unwrap();
        assert_eq!(receive(&mut inbound, now, [0, 0, 0, 2], 2), Err(TunnelError::Replayed { sequence: 2 }));
    }

    #[test]
    fn guesses_are_limited_and_do_not_hold_up_a_rotation() {
        let mut inbound = inbound();
        let now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 100).unwrap();
        let tried = (0..=255).filter(|guess| open(&mut inbound, now, [9, 9, 9, *guess], 50).is_ok()).count();
        assert_eq!(tried, RESTARTS_PER_SECOND_MAX as usize - 1, "one was spent on the first nonce");
        assert_eq!(open(&mut inbound, now, [8, 0, 0, 1], 50).err(), Some(TunnelError::DerivationLimit));
        receive(&mut inbound, now, [0, 0, 0, 2], 101).unwrap();
    }

    /// Goal: whatever comes under other nonces, the peer's own goes on, and is not needed to be the newest.
    #[test]
    fn a_nonce_in_use_never_gives_way() {
        let mut inbound = inbound();
        let mut now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 0).unwrap();
        let (mut sequence, mut refused) = (0, 0);
        for other in 0..200u8 {
            now += Duration::from_millis(140);
            // One continues the peer's numbers, one does not.
            let number = if other % 2 == 0 { sequence + 1 } else { 1 << 20 };
            match receive(&mut inbound, now, [9, 9, 9, other], number) {
                Ok(()) => {}
                Err(TunnelError::NonceLimit) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
            sequence += 1;
            receive(&mut inbound, now, [0, 0, 0, 1], sequence).unwrap();
        }
        assert_eq!(inbound.accepted.len(), ACCEPTED_NONCES_MAX);
        assert_eq!(refused, 0, "the oldest of them are unused for two seconds");
        // Sixteen that are all in use leave no room, and a newcomer that is refused may come again.
        let newcomer = [7, 7, 7, 7];
        for step in 1..=40u32 {
            now += Duration::from_millis(130);
            for index in 0..ACCEPTED_NONCES_MAX {
                let (nonce, highest) = (inbound.accepted[index].nonce, inbound.accepted[index].window.highest());
                receive(&mut inbound, now, nonce, highest + 1).unwrap();
            }
            assert_eq!(receive(&mut inbound, now, newcomer, step), Err(TunnelError::NonceLimit));
        }
        now += IN_USE;
        receive(&mut inbound, now, newcomer, 41).unwrap();
    }

    #[test]
    fn a_nonce_that_gave_way_comes_back_with_higher_numbers_only() {
        let mut inbound = inbound();
        let mut now = Timestamp::from_millis(1);
        for sequence in 0..5000 {
            receive(&mut inbound, now, [0, 0, 0, 1], sequence).unwrap();
        }
        for other in 0..ACCEPTED_NONCES_MAX as u8 {
            now += IN_USE;
            receive(&mut inbound, now, [9, 9, 9, other], 1 << 20).unwrap();
        }
        assert!(inbound.position([0, 0, 0, 1]).is_none());
        for sequence in [0, 4000, 4999] {
            assert_eq!(receive(&mut inbound, now, [0, 0, 0, 1], sequence), Err(TunnelError::Replayed { sequence }));
        }
        receive(&mut inbound, now, [0, 0, 0, 1], 5010).unwrap();
        for sequence in 5000..5010 {
            receive(&mut inbound, now, [0, 0, 0, 1], sequence).unwrap();
        }
        for sequence in [978, 4000, 4999, 5009, 5010] {
            assert_eq!(receive(&mut inbound, now, [0, 0, 0, 1], sequence), Err(TunnelError::Replayed { sequence }));
        }
    }

    /// Goal: the fastest rotation of this end's own make needs no more nonces than there is room for.
    #[test]
    fn the_fastest_rotation_finds_room() {
        let mut inbound = inbound();
        let mut now = Timestamp::from_millis(1);
        for nonce in 1..1000u32 {
            now += Duration::from_secs(1) / ROTATIONS_PER_SECOND_MAX;
            receive(&mut inbound, now, nonce.to_be_bytes(), nonce).unwrap();
        }
        assert_eq!(inbound.accepted.len(), ACCEPTED_NONCES_MAX);
    }

    #[test]
    fn zero_is_no_nonce_and_an_announced_one_is_derived_ahead() {
        let mut inbound = inbound();
        let now = Timestamp::from_millis(1);
        assert_eq!(receive(&mut inbound, now, [0; 4], 9), Err(TunnelError::ZeroNonce));
        receive(&mut inbound, now, [0, 0, 0, 1], 1).unwrap();
        inbound.expect(now, [0, 0, 0, 2], SIZE).unwrap();
        assert_eq!(inbound.candidates.iter().map(|candidate| candidate.nonce).collect::<Vec<_>>(), [[0, 0, 0, 2]]);
        // Neither bucket is needed any more.
        while inbound.restarts.allow(now) || inbound.rotations.allow(now) {}
        assert_eq!(receive(&mut inbound, now, [0, 0, 0, 3], 2), Err(TunnelError::DerivationLimit));
        receive(&mut inbound, now, [0, 0, 0, 2], 2).unwrap();
    }

    /// Goal: a link keeps its nonce, once it has answered an echo, from others that have theirs, and takes it along.
    #[test]
    fn a_nonce_belongs_to_the_link_that_answered() {
        let book = NonceBook::default();
        let [mut first, mut second, mut elsewhere] = [(); 3].map(|()| Inbound::new(Psk::new("x"), book.clone()));
        let (one, two) = ([0, 0, 0, 1], [0, 0, 0, 2]);
        let mut now = Timestamp::from_millis(1);
        for sequence in 0..100 {
            now += Duration::from_millis(20);
            receive(&mut first, now, one, sequence).unwrap();
            receive(&mut second, now, two, sequence).unwrap();
            first.vouch(now);
            // Before the second link has shown its own nonce, this one may be its peer's that has moved.
            let early = TunnelError::Replayed { sequence };
            let expected = if sequence == 0 { early } else { TunnelError::OtherLink };
            assert_eq!(receive(&mut second, now, one, sequence), Err(expected));
            receive(&mut second, now, two, sequence + 1000).unwrap();
            second.vouch(now);
        }
        // A recording at a new address is too old; what is new is let in: the link has moved.
        assert_eq!(receive(&mut elsewhere, now, one, 50), Err(TunnelError::Replayed { sequence: 50 }));
        receive(&mut elsewhere, now, one, 100).unwrap();
        assert_eq!(receive(&mut elsewhere, now, one, 60), Err(TunnelError::Replayed { sequence: 60 }));
        // A link that has fallen silent is no rival, nor one that has no nonce any more.
        now += IN_USE;
        receive(&mut second, now, one, 101).unwrap();
    }

    /// V12: nonces of all kinds, also with the bit that stands for the odd passphrase, each where the one before ended.
    #[test]
    fn v12_the_nonces_that_librist_drew_are_taken_one_after_another() {
        let mut inbound = Inbound::new(Psk::new("rotate-me"), NonceBook::default());
        let now = Timestamp::from_millis(1);
        let nonces: [(u32, u32); 5] =
            [(0x0f2c_7a68, 0), (0xd287_b0df, 0x28), (0x3478_b8cb, 0x50), (0x82c0_4344, 0x78), (0x933d_53f0, 0xa0)];
        for (nonce, first) in nonces {
            for sequence in first..first + 0x28 {
                receive(&mut inbound, now, nonce.to_be_bytes(), sequence).unwrap();
            }
        }
        let newest_first: Vec<u32> = inbound.accepted.iter().map(|known| u32::from_be_bytes(known.nonce)).collect();
        assert_eq!(newest_first, nonces.map(|(nonce, _)| nonce).into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn numbers_that_go_on_have_a_limit_of_their_own() {
        let mut inbound = inbound();
        let now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 100).unwrap();
        let tried = (0..=255).filter(|guess| open(&mut inbound, now, [9, 9, 9, *guess], 101).is_ok()).count();
        assert_eq!(tried, ROTATIONS_PER_SECOND_MAX as usize);
        let tried = (0..=255).filter(|guess| open(&mut inbound, now, [8, 8, 8, *guess], 100).is_ok()).count();
        assert_eq!(tried, RESTARTS_PER_SECOND_MAX as usize - 1, "one was spent on the first nonce");
    }

    #[test]
    fn the_same_nonce_with_the_other_key_size_is_refused() {
        let mut inbound = inbound();
        let now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 1).unwrap();
        let other = inbound.open(now, [0, 0, 0, 1], KeySize::Aes256, 2, IvLayout::SequenceFirst, &mut [0; 4]);
        assert_eq!(other.err(), Some(TunnelError::Implausible));
    }
}
