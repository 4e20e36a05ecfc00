//! A lab for one test.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use system_test::lab::ports::Ports;
use system_test::lab::{Lab, LabLink, LabOptions, MediaSource};
use system_test::media::Source;
use system_test::readers::{Protocol, Reader, ReaderFigures, Use};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// The clip of `make`.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/media/bigbuckbunny.mp4");
/// From the start command to ON AIR at most; the product's own aim is 3 s on a machine with nothing else to do.
pub const ON_AIR_TIME_MAX: Duration = Duration::from_secs(15);
/// From the stop command to the end at most.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// The lab's latency budget.
pub const LATENCY_MS: u32 = 600;

/// The stream key of the RTMP destination.
pub const DESTINATION_KEY: &str = "key-of-the-test-5d1f";

/// One lab at a time: they share gateway addresses and two processor cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A lab with a device and two readers, and the stream it runs.
pub struct Rig {
    pub lab: Lab,
    pub device: String,
    pub destinations: [String; 2],
    pub rtmp: Reader,
    pub srt: Reader,
    directory: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// The clip that every test sends.
pub fn clip() -> Result<PathBuf> {
    Path::new(CLIP).canonicalize().context("the clip is not there: run `make target/media/bigbuckbunny.mp4`")
}

pub fn source() -> Source {
    Source::open(&clip().unwrap()).unwrap()
}

/// Constant links with loss and delay: 4, 3 and 2 Mbit/s for a stream of 1.5.
fn links() -> Vec<LabLink> {
    let constant = |kbps| link_sim::Capacity::Constant { kbps };
    vec![
        LabLink::modem(1, "Northcell", "5G", constant(4000), 20.0, 0.002),
        LabLink::modem(2, "Bluewave", "4G", constant(3000), 35.0, 0.01),
        LabLink::modem(3, "Terra", "4G", constant(2000), 60.0, 0.005),
    ]
}

/// Waits until no other lab runs.
pub async fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// A directory of this test's own, emptied; it stays for the curious until the next run.
pub fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system").join(test);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory.canonicalize().unwrap()
}

/// A relay without a device.
pub async fn relay_only(test: &str) -> (Lab, MutexGuard<'static, ()>) {
    let (options, turn) = lab_options(test).await;
    (Lab::open(LabOptions { media: MediaSource::File(clip().unwrap()), ..options }).await.unwrap(), turn)
}

/// What a lab is made of, to be opened by the one who measures.
pub async fn lab_options(test: &str) -> (LabOptions, MutexGuard<'static, ()>) {
    let turn = turn().await;
    let links = links();
    let gateways: Vec<_> = links.iter().map(|link| link.gateway).collect();
    let options = LabOptions {
        directory: directory(test),
        ports: Ports::any(&gateways).unwrap(),
        media: MediaSource::Test,
        links,
        latency_ms: LATENCY_MS,
        bitrate_max_kbps: 1500,
    };
    (options, turn)
}

impl Rig {
    /// Relay, enrolled device, readers that keep what they get; nothing live yet.
    pub async fn set_up(test: &str) -> Self {
        let (mut lab, turn) = relay_only(test).await;
        let directory = lab.options().directory.clone();
        let ports = lab.options().ports.clone();
        let rtmp = Reader::start(Protocol::Rtmp, ports.rtmp, DESTINATION_KEY, &directory, Use::Keep(directory.clone()))
            .unwrap();
        let srt = Reader::start(Protocol::Srt, ports.srt, "", &directory, Use::Keep(directory.clone())).unwrap();
        let device = lab.enrol("Van 7").await.unwrap();
        let destinations = lab.add_readers_as_destinations(DESTINATION_KEY).await.unwrap();
        Self { lab, device, destinations, rtmp, srt, directory, _turn: turn }
    }

    /// The file `name` of this test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts a stream to both readers and waits for ON AIR.
    pub async fn go_live(&mut self) -> String {
        let pressed = Instant::now();
        let body = json!({ "destinations": self.destinations });
        let stream = self.lab.dashboard.start(&self.device, &body).await.unwrap();
        self.until(&stream, "on air", ON_AIR_TIME_MAX, |state| state["on_air"] == true).await;
        println!("ON AIR after {:.2} s", pressed.elapsed().as_secs_f64());
        stream
    }

    /// Waits until `wanted` is true of the stream.
    pub async fn until(&mut self, stream: &str, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.lab.stream_until(stream, what, limit, wanted).await.unwrap()
    }

    /// Waits until both readers have a connection more than `connections` and have frames from it.
    pub async fn readers_reached(&self, connections: u32, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let figures = [self.rtmp.figures(), self.srt.figures()];
            if figures.iter().all(|figures| figures.connections >= connections) {
                return;
            }
            assert!(Instant::now() < deadline, "not {connections} connections within {limit:?}: {figures:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Payloads delivered so far, as the relay tells.
    pub async fn delivered(&mut self, stream: &str) -> u64 {
        let state = self.lab.dashboard.stream(stream).await.unwrap();
        state["receiver"]["delivered"].as_u64().unwrap_or_else(|| panic!("no count of delivered payloads: {state}"))
    }

    /// Stops the stream and waits for its end; then neither streamer nor receiver runs.
    pub async fn stop(&mut self, stream: &str) -> Value {
        self.lab.dashboard.stop(&self.device).await.unwrap();
        let state = self.until(stream, "ended", STOP_TIME_MAX, |state| state["state"] == "ended").await;
        let deadline = Instant::now() + STOP_TIME_MAX;
        while let Some(pid) = self.lab.worker("strata-receiver").or(self.lab.worker("strata-streamer")) {
            assert!(Instant::now() < deadline, "process {pid} goes on after the stop");
            sleep(Duration::from_millis(100)).await;
        }
        state
    }

    /// Ends everything in order and gives what the readers got, RTMP first.
    pub async fn take_down(self) -> [ReaderFigures; 2] {
        let (rtmp, srt) = tokio::join!(self.rtmp.stop(), self.srt.stop());
        self.lab.close().await.unwrap();
        [rtmp, srt]
    }
}
