//! Goal: what the design promises of the two processes of a device when one of them is killed.
//! Method: the real strata-agent and strata-streamer with scripted hardware, a relay played by the test, and a UDP socket
//! in the receiver's place.

#![allow(clippy::unwrap_used, reason = "test support")]

mod support;

use protocol::command::{Command, CommandReport, Outcome, Rejection};
use protocol::state::{DeviceEvent, DeviceState, Presence, StreamingState};
use protocol::stream::{EncodingSpec, ReceiverAddress, StreamSpec};
use protocol::telemetry::Telemetry;
use protocol::topic::Leaf;
use protocol::{Envelope, Secret};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use support::{DeviceSession, Published, Relay, SOON};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use units::Bitrate;
use uuid::Uuid;

const KEY: &str = "a-pass-phrase-that-must-not-be-seen";
const STREAM: &str = "stream-1";

/// The programs of one device and their files.
struct Device {
    folder: TempDir,
    agent: Option<Child>,
    page: u16,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill_agent();
        if let Some(pid) = self.streamer() {
            kill(pid);
        }
        if std::thread::panicking() {
            for log in ["agent.log", "data/run/streamer.log"] {
                println!("--- {log}\n{}", std::fs::read_to_string(self.path(log)).unwrap_or_default());
            }
        }
    }
}

fn kill(pid: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
}

impl Device {
    /// `outages` is the script of the second uplink's absence.
    fn new(outages: &str) -> Self {
        let page = free_ports::free_tcp_port();
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            data_dir = "{data}"
            [local_page]
            listen = "127.0.0.1:{page}"
            [hardware]
            kind = "fake"
            [streamer]
            program = "{streamer}"
            [[fake.uplinks]]
            link = 0
            name = "Modem 1"
            kind = "modem"
            interface = "fake0"
            bind = "127.0.0.1"
            operator = "Northcell"
            technology = "4G"
            [[fake.uplinks]]
            link = 1
            name = "Modem 2"
            kind = "modem"
            interface = "fake1"
            bind = "127.0.0.1"
            outages = [{outages}]
            [[fake.inputs]]
            id = "test"
            kind = "test"
            width = 320
            height = 180
            frames_per_second = 25
            "#,
            data = folder.path().join("data").display(),
            streamer = env!("CARGO_BIN_EXE_strata-streamer"),
        );
        std::fs::write(folder.path().join("agent.toml"), config).unwrap();
        Self { folder, agent: None, page }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_agent(&mut self, arguments: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_strata-agent"))
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// Process id of the running streamer.
    fn streamer(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.path("data/run/streamer.pid")).ok()?.trim().parse().ok()?;
        daemon::spawn::is_running(pid).then_some(pid)
    }

    async fn enrolled(relay: &Relay) -> (Self, DeviceSession) {
        Self::enrolled_with(relay, "").await
    }

    async fn enrolled_with(relay: &Relay, outages: &str) -> (Self, DeviceSession) {
        let mut device = Self::new(outages);
        let claim = device.path("claim.txt");
        std::fs::write(&claim, relay.claim_link().reveal()).unwrap();
        device.start_agent(&["--claim-file", claim.to_str().unwrap()]);
        let answer = |request: &_| (200, serde_json::to_vec(&relay.response(request)).unwrap());
        timeout(SOON, relay.enrol_once(answer)).await.expect("the agent enrols").unwrap();
        let session = relay.session().await;
        (device, session)
    }

    /// One request to the page: status and body.
    async fn http(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Opens `/events` and gives the connection with what came first: the refusal, or the first event.
    async fn watch(&self) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).await.unwrap();
        let request = format!("GET /events HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\r\n", self.page);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        let first = async {
            loop {
                let got = stream.read_buf(&mut text).await.unwrap();
                let text = String::from_utf8_lossy(&text).into_owned();
                let whole = text.split_once("data:").is_some_and(|(_, event)| event.contains("\n\n"));
                if got == 0 || whole || text.contains("too many") {
                    return text;
                }
            }
        };
        let text = timeout(SOON, first).await.unwrap();
        (stream, text)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.http("GET", path, &format!("host: 127.0.0.1:{}\r\n", self.page)).await
    }
}

/// A UDP socket on an even port, in the receiver's place.
async fn receiver() -> UdpSocket {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if socket.local_addr().unwrap().port() % 2 == 0 {
            return socket;
        }
    }
}

/// Throws away what waits and takes some fresh datagrams.
async fn assert_media(receiver: &UdpSocket) {
    let mut datagram = [0; 2048];
    while receiver.try_recv(&mut datagram).is_ok() {}
    for _ in 0..20 {
        timeout(SOON, receiver.recv(&mut datagram)).await.expect("media flows").unwrap();
    }
}

fn start(receiver: &UdpSocket) -> Command {
    let port = receiver.local_addr().unwrap().port();
    let encoding = EncodingSpec { bitrate_max: Bitrate::from_kbps(800), ..EncodingSpec::default() };
    let spec = StreamSpec {
        stream: STREAM.parse().unwrap(),
        receiver: ReceiverAddress { host: "127.0.0.1".to_owned(), port },
        key: Secret::new(KEY),
        latency_ms: 1000,
        encoding,
        input: None,
        outputs: vec!["Test output".to_owned()],
    };
    Command::StartStream { valid_for_ms: 10_000, spec: Box::new(spec) }
}

fn outcome(published: &Published, wanted: Uuid) -> Option<Outcome> {
    let CommandReport::Result { command, outcome } = published.read();
    (command == wanted).then_some(outcome)
}

async fn result(session: &mut DeviceSession, command: Uuid) -> Outcome {
    let report = session.next_where(Leaf::CommandResult, |published| outcome(published, command).is_some()).await;
    outcome(&report, command).unwrap()
}

async fn final_result(session: &mut DeviceSession, command: Uuid) -> Outcome {
    let is_final = |published: &Published| outcome(published, command).is_some_and(|outcome| outcome.is_final());
    let report = session.next_where(Leaf::CommandResult, is_final).await;
    outcome(&report, command).unwrap()
}

fn streaming(published: &Published) -> StreamingState {
    let DeviceState::State { streaming, .. } = published.read();
    streaming
}

async fn state(session: &mut DeviceSession, wanted: impl Fn(&StreamingState) -> bool) -> StreamingState {
    streaming(&session.next_where(Leaf::State, |published| wanted(&streaming(published))).await)
}

const fn is_sending(state: &StreamingState) -> bool {
    matches!(state, StreamingState::Sending { .. })
}

/// Every file below `folder` that holds `secret`.
fn files_with(folder: &Path, secret: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&path, secret));
        } else if entry.file_type().unwrap().is_file() {
            let content = std::fs::read(&path).unwrap();
            if content.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_stream_outlives_its_agent_and_its_streamer() {
    let relay = Relay::new().await;
    let receiver = receiver().await;
    let (mut device, mut session) = Device::enrolled(&relay).await;

    let command = session.send(Leaf::Command, start(&receiver)).await;
    assert_eq!(result(&mut session, command).await, Outcome::Accepted);
    assert_eq!(result(&mut session, command).await, Outcome::Done);
    state(&mut session, is_sending).await;
    assert_media(&receiver).await;
    let first = device.streamer().unwrap();

    // The pass phrase is nowhere to be seen: not in files, not in arguments.
    assert_eq!(files_with(device.folder.path(), KEY), Vec::<PathBuf>::new());
    let arguments = std::fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert!(!arguments.contains(KEY), "{arguments}");

    // kill -9 of the streamer: the agent restarts it with the same order.
    kill(first);
    let StreamingState::Recovering { reason, .. } =
        state(&mut session, |state| matches!(state, StreamingState::Recovering { .. })).await
    else {
        panic!()
    };
    assert!(reason.contains("SIGKILL"), "{reason}");
    state(&mut session, is_sending).await;
    assert_media(&receiver).await;
    let second = device.streamer().unwrap();
    assert_ne!(first, second);

    // kill -9 of the agent: the streamer goes on, and the next agent finds it.
    device.kill_agent();
    drop(session);
    assert_media(&receiver).await;
    device.start_agent(&[]);
    let mut session = relay.session().await;
    state(&mut session, is_sending).await;
    assert_eq!(device.streamer(), Some(second));
    assert_media(&receiver).await;

    // The ledger survived: the same order again is answered, not carried out.
    let message = Envelope { id: command, ..Envelope::new(command, 1, start(&receiver)) };
    session.send_payload(Leaf::Command, message.emit()).await;
    assert_eq!(result(&mut session, command).await, Outcome::Done);

    // kill -9 of both: the next agent starts the stream again from its sealed record.
    device.kill_agent();
    kill(second);
    drop(session);
    device.start_agent(&[]);
    let mut session = relay.session().await;
    state(&mut session, is_sending).await;
    let third = device.streamer().unwrap();
    assert_ne!(second, third);
    assert_media(&receiver).await;

    let stop = Command::StopStream { valid_for_ms: 10_000, stream: STREAM.parse().unwrap() };
    let command = session.send(Leaf::Command, stop).await;
    assert_eq!(final_result(&mut session, command).await, Outcome::Done);
    state(&mut session, |state| *state == StreamingState::Idle).await;
    assert_eq!(device.streamer(), None);
    assert!(!device.path("data/run/stream.sealed").exists());
    assert_eq!(files_with(device.folder.path(), KEY), Vec::<PathBuf>::new());
}

/// Goal: an uplink that goes leaves the running bond, and joins it again when it is back.
#[tokio::test]
async fn a_running_bond_follows_the_uplinks() {
    let relay = Relay::new().await;
    let receiver = receiver().await;
    let (_device, mut session) = Device::enrolled_with(&relay, "{ from_s = 15.0, to_s = 18.0 }").await;
    let command = session.send(Leaf::Command, start(&receiver)).await;
    assert_eq!(final_result(&mut session, command).await, Outcome::Done);
    for expected in [vec![0, 1], vec![0], vec![0, 1]] {
        let has = |published: &Published| {
            let Telemetry::Telemetry { stream, .. } = published.read();
            let links = stream.map(|stream| stream.links.iter().map(|link| link.link.0).collect::<Vec<_>>());
            links.is_some_and(|mut links| {
                links.sort_unstable();
                links == expected
            })
        };
        session.next_where(Leaf::Telemetry, has).await;
        assert_media(&receiver).await;
    }
}

#[tokio::test]
async fn nonsense_on_the_command_topic_is_answered_and_survived() {
    let relay = Relay::new().await;
    let (_device, mut session) = Device::enrolled(&relay).await;
    session.send_payload(Leaf::Command, b"\xff{".to_vec()).await;
    session.send_payload(Leaf::Command, vec![b' '; 60_000]).await;
    let id = Uuid::now_v7();
    let unknown = format!(r#"{{"version":1,"id":"{id}","sent_at_ms":1,"body":{{"kind":"self-destruct"}}}}"#);
    session.send_payload(Leaf::Command, unknown.into_bytes()).await;
    let Outcome::Rejected { reason, detail } = result(&mut session, id).await else { panic!() };
    assert_eq!(reason, Rejection::UnknownKind);
    assert!(detail.contains("self-destruct"), "{detail}");
}

#[tokio::test]
async fn the_page_shows_the_device_and_is_closed_to_foreign_sites() {
    let relay = Relay::new().await;
    let (mut device, mut session) = Device::enrolled(&relay).await;
    state(&mut session, |_| true).await;
    let (status, body) = device.get("/").await;
    assert_eq!(status, 200);
    assert!(body.contains("GO LIVE") && body.contains("Modem 1 (Northcell)") && !body.contains(">CLAIM<"), "{body}");
    // What goes out on a new connection may be read before the page is told of it.
    let connected = async {
        loop {
            let (_, body) = device.get("/api/v1/state").await;
            let view: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(view["device"].as_str(), Some("van-7"));
            if view["relay"]["state"] == "connected" {
                break;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, connected).await.expect("the page tells of the connection");

    let own = format!("host: 127.0.0.1:{}\r\n", device.page);
    assert_eq!(device.http("POST", "/go-live", &format!("{own}origin: http://evil.example\r\n")).await.0, 403);
    assert_eq!(device.http("GET", "/", "host: evil.example\r\n").await.0, 421);
    assert_eq!(device.http("POST", "/stop", &own).await.0, 409, "nothing runs");
    assert_eq!(device.http("POST", "/go-live", &own).await.0, 200);
    assert_eq!(session.next(Leaf::Event).await.read::<DeviceEvent>(), DeviceEvent::GoLiveRequested);

    // A watching browser is told what changed, and no more than a bounded number watch.
    let mut watchers = Vec::new();
    for _ in 0..16 {
        let (stream, first) = device.watch().await;
        assert!(first.contains("200 OK") && first.contains("OFF AIR"), "{first}");
        watchers.push(stream);
    }
    let (_, refusal) = device.watch().await;
    assert!(refusal.contains("503") && refusal.contains("too many browsers"), "{refusal}");
    drop(watchers);

    // Without the relay the page goes on and says why going live is not possible.
    drop(session);
    drop(relay);
    let mut refused = String::new();
    for _ in 0..100 {
        let (status, body) = device.http("POST", "/go-live", &own).await;
        if status == 409 {
            refused = body;
            break;
        }
        sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(refused.contains("no connection to the relay"), "{refused}");
    device.kill_agent();
}

#[tokio::test]
async fn an_orderly_end_of_the_agent_says_offline() {
    let relay = Relay::new().await;
    let (mut device, mut session) = Device::enrolled(&relay).await;
    state(&mut session, |_| true).await;
    let mut agent = device.agent.take().unwrap();
    let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let published = session.until_closed().await;
    let last = published.iter().rfind(|published| published.leaf == Leaf::Presence).unwrap();
    assert_eq!(last.read::<Presence>(), Presence::Offline);
    assert!(agent.wait().unwrap().success());
}

#[tokio::test]
async fn an_agent_without_a_relay_ends_in_order_every_time() {
    let mut device = Device::new("");
    for round in 0..20 {
        device.start_agent(&[]);
        let runs = |log: String| log.matches("agent runs").count() > round;
        while !std::fs::read_to_string(device.path("agent.log")).is_ok_and(runs) {
            sleep(std::time::Duration::from_millis(20)).await;
        }
        let mut agent = device.agent.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(agent.wait().unwrap().success(), "{}", std::fs::read_to_string(device.path("agent.log")).unwrap());
    }
}
