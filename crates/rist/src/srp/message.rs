//! Bodies of the EAP-SRP messages (TR-06-2 annex D), after the EAP header.

use super::math::{PROOF_BYTES, Proof};
use crate::wire::WireError;
use crate::wire::eapol::{TYPE_IDENTITY, TYPE_SRP};
use crate::wire::reader::Reader;

const SUBTYPE_CHALLENGE: u8 = 0x01;
const SUBTYPE_KEY: u8 = 0x02;
const SUBTYPE_PROOF: u8 = 0x03;
const SUBTYPE_PASSPHRASE: u8 = 0x10;
/// U: the session key becomes the passphrase of the sender's traffic.
const FLAG_USE_KEY: u32 = 1;
/// U of a passphrase response.
const PASSPHRASE_USE_KEY: u8 = 0x80;
/// H of a passphrase response: AES-256.
const PASSPHRASE_AES_256: u8 = 0x40;

const WHAT: &str = "an EAP-SRP message";

/// A body. The same subtype means different things from client and server, so the names tell the place in the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// Type 1: the request is empty, the response is the user name.
    Identity(&'a [u8]),
    /// Subtype 1 from either end, unparsed: [`Challenge`] or the client's public value.
    First(&'a [u8]),
    /// Subtype 2, unparsed: the server's public value or the client's proof.
    Second(&'a [u8]),
    /// Subtype 3, unparsed: the server's proof, or empty as the acknowledgement of version 2.
    Third(&'a [u8]),
    /// Subtype 0x10: empty as request.
    Passphrase(&'a [u8]),
    /// Anything else, to be ignored.
    Other,
}

impl<'a> Message<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Self {
        match body {
            [TYPE_IDENTITY, name @ ..] => Self::Identity(name),
            [TYPE_SRP, SUBTYPE_CHALLENGE, rest @ ..] => Self::First(rest),
            [TYPE_SRP, SUBTYPE_KEY, rest @ ..] => Self::Second(rest),
            [TYPE_SRP, SUBTYPE_PROOF, rest @ ..] => Self::Third(rest),
            [TYPE_SRP, SUBTYPE_PASSPHRASE, rest @ ..] => Self::Passphrase(rest),
            _ => Self::Other,
        }
    }

    pub(super) fn to_body(self) -> Vec<u8> {
        let (head, rest): (&[u8], &[u8]) = match self {
            Self::Identity(name) => (&[TYPE_IDENTITY], name),
            Self::First(rest) => (&[TYPE_SRP, SUBTYPE_CHALLENGE], rest),
            Self::Second(rest) => (&[TYPE_SRP, SUBTYPE_KEY], rest),
            Self::Third(rest) => (&[TYPE_SRP, SUBTYPE_PROOF], rest),
            Self::Passphrase(rest) => (&[TYPE_SRP, SUBTYPE_PASSPHRASE], rest),
            Self::Other => (&[], &[]),
        };
        [head, rest].concat()
    }
}

/// The server's challenge. The server's name is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Challenge<'a> {
    pub(super) salt: &'a [u8],
    /// Generator and prime; `None` for the default group.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Challenge<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let name_bytes = usize::from(reader.u16()?);
        reader.take(name_bytes)?;
        let salt_bytes = usize::from(reader.u16()?);
        let salt = reader.take(salt_bytes)?;
        let generator_bytes = usize::from(reader.u16()?);
        let generator = reader.take(generator_bytes)?;
        Ok(Self { salt, group: (generator_bytes > 0).then_some((generator, reader.rest())) })
    }

    /// The bytes behind the subtype, in the default group.
    pub(super) fn emit(salt: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0];
        out.extend_from_slice(&(salt.len() as u16).to_be_bytes());
        out.extend_from_slice(salt);
        out.extend_from_slice(&[0, 0]);
        out
    }
}

/// Either end's proof with its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProofMessage {
    pub(super) use_key: bool,
    pub(super) proof: Proof,
}

impl ProofMessage {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let flags = reader.u32()?;
        Ok(Self { use_key: flags & FLAG_USE_KEY != 0, proof: reader.array::<PROOF_BYTES>()? })
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        let flags = if self.use_key { FLAG_USE_KEY } else { 0 };
        [&flags.to_be_bytes()[..], &self.proof].concat()
    }
}

/// The answer "use the session key" to a passphrase request.
pub(super) const fn passphrase_is_key() -> [u8; 1] {
    [PASSPHRASE_USE_KEY]
}

/// The first byte of an answer that carries an encrypted passphrase.
pub(super) const fn passphrase_flags(aes_256: bool) -> u8 {
    if aes_256 { PASSPHRASE_AES_256 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn a_challenge_with_a_name_and_its_own_group_is_read() {
        let bytes = [0, 2, b'm', b'e', 0, 3, 7, 8, 9, 0, 1, 2, 0xff, 0xfe];
        assert_eq!(Challenge::parse(&bytes), Ok(Challenge { salt: &[7, 8, 9], group: Some((&[2], &[0xff, 0xfe])) }));
        assert!(matches!(Challenge::parse(&bytes[..8]), Err(WireError::Truncated { need: 9, got: 8, .. })));
    }

    /// The servers' proofs of V19 (flags 00000001: it will encrypt with the key) and as an older one sends it.
    #[test]
    fn v19_the_flag_of_the_session_key_is_the_lowest_bit() {
        let m2 = "189b2b36cd4560e9d53690ed02d67ee3eab95e13830accbbed760429b852f82c";
        for (flags, use_key) in [("00000001", true), ("00000000", false), ("fffffffe", false)] {
            let message = ProofMessage::parse(&unhex(&format!("{flags}{m2}"))).unwrap();
            assert_eq!((message.use_key, message.proof.to_vec()), (use_key, unhex(m2)), "{flags}");
        }
        let message = ProofMessage { use_key: true, proof: unhex(m2).try_into().unwrap() };
        assert_eq!(message.emit(), unhex(&format!("00000001{m2}")));
    }

    proptest! {
        #[test]
        fn messages_parse_back(kind in 0..5usize, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let message = [
                Message::Identity(&rest),
                Message::First(&rest),
                Message::Second(&rest),
                Message::Third(&rest),
                Message::Passphrase(&rest),
            ][kind];
            let body = message.to_body();
            prop_assert_eq!(Message::parse(&body), message);
        }

        #[test]
        fn challenges_and_proofs_parse_back(salt in proptest::collection::vec(any::<u8>(), 0..64), use_key: bool, proof: [u8; 32]) {
            let body = Challenge::emit(&salt);
            prop_assert_eq!(Challenge::parse(&body), Ok(Challenge { salt: &salt, group: None }));
            let message = ProofMessage { use_key, proof };
            prop_assert_eq!(ProofMessage::parse(&message.emit()), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Challenge::parse(&bytes);
            let _ = ProofMessage::parse(&bytes);
        }
    }
}
