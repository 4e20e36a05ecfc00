//! The receiving end of a flow.

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Bitrate, ByteCount, Timestamp};

use crate::config::{ConfigError, ReceiverConfig};
use crate::event::Event;
use crate::payload::Channel;
use crate::stats::ReceiverSnapshot;

/// What a caller tells a [`Receiver`].
#[derive(Debug)]
pub enum ReceiverInput<'a> {
    /// A datagram came in; it is decrypted in place.
    Datagram {
        /// Index of the local socket (pair).
        local: u16,
        /// Where it came from.
        from: SocketAddr,
        /// Which of the socket pair's ports.
        channel: Channel,
        /// The UDP payload.
        bytes: &'a mut [u8],
    },
    /// Call a listening sender from this local socket (Main Profile) and keep calling.
    Connect {
        /// Index of the local socket.
        local: u16,
        /// The sender.
        to: SocketAddr,
    },
    /// A new latency budget; out-of-range values are clamped.
    SetLatency(Duration),
    /// The time of the last [`ReceiverOutput::Timeout`] has come.
    Timeout,
}

/// One packet, in order and on time.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The flow it belongs to.
    pub flow: u32,
    /// The payload as it went in at the sender.
    pub bytes: Bytes,
    /// When its content was produced, from the RTP time, in the receiver's clock: delivery minus the latency budget.
    /// Never goes back within a flow.
    pub source_time: Timestamp,
    /// Packets before this one are missing.
    pub discontinuity: bool,
}

/// What a [`Receiver`] asks of its caller.
#[derive(Debug, Clone)]
pub enum ReceiverOutput {
    /// Send this datagram.
    Transmit {
        /// From which local socket (pair).
        local: u16,
        /// Where to.
        to: SocketAddr,
        /// From which of the pair's ports.
        channel: Channel,
        /// The UDP payload.
        bytes: Bytes,
    },
    /// The next packet of a flow.
    Deliver(Delivered),
    /// Something the operator may want to know.
    Event(Event),
    /// Nothing more until then, or until the next input.
    Timeout(Timestamp),
}

/// The receiving end of the flows that arrive on one set of sockets.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
}

impl Receiver {
    /// A receiver that has heard nobody yet.
    ///
    /// # Errors
    /// A setting that can not work; the caller's fault.
    pub fn new(config: ReceiverConfig, _seed: u64, _now: Timestamp) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config })
    }

    /// Takes one input.
    pub fn handle_input(&mut self, _now: Timestamp, _input: ReceiverInput<'_>) {}

    /// The next thing to do; `Timeout` last.
    pub fn poll_output(&mut self, _now: Timestamp) -> ReceiverOutput {
        ReceiverOutput::Timeout(Timestamp::MAX)
    }

    /// Everything worth showing, at this moment.
    pub fn snapshot(&self, now: Timestamp) -> ReceiverSnapshot {
        ReceiverSnapshot {
            at: now,
            links: Vec::new(),
            delivered_packets: 0,
            delivered_bytes: ByteCount::ZERO,
            lost_packets: 0,
            late_packets: 0,
            recovered_packets: 0,
            duplicates: 0,
            refused_datagrams: 0,
            nacks_sent: 0,
            rate: Bitrate::ZERO,
            latency_ms: self.config.latency.as_secs_f64() * 1e3,
            buffer_ms: 0.0,
        }
    }
}
