//! `make demo`: the whole product on this machine, live by itself.

pub(crate) mod place;
mod status;
mod summary;

use crate::lab::ports::Ports;
use crate::lab::{Lab, LabLink, LabOptions, MediaSource, USER};
use crate::readers::{Protocol, Reader, ReaderFigures, Use, check_tools};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use daemon::shutdown::Shutdown;
use link_sim::Capacity;
use place::Place;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use summary::Summary;
use tokio::time::Instant;

/// How long the way from the start command to ON AIR may take before the demo gives up.
const ON_AIR_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a stream may take to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// When an outage that was asked for begins, after ON AIR.
const OUTAGE_AFTER: Duration = Duration::from_secs(10);
/// The readers' stream key; they take any.
const READER_KEY: &str = "demo";

/// What the demo was asked to do.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Everything is written below it.
    pub directory: PathBuf,
    /// What the device captures.
    pub media: MediaSource,
    /// Ends by itself after this time ON AIR, with a summary.
    pub seconds: Option<u64>,
    /// Highest video bitrate, kbit/s.
    pub bitrate_max_kbps: u32,
    /// Latency budget, milliseconds.
    pub latency_ms: u32,
    /// Cuts every link for this time, in the middle of the show.
    pub outage: Option<Duration>,
}

/// The two readers.
#[derive(Debug)]
struct Readers {
    rtmp: Reader,
    srt: Reader,
}

impl Readers {
    fn start(lab: &LabOptions) -> Result<Self> {
        let reader = |protocol, port| Reader::start(protocol, port, READER_KEY, &lab.directory, Use::Decode);
        Ok(Self { rtmp: reader(Protocol::Rtmp, lab.ports.rtmp)?, srt: reader(Protocol::Srt, lab.ports.srt)? })
    }

    /// Ends both: what the RTMP reader and the SRT reader have seen. Dropped ones may outlive the demo for a moment.
    async fn stop(self) -> (ReaderFigures, ReaderFigures) {
        tokio::join!(self.rtmp.stop(), self.srt.stop())
    }
}

/// Runs the demo to its end.
///
/// # Errors
/// Something did not start, the media did not come through, or something was left running.
pub async fn run(options: DemoOptions) -> Result<()> {
    check_tools(&["ffmpeg", "ffprobe"])?;
    check_media(&options.media)?;
    let mut shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let place = Place::take(&options.directory).await?;
    let links = modems()?;
    let gateways: Vec<_> = links.iter().map(|link| link.gateway).collect();
    let lab = LabOptions {
        directory: place.run_directory(),
        ports: Ports::usual(&gateways)?,
        media: options.media.clone(),
        links,
        latency_ms: options.latency_ms,
        bitrate_max_kbps: options.bitrate_max_kbps,
    };
    let readers = Readers::start(&lab)?;
    let started = tokio::select! {
        started = bring_up(lab) => started.map(Some),
        () = shutdown.wait() => Ok(None),
    };
    let live = match started {
        Ok(Some(live)) => live,
        early => {
            readers.stop().await;
            early?;
            println!("\nEnded before it was ON AIR.");
            // Whoever asked for a verdict gets one.
            return if options.seconds.is_some() { Err(anyhow!("no media came through")) } else { Ok(()) };
        }
    };
    let demo = Demo { live, readers, on_air_since: Instant::now(), lines: 0 };
    demo.show(options.seconds, options.outage, shutdown).await
}

/// Three modems whose capacity moves and that together carry well over twice the demo's bitrate.
fn modems() -> Result<Vec<LabLink>> {
    let cellular = |mean_kbps, seed| -> Result<Capacity> { Ok(crate::emulator::cellular(mean_kbps, seed)?) };
    Ok(vec![
        LabLink::modem(1, "Northcell", "5G", cellular(5500, 11)?, 28.0, 0.001),
        LabLink::modem(2, "Bluewave", "4G", cellular(3500, 12)?, 42.0, 0.004),
        LabLink::modem(3, "Terra", "4G", cellular(2500, 13)?, 65.0, 0.002),
    ])
}

fn check_media(media: &MediaSource) -> Result<()> {
    match media {
        MediaSource::File(file) => check_file(file),
        _ => Ok(()),
    }
}

/// A file that nothing can be sent of is told before anything is started.
fn check_file(file: &Path) -> Result<()> {
    let name = file.display();
    ensure!(file.is_file(), "there is no media file {name}");
    let mut probe = std::process::Command::new("ffprobe");
    probe.args(["-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", "-i"]).arg(file);
    let found = probe.stdin(std::process::Stdio::null()).output().context("cannot start ffprobe")?;
    let complaint = String::from_utf8_lossy(&found.stderr);
    let complaint = complaint.lines().last().unwrap_or_default();
    ensure!(found.status.success(), "{name} is no media file that ffmpeg can read: {complaint}");
    let streams = String::from_utf8_lossy(&found.stdout);
    ensure!(streams.lines().any(|kind| kind.trim_end_matches(',') == "video"), "{name} has no video");
    Ok(())
}

/// A lab whose stream is ON AIR.
#[derive(Debug)]
struct Live {
    lab: Lab,
    device: String,
    stream: String,
    /// From the button.
    to_on_air: Duration,
}

/// A demo that is ON AIR.
#[derive(Debug)]
struct Demo {
    live: Live,
    readers: Readers,
    on_air_since: Instant,
    /// Status lines printed.
    lines: usize,
}

async fn bring_up(options: LabOptions) -> Result<Live> {
    println!("Starting the relay, three emulated links, and an RTMP and an SRT reader ...");
    let mut lab = Lab::open(options).await?;
    print_addresses(&lab)?;
    println!("Enrolling a sender with three simulated modems ...");
    let device = lab.enrol("Demo sender").await?;
    let destinations = lab.add_readers_as_destinations(READER_KEY).await?;
    println!("Going live ...");
    let pressed = Instant::now();
    let stream = lab.dashboard.start(&device, &json!({ "destinations": destinations })).await?;
    lab.stream_until(&stream, "ON AIR", ON_AIR_TIME_MAX, |state| state["on_air"] == true).await?;
    let to_on_air = pressed.elapsed();
    println!("ON AIR after {:.1} s.\n", to_on_air.as_secs_f64());
    Ok(Live { lab, device, stream, to_on_air })
}

fn print_addresses(lab: &Lab) -> Result<()> {
    println!();
    println!("  Dashboard  {}", lab.dashboard.origin());
    println!("  Log-in     {USER} / {}", lab.password()?);
    println!("  Device     {}", lab.device_page().origin());
    println!("  Files      {}", lab.options().directory.display());
    println!();
    Ok(())
}

impl Demo {
    /// One line a second until the time is over, Ctrl-C, or the end of a program.
    async fn show(mut self, seconds: Option<u64>, outage: Option<Duration>, mut shutdown: Shutdown) -> Result<()> {
        let end = seconds.map(|seconds| self.on_air_since + Duration::from_secs(seconds));
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut outcome = Ok(());
        let mut cut = false;
        while outcome.is_ok() && end.is_none_or(|end| Instant::now() < end) {
            tokio::select! {
                _ = ticks.tick() => {
                    self.cut_or_heal(outage, &mut cut).await?;
                    outcome = self.show_one().await;
                }
                () = shutdown.wait() => break,
            }
        }
        // A second Ctrl-C must not wait for the orderly end.
        tokio::select! {
            ended = self.end(seconds.is_some()) => outcome.and(ended),
            () = second_interrupt() => bail!("interrupted twice: everything was killed"),
        }
    }

    /// Makes the links what the asked-for outage wants of them now.
    async fn cut_or_heal(&mut self, outage: Option<Duration>, cut: &mut bool) -> Result<()> {
        let Some(outage) = outage else { return Ok(()) };
        let since = self.on_air_since.elapsed();
        let wanted = since >= OUTAGE_AFTER && since < OUTAGE_AFTER + outage;
        if wanted == *cut {
            return Ok(());
        }
        *cut = wanted;
        println!("{}", if wanted { "Every link is cut." } else { "The links are back." });
        for link in 0..self.live.lab.options().links.len() {
            if wanted { self.live.lab.emulator.kill(link).await? } else { self.live.lab.emulator.heal(link).await? }
        }
        Ok(())
    }

    async fn show_one(&mut self) -> Result<()> {
        let lab = &mut self.live.lab;
        for program in [&mut lab.relay, &mut lab.agent].into_iter().flatten() {
            program.expect_running()?;
        }
        let state = lab.dashboard.stream(&self.live.stream).await?;
        let frames = [self.readers.rtmp.figures().frames, self.readers.srt.figures().frames];
        if self.lines.is_multiple_of(status::HEADING_EVERY) {
            println!("{}", status::heading(&state));
        }
        self.lines += 1;
        println!("{}", status::line(self.on_air_since.elapsed(), &state, frames));
        Ok(())
    }

    /// Stops the stream and the programs in order, and says how it went.
    async fn end(mut self, judge: bool) -> Result<()> {
        println!("\nStopping ...");
        let mut summary =
            Summary::gather(&mut self.live.lab, &self.live.stream, self.live.to_on_air, self.on_air_since.elapsed())
                .await;
        let stopped = self.stop_stream().await;
        let (rtmp, srt) = self.readers.stop().await;
        let recording = self.live.lab.stream_directory(&self.live.stream);
        let closed = self.live.lab.close().await;
        if judge || stopped.is_err() || closed.is_err() {
            println!("Looking at what came out ...");
            summary.add_hls();
            summary.add_reader("RTMP reader", &rtmp);
            summary.add_reader("SRT reader", &srt);
            summary.add_recording(&recording);
            println!("{summary}");
        }
        stopped.and(closed)?;
        if judge && !summary.came_through() {
            bail!("the media did not come through; see above");
        }
        println!("Everything has ended.");
        Ok(())
    }

    async fn stop_stream(&mut self) -> Result<()> {
        self.live.lab.dashboard.stop(&self.live.device).await?;
        let over = |state: &serde_json::Value| state["state"] == "ended";
        self.live.lab.stream_until(&self.live.stream, "ended", STOP_TIME_MAX, over).await.map(drop)
    }
}

async fn second_interrupt() {
    // The first one was taken by the shutdown; without a handler nobody waits here for ever.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What `MEDIA` names: `test`, or `file:PATH`.
///
/// # Errors
/// Anything else.
pub fn parse_media(text: &str) -> Result<MediaSource> {
    match text.split_once(':') {
        None if text == "test" => Ok(MediaSource::Test),
        Some(("file", path)) if !path.is_empty() => {
            // A shell leaves the tilde of `file:~/clip.mp4` alone.
            let path = match (path.strip_prefix("~/"), std::env::home_dir()) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(path),
            };
            Ok(MediaSource::File(std::path::absolute(path).context("the working directory is gone")?))
        }
        _ => bail!("MEDIA is {text:?}; it must be test or file:PATH"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_a_test_pattern_or_a_file() {
        assert_eq!(parse_media("test").unwrap(), MediaSource::Test);
        assert_eq!(parse_media("file:/a/b.mp4").unwrap(), MediaSource::File("/a/b.mp4".into()));
        for wrong in ["", "file:", "/a/b.mp4", "v4l2:/dev/video0"] {
            assert!(parse_media(wrong).unwrap_err().to_string().contains("file:PATH"), "{wrong}");
        }
    }
}
