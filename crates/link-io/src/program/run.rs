//! The frame of a program: log to standard error, name the error, set the exit status.

use super::{Lines, Stop};
use anyhow::Context;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs `body` as the program `name`. Logs go to standard error, filtered by `RUST_LOG` (warnings when it is not set); an
/// error is printed with its causes in one line. `body` is told when to end.
pub fn run(name: &str, body: impl FnOnce(&Stop) -> anyhow::Result<()>) -> ExitCode {
    // Before any thread is started, that of the log too.
    let stop = Stop::catch();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = io::stderr().is_terminal();
    let log = Lines::new(io::stderr());
    let writer = log.clone();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).with_ansi(ansi).init();
    let ended = stop.context("cannot catch signals").and_then(|stop| body(&stop));
    // Like the log: standard error may be stuck, or closed.
    if let Err(error) = &ended {
        // There is room for it, unless nobody reads.
        log.finish();
        log.line(&format_args!("{name}: {error:#}"));
    }
    log.finish();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
