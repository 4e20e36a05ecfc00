//! The programs of a field sender: `strata-agent` (control plane) and `strata-streamer` (data plane).
//!
//! The agent enrols the device ([`enrolment`], [`identity`]), keeps the MQTT session with the relay ([`mqtt`]), carries out
//! commands ([`commands`]), supervises the streamer ([`streaming`]), tells it which links to use ([`uplinks`]), and serves
//! the crew's page ([`web`]). All decisions are in [`core`], which knows no socket and no clock; [`run`] carries them out.
//! The streamer is [`pipeline`].

pub mod commands;
pub mod config;
pub mod core;
pub mod data_dir;
pub mod enrolment;
pub mod identity;
pub mod mqtt;
pub mod pipeline;
pub mod run;
pub mod settings;
pub mod sources;
pub mod streaming;
pub mod tls;
pub mod uplinks;
pub mod web;

/// Version of these programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An error with its causes, for people, cut to the protocol's limit.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words} ({text})");
        }
        cause = inner.source();
    }
    words.chars().take(protocol::limits::TEXT_CHARS_MAX).collect()
}
