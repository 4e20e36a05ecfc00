//! A disk that can be filled.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, taken away when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason on the terminal, where this process may not mount because it is not root's.
    pub fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={bytes},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().unwrap();
        if mounted.status.success() {
            return Some(Self(at.to_owned()));
        }
        let reason = String::from_utf8_lossy(&mounted.stderr);
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        assert_ne!(uid, 0, "a small file system cannot be mounted, though by root: {reason}");
        // Not by a macro: the test harness keeps what a passing test prints.
        let told = format!("NOT TESTED: a full disk, a small file system cannot be mounted here: {reason}\n");
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Takes all the room there is on the disk of `directory`; gives the file to delete.
pub fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("somebody-else");
    let mut file = std::fs::File::create(&path).unwrap();
    let error = std::iter::repeat_with(|| file.write_all(&[1; 4096])).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    path
}
