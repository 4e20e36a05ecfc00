//! How old the picture is that a viewer sees, from the camera to each output, measured in the picture itself.
//!
//! A [`camera`] writes the wall-clock time into every picture it makes ([`stamp`]) and sends it to the device as a LAN camera
//! does. A [`viewer`] at each output reads it back from the decoded picture. What is measured so is everything: the camera's
//! own encoding, the device, the bond with its latency budget, the relay, the output's protocol, the viewer's decoding. What
//! of that is the camera's and the viewer's own is measured first, by letting the camera send straight to the viewer: the
//! difference is Strata's.
//!
//! HLS is measured where it begins: the age of each picture at the moment when its segment is listed. What a player adds by
//! staying behind the end of the list is the player's.

pub mod camera;
pub mod figures;
pub mod stamp;
pub mod viewer;

use crate::lab::{Lab, LabLink, LabOptions, MediaSource};
use crate::media::hls;
use crate::readers::check_tools;
use anyhow::{Result, bail};
use camera::{Camera, Feed, wall_clock_ms};
use figures::Delays;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use viewer::{Listen, Viewer};

/// From the start command to ON AIR at most.
const ON_AIR_TIME_MAX: Duration = Duration::from_secs(30);
/// From a connection to its first decoded picture at most.
const FIRST_PICTURE_TIME_MAX: Duration = Duration::from_secs(20);
/// After the first picture, before measuring: ffmpeg decodes what it held back while it looked at the stream.
const SETTLE: Duration = Duration::from_secs(5);
/// How often the HLS playlist is looked at.
const PLAYLIST_PERIOD: Duration = Duration::from_millis(50);

/// What is measured, and where.
#[derive(Debug, Clone)]
pub struct LatencyOptions {
    /// The lab; its `media` is replaced by the camera.
    pub lab: LabOptions,
    /// How long each way is measured.
    pub seconds: u64,
}

/// Delays at one output.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its protocol.
    pub name: &'static str,
    /// From the camera through Strata.
    pub through: Delays,
    /// From the camera straight to the viewer; `None` where there is no such way.
    pub direct: Option<Delays>,
    /// Pictures whose time could not be read.
    pub unreadable: u64,
    /// Pictures older than the one before them.
    pub out_of_order: u64,
}

impl Output {
    /// What Strata adds, in milliseconds: the difference of the medians.
    pub fn share_ms(&self) -> Option<u64> {
        self.direct.as_ref().map(|direct| self.through.median().saturating_sub(direct.median()))
    }
}

/// The result.
#[derive(Debug, Clone)]
pub struct Report {
    /// The bond's latency budget, milliseconds.
    pub budget_ms: u32,
    /// RTMP, SRT, HLS.
    pub outputs: Vec<Output>,
}

/// Measures the direct ways, then the way through Strata.
///
/// # Errors
/// Something does not start, or no picture arrives.
pub async fn measure(options: LatencyOptions) -> Result<Report> {
    check_tools(&["ffmpeg", "ffprobe"])?;
    let LatencyOptions { mut lab, seconds } = options;
    let time = Duration::from_secs(seconds);
    let ports = lab.ports.clone();
    let direct_rtmp = direct(&Feed::Rtmp(ports.rtmp), &Listen::Rtmp(ports.rtmp), time).await?;
    let direct_srt = direct(&Feed::Srt(ports.srt), &Listen::Srt(ports.srt), time).await?;

    let camera = Camera::start(&Feed::Udp(ports.camera))?;
    lab.media = MediaSource::Lan(format!("udp://127.0.0.1:{}", ports.camera));
    let budget_ms = lab.latency_ms;
    let (rtmp, srt) = (Viewer::start(&Listen::Rtmp(ports.rtmp))?, Viewer::start(&Listen::Srt(ports.srt))?);
    let directory = lab.directory.clone();
    let mut lab = Lab::open(lab).await?;
    let device = lab.enrol("Latency").await?;
    let destinations = lab.add_readers_as_destinations("latency").await?;
    let stream = lab.dashboard.start(&device, &json!({ "destinations": destinations })).await?;
    lab.stream_until(&stream, "ON AIR", ON_AIR_TIME_MAX, |state| state["on_air"] == true).await?;
    for (name, viewer) in [("RTMP", &rtmp), ("SRT", &srt)] {
        if !first_picture(viewer).await {
            bail!("no picture by {name} within {FIRST_PICTURE_TIME_MAX:?}");
        }
    }
    tokio::time::sleep(SETTLE).await;
    let from = Instant::now();
    let hls = watch_hls(&mut lab, &stream, &directory, time).await?;
    let outputs = vec![
        output("RTMP", &rtmp, from, Some(direct_rtmp)),
        output("SRT", &srt, from, Some(direct_srt)),
        Output { name: "HLS", through: hls, direct: None, unreadable: 0, out_of_order: 0 },
    ];
    lab.dashboard.stop(&device).await?;
    lab.stream_until(&stream, "ended", ON_AIR_TIME_MAX, |state| state["state"] == "ended").await?;
    drop((camera, rtmp, srt));
    lab.close().await?;
    Ok(Report { budget_ms, outputs })
}

fn output(name: &'static str, viewer: &Viewer, from: Instant, direct: Option<Delays>) -> Output {
    let seen = viewer.seen();
    let (unreadable, out_of_order) = (seen.unreadable, seen.out_of_order);
    Output { name, through: seen.since(from), direct, unreadable, out_of_order }
}

/// From the camera straight to the viewer.
async fn direct(feed: &Feed, listen: &Listen, time: Duration) -> Result<Delays> {
    let viewer = Viewer::start(listen)?;
    let mut camera = Camera::start(feed)?;
    let until = Instant::now() + FIRST_PICTURE_TIME_MAX;
    while !viewer.has_pictures() {
        if Instant::now() > until {
            bail!("no picture by {} straight from the camera within {FIRST_PICTURE_TIME_MAX:?}", feed.name());
        }
        tokio::time::sleep(PLAYLIST_PERIOD).await;
        if !camera.is_running() {
            camera = Camera::start(feed)?; // the viewer was not listening yet
        }
    }
    tokio::time::sleep(SETTLE).await;
    let from = Instant::now();
    tokio::time::sleep(time).await;
    Ok(viewer.seen().since(from))
}

async fn first_picture(viewer: &Viewer) -> bool {
    let until = Instant::now() + FIRST_PICTURE_TIME_MAX;
    while !viewer.has_pictures() && Instant::now() < until {
        tokio::time::sleep(PLAYLIST_PERIOD).await;
    }
    viewer.has_pictures()
}

/// Ages of all pictures of the segments that are listed during `time`, each at the moment of its listing.
async fn watch_hls(lab: &mut Lab, stream: &str, directory: &std::path::Path, time: Duration) -> Result<Delays> {
    let mut known: BTreeSet<String> = hls::playlist(&mut lab.dashboard, stream).await?.into_iter().collect();
    let (mut listed, until): (Vec<(PathBuf, u64)>, _) = (Vec::new(), Instant::now() + time);
    while Instant::now() < until {
        let names = hls::playlist(&mut lab.dashboard, stream).await?;
        let listed_ms = wall_clock_ms();
        for name in names {
            if known.contains(&name) {
                continue;
            }
            let file = directory.join(format!("hls-{}.ts", listed.len()));
            hls::fetch_one(&mut lab.dashboard, stream, &name, &file).await?;
            listed.push((file, listed_ms));
            known.insert(name);
        }
        tokio::time::sleep(PLAYLIST_PERIOD).await;
    }
    let mut delays = Vec::new();
    for (file, listed_ms) in listed {
        delays.extend(viewer::times_in(&file)?.into_iter().map(|made_ms| listed_ms.saturating_sub(made_ms)));
    }
    Ok(Delays::of(delays))
}

/// Three modems of constant capacity, as different as in a van.
pub fn links() -> Vec<LabLink> {
    let constant = |kbps| link_sim::Capacity::Constant { kbps };
    vec![
        LabLink::modem(1, "Northcell", "5G", constant(6000), 25.0, 0.002),
        LabLink::modem(2, "Bluewave", "4G", constant(4000), 40.0, 0.005),
        LabLink::modem(3, "Terra", "4G", constant(3000), 60.0, 0.005),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Age of the picture at the viewer, in milliseconds; the bond's latency budget is {}.",
            self.budget_ms
        )?;
        writeln!(f, "{:<22} {:>8} {:>8} {:>8} {:>8}", "", "pictures", "p50", "p99", "max")?;
        for output in &self.outputs {
            writeln!(f, "{:<22} {}", format!("{} through Strata", output.name), output.through)?;
            if let Some(direct) = &output.direct {
                writeln!(f, "{:<22} {direct}", format!("{} without", output.name))?;
            }
            if let Some(share) = output.share_ms() {
                let beyond = share.saturating_sub(self.budget_ms.into());
                writeln!(f, "{:<22} {:>8} {share:>8}   ({beyond} beyond the budget)", "  Strata's share", "")?;
            }
            if output.unreadable + output.out_of_order > 0 {
                let Output { unreadable, out_of_order, .. } = output;
                writeln!(f, "  {unreadable} pictures without a readable time, {out_of_order} out of order")?;
            }
        }
        Ok(())
    }
}
