//! A streamer process, the agent's end of its socket, and the relay's end of its bond.

use bond::config::{KeySize, PskConfig, ReceiverConfig};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use protocol::Secret;
use protocol::stream::{EncodingSpec, ReceiverAddress, StreamSpec};
use protocol::worker::streamer::{FromStreamer, Source, StartStreamer, StreamerLink, StreamerState, ToStreamer};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use units::{Bitrate, LinkId};

const KEY: &str = "the key of this test";
pub const LATENCY_MS: u32 = 1000;
/// After the last packet: several latency budgets.
const QUIET: Duration = Duration::from_millis(2500);
/// Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the relay's end received so far.
pub struct Relay {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Relay {
    pub fn listen() -> Self {
        let passphrase = Secret::new(KEY);
        let flow = FlowReceiver::open(ReceiverOptions {
            bond: ReceiverConfig {
                psk: Some(PskConfig { passphrase, key_size: KeySize::Aes256, rotate_after_packets: None }),
                latency: Duration::from_millis(LATENCY_MS.into()),
                ..ReceiverConfig::default()
            },
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            connect: Vec::new(),
        })
        .unwrap();
        let address = flow.local_addr();
        let (received, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (sink, stop) = (Arc::clone(&received), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut quiet_since = Instant::now();
            loop {
                match flow.recv_timeout(Duration::from_millis(100)).unwrap() {
                    Some(delivered) => {
                        sink.lock().unwrap().extend_from_slice(&delivered.bytes);
                        quiet_since = Instant::now();
                    }
                    None if stop.load(Ordering::Acquire) && quiet_since.elapsed() > QUIET => {
                        return flow.snapshot().lost_packets;
                    }
                    None => {}
                }
            }
        });
        Self { address, received, end, thread: Some(thread) }
    }

    pub fn bytes(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// The transport stream, complete, and the payloads that were lost on the way.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        self.end.store(true, Ordering::Release);
        let lost = self.thread.take().unwrap().join().unwrap();
        (std::mem::take(&mut *self.received.lock().unwrap()), lost)
    }
}

/// A connection to the streamer.
pub struct Agent {
    write: UnixStream,
    messages: Receiver<FromStreamer>,
    /// Everything read so far, oldest first.
    pub seen: Vec<FromStreamer>,
}

impl Agent {
    fn connect(socket: &PathBuf) -> Self {
        let until = Instant::now() + PATIENCE;
        let write = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "nobody listens on {}: {error}", socket.display()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let read = BufReader::new(write.try_clone().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in read.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { write, messages, seen: Vec::new() }
    }

    pub fn send(&mut self, message: &ToStreamer) {
        self.send_line(&serde_json::to_string(message).unwrap());
    }

    pub fn send_line(&mut self, line: &str) {
        self.write.write_all(line.as_bytes()).unwrap();
        self.write.write_all(b"\n").unwrap();
    }

    /// The first message from now on that `pick` takes.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, pick: impl Fn(&FromStreamer) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    let picked = pick(&message);
                    self.seen.push(message);
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in time; seen: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("closed before {what}; seen: {:#?}", self.seen),
            }
        }
    }

    /// The encoder in use if Running was told by now.
    pub fn poll_running(&mut self) -> Option<String> {
        self.seen.extend(self.messages.try_iter());
        self.seen.iter().find_map(|message| match message {
            FromStreamer::State(StreamerState::Running { encoder, .. }) => Some(encoder.clone()),
            FromStreamer::State(StreamerState::Failed { reason, .. }) => panic!("failed: {reason}"),
            _ => None,
        })
    }

    /// Whether an event with `part` was told by now.
    pub fn has_event(&mut self, part: &str) -> bool {
        self.seen.extend(self.messages.try_iter());
        self.seen.iter().any(|message| matches!(message, FromStreamer::Event { text } if text.contains(part)))
    }

    #[track_caller]
    pub fn wait_running(&mut self) -> String {
        self.wait_for("Running", |message| match message {
            FromStreamer::State(StreamerState::Running { encoder, .. }) => Some(encoder.clone()),
            FromStreamer::State(StreamerState::Failed { reason, .. }) => panic!("failed: {reason}"),
            _ => None,
        })
    }

    #[track_caller]
    pub fn wait_failed(&mut self) -> (String, String, bool) {
        self.wait_for("Failed", |message| match message {
            FromStreamer::State(StreamerState::Failed { reason, next_step, retry }) => {
                Some((reason.clone(), next_step.clone(), *retry))
            }
            _ => None,
        })
    }

    #[track_caller]
    pub fn wait_event(&mut self, part: &str) -> String {
        self.wait_for(part, |message| match message {
            FromStreamer::Event { text } if text.contains(part) => Some(text.clone()),
            _ => None,
        })
    }

    #[track_caller]
    pub fn wait_refused(&mut self) -> String {
        self.wait_for("Refused", |message| match message {
            FromStreamer::Refused { reason } => Some(reason.clone()),
            _ => None,
        })
    }
}

/// A streamer process in a directory of its own.
pub struct Streamer {
    pub directory: tempfile::TempDir,
    child: Child,
}

impl Streamer {
    pub fn spawn() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_strata-streamer"))
            .arg("--socket")
            .arg(directory.path().join("streamer.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { directory, child }
    }

    pub fn connect(&self) -> Agent {
        Agent::connect(&self.directory.path().join("streamer.sock"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The exit status; the process must end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the streamer does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn link(id: u16, relay: SocketAddr) -> StreamerLink {
    StreamerLink { link: LinkId(id), name: format!("Modem {id}"), bind: None, device: None, remote: relay }
}

/// A start order with two links and a range that is reached at once.
pub fn start(source: Source, relay: SocketAddr) -> StartStreamer {
    StartStreamer {
        spec: StreamSpec {
            stream: "test-stream".parse().unwrap(),
            receiver: ReceiverAddress { host: "127.0.0.1".into(), port: 5000 },
            key: Secret::new(KEY),
            latency_ms: LATENCY_MS,
            encoding: EncodingSpec {
                bitrate_min: Bitrate::from_kbps(600),
                bitrate_max: Bitrate::from_kbps(800),
                key_frame_interval_ms: 1000,
                ..EncodingSpec::default()
            },
            input: None,
            outputs: Vec::new(),
        },
        source,
        links: vec![link(0, relay), link(1, relay)],
    }
}

pub fn test_source() -> Source {
    Source::Test { width: 320, height: 180, frames_per_second: 25 }
}
