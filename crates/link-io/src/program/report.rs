//! Statistics once a second, and events as they come.

use super::Lines;
use bond::event::Event;
use serde::Serialize;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// How a program reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatsFormat {
    /// Not at all.
    #[default]
    None,
    /// A line of text a second, events as sentences.
    Text,
    /// One JSON object a line: `{"stats": ..., "io": ...}` each second and `{"event": ..., "text": ...}`.
    Json,
}

impl FromStr for StatsFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is none of none, text, json")),
        }
    }
}

/// Writes the reports of a program.
pub struct Report {
    format: StatsFormat,
    out: Lines,
    next: Instant,
}

impl Report {
    /// Reports in `format` to `out`.
    pub fn new(format: StatsFormat, out: Lines) -> Self {
        Self { format, out, next: Instant::now() + INTERVAL }
    }

    /// True once a second.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.format != StatsFormat::None && now >= self.next;
        if due {
            self.next = now + INTERVAL;
        }
        due
    }

    /// Writes events, oldest first.
    pub fn events(&mut self, events: &[Event]) {
        for event in events {
            match self.format {
                StatsFormat::None => {}
                StatsFormat::Text => self.line(event),
                StatsFormat::Json => self.line(serde_json::json!({ "event": event, "text": event.to_string() })),
            }
        }
    }

    /// Writes a snapshot with the counters of the sockets; `text` is its short form.
    pub fn stats(&mut self, stats: &impl Serialize, io: &impl Serialize, text: impl Display) {
        match self.format {
            StatsFormat::None => {}
            StatsFormat::Text => self.line(text),
            StatsFormat::Json => self.line(serde_json::json!({ "stats": stats, "io": io })),
        }
    }

    fn line(&mut self, line: impl Display) {
        self.out.line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_object_a_line_and_text_is_for_people() {
        let written = |format: StatsFormat| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let lines = Lines::new(file.reopen().expect("opened"));
            let mut report = Report::new(format, lines.clone());
            report.stats(&[1, 2], &3, "short");
            lines.finish();
            assert!(format != StatsFormat::None || !report.is_due());
            std::fs::read_to_string(file.path()).expect("text")
        };
        assert_eq!(written(StatsFormat::Json), "{\"io\":3,\"stats\":[1,2]}\n");
        assert_eq!(written(StatsFormat::Text), "short\n");
        assert_eq!(written(StatsFormat::None), "");
        assert!("xml".parse::<StatsFormat>().is_err());
    }
}
