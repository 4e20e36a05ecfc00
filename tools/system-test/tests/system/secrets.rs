//! Nothing secret is where it can be read: process arguments, logs, files.

use crate::rig::Rig;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use system_test::readers::READER_SUFFIX;

/// Files below the lab's directory that may hold a secret, and which.
const PASSWORD_FILE: &str = "relay/initial-password.txt";

/// No argument of the product's programs holds a secret. The readers are not the product: a platform knows its key.
pub fn check_arguments(rig: &Rig, secrets: &[&str]) {
    let product = rig.lab.processes().into_iter().filter(|process| !process.program.ends_with(READER_SUFFIX));
    for process in product {
        for secret in secrets {
            assert!(!process.command.contains(secret), "pid {} shows a secret in its arguments", process.pid);
        }
    }
}

/// No file that the product wrote holds a secret in the clear, and none is open to others.
pub fn check_files(directory: &Path, secrets: &[&str]) {
    let mut files = Vec::new();
    for place in ["relay", "agent", "relay.log", "agent.log"] {
        collect(&directory.join(place), &mut files);
    }
    assert!(files.len() > 10, "{files:?}");
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let allowed = file.ends_with(PASSWORD_FILE);
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(allowed || !found, "{} holds a secret in the clear", file.display());
        }
    }
    for name in ["relay/ca/ca.key", "relay/ca/server.key", PASSWORD_FILE, "agent/identity/device.key"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    for name in ["relay", "relay/ca", "relay/store", "agent", "agent/identity"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name}");
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    if metadata.is_file() {
        files.push(path.to_owned());
    }
    if metadata.is_dir() {
        path.read_dir().unwrap().flatten().for_each(|entry| collect(&entry.path(), files));
    }
}
