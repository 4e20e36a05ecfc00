//! What can go wrong with an RTMP session, in the operator's words.

use super::secure;
use rml_rtmp::handshake::HandshakeError;
use rml_rtmp::sessions::ClientSessionError;
use rtmp_screen::ScreenError;
use std::io;
use thiserror::Error;

/// How far a session had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// TCP, TLS.
    Connecting,
    /// The RTMP handshake.
    Handshake,
    /// `connect` to the application.
    Application,
    /// `publish` with the key.
    Publish,
    /// Media flows.
    Live,
}

/// Why a session ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The name cannot be resolved, or nobody answers.
    #[error("cannot connect to {host}")]
    Connect {
        /// Who.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// TLS failed.
    #[error("cannot open a secure connection to {host}")]
    Tls {
        /// Who.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The server does not answer.
    #[error("the server did not answer in time")]
    Timeout {
        /// When.
        stage: Stage,
    },
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed {
        /// When.
        stage: Stage,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Io {
        /// Why.
        source: io::Error,
    },
    /// The server takes no more media.
    #[error("the server takes no more media")]
    Stalled,
    /// The server is no RTMP server.
    #[error("the answer is not RTMP")]
    Handshake(#[source] HandshakeError),
    /// The server breaks the protocol.
    #[error("the server broke the RTMP protocol")]
    Protocol(#[source] ClientSessionError),
    /// What the server says must not be read.
    #[error("the server's answer is refused")]
    Screen(#[source] ScreenError),
    /// The server refuses the application.
    #[error("the server refused the application")]
    ApplicationRefused {
        /// The server's words.
        description: String,
    },
    /// The server refuses the key, or ends the stream.
    #[error("the server refused the stream")]
    PublishRefused {
        /// `NetStream.Publish.BadName`, ...
        code: String,
    },
    /// The program is not what RTMP carries.
    #[error("RTMP carries H.264 only, and the stream is {video}")]
    Coding {
        /// What it is.
        video: String,
    },
}

impl SessionError {
    /// What happened and what to do.
    pub fn sentence(&self) -> String {
        match self {
            Self::Connect { source, .. } => {
                format!("{self} ({source}): check address and port, and that the server is up")
            }
            Self::Tls { host, source } => secure::sentence(host, source),
            Self::Timeout { stage: Stage::Connecting } => format!("{self}: check address and port, and that the server is up"),
            Self::Closed { stage: Stage::Publish } => {
                "the server closed the connection when it saw the stream key: check the key, and that nobody else uses it".to_owned()
            }
            Self::Closed { stage: Stage::Application } => format!("{self} when asked for the application: check the address"),
            Self::Closed { stage: Stage::Live } | Self::Stalled => {
                format!("{self}: it may be overloaded or have ended the stream; look there")
            }
            Self::Io { source } => format!("{self} ({source})"),
            Self::ApplicationRefused { description } if description.is_empty() => format!("{self}: check the address"),
            Self::ApplicationRefused { description } => format!("{self} ({description}): check the address"),
            Self::PublishRefused { code } => format!("{self} ({code}): check the stream key, and that nobody else uses it"),
            Self::Coding { .. } => format!("{self}: choose H.264 on the device"),
            Self::Screen(cause) => format!("{self} ({cause}): check that the address is that of the platform's RTMP server"),
            Self::Timeout { .. } | Self::Closed { .. } | Self::Handshake(_) | Self::Protocol(_) => {
                format!("{self}: check that the address is that of an RTMP server")
            }
        }
    }
}
