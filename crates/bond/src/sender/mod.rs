//! The sending end of a flow.

use bytes::Bytes;
use std::time::Duration;
use units::{Bitrate, LinkId, Timestamp};

use crate::config::{ConfigError, LinkOptions, SenderConfig};
use crate::event::Event;
use crate::payload::{Channel, Payload};
use crate::stats::SenderSnapshot;

/// Why a socket could not send; contained to its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkErrorKind {
    /// No route, interface down or address gone.
    Unreachable,
    /// The far port is closed (ICMP).
    Refused,
    /// The datagram is larger than the path takes.
    TooLarge,
    /// The system's send buffer is full.
    BufferFull,
    /// Anything else.
    Other,
}

/// What a modem knows about its radio; optional, never required.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RadioHint {
    /// Reference signal received power in dBm.
    pub rsrp_dbm: Option<f32>,
    /// Channel quality indicator, 0 to 15.
    pub cqi: Option<u8>,
    /// The modem is between two cells.
    pub handover: bool,
}

/// What a caller tells a [`Sender`].
#[derive(Debug)]
pub enum SenderInput<'a> {
    /// The next packet of the flow.
    Payload(Payload),
    /// A datagram came in on a link's socket; it is decrypted in place.
    Datagram {
        /// Which link's socket.
        link: LinkId,
        /// Which of its ports.
        channel: Channel,
        /// The UDP payload.
        bytes: &'a mut [u8],
    },
    /// A link exists from now on; replaces one of the same id.
    AddLink {
        /// Its id.
        link: LinkId,
        /// How it is used.
        options: LinkOptions,
    },
    /// A link is gone; what was in flight on it is sent again elsewhere.
    RemoveLink {
        /// Its id.
        link: LinkId,
    },
    /// The link's local address or the interface behind it changed: handshake again, forget its measures.
    LinkAddressChanged {
        /// Its id.
        link: LinkId,
    },
    /// The link's socket failed to send.
    LinkError {
        /// Its id.
        link: LinkId,
        /// How.
        kind: LinkErrorKind,
    },
    /// A new latency budget; out-of-range values are clamped.
    SetLatency(Duration),
    /// What the encoder can do; the rate advice stays within it.
    SetEncoderRange {
        /// Lowest.
        min: Bitrate,
        /// Highest.
        max: Bitrate,
    },
    /// What the modem knows.
    RadioHint {
        /// Its link.
        link: LinkId,
        /// The hint.
        hint: RadioHint,
    },
    /// The time of the last [`SenderOutput::Timeout`] has come.
    Timeout,
}

/// What a [`Sender`] asks of its caller.
#[derive(Debug, Clone)]
pub enum SenderOutput {
    /// Send this datagram.
    Transmit {
        /// On which link's socket.
        link: LinkId,
        /// From which of its ports.
        channel: Channel,
        /// The UDP payload.
        bytes: Bytes,
    },
    /// Something the operator may want to know.
    Event(Event),
    /// Nothing more until then, or until the next input.
    Timeout(Timestamp),
}

/// The sending end of one flow over any number of links.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
}

impl Sender {
    /// A flow without links yet.
    ///
    /// # Errors
    /// A setting that can not work; the caller's fault.
    pub fn new(config: SenderConfig, _seed: u64, _now: Timestamp) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config })
    }

    /// Takes one input.
    pub fn handle_input(&mut self, _now: Timestamp, _input: SenderInput<'_>) {}

    /// The next thing to do; `Timeout` last.
    pub fn poll_output(&mut self, _now: Timestamp) -> SenderOutput {
        SenderOutput::Timeout(Timestamp::MAX)
    }

    /// Everything worth showing, at this moment.
    pub fn snapshot(&self, now: Timestamp) -> SenderSnapshot {
        SenderSnapshot {
            at: now,
            flow: 0,
            extension: false,
            latency_ms: self.config.latency.as_secs_f64() * 1e3,
            links: Vec::new(),
            media_rate: Bitrate::ZERO,
            send_rate: Bitrate::ZERO,
            rate_advice: Bitrate::ZERO,
            packets_in: 0,
            bytes_in: units::ByteCount::ZERO,
            packets_refused: 0,
            queued_packets: 0,
            queued_ms: 0.0,
            retransmits: 0,
            copies: 0,
            dropped_packets: 0,
            unrecoverable: 0,
        }
    }

    /// The media rate, in payload bits, that the links can carry in time.
    pub fn rate_advice(&self, _now: Timestamp) -> Bitrate {
        Bitrate::ZERO
    }
}
