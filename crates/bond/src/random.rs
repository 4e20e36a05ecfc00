//! Seeded numbers: ids, first sequence numbers, seeds of tunnels and the login's secrets.
//!
//! SHA-256 over seed and counter, so that what is seen on the wire (SSRC, sequence numbers) tells nothing of the seed nor
//! of the other numbers. It is as hard to guess as the seed is.

use sha2::{Digest, Sha256};
use std::fmt;

/// What a machine draws all its random numbers from, the secrets of a login among them: 256 bits, so that nobody who sees
/// some of the numbers can try all seeds.
///
/// A program takes the bytes from the operating system. A test may give a number instead (`Seed::from(7u64)`): the same
/// number replays the same run.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// For tests and simulations only: 64 bits can be guessed.
impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The machine's own generator.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    seed: Seed,
    counter: u64,
}

impl Random {
    pub(crate) const fn new(seed: Seed) -> Self {
        Self { seed, counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut hash = Sha256::new();
        hash.update(b"bond");
        hash.update(self.seed.0);
        hash.update(self.counter.to_be_bytes());
        hash.finalize().into()
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let bytes = self.bytes();
        u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_seed_counts_and_none_is_shown() {
        let first = |bytes: [u8; 32]| Random::new(Seed::from(bytes)).bytes();
        let mut seen = std::collections::BTreeSet::from([first([0; 32])]);
        for i in 0..32 {
            let mut bytes = [0; 32];
            bytes[i] = 1;
            assert!(seen.insert(first(bytes)), "byte {i} changes nothing");
        }
        let mut random = Random::new(Seed::from(7));
        assert_eq!(random.bytes(), Random::new(Seed::from(7)).bytes(), "a seed replays");
        assert_ne!(random.bytes(), Random::new(Seed::from(7)).bytes(), "numbers differ within a run");
        assert_eq!(format!("{:?}", Seed::from([0xab; 32])), "Seed(..)");
    }
}
