//! The process: what it answers, what it survives, how it ends.

use crate::rig::{LATENCY_MS, Relay, Streamer, link, start, test_source};
use protocol::worker::streamer::{FromStreamer, Source, StreamerState, ToStreamer};
use units::{Bitrate, LinkId, Secret};

fn hello(message: &FromStreamer) -> Option<(u32, Option<String>, StreamerState)> {
    match message {
        FromStreamer::Hello { pid, stream, state, .. } => {
            Some((*pid, stream.as_ref().map(ToString::to_string), state.clone()))
        }
        _ => None,
    }
}

fn stats(message: &FromStreamer) -> Option<protocol::telemetry::StreamTelemetry> {
    match message {
        FromStreamer::Stats(stats) => Some((**stats).clone()),
        _ => None,
    }
}

#[test]
fn it_says_hello_opens_runs_reports_and_stops() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    assert_eq!(agent.wait_for("Hello", hello), (streamer.pid(), None, StreamerState::Waiting));
    agent.send(&ToStreamer::Start(Box::new(start(test_source(), relay.address))));
    agent.wait_for("Opening", |message| (*message == FromStreamer::State(StreamerState::Opening)).then_some(()));
    assert_eq!(agent.wait_running(), "x264enc");
    let first = agent.wait_for("Stats", |message| stats(message).filter(|stats| stats.packets_in > 0));
    assert_eq!(
        (first.stream.as_str(), first.encoder.as_str(), first.latency_ms),
        ("test-stream", "x264enc", LATENCY_MS)
    );
    assert_eq!(first.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["Modem 0", "Modem 1"]);
    assert!(first.age_ms < 3000, "{first:?}");
    let second = agent.wait_for("Stats", stats);
    assert!(second.packets_in > first.packets_in, "{second:?}");
    assert_eq!(second.dropped, 0);
    agent.send(&ToStreamer::Stop);
    agent.wait_for("Ended", |message| (*message == FromStreamer::State(StreamerState::Ended)).then_some(()));
    assert_eq!(streamer.wait().code(), Some(0));
    assert!(!streamer.log().contains("the key of this test"), "the key is in the log");
}

/// An agent that dies leaves the stream alone; the next one finds it running.
#[test]
fn it_outlives_its_agent() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(start(test_source(), relay.address))));
    agent.wait_running();
    let before = agent.wait_for("Stats", stats);
    drop(agent);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut agent = streamer.connect();
    let (pid, stream, state) = agent.wait_for("Hello", hello);
    assert_eq!((pid, stream.as_deref()), (streamer.pid(), Some("test-stream")));
    assert!(matches!(state, StreamerState::Running { for_ms, .. } if for_ms >= 1000), "{state:?}");
    let after = agent.wait_for("Stats", stats);
    assert!(after.packets_in > before.packets_in);
    agent.send(&ToStreamer::Stop);
    assert!(streamer.wait().success());
}

#[test]
fn nonsense_is_refused_and_the_stream_goes_on() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send_line("no json at all");
    assert!(agent.wait_refused().contains("not a known message"));
    agent.send_line(r#"{"kind":"dance"}"#);
    assert!(agent.wait_refused().contains("dance"));
    agent.send(&ToStreamer::SetLatency { latency_ms: 500 });
    assert!(agent.wait_refused().contains("no stream is running"));

    let order = start(test_source(), relay.address);
    agent.send(&ToStreamer::Start(Box::new(order.clone())));
    agent.wait_running();
    let mut other = order.clone();
    other.spec.stream = "another-stream".parse().unwrap();
    agent.send(&ToStreamer::Start(Box::new(other)));
    assert!(agent.wait_refused().contains("test-stream"), "names the one that runs");
    agent.send(&ToStreamer::SetLatency { latency_ms: 5 });
    assert!(agent.wait_refused().contains("latency_ms is 5"));
    agent.send(&ToStreamer::SetBitrateRange { min: Bitrate::from_kbps(900), max: Bitrate::from_kbps(300) });
    assert!(agent.wait_refused().contains("bitrate range"));
    agent.send(&ToStreamer::RemoveLink { link: LinkId(9) });
    assert!(agent.wait_refused().contains("no link 9"));

    agent.send(&ToStreamer::Start(Box::new(order))); // the same again is nothing new
    agent.wait_for("Stats", |message| {
        assert!(!matches!(message, FromStreamer::Refused { .. }), "{message:?}");
        stats(message)
    });
    agent.send(&ToStreamer::Stop);
    assert!(streamer.wait().success());
}

#[test]
fn a_line_without_end_closes_only_its_own_connection() {
    let mut streamer = Streamer::spawn();
    let mut flood = streamer.connect();
    flood.send_line(&"x".repeat(protocol::limits::WORKER_LINE_BYTES_MAX + 10));
    assert!(flood.wait_refused().contains("longer than"));
    let mut agent = streamer.connect();
    agent.wait_for("Hello", hello);
    agent.send(&ToStreamer::Stop);
    assert_eq!(streamer.wait().code(), Some(0), "a stop before a start ends it, too");
}

#[test]
fn links_come_and_go_while_live() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(start(test_source(), relay.address))));
    agent.wait_running();
    agent.send(&ToStreamer::AddLink(link(7, relay.address)));
    agent.send(&ToStreamer::RemoveLink { link: LinkId(0) });
    let names = |message: &FromStreamer| {
        let stats = stats(message)?;
        Some(stats.links.iter().map(|link| link.name.clone()).collect::<Vec<_>>())
    };
    agent.wait_for("links 1 and 7", |message| names(message).filter(|names| *names == ["Modem 1", "Modem 7"]));
    agent.send(&ToStreamer::SetLatency { latency_ms: 800 });
    agent.wait_for("latency 800", |message| stats(message).filter(|stats| stats.latency_ms == 800));
    agent.send(&ToStreamer::Stop);
    assert!(streamer.wait().success());
}

#[test]
fn a_missing_file_is_named_and_ends_the_process() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    let source = Source::File { path: "/no/such/clip.mp4".into() };
    agent.send(&ToStreamer::Start(Box::new(start(source, relay.address))));
    let (reason, next_step, retry) = agent.wait_failed();
    assert!(reason.contains("/no/such/clip.mp4") && reason.contains("No such file"), "{reason}");
    assert!(next_step.contains("path"), "{next_step}");
    assert!(!retry);
    assert_eq!(streamer.wait().code(), Some(1));
}

#[test]
fn a_file_that_is_no_media_is_named() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let path = streamer.directory.path().join("letter.txt");
    std::fs::write(&path, "Dear reader,\n".repeat(500)).unwrap();
    let mut agent = streamer.connect();
    let source = Source::File { path: path.to_str().unwrap().to_owned() };
    agent.send(&ToStreamer::Start(Box::new(start(source, relay.address))));
    let (reason, ..) = agent.wait_failed();
    assert!(reason.contains("letter.txt"), "{reason}");
    assert_eq!(streamer.wait().code(), Some(1));
}

#[test]
fn an_absent_camera_is_named_and_worth_another_try() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    let source = Source::V4l2 { device: "/dev/video99".into(), audio_device: None };
    agent.send(&ToStreamer::Start(Box::new(start(source, relay.address))));
    let (reason, next_step, retry) = agent.wait_failed();
    assert!(reason.contains("/dev/video99"), "{reason}");
    assert!(next_step.contains("plug"), "{next_step}");
    assert!(retry);
    assert_eq!(streamer.wait().code(), Some(1));
}

#[test]
fn a_lan_address_cannot_open_a_file_and_its_credentials_stay_hidden() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    let source = Source::Lan { uri: Secret::new("file://ann:s3cret@host/etc/passwd") };
    agent.send(&ToStreamer::Start(Box::new(start(source, relay.address))));
    let (reason, _, retry) = agent.wait_failed();
    assert!(reason.contains("rtsp") && !reason.contains("s3cret"), "{reason}");
    assert!(!retry);
    assert_eq!(streamer.wait().code(), Some(1));
    assert!(!streamer.log().contains("s3cret"));
}

#[test]
fn a_termination_signal_stops_it_in_order() {
    let relay = Relay::listen();
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(start(test_source(), relay.address))));
    agent.wait_running();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(streamer.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    agent.wait_for("Ended", |message| (*message == FromStreamer::State(StreamerState::Ended)).then_some(()));
    assert_eq!(streamer.wait().code(), Some(0));
}
