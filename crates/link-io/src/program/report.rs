//! Statistics once a second, and events as they come.

use bond::event::Event;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
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
pub struct Report<W> {
    format: StatsFormat,
    out: W,
    next: Instant,
}

impl<W: Write> Report<W> {
    /// Reports in `format` to `out`.
    pub fn new(format: StatsFormat, out: W) -> Self {
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
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub fn events(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            match self.format {
                StatsFormat::None => {}
                StatsFormat::Text => writeln!(self.out, "{event}")?,
                StatsFormat::Json => {
                    let line = serde_json::json!({ "event": event, "text": event.to_string() });
                    writeln!(self.out, "{line}")?;
                }
            }
        }
        self.out.flush()
    }

    /// Writes a snapshot with the counters of the sockets; `text` is its short form.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub fn stats(&mut self, stats: &impl Serialize, io: &impl Serialize, text: impl Display) -> io::Result<()> {
        match self.format {
            StatsFormat::None => {}
            StatsFormat::Text => writeln!(self.out, "{text}")?,
            StatsFormat::Json => writeln!(self.out, "{}", serde_json::json!({ "stats": stats, "io": io }))?,
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_object_a_line_and_text_is_for_people() {
        let mut out = Vec::new();
        Report::new(StatsFormat::Json, &mut out).stats(&[1, 2], &3, "short").expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "{\"io\":3,\"stats\":[1,2]}\n");
        let mut out = Vec::new();
        Report::new(StatsFormat::Text, &mut out).stats(&[1, 2], &3, "short").expect("written");
        assert_eq!(out, b"short\n");
        let mut out = Vec::new();
        let mut none = Report::new(StatsFormat::None, &mut out);
        none.stats(&[1, 2], &3, "short").expect("written");
        assert!(!none.is_due());
        assert!(out.is_empty());
        assert!("xml".parse::<StatsFormat>().is_err());
    }
}
