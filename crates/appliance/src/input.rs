//! Where a picture could come from.

use crate::HardwareError;
use units::{Secret, Timestamp};

/// The capture inputs of a device.
pub trait CaptureInputs: Send {
    /// Every input there is now, in a stable order.
    ///
    /// # Errors
    /// [`HardwareError`]: nothing is known of any input now; the caller keeps what it knew.
    fn scan(&mut self, now: Timestamp) -> Result<Vec<CaptureInput>, HardwareError>;
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureInput {
    /// Stable id: `test`, `file`, `v4l2-video0`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How to open it.
    pub source: InputSource,
    /// Whether there is a picture to take.
    pub signal: InputSignal,
}

/// How an input is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// Moving pattern with running clock and tone.
    Test {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Frames per second.
        frames_per_second: u32,
    },
    /// A media file, looped.
    File {
        /// Path on the device.
        path: String,
    },
    /// A V4L2 capture device.
    V4l2 {
        /// `/dev/video0`.
        device: String,
        /// ALSA device of its sound, where it has one.
        audio_device: Option<String>,
    },
    /// A stream from the local network.
    Lan {
        /// `rtsp://`, `srt://`, `udp://` or `rtmp://`; may hold a password or a stream key.
        uri: Secret,
    },
}

/// State of an input's signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSignal {
    /// Present, with its mode ("1280x720p25") where known.
    Present {
        /// The mode.
        mode: Option<String>,
    },
    /// Absent.
    Absent {
        /// Why and what to do, in words.
        reason: String,
    },
    /// Known only once it is opened.
    Unknown,
}
