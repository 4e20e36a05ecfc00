//! The agent's configuration file, `agent.toml`; `agent.example.toml` beside this package is its manual.

use crate::sources::{NamedInputs, SourceConfig};
use appliance::Appliance;
use appliance::fake::FakeConfig;
use appliance::linux::LinuxConfig;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Everything the operator of a device can configure.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept that the agent writes.
    pub data_dir: PathBuf,
    /// The page for the crew.
    pub local_page: LocalPageConfig,
    /// Which hardware this is.
    pub hardware: HardwareConfig,
    /// The media process.
    pub streamer: StreamerConfig,
    /// Inputs besides the capture devices that are found.
    pub sources: Vec<SourceConfig>,
    /// The script of `hardware.kind = "fake"`.
    pub fake: FakeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            local_page: LocalPageConfig::default(),
            hardware: HardwareConfig::default(),
            streamer: StreamerConfig::default(),
            sources: Vec::new(),
            fake: FakeConfig::default(),
        }
    }
}

/// `[local_page]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalPageConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Host names under which the page may be opened, besides `localhost` and bare addresses.
    pub host_names: Vec<String>,
}

impl Default for LocalPageConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::UNSPECIFIED, 8081).into(), host_names: vec!["strata.local".to_owned()] }
    }
}

/// `[hardware]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardwareConfig {
    /// Real or scripted.
    pub kind: HardwareKind,
    /// Interfaces that never carry media.
    pub exclude_interfaces: Vec<String>,
}

/// Real or scripted hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HardwareKind {
    /// The machine the agent runs on.
    #[default]
    Linux,
    /// The script in `[fake]`.
    Fake,
}

/// `[streamer]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamerConfig {
    /// Path of the program; empty: `strata-streamer` beside the agent.
    pub program: String,
}

impl Config {
    /// The hardware as configured.
    pub fn appliance(&self) -> Appliance {
        let mut appliance = match self.hardware.kind {
            HardwareKind::Linux => {
                let exclude_interfaces = self.hardware.exclude_interfaces.clone();
                appliance::linux::open(&LinuxConfig { exclude_interfaces })
            }
            HardwareKind::Fake => appliance::fake::open(&self.fake),
        };
        appliance.inputs = Box::new(NamedInputs::new(appliance.inputs, self.sources.clone()));
        appliance
    }

    /// Path of the streamer program.
    pub fn streamer_program(&self) -> PathBuf {
        if !self.streamer.program.is_empty() {
            return PathBuf::from(&self.streamer.program);
        }
        let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(|dir| dir.join("strata-streamer")));
        beside.unwrap_or_else(|| PathBuf::from("strata-streamer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const EXAMPLE: &str = include_str!("../agent.example.toml");

    #[test]
    fn the_example_parses_and_its_plain_keys_are_the_defaults() {
        let config: Config = daemon::config::parse(Path::new("agent.example.toml"), EXAMPLE).unwrap();
        assert_eq!(config.sources.len(), 2);
        assert_eq!(Config { fake: FakeConfig::default(), sources: Vec::new(), ..config }, Config::default());
    }

    #[test]
    fn the_examples_script_gives_three_modems_and_two_inputs() {
        let config: Config = daemon::config::parse(Path::new("agent.example.toml"), EXAMPLE).unwrap();
        assert_eq!(config.fake.uplinks.len(), 3);
        assert_eq!(config.fake.inputs.len(), 2);
        let mut appliance = appliance::fake::open(&config.fake);
        assert_eq!(appliance.uplinks.scan(units::Timestamp::ZERO).unwrap().len(), 3);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = daemon::config::parse::<Config>(Path::new("agent.toml"), "[local_page]\nlisen = 1\n").unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }
}
