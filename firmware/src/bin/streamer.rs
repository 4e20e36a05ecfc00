//! `strata-streamer`: the device's media process. It is told everything on its socket; see `protocol::worker::streamer`.

use clap::Parser;
use daemon::shutdown::Shutdown;
use firmware::pipeline::worker;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sends one stream over the bond. Started by strata-agent, which tells it what to do on the socket.
#[derive(Debug, Parser)]
#[command(name = "strata-streamer", version)]
struct Arguments {
    /// Socket to make and listen on.
    #[arg(long)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::log::init_worker();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "strata-streamer cannot run");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    use anyhow::Context as _;
    gstreamer::init().context("GStreamer does not start")?;
    gst_bond::register().context("the bond's elements cannot be registered")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        Ok(worker::serve(&arguments.socket, shutdown).await?)
    })
}
