//! How the demo went: figures, and a verdict on each output.

use crate::lab::Lab;
use crate::lab::usage::{Usage, usage};
use crate::media::{decode, hls};
use crate::readers::ReaderFigures;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Share of the frames of the time ON AIR that an output must have brought: it connects after ON AIR and waits for a key
/// frame, and what is in its queues at the end is not counted.
const FRAMES_SHARE_MIN: f64 = 0.6;
/// Frames a second that are expected at least; the demo's media has 25.
const FRAMES_PER_SECOND: f64 = 25.0;
/// Share of lost payloads that is still "came through".
const LOST_SHARE_MAX: f64 = 0.001;
/// The programs of the product whose cost is told.
const PROGRAMS: [&str; 4] = ["strata-agent", "strata-streamer", "strata-relay", "strata-receiver"];

/// One output's outcome.
#[derive(Debug)]
struct Verdict {
    name: String,
    frames: Result<u64, String>,
    frames_min: u64,
}

/// The figures of one run.
#[derive(Debug)]
pub(super) struct Summary {
    to_on_air: Duration,
    on_air: Duration,
    delivered: u64,
    lost: u64,
    recovered: u64,
    verdicts: Vec<Verdict>,
    costs: Vec<(&'static str, Usage)>,
    /// What a viewer of HLS got, yet to be decoded: the file, or why there is none.
    viewed: Result<PathBuf, String>,
}

impl Summary {
    /// Reads what is only there while the stream is live.
    pub(super) async fn gather(lab: &mut Lab, stream: &str, to_on_air: Duration, on_air: Duration) -> Self {
        let state = lab.dashboard.stream(stream).await.unwrap_or(Value::Null);
        let count = |key: &str| state["receiver"][key].as_u64().unwrap_or(0);
        let costs = PROGRAMS.iter().filter_map(|name| Some((*name, usage(lab.worker(name)?)?))).collect();
        let mut summary = Self {
            to_on_air,
            on_air,
            delivered: count("delivered"),
            lost: count("lost"),
            recovered: count("recovered"),
            verdicts: Vec::new(),
            costs,
            viewed: Err(String::new()),
        };
        let file = lab.options().directory.join("hls-as-viewed.ts");
        let fetched = hls::fetch(&mut lab.dashboard, stream, &file).await;
        summary.viewed = fetched.map(|_| file).map_err(|error| format!("{error:#}"));
        summary
    }

    /// The playlist as a viewer got it: what it listed must decode.
    pub(super) fn add_hls(&mut self) {
        let frames = self.viewed.clone().and_then(|file| frames_of(&file));
        // A live playlist holds a few segments, not the whole stream.
        self.verdicts.push(Verdict { name: "HLS".to_owned(), frames, frames_min: FRAMES_PER_SECOND as u64 });
    }

    /// A reader's frames.
    pub(super) fn add_reader(&mut self, name: &str, figures: &ReaderFigures) {
        let frames = if figures.connections == 0 {
            Err(figures.complaints.last().cloned().unwrap_or_else(|| "nobody connected".to_owned()))
        } else {
            Ok(figures.frames)
        };
        self.verdicts.push(Verdict { name: name.to_owned(), frames, frames_min: self.frames_min() });
    }

    /// The recording, all parts.
    pub(super) fn add_recording(&mut self, stream_directory: &Path) {
        let whole = stream_directory.join("recording-whole.ts");
        let frames = crate::media::recording::join(&stream_directory.join("recording"), &whole)
            .map_err(|error| format!("{error:#}"))
            .and_then(|_| frames_of(&whole));
        let _ = std::fs::remove_file(&whole);
        self.verdicts.push(Verdict { name: "Recording".to_owned(), frames, frames_min: self.frames_min() });
    }

    fn frames_min(&self) -> u64 {
        (self.on_air.as_secs_f64() * FRAMES_PER_SECOND * FRAMES_SHARE_MIN) as u64
    }

    /// Whether the media reached every output.
    pub(super) fn came_through(&self) -> bool {
        let lost_max = (self.delivered as f64 * LOST_SHARE_MAX) as u64;
        self.delivered > 0 && self.lost <= lost_max && self.verdicts.iter().all(Verdict::is_good)
    }
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.frames.as_ref().is_ok_and(|frames| *frames >= self.frames_min)
    }
}

fn frames_of(file: &Path) -> Result<u64, String> {
    decode(file).map(|decoded| decoded.frames.len() as u64).map_err(|error| format!("{error:#}"))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSummary")?;
        writeln!(f, "  to ON AIR   {:.1} s", self.to_on_air.as_secs_f64())?;
        writeln!(f, "  ON AIR      {:.0} s", self.on_air.as_secs_f64())?;
        writeln!(f, "  delivered   {} payloads, {} lost, {} recovered", self.delivered, self.lost, self.recovered)?;
        for verdict in &self.verdicts {
            let word = if verdict.is_good() { "good" } else { "BAD" };
            match &verdict.frames {
                Ok(frames) => {
                    let (name, min) = (&verdict.name, verdict.frames_min);
                    writeln!(f, "  {name:<11} {word}: {frames} frames decoded, at least {min} wanted")?;
                }
                Err(reason) => writeln!(f, "  {:<11} {word}: {reason}", verdict.name)?,
            }
        }
        for (name, usage) in &self.costs {
            let (cpu, rss) = (usage.cpu.as_secs_f64(), usage.peak_rss_kib as f64 / 1024.0);
            writeln!(f, "  {name:<15} {cpu:.1} s of CPU, {rss:.0} MiB at most")?;
        }
        write!(f, "  media came through: {}", if self.came_through() { "yes" } else { "NO" })
    }
}
