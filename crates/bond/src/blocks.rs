//! Memory for packets, taken in blocks: one allocation for a dozen, none while a block's packets are gone by the time
//! it is full.

use bytes::{Bytes, BytesMut};

/// Bytes of a block. It is given back with the last packet in it.
const BLOCK_BYTES: usize = 16 * 1024;

/// The block that packets are cut from.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    block: BytesMut,
}

impl Blocks {
    /// A packet of its own with these contents.
    pub(crate) fn packet(&mut self, contents: &[u8]) -> Bytes {
        if self.block.capacity() < contents.len() {
            // Takes the same block again when all of it is free.
            self.block.reserve(contents.len().max(BLOCK_BYTES));
        }
        self.block.extend_from_slice(contents);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_contents_and_a_free_block_is_used_again() {
        let mut blocks = Blocks::default();
        let kept: Vec<Bytes> = (0..100u8).map(|i| blocks.packet(&vec![i; 1000 + usize::from(i)])).collect();
        for (i, packet) in kept.iter().enumerate() {
            assert_eq!(*packet, vec![i as u8; 1000 + i]);
        }
        drop(kept);
        let first = blocks.packet(&[1; 1400]).as_ptr();
        let places: Vec<_> = (0..1000).map(|_| blocks.packet(&[2; 1400]).as_ptr()).collect();
        let block = |place: *const u8| (place as usize).abs_diff(first as usize) <= BLOCK_BYTES;
        assert!(places.into_iter().all(block));
        assert_eq!(blocks.packet(&vec![3; 3 * BLOCK_BYTES]).len(), 3 * BLOCK_BYTES);
    }
}
