//! Names that are safe wherever they appear.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`].
    #[error("an id has at most {ID_BYTES_MAX} bytes, this one has {got}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// A character that would not be safe in a topic, a path or a URL.
    #[error("an id is made of a-z, 0-9 and '-', found {found:?} at position {at}")]
    Character {
        /// The character.
        found: char,
        /// Its byte position.
        at: usize,
    },
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { got: text.len() });
    }
    match text.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some((at, found)) => Err(IdError::Character { found, at }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Characters: a-z, 0-9, `-`; 1 to 64 bytes. No `.`, `/`, space or MQTT wildcard can occur.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// One field device, given by the relay at enrolment.
    DeviceId
}
id! {
    /// One stream from start to stop, given by the relay.
    StreamId
}

/// One network path of a bond: small, dense, given by the sender, unique within a flow while the link lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(pub u16);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_topics_and_paths_cannot_hold() {
        assert_eq!("".parse::<DeviceId>(), Err(IdError::Empty));
        assert_eq!("a/b".parse::<DeviceId>(), Err(IdError::Character { found: '/', at: 1 }));
        assert_eq!("..".parse::<StreamId>(), Err(IdError::Character { found: '.', at: 0 }));
        assert_eq!("x".repeat(65).parse::<DeviceId>(), Err(IdError::TooLong { got: 65 }));
        assert!("van-7".parse::<DeviceId>().is_ok());
        assert!(serde_json::from_str::<DeviceId>("\"A B\"").is_err());
    }
}
