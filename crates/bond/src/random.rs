//! Seeded numbers: ids, first sequence numbers, seeds of tunnels and the login's secrets.
//!
//! SHA-256 over seed and counter, so that what is seen on the wire (SSRC, sequence numbers) tells nothing of the seed nor
//! of the other numbers. It is as hard to guess as the seed is.

use sha2::{Digest, Sha256};

/// The machine's own generator.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    seed: u64,
    counter: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut hash = Sha256::new();
        hash.update(b"bond");
        hash.update(self.seed.to_be_bytes());
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
