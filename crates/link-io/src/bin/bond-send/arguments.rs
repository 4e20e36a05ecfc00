//! The command line of `bond-send`, in two steps: what was typed, and what it means.

use anyhow::Context;
use bond::config::{Extension, KeySize, Profile, PskConfig, SenderConfig, VIRTUAL_PORT_DEFAULT};
use clap::Parser;
use link_io::media::Endpoint;
use link_io::program::{StatsFormat, link_list, read_logins, read_psk};
use link_io::sender::SenderOptions;
use std::path::PathBuf;
use std::time::Duration;

/// Sends an MPEG transport stream over one or more network links as one RIST flow.
///
/// Between this program and bond-receive the engine's own reports steer each link; any other RIST receiver gets plain RIST.
#[derive(Debug, Parser)]
#[command(name = "bond-send", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// udp://@:PORT or udp://IP:PORT to listen on, a transport stream file (paced by its PCR), or - for standard input (not paced).
    #[arg(long, alias = "in", value_name = "INPUT")]
    input: Endpoint,
    /// Where to send, one destination a link; see below for the options of a link.
    #[arg(long, value_name = "LINKS")]
    links: String,
    /// File with a local address a line: one link for each, to the one destination of --links or to one each.
    #[arg(long, value_name = "FILE")]
    bind_list: Option<PathBuf>,
    /// Latency budget in milliseconds, 50 to 10000.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    latency: u64,
    /// RIST profile: main or simple (even port, RTCP on the next one, no encryption).
    #[arg(long, value_name = "PROFILE", default_value = "main", value_parser = profile)]
    profile: Profile,
    /// File whose first line is the passphrase of the encryption.
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
    /// Key length: 128 or 256.
    #[arg(long, value_name = "BITS", default_value = "256", value_parser = key_size)]
    aes: KeySize,
    /// Change the key after this many packets.
    #[arg(long, value_name = "PACKETS")]
    key_rotation: Option<u32>,
    /// File with user:password for the login at the receiver.
    #[arg(long, value_name = "FILE")]
    srp_file: Option<PathBuf>,
    /// Name told to the receiver.
    #[arg(long, value_name = "NAME", default_value = "")]
    cname: String,
    /// RTP SSRC of the flow; drawn when absent.
    #[arg(long, value_name = "NUMBER")]
    flow_id: Option<u32>,
    /// Virtual destination port of the main profile, even.
    #[arg(long, value_name = "PORT", default_value_t = VIRTUAL_PORT_DEFAULT)]
    virtual_port: u16,
    /// Leave null packets out on the way.
    #[arg(long)]
    null_deletion: bool,
    /// Do not offer the engine's own extension.
    #[arg(long)]
    plain: bool,
    /// Statistics on standard output: none, text or json.
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    stats: StatsFormat,
}

const AFTER_HELP: &str = "\
A link is HOST:PORT followed by options, links are separated by commas (quote them for the shell):
  HOST:PORT;name=modem-1;bind=IP;dev=INTERFACE;weight=N;priority=N;max-kbps=N;budget-mb=N;mtu=BYTES
  weight    fixed share towards a receiver without the extension (default: the engine decides)
  priority  0 first; higher numbers only carry what the lower ones cannot

Example:
  bond-send --input udp://@:6000 --latency 1500 --psk-file key \\
            --links 'relay.example:5000;dev=wwan0;name=A,relay.example:5000;dev=wwan1;name=B'";

/// What the arguments mean.
pub(crate) struct Settings {
    pub(crate) input: Endpoint,
    pub(crate) options: SenderOptions,
    pub(crate) stats: StatsFormat,
}

impl Arguments {
    /// Reads the files that are named and checks what belongs together.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let binds = match &self.bind_list {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the list of local addresses {}", path.display()))?,
            ),
            None => None,
        };
        let links = link_list(&self.links, binds.as_deref()).context("--links")?;
        let psk = match &self.psk_file {
            Some(path) => {
                let passphrase = read_psk(path)?;
                Some(PskConfig { passphrase, key_size: self.aes, rotate_after_packets: self.key_rotation })
            }
            None => None,
        };
        let srp = match &self.srp_file {
            Some(path) => read_logins(path)?.into_iter().next(),
            None => None,
        };
        let bond = SenderConfig {
            profile: self.profile,
            psk,
            srp,
            cname: self.cname,
            latency: Duration::from_millis(self.latency),
            flow_id: self.flow_id,
            virtual_port: self.virtual_port,
            null_deletion: self.null_deletion,
            extension: if self.plain { Extension::Off } else { Extension::Offer },
        };
        Ok(Settings { input: self.input, options: SenderOptions { bond, links }, stats: self.stats })
    }
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "main" => Ok(Profile::Main),
        "simple" => Ok(Profile::Simple),
        _ => Err("neither main nor simple".to_owned()),
    }
}

fn key_size(text: &str) -> Result<KeySize, String> {
    match text {
        "128" => Ok(KeySize::Aes128),
        "256" => Ok(KeySize::Aes256),
        _ => Err("neither 128 nor 256".to_owned()),
    }
}
