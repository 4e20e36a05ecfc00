//! `strata-receiver`: receives one stream and feeds its outputs.

use clap::Parser;
use daemon::shutdown::Shutdown;
use relay::receiver::{End, serve};
use std::path::PathBuf;
use std::process::ExitCode;

/// Receives one bonded stream and feeds its outputs. Everything it needs comes on its socket.
#[derive(Debug, Parser)]
#[command(name = "strata-receiver", version)]
struct Arguments {
    /// Socket to make and listen on for the relay.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    daemon::log::init_worker();
    // One thread is enough for what the outputs leave to do here; files and SRT have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async { anyhow::Ok(serve(&arguments.socket, Shutdown::on_signals()?).await?) })?;
    // An output that hangs in the system must not keep the process.
    runtime.shutdown_background();
    Ok(if end == End::Stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
