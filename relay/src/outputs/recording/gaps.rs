//! The list of what a recording lacks: one JSON object a line, in the order of the recording.

use super::part::Part;
use crate::media::pes::TICKS_PER_SECOND;
use crate::outputs::files::StorageError;
use crate::outputs::wall_clock;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of the list.
pub const GAPS_FILE: &str = "gaps.jsonl";

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum GapKind {
    /// The bond did not deliver it; how many payloads, where known.
    Lost { packets: Option<u64> },
    /// Another sender, or the same after a restart: its clock began anew.
    NewSender,
    /// The receiver was restarted: what came meanwhile is unknown.
    ReceiverRestarted,
    /// It came before the first key frame, and no decoder could use it.
    NotDecodable { bytes: u64 },
    /// It came, and the disk did not take it.
    NotStored { bytes: u64 },
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Wall clock, for people.
    at: String,
    part: &'a str,
    /// Byte in the part where it is missing.
    offset: u64,
    /// Time on the output timeline, from the receiver's start.
    media_time_ms: Option<i64>,
    #[serde(flatten)]
    kind: GapKind,
}

/// The file.
#[derive(Debug)]
pub(super) struct GapList {
    path: PathBuf,
    file: File,
    parts_begun: u64,
}

impl GapList {
    pub(super) fn open(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join(GAPS_FILE);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = file.map_err(|source| StorageError::Write { path: path.clone(), source })?;
        Ok(Self { path, file, parts_begun: 0 })
    }

    pub(super) fn is_first_part(&self) -> bool {
        self.parts_begun == 0
    }

    pub(super) fn part_begun(&mut self) {
        self.parts_begun += 1;
    }

    /// Notes a gap at the end of `part` and `buffered` bytes that are not in it yet.
    pub(super) fn note(
        &mut self,
        part: &Part,
        buffered: u64,
        media_time: Option<i64>,
        kind: GapKind,
    ) -> Result<(), StorageError> {
        let line = Line {
            at: wall_clock::rfc3339(SystemTime::now()),
            part: &part.name,
            offset: part.bytes + buffered,
            media_time_ms: media_time.map(|ticks| ticks * 1000 / TICKS_PER_SECOND),
            kind,
        };
        let fail = |source| StorageError::Write { path: self.path.clone(), source };
        let mut text = serde_json::to_vec(&line).map_err(|error| fail(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(fail)
    }
}
