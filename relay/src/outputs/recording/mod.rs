//! Recording: the transport stream as it came, in parts, with a list of what is missing.
//!
//! A part begins at a random access point with a copy of the tables and lasts about a minute; what comes before the first one
//! cannot be decoded and is left out, with a line in the list. What came is on the disk
//! within [`FLUSH_AFTER`], [`LEISURE`](super::queue::LEISURE) and the time of the disk itself, so a power cut costs less than a second. Nothing is ever
//! overwritten: a restarted process begins a new part. A full disk stops the recording, with its reason, and only the
//! recording; it goes on by itself when there is room.

mod gaps;
mod part;

use super::files::{self, StorageError};
use super::queue::{Feed, Item, Missing, Raw};
use super::status::StatusCell;
use crate::disk::Disk;
use crate::media::pes::TICKS_PER_SECOND;
use gaps::{GapKind, GapList};
use part::Part;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A part ends at the first random access point after so much media time...
const PART_LASTS: Duration = Duration::from_mins(1);
/// ...or without one, after so much.
const PART_LASTS_MAX: Duration = Duration::from_mins(3);
/// Without a random access point for so long, a part begins with what there is. The longest distance of key frames that can be
/// asked for is 10 s.
const RANDOM_ACCESS_WAIT_MAX: Duration = Duration::from_secs(12);
/// What came is written and flushed to the disk after this time at the latest.
pub const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// What is collected in memory between flushes, in bytes: half a second of 60 Mbit/s.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Pause between attempts on a disk that refused.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Records until the feed ends.
pub fn run(directory: PathBuf, mut feed: Feed, status: &StatusCell) {
    let mut recorder = Recorder::new(directory);
    while let Some(item) = feed.next_at_leisure() {
        recorder.handle(item, status);
    }
    recorder.finish(status);
}

struct Recorder {
    directory: PathBuf,
    gaps: Option<GapList>,
    part: Option<Part>,
    buffer: Vec<u8>,
    flushed_at: Instant,
    /// Set while the disk refuses.
    retry_at: Option<Instant>,
    /// Bytes that could not be stored since it refuses.
    not_stored: u64,
    /// Since when a part waits for its beginning, and the bytes that were left out.
    waiting_since: Option<Instant>,
    not_decodable: u64,
    media_time: Option<i64>,
}

impl Recorder {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            gaps: None,
            part: None,
            buffer: Vec::new(),
            flushed_at: Instant::now(),
            retry_at: None,
            not_stored: 0,
            waiting_since: None,
            not_decodable: 0,
            media_time: None,
        }
    }

    fn handle(&mut self, item: Item, status: &StatusCell) {
        let outcome = match item {
            Item::Raw(raw) => self.handle_raw(&raw),
            Item::Tick => self.flush_if_due(),
            Item::Unit { .. } => Ok(0),
        };
        self.report(outcome, status);
    }

    fn report(&mut self, outcome: Result<usize, StorageError>, status: &StatusCell) {
        match outcome {
            Ok(0) => {}
            Ok(stored) => {
                status.add_bytes(stored);
                status.active();
            }
            Err(error) => {
                self.not_stored += std::mem::take(&mut self.buffer).len() as u64;
                self.part = None;
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                status.failed(&error.sentence());
            }
        }
    }

    /// Returns how many bytes are on the disk by it.
    fn handle_raw(&mut self, raw: &Raw) -> Result<usize, StorageError> {
        if let Some(at) = self.retry_at {
            if Instant::now() < at {
                self.not_stored += raw.packets.len() as u64;
                return Ok(0);
            }
            self.retry_at = None;
        }
        let mut taken = 0;
        let outcome = self.take_raw(raw, &mut taken);
        if outcome.is_err() {
            self.not_stored += (raw.packets.len() - taken) as u64;
        }
        outcome
    }

    /// Puts the packets into the buffer, counting in `taken`, and begins a new part within them where one is due.
    fn take_raw(&mut self, raw: &Raw, taken: &mut usize) -> Result<usize, StorageError> {
        if self.part.is_none() {
            return self.take_first(raw, taken);
        }
        let mut stored = 0;
        let (before, after) = match raw.cut {
            Some(at) if self.part_is_due(raw) => raw.packets.split_at_checked(at).unwrap_or((&raw.packets, &[])),
            _ => (&raw.packets[..], &[][..]),
        };
        let cut_here = raw.cut.is_some() && before.len() < raw.packets.len();
        self.note_missing(raw)?;
        self.buffer.extend_from_slice(before);
        *taken += before.len();
        if cut_here || self.part.as_ref().is_some_and(|part| part.begun_at.elapsed() >= PART_LASTS_MAX) {
            stored += self.flush()?;
            self.begin_part(raw)?;
            self.buffer.extend_from_slice(after);
            *taken += after.len();
        }
        self.media_time = raw.media_time.or(self.media_time);
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            stored += self.flush()?;
        }
        Ok(stored + self.flush_if_due()?)
    }

    /// Begins a part where a decoder can, and leaves out what comes before.
    fn take_first(&mut self, raw: &Raw, taken: &mut usize) -> Result<usize, StorageError> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let start = raw.cut.or_else(|| (since.elapsed() >= RANDOM_ACCESS_WAIT_MAX).then_some(0));
        let (before, after) = raw.packets.split_at_checked(start.unwrap_or(usize::MAX)).unwrap_or((&raw.packets, &[]));
        self.not_decodable += before.len() as u64;
        *taken += before.len();
        if start.is_some() {
            self.begin_part(raw)?;
            self.buffer.extend_from_slice(after);
            *taken += after.len();
            self.media_time = raw.media_time.or(self.media_time);
        }
        self.flush_if_due()
    }

    /// Whether the part has its length. By the clock of the media, which a burst after an outage does not bend.
    fn part_is_due(&self, raw: &Raw) -> bool {
        let Some(part) = &self.part else { return false };
        match (part.media_start, raw.media_time) {
            (Some(start), Some(now)) => now - start >= PART_LASTS.as_secs() as i64 * TICKS_PER_SECOND,
            _ => part.begun_at.elapsed() >= PART_LASTS,
        }
    }

    fn begin_part(&mut self, raw: &Raw) -> Result<(), StorageError> {
        files::make_directory(&self.directory)?;
        check_room(&self.directory)?;
        let gaps = match &mut self.gaps {
            Some(gaps) => gaps,
            none => none.insert(GapList::open(&self.directory)?),
        };
        let part = Part::create(&self.directory, raw.media_time)?;
        if part.number > 1 && gaps.is_first_part() {
            gaps.note(&part, 0, raw.media_time, GapKind::ReceiverRestarted)?;
        }
        let not_stored = std::mem::take(&mut self.not_stored);
        if not_stored > 0 {
            gaps.note(&part, 0, raw.media_time, GapKind::NotStored { bytes: not_stored })?;
        }
        let not_decodable = std::mem::take(&mut self.not_decodable);
        if not_decodable > 0 {
            gaps.note(&part, 0, raw.media_time, GapKind::NotDecodable { bytes: not_decodable })?;
        }
        self.waiting_since = None;
        gaps.part_begun();
        self.buffer.extend_from_slice(&raw.tables);
        self.part = Some(part);
        Ok(())
    }

    fn note_missing(&mut self, raw: &Raw) -> Result<(), StorageError> {
        let kind = match raw.missing {
            Missing::Nothing => return Ok(()),
            Missing::Lost { packets } => GapKind::Lost { packets },
            Missing::NewSender => GapKind::NewSender,
        };
        let (Some(part), Some(gaps)) = (&self.part, &mut self.gaps) else { return Ok(()) };
        gaps.note(part, self.buffer.len() as u64, self.media_time, kind)
    }

    fn flush_if_due(&mut self) -> Result<usize, StorageError> {
        if self.flushed_at.elapsed() < FLUSH_AFTER { Ok(0) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<usize, StorageError> {
        self.flushed_at = Instant::now();
        let Some(part) = &mut self.part else { return Ok(0) };
        if self.buffer.is_empty() {
            return Ok(0);
        }
        check_room(&self.directory)?;
        part.append(&self.buffer)?;
        let stored = self.buffer.len();
        self.buffer.clear();
        Ok(stored)
    }

    fn finish(&mut self, status: &StatusCell) {
        let outcome = self.flush();
        self.report(outcome, status);
    }
}

fn check_room(directory: &Path) -> Result<(), StorageError> {
    // A file system that does not say is written to until it refuses.
    match Disk::of(directory) {
        Some(disk) if disk.free < disk.reserve() => {
            Err(StorageError::NearlyFull { path: directory.to_owned(), left: disk.free })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::demux::{Demuxer, PacketRole, packets};
    use crate::media::packet::PACKET_BYTES;
    use crate::media::samples;
    use crate::media::timeline::Timeline;
    use crate::outputs::queue::queue;
    use bytes::Bytes;
    use units::Timestamp;

    /// The programme as the feeder would pass it on: one payload of seven packets after the other.
    fn payloads(bytes: &[u8]) -> Vec<Raw> {
        let (mut demuxer, mut timeline, mut units) = (Demuxer::default(), Timeline::default(), Vec::new());
        let mut media_time = None;
        bytes
            .chunks(7 * PACKET_BYTES)
            .map(|payload| {
                let (mut cut, mut tables) = (None, None);
                for (index, packet) in packets(payload).enumerate() {
                    let at = index * PACKET_BYTES;
                    match demuxer.handle_packet(Timestamp::ZERO, packet, &mut timeline, &mut units) {
                        PacketRole::Table => tables = tables.or(Some(at)),
                        PacketRole::RandomAccess { dts } => (cut, media_time) = (tables.or(Some(at)), Some(dts)),
                        PacketRole::Other => tables = None,
                    }
                }
                Raw {
                    packets: Bytes::copy_from_slice(payload),
                    cut,
                    tables: Bytes::copy_from_slice(&bytes[..2 * PACKET_BYTES]),
                    media_time,
                    missing: Missing::Nothing,
                }
            })
            .collect()
    }

    fn record(directory: &std::path::Path, payloads: Vec<Raw>) {
        let (mut feeder, feed) = queue();
        for raw in payloads {
            feeder.push(Item::Raw(raw));
        }
        drop(feeder);
        run(directory.to_owned(), feed, &StatusCell::new("recording", "Recording"));
    }

    fn parts(directory: &std::path::Path) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| name.starts_with("part-"))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn parts_are_cut_at_random_access_points_and_hold_every_packet() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = samples::mux(&samples::programme(125));
        record(directory.path(), payloads(&bytes));
        let parts = parts(directory.path());
        assert_eq!(parts.len(), 3);
        let mut joined = Vec::new();
        for (_, part) in &parts {
            // Each has a copy of the tables in front.
            assert_eq!(part[..2 * PACKET_BYTES], bytes[..2 * PACKET_BYTES]);
            joined.extend_from_slice(&part[2 * PACKET_BYTES..]);
            let (units, _) = samples::demux(part);
            let first = units.iter().find(|unit| unit.track == 0).unwrap();
            assert!(first.random_access);
        }
        assert!(joined == bytes, "what was recorded is what came, byte for byte");
        assert!(!directory.path().join(gaps::GAPS_FILE).exists() || gaps(directory.path()).is_empty());
    }

    fn gaps(directory: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(directory.join(gaps::GAPS_FILE)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn what_is_missing_is_listed_with_its_place_and_a_restart_begins_a_new_part() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = samples::mux(&samples::programme(3));
        let mut all = payloads(&bytes);
        let at = 20 * 7 * PACKET_BYTES + 2 * PACKET_BYTES;
        all[20].missing = Missing::Lost { packets: Some(4) };
        record(directory.path(), all.clone());
        record(directory.path(), all[..5].to_vec());
        let parts = parts(directory.path());
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].1.len(), bytes.len() + 2 * PACKET_BYTES);
        let gaps = gaps(directory.path());
        assert_eq!(gaps.len(), 2);
        assert_eq!(gaps[0]["kind"], "lost");
        assert_eq!((&gaps[0]["packets"], &gaps[0]["offset"]), (&4.into(), &at.into()));
        assert_eq!(gaps[0]["part"], parts[0].0);
        assert_eq!((&gaps[1]["kind"], &gaps[1]["offset"]), (&"receiver-restarted".into(), &0.into()));
        assert_eq!(gaps[1]["part"], parts[1].0);
    }

    #[test]
    fn a_part_begins_with_a_key_frame_and_what_was_before_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let all = payloads(&samples::mux(&samples::programme(3)));
        let second = (1..all.len()).find(|at| all[*at].cut.is_some()).unwrap();
        record(directory.path(), all[2..].to_vec());
        let parts = parts(directory.path());
        let (units, demuxer) = samples::demux(&parts[0].1);
        assert!(units.iter().find(|unit| unit.track == 0).unwrap().random_access);
        assert_eq!(demuxer.counters().continuity_gaps, 0);
        let gaps = gaps(directory.path());
        let left_out = (second - 2) * 7 * PACKET_BYTES + all[second].cut.unwrap();
        assert_eq!((&gaps[0]["kind"], &gaps[0]["bytes"]), (&"not-decodable".into(), &left_out.into()));
    }

    #[test]
    fn a_directory_that_cannot_be_made_fails_with_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("file");
        std::fs::write(&blocked, b"").unwrap();
        let status = StatusCell::new("recording", "Recording");
        let mut recorder = Recorder::new(blocked.join("recording"));
        let payloads = payloads(&samples::mux(&samples::programme(1)));
        let first = payloads.into_iter().find(|raw| raw.cut.is_some()).unwrap();
        recorder.handle(Item::Raw(first), &status);
        let protocol::state::OutputState::Failed { reason } = status.report(Instant::now()).state else { panic!() };
        assert!(reason.contains("recording"), "{reason}");
        assert_eq!(recorder.not_stored, 7 * PACKET_BYTES as u64);
    }
}
