//! Pre-shared key encryption of Main Profile (TR-06-2 section 7.2): PBKDF2-HMAC-SHA256 and AES-CTR.
//!
//! There is no message authentication in the standard: what this module adds is refusing everything that a right key
//! cannot have made. The receiving end keeps the nonces that the peer uses, each with a replay window; what is in use never
//! gives way. A nonce it does not know is only a candidate until a packet under it decrypts to something plausible, and
//! deriving keys for candidates is limited in rate, because each costs 1024 rounds of HMAC. What the tunnels of an end know
//! together of nonces is in their [`NonceBook`].

mod book;
mod inbound;
mod key_stream;
mod limiter;
mod outbound;
mod replay;

pub use book::{NONCES_REMEMBERED_MAX, NonceBook};
pub use inbound::Ownership;
pub(crate) use inbound::{Inbound, Slot};
pub(crate) use outbound::Outbound;
pub use replay::REPLAY_WINDOW_PACKETS;
pub use {inbound::ACCEPTED_NONCES_MAX, inbound::CANDIDATE_NONCES_MAX, limiter::RateLimiter};

use aes::cipher::KeyInit;
use aes::{Aes128, Aes256};
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The four bytes that, with the passphrase, make a key.
pub type Nonce = [u8; 4];

/// Rounds of PBKDF2, fixed by the standard.
const PBKDF2_ROUNDS: u32 = if cfg!(fuzzing) { 1 } else { 1024 };

/// A passphrase. It never shows in `Debug` and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Psk(Zeroizing<Vec<u8>>);

impl Psk {
    /// The passphrase `bytes`, without terminating NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The key for `nonce`. Costs 1024 rounds of HMAC-SHA256: 0.1 to 1 ms.
    pub(crate) fn derive(&self, nonce: Nonce, size: KeySize) -> PacketKey {
        let mut key = [0u8; 32];
        let key = &mut key[..size.bytes()];
        pbkdf2_hmac::<Sha256>(&self.0, &nonce, PBKDF2_ROUNDS, key);
        let cipher = PacketKey::new(size, key);
        key.zeroize();
        cipher
    }
}

impl Psk {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

/// Length of the AES key; each direction chooses its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeySize {
    /// 128 bits.
    Aes128,
    /// 256 bits.
    #[default]
    Aes256,
}

impl KeySize {
    /// Bytes of the key.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }
}

/// Where the sequence number stands in the counter block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IvLayout {
    /// In the first four bytes: revisions 1 and up.
    SequenceFirst,
    /// In the last four bytes: revision 0, whose neighbouring packets share key stream. Never sent.
    SequenceLast,
}

/// An AES key with its schedule, ready for packets.
pub(crate) enum PacketKey {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl PacketKey {
    pub(crate) fn new(size: KeySize, key: &[u8]) -> Self {
        const SIZED: &str = "the slice was cut to this key size";
        match size {
            KeySize::Aes128 => Self::Aes128(Box::new(Aes128::new_from_slice(key).expect(SIZED))),
            KeySize::Aes256 => Self::Aes256(Box::new(Aes256::new_from_slice(key).expect(SIZED))),
        }
    }

    /// Encrypts or decrypts a packet's `body` in place.
    pub(crate) fn apply(&self, sequence: u32, layout: IvLayout, body: &mut [u8]) {
        let mut iv = [0u8; 16];
        match layout {
            IvLayout::SequenceFirst => iv[..4].copy_from_slice(&sequence.to_be_bytes()),
            IvLayout::SequenceLast => iv[12..].copy_from_slice(&sequence.to_be_bytes()),
        }
        match self {
            Self::Aes128(cipher) => key_stream::apply(&**cipher, iv, body),
            Self::Aes256(cipher) => key_stream::apply(&**cipher, iv, body),
        }
    }

    pub(crate) const fn size(&self) -> KeySize {
        match self {
            Self::Aes128(_) => KeySize::Aes128,
            Self::Aes256(_) => KeySize::Aes256,
        }
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketKey({:?}, ..)", self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;

    /// The key itself, as the vectors give it.
    fn raw_key(passphrase: &str, nonce: &str, size: KeySize) -> Vec<u8> {
        let mut key = vec![0; size.bytes()];
        pbkdf2_hmac::<Sha256>(passphrase.as_bytes(), &unhex(nonce), PBKDF2_ROUNDS, &mut key);
        key
    }

    #[test]
    fn keys_of_the_standard_and_of_librist() {
        let annex_b = "Reliable Internet Stream Transport";
        for (passphrase, nonce, size, key) in [
            (annex_b, "52495354", KeySize::Aes128, "1c2b0cfc90ae2638fea78c7fb2977047"),
            (annex_b, "52495354", KeySize::Aes256, "1c2b0cfc90ae2638fea78c7fb297704718bff7f4052743001a9b7ebb51cc9f1c"),
            ("ristpsk128", "21268761", KeySize::Aes128, "0fe56b13c698e37d515a5ee89ff98159"),
            (
                "ristpsk256",
                "583baba6",
                KeySize::Aes256,
                "a910b53aad9618caa73a1148082f26cee5fdc1f6771de46ec434142959e4c483",
            ),
            (
                "ristpsk256",
                "239606ed",
                KeySize::Aes256,
                "729d12983e10ed97746be6f843425908358a1567e012dc0189d8da5ab2ce0c01",
            ),
            (
                "ristpsk256",
                "80eeb673",
                KeySize::Aes256,
                "832354e302a41ae6a261a07175e2fccef4a3a0155727396fed5fa10ce12e1a3e",
            ),
            ("ristpsk128", "00dc89a4", KeySize::Aes128, "a373b749ed4318548b145058da36cd18"),
            (
                "rotate-me",
                "0f2c7a68",
                KeySize::Aes256,
                "faa684747459c07cdfa3a8088d2e7ba45ee31bfad664b4671673b77ca6d8c739",
            ),
        ] {
            assert_eq!(raw_key(passphrase, nonce, size), unhex(key), "{passphrase} {nonce}");
            let nonce: Nonce = unhex(nonce).try_into().unwrap();
            let mut derived = *b"sixteen bytes ok";
            let mut expected = derived;
            Psk::new(passphrase).derive(nonce, size).apply(5, IvLayout::SequenceFirst, &mut derived);
            PacketKey::new(size, &unhex(key)).apply(5, IvLayout::SequenceFirst, &mut expected);
            assert_eq!(derived, expected);
            assert_ne!(&derived, b"sixteen bytes ok");
        }
    }

    /// V9 to V11 and V16 to V18, whole: media with the virtual ports of librist's first link, RTCP, and the keep-alive of
    /// revision 1, which a tunnel can not tell from garbage.
    #[test]
    fn datagrams_of_librist_decrypt_to_the_byte() {
        use KeySize::{Aes128, Aes256};
        for (passphrase, nonce, size, sequence, cipher_text, plain_text) in [
            (
                "ristpsk128",
                "21268761",
                Aes128,
                0x18,
                "744163ab7db41c9ba70a1d6c7105fed003b465f7aa15a69230f0594f4abb2d52",
                "800107b080210000db2d7c558b13383a52495354544553543030303030303030",
            ),
            (
                "ristpsk256",
                "583baba6",
                Aes256,
                0x18,
                "b673a51f1e20c2e406ea2515c8018132dcd151822cc7b4e1c786ceb8de82ff8d",
                "800107b080210000db34a55ae594a70c52495354544553543030303030303030",
            ),
            (
                "ristpsk256",
                "239606ed",
                Aes256,
                2,
                "53c212e7d214aa9e1ddca81482ea7dda21b78fc7cab492c100d311835973f7bed387e61849cbbf8a6fe3c735bebc2c9f5be2b58a",
                "07b1800080c90001e594a70c81ca0003e594a70c010572656376410083cc0005e594a70c5249535483aa843815101a9000000000",
            ),
            ("ristpsk256", "80eeb673", Aes256, 0, "a59c301982bfa02da83b4571", "000080000ad2901333022520"),
            (
                "ristpsk256",
                "80eeb673",
                Aes256,
                0x25,
                "aad564c51612dc2638a1cabe09a5bfefd8f7ab0e500cd31d48fdb609851c951cf28236f0",
                "00000000800107b080210000de5718b5f2174d9e52495354544553543030303030303030",
            ),
            (
                "ristpsk128",
                "00dc89a4",
                Aes128,
                0x25,
                "a83e2595c2be65d121679882227c798be64f66f23f49d9dac7212fa8db176b2e99e3a813",
                "00000000800107b080210000de4ff1e6b2e0439052495354544553543030303030303030",
            ),
            ("ristpsk256", "80eeb673", Aes256, 3, "c62510245ee01ecb", "0ad2901333022520"),
        ] {
            let mut body = unhex(cipher_text);
            let nonce: Nonce = unhex(nonce).try_into().unwrap();
            Psk::new(passphrase).derive(nonce, size).apply(sequence, IvLayout::SequenceFirst, &mut body);
            assert_eq!(body, unhex(plain_text), "{plain_text}");
        }
    }

    #[test]
    fn the_iv_layouts_differ_as_the_revisions_do() {
        let key = Psk::new("x").derive([1, 2, 3, 4], KeySize::Aes128);
        let stream = |layout, sequence, blocks: usize| {
            let mut bytes = vec![0; blocks * 16];
            key.apply(sequence, layout, &mut bytes);
            bytes
        };
        assert_eq!(
            stream(IvLayout::SequenceLast, 7, 2)[16..],
            stream(IvLayout::SequenceLast, 8, 1),
            "revision 0 overlaps"
        );
        assert_ne!(stream(IvLayout::SequenceFirst, 7, 2)[16..], stream(IvLayout::SequenceFirst, 8, 1));
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let psk = Psk::new("open sesame");
        assert_eq!(format!("{psk:?}"), "Psk(..)");
        assert_eq!(format!("{:?}", psk.derive([0, 0, 0, 1], KeySize::Aes256)), "PacketKey(Aes256, ..)");
    }
}
