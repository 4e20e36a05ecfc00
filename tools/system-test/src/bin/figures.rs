//! `strata-figures`: what the product's programs cost at a steady rate.

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use system_test::demo::parse_media;
use system_test::figures::{FiguresOptions, run};
use system_test::lab::MediaSource;

/// Measures CPU and memory of agent, streamer, relay and receiver, live on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Directory for everything that is written.
    #[arg(long)]
    data: PathBuf,
    /// What the sender captures: `test` or `file:PATH`.
    #[arg(long, default_value = "test", value_parser = parse_media)]
    media: MediaSource,
    /// How long each stream is measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Video bitrate, kbit/s.
    #[arg(long, default_value_t = 5000)]
    bitrate: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { data, media, seconds, bitrate } = Arguments::parse();
    daemon::log::init_at("warn");
    run(FiguresOptions { directory: data, media, seconds, bitrate_kbps: bitrate }).await
}
