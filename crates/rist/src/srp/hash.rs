//! SHA-256 and the faulty form of it that older peers use.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub(super) const HASH_BYTES: usize = 32;

/// Which hash the inner hash of `x`, M1 and M2 use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashVariant {
    /// SHA-256 as standardised: EAPOL version 3.
    Standard,
    /// SHA-256 begun from an all-zero state: EAPOL version 2 of librist up to 0.2.7, and the numerical example of
    /// TR-06-2 annex D.9.
    ZeroState,
}

impl HashVariant {
    /// What a peer that writes EAPOL version `version` computes.
    pub(super) const fn of_version(version: u8) -> Self {
        if version >= 3 { Self::Standard } else { Self::ZeroState }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Standard => Self::ZeroState,
            Self::ZeroState => Self::Standard,
        }
    }

    pub(super) fn hash(self, parts: &[&[u8]]) -> [u8; HASH_BYTES] {
        match self {
            Self::Standard => hash(parts),
            Self::ZeroState => zero_state_hash(parts),
        }
    }
}

pub(super) fn hash(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn zero_state_hash(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    const BLOCK_BYTES: usize = 64;
    const LENGTH_BYTES: usize = 8;
    let mut message = parts.concat();
    let bits = message.len() as u64 * 8;
    message.push(0x80);
    while message.len() % BLOCK_BYTES != BLOCK_BYTES - LENGTH_BYTES {
        message.push(0);
    }
    message.extend_from_slice(&bits.to_be_bytes());
    let mut state = [0u32; 8];
    let (blocks, _) = message.as_chunks::<BLOCK_BYTES>();
    compress256(&mut state, blocks);
    let mut out = [0; HASH_BYTES];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}
