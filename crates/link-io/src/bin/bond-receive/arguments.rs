//! The command line of `bond-receive`, in two steps: what was typed, and what it means.

use anyhow::{Context, ensure};
use bond::config::ReceiverConfig;
use clap::Parser;
use link_io::media::{Endpoint, EndpointError, resolve_all};
use link_io::program::{FlowArguments, StatsFormat};
use link_io::receiver::ReceiverOptions;
use link_io::settings::read_logins;
use std::path::PathBuf;
use std::str::FromStr;
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
    /// udp://HOST:PORT to send to, a file, or - for standard output (statistics go to standard error then). Several flows that
    /// come to the same addresses: one --output each, as VIRTUAL-PORT=OUTPUT.
    #[arg(long = "output", alias = "out", value_name = "[PORT=]OUTPUT", required = true)]
    outputs: Vec<FlowOutput>,
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

Two flows of `bond-send --virtual-port 2000` and `... 2002`, told apart:
  bond-receive --listen 0.0.0.0:5000 --output 2000=udp://127.0.0.1:7000 --output 2002=udp://127.0.0.1:7002

docs/transport.md tells how to read the statistics.";

/// An output, perhaps of one flow only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowOutput {
    /// The flow's virtual destination port; `None` takes whatever flow comes first.
    pub(crate) port: Option<u16>,
    pub(crate) endpoint: Endpoint,
}

impl FromStr for FlowOutput {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        // What is no number before the equals sign belongs to a file name.
        let ported = text.split_once('=').and_then(|(port, rest)| Some((port.parse().ok()?, rest)));
        let (port, rest) = ported.map_or((None, text), |(port, rest)| (Some(port), rest));
        Ok(Self { port, endpoint: rest.parse()? })
    }
}

/// What the arguments mean.
pub(crate) struct Settings {
    pub(crate) outputs: Vec<FlowOutput>,
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
        check_outputs(&self.outputs)?;
        let bond = ReceiverConfig {
            profile: self.flow.profile,
            psk,
            srp_users,
            cname: self.flow.cname,
            latency,
            reorder: self.reorder.map(Duration::from_millis),
            extension,
            virtual_ports: self.outputs.iter().filter_map(|output| output.port).collect(),
            ..ReceiverConfig::default()
        };
        let addresses = |text: Option<String>| resolve_all(text.as_deref().unwrap_or_default());
        let options = ReceiverOptions {
            bond,
            listen: addresses(self.listen).context("--listen")?,
            connect: addresses(self.connect).context("--connect")?,
        };
        Ok(Settings { outputs: self.outputs, options, stats: self.flow.stats })
    }
}

/// Each of several outputs takes the flow of a port of its own.
fn check_outputs(outputs: &[FlowOutput]) -> anyhow::Result<()> {
    if outputs.len() > 1 {
        let all = outputs.iter().all(|output| output.port.is_some());
        ensure!(all, "--output: of several, each needs the virtual port of its flow: PORT=OUTPUT");
    }
    for (index, output) in outputs.iter().enumerate() {
        let taken = outputs[..index].iter().any(|other| other.port == output.port);
        ensure!(!taken, "--output: virtual port {} is named twice", output.port.unwrap_or_default());
    }
    for (index, output) in outputs.iter().enumerate() {
        let taken = outputs[..index].iter().any(|other| other.endpoint == output.endpoint);
        ensure!(!taken, "--output: only one flow can go to {}", output.endpoint);
    }
    Ok(())
}
