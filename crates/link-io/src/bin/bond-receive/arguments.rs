//! The command line of `bond-receive`, in two steps: what was typed, and what it means.

use anyhow::Context;
use bond::config::{Extension, KeySize, Profile, PskConfig, ReceiverConfig};
use clap::Parser;
use link_io::media::{Endpoint, resolve};
use link_io::program::{StatsFormat, read_logins, read_psk};
use link_io::receiver::ReceiverOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Receives a RIST flow from one or more network links and writes the transport stream.
#[derive(Debug, Parser)]
#[command(name = "bond-receive", version)]
pub(crate) struct Arguments {
    /// Addresses to listen on, IP:PORT[,IP:PORT...]; all links may come to one of them.
    #[arg(long, value_name = "ADDRESSES", required_unless_present = "connect")]
    listen: Option<String>,
    /// Listening senders to call, HOST:PORT[,HOST:PORT...] (main profile).
    #[arg(long, value_name = "ADDRESSES")]
    connect: Option<String>,
    /// udp://IP:PORT to send to, a file, or - for standard output.
    #[arg(long, alias = "out", value_name = "OUTPUT")]
    output: Endpoint,
    /// Latency budget in milliseconds, 50 to 10000; the same as at the sender.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    latency: u64,
    /// RIST profile: main or simple (even port, RTCP on the next one, no encryption).
    #[arg(long, value_name = "PROFILE", default_value = "main", value_parser = profile)]
    profile: Profile,
    /// File whose first line is the passphrase of the encryption.
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
    /// Key length of what is sent back: 128 or 256.
    #[arg(long, value_name = "BITS", default_value = "256", value_parser = key_size)]
    aes: KeySize,
    /// Change the key after this many packets.
    #[arg(long, value_name = "PACKETS")]
    key_rotation: Option<u32>,
    /// File with a user:password a line: senders must log in.
    #[arg(long, value_name = "FILE")]
    srp_file: Option<PathBuf>,
    /// Name told to the sender.
    #[arg(long, value_name = "NAME", default_value = "")]
    cname: String,
    /// How long a gap may stay open before a plain RIST sender is asked, in milliseconds; follows the RTT when absent.
    #[arg(long, value_name = "MS")]
    reorder: Option<u64>,
    /// Do not offer the engine's own extension.
    #[arg(long)]
    plain: bool,
    /// Statistics on standard output (standard error with --output -): none, text or json.
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    stats: StatsFormat,
}

/// What the arguments mean.
pub(crate) struct Settings {
    pub(crate) output: Endpoint,
    pub(crate) options: ReceiverOptions,
    pub(crate) stats: StatsFormat,
}

impl Arguments {
    /// Reads the files that are named and resolves addresses.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let psk = match &self.psk_file {
            Some(path) => {
                let passphrase = read_psk(path)?;
                Some(PskConfig { passphrase, key_size: self.aes, rotate_after_packets: self.key_rotation })
            }
            None => None,
        };
        let srp_users = match &self.srp_file {
            Some(path) => read_logins(path)?,
            None => Vec::new(),
        };
        let bond = ReceiverConfig {
            profile: self.profile,
            psk,
            srp_users,
            cname: self.cname,
            latency: Duration::from_millis(self.latency),
            reorder: self.reorder.map(Duration::from_millis),
            flows_max: 1,
            extension: if self.plain { Extension::Off } else { Extension::Offer },
        };
        let options = ReceiverOptions {
            bond,
            listen: addresses(self.listen.as_deref()).context("--listen")?,
            connect: addresses(self.connect.as_deref()).context("--connect")?,
        };
        Ok(Settings { output: self.output, options, stats: self.stats })
    }
}

/// The addresses of a list, each once: links may share a listening address.
fn addresses(list: Option<&str>) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for text in list.into_iter().flat_map(|list| list.split(',')) {
        let address = resolve(text.trim())?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
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
