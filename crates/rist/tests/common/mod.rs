//! Seeded mutation of datagrams, shared by the fuzz tests.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used)]

pub mod checks;
pub mod seeds;

/// SplitMix64: the whole run follows from the seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// The longest datagram a mutation makes.
pub const DATAGRAM_BYTES_MAX: usize = 2048;

/// Changes `bytes` in one to four ways that structured parsers find hard.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        if bytes.is_empty() {
            let length = 1 + rng.below(40);
            *bytes = rng.bytes(length);
        }
        let at = rng.below(bytes.len());
        match rng.below(9) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][rng.below(6)],
            2 => bytes[at] = rng.next() as u8,
            3 => bytes.truncate(at),
            4 => {
                let more = rng.below(64);
                let extra = rng.bytes(more);
                bytes.extend_from_slice(&extra);
            }
            5 => {
                let end = at + rng.below(bytes.len() - at + 1);
                let chunk = bytes[at..end].to_vec();
                bytes.splice(at..at, chunk);
            }
            6 => {
                let end = (at + 1 + rng.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            // A length field, wherever it may be.
            7 if at + 2 <= bytes.len() => {
                let length = [0u16, 1, 2, 3, 4, 7, 0x7fff, 0xffff][rng.below(8)];
                bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
        bytes.truncate(DATAGRAM_BYTES_MAX);
    }
}
