//! The live playlist (RFC 8216): what it says, written and read back after a restart.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Segments listed. With two seconds each, players start three from the end and have ten to catch up in.
pub const SEGMENTS_LISTED: usize = 8;
/// Segments kept on disk: those listed, and those a player may still be reading by an older playlist.
pub const SEGMENTS_KEPT: usize = SEGMENTS_LISTED + 4;
/// Target duration announced at the beginning, in seconds; it grows with the longest segment.
const TARGET_SECONDS: u64 = 2;

/// A finished segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number, counting from the first of the stream.
    pub sequence: u64,
    /// Length.
    pub duration: Duration,
    /// Wall-clock time of its first picture.
    pub starts_at: SystemTime,
    /// The media does not continue the segment before.
    pub discontinuity: bool,
}

impl Segment {
    /// Name of its file.
    pub fn file_name(&self) -> String {
        format!("segment-{:08}.ts", self.sequence)
    }
}

/// The segments of a stream, oldest first, at most [`SEGMENTS_KEPT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    kept: Vec<Segment>,
    next_sequence: u64,
    discontinuities: u64,
    target_seconds: u64,
    /// The next segment does not continue the last one.
    broken: bool,
}

impl Default for Playlist {
    fn default() -> Self {
        Self { kept: Vec::new(), next_sequence: 0, discontinuities: 0, target_seconds: TARGET_SECONDS, broken: false }
    }
}

impl Playlist {
    /// Goes on after the playlist an earlier process left: numbers continue, so that players stay on. Nothing of it is
    /// listed again.
    pub fn after(text: &str) -> Self {
        let value =
            |tag: &str| text.lines().find_map(|line| line.strip_prefix(tag)).and_then(|rest| rest.trim().parse().ok());
        let first: u64 = value("#EXT-X-MEDIA-SEQUENCE:").unwrap_or(0);
        let count = |tag: &str| text.lines().filter(|line| line.starts_with(tag)).count() as u64;
        let discontinuities: u64 = value("#EXT-X-DISCONTINUITY-SEQUENCE:").unwrap_or(0);
        let target: u64 = value("#EXT-X-TARGETDURATION:").unwrap_or(TARGET_SECONDS);
        Self {
            kept: Vec::new(),
            next_sequence: first.saturating_add(count("#EXTINF:")),
            discontinuities: discontinuities
                .saturating_add(text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count() as u64),
            target_seconds: target.clamp(TARGET_SECONDS, 60),
            broken: true,
        }
    }

    /// The segment that would be added now, with its number.
    pub fn next(&self, duration: Duration, starts_at: SystemTime, discontinuity: bool) -> Segment {
        Segment { sequence: self.next_sequence, duration, starts_at, discontinuity: discontinuity || self.broken }
    }

    /// Adds a segment whose file is there; returns those whose files are to be deleted.
    pub fn push(&mut self, segment: Segment) -> Vec<Segment> {
        self.broken = false;
        self.next_sequence = segment.sequence + 1;
        self.target_seconds = self.target_seconds.max(segment.duration.as_secs_f64().round() as u64);
        self.kept.push(segment);
        // What leaves the list takes its discontinuity along into the count.
        if let Some(left) = self.kept.len().checked_sub(SEGMENTS_LISTED + 1) {
            self.discontinuities += u64::from(self.kept[left].discontinuity);
        }
        let excess = self.kept.len().saturating_sub(SEGMENTS_KEPT);
        self.kept.drain(..excess).collect()
    }

    /// Text of the playlist.
    pub fn render(&self, ended: bool) -> String {
        let listed = &self.kept[self.kept.len().saturating_sub(SEGMENTS_LISTED)..];
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            self.target_seconds,
            listed.first().map_or(self.next_sequence, |segment| segment.sequence),
        );
        let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuities);
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        for segment in listed {
            if segment.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let _ = write!(
                text,
                "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{:.3},\n{}\n",
                crate::outputs::wall_clock::rfc3339(segment.starts_at),
                segment.duration.as_secs_f64(),
                segment.file_name(),
            );
        }
        if ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(playlist: &mut Playlist, discontinuity: bool) -> Vec<Segment> {
        let starts_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let segment = playlist.next(Duration::from_millis(1960), starts_at, discontinuity);
        playlist.push(segment)
    }

    #[test]
    fn the_text_is_what_players_expect() {
        let mut playlist = Playlist::default();
        add(&mut playlist, false);
        add(&mut playlist, true);
        let expected = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.250Z\n#EXTINF:1.960,\nsegment-00000000.ts\n\
            #EXT-X-DISCONTINUITY\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.250Z\n#EXTINF:1.960,\nsegment-00000001.ts\n";
        assert_eq!(playlist.render(false), expected);
        assert_eq!(playlist.render(true), format!("{expected}#EXT-X-ENDLIST\n"));
    }

    #[test]
    fn the_window_moves_and_old_files_are_given_up_later() {
        let mut playlist = Playlist::default();
        let mut deleted = Vec::new();
        for number in 0..20 {
            deleted.extend(add(&mut playlist, number == 3).into_iter().map(|segment| segment.sequence));
        }
        let text = playlist.render(false);
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:12\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{text}");
        assert_eq!(text.matches("#EXTINF").count(), SEGMENTS_LISTED);
        assert_eq!(deleted, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_process_goes_on_with_the_numbers_of_the_old_one() {
        let mut playlist = Playlist::default();
        for number in 0..11 {
            add(&mut playlist, number == 5);
        }
        let mut after = Playlist::after(&playlist.render(false));
        add(&mut after, false);
        let text = after.render(false);
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:11\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{text}");
        assert!(text.contains("#EXT-X-DISCONTINUITY\n"));
        assert_eq!(
            Playlist::after("garbage\n#EXT-X-MEDIA-SEQUENCE:x"),
            Playlist { broken: true, ..Playlist::default() }
        );
    }
}
