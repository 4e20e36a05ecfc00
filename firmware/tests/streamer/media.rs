//! Each kind of source, judged by what comes out of the bond.

use crate::probe::{Media, ffmpeg, make_clip};
use crate::rig::{Agent, Relay, Streamer, start, test_source};
use protocol::stream::VideoCodec;
use protocol::worker::streamer::{FromStreamer, Source, StartStreamer, ToStreamer};
use std::path::Path;
use std::time::{Duration, Instant};
use units::Bitrate;

/// Ticks of 90 kHz in a frame of 25 a second.
pub const FRAME: i64 = 3600;
/// Ticks of 90 kHz in an AAC frame at 48 kHz.
pub const AAC_FRAME: i64 = 1920;

/// Streams `order` until `seconds` of it were sent; what arrived.
fn send(order: StartStreamer, relay: Relay, seconds: u64) -> Media {
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(order)));
    agent.wait_running();
    std::thread::sleep(Duration::from_secs(seconds));
    finish(&mut streamer, &mut agent, relay)
}

pub fn finish(streamer: &mut Streamer, agent: &mut Agent, relay: Relay) -> Media {
    agent.send(&ToStreamer::Stop);
    assert!(streamer.wait().success(), "{}", streamer.log());
    let (bytes, lost) = relay.finish();
    assert_eq!(lost, 0, "payloads lost on loopback");
    assert_eq!(bytes.len() % 188, 0);
    let media = Media::of(&bytes);
    assert_eq!(media.complaints, "", "the decoder complains");
    media
}

fn file(path: &Path) -> Source {
    Source::File { path: path.to_str().unwrap().to_owned() }
}

#[track_caller]
fn assert_even_timestamps(media: &Media) {
    assert_eq!(media.video_steps(), [FRAME], "pictures: {:?}", media.video);
    // PTS in 90 kHz of 1024 samples at 48 kHz are exact; a millisecond of rounding is tolerated.
    for step in media.audio_steps() {
        assert!((step - AAC_FRAME).abs() <= 90, "audio steps {:?}", media.audio_steps());
    }
}

/// A clip of 2 s is played several times: picture and sound go on over the loop as if it were one long clip.
#[test]
fn a_file_is_looped_without_a_step_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let clip = directory.path().join("clip.mp4");
    make_clip(&clip, "2", true);
    let relay = Relay::listen();
    let media = send(start(file(&clip), relay.address), relay, 7);
    assert_eq!((media.video_codec.as_str(), media.audio_codec.as_str()), ("h264", "aac"));
    assert_eq!((media.width, media.height), (320, 180));
    assert_even_timestamps(&media);
    assert!((150..=220).contains(&media.decoded_frames), "{} pictures of 7 s", media.decoded_frames);
    assert!(media.audio.len() > 300, "{} audio frames of 7 s", media.audio.len());
    assert!(media.key_distance_max() <= 25, "key frame every second: {}", media.key_distance_max());
    assert!(media.audio_rms_db > -40.0, "the tone is there: {} dB", media.audio_rms_db);
}

#[test]
fn a_file_without_sound_is_sent_with_silence() {
    let directory = tempfile::tempdir().unwrap();
    let clip = directory.path().join("mute.mkv");
    make_clip(&clip, "3", false);
    let relay = Relay::listen();
    let media = send(start(file(&clip), relay.address), relay, 4);
    assert_even_timestamps(&media);
    assert!(media.audio.len() > 150, "{} audio frames of 4 s", media.audio.len());
    assert!(media.audio_rms_db < -80.0, "it is silent: {} dB", media.audio_rms_db);
}

#[test]
fn the_test_pattern_moves_and_has_a_clock_and_a_tone() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(start(test_source(), relay.address))));
    agent.wait_running();
    std::thread::sleep(Duration::from_secs(4));
    let media = finish(&mut streamer, &mut agent, relay);
    assert!(!streamer.log().contains("has no clock"), "the Pango plugin is installed by `make test`");
    assert!(!media.frozen);
    assert_eq!((media.video_codec.as_str(), media.width, media.height), ("h264", 320, 180));
    assert_even_timestamps(&media);
    assert!(media.decoded_frames > 75, "{} pictures of 4 s", media.decoded_frames);
    assert!(media.audio_rms_db > -40.0, "the tone is there: {} dB", media.audio_rms_db);
}

#[test]
fn h265_is_sent_when_ordered() {
    let relay = Relay::listen();
    let mut order = start(test_source(), relay.address);
    order.spec.encoding.codec = VideoCodec::H265;
    let media = send(order, relay, 4);
    assert_eq!((media.video_codec.as_str(), media.audio_codec.as_str()), ("hevc", "aac"));
    assert!(media.decoded_frames > 60, "{} pictures of 4 s", media.decoded_frames);
    assert_eq!(media.video_steps(), [FRAME]);
}

/// The encoder really produces what it is asked for: measured at the far end, before and after.
#[test]
fn a_changed_bitrate_range_changes_what_is_sent() {
    let relay = Relay::listen();
    let mut order = start(test_source(), relay.address);
    order.source = Source::Test { width: 640, height: 360, frames_per_second: 25 };
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(order)));
    agent.wait_running();
    let target = |message: &FromStreamer| match message {
        FromStreamer::Stats(stats) => Some(stats.encoder_target),
        _ => None,
    };
    agent.wait_for("target 800", |message| target(message).filter(|&rate| rate == Bitrate::from_kbps(800)));
    let before = measured_kbps(&relay);
    let (min, max) = (Bitrate::from_kbps(200), Bitrate::from_kbps(250));
    agent.send(&ToStreamer::SetBitrateRange { min, max });
    agent.wait_for("target 250", |message| target(message).filter(|&rate| rate == max));
    std::thread::sleep(Duration::from_secs(2)); // what was encoded before leaves the buffers
    let after = measured_kbps(&relay);
    // Video plus 128 kbit/s of sound and their headers.
    assert!((700.0..1400.0).contains(&before), "{before} kbit/s");
    assert!((250.0..600.0).contains(&after), "{after} kbit/s");
    let media = finish(&mut streamer, &mut agent, relay);
    assert_even_timestamps(&media);
}

fn measured_kbps(relay: &Relay) -> f64 {
    let (bytes, at) = (relay.bytes(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    (relay.bytes() - bytes) as f64 * 8.0 / 1000.0 / at.elapsed().as_secs_f64()
}

/// A file whose sound is shorter than its picture: the sound of the next pass begins with the picture, not before.
#[test]
fn sound_and_picture_stay_together_when_one_is_shorter() {
    let directory = tempfile::tempdir().unwrap();
    let clip = directory.path().join("short-sound.mp4");
    // One second of tone under two seconds of picture.
    let output = ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=25:duration=2",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=48000:duration=1",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-c:a",
        "aac",
        clip.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let relay = Relay::listen();
    let media = send(start(file(&clip), relay.address), relay, 6);
    assert_even_timestamps(&media);
    let (first, last) = (media.audio.first().unwrap().pts, media.audio.last().unwrap().pts);
    let (first_picture, last_picture) = (media.video.first().unwrap().pts, media.video.last().unwrap().pts);
    assert!((first - first_picture).abs() < 45_000, "begin together: {first} {first_picture}");
    assert!((last - last_picture).abs() < 45_000, "end together: {last} {last_picture}");
}
