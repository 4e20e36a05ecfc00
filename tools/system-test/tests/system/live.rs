//! The main job: enrol, go live, media out of every output, stop.

use crate::rig::{DESTINATION_KEY, LATENCY_MS, Rig, source};
use crate::secrets;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use system_test::media::{hls, judge, recording};
use tokio::time::{Instant, sleep};

/// How long the stream is watched.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn media_reaches_every_output_unharmed() {
    let mut rig = Rig::set_up("live").await;
    let stream = rig.go_live().await;
    let live_since = Instant::now();
    rig.readers_reached(1, Duration::from_secs(10)).await;
    sleep(WATCHED.saturating_sub(live_since.elapsed())).await;

    let state = rig.lab.dashboard.stream(&stream).await.unwrap();
    check_figures(&state);
    let viewed = rig.file("hls-as-viewed.ts");
    let segments = hls::fetch(&mut rig.lab.dashboard, &stream, &viewed).await.unwrap();
    assert!(segments.len() >= 3, "{segments:?}");

    let password = rig.lab.password().unwrap();
    let secrets = [DESTINATION_KEY, password.as_str()];
    secrets::check_arguments(&rig, &secrets);

    let ended = rig.stop(&stream).await;
    let live_for = live_since.elapsed().as_secs_f64();
    assert_eq!(ended["on_air"], false);
    let whole = rig.file("recording-whole.ts");
    recording::join(&rig.lab.stream_directory(&stream).join("recording"), &whole).unwrap();
    secrets::check_files(&rig.lab.options().directory, &secrets);
    let [rtmp, srt] = rig.take_down().await;
    assert_eq!((rtmp.connections, srt.connections), (1, 1), "outputs must not reconnect: {rtmp:?} {srt:?}");

    let source = source();
    // The readers connect after ON AIR and need a key frame; a recording begins with the first one.
    let expected: [(&str, &Path, f64); 4] = [
        ("RTMP", &rtmp.files[0], live_for - 6.0),
        ("SRT", &srt.files[0], live_for - 6.0),
        ("HLS", &viewed, 3.0),
        ("recording", &whole, live_for - 3.0),
    ];
    for (name, file, seconds_min) in expected {
        let verdict = judge(file, &source).unwrap();
        println!("{name}: {verdict}");
        verdict.expect_unbroken(seconds_min).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

fn check_figures(state: &Value) {
    let receiver = &state["receiver"];
    assert_eq!(receiver["lost"], 0, "{receiver}");
    assert!(receiver["recovered"].as_u64().unwrap() > 0, "lossy links must have needed repair: {receiver}");
    assert_eq!(receiver["latency_ms"], LATENCY_MS, "{receiver}");
    let links = receiver["links"].as_array().unwrap();
    let names: Vec<_> = links.iter().map(|link| link["name"].as_str().unwrap()).collect();
    assert_eq!(links.len(), 3, "{links:?}");
    for number in 1..=3 {
        let name = format!("Modem {number}");
        assert!(names.iter().any(|given| given.starts_with(&name)), "{name} is not among {names:?}");
    }
    for link in links {
        assert!(link["packets"].as_u64().unwrap() > 0, "{link}");
        assert!(link["rtt_ms"].as_f64().unwrap() >= 40.0, "each link has at least 40 ms of delay: {link}");
    }
    let size = receiver["media"]["size"].as_str();
    assert_eq!(size, Some("1280x720"), "{receiver}");
    let sender = &state["sender"];
    assert!(sender["packets_in"].as_u64().unwrap() > 100, "{sender}");
    assert!(sender["age_ms"].as_u64().unwrap() < 3000, "{sender}");
    let active = |output: &Value| output["state"]["state"] == "active";
    let outputs = state["outputs"].as_array().unwrap();
    assert!(outputs.len() == 4 && outputs.iter().all(active), "{outputs:?}");
}
