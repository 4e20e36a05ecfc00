//! Words and colours that all pages share.

use crate::sessions::live::{StreamSnapshot, StreamWord};
use protocol::state::Severity;
use protocol::telemetry::LinkState;

/// A coloured word. `class` is one of style.css's badges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badge {
    /// CSS class.
    pub class: &'static str,
    /// The word.
    pub text: &'static str,
}

impl Badge {
    /// The badge of a stream. ON AIR only on the receiver's fresh word.
    pub const fn of_stream(stream: &StreamSnapshot) -> Self {
        let (class, text) = match stream.word {
            StreamWord::OnAir if stream.on_air => ("on-air", "ON AIR"),
            StreamWord::OnAir => ("interrupted", "UNCONFIRMED"),
            StreamWord::Starting => ("starting", "STARTING"),
            StreamWord::Interrupted => ("interrupted", "INTERRUPTED"),
            StreamWord::Stopping => ("stopping", "STOPPING"),
            StreamWord::Ended => ("ended", "ENDED"),
            StreamWord::Failed => ("failed", "FAILED"),
        };
        Self { class, text }
    }
}

/// "no input" becomes "No input".
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The CSS class of a link's state.
pub const fn link_state(state: LinkState) -> &'static str {
    match state {
        LinkState::Probe => "probe",
        LinkState::Up => "up",
        LinkState::Suspect => "suspect",
        LinkState::Down => "down",
    }
}

/// The CSS class of a severity.
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
