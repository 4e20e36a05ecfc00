//! Scripted inputs.

use super::Outage;
use crate::{CaptureInput, CaptureInputs, HardwareError, INPUTS_MAX, InputSignal, InputSource};
use serde::Deserialize;
use units::{Secret, Timestamp};

/// One scripted input.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeInput {
    /// Stable id.
    pub id: String,
    /// What people call it; the id when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is.
    pub kind: FakeInputKind,
    /// The media file, for `kind = "file"`.
    #[serde(default)]
    pub path: String,
    /// Address of the stream, for `kind = "lan"`.
    #[serde(default)]
    pub uri: Secret,
    /// Width of the test pattern, pixels.
    #[serde(default = "default_width")]
    pub width: u32,
    /// Height of the test pattern, pixels.
    #[serde(default = "default_height")]
    pub height: u32,
    /// Frames per second of the test pattern.
    #[serde(default = "default_frames_per_second")]
    pub frames_per_second: u32,
    /// When there is no signal.
    #[serde(default)]
    pub outages: Vec<Outage>,
}

fn default_width() -> u32 {
    1280
}
fn default_height() -> u32 {
    720
}
fn default_frames_per_second() -> u32 {
    25
}

/// Kinds of scripted input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FakeInputKind {
    /// Moving pattern with running clock and tone.
    Test,
    /// A media file, looped.
    File,
    /// A stream from the local network.
    Lan,
}

/// All scripted inputs.
#[derive(Debug)]
pub struct FakeInputs(Vec<FakeInput>);

impl FakeInputs {
    /// Plays `inputs`.
    pub fn new(inputs: &[FakeInput]) -> Self {
        Self(inputs.iter().take(INPUTS_MAX).cloned().collect())
    }
}

impl CaptureInputs for FakeInputs {
    fn scan(&mut self, now: Timestamp) -> Result<Vec<CaptureInput>, HardwareError> {
        Ok(self.0.iter().map(|input| input.at(now)).collect())
    }
}

impl FakeInput {
    fn at(&self, now: Timestamp) -> CaptureInput {
        let signal = if Outage::any(&self.outages, now) {
            InputSignal::Absent { reason: "no signal: check the cable and that the camera is on".to_owned() }
        } else {
            self.signal()
        };
        let name = self.name.clone().unwrap_or_else(|| self.id.clone());
        CaptureInput { id: self.id.clone(), name, source: self.source(), signal }
    }

    fn signal(&self) -> InputSignal {
        match self.kind {
            FakeInputKind::Test => InputSignal::Present {
                mode: Some(format!("{}x{}p{}", self.width, self.height, self.frames_per_second)),
            },
            FakeInputKind::File if std::path::Path::new(&self.path).is_file() => InputSignal::Present { mode: None },
            FakeInputKind::File => {
                InputSignal::Absent { reason: format!("no file {}: copy it there, or change the path", self.path) }
            }
            FakeInputKind::Lan => InputSignal::Unknown,
        }
    }

    fn source(&self) -> InputSource {
        match self.kind {
            FakeInputKind::Test => {
                InputSource::Test { width: self.width, height: self.height, frames_per_second: self.frames_per_second }
            }
            FakeInputKind::File => InputSource::File { path: self.path.clone() },
            FakeInputKind::Lan => InputSource::Lan { uri: self.uri.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_a_scripted_outage_are_named() {
        let script = r#"
            [[inputs]]
            id = "file"
            kind = "file"
            path = "/no/such/clip.mp4"
            [[inputs]]
            id = "test"
            name = "Pattern"
            kind = "test"
            outages = [{ from_s = 5.0, to_s = 6.0 }]
        "#;
        let config: super::super::FakeConfig = toml::from_str(script).unwrap();
        let mut inputs = FakeInputs::new(&config.inputs);
        let found = inputs.scan(Timestamp::ZERO).unwrap();
        assert!(matches!(&found[0].signal, InputSignal::Absent { reason } if reason.contains("/no/such/clip.mp4")));
        assert_eq!(found[1].signal, InputSignal::Present { mode: Some("1280x720p25".to_owned()) });
        let later = inputs.scan(Timestamp::from_millis(5500)).unwrap();
        assert!(matches!(&later[1].signal, InputSignal::Absent { reason } if reason.contains("cable")));
    }
}
