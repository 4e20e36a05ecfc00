//! The device's settings: one versioned file, replaced as a whole, with its previous generation beside it.

use crate::data_dir::{StorageError, read_file, replace_file};
use protocol::command::SettingsChange;
use protocol::state::Settings;
use protocol::stream::{LATENCY_MS_MAX, LATENCY_MS_MIN, SpecError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the file's layout.
const FILE_VERSION: u32 = 1;
/// Longest file, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest name of a device, in characters.
pub const NAME_CHARS_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
struct SettingsFile {
    version: u32,
    #[serde(flatten)]
    settings: Settings,
}

/// Where the settings in force came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File,
    /// There was no file yet.
    Defaults,
    /// The file was unusable; its previous generation was taken.
    Previous {
        /// What was wrong.
        reason: String,
    },
    /// Both generations were unusable.
    Lost {
        /// What was wrong.
        reason: String,
    },
}

/// What is wrong with a change of settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The name is empty or too long.
    #[error("the name must have 1 to {NAME_CHARS_MAX} characters, this one has {got}")]
    Name {
        /// Its length in characters.
        got: usize,
    },
    /// A number is out of range.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// `change` applied to `settings`, checked.
///
/// # Errors
/// [`SettingsError`] names the first field out of range; nothing is applied then.
pub fn apply(settings: &Settings, change: &SettingsChange) -> Result<Settings, SettingsError> {
    let mut new = settings.clone();
    if let Some(name) = &change.name {
        let name = name.trim();
        let got = name.chars().count();
        if got == 0 || got > NAME_CHARS_MAX {
            return Err(SettingsError::Name { got });
        }
        name.clone_into(&mut new.name);
    }
    if let Some(input) = &change.input {
        new.input = (!input.is_empty()).then(|| input.clone());
    }
    if let Some(got) = change.latency_ms {
        if !(LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(&got) {
            return Err(SpecError::Latency { got }.into());
        }
        new.latency_ms = got;
    }
    if let Some(encoding) = &change.encoding {
        encoding.check()?;
        new.encoding = encoding.clone();
    }
    Ok(new)
}

/// Reads the settings; never fails, because a device without settings must still go live.
pub fn load(path: &Path) -> (Settings, Origin) {
    let reason = match read(path) {
        Ok(Some(settings)) => return (settings, Origin::File),
        Ok(None) if !previous(path).exists() => return (Settings::default(), Origin::Defaults),
        Ok(None) => format!("{} is missing", path.display()),
        Err(reason) => reason,
    };
    match read(&previous(path)) {
        Ok(Some(settings)) => (settings, Origin::Previous { reason }),
        _ => (Settings::default(), Origin::Lost { reason }),
    }
}

/// Replaces the file; what it held becomes the previous generation, unless it was unusable.
///
/// # Errors
/// [`StorageError`]; the old file is still whole then.
pub fn save(path: &Path, settings: &Settings) -> Result<(), StorageError> {
    if let (Ok(Some(_)), Ok(Some(content))) = (read(path), read_file(path, FILE_BYTES_MAX)) {
        replace_file(&previous(path), &content)?;
    }
    let file = SettingsFile { version: FILE_VERSION, settings: settings.clone() };
    let text = toml::to_string(&file)
        .map_err(|error| StorageError::StorageWrite { path: path.to_owned(), source: std::io::Error::other(error) })?;
    replace_file(path, text.as_bytes())
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.toml")
}

fn read(path: &Path) -> Result<Option<Settings>, String> {
    let Some(content) = read_file(path, FILE_BYTES_MAX).map_err(|error| error.to_string())? else { return Ok(None) };
    let text = String::from_utf8(content).map_err(|_| format!("{} is not text", path.display()))?;
    let file: SettingsFile =
        toml::from_str(&text).map_err(|error| format!("{} is damaged: {}", path.display(), error.message()))?;
    if file.version != FILE_VERSION {
        return Err(format!("{} has layout version {}, this agent knows {FILE_VERSION}", path.display(), file.version));
    }
    Ok(Some(file.settings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::stream::EncodingSpec;
    use units::Bitrate;

    fn named(name: &str) -> Settings {
        Settings { name: name.to_owned(), input: Some("file".to_owned()), ..Settings::default() }
    }

    #[test]
    fn settings_survive_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        assert_eq!(load(&path), (Settings::default(), Origin::Defaults));
        save(&path, &named("Van 7")).unwrap();
        assert_eq!(load(&path), (named("Van 7"), Origin::File));
    }

    #[test]
    fn a_damaged_file_falls_back_to_the_previous_generation_and_does_not_overwrite_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        save(&path, &named("first")).unwrap();
        save(&path, &named("second")).unwrap();
        for damage in [&b"version = 1\nname = \"sec"[..], b"\xff\xfe", b"version = 9\n", b""] {
            std::fs::write(&path, damage).unwrap();
            let (settings, origin) = load(&path);
            assert_eq!(settings, named("first"));
            assert!(matches!(origin, Origin::Previous { .. }), "{origin:?}");
        }
        save(&path, &named("third")).unwrap();
        assert_eq!(load(&path), (named("third"), Origin::File));
        std::fs::write(&path, "damage").unwrap();
        assert_eq!(load(&path).0, named("first"), "the damaged file did not become the previous generation");
    }

    #[test]
    fn with_both_generations_gone_the_defaults_serve() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, "damage").unwrap();
        std::fs::write(previous(&path), "damage").unwrap();
        let (settings, origin) = load(&path);
        assert_eq!(settings, Settings::default());
        assert!(matches!(origin, Origin::Lost { reason } if reason.contains("settings.toml")));
    }

    #[test]
    fn a_change_is_applied_whole_or_not_at_all() {
        let old = named("Van 7");
        let change = SettingsChange { name: Some(" Van 8 ".to_owned()), latency_ms: Some(99), ..Default::default() };
        assert_eq!(apply(&old, &change), Err(SpecError::Latency { got: 99 }.into()));
        let change = SettingsChange { latency_ms: Some(2000), input: Some(String::new()), ..change };
        let new = apply(&old, &change).unwrap();
        assert_eq!((new.name.as_str(), new.latency_ms, new.input), ("Van 8", 2000, None));
        let long = SettingsChange { name: Some("x".repeat(65)), ..Default::default() };
        assert_eq!(apply(&old, &long), Err(SettingsError::Name { got: 65 }));
        let encoding = EncodingSpec { bitrate_min: Bitrate::from_kbps(1), ..Default::default() };
        let slow = SettingsChange { encoding: Some(encoding), ..Default::default() };
        assert!(matches!(apply(&old, &slow), Err(SettingsError::Spec(SpecError::Bitrate { .. }))));
    }
}
