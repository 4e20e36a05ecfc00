//! What both elements are told by properties, and how it becomes the engine's settings.

use crate::value::{optional_text, text};
use bond::config::{Extension, KeySize, LATENCY_DEFAULT, LATENCY_MAX, LATENCY_MIN, PskConfig, Secret};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use link_io::settings::{SecretError, read_psk};
use std::path::Path;
use std::time::Duration;

/// The RIST profile spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstRsRistBondProfile")]
pub enum Profile {
    /// RTP and RTCP on two ports, nothing encrypted.
    #[enum_value(name = "Simple Profile: RTP on the even port, RTCP on the next, no encryption", nick = "simple")]
    Simple,
    /// One port, encryption, several flows.
    #[default]
    #[enum_value(name = "Main Profile: one port, encryption", nick = "main")]
    Main,
}

impl From<Profile> for bond::config::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Simple => Self::Simple,
            Profile::Main => Self::Main,
        }
    }
}

/// Key length of the encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstRsRistBondAes")]
pub enum Aes {
    /// AES-128.
    #[enum_value(name = "AES with a key of 128 bits", nick = "128")]
    Aes128,
    /// AES-256.
    #[default]
    #[enum_value(name = "AES with a key of 256 bits", nick = "256")]
    Aes256,
}

/// The properties that sink and source have in common. The latency is theirs to set: it changes while playing.
#[derive(Debug, Clone)]
pub(crate) struct FlowSettings {
    pub(crate) latency: Duration,
    pub(crate) passphrase: Option<Secret>,
    psk_file: Option<String>,
    aes: Aes,
    pub(crate) cname: String,
    pub(crate) profile: Profile,
    extension: bool,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            latency: LATENCY_DEFAULT,
            passphrase: None,
            psk_file: None,
            aes: Aes::default(),
            cname: String::new(),
            profile: Profile::default(),
            extension: true,
        }
    }
}

impl FlowSettings {
    /// The engine's encryption; the file is read now. A pass phrase given as text goes before a file.
    pub(crate) fn psk(&self) -> Result<Option<PskConfig>, SecretError> {
        let passphrase = match (&self.passphrase, &self.psk_file) {
            (Some(passphrase), _) => passphrase.clone(),
            (None, Some(path)) => read_psk(Path::new(path))?,
            (None, None) => return Ok(None),
        };
        let key_size = match self.aes {
            Aes::Aes128 => KeySize::Aes128,
            Aes::Aes256 => KeySize::Aes256,
        };
        Ok(Some(PskConfig { passphrase, key_size, rotate_after_packets: None }))
    }

    pub(crate) fn extension(&self) -> Extension {
        if self.extension { Extension::Offer } else { Extension::Off }
    }

    /// Takes the value of one of the [`FlowSettings::properties`] but the latency.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) {
        // The property system checks names and types before it calls: a mismatch cannot reach this place.
        match name {
            "psk" => self.passphrase = optional_text(value).map(Secret::new),
            "psk-file" => self.psk_file = optional_text(value),
            "aes" => self.aes = value.get().unwrap_or_default(),
            "cname" => self.cname = text(value),
            "profile" => self.profile = value.get().unwrap_or_default(),
            "extension" => self.extension = value.get().unwrap_or(true),
            _ => unreachable!("{name} is no property of both elements"),
        }
    }

    /// The value of one of the [`FlowSettings::properties`] that can be read.
    pub(crate) fn get(&self, name: &str) -> glib::Value {
        match name {
            "latency" => (self.latency.as_millis() as u32).to_value(),
            "psk-file" => self.psk_file.to_value(),
            "aes" => self.aes.to_value(),
            "cname" => self.cname.to_value(),
            "profile" => self.profile.to_value(),
            "extension" => self.extension.to_value(),
            _ => unreachable!("{name} is no readable property of both elements"),
        }
    }

    pub(crate) fn properties() -> Vec<glib::ParamSpec> {
        let string = |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready();
        vec![
            glib::ParamSpecUInt::builder("latency")
                .nick("Latency")
                .blurb(
                    "Time from input at the sender to output at the receiver, in milliseconds; the same at both ends",
                )
                .minimum(LATENCY_MIN.as_millis() as u32)
                .maximum(LATENCY_MAX.as_millis() as u32)
                .default_value(LATENCY_DEFAULT.as_millis() as u32)
                .mutable_playing()
                .build(),
            string(
                "psk",
                "Pass phrase",
                "Pass phrase of the encryption; none leaves the flow in the clear (Main Profile only)",
            )
            .write_only()
            .build(),
            string(
                "psk-file",
                "Pass phrase file",
                "File whose first line is the pass phrase, so that it is not in the arguments",
            )
            .build(),
            glib::ParamSpecEnum::builder::<Aes>("aes")
                .nick("AES")
                .blurb("Key length of what this end sends")
                .mutable_ready()
                .build(),
            string("cname", "CNAME", "Canonical name told to the other end; empty makes one").build(),
            glib::ParamSpecEnum::builder::<Profile>("profile")
                .nick("Profile")
                .blurb("RIST profile")
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("extension")
                .nick("Extension")
                .blurb("Offer the engine's own reports; a plain RIST peer ignores the offer")
                .default_value(true)
                .mutable_ready()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Statistics of flow and links: the fields of --stats json with hyphens and units (-bps, -us, -ratio); negative: \
                     not measured yet. Also posted as an element message once a second")
                .read_only()
                .build(),
        ]
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pass_phrase_goes_before_its_file_and_errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "open sesame\n").unwrap();
        let mut settings = FlowSettings::default();
        assert!(settings.psk().unwrap().is_none());
        settings.psk_file = Some("/no/such/key".to_owned());
        assert!(chain(&settings.psk().unwrap_err()).contains("/no/such/key: No such file"));
        settings.psk_file = path.to_str().map(str::to_owned);
        assert_eq!(settings.psk().unwrap().unwrap().passphrase.reveal(), "open sesame");
        settings.passphrase = Some(Secret::new("spoken"));
        assert_eq!(settings.psk().unwrap().unwrap().passphrase.reveal(), "spoken");
    }
}
