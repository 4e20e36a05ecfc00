//! Why a tunnel refused a datagram.

use crate::srp::LoginError;
use crate::wire::WireError;
use thiserror::Error;

/// Why a datagram was refused. Nothing in the tunnel has changed then, apart from rate limits and from a far jump that
/// waits for its confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The bytes are no valid message.
    #[error("the peer's datagram is malformed")]
    Wire(#[from] WireError),
    /// A clear datagram although a passphrase is set.
    #[error("a clear datagram came, but this end has a passphrase: set the same on the other end")]
    Clear,
    /// An encrypted datagram although no passphrase is set.
    #[error("an encrypted datagram came, but this end has no passphrase")]
    NoPassphrase,
    /// An encrypted datagram without the sequence number that decryption needs.
    #[error("an encrypted datagram came without its sequence number")]
    NoSequence,
    /// What decrypts under the passphrase is garbage: another passphrase, another stream, or a forgery.
    #[error("the datagram does not decrypt to anything valid: another passphrase or a forgery")]
    Implausible,
    /// The datagram came before, or is too old to tell.
    #[error("the datagram with sequence {sequence} came before or is too old")]
    Replayed {
        /// Its GRE sequence number.
        sequence: u32,
    },
    /// The sequence number jumps so far ahead that a second datagram near it must confirm the jump.
    #[error("the datagram's sequence {sequence} is far ahead and not yet confirmed by a second one")]
    FarAhead {
        /// Its GRE sequence number.
        sequence: u32,
    },
    /// The datagram bears a nonce of this end.
    #[error("the datagram bears a nonce of this end: it was reflected")]
    Reflected,
    /// The datagram bears the nonce of another link, which is in use there.
    #[error("the datagram bears the nonce of another link: it was overheard there and repeated")]
    OtherLink,
    /// The datagram bears the nonce zero.
    #[error("the datagram bears the nonce zero, which the standard excludes")]
    ZeroNonce,
    /// So many nonces are in use at the same time that there is no room for another one.
    #[error("too many nonces are in use at the same time: former sessions are being repeated")]
    NonceLimit,
    /// Too many unknown nonces in a short time; a genuine peer comes through a moment later.
    #[error("too many unknown nonces in a short time")]
    DerivationLimit,
    /// Revision 0 encryption, which reuses key stream.
    #[error("the peer encrypts as revision 0 does, which reuses key stream: let it use revision 1 or later")]
    InsecureRevision,
    /// Anything but EAP before the login has succeeded.
    #[error("the peer has not logged in yet")]
    NotAuthenticated,
    /// Media sent to the end that sends media, or media for a virtual port that no flow uses.
    #[error("media for virtual port {port}, where no flow is expected")]
    UnexpectedMedia {
        /// The virtual destination port.
        port: u16,
    },
    /// A login frame was refused.
    #[error("the login frame was refused")]
    Login(#[from] LoginError),
}
