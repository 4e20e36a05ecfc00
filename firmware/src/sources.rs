//! Inputs that nobody can find by looking: cameras and encoders on the network, and media files, as `[[sources]]` names them.

use appliance::{CaptureInput, CaptureInputs, HardwareError, INPUTS_MAX, InputSignal, InputSource};
use protocol::Secret;
use serde::Deserialize;
use std::path::Path;
use units::Timestamp;

/// One of `[[sources]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Stable id, as streams and settings name it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub place: Place,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Address of a stream on the network; may hold a password.
    Uri(Secret),
    /// Path of a media file, which is looped.
    Path(String),
}

impl SourceConfig {
    fn input(&self) -> CaptureInput {
        let (source, signal) = match &self.place {
            Place::Uri(uri) => (InputSource::Lan { uri: uri.clone() }, InputSignal::Unknown),
            Place::Path(path) => (InputSource::File { path: path.clone() }, file_signal(path)),
        };
        CaptureInput { id: self.id.clone(), name: self.name.clone(), source, signal }
    }
}

fn file_signal(path: &str) -> InputSignal {
    if Path::new(path).is_file() {
        return InputSignal::Present { mode: None };
    }
    InputSignal::Absent { reason: format!("no file {path}: copy it there, or change the path") }
}

/// The inputs that were found, then those that were named; the first [`INPUTS_MAX`].
pub struct NamedInputs {
    found: Box<dyn CaptureInputs>,
    named: Vec<SourceConfig>,
}

impl NamedInputs {
    /// Adds `named` to what `found` finds.
    pub fn new(found: Box<dyn CaptureInputs>, named: Vec<SourceConfig>) -> Self {
        Self { found, named }
    }
}

impl CaptureInputs for NamedInputs {
    fn scan(&mut self, now: Timestamp) -> Result<Vec<CaptureInput>, HardwareError> {
        let mut inputs = self.found.scan(now)?;
        // The test pattern is what a device sends when nothing else is there.
        let patterns = inputs.iter().filter(|input| matches!(input.source, InputSource::Test { .. })).count();
        let at = inputs.len() - patterns;
        inputs.sort_by_key(|input| matches!(input.source, InputSource::Test { .. }));
        inputs.splice(at..at, self.named.iter().map(SourceConfig::input));
        inputs.truncate(INPUTS_MAX);
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Found;

    impl CaptureInputs for Found {
        fn scan(&mut self, _now: Timestamp) -> Result<Vec<CaptureInput>, HardwareError> {
            let input = |id: &str, source| CaptureInput {
                id: id.to_owned(),
                name: id.to_owned(),
                source,
                signal: InputSignal::Unknown,
            };
            let camera = InputSource::V4l2 { device: "/dev/video0".to_owned(), audio_device: None };
            let test = InputSource::Test { width: 1280, height: 720, frames_per_second: 25 };
            Ok(vec![input("v4l2-video0", camera), input("test", test)])
        }
    }

    #[derive(Deserialize)]
    struct File {
        sources: Vec<SourceConfig>,
    }

    #[test]
    fn named_sources_come_after_the_cameras_and_before_the_pattern() {
        let text = r#"
            sources = [
                { id = "drone", name = "Drone", uri = "rtmp://:1935/live/s3cret" },
                { id = "clip", name = "Clip", path = "/nowhere/clip.mp4" },
            ]"#;
        let File { sources } = toml::from_str(text).unwrap();
        assert!(!format!("{sources:?}").contains("s3cret"), "{sources:?}");
        let inputs = NamedInputs::new(Box::new(Found), sources).scan(Timestamp::ZERO).unwrap();
        let ids: Vec<_> = inputs.iter().map(|input| input.id.as_str()).collect();
        assert_eq!(ids, ["v4l2-video0", "drone", "clip", "test"]);
        assert_eq!(inputs[1].source, InputSource::Lan { uri: Secret::new("rtmp://:1935/live/s3cret") });
        assert!(!format!("{inputs:?}").contains("s3cret"), "{inputs:?}");
        assert!(matches!(&inputs[2].signal, InputSignal::Absent { reason } if reason.contains("/nowhere/clip.mp4")));
    }

    #[test]
    fn a_source_without_a_place_is_refused() {
        assert!(toml::from_str::<File>(r#"sources = [{ id = "a", name = "A" }]"#).is_err());
    }
}
