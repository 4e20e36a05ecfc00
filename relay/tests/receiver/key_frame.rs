//! A receiver that is started again in the middle of a group of pictures: its recording's part and its outputs begin with a
//! key frame.

use crate::support::{Codec, Platform, Receiver, Sender, decode, own, packets, until};
use protocol::worker::receiver::OutputTarget;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn parts(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("recording")).into_iter().flatten();
    let mut parts: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "ts"));
    parts.sort();
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_receivers_recording_and_outputs_begin_with_a_key_frame() {
    let directory = tempfile::tempdir().unwrap();
    let stream = directory.path().join("stream");
    let recording = || own("recording", OutputTarget::Recording);
    let first = Receiver::start(&stream, "127.0.0.1:0", vec![recording()], &[]).await;
    let listen = first.listen;
    let sender = Sender::start(listen, Codec::H264);
    first.delivers("recording", 200_000).await;
    first.kill();
    let mut platform = Platform::start(&directory.path().join("came.flv"));
    let outputs = vec![recording(), platform.output()];
    let second = Receiver::start(&stream, &listen.to_string(), outputs, &[]).await;
    second.delivers("rtmp", 400_000).await;
    second.delivers("recording", 100_000).await;
    drop(sender);
    second.runs_dry().await;
    second.stop().await;
    platform.finish().await;

    let parts = until("the second part", || async { Some(parts(&stream)).filter(|parts| parts.len() == 2) }).await;
    for part in [parts[1].as_path(), &platform.file] {
        let packets = packets(part);
        assert!(packets.iter().find(|packet| packet.video).unwrap().key, "{}", part.display());
        let (complaints, pictures) = decode(part);
        assert_eq!(complaints, "", "{}", part.display());
        assert!(pictures >= 25, "{pictures} pictures in {}", part.display());
    }
    let gaps = std::fs::read_to_string(stream.join("recording/gaps.jsonl")).unwrap();
    let kinds: Vec<Value> =
        gaps.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert!(kinds.contains(&"receiver-restarted".into()), "{kinds:?}");
}
