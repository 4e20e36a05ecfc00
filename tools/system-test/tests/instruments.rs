//! The instruments by which the system test judges, tried on media with known faults: they must see what is wrong.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use system_test::lab::ports::Ports;
use system_test::media::{Source, best_match, decode, judge, sound};
use system_test::readers::{Protocol, Reader, Use};
use tokio::time::Instant;

const TS_PACKET: usize = 188;

fn ffmpeg(arguments: &[&str], file: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
        .args(arguments)
        .arg(file)
        .stdin(Stdio::null())
        .status()
        .expect("ffmpeg is needed: run `make setup`");
    assert!(status.success());
}

/// Four seconds of moving picture and tone, and the same after a lossy encoder at another bitrate.
fn source_and_copy(directory: &Path) -> [std::path::PathBuf; 2] {
    let [source, copy] = ["source.ts", "copy.ts"].map(|name| directory.join(name));
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4"];
    let tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=4"];
    let encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac"];
    ffmpeg(&[&picture[..], &tone[..], &encode[..], &["-b:v", "4M"]].concat(), &source);
    let input = ["-i", source.to_str().unwrap()];
    ffmpeg(&[&input[..], &encode[..], &["-b:v", "500k"]].concat(), &copy);
    [source, copy]
}

#[test]
fn a_lossy_copy_is_recognized_picture_by_picture() {
    let directory = tempfile::tempdir().unwrap();
    let [source, copy] = source_and_copy(directory.path()).map(|file| decode(&file).unwrap());
    assert_eq!((source.frames.len(), copy.frames.len()), (100, 100));
    assert_eq!((&source.complaints, &copy.complaints), (&vec![], &vec![]));
    assert!(copy.longest_gap() < 0.045, "{}", copy.longest_gap());
    for (i, frame) in copy.frames.iter().enumerate() {
        let best = best_match(frame, &source.frames).unwrap();
        assert_eq!(best.picture, i);
        assert!(best.psnr_db > 25.0, "{best:?}");
    }
}

#[test]
fn a_hole_in_the_stream_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let [_, copy] = source_and_copy(directory.path());
    let mut bytes = std::fs::read(&copy).unwrap();
    let packets = bytes.len() / TS_PACKET;
    bytes.drain(packets / 2 * TS_PACKET..(packets / 2 + 100) * TS_PACKET);
    std::fs::write(&copy, bytes).unwrap();
    let decoded = decode(&copy).unwrap();
    assert!(!decoded.complaints.is_empty() && decoded.longest_gap() > 0.1, "{:?}", decoded.longest_gap());
}

#[test]
fn tone_silence_and_no_sound_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let [source, _] = source_and_copy(directory.path());
    let tone = sound(&source).unwrap();
    assert!((3.9..4.1).contains(&tone.seconds), "{}", tone.seconds);
    assert!((-25.0..-15.0).contains(&tone.mean_db()), "{}", tone.mean_db());
    let quiet = directory.path().join("quiet.ts");
    ffmpeg(&["-f", "lavfi", "-i", "anullsrc=sample_rate=48000", "-t", "1", "-c:a", "aac"], &quiet);
    assert!(sound(&quiet).unwrap().mean_db() < -90.0);
    let mute = directory.path().join("mute.ts");
    ffmpeg(&["-i", source.to_str().unwrap(), "-an", "-c", "copy"], &mute);
    assert!(sound(&mute).is_err());
}

/// A platform takes a stream, loses it, and takes it back: both connections are counted and kept.
#[tokio::test]
async fn readers_keep_what_they_get_and_listen_again() {
    let directory = tempfile::tempdir().unwrap();
    let [source, _] = source_and_copy(directory.path());
    let ports = Ports::any(&[]).unwrap();
    let readers = [
        (Protocol::Rtmp, ports.rtmp, format!("rtmp://127.0.0.1:{}/live/key", ports.rtmp), "flv"),
        (Protocol::Srt, ports.srt, format!("srt://127.0.0.1:{}", ports.srt), "mpegts"),
    ];
    for (protocol, port, url, format) in readers {
        let reader =
            Reader::start(protocol, port, "key", directory.path(), Use::Keep(directory.path().to_owned())).unwrap();
        for connection in 1..=2 {
            let deadline = Instant::now() + Duration::from_secs(20);
            while reader.figures().frames < 80 * connection {
                assert!(Instant::now() < deadline, "{protocol:?}: {:?}", reader.figures());
                // The listener may not be up yet: then ffmpeg fails and is run again.
                let mut publisher = tokio::process::Command::new("ffmpeg");
                publisher.args(["-nostdin", "-loglevel", "quiet", "-re", "-i"]).arg(&source);
                publisher.args(["-t", "3.6", "-c", "copy", "-f", format, &url]).stdin(Stdio::null());
                publisher.status().await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        let figures = reader.stop().await;
        assert_eq!((figures.connections, figures.files.len()), (2, 2), "{figures:?}");
        for file in &figures.files {
            assert!(decode(file).unwrap().frames.len() >= 80, "{}", file.display());
        }
    }
}

/// The verdict passes an honest copy of the looped source and nothing else.
#[test]
fn the_verdict_tells_an_honest_copy_from_a_broken_one() {
    let directory = tempfile::tempdir().unwrap();
    let [source_file, _] = source_and_copy(directory.path());
    let source = Source::open(&source_file).unwrap();
    let looped = ["-stream_loop", "2", "-i", source_file.to_str().unwrap()];
    let encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "600k", "-c:a", "aac"];
    let copy = |name: &str, filters: &[&str]| {
        let file = directory.path().join(name);
        ffmpeg(&[&looped[..], filters, &encode[..]].concat(), &file);
        judge(&file, &source).unwrap()
    };
    let honest = copy("honest.ts", &[]);
    honest.expect_unbroken(11.5).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(honest.expect_unbroken(13.0).unwrap_err().to_string().contains("fewer than"));

    let cut = copy("cut.ts", &["-vf", "select='not(between(n,100,109))',setpts=N/25/TB"]);
    assert!(cut.expect_unbroken(11.0).unwrap_err().to_string().contains("missing or doubled"), "{cut}");
    let frozen = copy("frozen.ts", &["-vf", "select='not(between(n,100,109))'", "-vsync", "vfr"]);
    assert!(frozen.expect_unbroken(11.0).unwrap_err().to_string().contains("pictures are missing"), "{frozen}");
    let other = copy("other.ts", &["-vf", "drawbox=x=0:y=0:w=200:h=200:color=white:t=fill:enable='between(n,50,60)'"]);
    assert!(other.expect_unbroken(11.0).unwrap_err().to_string().contains("not of the source"), "{other}");
    let silent = copy("silent.ts", &["-af", "volume=0"]);
    assert!(silent.expect_unbroken(11.0).unwrap_err().to_string().contains("silent"), "{silent}");
}
