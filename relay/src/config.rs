//! The relay's configuration file, `relay.toml`: every key with its default. `relay.example.toml` is the manual.

use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use thiserror::Error;
use units::Bitrate;

use protocol::stream::{EncodingSpec, LATENCY_MS_MAX, LATENCY_MS_MIN, VideoCodec};

/// Most streams in the history that can be configured.
pub const STREAMS_MAX: usize = 20_000;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Everything the relay writes is below this directory.
    pub data_dir: PathBuf,
    /// Name or address by which devices reach this relay.
    pub public_host: String,
    /// The operators' pages.
    pub dashboard: Dashboard,
    /// MQTT over TLS, for devices.
    pub broker: Listen,
    /// HTTPS, for devices without a certificate yet.
    pub enrolment: Listen,
    /// The receiver processes.
    pub receivers: Receivers,
    /// Defaults of a new stream.
    pub streams: StreamDefaults,
    /// What is kept of streams that are over.
    pub retention: Retention,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            public_host: "127.0.0.1".to_owned(),
            dashboard: Dashboard::default(),
            broker: Listen::everywhere(8883),
            enrolment: Listen::everywhere(8443),
            receivers: Receivers::default(),
            streams: StreamDefaults::default(),
            retention: Retention::default(),
        }
    }
}

/// The operators' pages: plain HTTP, meant to stand behind a TLS proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dashboard {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Leave `Secure` off the session cookie: for a loopback or bench relay without TLS proxy.
    pub insecure_cookies: bool,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), insecure_cookies: false }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Listen {
    fn everywhere(port: u16) -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)) }
    }
}

/// The receiver processes, one a stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receivers {
    /// Address their UDP sockets are bound to.
    pub bind: IpAddr,
    /// First UDP port; even ports are used.
    pub port_first: u16,
    /// Last UDP port.
    pub port_last: u16,
    /// The program; empty means `strata-receiver` beside `strata-relay`.
    pub program: PathBuf,
}

impl Default for Receivers {
    fn default() -> Self {
        Self { bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port_first: 5000, port_last: 5198, program: PathBuf::new() }
    }
}

/// What a new stream is asked to be when the operator says nothing else.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamDefaults {
    /// Latency budget of the bond, milliseconds.
    pub latency_ms: u32,
    /// Lowest video bitrate.
    pub bitrate_min_kbps: u64,
    /// Highest video bitrate.
    pub bitrate_max_kbps: u64,
    /// Longest distance of key frames, milliseconds.
    pub key_frame_interval_ms: u32,
    /// Video codec.
    pub codec: VideoCodec,
    /// Audio bitrate.
    pub audio_kbps: u64,
}

impl Default for StreamDefaults {
    fn default() -> Self {
        Self {
            latency_ms: 1000,
            bitrate_min_kbps: 300,
            bitrate_max_kbps: 5000,
            key_frame_interval_ms: 2000,
            codec: VideoCodec::H264,
            audio_kbps: 128,
        }
    }
}

impl StreamDefaults {
    /// The encoding, with another highest bitrate where one is given.
    pub fn encoding(&self, bitrate_max: Option<Bitrate>) -> EncodingSpec {
        let bitrate_max = bitrate_max.unwrap_or(Bitrate::from_kbps(self.bitrate_max_kbps));
        EncodingSpec {
            codec: self.codec,
            bitrate_min: Bitrate::from_kbps(self.bitrate_min_kbps).min(bitrate_max),
            bitrate_max,
            key_frame_interval_ms: self.key_frame_interval_ms,
            audio_bitrate: Bitrate::from_kbps(self.audio_kbps),
        }
    }
}

/// What is kept of streams that are over, and for how long. Running streams are never touched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Hours for which a preview (HLS) can still be watched.
    pub preview_hours: u64,
    /// Days for which a recording is kept; 0 for as long as there is room.
    pub recording_days: u64,
    /// Gigabytes (1e9 bytes) of all recordings; 0 for no such limit.
    pub recordings_gb_max: u64,
    /// Gigabytes that stay free on the disk; at most a tenth of it.
    pub free_gb_min: u64,
    /// Streams in the history.
    pub streams_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { preview_hours: 24, recording_days: 0, recordings_gb_max: 0, free_gb_min: 2, streams_max: 2000 }
    }
}

/// What is wrong with values that TOML cannot judge.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigValueError {
    /// No host.
    #[error("public_host is empty; set the name or address by which devices reach this relay")]
    PublicHost,
    /// The port range is unusable.
    #[error("[receivers] port_first {first} to port_last {last} holds no even port from 1024 up; widen the range")]
    Ports {
        /// First.
        first: u16,
        /// Last.
        last: u16,
    },
    /// The latency is out of range.
    #[error("[streams] latency_ms is {got}, it must be from {LATENCY_MS_MIN} to {LATENCY_MS_MAX}")]
    Latency {
        /// The value.
        got: u32,
    },
    /// The encoding is out of range.
    #[error("[streams] is not a usable encoding")]
    Encoding(#[source] protocol::stream::SpecError),
    /// No stream could be remembered, or more than can be looked through.
    #[error("[retention] streams_max is {got}, it must be from 1 to {STREAMS_MAX}")]
    Streams {
        /// The value.
        got: usize,
    },
    /// The working directory is gone, so that a relative path means nothing.
    #[error("data_dir {} cannot be made absolute", path.display())]
    DataDir {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Config {
    /// Checks values and makes `data_dir` absolute.
    ///
    /// # Errors
    /// [`ConfigValueError`] names the key.
    pub fn checked(mut self) -> Result<Self, ConfigValueError> {
        if self.public_host.is_empty() {
            return Err(ConfigValueError::PublicHost);
        }
        let Receivers { port_first: first, port_last: last, .. } = self.receivers;
        if first < 1024 || first.next_multiple_of(2) > last {
            return Err(ConfigValueError::Ports { first, last });
        }
        let latency = self.streams.latency_ms;
        if !(LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(&latency) {
            return Err(ConfigValueError::Latency { got: latency });
        }
        let streams = self.retention.streams_max;
        if !(1..=STREAMS_MAX).contains(&streams) {
            return Err(ConfigValueError::Streams { got: streams });
        }
        self.streams.encoding(None).check().map_err(ConfigValueError::Encoding)?;
        self.data_dir = std::path::absolute(&self.data_dir)
            .map_err(|source| ConfigValueError::DataDir { path: self.data_dir.clone(), source })?;
        Ok(self)
    }

    /// The receiver program: as configured, else beside the running program.
    pub fn receiver_program(&self) -> PathBuf {
        if !self.receivers.program.as_os_str().is_empty() {
            return self.receivers.program.clone();
        }
        let here = std::env::current_exe().unwrap_or_default();
        here.parent().unwrap_or(Path::new("")).join("strata-receiver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../relay.example.toml");

    #[test]
    fn the_example_holds_every_default() {
        let example: Config = daemon::config::parse(Path::new("relay.example.toml"), EXAMPLE).unwrap();
        assert_eq!(format!("{example:?}"), format!("{:?}", Config::default()));
        example.checked().unwrap();
    }

    #[test]
    fn a_wrong_value_is_named() {
        let parse = |text| daemon::config::parse::<Config>(Path::new("relay.toml"), text);
        assert!(parse("[brokr]\n").unwrap_err().to_string().contains("brokr"));
        let wrong = parse("[receivers]\nport_first = 5001\nport_last = 5001\n").unwrap();
        assert!(matches!(wrong.checked(), Err(ConfigValueError::Ports { first: 5001, last: 5001 })));
        let wrong = parse("[streams]\nlatency_ms = 20\n").unwrap();
        assert!(matches!(wrong.checked(), Err(ConfigValueError::Latency { got: 20 })));
        let wrong = parse("[retention]\nstreams_max = 0\n").unwrap();
        assert!(matches!(wrong.checked(), Err(ConfigValueError::Streams { got: 0 })));
    }
}
