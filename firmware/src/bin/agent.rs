//! `strata-agent`: the control plane of a field sender.

use clap::Parser;
use firmware::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// The agent of a Strata field sender.
#[derive(Debug, Parser)]
#[command(name = "strata-agent", version)]
struct Arguments {
    /// Configuration file; `agent.example.toml` explains every key.
    #[arg(long)]
    config: PathBuf,
    /// File holding a claim link, for enrolment without the local page.
    #[arg(long)]
    claim_file: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::log::init();
    match agent(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "agent cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn agent(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = daemon::shutdown::Shutdown::on_signals()?;
    let config: Config = daemon::config::load(&arguments.config)?;
    firmware::run::run(config, arguments.claim_file, shutdown).await
}
