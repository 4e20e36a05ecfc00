//! `strata-demo`: relay, simulated sender, emulated links and readers on this machine; live by itself.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use system_test::demo::{DemoOptions, parse_media, run};
use system_test::lab::MediaSource;

/// Runs the whole product on this machine and goes live by itself.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Directory for everything that is written.
    #[arg(long, default_value = "demo-data")]
    data: PathBuf,
    /// What the sender captures: `test` or `file:PATH`.
    #[arg(long, default_value = "test", value_parser = parse_media)]
    media: MediaSource,
    /// End by itself after this many seconds ON AIR; the status tells whether the media came through.
    #[arg(long)]
    seconds: Option<u64>,
    /// Highest video bitrate, kbit/s.
    #[arg(long, default_value_t = 3000)]
    bitrate: u32,
    /// Latency budget, milliseconds.
    #[arg(long, default_value_t = 1000)]
    latency: u32,
    /// Cut every link for this many seconds, 10 s after ON AIR: to see what an outage does.
    #[arg(long)]
    outage: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { data, media, seconds, bitrate, latency, outage } = Arguments::parse();
    daemon::log::init_at("warn");
    let outage = outage.map(Duration::from_secs);
    let options =
        DemoOptions { directory: data, media, seconds, bitrate_max_kbps: bitrate, latency_ms: latency, outage };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
