//! `strata-demo` as `make demo` runs it: its verdict, its status, and what it leaves behind.

use crate::rig::{clip, directory, turn};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use system_test::lab::program::{below, signal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longer than any run here takes, on a busy machine, too.
const RUN_TIME_MAX: Duration = Duration::from_mins(2);

/// What a run left: whether its status was 0, and what it printed.
struct Run {
    good: bool,
    said: String,
}

fn demo(place: &Path, media: &str, arguments: &[&str]) -> Child {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_strata-demo"));
    demo.arg("--data").arg(place).args(["--media", media, "--bitrate", "1500"]).args(arguments);
    let home = place.join("home");
    demo.env("HOME", &home).env("XDG_CACHE_HOME", home.join("cache"));
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn ended(demo: Child, said_before: &str) -> Run {
    let output = timeout(RUN_TIME_MAX, demo.wait_with_output()).await.expect("the demo hangs").unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    Run { good: output.status.success(), said: format!("{said_before}{out}{err}") }
}

fn of_clip() -> String {
    format!("file:{}", clip().unwrap().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_by_itself_and_says_that_the_media_came_through() {
    let _turn = turn().await;
    let place = directory("demo");
    let run = ended(demo(&place, &of_clip(), &["--seconds", "8"]), "").await;
    assert!(run.good, "{}", run.said);
    assert!(run.said.contains("media came through: yes") && run.said.contains("Everything has ended."), "{}", run.said);
    assert!(run.said.lines().filter(|line| line.contains("  ON AIR ")).count() >= 6, "a line a second: {}", run.said);
    assert_eq!(below(&place), []);
    assert!(!place.join("home").exists(), "nothing is written outside the data directory");
    assert!(place.join("gstreamer-registry.bin").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_whose_links_are_all_cut_fails_and_says_so() {
    let _turn = turn().await;
    let place = directory("demo-cut");
    let run = ended(demo(&place, &of_clip(), &["--seconds", "20", "--outage", "60"]), "").await;
    assert!(!run.good, "{}", run.said);
    assert!(run.said.contains("media came through: NO"), "{}", run.said);
    let last = run.said.lines().rfind(|line| line.contains(" RTMP, ")).unwrap();
    assert!(!last.contains("ON AIR"), "the line must not call it ON AIR: {last}");
    assert_eq!(below(&place), []);
}

/// Ctrl-C in each phase, with a status line in between, and a killed demo whose remains the next one clears away.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_leaves_nothing_running() {
    let _turn = turn().await;
    let place = directory("demo-interrupted");
    for phase in ["Starting the relay", "Enrolling", "Going live", "ON AIR after", "00:02"] {
        let (said, demo) = until(demo(&place, "test", &[]), phase).await;
        signal(demo.id().unwrap(), Signal::SIGINT);
        let run = ended(demo, &said).await;
        assert!(run.good, "interrupted at {phase:?}: {}", run.said);
        assert_eq!(below(&place), [], "interrupted at {phase:?}");
    }
    let (_, mut killed) = until(demo(&place, "test", &[]), "00:01").await;
    killed.kill().await.unwrap();
    assert!(below(&place).len() >= 5, "a killed demo cannot clear away: {:?}", below(&place));
    let (said, demo) = until(demo(&place, "test", &[]), "ON AIR after").await;
    assert!(said.contains("Ending what an earlier demo left running"), "{said}");
    signal(demo.id().unwrap(), Signal::SIGINT);
    assert!(ended(demo, &said).await.good);
    assert_eq!(below(&place), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_media_is_told_before_anything_starts() {
    let place = directory("demo-wrong");
    let text = place.join("text.mp4");
    std::fs::write(&text, "this is no film").unwrap();
    for (media, word) in [(format!("file:{}", text.display()), "no media file"), ("camera".into(), "file:PATH")] {
        let run = ended(demo(&place.join("data"), &media, &["--seconds", "5"]), "").await;
        assert!(!run.good && run.said.contains(word), "{}", run.said);
        assert!(!place.join("data").exists());
    }
}

/// Reads what a demo prints until `phase` shows, and goes on reading for it in the background of the child.
async fn until(mut demo: Child, phase: &str) -> (String, Child) {
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut said = String::new();
    let reading = async {
        while !said.contains(phase) {
            if out.read_line(&mut said).await.unwrap() == 0 {
                let mut complaints = String::new();
                demo.stderr.take().unwrap().read_to_string(&mut complaints).await.unwrap();
                panic!("the demo ended before {phase:?}: {said}{complaints}");
            }
        }
    };
    timeout(RUN_TIME_MAX, reading).await.unwrap_or_else(|_| panic!("no {phase:?}"));
    // A closed pipe would end the demo by its next line; nobody needs to read what a pipe can hold.
    tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::sink()).await });
    (said, demo)
}
