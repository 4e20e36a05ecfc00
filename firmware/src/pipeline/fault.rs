//! What can end a stream on the device, each with what to try.

use protocol::stream::{SpecError, VideoCodec};
use protocol::worker::streamer::StreamerState;
use thiserror::Error;

/// Why a stream cannot start or go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamFault {
    /// The order itself is wrong.
    #[error("the stream as asked for is not possible: {0}")]
    Spec(#[from] SpecError),
    /// The media file is not there or may not be read.
    #[error("cannot read the media file {path}: {detail}")]
    FileUnreadable {
        /// Path as given.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// The capture device is not there.
    #[error("the capture device {device} is not there")]
    CaptureAbsent {
        /// Device as given.
        device: String,
    },
    /// A source exists and does not work.
    #[error("the source {what} failed: {detail}")]
    SourceFailed {
        /// The source, in words; without credentials.
        what: String,
        /// GStreamer's words.
        detail: String,
    },
    /// A network address that no source understands.
    #[error("the address {uri} cannot be a source: known are rtsp, rtsps, srt, udp and rtmp")]
    AddressUnusable {
        /// The address, without credentials.
        uri: String,
    },
    /// The source opened and has no video.
    #[error("the source {what} has no picture")]
    NoPicture {
        /// The source, in words.
        what: String,
    },
    /// The source neither works nor fails.
    #[error("the source {what} gave no picture within {seconds} s")]
    SourceSilent {
        /// The source, in words.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// No encoder works.
    #[error("no {} encoder works here: {tried}", codec_name(*codec))]
    NoEncoder {
        /// The codec asked for.
        codec: VideoCodec,
        /// Each candidate with the reason why not.
        tried: String,
    },
    /// A GStreamer element is not installed.
    #[error("the GStreamer element {element} is not installed")]
    ElementMissing {
        /// Name of its factory.
        element: String,
    },
    /// Encoding, multiplexing or the bond failed.
    #[error("{element} failed: {detail}")]
    Pipeline {
        /// The element that said so.
        element: String,
        /// Its words.
        detail: String,
    },
}

impl StreamFault {
    /// What to try, for the crew or the operator.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Spec(_) => "change the stream's settings on the relay and start again",
            Self::FileUnreadable { .. } => "check the path of the media file and that the service may read it",
            Self::CaptureAbsent { .. } => "plug the camera or capture card in, or choose another input",
            Self::SourceFailed { .. } => "check the source and its cable or address, then start again",
            Self::AddressUnusable { .. } => "correct the address of the input",
            Self::NoPicture { .. } => "choose an input with video",
            Self::SourceSilent { .. } => "check that the source is sending, then start again",
            Self::NoEncoder { .. } => "choose the other codec, or install the encoder named first",
            Self::ElementMissing { .. } => "install the GStreamer plugin that has this element",
            Self::Pipeline { .. } => "start again; if it fails again, send the diagnostics to support",
        }
    }

    /// Whether starting again with the same order can help.
    pub fn retry(&self) -> bool {
        match self {
            Self::CaptureAbsent { .. }
            | Self::SourceFailed { .. }
            | Self::SourceSilent { .. }
            | Self::Pipeline { .. } => true,
            Self::Spec(_)
            | Self::FileUnreadable { .. }
            | Self::AddressUnusable { .. }
            | Self::NoPicture { .. }
            | Self::NoEncoder { .. }
            | Self::ElementMissing { .. } => false,
        }
    }

    /// The state that reports it.
    pub fn state(&self) -> StreamerState {
        StreamerState::Failed {
            reason: clip(&self.to_string()),
            next_step: self.next_step().to_owned(),
            retry: self.retry(),
        }
    }
}

/// What people call a codec.
pub fn codec_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "H.264",
        VideoCodec::H265 => "H.265",
    }
}

/// Cuts a text to what the protocol carries.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(protocol::limits::TEXT_CHARS_MAX).collect()
}

/// A URI without user name, password, query or stream key, fit for screens and logs.
pub(crate) fn redact_uri(uri: &str) -> String {
    let plain = uri.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // An RTMP address ends in the stream key.
    let path = if scheme.starts_with("rtmp") { path.split_once('/').map_or(path, |(app, _)| app) } else { path };
    if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_reach_a_screen() {
        assert_eq!(redact_uri("rtsp://ann:s3cret@cam.local:554/live?token=x"), "rtsp://cam.local:554/live");
        assert_eq!(redact_uri("srt://10.0.0.2:7000?passphrase=abc"), "srt://10.0.0.2:7000");
        assert_eq!(redact_uri("udp://@:5000"), "udp://:5000");
        assert_eq!(redact_uri("rtmp://10.0.0.2/live/s3cret-key"), "rtmp://10.0.0.2/live");
    }

    #[test]
    fn a_missing_file_names_the_path_and_a_next_step() {
        let fault = StreamFault::FileUnreadable { path: "/media/a.mp4".into(), detail: "No such file".into() };
        let StreamerState::Failed { reason, next_step, retry } = fault.state() else { panic!("not a failure") };
        assert!(reason.contains("/media/a.mp4") && reason.contains("No such file"), "{reason}");
        assert!(next_step.contains("path"), "{next_step}");
        assert!(!retry);
    }

    #[test]
    fn long_reasons_are_cut_at_the_protocols_limit() {
        let fault = StreamFault::Pipeline { element: "x".repeat(2000), detail: String::new() };
        let StreamerState::Failed { reason, .. } = fault.state() else { panic!("not a failure") };
        assert_eq!(reason.chars().count(), protocol::limits::TEXT_CHARS_MAX);
    }
}
