//! What a login leaves behind, and the timing both ends share.

use super::math::SessionKey;
use super::message::{Message, passphrase_flags, passphrase_is_key};
use crate::psk::{IvLayout, KeySize, PacketKey};
use crate::wire::eapol::{Eap, EapCode, EapolFrame};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Time between two tries of one message.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Tries of one message before the exchange is given up.
pub(super) const TRIES_MAX: u32 = 5;
/// The EAPOL version this end speaks by itself.
pub(super) const VERSION: u8 = 3;
/// Modular exponentiations that a peer can cause: this many exchanges at once, and one each [`EXCHANGE_INTERVAL`].
pub(super) const EXCHANGE_BURST: u32 = 6;
/// See [`EXCHANGE_BURST`].
pub(super) const EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// A login that succeeded.
#[derive(Clone)]
pub struct Session {
    pub(super) key: SessionKey,
    /// This end encrypts with the key of the session.
    pub(super) own_use_key: bool,
    /// The peer encrypts with the key of the session. Never in version 2: librist 0.2.7 leaves stale bytes in the flags.
    pub(super) peer_use_key: bool,
    /// The request for the passphrase that was answered with its cipher text.
    pub(super) answered: Option<u8>,
}

impl Session {
    /// The session key, 32 bytes.
    pub fn key(&self) -> &[u8] {
        &*self.key
    }

    /// True when this end has told the peer that it encrypts with the session key.
    pub const fn own_use_key(&self) -> bool {
        self.own_use_key
    }

    /// True when the peer has told that it encrypts with the session key.
    pub const fn peer_use_key(&self) -> bool {
        self.peer_use_key
    }

    /// The answer to a passphrase request with identifier `identifier`: "the session key", or the passphrase encrypted
    /// with it. The counter block is librist's (identifier in the last byte), not the standard's.
    ///
    /// Requests are not authenticated, and the key streams of two identifiers overlap. So a session encrypts the passphrase
    /// for one identifier only; who asks with another gets nothing.
    pub(super) fn passphrase_answer(
        &mut self,
        identifier: u8,
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Option<Vec<u8>> {
        let rest = match passphrase {
            _ if self.own_use_key => passphrase_is_key().to_vec(),
            None => return None,
            Some(_) if *self.answered.get_or_insert(identifier) != identifier => return None,
            Some((passphrase, size)) => {
                let mut rest = vec![passphrase_flags(size == KeySize::Aes256)];
                rest.extend_from_slice(passphrase);
                let cipher = PacketKey::new(KeySize::Aes256, &*self.key);
                cipher.apply(u32::from(identifier), IvLayout::SequenceLast, &mut rest[1..]);
                rest
            }
        };
        Some(Message::Passphrase(&rest).to_body())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("own_use_key", &self.own_use_key)
            .field("peer_use_key", &self.peer_use_key)
            .finish_non_exhaustive()
    }
}

/// Why a login frame was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The frame comes at a point of the exchange where nothing of its kind is expected.
    #[error("the login frame does not fit the state of the login")]
    OutOfPlace,
    /// Exchanges come faster than two a second, or the peer is locked out after wrong proofs.
    #[error("too many login attempts in a short time")]
    TooMany,
    /// The peer's public value would fix the key: an attack.
    #[error("the peer's public value would fix the key: an attack")]
    BadPublicValue,
    /// The peer proposes a group other than the 2048-bit one of RFC 5054.
    #[error("the server proposes a group that this end does not accept")]
    UnknownGroup,
    /// The peer's proof is wrong: it does not know the password.
    #[error("the peer does not know the password of this user name, or the user is unknown")]
    WrongProof,
    /// The peer refused the login.
    #[error("the server refused the login: check user name and password")]
    Refused,
}

/// How far the login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginState {
    /// The exchange has not finished.
    Pending,
    /// The last attempt failed on user name or password; attempts go on slowly.
    Refused,
    /// The peer has proved that it knows the password.
    Done,
}

/// Writes one EAP message as an EAPOL frame.
pub(super) fn frame(version: u8, code: EapCode, identifier: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 8);
    EapolFrame::Eap(Eap { code, identifier, body }).emit(version, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use zeroize::Zeroizing;

    #[test]
    fn passphrase_answers_are_what_librist_sends_and_can_read() {
        let mut session =
            Session { key: Zeroizing::new([7; 32]), own_use_key: true, peer_use_key: false, answered: None };
        let body = session.passphrase_answer(0xc1, None).unwrap();
        assert_eq!(frame(3, EapCode::Response, 0xc1, &body), unhex("0300000702c10007131080"));
        session.own_use_key = false;
        assert_eq!(session.passphrase_answer(1, None), None);
        let body = session.passphrase_answer(9, Some((b"secret", KeySize::Aes256))).unwrap();
        assert_eq!(body[..3], [0x13, 0x10, 0x40]);
        let mut passphrase = body[3..].to_vec();
        PacketKey::new(KeySize::Aes256, &[7; 32]).apply(9, IvLayout::SequenceLast, &mut passphrase);
        assert_eq!(passphrase, b"secret");
        assert_eq!(
            session.passphrase_answer(9, Some((b"secret", KeySize::Aes256))),
            Some(body),
            "to a repeated request"
        );
        for other in [8, 10, 200] {
            assert_eq!(session.passphrase_answer(other, Some((b"secret", KeySize::Aes256))), None);
        }
        assert_eq!(format!("{session:?}"), "Session { own_use_key: false, peer_use_key: false, .. }");
    }
}
