//! What a stream is asked to be.

use crate::Secret;
use serde::{Deserialize, Serialize};
use units::{Bitrate, StreamId};

/// Everything a device needs to go live to a relay. Travels only inside the start command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// The stream, from start to stop.
    pub stream: StreamId,
    /// Where the bond goes.
    pub receiver: ReceiverAddress,
    /// Pass phrase of the bond's AES-256 encryption, fresh for each stream.
    pub key: Secret,
    /// Latency budget of the bond, milliseconds, 100 to 10 000.
    pub latency_ms: u32,
    /// What to encode.
    pub encoding: EncodingSpec,
    /// Which input; `None` leaves it to the device's settings.
    #[serde(default)]
    pub input: Option<String>,
    /// What the outputs are called, for the crew to read before GO: "YouTube main", never a key.
    #[serde(default)]
    pub outputs: Vec<String>,
}

/// Host and UDP port of a receiver process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverAddress {
    /// DNS name or address.
    pub host: String,
    /// UDP port, even.
    pub port: u16,
}

/// Video and audio as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodingSpec {
    /// Video codec.
    pub codec: VideoCodec,
    /// Lowest video bitrate the encoder may be asked for.
    pub bitrate_min: Bitrate,
    /// Highest video bitrate the encoder may be asked for.
    pub bitrate_max: Bitrate,
    /// Longest distance of key frames, milliseconds.
    pub key_frame_interval_ms: u32,
    /// Audio bitrate.
    pub audio_bitrate: Bitrate,
}

impl Default for EncodingSpec {
    fn default() -> Self {
        Self {
            codec: VideoCodec::H264,
            bitrate_min: Bitrate::from_kbps(300),
            bitrate_max: Bitrate::from_kbps(5000),
            key_frame_interval_ms: 2000,
            audio_bitrate: Bitrate::from_kbps(128),
        }
    }
}

/// The video codecs of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VideoCodec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    H265,
}

/// Shortest latency budget, milliseconds.
pub const LATENCY_MS_MIN: u32 = 100;
/// Longest latency budget, milliseconds.
pub const LATENCY_MS_MAX: u32 = 10_000;

/// What is wrong with a stream as asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The latency budget is out of range.
    #[error("latency_ms is {got}, it must be from {LATENCY_MS_MIN} to {LATENCY_MS_MAX}")]
    Latency {
        /// The value.
        got: u32,
    },
    /// The bitrate range is empty or silly.
    #[error("bitrate range {min} to {max} is not within 100 kbit/s to 100 Mbit/s, lowest first")]
    Bitrate {
        /// Lower end.
        min: Bitrate,
        /// Upper end.
        max: Bitrate,
    },
    /// No key: the bond is always encrypted between our ends.
    #[error("the stream has no key")]
    Key,
    /// The receiver's address is empty or its port odd or zero.
    #[error("receiver address {host:?} port {port} is unusable; the port must be even")]
    Receiver {
        /// Host as given.
        host: String,
        /// Port as given.
        port: u16,
    },
    /// The key frame distance is out of range.
    #[error("key_frame_interval_ms is {got}, it must be from 200 to 10000")]
    KeyFrameInterval {
        /// The value.
        got: u32,
    },
}

impl StreamSpec {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`SpecError`] names the first field out of range.
    pub fn check(&self) -> Result<(), SpecError> {
        if !(LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(&self.latency_ms) {
            return Err(SpecError::Latency { got: self.latency_ms });
        }
        if self.key.is_empty() {
            return Err(SpecError::Key);
        }
        let ReceiverAddress { host, port } = &self.receiver;
        if host.is_empty() || *port == 0 || port % 2 == 1 {
            return Err(SpecError::Receiver { host: host.clone(), port: *port });
        }
        self.encoding.check()
    }
}

impl EncodingSpec {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`SpecError`] names the first field out of range.
    pub fn check(&self) -> Result<(), SpecError> {
        let (min, max) = (self.bitrate_min, self.bitrate_max);
        if min < Bitrate::from_kbps(100) || max > Bitrate::from_kbps(100_000) || min > max {
            return Err(SpecError::Bitrate { min, max });
        }
        if !(200..=10_000).contains(&self.key_frame_interval_ms) {
            return Err(SpecError::KeyFrameInterval { got: self.key_frame_interval_ms });
        }
        Ok(())
    }
}
