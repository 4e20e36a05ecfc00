//! `strata-receiver`: one stream, from the bond to its outputs. Started by `strata-relay`; see `relay::receiver`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Receives one stream. Everything else, secrets included, comes over the socket.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The control socket to make and serve.
    #[arg(long)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::log::init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "receiver failed");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let shutdown = daemon::shutdown::Shutdown::on_signals()?;
        relay::receiver::run(&arguments.socket, shutdown).await?;
        anyhow::Ok(())
    });
    runtime.shutdown_background(); // an output that hangs must not hold the process
    outcome
}
