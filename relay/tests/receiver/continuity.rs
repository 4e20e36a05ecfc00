//! The stream outlives the sender: one RTMP session and one timeline over a sender that is started anew, and over an outage of
//! all links. What the platform has must decode without a complaint.

use crate::support::{Codec, Packet, Platform, Receiver, Sender, decode, packets, until};
use protocol::worker::receiver::ReceiverState;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// What the platform got before and after each interruption.
const BYTES: u64 = 500_000;
/// How long nothing comes.
const OUTAGE: Duration = Duration::from_secs(4);

/// A path that can be cut: everything is dropped, in both directions.
async fn path(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(to).await.unwrap();
    let address = near.local_addr().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    tokio::spawn(async move {
        let (mut up, mut down, mut sender) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((count, from)) = near.recv_from(&mut up) => {
                    sender = Some(from);
                    if !is_cut.load(Ordering::Relaxed) {
                        let _ = far.send(&up[..count]).await;
                    }
                }
                Ok(count) = far.recv(&mut down) => {
                    if let Some(sender) = sender && !is_cut.load(Ordering::Relaxed) {
                        let _ = near.send_to(&down[..count], sender).await;
                    }
                }
            }
        }
    });
    (address, cut)
}

/// Goes back in neither track; the one gap in the pictures is between these bounds, and a key frame ends it.
fn judge(file: &Path, gap_min: Duration, gap_max: Duration) {
    let packets = packets(file);
    let (video, audio): (Vec<Packet>, Vec<Packet>) = packets.iter().partition(|packet| packet.video);
    assert!(video.len() > 50 && audio.len() > 50, "{} pictures, {} sounds", video.len(), audio.len());
    for track in [&video, &audio] {
        for pair in track.windows(2) {
            assert!(pair[1].dts > pair[0].dts, "decoding time goes back: {pair:?}");
        }
    }
    assert!(video[0].key, "a session begins with a key frame");
    let gaps: Vec<&[Packet]> = video.windows(2).filter(|pair| pair[1].dts - pair[0].dts > 0.5).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = gaps[0][1].dts - gaps[0][0].dts;
    assert!(gap >= gap_min.as_secs_f64() && gap <= gap_max.as_secs_f64(), "{gap} s, not {gap_min:?} to {gap_max:?}");
    assert!(gaps[0][1].key, "the picture returns with a key frame");
    let (complaints, pictures) = decode(file);
    assert_eq!(complaints, "");
    assert_eq!(pictures, video.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sender_goes_on_in_the_same_session_on_the_same_timeline() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start(&directory.path().join("came.flv"));
    let outputs = vec![platform.output()];
    let receiver = Receiver::start(&directory.path().join("stream"), "127.0.0.1:0", outputs, &[]).await;
    let sender = Sender::start(receiver.listen, Codec::H264);
    receiver.delivers("rtmp", BYTES).await;
    let began = Instant::now();
    drop(sender);
    tokio::time::sleep(OUTAGE).await;
    assert!(matches!(receiver.state(), Some(ReceiverState::Interrupted { .. })), "{:?}", receiver.state());
    let again = Instant::now();
    let sender = Sender::start(receiver.listen, Codec::H264);
    until("media again", || async { matches!(receiver.state(), Some(ReceiverState::Receiving { .. })).then_some(()) })
        .await;
    let ended = Instant::now();
    receiver.delivers("rtmp", BYTES).await;
    assert!(receiver.events().iter().any(|text| text.contains("began anew")), "{:?}", receiver.events());
    drop(sender);
    receiver.stop().await;
    platform.finish().await;
    judge(&platform.file, again - began, ended - began + Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_all_links_is_a_gap_that_ends_with_a_key_frame() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start(&directory.path().join("came.flv"));
    let outputs = vec![platform.output()];
    let receiver = Receiver::start(&directory.path().join("stream"), "127.0.0.1:0", outputs, &[]).await;
    let (through, cut) = path(receiver.listen).await;
    let sender = Sender::start(through, Codec::H264);
    receiver.delivers("rtmp", BYTES).await;
    cut.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(OUTAGE).await;
    cut.store(false, Ordering::Relaxed);
    receiver.delivers("rtmp", BYTES).await;
    let ended = Instant::now();
    drop(sender);
    receiver.stop().await;
    platform.finish().await;
    // What was sent last before the cut may be repaired after it; a GOP may pass until the next key frame.
    judge(&platform.file, Duration::from_secs(1), ended - began);
}
