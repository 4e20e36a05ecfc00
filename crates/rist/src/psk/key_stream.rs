//! AES in counter mode (NIST SP 800-38A section 6.5), whole batches of blocks at a time.
//!
//! Processors encrypt from 8 to 64 blocks in hardly more time than one. A media packet has some 84 of them, so the end of a
//! packet is worth a batch too, even one that is partly thrown away.

use aes::Block;
use aes::cipher::array::{Array, typenum::Unsigned};
use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, ParBlocks, ParBlocksSizeUser,
};

const BLOCK_BYTES: usize = 16;
/// A batch is used for what is left as soon as that fills this part of it.
const BATCH_PART: usize = 8;

/// Encrypts or decrypts `body` in place; `counter` is the first counter block.
pub(super) fn apply<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
    cipher: &C,
    counter: [u8; BLOCK_BYTES],
    body: &mut [u8],
) {
    cipher.encrypt_with_backend(KeyStream { counter: u128::from_be_bytes(counter), body });
}

/// What is left to do.
struct KeyStream<'a> {
    counter: u128,
    body: &'a mut [u8],
}

impl BlockSizeUser for KeyStream<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for KeyStream<'_> {
    #[expect(clippy::inline_always, reason = "only inside the backend may the processor's instructions be used")]
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { mut counter, mut body } = self;
        let batch_blocks = <B as ParBlocksSizeUser>::ParBlocksSize::USIZE;
        while body.len() * BATCH_PART > batch_blocks * BLOCK_BYTES {
            let (now, later) = body.split_at_mut(body.len().min(batch_blocks * BLOCK_BYTES));
            let mut batch: ParBlocks<B> = Array::from_fn(|_| next(&mut counter));
            backend.encrypt_par_blocks((&mut batch).into());
            for (bytes, block) in now.chunks_mut(BLOCK_BYTES).zip(&batch) {
                mix(bytes, block);
            }
            body = later;
        }
        for bytes in body.chunks_mut(BLOCK_BYTES) {
            let mut block = next(&mut counter);
            backend.encrypt_block((&mut block).into());
            mix(bytes, &block);
        }
    }
}

/// The present counter block; the counter goes on by one.
#[inline]
fn next(counter: &mut u128) -> Block {
    let block = counter.to_be_bytes();
    *counter = counter.wrapping_add(1);
    block.into()
}

/// The last block of a body may be shorter.
#[inline]
fn mix(bytes: &mut [u8], block: &Block) {
    match <&mut [u8; BLOCK_BYTES]>::try_from(&mut *bytes) {
        Ok(whole) => {
            let mixed = u128::from_ne_bytes(*whole) ^ u128::from_ne_bytes((*block).into());
            *whole = mixed.to_ne_bytes();
        }
        Err(_) => bytes.iter_mut().zip(block).for_each(|(byte, key)| *byte ^= key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use aes::cipher::KeyInit;
    use aes::{Aes128, Aes256};

    /// SP 800-38A, F.5.1 and F.5.5.
    #[test]
    fn the_vectors_of_the_standard() {
        let counter = unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
        let plain = unhex(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ));
        let mut body = plain.clone();
        let key = unhex("2b7e151628aed2a6abf7158809cf4f3c");
        apply(&Aes128::new_from_slice(&key).unwrap(), counter, &mut body);
        let cipher_text = concat!(
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
            "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
        );
        assert_eq!(body, unhex(cipher_text));
        let mut body = plain;
        let key = unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        apply(&Aes256::new_from_slice(&key).unwrap(), counter, &mut body);
        let cipher_text = concat!(
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
            "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
        );
        assert_eq!(body, unhex(cipher_text));
    }

    /// Whatever the length, and across the overflow of the counter: as block by block.
    #[test]
    fn every_length_gives_the_same_key_stream() {
        let cipher = Aes256::new(&[7; 32].into());
        let first = u128::MAX - 40;
        let expected: Vec<u8> = (0..130)
            .flat_map(|i: u128| {
                let mut block = Block::from(first.wrapping_add(i).to_be_bytes());
                cipher.encrypt_block(&mut block);
                block
            })
            .collect();
        for length in 0..expected.len() {
            let mut body = vec![0; length];
            apply(&cipher, first.to_be_bytes(), &mut body);
            assert_eq!(body, expected[..length], "{length} bytes");
        }
    }
}
