//! The envelope around every MQTT payload.

use crate::limits::PAYLOAD_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// The protocol version this build speaks.
pub const VERSION: u16 = 1;

/// A body with its `kind`; the kind is a field of the body's JSON object.
pub trait Body: Serialize + DeserializeOwned {
    /// Every value of `kind` this build knows.
    const KINDS: &'static [&'static str];
}

/// Version, id and sender's time around a body.
///
/// JSON: `{"version":1,"id":"<uuid>","sent_at_ms":<unix ms>,"body":{"kind":"...",...}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Protocol version, [`VERSION`].
    pub version: u16,
    /// UUIDv7; identifies this message, and a command for its whole life.
    pub id: Uuid,
    /// The sender's wall clock, Unix milliseconds. Informative: a device's clock may be wrong.
    pub sent_at_ms: u64,
    /// What is said.
    pub body: T,
}

/// Why a payload is no message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("payload of {got} bytes is longer than the {PAYLOAD_BYTES_MAX} allowed")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not JSON, or not an envelope.
    #[error("payload is not an envelope")]
    Malformed {
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// A version this build does not speak.
    #[error("protocol version {got} is unknown here, this side speaks {VERSION}; update the older side")]
    Version {
        /// Id of the message, to answer it.
        id: Uuid,
        /// The version it names.
        got: u16,
    },
    /// A kind this build does not know.
    #[error("message kind {kind:?} is unknown here; update this side")]
    Kind {
        /// Id of the message, to answer it.
        id: Uuid,
        /// The kind it names.
        kind: String,
    },
    /// The kind is known, its fields are wrong.
    #[error("message of kind {kind:?} is malformed")]
    Body {
        /// Id of the message, to answer it.
        id: Uuid,
        /// Its kind.
        kind: String,
        /// Which field.
        source: serde_json::Error,
    },
}

impl EnvelopeError {
    /// The id of the message at fault, when it could be read: then it can be answered.
    pub const fn message_id(&self) -> Option<Uuid> {
        match self {
            Self::Version { id, .. } | Self::Kind { id, .. } | Self::Body { id, .. } => Some(*id),
            Self::TooLong { .. } | Self::Malformed { .. } => None,
        }
    }
}

impl<T: Body> Envelope<T> {
    /// A message with this build's version.
    pub const fn new(id: Uuid, sent_at_ms: u64, body: T) -> Self {
        Self { version: VERSION, id, sent_at_ms, body }
    }

    /// The JSON bytes.
    pub fn emit(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("message types have string keys and no failing serializers")
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`EnvelopeError`]: the peer's fault, in all variants; answer it when [`EnvelopeError::message_id`] is known.
    pub fn parse(payload: &[u8]) -> Result<Self, EnvelopeError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::TooLong { got: payload.len() });
        }
        let outer: Envelope<serde_json::Value> =
            serde_json::from_slice(payload).map_err(|source| EnvelopeError::Malformed { source })?;
        let Envelope { version, id, sent_at_ms, body } = outer;
        if version != VERSION {
            return Err(EnvelopeError::Version { id, got: version });
        }
        let kind: String =
            body.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().chars().take(80).collect();
        if !T::KINDS.contains(&kind.as_str()) {
            return Err(EnvelopeError::Kind { id, kind });
        }
        match serde_json::from_value(body) {
            Ok(body) => Ok(Self { version, id, sent_at_ms, body }),
            Err(source) => Err(EnvelopeError::Body { id, kind, source }),
        }
    }
}
