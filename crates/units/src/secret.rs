//! Text that must not be seen.

use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// A key, pass phrase or code. `Debug` and `Display` hide it; memory is wiped on drop.
///
/// It serializes as its text, because that is how it travels inside TLS or on a local socket: never serialize it into
/// a log or an unsealed file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, at the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("open sesame");
        assert!(!format!("{secret:?} {secret}").contains("sesame"));
        assert_eq!(secret.reveal(), "open sesame");
    }
}
