//! Logging to standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, at `info` unless the environment variable `STRATA_LOG` holds a filter
/// (`debug`, `relay=debug,info`). Plain text on a terminal, JSON lines with `STRATA_LOG_FORMAT=json`.
///
/// The embedded broker's library never logs: it prints whole packets, and commands carry keys; what matters of it is
/// logged by its user.
///
/// Calling it twice keeps the first.
pub fn init() {
    init_at("info");
}

/// Like [`init`], with another filter while `STRATA_LOG` holds none.
pub fn init_at(filter: &str) {
    let quiet = "rumqttd=off".parse().expect("a target and a level are a directive");
    let filter = EnvFilter::try_from_env("STRATA_LOG").unwrap_or_else(|_| EnvFilter::new(filter)).add_directive(quiet);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("STRATA_LOG_FORMAT").is_ok_and(|format| format == "json");
    let outcome = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    drop(outcome); // a second call finds a subscriber in place and keeps it
}
