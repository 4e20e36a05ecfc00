//! What ffmpeg's tools say about a transport stream.

use std::path::Path;
use std::process::{Command, Output};

/// One coded frame or its packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    pub pts: i64,
    pub key: bool,
}

/// A transport stream, looked at from outside.
#[derive(Debug)]
pub struct Media {
    pub video_codec: String,
    pub width: u32,
    pub height: u32,
    pub audio_codec: String,
    pub video: Vec<Packet>,
    pub audio: Vec<Packet>,
    /// What the decoder complained about.
    pub complaints: String,
    /// Pictures that were decoded.
    pub decoded_frames: usize,
    /// Pictures stood still for half a second or longer.
    pub frozen: bool,
    /// Loudness of the sound, in dB; minus infinity for silence.
    pub audio_rms_db: f64,
}

pub fn ffmpeg(arguments: &[&str]) -> Output {
    let output = Command::new("ffmpeg").args(["-hide_banner", "-nostdin", "-y"]).args(arguments).output();
    output.expect("ffmpeg is installed by `make test`")
}

/// Writes a clip of test pictures, and a tone if asked for, with ffmpeg.
pub fn make_clip(path: &Path, seconds: &str, with_tone: bool) {
    let picture = format!("testsrc2=size=320x180:rate=25:duration={seconds}");
    let tone = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let mut arguments = vec!["-f", "lavfi", "-i", &picture];
    if with_tone {
        arguments.extend(["-f", "lavfi", "-i", &tone, "-c:a", "aac"]);
    }
    arguments.extend(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p"]);
    arguments.push(path.to_str().unwrap());
    let output = ffmpeg(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Media {
    pub fn of(transport_stream: &[u8]) -> Self {
        let file = tempfile::Builder::new().suffix(".ts").tempfile().unwrap();
        std::fs::write(file.path(), transport_stream).unwrap();
        let path = file.path().to_str().unwrap();
        let video = ffprobe(&["-select_streams", "v:0", "-show_entries", "stream=codec_name,width,height", path]);
        let (video_codec, size) = video.split_once(',').unwrap_or_else(|| panic!("no video: {video:?}"));
        let (width, height) = size.split_once(',').unwrap();
        let audio = ffprobe(&["-select_streams", "a:0", "-show_entries", "stream=codec_name", path]);
        let decoded = ffmpeg(&["-v", "warning", "-i", path, "-f", "null", "-"]);
        let frames =
            ffprobe(&["-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames", path]);
        let freeze = ffmpeg(&["-i", path, "-an", "-vf", "freezedetect=n=0.0001:d=0.5", "-f", "null", "-"]);
        let loudness = ffmpeg(&["-i", path, "-vn", "-af", "astats=measure_perchannel=none", "-f", "null", "-"]);
        Self {
            video_codec: video_codec.to_owned(),
            width: width.parse().unwrap(),
            height: height.trim_end_matches(',').parse().unwrap(),
            audio_codec: audio.trim_end_matches(',').to_owned(),
            video: packets("v:0", path),
            audio: packets("a:0", path),
            complaints: String::from_utf8_lossy(&decoded.stderr).into_owned(),
            decoded_frames: frames.trim_end_matches(',').parse().unwrap(),
            frozen: String::from_utf8_lossy(&freeze.stderr).contains("freeze_start"),
            audio_rms_db: rms(&String::from_utf8_lossy(&loudness.stderr)),
        }
    }

    /// Distances of neighbouring pictures, in ticks of 90 kHz, without repetition.
    pub fn video_steps(&self) -> Vec<i64> {
        steps(&self.video)
    }

    pub fn audio_steps(&self) -> Vec<i64> {
        steps(&self.audio)
    }

    /// Longest distance of key pictures, in pictures.
    pub fn key_distance_max(&self) -> usize {
        let keys: Vec<usize> =
            self.video.iter().enumerate().filter(|(_, packet)| packet.key).map(|(at, _)| at).collect();
        keys.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(usize::MAX)
    }
}

fn steps(packets: &[Packet]) -> Vec<i64> {
    let mut steps: Vec<i64> = packets.windows(2).map(|pair| pair[1].pts - pair[0].pts).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn ffprobe(arguments: &[&str]) -> String {
    let output = Command::new("ffprobe").args(["-v", "error", "-of", "csv=p=0"]).args(arguments).output();
    let text = String::from_utf8(output.expect("ffprobe is installed by `make test`").stdout).unwrap();
    // Streams inside programs are listed twice.
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn packets(stream: &str, path: &str) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0", "-select_streams", stream, "-show_entries", "packet=pts,flags", path])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let (pts, flags) = line.split_once(',')?;
        Some(Packet { pts: pts.parse().ok()?, key: flags.starts_with('K') })
    };
    text.lines().filter_map(parse).collect()
}

fn rms(text: &str) -> f64 {
    let line = text.lines().rev().find_map(|line| line.split_once("RMS level dB:"));
    match line.map(|(_, value)| value.trim()) {
        Some("-inf") | None => f64::NEG_INFINITY,
        Some(value) => value.parse().unwrap(),
    }
}
