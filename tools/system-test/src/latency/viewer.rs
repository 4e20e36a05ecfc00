//! A viewer that reads the time out of every picture the moment it is decoded.

use super::camera::wall_clock_ms;
use super::figures::Delays;
use super::stamp::{self, HEIGHT, WIDTH};
use anyhow::{Context as _, Result};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Most pictures whose delays are kept: an hour at 25 a second.
const DELAYS_MAX: usize = 90_000;
/// ffmpeg's arguments for decoding at once: no frame threads, no pacing, no repeated pictures.
const DECODE_AT_ONCE: [&str; 9] =
    ["-nostdin", "-v", "error", "-fflags", "nobuffer", "-flags", "low_delay", "-threads", "1"];

/// What a viewer listens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// RTMP, as a server that is published to.
    Rtmp(u16),
    /// SRT, as a listener, with its default receiver latency of 120 ms.
    Srt(u16),
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When a picture arrived, and its delay in milliseconds.
    pictures: Vec<(Instant, u64)>,
    /// Pictures without a readable time.
    pub unreadable: u64,
    /// Pictures older than the one before them.
    pub out_of_order: u64,
    newest_ms: u64,
}

impl Seen {
    /// Delays of the pictures that arrived after `from`.
    pub fn since(&self, from: Instant) -> Delays {
        Delays::of(self.pictures.iter().filter(|(at, _)| *at >= from).map(|(_, delay)| *delay).collect())
    }

    fn picture(&mut self, luma: &[u8]) {
        let Some(made_ms) = stamp::read(luma) else {
            self.unreadable += 1;
            return;
        };
        self.out_of_order += u64::from(made_ms < self.newest_ms);
        self.newest_ms = self.newest_ms.max(made_ms);
        if self.pictures.len() < DELAYS_MAX {
            self.pictures.push((Instant::now(), wall_clock_ms().saturating_sub(made_ms)));
        }
    }
}

/// A running viewer; dropping it ends it.
#[derive(Debug)]
pub struct Viewer {
    decoder: Child,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

impl Viewer {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn start(listen: &Listen) -> Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(DECODE_AT_ONCE);
        match listen {
            Listen::Rtmp(port) => {
                command.args(["-listen", "1", "-i", &format!("rtmp://127.0.0.1:{port}/live/latency")]);
            }
            Listen::Srt(port) => {
                command.args(["-i", &format!("srt://127.0.0.1:{port}?mode=listener")]);
            }
        }
        command.args(raw_pictures());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut decoder = command.spawn().context("cannot start ffmpeg: run `make setup`")?;
        let pictures = decoder.stdout.take().context("ffmpeg has no output pipe")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let reader = std::thread::spawn(move || each_picture(pictures, |luma| lock(&shared).picture(luma)));
        Ok(Self { decoder, seen, reader: Some(reader) })
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Whether it has seen a picture.
    pub fn has_pictures(&self) -> bool {
        !lock(&self.seen).pictures.is_empty()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.decoder.kill();
        let _ = self.decoder.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// When each picture of a media file was made, in milliseconds since 1970.
///
/// # Errors
/// ffmpeg cannot be started.
pub fn times_in(file: &Path) -> Result<Vec<u64>> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(file).args(raw_pictures());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut decoder = command.spawn().context("cannot start ffmpeg: run `make setup`")?;
    let pictures = decoder.stdout.take().context("ffmpeg has no output pipe")?;
    let mut times = Vec::new();
    each_picture(pictures, |luma| {
        if times.len() < DELAYS_MAX {
            times.extend(stamp::read(luma));
        }
    });
    decoder.wait().context("cannot wait for ffmpeg")?;
    Ok(times)
}

fn raw_pictures() -> [String; 11] {
    let scale = format!("scale={WIDTH}:{HEIGHT}");
    let arguments =
        ["-map", "0:v:0", "-vf", &scale, "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-"];
    arguments.map(str::to_owned)
}

fn each_picture(mut pictures: impl Read, mut take: impl FnMut(&[u8])) {
    let mut luma = vec![0; WIDTH * HEIGHT];
    while pictures.read_exact(&mut luma).is_ok() {
        take(&luma);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
