//! What can go wrong at the edge of a flow.

use bond::config::ConfigError;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;
use units::LinkId;

/// Why a flow was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting that cannot work.
    #[error("the configuration of the flow is refused")]
    Config(#[source] ConfigError),
    /// Two links have one id.
    #[error("two links have the id {link}: each needs its own")]
    ConfigLinkTwice {
        /// The id.
        link: LinkId,
    },
    /// A link that listens in Simple Profile.
    #[error("link {link} listens, but in Simple Profile the receiver does: use the main profile")]
    ConfigListensSimple {
        /// Its id.
        link: LinkId,
    },
    /// A receiver that calls in Simple Profile.
    #[error("it cannot call {address}: in Simple Profile the sender calls; listen, or use the main profile")]
    ConfigConnectSimple {
        /// Whom it was to call.
        address: SocketAddr,
    },
    /// More links than a flow takes.
    #[error("{got} links or sockets are too many: a flow takes {max}")]
    ConfigTooMany {
        /// How many were given.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// Neither an address to listen on nor one to call.
    #[error("give at least one address to listen on or to call")]
    ConfigNoAddress,
    /// Simple Profile needs an even port.
    #[error("Simple Profile needs an even port (RTCP uses the next one), {address} is odd")]
    ConfigOddPort {
        /// The address.
        address: SocketAddr,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: is another program using it, is the address on this machine?")]
    SystemListen {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// No file descriptor, thread or randomness.
    #[error("the system could not give the flow what it needs ({what})")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// Why a payload was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The flow's thread is behind by a full queue; the payload is lost and counted.
    #[error("the payload queue is full")]
    Full,
    /// The payload is longer than a packet carries; split it.
    #[error("a payload has at most {} bytes, not {got}", bond::PAYLOAD_BYTES_MAX)]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// The flow was closed.
    #[error("the flow is closed")]
    Closed,
}

/// The flow was closed and everything it had delivered is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the flow is closed")]
pub struct Closed;
