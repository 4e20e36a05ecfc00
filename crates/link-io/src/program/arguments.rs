//! The options that `bond-send` and `bond-receive` have in common, and what they mean.

use super::report::StatsFormat;
use crate::settings::{SecretError, read_psk};
use bond::config::{Extension, KeySize, Profile, PskConfig};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Options of both ends of a flow; most must be the same at both.
#[derive(Debug, Args)]
pub struct FlowArguments {
    /// Latency budget in milliseconds, 50 to 10000: from the sender's input to the receiver's output; the same at both ends.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    latency: u64,
    /// File whose first line is the passphrase of the encryption; the same at both ends.
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
    /// Key length of what this end sends: 128 or 256; with --psk-file.
    #[arg(long, value_name = "BITS", default_value = "256", value_parser = key_size, requires = "psk_file")]
    aes: KeySize,
    /// Change the key after this many packets [default: as seldom as is safe]; with --psk-file.
    #[arg(long, value_name = "PACKETS", requires = "psk_file")]
    key_rotation: Option<u32>,
    /// RIST profile: main, or simple (even port, RTCP on the next one, no encryption); the same at both ends.
    #[arg(long, value_name = "PROFILE", default_value = "main", value_parser = profile)]
    pub profile: Profile,
    /// Name told to the other end.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub cname: String,
    /// Do not offer the engine's own extension: plain RIST even between these two programs.
    #[arg(long)]
    plain: bool,
    /// Statistics once a second and events as they come: none, text or json (one object a line).
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub stats: StatsFormat,
}

impl FlowArguments {
    /// The latency budget.
    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }

    /// The encryption; reads the key file.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub fn psk(&self) -> Result<Option<PskConfig>, SecretError> {
        let Some(path) = &self.psk_file else { return Ok(None) };
        let passphrase = read_psk(path)?;
        Ok(Some(PskConfig { passphrase, key_size: self.aes, rotate_after_packets: self.key_rotation }))
    }

    /// Whether to offer the engine's own reports.
    pub fn extension(&self) -> Extension {
        if self.plain { Extension::Off } else { Extension::Offer }
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
