//! Cameras, drones, phones and encoder programs on the device's network, judged by what comes out of the bond.

use crate::media::{AAC_FRAME, FRAME, finish};
use crate::rig::{Agent, PATIENCE, Relay, Streamer, start, test_source};
use free_ports::{free_pair, free_tcp_port};
use protocol::worker::streamer::{FromStreamer, Source, StreamerState, ToStreamer};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use units::Secret;

/// A streamer that was told to take `uri`, its agent's end, and the relay's.
fn streamer_with(uri: String) -> (Streamer, Agent, Relay) {
    let relay = Relay::listen();
    let mut order = start(test_source(), relay.address);
    order.source = Source::Lan { uri: Secret::new(uri) };
    let streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(order)));
    agent.wait_for("Opening", |message| (*message == FromStreamer::State(StreamerState::Opening)).then_some(()));
    (streamer, agent, relay)
}

/// Calls again until the streamer runs, as such devices do.
fn push_until_running(streamer: &Streamer, agent: &mut Agent, camera: impl Fn() -> Child) -> Child {
    let until = Instant::now() + PATIENCE;
    let mut child = camera();
    while agent.poll_running().is_none() {
        assert!(Instant::now() < until, "{}", streamer.log());
        if child.try_wait().unwrap().is_some() {
            child = camera();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child
}

fn end(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// An encoder program pushes to the device, as all of them do: it is let in by its key, lost, and taken back.
#[test]
fn an_rtmp_sender_pushes_to_the_device_and_is_taken_back() {
    let port = free_tcp_port();
    let (mut streamer, mut agent, relay) = streamer_with(format!("rtmp://127.0.0.1:{port}/live/cam-key?mode=listener"));
    let target = format!("rtmp://127.0.0.1:{port}/live/cam-key");
    let sender = push_until_running(&streamer, &mut agent, || camera_as("flv", &target));
    std::thread::sleep(Duration::from_secs(3));
    end(sender);
    agent.wait_event("opening it again");
    let until = Instant::now() + PATIENCE;
    let mut sender = camera_as("flv", &target);
    while !agent.has_event("is back after") {
        assert!(Instant::now() < until, "{}", streamer.log());
        if sender.try_wait().unwrap().is_some() {
            sender = camera_as("flv", &target);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(2));
    let media = finish(&mut streamer, &mut agent, relay);
    end(sender);
    assert_eq!((media.video_codec.as_str(), media.width, media.height), ("h264", 320, 180));
    assert!(media.decoded_frames > 75, "{} pictures", media.decoded_frames);
    let times: Vec<i64> = media.video.iter().map(|packet| packet.pts).collect();
    assert!(times.is_sorted(), "time never goes back: {times:?}");
    assert!(media.audio_rms_db > -40.0, "the tone is there: {} dB", media.audio_rms_db);
    assert!(!streamer.log().contains("cam-key"), "the stream key is in the log");
}

/// Who does not know the key, does not speak RTMP or says nothing stays outside, and the right one is let in afterwards.
#[test]
fn an_rtmp_sender_with_a_wrong_key_is_refused_and_garbage_is_survived() {
    let port = free_tcp_port();
    let (mut streamer, mut agent, relay) = streamer_with(format!("rtmp://:{port}/live/right"));
    let until = Instant::now() + PATIENCE;
    let mut stranger = loop {
        match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}: {}", streamer.log()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    std::io::Write::write_all(&mut stranger, &[0xFF; 4000]).unwrap();
    drop(stranger);
    let refused = camera_as("flv", &format!("rtmp://127.0.0.1:{port}/live/wrong")).wait().unwrap();
    assert!(!refused.success(), "ffmpeg was let in with a wrong key");
    let target = format!("rtmp://127.0.0.1:{port}/live/right");
    let sender = push_until_running(&streamer, &mut agent, || camera_as("flv", &target));
    std::thread::sleep(Duration::from_secs(2));
    let media = finish(&mut streamer, &mut agent, relay);
    end(sender);
    assert!(media.decoded_frames > 25, "{} pictures of 2 s", media.decoded_frames);
    let log = streamer.log();
    assert!(log.contains("stream key is not the one") && !log.contains("/right"), "{log}");
}

/// GStreamer's RTSP server, as many cameras have one: H.264 and AAC, below /cam; with a password when `user` is given.
fn rtsp_camera(port: u16, user: bool) -> Child {
    const SCRIPT: &str = r"
import gi, sys
gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address('127.0.0.1'); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_shared(True)
factory.set_launch('( videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1'
    ' ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96'
    ' audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! rtpmp4gpay name=pay1 pt=97 )')
if sys.argv[2] == 'user':
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken(); token.set_string('media.factory.role', 'user')
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic('ann', 's3cret'), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role('user', 'media.factory.access', True)
    permissions.add_permission_for_role('user', 'media.factory.construct', True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory('/cam', factory)
server.attach(None); print('ready', flush=True); GLib.MainLoop().run()
";
    let mut server = Command::new("/usr/bin/python3")
        .args(["-c", SCRIPT, &port.to_string(), if user { "user" } else { "open" }])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Debian's python3 is there");
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the package gir1.2-gst-rtsp-server-1.0 is installed by `make test`");
    server
}

#[test]
fn an_rtsp_camera_is_a_source_lost_and_taken_back() {
    let port = free_tcp_port();
    let camera = rtsp_camera(port, true);
    let (mut streamer, mut agent, relay) = streamer_with(format!("rtsp://ann:s3cret@127.0.0.1:{port}/cam"));
    agent.wait_running();
    std::thread::sleep(Duration::from_secs(3));
    end(camera);
    let lost = agent.wait_event("opening it again");
    assert!(lost.contains(&format!("rtsp://127.0.0.1:{port}/cam")), "{lost}");
    let camera = rtsp_camera(port, true);
    agent.wait_event("is back after");
    std::thread::sleep(Duration::from_secs(2));
    let media = finish(&mut streamer, &mut agent, relay);
    end(camera);
    assert_eq!((media.video_codec.as_str(), media.width, media.height), ("h264", 320, 180));
    assert!(media.decoded_frames > 75, "{} pictures", media.decoded_frames);
    let times: Vec<i64> = media.video.iter().map(|packet| packet.pts).collect();
    assert!(times.is_sorted(), "time never goes back: {times:?}");
    assert!(media.audio_rms_db > -40.0, "the tone is there: {} dB", media.audio_rms_db);
    assert!(!streamer.log().contains("s3cret"), "the password is in the log");
}

/// What a crew reads when it does not work: which source, why, what to try; never the password.
#[test]
fn a_lan_source_that_cannot_be_opened_says_why() {
    let port = free_tcp_port();
    let server = rtsp_camera(port, true);
    let closed = free_tcp_port();
    let cases = [
        (format!("rtsp://ann:wr0ng@127.0.0.1:{port}/cam"), "nauthorized"),
        (format!("rtsp://ann:s3cret@127.0.0.1:{port}/nothing"), "ot found"),
        (format!("rtsp://127.0.0.1:{closed}/cam"), "onnect"),
        (format!("rtmp://127.0.0.1:{closed}/live/s3cret"), "onnect"),
        (format!("rtmp://127.0.0.1:{port}/live/s3cret?mode=listener"), "in use"),
        ("http://127.0.0.1/cam".to_owned(), "rtmp"),
    ];
    for (uri, why) in cases {
        let (mut streamer, mut agent, relay) = streamer_with(uri.clone());
        let (reason, next_step, _) = agent.wait_failed();
        println!("{uri}: {reason}; {next_step}");
        assert!(reason.contains(why), "{uri}: {reason}");
        let scheme = uri.split("//").next().unwrap();
        assert!(reason.contains(&format!("{scheme}//127.0.0.1")), "the source is named: {reason}");
        assert!(!reason.contains("s3cret") && !reason.contains("wr0ng"), "{reason}");
        assert!(next_step.contains("address"), "{next_step}");
        assert!(!streamer.wait().success());
        drop(relay);
    }
    end(server);
}

/// A camera on the network: comes, goes, comes back; the stream and its sound go on meanwhile.
#[test]
fn a_network_source_that_comes_back_is_taken_up_again() {
    let port = free_pair();
    let relay = Relay::listen();
    let mut order = start(test_source(), relay.address);
    order.source = Source::Lan { uri: Secret::new(format!("udp://127.0.0.1:{port}")) };
    let mut camera = camera(port);
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(order)));
    agent.wait_running();
    std::thread::sleep(Duration::from_secs(2));
    camera.kill().unwrap();
    camera.wait().unwrap();
    let lost = agent.wait_event("no picture");
    assert!(lost.contains("opening it again"), "{lost}");
    let silent_from = relay.bytes();
    std::thread::sleep(Duration::from_secs(1));
    assert!(relay.bytes() > silent_from, "sound goes on");
    let mut camera = self::camera(port);
    agent.wait_event("is back after");
    std::thread::sleep(Duration::from_secs(2));
    let media = finish(&mut streamer, &mut agent, relay);
    camera.kill().unwrap();
    camera.wait().unwrap();
    assert!(media.decoded_frames > 75, "{} pictures", media.decoded_frames);
    let times: Vec<i64> = media.video.iter().map(|packet| packet.pts).collect();
    assert!(times.is_sorted(), "time never goes back: {times:?}");
    assert!(media.audio_steps().iter().all(|&step| (step - AAC_FRAME).abs() <= 90), "{:?}", media.audio_steps());
}

/// A drone or phone that calls the device by SRT.
#[test]
fn an_srt_caller_is_a_source() {
    let port = free_pair();
    let relay = Relay::listen();
    let mut order = start(test_source(), relay.address);
    order.source = Source::Lan { uri: Secret::new(format!("srt://127.0.0.1:{port}?mode=listener")) };
    let mut streamer = Streamer::spawn();
    let mut agent = streamer.connect();
    agent.send(&ToStreamer::Start(Box::new(order)));
    agent.wait_for("Opening", |message| (*message == FromStreamer::State(StreamerState::Opening)).then_some(()));
    // A caller gives up when nobody listens yet: it calls again, as such devices do.
    let until = Instant::now() + PATIENCE;
    let mut caller = camera_to(&format!("srt://127.0.0.1:{port}?mode=caller"));
    while agent.poll_running().is_none() {
        assert!(Instant::now() < until, "{}", streamer.log());
        if caller.try_wait().unwrap().is_some() {
            caller = camera_to(&format!("srt://127.0.0.1:{port}?mode=caller"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(3));
    let media = finish(&mut streamer, &mut agent, relay);
    drop(caller.kill());
    caller.wait().unwrap();
    assert!(media.decoded_frames > 50, "{} pictures of 3 s", media.decoded_frames);
    assert_eq!(media.video_steps(), [FRAME]);
    assert!(media.audio_rms_db > -40.0, "the tone is there: {} dB", media.audio_rms_db);
}

fn camera(port: u16) -> Child {
    camera_to(&format!("udp://127.0.0.1:{port}?pkt_size=1316"))
}

fn camera_to(target: &str) -> Child {
    camera_as("mpegts", target)
}

fn camera_as(format: &str, target: &str) -> Child {
    Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", format, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ffmpeg is installed by `make test`")
}
