//! Measures the age of the picture at every output: `make latency SECONDS=30`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use system_test::lab::ports::Ports;
use system_test::lab::{LabOptions, MediaSource};
use system_test::latency::{LatencyOptions, links, measure};

/// Runs the whole product on this machine with a camera that writes the time into its pictures, and reads it back from what
/// the outputs give.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each way is measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Latency budget of the bond, milliseconds.
    #[arg(long, default_value_t = 1000)]
    latency: u32,
    /// Highest video bitrate, kbit/s.
    #[arg(long, default_value_t = 3000)]
    bitrate: u32,
    /// Directory for everything that is written, below `run`; a temporary one when not given.
    #[arg(long)]
    data: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    daemon::log::init_at("warn");
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe measurement failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    // A lab ends every process with an argument below its directory: one that was given on the command line is not it.
    let directory = arguments.data.unwrap_or_else(|| temporary.path().to_owned()).join("run");
    std::fs::create_dir_all(&directory)?;
    let links = links();
    let gateways: Vec<_> = links.iter().map(|link| link.gateway).collect();
    let lab = LabOptions {
        directory: directory.canonicalize()?,
        ports: Ports::any(&gateways)?,
        media: MediaSource::Test,
        links,
        latency_ms: arguments.latency,
        bitrate_max_kbps: arguments.bitrate,
    };
    println!("Measuring for three times {} s ...", arguments.seconds);
    println!("\n{}", measure(LatencyOptions { lab, seconds: arguments.seconds }).await?);
    Ok(())
}
