//! A camera whose pictures carry the time at which they were made: drawn here, encoded by x264 without look-ahead, sent where
//! it is told.

use super::stamp::{self, HEIGHT, WIDTH};
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pictures a second.
pub const FRAMES_PER_SECOND: u32 = 25;
/// What it encodes to.
const VIDEO_KBPS: u32 = 2500;
/// Rows of the picture that move: enough to keep the encoder busy.
const CONTENT_STEP: usize = 3;

/// Where a camera sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// MPEG-TS in UDP datagrams.
    Udp(u16),
    /// MPEG-TS by SRT; the camera calls.
    Srt(u16),
    /// Publishes by RTMP.
    Rtmp(u16),
}

impl Feed {
    /// The protocol's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Udp(_) => "UDP",
            Self::Srt(_) => "SRT",
            Self::Rtmp(_) => "RTMP",
        }
    }

    fn target(&self) -> [String; 3] {
        let (format, url) = match self {
            Self::Udp(port) => ("mpegts", format!("udp://127.0.0.1:{port}?pkt_size=1316")),
            Self::Srt(port) => ("mpegts", format!("srt://127.0.0.1:{port}?mode=caller")),
            Self::Rtmp(port) => ("flv", format!("rtmp://127.0.0.1:{port}/live/latency")),
        };
        ["-f".to_owned(), format.to_owned(), url]
    }
}

/// Milliseconds since 1970; on one machine the same for camera and viewer.
pub fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A running camera; dropping it ends it.
#[derive(Debug)]
pub struct Camera {
    encoder: Child,
    end: Arc<AtomicBool>,
    painter: Option<JoinHandle<()>>,
}

impl Camera {
    /// Starts it.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn start(feed: &Feed) -> Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-probesize", "32", "-f", "rawvideo", "-pix_fmt", "yuv420p"]);
        command.args(["-video_size", &format!("{WIDTH}x{HEIGHT}"), "-framerate", &FRAMES_PER_SECOND.to_string()]);
        command.args(["-i", "pipe:0", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
        command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25"]);
        command.args(["-b:v", &format!("{VIDEO_KBPS}k"), "-c:a", "aac", "-b:a", "96k"]);
        // Each AAC frame by itself, as cameras do; ffmpeg would otherwise hold sound back to fill its packets.
        command.args(["-pes_payload_size", "1"]);
        command.args(["-muxdelay", "0", "-muxpreload", "0", "-flush_packets", "1"]).args(feed.target());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut encoder = command.spawn().context("cannot start ffmpeg: run `make setup`")?;
        let pictures = encoder.stdin.take().context("ffmpeg has no input pipe")?;
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let painter = std::thread::spawn(move || paint(pictures, &stop));
        Ok(Self { encoder, end, painter: Some(painter) })
    }

    /// Whether the encoder still takes pictures; one that calls ends when nobody answers.
    pub fn is_running(&mut self) -> bool {
        matches!(self.encoder.try_wait(), Ok(None))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let _ = self.encoder.kill();
        let _ = self.encoder.wait();
        if let Some(painter) = self.painter.take() {
            let _ = painter.join();
        }
    }
}

/// Draws one picture each period until told to end or nobody reads them.
fn paint(mut encoder: ChildStdin, stop: &AtomicBool) {
    let period = Duration::from_secs(1) / FRAMES_PER_SECOND;
    let mut picture = vec![128; WIDTH * HEIGHT * 3 / 2];
    let began = Instant::now();
    for number in 0_u32.. {
        std::thread::sleep((period * number).saturating_sub(began.elapsed()));
        if stop.load(Ordering::Acquire) {
            return;
        }
        let luma = &mut picture[..WIDTH * HEIGHT];
        draw(luma, number as usize);
        stamp::write(luma, wall_clock_ms());
        if encoder.write_all(&picture).is_err() {
            return; // the encoder has ended
        }
    }
}

/// Diagonal stripes that wander.
fn draw(luma: &mut [u8], number: usize) {
    for (row, pixels) in luma.chunks_exact_mut(WIDTH).enumerate() {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            *pixel = 40 + ((column + row * 2 + number * CONTENT_STEP) % 160) as u8;
        }
    }
}
