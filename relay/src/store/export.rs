//! The store as one JSON file, in two generations: `export.json` and `export.previous.json`.
//!
//! Secrets in it are sealed, as in the database. A CRC-32 over keys and values tells a whole file from a torn one.

use super::StoreError;
use crate::secrets::write_private;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

const NEWEST: &str = "export.json";
const PREVIOUS: &str = "export.previous.json";
/// Version of this file's own form.
const FORMAT: u32 = 1;
/// The largest export that is read, bytes.
const EXPORT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// One record of any table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    version: u8,
    record: Value,
}

/// A generation.
#[derive(Debug, Deserialize)]
pub(super) struct Export {
    format: u32,
    crc32: u32,
    /// Number of the last commit in it.
    pub(super) commit: u64,
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    pub(super) fn new(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        let key = String::from_utf8_lossy(key).into_owned();
        let (version, json) = value.split_first().unwrap_or((&0, &[]));
        match serde_json::from_slice(json) {
            Ok(record) => Ok(Self { key, version: *version, record }),
            Err(source) => Err(StoreError::Malformed { key, source }),
        }
    }

    /// The value as the database holds it.
    pub(super) fn value(&self) -> Vec<u8> {
        [&[self.version], self.record.to_string().as_bytes()].concat()
    }
}

fn crc32(commit: u64, entries: &[Entry]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&commit.to_be_bytes());
    for entry in entries {
        hasher.update(entry.key.as_bytes());
        hasher.update(&entry.value());
    }
    hasher.finalize()
}

/// Writes a new generation; the newest becomes the previous one.
pub(super) fn write(directory: &Path, commit: u64, entries: &[Entry]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        format: u32,
        crc32: u32,
        commit: u64,
        entries: &'a [Entry],
    }
    let (newest, previous) = (directory.join(NEWEST), directory.join(PREVIOUS));
    let fail = |source| StoreError::File { path: newest.clone(), source };
    let export = Borrowed { format: FORMAT, crc32: crc32(commit, entries), commit, entries };
    let text = serde_json::to_vec(&export).map_err(|error| fail(error.into()))?;
    let staged = directory.join("export.staged.json");
    write_private(&staged, &text).map_err(fail)?;
    // Between the two renames `export.json` is missing and the previous generation is whole.
    if newest.exists() {
        fs::rename(&newest, &previous).map_err(fail)?;
    }
    fs::rename(&staged, &newest).map_err(fail)?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)
}

/// The newest generation that is whole.
pub(super) fn read(directory: &Path) -> Option<Export> {
    [NEWEST, PREVIOUS].iter().find_map(|name| read_one(&directory.join(name)))
}

fn read_one(path: &Path) -> Option<Export> {
    if fs::metadata(path).ok()?.len() > EXPORT_BYTES_MAX {
        return None;
    }
    let export: Export = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (export.format == FORMAT && export.crc32 == crc32(export.commit, &export.entries)).then_some(export)
}
