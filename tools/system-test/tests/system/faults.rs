//! Programs killed and links cut in the middle of a stream: what the design promises.

use crate::rig::{ON_AIR_TIME_MAX, Rig, source};
use daemon::spawn::is_running;
use nix::sys::signal::Signal;
use std::time::Duration;
use system_test::lab::program::signal;
use system_test::media::{hls, judge, recording};
use tokio::time::{Instant, sleep};

/// Media as it was is seen for this long before and after a fault.
const CALM: Duration = Duration::from_secs(4);
/// How long a killed control process stays away.
const AWAY: Duration = Duration::from_secs(6);
/// How soon a killed media process must be replaced and its media back.
const MEDIA_BACK_MAX: Duration = Duration::from_secs(15);

/// A stream of 1.5 Mbit/s has about 140 payloads a second; a frozen count has none.
const PAYLOADS_A_SECOND_MIN: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_leaves_the_stream_alone_and_comes_back_to_it() {
    let mut rig = Rig::set_up("kill-agent").await;
    let stream = rig.go_live().await;
    rig.readers_reached(1, Duration::from_secs(10)).await;
    let streamer = rig.lab.worker("strata-streamer").unwrap();
    let before = rig.delivered(&stream).await;
    rig.lab.agent.take().unwrap().kill().unwrap();
    sleep(AWAY).await;

    let state = rig.lab.dashboard.stream(&stream).await.unwrap();
    assert_eq!(state["on_air"], true, "ON AIR is the relay's word and does not need the agent: {state}");
    let after = rig.delivered(&stream).await;
    assert!(after - before >= PAYLOADS_A_SECOND_MIN * AWAY.as_secs(), "{before} -> {after}");

    rig.lab.start_agent(None).await.unwrap();
    let fresh = |state: &serde_json::Value| state["sender"]["age_ms"].as_u64().is_some_and(|age| age < 2000);
    rig.until(&stream, "measured by the new agent", Duration::from_secs(15), fresh).await;
    assert_eq!(rig.lab.worker("strata-streamer"), Some(streamer), "the streamer is the same one");
    sleep(CALM).await;

    let seconds = rig.srt.figures().frames as f64 / 25.0;
    rig.stop(&stream).await; // by the new agent: it holds the streamer
    assert!(!is_running(streamer));
    expect_one_unbroken_connection(rig, seconds - 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_leaves_the_stream_alone_and_adopts_it_again() {
    let mut rig = Rig::set_up("kill-relay").await;
    let stream = rig.go_live().await;
    rig.readers_reached(1, Duration::from_secs(10)).await;
    let receiver = rig.lab.worker("strata-receiver").unwrap();
    let delivered_before = rig.delivered(&stream).await;
    let frames_before = [rig.rtmp.figures().frames, rig.srt.figures().frames];
    let hls = rig.lab.stream_directory(&stream).join("hls/live.m3u8");
    let playlist_before = std::fs::read_to_string(&hls).unwrap();
    rig.lab.relay.take().unwrap().kill().unwrap();
    sleep(AWAY).await;

    for (before, reader) in frames_before.iter().zip([&rig.rtmp, &rig.srt]) {
        let after = reader.figures().frames;
        assert!(
            after - before >= 20 * AWAY.as_secs(),
            "an output stood still while the relay was away: {before} -> {after}"
        );
    }
    assert_ne!(std::fs::read_to_string(&hls).unwrap(), playlist_before, "HLS goes on without the relay");

    rig.lab.start_relay().await.unwrap();
    rig.lab.log_in().await.unwrap();
    let adopted = |state: &serde_json::Value| {
        let delivered = state["receiver"]["delivered"].as_u64();
        state["on_air"] == true && delivered.is_some_and(|delivered| delivered > delivered_before)
    };
    rig.until(&stream, "adopted", Duration::from_secs(15), adopted).await;
    assert_eq!(rig.lab.worker("strata-receiver"), Some(receiver), "the receiver is the same one");
    let device_is_back = |state: &serde_json::Value| state["sender"]["age_ms"].as_u64().is_some_and(|age| age < 2000);
    // The agent's reconnect waits with backoff and jitter.
    rig.until(&stream, "measured by the device", Duration::from_secs(40), device_is_back).await;
    sleep(CALM).await;

    let seconds = rig.srt.figures().frames as f64 / 25.0;
    rig.stop(&stream).await;
    assert!(!is_running(receiver));
    expect_one_unbroken_connection(rig, seconds - 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_receiver_is_replaced_and_every_output_returns() {
    let mut rig = Rig::set_up("kill-receiver").await;
    let stream = rig.go_live().await;
    rig.readers_reached(1, Duration::from_secs(10)).await;
    sleep(CALM).await;
    let receiver = rig.lab.worker("strata-receiver").unwrap();
    let parts = rig.lab.stream_directory(&stream).join("recording");
    let parts_before = recording::parts(&parts).unwrap().len();
    signal(receiver, Signal::SIGKILL);
    let killed = Instant::now();
    rig.readers_reached(2, MEDIA_BACK_MAX).await;
    println!("outputs are back after {:.1} s", killed.elapsed().as_secs_f64());
    rig.until(&stream, "on air again", MEDIA_BACK_MAX, |state| state["on_air"] == true).await;
    assert_ne!(rig.lab.worker("strata-receiver"), Some(receiver));
    sleep(CALM + CALM).await;

    let viewed = rig.file("hls-as-viewed.ts");
    hls::fetch(&mut rig.lab.dashboard, &stream, &viewed).await.unwrap();
    rig.stop(&stream).await;
    assert!(recording::parts(&parts).unwrap().len() > parts_before, "recording goes on in new parts");
    let source = source();
    // Nothing of what was there before the kill is damaged; what came after it begins within a group of pictures.
    let parts = recording::parts(&parts).unwrap();
    let (before, after) = (&parts[parts_before - 1], &parts[parts_before]);
    judge(before, &source).unwrap().expect_unbroken(CALM.as_secs_f64() - 1.0).unwrap();
    judge(after, &source).unwrap().expect_content(CALM.as_secs_f64()).unwrap();
    judge(&viewed, &source).unwrap().expect_content(3.0).unwrap();
    let [rtmp, srt] = rig.take_down().await;
    for file in [&rtmp.files[1], &srt.files[1]] {
        let verdict = judge(file, &source).unwrap();
        println!("{}: {verdict}", file.display());
        verdict.expect_unbroken(CALM.as_secs_f64()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_streamer_is_started_again_with_the_same_stream() {
    let mut rig = Rig::set_up("kill-streamer").await;
    let stream = rig.go_live().await;
    rig.readers_reached(1, Duration::from_secs(10)).await;
    let streamer = rig.lab.worker("strata-streamer").unwrap();
    signal(streamer, Signal::SIGKILL);
    let killed = Instant::now();
    let second = loop {
        match rig.lab.worker("strata-streamer").filter(|pid| *pid != streamer) {
            Some(second) => break second,
            None => assert!(killed.elapsed() < MEDIA_BACK_MAX, "no new streamer"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    println!("a new streamer runs after {:.1} s", killed.elapsed().as_secs_f64());
    let on_air = |state: &serde_json::Value| state["on_air"] == true;
    sleep(AWAY).await; // the old one's last media is out by now
    rig.until(&stream, "on air again", ON_AIR_TIME_MAX, on_air).await;
    assert_eq!(rig.lab.worker("strata-streamer"), Some(second), "the new one lives");
    let frames = [rig.rtmp.figures().frames, rig.srt.figures().frames];
    sleep(CALM).await;
    for (before, reader) in frames.iter().zip([&rig.rtmp, &rig.srt]) {
        assert!(reader.figures().frames > before + 50, "an output does not carry the new picture");
        assert_eq!(reader.figures().connections, 1, "an output's session outlives the sender");
    }
    rig.stop(&stream).await;
    rig.take_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_link_and_a_new_address_lose_nothing() {
    let mut rig = Rig::set_up("links").await;
    let stream = rig.go_live().await;
    rig.readers_reached(1, Duration::from_secs(10)).await;
    sleep(CALM).await;
    rig.lab.emulator.kill(0).await.unwrap();
    sleep(CALM).await;
    rig.lab.emulator.heal(0).await.unwrap();
    rig.lab.emulator.rebind(1).await.unwrap();
    sleep(CALM).await;

    let state = rig.lab.dashboard.stream(&stream).await.unwrap();
    assert_eq!((&state["on_air"], &state["receiver"]["lost"]), (&true.into(), &0.into()), "{state}");
    let seconds = rig.srt.figures().frames as f64 / 25.0;
    rig.stop(&stream).await;
    expect_one_unbroken_connection(rig, seconds - 1.0).await;
}

async fn expect_one_unbroken_connection(rig: Rig, seconds_min: f64) {
    let source = source();
    for reader in rig.take_down().await {
        assert_eq!(reader.connections, 1, "{reader:?}");
        let verdict = judge(&reader.files[0], &source).unwrap();
        println!("{}: {verdict}", reader.files[0].display());
        verdict.expect_unbroken(seconds_min).unwrap();
    }
}
