//! The command line of `bond-receive`, in two steps: what was typed, and what it means.

use anyhow::Context;
use bond::config::ReceiverConfig;
use clap::Parser;
use link_io::media::{Endpoint, resolve_all};
use link_io::program::{FlowArguments, StatsFormat};
use link_io::receiver::ReceiverOptions;
use link_io::settings::read_logins;
use std::path::PathBuf;
use std::time::Duration;

/// Receives a RIST flow from one or more network links and writes the MPEG transport stream.
///
/// From bond-send, or from any RIST sender: librist's ristsender, ffmpeg, broadcast encoders.
#[derive(Debug, Parser)]
#[command(name = "bond-receive", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Addresses to listen on, IP:PORT[,IP:PORT...]; all links may come to one of them.
    #[arg(long, value_name = "ADDRESSES", required_unless_present = "connect")]
    listen: Option<String>,
    /// Listening senders to call, HOST:PORT[,HOST:PORT...] (main profile).
    #[arg(long, value_name = "ADDRESSES")]
    connect: Option<String>,
    /// udp://HOST:PORT to send to, a file, or - for standard output (statistics go to standard error then).
    #[arg(long, alias = "out", value_name = "OUTPUT")]
    output: Endpoint,
    #[command(flatten)]
    flow: FlowArguments,
    /// File with a user:password a line: senders must log in (SRP).
    #[arg(long, value_name = "FILE")]
    srp_file: Option<PathBuf>,
    /// How long a gap may stay open before a plain RIST sender is asked, in milliseconds [default: follows the RTT].
    #[arg(long, value_name = "MS")]
    reorder: Option<u64>,
}

const AFTER_HELP: &str = "\
Example:
  bond-receive --listen 0.0.0.0:5000 --latency 1500 --psk-file key --output udp://127.0.0.1:7000 --stats text

docs/transport.md tells how to read the statistics.";

/// What the arguments mean.
pub(crate) struct Settings {
    pub(crate) output: Endpoint,
    pub(crate) options: ReceiverOptions,
    pub(crate) stats: StatsFormat,
}

impl Arguments {
    /// Reads the files that are named and resolves addresses.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let psk = self.flow.psk().context("--psk-file")?;
        let (latency, extension) = (self.flow.latency(), self.flow.extension());
        let srp_users = match &self.srp_file {
            Some(path) => read_logins(path).context("--srp-file")?,
            None => Vec::new(),
        };
        let bond = ReceiverConfig {
            profile: self.flow.profile,
            psk,
            srp_users,
            cname: self.flow.cname,
            latency,
            reorder: self.reorder.map(Duration::from_millis),
            extension,
            ..ReceiverConfig::default()
        };
        let addresses = |text: Option<String>| resolve_all(text.as_deref().unwrap_or_default());
        let options = ReceiverOptions {
            bond,
            listen: addresses(self.listen).context("--listen")?,
            connect: addresses(self.connect).context("--connect")?,
        };
        Ok(Settings { output: self.output, options, stats: self.flow.stats })
    }
}
