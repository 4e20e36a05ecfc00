//! A disk that fills up while a stream records: the reason is told, everything else goes on, and so does the recording when there
//! is room again.

use crate::small_disk::{SmallDisk, fill};
use crate::support::{Codec, Platform, Receiver, Sender, decode, own, packets};
use protocol::state::OutputState;
use protocol::worker::receiver::OutputTarget;
use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_recording_only_and_it_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let stream = directory.path().join("stream");
    let Some(_disk) = SmallDisk::mount(&stream, 24 << 20) else { return };
    let mut platform = Platform::start(&directory.path().join("came.flv"));
    let outputs = vec![own("recording", OutputTarget::Recording), own("hls", OutputTarget::Hls), platform.output()];
    let receiver = Receiver::start(&stream, "127.0.0.1:0", outputs, &[]).await;
    let sender = Sender::start(receiver.listen, Codec::H264);
    receiver.delivers("recording", 200_000).await;

    // Somebody else fills the disk to the last byte.
    let other = fill(&stream);
    for id in ["recording", "hls"] {
        let state = receiver.output_is(id, "failing", |state| matches!(state, OutputState::Failed { .. })).await;
        let OutputState::Failed { reason } = state else { unreachable!() };
        assert!(reason.contains("full") && reason.contains("free some space"), "{id}: {reason}");
    }
    receiver.delivers("rtmp", 500_000).await;
    assert!(matches!(receiver.output("rtmp").unwrap().state, OutputState::Active), "the platform notices nothing");
    let told =
        |events: Vec<String>| events.iter().filter(|text| text.contains("recording") && text.contains("full")).count();
    assert_eq!(told(receiver.events()), 1, "told once: {:?}", receiver.events());

    std::fs::remove_file(&other).unwrap();
    for id in ["recording", "hls"] {
        receiver.output_is(id, "delivering again", |state| matches!(state, OutputState::Active)).await;
    }
    receiver.delivers("recording", 200_000).await;
    receiver.delivers("hls", 200_000).await;
    drop(sender);
    receiver.runs_dry().await;
    receiver.stop().await;
    platform.finish().await;
    assert_eq!(decode(&platform.file).0, "");

    let gaps = std::fs::read_to_string(stream.join("recording/gaps.jsonl")).unwrap();
    assert!(gaps.contains("not-stored"), "{gaps}");
    let mut parts: Vec<PathBuf> =
        std::fs::read_dir(stream.join("recording")).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "ts"));
    parts.sort();
    let last = parts.last().unwrap();
    assert!(parts.len() >= 2 && packets(last).iter().find(|packet| packet.video).unwrap().key);
    assert_eq!(decode(last).0, "", "the new part decodes by itself");
    for part in &parts {
        assert_eq!(std::fs::metadata(part).unwrap().len() % 188, 0, "whole packets only");
    }
    let playlist = std::fs::read_to_string(stream.join("hls/live.m3u8")).unwrap();
    assert!(playlist.contains("#EXT-X-DISCONTINUITY\n") && playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
}
