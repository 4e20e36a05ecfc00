//! Streams through a real relay process and real receiver processes: start, stop, refusal, and each side killed in turn.
//!
//! The receivers here speak the real worker socket and receive no media: each says what its script file tells it to. Media
//! itself is tested in `tools/system-test`.
#![allow(clippy::unwrap_used)] // helpers of tests may, as tests may

mod support;

use daemon::socket::Listener;
use protocol::command::{Command, CommandReport, Notice, Outcome, Rejection};
use protocol::envelope::{Body, Envelope};
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::state::{DeviceEvent, DeviceState, Presence, Settings, StreamingState};
use protocol::stream::StreamSpec;
use protocol::worker::receiver::{FromReceiver, ReceiverState, ReceiverStats, StartReceiver, ToReceiver};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, Subscribe, SubscribeFilter};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Identity, Operator, RelayProcess, SOON, Wire, eventually};
use tokio::time::timeout;
use units::StreamId;
use uuid::Uuid;

/// Where a receiver finds its socket; set only for its process.
const SOCKET: &str = "STRATA_TEST_SOCKET";

/// Not a test: the receiver process. Says "receiving" as soon as the file `media` lies in its directory, keeps what it was
/// started with in `started.json`, and ends on `Stop`.
#[tokio::test]
#[ignore = "started by the relay as a process of its own"]
async fn receiver() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let socket = PathBuf::from(socket);
    let directory = socket.parent().unwrap().to_owned();
    let listener = Listener::bind(&socket, WORKER_LINE_BYTES_MAX).await.unwrap();
    let mut started: Option<StartReceiver> = None;
    let mut state = ReceiverState::Waiting;
    loop {
        let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        let Ok(connection) = accepted else {
            // Nobody is left to stop it once the test is over and its directory gone.
            if directory.exists() {
                continue;
            }
            return;
        };
        let (mut reader, mut writer) = connection.unwrap().split();
        let hello = FromReceiver::Hello {
            pid: std::process::id(),
            version: "test".to_owned(),
            stream: started.as_ref().map(|it| it.stream.clone()),
            state: state.clone(),
        };
        writer.send(&hello).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            let next = tokio::select! {
                next = reader.next::<ToReceiver>() => next.unwrap_or(None),
                _ = tick.tick() => {
                    let Some(start) = &started else { continue };
                    let media = directory.join("media").exists();
                    let now = match (&state, media) {
                        (ReceiverState::Receiving { .. }, true) => state.clone(),
                        (_, true) => ReceiverState::Receiving { for_ms: 0 },
                        (ReceiverState::Receiving { .. } | ReceiverState::Interrupted { .. }, false) => {
                            ReceiverState::Interrupted { for_ms: 0 }
                        }
                        _ => ReceiverState::Ready { listen: start.listen },
                    };
                    if std::mem::discriminant(&now) != std::mem::discriminant(&state) {
                        state = now;
                        let _ = writer.send(&FromReceiver::State(state.clone())).await;
                    }
                    let stats = ReceiverStats { delivered: 7, latency_ms: start.latency_ms, ..ReceiverStats::default() };
                    let _ = writer.send(&FromReceiver::Stats(Box::new(stats))).await;
                    continue;
                }
            };
            match next {
                Some(ToReceiver::Start(start)) => {
                    std::fs::write(directory.join("started.json"), serde_json::to_string(&start).unwrap()).unwrap();
                    started = Some(*start);
                }
                Some(ToReceiver::Stop) => {
                    writer.send(&FromReceiver::State(ReceiverState::Ended)).await.unwrap();
                    drop(listener);
                    return;
                }
                Some(_) => {}
                None => break,
            }
        }
    }
}

/// A program that the relay starts with `--socket PATH`, and that is the receiver above.
fn receiver_program(directory: &Path) -> PathBuf {
    let path = directory.join("receiver.sh");
    let this = std::env::current_exe().unwrap();
    // The path stays among the arguments (as a filter that matches nothing), as with the real program.
    let text =
        format!("#!/bin/sh\n{SOCKET}=\"$2\" exec '{}' --ignored --exact receiver --nocapture \"$2\"\n", this.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A device that obeys.
struct Device {
    identity: Identity,
    wire: Wire,
}

impl Device {
    async fn connect(identity: &Identity, relay: &RelayProcess) -> Self {
        let mut device = Self { identity: identity.clone(), wire: identity.connect(relay.at.broker).await };
        let topics = ["down/command", "down/notice"].map(|it| identity.topic(it));
        let mut subscribe = Subscribe::new_many(topics.map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce }));
        subscribe.pkid = 3;
        device.wire.send(&Packet::Subscribe(subscribe)).await;
        device.say("up/presence", Presence::Online).await;
        device
    }

    async fn say<T: Body>(&mut self, topic: &str, body: T) {
        let payload = Envelope::new(Uuid::now_v7(), relay::clock::unix_ms(), body).emit();
        let mut publish = Publish::new(self.identity.topic(topic), QoS::AtLeastOnce, payload);
        publish.pkid = 7;
        self.wire.send(&Packet::Publish(publish)).await;
    }

    async fn report(&mut self, streaming: StreamingState) {
        let state = DeviceState::State {
            agent_version: "1".to_owned(),
            board: "test".to_owned(),
            settings: Settings { name: "Van".to_owned(), ..Settings::default() },
            streaming,
            inputs: Vec::new(),
            uplinks: Vec::new(),
        };
        self.say("up/state", state).await;
    }

    async fn next_publish(&mut self) -> Publish {
        timeout(SOON, async {
            loop {
                let packet = self.wire.next().await.expect("the relay stays connected");
                if let Packet::Publish(publish) = packet {
                    if publish.qos == QoS::AtLeastOnce {
                        self.wire.send(&Packet::PubAck(PubAck::new(publish.pkid))).await;
                    }
                    return publish;
                }
            }
        })
        .await
        .expect("a message in time")
    }

    /// The next command; notices are passed over.
    async fn command(&mut self) -> Envelope<Command> {
        loop {
            if let Ok(envelope) = Envelope::parse(&self.next_publish().await.payload) {
                return envelope;
            }
        }
    }

    /// Waits for a notice that the stream is on air, or not.
    async fn red_light(&mut self, wanted: bool) {
        loop {
            if let Ok(Envelope { body: Notice::StreamStatus { on_air, .. }, .. }) =
                Envelope::<Notice>::parse(&self.next_publish().await.payload)
                && on_air == wanted
            {
                return;
            }
        }
    }

    async fn answer(&mut self, command: Uuid, outcome: Outcome) {
        self.say("up/command-result", CommandReport::Result { command, outcome }).await;
    }

    /// Takes the start command, does it, and gives what was asked for.
    async fn obey_start(&mut self) -> StreamSpec {
        let envelope = self.command().await;
        let Command::StartStream { spec, .. } = envelope.body else { panic!("not a start: {:?}", envelope.body) };
        spec.check().unwrap();
        self.answer(envelope.id, Outcome::Accepted).await;
        self.report(StreamingState::Sending { stream: spec.stream.clone(), for_ms: 0 }).await;
        self.answer(envelope.id, Outcome::Done).await;
        *spec
    }

    async fn obey_stop(&mut self) -> StreamId {
        let envelope = self.command().await;
        let Command::StopStream { stream, .. } = envelope.body else { panic!("not a stop: {:?}", envelope.body) };
        self.report(StreamingState::Idle).await;
        self.answer(envelope.id, Outcome::Done).await;
        stream
    }
}

/// A relay with one device on it.
struct Scene {
    directory: tempfile::TempDir,
    program: PathBuf,
    identity: Identity,
    operator: Operator,
}

impl Scene {
    async fn new() -> (Self, RelayProcess, Device) {
        let directory = tempfile::tempdir().unwrap();
        let program = receiver_program(directory.path());
        let relay = RelayProcess::start_with(&directory.path().join("data"), &program, "info").await;
        let identity = relay.enrol("Van").await;
        let device = Device::connect(&identity, &relay).await;
        let operator = relay.log_in().await;
        let scene = Self { directory, program, identity, operator };
        scene.online().await;
        (scene, relay, device)
    }

    async fn online(&self) {
        let path = format!("/api/v1/devices/{}", self.identity.id());
        eventually("presence", || async { (self.operator.get(&path).await.json()["online"] == true).then_some(()) })
            .await;
    }

    async fn restart(&mut self) -> (RelayProcess, Device) {
        let relay = RelayProcess::start_with(&self.directory.path().join("data"), &self.program, "info").await;
        self.operator.at = relay.at.dashboard;
        let device = Device::connect(&self.identity, &relay).await;
        (relay, device)
    }

    async fn start(&self) -> String {
        let path = format!("/api/v1/devices/{}/start", self.identity.id());
        let answer = self.operator.post(&path, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["stream"].as_str().unwrap().to_owned()
    }

    async fn stop(&self) {
        let answer = self.operator.post(&format!("/api/v1/devices/{}/stop", self.identity.id()), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    async fn stream(&self, stream: &str) -> Value {
        self.operator.get(&format!("/api/v1/streams/{stream}")).await.json()
    }

    async fn reaches(&self, stream: &str, state: &str) -> Value {
        eventually(&format!("state {state}"), || async {
            let shown = self.stream(stream).await;
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    fn files(&self, stream: &str) -> PathBuf {
        self.directory.path().join("data/streams").join(stream)
    }

    fn media(&self, stream: &str, flows: bool) {
        let path = self.files(stream).join("media");
        if flows { std::fs::write(path, "").unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn started_with(&self, stream: &str) -> StartReceiver {
        serde_json::from_str(&std::fs::read_to_string(self.files(stream).join("started.json")).unwrap()).unwrap()
    }

    /// Starts a stream and brings it on air.
    async fn on_air(&self, device: &mut Device) -> (String, StreamSpec) {
        let stream = self.start().await;
        let spec = device.obey_start().await;
        self.media(&stream, true);
        let shown = self.reaches(&stream, "on-air").await;
        assert_eq!(shown["on_air"], true);
        (stream, spec)
    }
}

fn pid(shown: &Value) -> u32 {
    shown["receiver_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a receiver runs")
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_air_by_the_receivers_word_and_ends_in_order() {
    let (scene, relay, mut device) = Scene::new().await;
    let stream = scene.start().await;
    let spec = device.obey_start().await;
    let started = scene.started_with(&stream);
    assert_eq!((started.key.reveal(), started.listen.port()), (spec.key.reveal(), spec.receiver.port));
    assert_eq!(started.outputs.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["hls", "recording"]);
    // The device sends, nothing arrives: not on air.
    let shown = scene.stream(&stream).await;
    assert_eq!((shown["state"].as_str(), shown["on_air"].as_bool()), (Some("starting"), Some(false)));
    device.red_light(false).await;
    let busy = scene.operator.post(&format!("/api/v1/devices/{}/start", scene.identity.id()), &json!({})).await;
    assert_eq!((busy.status, busy.json()["error"].as_str()), (409, Some("busy")));

    scene.media(&stream, true);
    let shown = scene.reaches(&stream, "on-air").await;
    assert_eq!((shown["on_air"].as_bool(), shown["receiver"]["delivered"].as_u64()), (Some(true), Some(7)));
    assert!(shown["receiver"]["age_ms"].as_u64().unwrap() < 3000);
    device.red_light(true).await;
    scene.media(&stream, false);
    assert_eq!(scene.reaches(&stream, "interrupted").await["on_air"], false);
    device.red_light(false).await;
    scene.media(&stream, true);
    let receiver = pid(&scene.reaches(&stream, "on-air").await);

    scene.stop().await;
    assert_eq!(device.obey_stop().await.as_str(), stream);
    let shown = scene.reaches(&stream, "ended").await;
    assert_eq!(shown["reason"], "stopped by admin");
    assert!(!daemon::spawn::is_running(receiver));
    let texts: Vec<_> = shown["events"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("on air again")), "{texts:?}");
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_shown_with_its_reason_and_leaves_no_receiver() {
    let (scene, relay, mut device) = Scene::new().await;
    let stream = scene.start().await;
    let envelope = device.command().await;
    let receiver = pid(&scene.stream(&stream).await);
    let detail = "HDMI: no signal, check the cable".to_owned();
    device.answer(envelope.id, Outcome::Rejected { reason: Rejection::NoInput, detail }).await;
    let shown = scene.reaches(&stream, "failed").await;
    assert!(shown["reason"].as_str().unwrap().contains("HDMI: no signal"));
    assert!(!shown["next_step"].as_str().unwrap().is_empty());
    eventually("the receiver's end", || async { (!daemon::spawn::is_running(receiver)).then_some(()) }).await;
    let page = scene.operator.get("/").await.body;
    assert!(page.contains("FAILED") && page.contains("HDMI: no signal"), "it stays on screen");
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_receiver_is_replaced_on_its_port_with_its_key() {
    let (scene, relay, mut device) = Scene::new().await;
    let (stream, spec) = scene.on_air(&mut device).await;
    let first = pid(&scene.stream(&stream).await);
    std::fs::remove_file(scene.files(&stream).join("started.json")).unwrap();
    kill(first);
    let second = eventually("another receiver", || async {
        let shown = scene.stream(&stream).await;
        (shown["state"] == "on-air" && shown["receiver_pid"].as_u64().is_some_and(|it| it != u64::from(first)))
            .then(|| pid(&shown))
    })
    .await;
    let started = scene.started_with(&stream);
    assert_eq!((started.key.reveal(), started.listen.port()), (spec.key.reveal(), spec.receiver.port));
    assert_ne!(first, second);
    scene.stop().await;
    assert_eq!(device.obey_stop().await.as_str(), stream, "no command came between: its bond went on");
    scene.reaches(&stream, "ended").await;
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_adopts_its_receiver_and_the_stream_goes_on() {
    let (mut scene, relay, mut device) = Scene::new().await;
    let (stream, _) = scene.on_air(&mut device).await;
    let receiver = pid(&scene.stream(&stream).await);
    relay.kill();
    assert!(daemon::spawn::is_running(receiver), "the receiver does not care");
    let (relay, mut device) = scene.restart().await;
    let shown = scene.reaches(&stream, "on-air").await;
    assert_eq!((pid(&shown), shown["on_air"].as_bool()), (receiver, Some(true)));
    device.report(StreamingState::Sending { stream: stream.parse().unwrap(), for_ms: 5000 }).await;
    device.red_light(true).await;
    scene.stop().await;
    assert_eq!(device.obey_stop().await.as_str(), stream, "the device was not asked to start again");
    scene.reaches(&stream, "ended").await;
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_died_with_the_relay_is_started_again() {
    let (mut scene, relay, mut device) = Scene::new().await;
    let (stream, spec) = scene.on_air(&mut device).await;
    let receiver = pid(&scene.stream(&stream).await);
    relay.kill();
    kill(receiver);
    let (relay, _device) = scene.restart().await;
    let shown = scene.reaches(&stream, "on-air").await;
    assert_ne!(pid(&shown), receiver);
    let started = scene.started_with(&stream);
    assert_eq!((started.key.reveal(), started.listen.port()), (spec.key.reveal(), spec.receiver.port));
    scene.stop().await;
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn go_live_and_stop_on_the_device_start_and_end_a_stream() {
    let (scene, relay, mut device) = Scene::new().await;
    device.say("up/event", DeviceEvent::GoLiveRequested).await;
    let spec = device.obey_start().await;
    let stream = spec.stream.to_string();
    scene.media(&stream, true);
    let shown = scene.reaches(&stream, "on-air").await;
    assert_eq!(shown["started_by"], "the device");
    device.report(StreamingState::Idle).await;
    device.say("up/event", DeviceEvent::StopRequested { stream: spec.stream }).await;
    device.obey_stop().await;
    assert_eq!(scene.reaches(&stream, "ended").await["reason"], "stopped by the device");
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_with_a_stream_that_is_over_is_told_to_stop() {
    let (scene, relay, mut device) = Scene::new().await;
    let stale: StreamId = "s-of-long-ago".parse().unwrap();
    device.report(StreamingState::Sending { stream: stale.clone(), for_ms: 9000 }).await;
    let envelope = device.command().await;
    assert!(matches!(envelope.body, Command::StopStream { stream, .. } if stream == stale));
    drop(scene);
    relay.terminate();
}

/// At the most talkative log level nothing secret is in the logs, in no file but those meant for it, and in no process's
/// arguments.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_kept_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    let program = receiver_program(directory.path());
    let data = directory.path().join("data");
    let relay = RelayProcess::start_with(&data, &program, "trace").await;
    let operator = relay.log_in().await;
    let claim = operator.claim("Van").await;
    let identity = relay.enrol_with(&claim).await.unwrap();
    let mut device = Device::connect(&identity, &relay).await;
    let scene = Scene { directory, program, identity: identity.clone(), operator };
    scene.online().await;
    let body = json!({ "name": "Main", "kind": "rtmp", "url": "rtmp://127.0.0.1:9/live", "key": "live_TOPSECRET" });
    let destination = scene.operator.post("/api/v1/destinations", &body).await.json()["id"].clone();
    let path = format!("/api/v1/devices/{}/start", identity.id());
    let answer = scene.operator.post(&path, &json!({ "destinations": [destination] })).await;
    let stream = answer.json()["stream"].as_str().unwrap().to_owned();
    let spec = device.obey_start().await;
    scene.media(&stream, true);
    let shown = scene.reaches(&stream, "on-air").await;
    assert!(!shown.to_string().contains("TOPSECRET") && !shown.to_string().contains(spec.key.reveal()));
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", pid(&shown))).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", pid(&shown))).unwrap();
    scene.stop().await;
    device.obey_stop().await;
    scene.reaches(&stream, "ended").await;

    let secrets = [
        ("password", relay.password()),
        ("cookie", scene.operator.cookie.split('=').nth(1).unwrap().to_owned()),
        ("csrf token", scene.operator.csrf.clone()),
        ("claim code", claim.claim_code.reveal().to_owned()),
        ("destination's key", "TOPSECRET".to_owned()),
        ("stream's key", spec.key.reveal().to_owned()),
        ("private key", "PRIVATE KEY".to_owned()),
    ];
    relay.terminate();
    let log = std::fs::read_to_string(data.join("relay.log")).unwrap();
    assert!(log.contains("stream is over") && log.contains("\"level\":\"TRACE\""), "the log is there, and talkative");
    for (what, secret) in &secrets {
        assert!(!log.contains(secret.as_str()), "the {what} is in the log");
        assert!(!arguments.contains(secret.as_str()), "the {what} is in the receiver's arguments");
        assert!(!contains(&environment, secret), "the {what} is in the receiver's environment");
    }
    let meant = ["initial-password.txt", "ca.key", "server.key", "started.json"];
    let mut files = vec![data];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.is_file() && !meant.contains(&path.file_name().unwrap().to_string_lossy().as_ref()) {
            let bytes = std::fs::read(&path).unwrap();
            seen += 1;
            for (what, secret) in &secrets {
                assert!(!contains(&bytes, secret), "the {what} is in {}", path.display());
            }
        }
    }
    assert!(seen >= 5, "{seen} files were looked at");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
