//! `make figures`: what the product's programs cost, measured on release builds in a lab at a steady rate.
//!
//! CPU is user and system time of the process over the measured time, in percent of one core; memory is the most that was
//! resident since the process began. Both come from `/proc`; readers, links and this tool are processes of their own and
//! are not counted. The first stream has every output; the second one RTMP alone: HLS and recording, which a relay always
//! wants, are taken away over the receiver's own socket, after the relay was ended and in its place.

use crate::demo::place::Place;
use crate::lab::ports::Ports;
use crate::lab::usage::{Usage, usage};
use crate::lab::{Lab, LabLink, LabOptions, MediaSource, USER};
use crate::readers::{Protocol, Reader, Use, check_tools};
use anyhow::{Context as _, Result, ensure};
use daemon::socket::Connection;
use link_sim::Capacity;
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What settles first: connections, the encoder's rate, the first key frames.
const WARM_UP: Duration = Duration::from_secs(10);
/// How long the way to ON AIR, or the end of a stream, may take.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);
/// A line of the receiver's socket holds a report with every link and output.
const LINE_BYTES_MAX: usize = 256 * 1024;
const KEY: &str = "figures";
const PROGRAMS: [&str; 4] = ["strata-agent", "strata-streamer", "strata-relay", "strata-receiver"];
/// The receiver's bounds in the design: percent of one core, MiB.
const RECEIVER_MAX: (f64, f64) = (2.0, 40.0);

/// What is measured.
#[derive(Debug, Clone)]
pub struct FiguresOptions {
    /// Everything is written below it.
    pub directory: PathBuf,
    /// What the device captures.
    pub media: MediaSource,
    /// How long each stream is measured.
    pub seconds: u64,
    /// Video bitrate, kbit/s.
    pub bitrate_kbps: u32,
}

/// One program's cost over the measured time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    program: &'static str,
    cpu_percent: f64,
    peak_rss_mib: f64,
}

/// One stream's figures.
#[derive(Debug, Clone)]
struct Figures {
    what: &'static str,
    to_on_air: Duration,
    measured: Duration,
    /// Mean rate of what the receiver got on all links, bit/s.
    rate: f64,
    /// Payloads lost over the measured time.
    lost: u64,
    costs: Vec<Cost>,
}

/// Measures both streams and prints the figures.
///
/// # Errors
/// A program does not start, or the media does not come through while it is measured.
pub async fn run(options: FiguresOptions) -> Result<()> {
    check_tools(&["ffmpeg"])?;
    if cfg!(debug_assertions) {
        println!("These are no release builds: the figures say nothing. Run `make figures`.");
    }
    let place = Place::take(&options.directory).await?;
    let links = links();
    let gateways: Vec<_> = links.iter().map(|link| link.gateway).collect();
    let ports = Ports::any(&gateways)?;
    let lab = LabOptions {
        directory: place.run_directory(),
        ports: ports.clone(),
        media: options.media.clone(),
        links,
        latency_ms: 1000,
        bitrate_max_kbps: options.bitrate_kbps,
    };
    let rtmp = Reader::start(Protocol::Rtmp, ports.rtmp, KEY, &lab.directory, Use::Discard)?;
    let srt = Reader::start(Protocol::Srt, ports.srt, KEY, &lab.directory, Use::Discard)?;
    let mut lab = Lab::open(lab).await?;
    let device = lab.enrol(USER).await?;
    let destinations = lab.add_readers_as_destinations(KEY).await?;
    let seconds = Duration::from_secs(options.seconds);

    println!("Measuring for {} s with every output ...", options.seconds);
    let all = every_output(&mut lab, &device, &destinations, seconds).await?;
    println!("Measuring for {} s with one RTMP output ...", options.seconds);
    let one = rtmp_alone(&mut lab, &device, &destinations[0], seconds).await?;
    let figures = [rtmp.stop().await, srt.stop().await];
    ensure!(figures.iter().all(|reader| reader.frames > 25 * options.seconds), "a reader got too little: {figures:?}");
    println!("\n{all}\n{one}");
    Ok(())
}

/// Three constant links that carry well over twice the rate, with a little loss.
fn links() -> Vec<LabLink> {
    let constant = |kbps| Capacity::Constant { kbps };
    vec![
        LabLink::modem(1, "Northcell", "5G", constant(8000), 20.0, 0.001),
        LabLink::modem(2, "Bluewave", "4G", constant(6000), 35.0, 0.002),
        LabLink::modem(3, "Terra", "4G", constant(4000), 60.0, 0.002),
    ]
}

async fn go_live(lab: &mut Lab, device: &str, destinations: &[String]) -> Result<(String, Duration)> {
    let pressed = Instant::now();
    let stream = lab.dashboard.start(device, &json!({ "destinations": destinations })).await?;
    lab.stream_until(&stream, "ON AIR", CHANGE_TIME_MAX, |state| state["on_air"] == true).await?;
    Ok((stream, pressed.elapsed()))
}

async fn every_output(lab: &mut Lab, device: &str, destinations: &[String], time: Duration) -> Result<Figures> {
    let (stream, to_on_air) = go_live(lab, device, destinations).await?;
    sleep(WARM_UP).await;
    let state = lab.dashboard.stream(&stream).await?;
    let outputs = state["outputs"].as_array().context("the stream has no outputs")?;
    let active = outputs.iter().filter(|output| output["state"]["state"] == "active").count();
    ensure!(active == 2 + destinations.len(), "an output is not active: {outputs:?}");
    let (lost, before, start) = (lost(&state["receiver"])?, usages(lab)?, Instant::now());
    let mut rates = Vec::new();
    while start.elapsed() < time {
        sleep(Duration::from_secs(1)).await;
        let state = lab.dashboard.stream(&stream).await?;
        rates.push(rate(&state["receiver"])?);
    }
    let (measured, after) = (start.elapsed(), usages(lab)?);
    let state = lab.dashboard.stream(&stream).await?;
    lab.dashboard.stop(device).await?;
    lab.stream_until(&stream, "ended", CHANGE_TIME_MAX, |state| state["state"] == "ended").await?;
    Ok(Figures {
        what: "RTMP, SRT, HLS and recording",
        to_on_air,
        measured,
        rate: mean(&rates),
        lost: self::lost(&state["receiver"])? - lost,
        costs: costs(&before, &after, measured),
    })
}

async fn rtmp_alone(lab: &mut Lab, device: &str, destination: &String, time: Duration) -> Result<Figures> {
    let (stream, to_on_air) = go_live(lab, device, std::slice::from_ref(destination)).await?;
    let receiver = lab.worker("strata-receiver").context("no receiver runs")?;
    lab.relay.take().context("no relay runs")?.kill()?;
    let socket = lab.stream_directory(&stream).join("receiver.sock");
    let (mut reader, mut writer) = Connection::open(&socket, LINE_BYTES_MAX).await?.split();
    for id in ["hls", "recording"] {
        writer.send(&json!({ "kind": "remove-output", "id": id })).await?;
    }
    let settled = Instant::now() + WARM_UP;
    let mut report = Value::Null;
    while Instant::now() < settled {
        report = next_report(&mut reader).await?;
    }
    let outputs = report["outputs"].as_array().context("the report names no outputs")?;
    ensure!(outputs.len() == 1 && outputs[0]["state"]["state"] == "active", "not one RTMP output: {outputs:?}");
    let before = usage(receiver).context("the receiver has ended")?;
    let (lost, start, mut rates) = (lost(&report)?, Instant::now(), Vec::new());
    while start.elapsed() < time {
        report = next_report(&mut reader).await?;
        rates.push(rate(&report)?);
    }
    let measured = start.elapsed();
    let after = usage(receiver).context("the receiver has ended")?;
    let costs = costs(&[("strata-receiver", before)], &[("strata-receiver", after)], measured);
    let lost = self::lost(&report)? - lost;
    Ok(Figures { what: "one RTMP output", to_on_air, measured, rate: mean(&rates), lost, costs })
}

/// The next report of the receiver, which comes once a second.
async fn next_report(reader: &mut daemon::socket::Reader) -> Result<Value> {
    loop {
        let line: Value = reader.next().await?.context("the receiver closed its socket")?;
        if line["kind"] == "stats" {
            return Ok(line);
        }
    }
}

fn lost(report: &Value) -> Result<u64> {
    report["lost"].as_u64().with_context(|| format!("no count of lost payloads in {report}"))
}

fn rate(report: &Value) -> Result<f64> {
    report["rate"].as_f64().with_context(|| format!("no rate in {report}"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn usages(lab: &Lab) -> Result<Vec<(&'static str, Usage)>> {
    let one = |name: &'static str| {
        let pid = lab.worker(name).with_context(|| format!("{name} does not run"))?;
        Ok((name, usage(pid).with_context(|| format!("{name} has ended"))?))
    };
    PROGRAMS.into_iter().map(one).collect()
}

fn costs(before: &[(&'static str, Usage)], after: &[(&'static str, Usage)], time: Duration) -> Vec<Cost> {
    let pairs = before.iter().zip(after);
    let cost = |((program, before), (_, after)): (&(&'static str, Usage), &(&'static str, Usage))| Cost {
        program,
        cpu_percent: 100.0 * (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / time.as_secs_f64(),
        peak_rss_mib: after.peak_rss_kib as f64 / 1024.0,
    };
    pairs.map(cost).collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (on_air, measured) = (self.to_on_air.as_secs_f64(), self.measured.as_secs_f64());
        writeln!(f, "{}: ON AIR after {on_air:.1} s; measured for {measured:.0} s", self.what)?;
        writeln!(f, "  {:.2} Mbit/s arrived, {} payloads lost", self.rate / 1e6, self.lost)?;
        for Cost { program, cpu_percent, peak_rss_mib } in &self.costs {
            write!(f, "  {program:<15} {cpu_percent:6.2} % of a core, {peak_rss_mib:5.1} MiB at most")?;
            if *program == "strata-receiver" {
                let kept = *cpu_percent < RECEIVER_MAX.0 && *peak_rss_mib < RECEIVER_MAX.1;
                let word = if kept { "kept" } else { "MISSED" };
                write!(f, "  (aim: < {} %, < {} MiB: {word})", RECEIVER_MAX.0, RECEIVER_MAX.1)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_differences_over_the_measured_time() {
        let at = |ms, kib| Usage { cpu: Duration::from_millis(ms), peak_rss_kib: kib };
        let (before, after) = ([("strata-receiver", at(500, 9000))], [("strata-receiver", at(1700, 10_240))]);
        let costs = costs(&before, &after, Duration::from_mins(1));
        assert_eq!(costs, [Cost { program: "strata-receiver", cpu_percent: 2.0, peak_rss_mib: 10.0 }]);
        let figures = Figures {
            what: "one RTMP output",
            to_on_air: Duration::from_millis(1500),
            measured: Duration::from_mins(1),
            rate: 5.2e6,
            lost: 0,
            costs,
        };
        let text = figures.to_string();
        assert!(text.contains("2.00 % of a core,  10.0 MiB at most  (aim: < 2 %, < 40 MiB: MISSED)"), "{text}");
    }
}
