//! Deterministic random bytes from a seed: SHA-256 in counter mode.
//!
//! As strong as its seed. Nonces need uniqueness only, for which a 64-bit seed that differs per tunnel serves; the private
//! values of SRP need a seed of 32 random bytes.

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self::from_entropy(Sha256::digest(seed.to_be_bytes()).into())
    }

    pub(crate) const fn from_entropy(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next 32 bytes.
    pub(crate) fn block(&mut self) -> [u8; 32] {
        let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
        self.counter += 1;
        block.into()
    }

    /// The first `N` of the next 32 bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        let block = self.block();
        std::array::from_fn(|i| block[i])
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(..)")
    }
}
