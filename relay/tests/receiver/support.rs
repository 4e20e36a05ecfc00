//! A receiver process, a sender with an encoder behind it, and a platform that takes RTMP.

use bond::PacketClass;
use bond::config::{KeySize, PskConfig, SenderConfig};
use bytes::Bytes;
use daemon::socket::Connection;
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use protocol::Secret;
use protocol::limits::WORKER_LINE_BYTES_MAX;
use protocol::state::{OutputState, OutputStatus};
use protocol::worker::receiver::{
    FromReceiver, OutputSpec, OutputTarget, ReceiverState, ReceiverStats, StartReceiver, ToReceiver,
};
use serde_json::Value;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use units::LinkId;

/// Longest wait for anything: real time, on a machine that may be busy.
pub const SOON: Duration = Duration::from_secs(40);
/// Pictures a second.
pub const RATE: u32 = 25;
/// Distance of key frames, seconds.
pub const KEY_FRAME_SECONDS: u32 = 2;
const PASS_PHRASE: &str = "a pass phrase of the tests";
/// Seven TS packets.
const PAYLOAD_BYTES: usize = 7 * 188;

/// `strata-receiver`, killed when dropped.
pub struct Receiver {
    child: Child,
    requests: mpsc::Sender<ToReceiver>,
    heard: Arc<Mutex<Heard>>,
    pub listen: SocketAddr,
}

#[derive(Default)]
struct Heard {
    state: Option<ReceiverState>,
    stats: ReceiverStats,
    events: Vec<String>,
}

impl Receiver {
    /// Starts one on `listen` (port 0 takes a free one) with these outputs and environment.
    pub async fn start(directory: &Path, listen: &str, outputs: Vec<OutputSpec>, env: &[(&str, &Path)]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let socket = directory.join("receiver.sock");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("receiver.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_strata-receiver"))
            .arg("--socket")
            .arg(&socket)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let connection =
            until("the receiver's socket", || async { Connection::open(&socket, WORKER_LINE_BYTES_MAX).await.ok() })
                .await;
        let (mut reader, mut writer) = connection.split();
        let start = StartReceiver {
            stream: "s-test".parse().unwrap(),
            listen: listen.parse().unwrap(),
            key: Secret::new(PASS_PHRASE),
            latency_ms: 300,
            directory: directory.to_string_lossy().into_owned(),
            outputs,
        };
        writer.send(&ToReceiver::Start(Box::new(start))).await.unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (requests, mut queue) = mpsc::channel::<ToReceiver>(8);
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    request = queue.recv() => match request {
                        Some(request) => writer.send(&request).await.unwrap(),
                        None => return,
                    },
                    message = reader.next::<FromReceiver>() => match message {
                        Ok(Some(FromReceiver::State(state))) => hearing.lock().unwrap().state = Some(state),
                        Ok(Some(FromReceiver::Stats(stats))) => hearing.lock().unwrap().stats = *stats,
                        Ok(Some(FromReceiver::Event { text })) => hearing.lock().unwrap().events.push(text),
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => return,
                    },
                }
            }
        });
        let mut receiver = Self { child, requests, heard, listen: listen.parse().unwrap() };
        receiver.listen = until("the receiver's readiness", || async {
            match receiver.heard.lock().unwrap().state.clone() {
                Some(ReceiverState::Ready { listen }) => Some(listen),
                Some(ReceiverState::Failed { reason }) => panic!("{reason}"),
                _ => None,
            }
        })
        .await;
        receiver
    }

    pub fn state(&self) -> Option<ReceiverState> {
        self.heard.lock().unwrap().state.clone()
    }

    pub fn events(&self) -> Vec<String> {
        self.heard.lock().unwrap().events.clone()
    }

    pub fn output(&self, id: &str) -> Option<OutputStatus> {
        self.heard.lock().unwrap().stats.outputs.iter().find(|output| output.id == id).cloned()
    }

    /// Waits until the output stands as `wanted`; gives the state.
    pub async fn output_is(&self, id: &str, what: &str, wanted: impl Fn(&OutputState) -> bool) -> OutputState {
        until(&format!("output {id} {what}"), || async {
            let state = self.output(id)?.state;
            wanted(&state).then_some(state)
        })
        .await
    }

    /// Waits until so many more bytes left by the output.
    pub async fn delivers(&self, id: &str, bytes: u64) {
        let before = self.output(id).map_or(0, |output| output.bytes);
        until(&format!("{bytes} bytes by {id}"), || async {
            self.output(id).filter(|output| output.bytes >= before + bytes).map(drop)
        })
        .await;
    }

    /// Waits until what the sender sent last is through.
    pub async fn runs_dry(&self) {
        until("the end of the media", || async {
            matches!(self.state(), Some(ReceiverState::Interrupted { .. })).then_some(())
        })
        .await;
    }

    /// Stops it in order and waits for its end.
    pub async fn stop(mut self) {
        self.requests.send(ToReceiver::Stop).await.unwrap();
        until("the receiver's end", || async { (self.state() == Some(ReceiverState::Ended)).then_some(()) }).await;
        let status = until("the process's end", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await;
        assert!(status.success(), "{status}");
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field sender: a moving picture with a tone, encoded in real time, over one link of the bond. Its clock begins anew with
/// each one.
pub struct Sender {
    encoder: Child,
    feeding: Option<JoinHandle<()>>,
}

impl Sender {
    pub fn start(to: SocketAddr, codec: Codec) -> Self {
        let mut encoder = encoder(codec);
        let mut stream = encoder.stdout.take().unwrap();
        let psk =
            PskConfig { passphrase: Secret::new(PASS_PHRASE), key_size: KeySize::Aes256, rotate_after_packets: None };
        let bond = SenderConfig { psk: Some(psk), latency: Duration::from_millis(300), ..SenderConfig::default() };
        let links = vec![LinkSpec::new(LinkId(1), to)];
        let flow = FlowSender::open(SenderOptions { bond, links }).unwrap();
        let feeding = std::thread::spawn(move || {
            let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
            // To the end, so that the last picture is whole.
            while matches!(stream.by_ref().take(PAYLOAD_BYTES as u64).read_to_end(&mut payload), Ok(1..)) {
                flow.push(Bytes::copy_from_slice(&payload), PacketClass::Other, None).unwrap();
                payload.clear();
            }
            std::thread::sleep(Duration::from_millis(100)); // the flow's thread sends what it has
        });
        Self { encoder, feeding: Some(feeding) }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.encoder.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.encoder.wait();
        if let Some(feeding) = self.feeding.take() {
            let _ = feeding.join();
        }
    }
}

/// What the encoder makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
}

fn encoder(codec: Codec) -> Child {
    let source = format!("testsrc2=size=320x180:rate={RATE}");
    let gop = (RATE * KEY_FRAME_SECONDS).to_string();
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-f", "lavfi", "-i", &source]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    match codec {
        Codec::H264 => command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"]),
    };
    command.args(["-pix_fmt", "yuv420p", "-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0", "-b:v", "1200k"]);
    command.args(["-c:a", "aac", "-b:a", "96k", "-f", "mpegts", "-flush_packets", "1", "pipe:1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().expect("ffmpeg is installed: `make test` installs it")
}

/// A platform: ffmpeg takes one RTMP session and keeps it as it came.
pub struct Platform {
    child: Child,
    pub port: u16,
    pub file: PathBuf,
}

impl Platform {
    pub fn start(file: &Path) -> Self {
        let port = free_ports::free_tcp_port();
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-listen", "1"]);
        command.args(["-i", &format!("rtmp://127.0.0.1:{port}/live/key"), "-map", "0", "-c", "copy", "-copyts"]);
        command.args(["-f", "flv", "-flush_packets", "1"]).arg(file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("ffmpeg is installed");
        Self { child, port, file: file.to_owned() }
    }

    /// The output "rtmp" that publishes to it.
    pub fn output(&self) -> OutputSpec {
        rtmp("rtmp", &format!("rtmp://127.0.0.1:{}/live", self.port))
    }

    /// Waits until the session is over and the file closed.
    pub async fn finish(&mut self) {
        until("the platform's end", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await;
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn rtmp(id: &str, url: &str) -> OutputSpec {
    let target = OutputTarget::Rtmp { url: url.to_owned(), key: Secret::new("key") };
    OutputSpec { id: id.to_owned(), name: id.to_owned(), target }
}

pub fn own(id: &str, target: OutputTarget) -> OutputSpec {
    OutputSpec { id: id.to_owned(), name: id.to_owned(), target }
}

/// A packet as ffprobe sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    pub video: bool,
    pub pts: f64,
    pub dts: f64,
    pub key: bool,
}

/// All packets of a file, in its order.
pub fn packets(file: &Path) -> Vec<Packet> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json", "-show_entries", "packet=codec_type,pts_time,dts_time,flags"]);
    let output = command.arg(file).output().expect("ffprobe is installed");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seconds = |value: &Value| value.as_str().unwrap_or("nan").parse::<f64>().unwrap();
    let packet = |it: &Value| Packet {
        video: it["codec_type"] == "video",
        pts: seconds(&it["pts_time"]),
        dts: seconds(&it["dts_time"]),
        key: it["flags"].as_str().unwrap_or_default().contains('K'),
    };
    json["packets"].as_array().unwrap().iter().map(packet).collect()
}

/// Decodes everything; what ffmpeg complains about, and how many pictures came out.
pub fn decode(file: &Path) -> (String, usize) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-i"]).arg(file);
    command.args(["-map", "0:v", "-map", "0:a", "-f", "framecrc", "-"]);
    let output = command.output().expect("ffmpeg is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pictures = text.lines().filter(|line| line.starts_with("0,")).count();
    (String::from_utf8_lossy(&output.stderr).into_owned(), pictures)
}

/// Looks until `probe` gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
