//! Memory for packets, taken in blocks that are used again as soon as the packets in them are gone: no allocation a packet,
//! and memory that is still in the cache.

use bytes::{Bytes, BytesMut};
use rist::wire::Output;

/// Bytes of a block, a dozen packets.
const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks that are kept to be used again, as much as is sent at once on a fast flow.
const KEPT_MAX: usize = 4;

/// The block that packets are written to, and others.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    block: Block,
    /// Full ones, the last used last; most hold packets that are still in use.
    kept: Vec<BytesMut>,
}

/// What is left of a block.
#[derive(Debug, Default)]
pub(crate) struct Block(BytesMut);

impl Output for Block {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn written(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Blocks {
    /// A packet of its own with what `write` appends, `bytes_expected` bytes or fewer, and what that returns.
    pub(crate) fn packet<T>(&mut self, bytes_expected: usize, write: impl FnOnce(&mut Block) -> T) -> (Bytes, T) {
        if self.block.0.capacity() < bytes_expected {
            self.begin(bytes_expected);
        }
        let result = write(&mut self.block);
        (self.block.0.split().freeze(), result)
    }

    /// A packet of its own with these contents.
    pub(crate) fn copy(&mut self, contents: &[u8]) -> Bytes {
        self.packet(contents.len(), |block| block.put(contents)).0
    }

    /// Begins a block: the last used of which all packets are gone, or a new one.
    fn begin(&mut self, bytes: usize) {
        let full = std::mem::take(&mut self.block.0);
        if self.kept.len() < KEPT_MAX {
            self.kept.push(full);
        } else if let Some(oldest) = self.kept.first_mut() {
            *oldest = full;
            self.kept.rotate_left(1);
        }
        let bytes = bytes.max(BLOCK_BYTES);
        let free = (0..self.kept.len()).rev().find(|&index| self.kept[index].try_reclaim(bytes));
        self.block.0 = free.map_or_else(|| BytesMut::with_capacity(bytes), |index| self.kept.remove(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_contents_and_a_free_block_is_used_again() {
        let mut blocks = Blocks::default();
        let kept: Vec<Bytes> = (0..100u8).map(|i| blocks.copy(&vec![i; 1000 + usize::from(i)])).collect();
        for (i, packet) in kept.iter().enumerate() {
            assert_eq!(*packet, vec![i as u8; 1000 + i]);
        }
        assert!(blocks.kept.len() <= KEPT_MAX);
        drop(kept);
        let first = blocks.copy(&[1; 1400]).as_ptr();
        let places: Vec<_> = (0..1000).map(|_| blocks.copy(&[2; 1400]).as_ptr()).collect();
        let block = |place: *const u8| (place as usize).abs_diff(first as usize) <= BLOCK_BYTES;
        assert!(places.into_iter().all(block));
        assert_eq!(blocks.copy(&vec![3; 3 * BLOCK_BYTES]).len(), 3 * BLOCK_BYTES);
    }

    #[test]
    fn packets_sent_a_block_at_a_time_take_few_blocks_in_turn() {
        let mut blocks = Blocks::default();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let turn: Vec<Bytes> = (0..30).map(|_| blocks.copy(&[1; 1400])).collect();
            places.extend(turn.iter().map(|packet| packet.as_ptr() as usize));
        }
        assert!(places.len() <= (KEPT_MAX + 1) * (BLOCK_BYTES / 1400), "{} places", places.len());
    }

    #[test]
    fn more_than_was_expected_is_a_packet_all_the_same() {
        let mut blocks = Blocks::default();
        let contents = vec![7; 2 * BLOCK_BYTES];
        let (packet, written) = blocks.packet(10, |block| {
            block.put(&contents);
            block.written().len()
        });
        assert_eq!((packet.to_vec(), written), (contents, 2 * BLOCK_BYTES));
    }
}
