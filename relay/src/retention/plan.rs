//! What is to be deleted now. Pure: figures in, a list out.

use crate::config::Retention;
use crate::disk::Disk;
use std::time::Duration;
use units::StreamId;

/// The floor of free space is at most this share of the disk, so that a small disk can be used at all.
const FLOOR_SHARE: u64 = 10;

/// A stream that is over, and what it still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Which.
    pub stream: StreamId,
    /// When it ended, Unix milliseconds.
    pub ended_ms: u64,
    /// Bytes of its preview.
    pub preview: u64,
    /// Bytes of its recording.
    pub recording: u64,
}

/// Why a recording goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Older than `recording_days`.
    Age,
    /// All recordings together are larger than `recordings_gb_max`.
    Size,
    /// Less than `free_gb_min` is free.
    Room,
}

impl Cause {
    /// The sentence for the stream's page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "it was older than [retention] recording_days",
            Self::Size => "all recordings were larger than [retention] recordings_gb_max",
            Self::Room => "the disk had less than [retention] free_gb_min left",
        }
    }
}

/// Something to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A stream's preview.
    Preview(StreamId),
    /// A stream's recording.
    Recording(StreamId, Cause),
}

/// What free space recordings must leave, in bytes.
pub fn floor(policy: &Retention, disk: Disk) -> u64 {
    policy.free_gb_min.saturating_mul(1_000_000_000).min(disk.total / FLOOR_SHARE).max(disk.reserve())
}

/// What to delete, oldest first; `over` comes in the order of time, and `running` is what the running streams have recorded.
pub fn plan(policy: &Retention, now_ms: u64, disk: Option<Disk>, running: u64, over: &[Over]) -> Vec<Removal> {
    let older = |it: &Over, age: Duration| u128::from(now_ms.saturating_sub(it.ended_ms)) >= age.as_millis();
    let preview_age = Duration::from_secs(policy.preview_hours.saturating_mul(3600));
    let recording_age = Duration::from_secs(policy.recording_days.saturating_mul(86_400));
    let size_max = policy.recordings_gb_max.saturating_mul(1_000_000_000);
    let mut total = over.iter().fold(running, |sum, it| sum.saturating_add(it.recording));
    // A file system that does not say how full it is, is not full.
    let (mut free, floor) = disk.map_or((u64::MAX, 0), |disk| (disk.free, floor(policy, disk)));
    let mut removals = Vec::new();
    for it in over.iter().filter(|it| it.preview > 0) {
        if older(it, preview_age) || free < floor {
            free = free.saturating_add(it.preview);
            removals.push(Removal::Preview(it.stream.clone()));
        }
    }
    for it in over.iter().filter(|it| it.recording > 0) {
        let cause = if policy.recording_days > 0 && older(it, recording_age) {
            Cause::Age
        } else if policy.recordings_gb_max > 0 && total > size_max {
            Cause::Size
        } else if free < floor {
            Cause::Room
        } else {
            continue;
        };
        total = total.saturating_sub(it.recording);
        free = free.saturating_add(it.recording);
        removals.push(Removal::Recording(it.stream.clone(), cause));
    }
    removals
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const GB: u64 = 1_000_000_000;

    /// Five streams that ended 5, 4, 3, 2 and 1 days ago, each with a recording of 1 GB.
    fn five() -> Vec<Over> {
        let id = |number: u64| format!("s-{number}").parse().unwrap();
        (1..=5).map(|it| Over { stream: id(it), ended_ms: it * DAY_MS, preview: 1, recording: GB }).collect()
    }

    fn run(policy: &Retention, disk: Option<Disk>) -> (usize, Vec<(String, Cause)>) {
        let mut previews = 0;
        let mut recordings = Vec::new();
        for removal in plan(policy, 6 * DAY_MS, disk, 0, &five()) {
            match removal {
                Removal::Preview(_) => previews += 1,
                Removal::Recording(stream, cause) => recordings.push((stream.to_string(), cause)),
            }
        }
        (previews, recordings)
    }

    #[test]
    fn by_default_only_previews_go_while_the_disk_is_fine() {
        let roomy = Disk { total: 100 * GB, free: 50 * GB };
        assert_eq!(run(&Retention::default(), Some(roomy)), (5, vec![]));
        assert_eq!(run(&Retention { preview_hours: 60, ..Retention::default() }, None), (3, vec![]));
    }

    #[test]
    fn age_size_and_room_take_the_oldest_first_and_no_more_than_needed() {
        let days = Retention { recording_days: 4, ..Retention::default() };
        assert_eq!(run(&days, None).1, [("s-1".to_owned(), Cause::Age), ("s-2".to_owned(), Cause::Age)]);
        let size = Retention { recordings_gb_max: 4, ..Retention::default() };
        assert_eq!(run(&size, None).1, [("s-1".to_owned(), Cause::Size)]);
        let full = Disk { total: 100 * GB, free: GB / 2 };
        let expected = [("s-1".to_owned(), Cause::Room), ("s-2".to_owned(), Cause::Room)];
        assert_eq!(run(&Retention::default(), Some(full)).1, expected, "2 GB must be free");
        let small = Disk { total: 5 * GB, free: GB / 2 };
        assert_eq!(run(&Retention::default(), Some(small)).1, [], "of a small disk only a tenth");
    }

    #[test]
    fn what_running_streams_record_counts_but_never_goes() {
        let size = Retention { recordings_gb_max: 4, ..Retention::default() };
        assert_eq!(plan(&size, 0, None, 100 * GB, &[]), []);
        let all = plan(&size, 0, None, 100 * GB, &five());
        assert_eq!(all.iter().filter(|it| matches!(it, Removal::Recording(_, Cause::Size))).count(), 5);
    }
}
