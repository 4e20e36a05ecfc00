//! Decoding with ffmpeg: every picture small and grey, every sound as samples, every complaint kept.

use anyhow::{Context as _, Result, bail};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Pixels of a decoded picture: enough to tell pictures apart, small enough to compare thousands.
pub const WIDTH: usize = 80;
/// See [`WIDTH`].
pub const HEIGHT: usize = 45;
/// Samples a second of decoded sound.
const SAMPLE_RATE: usize = 8000;
/// Length of one loudness window in samples: 100 ms.
const WINDOW: usize = SAMPLE_RATE / 10;
/// The longest decode, in bytes of output.
const OUTPUT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Luma of one picture, row by row, [`WIDTH`] x [`HEIGHT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrayFrame(pub Vec<u8>);

/// The pictures of a file.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// All of them, in order of presentation.
    pub frames: Vec<GrayFrame>,
    /// Presentation times in seconds, one a frame.
    pub times: Vec<f64>,
    /// What the decoder complained of.
    pub complaints: Vec<String>,
}

impl Decoded {
    /// The longest time between two pictures, in seconds.
    pub fn longest_gap(&self) -> f64 {
        self.times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }
}

/// The sound of a file.
#[derive(Debug, Clone)]
pub struct Sound {
    /// Its length in seconds.
    pub seconds: f64,
    /// Loudness of each 100 ms in dB below full scale.
    pub loudness_db: Vec<f64>,
    /// What the decoder complained of.
    pub complaints: Vec<String>,
}

impl Sound {
    /// Loudness over all.
    pub fn mean_db(&self) -> f64 {
        let power: f64 = self.loudness_db.iter().map(|db| 10_f64.powf(db / 10.0)).sum();
        10.0 * (power / self.loudness_db.len().max(1) as f64).max(1e-12).log10()
    }
}

/// Decodes the first video stream of `file`.
///
/// # Errors
/// ffmpeg cannot open it, or it holds no video.
pub fn decode(file: &Path) -> Result<Decoded> {
    let filter = format!("scale={WIDTH}:{HEIGHT}:flags=area,format=gray");
    let arguments = ["-map", "0:v:0", "-vf", &filter, "-vsync", "passthrough", "-f", "rawvideo", "-"];
    let (bytes, complaints) = run_ffmpeg(file, &arguments)?;
    let frames: Vec<_> = bytes.chunks_exact(WIDTH * HEIGHT).map(|luma| GrayFrame(luma.to_vec())).collect();
    if frames.is_empty() {
        bail!("{}: no picture; ffmpeg says: {}", file.display(), complaints.join("; "));
    }
    Ok(Decoded { frames, times: times(file)?, complaints })
}

/// Decodes the first audio stream of `file`.
///
/// # Errors
/// ffmpeg cannot open it, or it holds no sound.
pub fn sound(file: &Path) -> Result<Sound> {
    let rate = SAMPLE_RATE.to_string();
    let arguments = ["-map", "0:a:0", "-ac", "1", "-ar", &rate, "-f", "s16le", "-"];
    let (bytes, complaints) = run_ffmpeg(file, &arguments)?;
    let samples: Vec<f64> =
        bytes.chunks_exact(2).map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0).collect();
    if samples.is_empty() {
        bail!("{}: no sound; ffmpeg says: {}", file.display(), complaints.join("; "));
    }
    let loudness = |window: &[f64]| {
        let power = window.iter().map(|sample| sample * sample).sum::<f64>() / window.len() as f64;
        10.0 * power.max(1e-12).log10()
    };
    let loudness_db = samples.chunks(WINDOW).map(loudness).collect();
    Ok(Sound { seconds: samples.len() as f64 / SAMPLE_RATE as f64, loudness_db, complaints })
}

fn times(file: &Path) -> Result<Vec<f64>> {
    let arguments = ["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(file).stdin(Stdio::null()).output();
    let output = output.context("cannot start ffprobe: run `make setup`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut times: Vec<f64> = text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Runs ffmpeg on `file` and gives its standard output and its complaints.
fn run_ffmpeg(file: &Path, arguments: &[&str]) -> Result<(Vec<u8>, Vec<String>)> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning", "-i"]).arg(file).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start ffmpeg: run `make setup`")?;
    let errors = child.stderr.take().context("ffmpeg has no error pipe")?;
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.take(1024 * 1024).read_to_string(&mut text);
        text
    });
    let mut bytes = Vec::new();
    let output = child.stdout.take().context("ffmpeg has no output pipe")?;
    output.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).context("cannot read from ffmpeg")?;
    child.wait().context("cannot wait for ffmpeg")?;
    let errors = errors.join().unwrap_or_default();
    Ok((bytes, errors.lines().filter(|line| !is_harmless(line)).map(str::to_owned).collect()))
}

/// Remarks of ffmpeg that say nothing of the media.
fn is_harmless(line: &str) -> bool {
    const REMARKS: [&str; 4] = [
        "deprecated pixel format",
        "-vsync is deprecated",
        "OnTextData packet is not implemented",
        "If you want to help",
    ];
    line.trim().is_empty() || REMARKS.iter().any(|remark| line.contains(remark))
}
