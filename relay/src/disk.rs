//! What is left on a disk, and who must stop before it is full.
//!
//! The order in which things give way: recordings of streams that are over ([`crate::retention`]), then the running recordings
//! ([`reserve`]), then the store's changes ([`STORE_ROOM`]). Live outputs need no disk.

use std::path::Path;

/// Share of the disk that recordings leave to others, and the most that is.
const RESERVE_SHARE: u64 = 20;
const RESERVE_BYTES_MAX: u64 = 512 << 20;
/// With less than this free, in bytes, the store refuses changes: `sled` must never meet a disk that is full to the last byte.
pub const STORE_ROOM: u64 = 4 << 20;

/// Figures of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What this process may still write.
    pub free: u64,
}

impl Disk {
    /// The file system of `path`; `None` when it does not say.
    pub fn of(path: &Path) -> Option<Self> {
        let figures = nix::sys::statvfs::statvfs(path).ok()?;
        let block = figures.fragment_size();
        Some(Self {
            total: figures.blocks().saturating_mul(block),
            free: figures.blocks_available().saturating_mul(block),
        })
    }

    /// What running recordings leave free.
    pub fn reserve(self) -> u64 {
        (self.total / RESERVE_SHARE).min(RESERVE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_of_small_disks_and_half_a_gigabyte_of_large_ones() {
        assert_eq!(Disk { total: 20 << 20, free: 0 }.reserve(), 1 << 20);
        assert_eq!(Disk { total: 1 << 40, free: 0 }.reserve(), 512 << 20);
        let here = Disk::of(Path::new("/")).unwrap();
        assert!(here.total > 0 && here.free <= here.total);
    }
}
