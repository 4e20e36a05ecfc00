//! `strata-relay`: broker, dashboard and control of the receivers. See the crate's documentation.

use clap::Parser;
use relay::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// The relay of Strata: devices connect to it, operators look at it, streams come through it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file; relay.example.toml lists every key.
    #[arg(long)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::log::init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strata-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config: Config = daemon::config::load(&arguments.config)?;
    let config = config.checked()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let shutdown = daemon::shutdown::Shutdown::on_signals()?;
        relay::run::run(config, shutdown, |_| daemon::notify::ready()).await?;
        daemon::notify::stopping();
        anyhow::Ok(())
    });
    // Receivers are processes of their own and stay; tasks that wait on them must not hold the end up.
    runtime.shutdown_background();
    outcome
}
