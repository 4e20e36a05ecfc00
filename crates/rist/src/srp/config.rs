//! Settings of the login.

use super::ExchangeLimit;
use std::fmt;
use zeroize::Zeroizing;

/// A password; it never shows in `Debug` and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// 32 random bytes from the system, different for each tunnel: the private values of the exchange come from them.
#[derive(Clone, PartialEq, Eq)]
pub struct Entropy(pub Zeroizing<[u8; 32]>);

impl Entropy {
    /// From `bytes`.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// A user name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// At most 255 bytes.
    pub username: String,
    /// The password.
    pub password: Password,
}

/// Settings of the login of a tunnel.
#[derive(Debug, Clone)]
pub struct SrpConfig {
    /// The client's own login, or those the server lets in (at most [`USERS_MAX`]).
    pub logins: Vec<Login>,
    /// Random bytes.
    pub entropy: Entropy,
    /// Without passphrase, encrypt what this end sends with the key of the session (peers of EAPOL version 3 only; librist
    /// up to 0.2.7 is of version 2 and stays in the clear). On by default.
    pub use_session_key: bool,
    /// Shared by the tunnels of this end, so that a flood of log-ins over many of them costs no more than over one.
    pub exchanges: ExchangeLimit,
}

impl SrpConfig {
    /// For `logins`, with the session key as passphrase when there is no other.
    pub fn new(logins: Vec<Login>, entropy: Entropy) -> Self {
        Self { logins, entropy, use_session_key: true, exchanges: ExchangeLimit::default() }
    }
}

/// The most users of a server.
pub const USERS_MAX: usize = 256;
