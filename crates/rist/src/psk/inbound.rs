//! Keys of what the peer sends.

use super::replay::{Freshness, REPLAY_WINDOW_PACKETS, ReplayWindow};
use super::{IvLayout, KeySize, Nonce, PacketKey, Psk, RateLimiter};
use crate::tunnel::TunnelError;
use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// Nonces not yet proven whose derived keys are kept, oldest replaced first.
pub const CANDIDATE_NONCES_MAX: usize = 2;
/// Nonces no longer in use that are refused for good, so that recordings of them cannot be played back; oldest forgotten
/// first.
pub const RETIRED_NONCES_MAX: usize = 1024;
/// Nonces in use: the newest and the one before it, for packets that were overtaken.
const ACCEPTED_NONCES_MAX: usize = 2;

/// Derivations for unknown nonces whose sequence goes on where the known one is: rotation by the peer.
const ROTATIONS_PER_SECOND_MAX: u32 = 64;
/// Derivations for any other unknown nonce: a peer that starts again, or an attacker who guesses.
const RESTARTS_PER_SECOND_MAX: u32 = 8;

/// The peer's packets under one proven nonce.
#[derive(Debug)]
struct Accepted {
    nonce: Nonce,
    key: PacketKey,
    window: ReplayWindow,
}

#[derive(Debug)]
struct Candidate {
    nonce: Nonce,
    key: PacketKey,
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
    /// Newest first, at most [`ACCEPTED_NONCES_MAX`].
    accepted: VecDeque<Accepted>,
    /// Oldest first, at most [`CANDIDATE_NONCES_MAX`].
    candidates: VecDeque<Candidate>,
    /// Oldest first, at most [`RETIRED_NONCES_MAX`].
    retired: VecDeque<Nonce>,
    rotations: RateLimiter,
    restarts: RateLimiter,
}

impl Inbound {
    pub(crate) fn new(psk: Psk) -> Self {
        let per_second = |count: u32| RateLimiter::new(Duration::from_secs(1) / count, count);
        Self {
            psk,
            accepted: VecDeque::with_capacity(ACCEPTED_NONCES_MAX + 1),
            candidates: VecDeque::with_capacity(CANDIDATE_NONCES_MAX + 1),
            retired: VecDeque::new(),
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
        if let Some(index) = self.accepted.iter().position(|known| known.nonce == nonce) {
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
        self.candidate(now, nonce, size, Some(sequence))?.key.apply(sequence, layout, body);
        Ok(Slot::Candidate { nonce })
    }

    /// Takes a packet that decrypted plausibly into the books; from here on it is a replay.
    pub(crate) fn accept(&mut self, slot: Slot, sequence: u32) -> Result<(), TunnelError> {
        match slot {
            Slot::Accepted { index, far_ahead: true } => {
                self.accepted[index].window.note_far(sequence);
                Err(TunnelError::FarAhead { sequence })
            }
            Slot::Accepted { index, far_ahead: false } => {
                self.accepted[index].window.accept(sequence);
                Ok(())
            }
            Slot::Candidate { nonce } => {
                self.promote(nonce, sequence);
                Ok(())
            }
        }
    }

    /// Derives the key of a nonce that the peer announced.
    pub(crate) fn expect(&mut self, now: Timestamp, nonce: Nonce, size: KeySize) -> Result<(), TunnelError> {
        if self.accepted.iter().any(|known| known.nonce == nonce) {
            return Ok(());
        }
        let next = self.accepted.front().map(|known| known.window.highest().saturating_add(1));
        self.candidate(now, nonce, size, next).map(|_| ())
    }

    /// Refuses `nonce` for good; also for this end's own nonces, so that its packets cannot be reflected.
    pub(crate) fn retire(&mut self, nonce: Nonce) {
        if self.retired.len() == RETIRED_NONCES_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(nonce);
    }

    fn candidate(
        &mut self,
        now: Timestamp,
        nonce: Nonce,
        size: KeySize,
        sequence: Option<u32>,
    ) -> Result<&Candidate, TunnelError> {
        let known = |candidate: &Candidate| candidate.nonce == nonce && candidate.key.size() == size;
        if let Some(index) = self.candidates.iter().position(known) {
            return Ok(&self.candidates[index]);
        }
        if nonce == [0; 4] || self.retired.contains(&nonce) {
            return Err(TunnelError::RetiredNonce);
        }
        let limiter = if self.continues(sequence) { &mut self.rotations } else { &mut self.restarts };
        if !limiter.allow(now) {
            return Err(TunnelError::DerivationLimit);
        }
        if self.candidates.len() == CANDIDATE_NONCES_MAX {
            self.candidates.pop_front();
        }
        self.candidates.push_back(Candidate { nonce, key: self.psk.derive(nonce, size) });
        Ok(&self.candidates[self.candidates.len() - 1])
    }

    fn continues(&self, sequence: Option<u32>) -> bool {
        let (Some(current), Some(sequence)) = (self.accepted.front(), sequence) else { return false };
        let ahead = sequence.wrapping_sub(current.window.highest());
        (1..=REPLAY_WINDOW_PACKETS).contains(&ahead)
    }

    fn promote(&mut self, nonce: Nonce, sequence: u32) {
        let Some(index) = self.candidates.iter().rposition(|candidate| candidate.nonce == nonce) else { return };
        let Some(Candidate { nonce, key }) = self.candidates.remove(index) else { return };
        self.candidates.retain(|candidate| candidate.nonce != nonce);
        self.accepted.push_front(Accepted { nonce, key, window: ReplayWindow::new(sequence) });
        if self.accepted.len() > ACCEPTED_NONCES_MAX
            && let Some(oldest) = self.accepted.pop_back()
        {
            self.retire(oldest.nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: KeySize = KeySize::Aes128;

    fn open(inbound: &mut Inbound, now: Timestamp, nonce: Nonce, sequence: u32) -> Result<Slot, TunnelError> {
        inbound.open(now, nonce, SIZE, sequence, IvLayout::SequenceFirst, &mut [0; 4])
    }

    fn receive(inbound: &mut Inbound, now: Timestamp, nonce: Nonce, sequence: u32) -> Result<(), TunnelError> {
        let slot = open(inbound, now, nonce, sequence)?;
        inbound.accept(slot, sequence)
    }

    #[test]
    fn unknown_nonces_never_push_out_proven_ones() {
        let mut inbound = Inbound::new(Psk::new("x"));
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
        let mut inbound = Inbound::new(Psk::new("x"));
        let now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 100).unwrap();
        let tried = (0..=255).filter(|guess| open(&mut inbound, now, [9, 9, 9, *guess], 50).is_ok()).count();
        assert_eq!(tried, RESTARTS_PER_SECOND_MAX as usize - 1, "one was spent on the first nonce");
        assert_eq!(open(&mut inbound, now, [8, 0, 0, 1], 50).err(), Some(TunnelError::DerivationLimit));
        receive(&mut inbound, now, [0, 0, 0, 2], 101).unwrap();
    }

    #[test]
    fn a_retired_nonce_stays_out() {
        let mut inbound = Inbound::new(Psk::new("x"));
        let now = Timestamp::from_millis(1);
        for last in 1..=3 {
            receive(&mut inbound, now, [0, 0, 0, last], u32::from(last)).unwrap();
        }
        assert_eq!(receive(&mut inbound, now, [0, 0, 0, 1], 9), Err(TunnelError::RetiredNonce));
        assert_eq!(receive(&mut inbound, now, [0; 4], 9), Err(TunnelError::RetiredNonce), "zero is no nonce");
        for n in 0..2000u32 {
            inbound.retire(n.to_be_bytes());
        }
        assert_eq!(inbound.retired.len(), RETIRED_NONCES_MAX);
    }

    #[test]
    fn the_same_nonce_with_the_other_key_size_is_refused() {
        let mut inbound = Inbound::new(Psk::new("x"));
        let now = Timestamp::from_millis(1);
        receive(&mut inbound, now, [0, 0, 0, 1], 1).unwrap();
        let other = inbound.open(now, [0, 0, 0, 1], KeySize::Aes256, 2, IvLayout::SequenceFirst, &mut [0; 4]);
        assert_eq!(other.err(), Some(TunnelError::Implausible));
    }
}
