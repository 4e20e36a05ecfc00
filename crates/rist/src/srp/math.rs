//! The arithmetic of SRP-6a as RIST uses it (TR-06-2 annex D, RFC 5054 group).
//!
//! Numbers enter hashes in their shortest form, without padding. M1 is one flat hash over
//! `(H(N) xor H(g)), H(I), s, A, B, K`, which is what the peers compute; the formula in the standard's text is not.
//!
//! The big-number library is not constant-time. What it handles is ephemeral or costs an attacker one login attempt a
//! measurement, and logins are limited in rate; the comparison of proofs is constant-time.

use super::hash::{HASH_BYTES, HashVariant, hash};
use num_bigint::BigUint;
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of M1 and M2.
pub(super) const PROOF_BYTES: usize = HASH_BYTES;
/// Bytes of a public value in the default group.
pub(super) const PUBLIC_BYTES_MAX: usize = 256;

pub(super) type Proof = [u8; PROOF_BYTES];
pub(super) type SessionKey = Zeroizing<[u8; HASH_BYTES]>;

/// The 2048-bit prime of RFC 5054 appendix A.
#[rustfmt::skip]
const N_2048: [u8; 256] = [
    0xac, 0x6b, 0xdb, 0x41, 0x32, 0x4a, 0x9a, 0x9b, 0xf1, 0x66, 0xde, 0x5e, 0x13, 0x89, 0x58, 0x2f,
    0xaf, 0x72, 0xb6, 0x65, 0x19, 0x87, 0xee, 0x07, 0xfc, 0x31, 0x92, 0x94, 0x3d, 0xb5, 0x60, 0x50,
    0xa3, 0x73, 0x29, 0xcb, 0xb4, 0xa0, 0x99, 0xed, 0x81, 0x93, 0xe0, 0x75, 0x77, 0x67, 0xa1, 0x3d,
    0xd5, 0x23, 0x12, 0xab, 0x4b, 0x03, 0x31, 0x0d, 0xcd, 0x7f, 0x48, 0xa9, 0xda, 0x04, 0xfd, 0x50,
    0xe8, 0x08, 0x39, 0x69, 0xed, 0xb7, 0x67, 0xb0, 0xcf, 0x60, 0x95, 0x17, 0x9a, 0x16, 0x3a, 0xb3,
    0x66, 0x1a, 0x05, 0xfb, 0xd5, 0xfa, 0xaa, 0xe8, 0x29, 0x18, 0xa9, 0x96, 0x2f, 0x0b, 0x93, 0xb8,
    0x55, 0xf9, 0x79, 0x93, 0xec, 0x97, 0x5e, 0xea, 0xa8, 0x0d, 0x74, 0x0a, 0xdb, 0xf4, 0xff, 0x74,
    0x73, 0x59, 0xd0, 0x41, 0xd5, 0xc3, 0x3e, 0xa7, 0x1d, 0x28, 0x1e, 0x44, 0x6b, 0x14, 0x77, 0x3b,
    0xca, 0x97, 0xb4, 0x3a, 0x23, 0xfb, 0x80, 0x16, 0x76, 0xbd, 0x20, 0x7a, 0x43, 0x6c, 0x64, 0x81,
    0xf1, 0xd2, 0xb9, 0x07, 0x87, 0x17, 0x46, 0x1a, 0x5b, 0x9d, 0x32, 0xe6, 0x88, 0xf8, 0x77, 0x48,
    0x54, 0x45, 0x23, 0xb5, 0x24, 0xb0, 0xd5, 0x7d, 0x5e, 0xa7, 0x7a, 0x27, 0x75, 0xd2, 0xec, 0xfa,
    0x03, 0x2c, 0xfb, 0xdb, 0xf5, 0x2f, 0xb3, 0x78, 0x61, 0x60, 0x27, 0x90, 0x04, 0xe5, 0x7a, 0xe6,
    0xaf, 0x87, 0x4e, 0x73, 0x03, 0xce, 0x53, 0x29, 0x9c, 0xcc, 0x04, 0x1c, 0x7b, 0xc3, 0x08, 0xd8,
    0x2a, 0x56, 0x98, 0xf3, 0xa8, 0xd0, 0xc3, 0x82, 0x71, 0xae, 0x35, 0xf8, 0xe9, 0xdb, 0xfb, 0xb6,
    0x94, 0xb5, 0xc8, 0x03, 0xd8, 0x9f, 0x7a, 0xe4, 0x35, 0xde, 0x23, 0x6d, 0x52, 0x5f, 0x54, 0x75,
    0x9b, 0x65, 0xe3, 0x72, 0xfc, 0xd6, 0x8e, 0xf2, 0x0f, 0xa7, 0x11, 0x1f, 0x9e, 0x4a, 0xff, 0x73,
];

/// A prime of 64 bits, 2^64 - 59.
const N_FUZZING: [u8; 8] = (u64::MAX - 58).to_be_bytes();

/// A prime and a generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    n: BigUint,
    g: BigUint,
}

impl Group {
    pub(super) fn new(n: &[u8], g: &[u8]) -> Self {
        Self { n: BigUint::from_bytes_be(n), g: BigUint::from_bytes_be(g) }
    }

    /// RFC 5054, 2048 bits, g = 2: the only group this end accepts.
    pub(super) fn default_2048() -> &'static Self {
        // Fuzzers (never a program) calculate in a tiny group: they look for paths, not for strength.
        const N: &[u8] = if cfg!(fuzzing) { &N_FUZZING } else { &N_2048 };
        static GROUP: LazyLock<Group> = LazyLock::new(|| Group::new(N, &[2]));
        &GROUP
    }

    fn power_of_g(&self, exponent: &BigUint) -> BigUint {
        self.g.modpow(exponent, &self.n)
    }

    fn k(&self) -> BigUint {
        number(&hash(&[&bytes(&self.n), &bytes(&self.g)]))
    }
}

fn number(bytes: &[u8]) -> BigUint {
    BigUint::from_bytes_be(bytes)
}

fn bytes(number: &BigUint) -> Vec<u8> {
    number.to_bytes_be()
}

/// What both ends know of a login in advance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) username: &'a [u8],
    pub(super) password: &'a [u8],
    pub(super) salt: &'a [u8],
}

impl Identity<'_> {
    pub(super) fn x(&self, variant: HashVariant) -> BigUint {
        let inner = Zeroizing::new(variant.hash(&[self.username, b":", self.password]));
        number(&hash(&[self.salt, &*inner]))
    }
}

/// The server's verifier `v = g^x`.
pub(super) fn verifier(group: &Group, x: &BigUint) -> BigUint {
    group.power_of_g(x)
}

/// A private value and what the other end may see of it.
pub(super) struct KeyPair {
    private: BigUint,
    pub(super) public: Vec<u8>,
}

impl KeyPair {
    /// The client's `A = g^a`.
    pub(super) fn client(group: &Group, a: &[u8]) -> Self {
        let private = number(a);
        let public = bytes(&group.power_of_g(&private));
        Self { private, public }
    }

    /// The server's `B = kv + g^b`.
    pub(super) fn server(group: &Group, b: &[u8], v: &BigUint) -> Self {
        let private = number(b);
        let public = bytes(&((group.k() * v + group.power_of_g(&private)) % &group.n));
        Self { private, public }
    }
}

/// The peer's public value is one that reveals or fixes the key: an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPublicValue;

fn scrambler(group: &Group, a_public: &[u8], b_public: &[u8], peer: &[u8]) -> Result<BigUint, BadPublicValue> {
    let zero = BigUint::ZERO;
    let u = number(&hash(&[a_public, b_public]));
    if peer.len() > PUBLIC_BYTES_MAX || number(peer) % &group.n == zero || u == zero {
        return Err(BadPublicValue);
    }
    Ok(u)
}

/// The client's `K = H((B - k g^x)^(a + u x))`.
pub(super) fn client_key(
    group: &Group,
    pair: &KeyPair,
    b_public: &[u8],
    x: &BigUint,
) -> Result<SessionKey, BadPublicValue> {
    let u = scrambler(group, &pair.public, b_public, b_public)?;
    let hidden = group.k() * group.power_of_g(x) % &group.n;
    let base = (number(b_public) % &group.n + &group.n - hidden) % &group.n;
    let secret = base.modpow(&(&pair.private + u * x), &group.n);
    Ok(Zeroizing::new(hash(&[&Zeroizing::new(bytes(&secret))])))
}

/// The server's `K = H((A v^u)^b)`.
pub(super) fn server_key(
    group: &Group,
    pair: &KeyPair,
    a_public: &[u8],
    v: &BigUint,
) -> Result<SessionKey, BadPublicValue> {
    let u = scrambler(group, a_public, &pair.public, a_public)?;
    let base = number(a_public) * v.modpow(&u, &group.n) % &group.n;
    let secret = base.modpow(&pair.private, &group.n);
    Ok(Zeroizing::new(hash(&[&Zeroizing::new(bytes(&secret))])))
}

/// The values both proofs are made of. `a_public` and `b_public` are the bytes that went over the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transcript<'a> {
    pub(super) group: &'a Group,
    pub(super) username: &'a [u8],
    pub(super) salt: &'a [u8],
    pub(super) a_public: &'a [u8],
    pub(super) b_public: &'a [u8],
    pub(super) key: &'a SessionKey,
}

impl Transcript<'_> {
    pub(super) fn m1(&self, variant: HashVariant) -> Proof {
        let (hash_n, hash_g) = (hash(&[&bytes(&self.group.n)]), hash(&[&bytes(&self.group.g)]));
        let group: [u8; HASH_BYTES] = std::array::from_fn(|i| hash_n[i] ^ hash_g[i]);
        let username = hash(&[self.username]);
        variant.hash(&[&group, &username, self.salt, self.a_public, self.b_public, &**self.key])
    }

    pub(super) fn m2(&self, variant: HashVariant, m1: &Proof) -> Proof {
        variant.hash(&[self.a_public, m1, &**self.key])
    }
}

/// Constant-time comparison.
pub(super) fn proves(expected: &Proof, got: &[u8]) -> bool {
    expected[..].ct_eq(got).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;

    const ALICE_A: &str = "630acdff5d334462d92a29e0b7fa6e20020f3333292f6d3a640f1c7a76ad9d317531c57979952e5736c88db118d060dc0539a812b9b0af3b4002380a9f28ae4a7c45a896542de05fbcf76a4e7e0739b9a55d5d6c7aba4f1e1b58729a79bc084d5ff513eaec33ce978f5bad87e579b5a95fc773198e22697b2eadab9eb94f84cdcf1fe94ff09f88d4ca46e968bba443ff71167571f19feb052869bd28d7dabf963b7fe399a1f70e7e08d00e1a3778ed1dddc3325dd09e05d31e774d1fd295c4abfbc613446232004d67cb03d6a034d2ce6ca0a544a0ff5b434b4b4267fa6c6d72acbbda2efc1ef1d1fe36d35382b089abe556862aec35b29d3d0cdf359a9cfed3";
    const K: &str = "4cba3fb2923e01fb263ddbbb185a01c131c638f2561942e437727e02ca3c266d";

    struct Capture {
        variant: HashVariant,
        salt: &'static str,
        b_public: &'static str,
        x: &'static str,
        u: &'static str,
        key: &'static str,
        m1: &'static str,
        m2: &'static str,
    }

    const V19: Capture = Capture {
        variant: HashVariant::Standard,
        salt: "6cac6099905efb58363ee95f50063214c409b395bc2fb20bea2605f696fd0796",
        b_public: "a5f95f52c3510eb1b9f4e337691ae0093dff9c05cc3109fb5d7d4314fff446f4aadd791f8e1b6530d04399cdb768d4a95e266fc09f0e86fa6e1b08d752df49f32e63a8aeafc7ecab2eab2f3c2c1f956ca039d3cb4e51b3bba9a7958215aa835fe35e18688c5b63b7d4d11af179472184868800c5a5e039fe9b6257953776f3b3c9df95c475712d53acb739713a6e272affacc33e35bbdbdf4467ace2c3d342ce0cf67b40aaf207c74cc9b9366e44af94d190f8f45642f6e3c51a3b5386168b25363747d9ded02d7b3cc358d40e0d2fe7d46d686afcf3c34479e8b6a02efde200c072ccd306ccf51d133a417a0cb83554bd8cc865c720c147270715d02b8b7cb2",
        x: "c9b00242ac93ab713ae4e38e494e994cfc3140158a97125e661610d0bd14bf4e",
        u: "70c9b371654dbcd922ff5cc38f917f4be971e6c91890c035be9fcb7a05968fa5",
        key: "9cf083c71bb11a1c4cf7d200af353b865792a81b738b1338ef1801e2d107a9f5",
        m1: "08006db90ab3c767c6930f33aa47d7f2872e5da78f1bf81d2e08b75359a78b6b",
        m2: "189b2b36cd4560e9d53690ed02d67ee3eab95e13830accbbed760429b852f82c",
    };

    const V20: Capture = Capture {
        variant: HashVariant::ZeroState,
        salt: "2177d3d95a05b07f6f9507c1be3b330c282d15125cfa6628f54e9ef747704cbd",
        b_public: "ea3a90447dd6beb50dc388b4b180f3c3000bcffe2a69b3358c6c00558a435bd393cbe96d8606a7398fb5288511f60b669c46478f2c0c9bcb1e6242ba3eb59eb046224e93baf007825407466b31f6a6e3a17f47ef3f379ce19a483ce87f471594d68bbd5d1c1070fec2e366c89a5d08ef9d2a6cf3866508926b9fd1a83247b19271f69deeb25f6de00b1ac4a1a8f7e2665f3f9b147a8a3583716eb4aaf60bc1806407e549ca39b32f2ded4eb45122c9370e173adfb98f9a4be9dfdb2b1ac1dbab5a55f033343905cf2877fe8dcdafd99aaeeee34f17977ab9be57c0873a7c52ed6c0ea8d4f51d4967753071532a440b8dd2999478e13207a9e5323e3b736522",
        x: "5b37fb29b4f14f138b9aab1424cbdb9b55a7211660e28aac5c68c7ef9eba024f",
        u: "3cfea9d1cb1184b6e7eadb958d8e3018e2d423522e588ddb7b470793cd9bc4a4",
        key: "7b866500e6696a56cf40ba6623ea6a9e3e62bd868b07523e65246b18a32c6246",
        m1: "164dd998c6d2bafadd8f979c5d0ba2d3ca61faedac3a5c5b452a61fca3a9430c",
        m2: "9f5e899cee78dfafd6c66c04f1355cdb5aa7243ee0b684c0ab789459333120c0",
    };

    #[test]
    fn v19_and_v20_logins_captured_from_both_librist_servers() {
        let group = Group::default_2048();
        assert_eq!(bytes(&group.k()), unhex(K));
        let a: Vec<u8> = (1..=32).collect();
        let pair = KeyPair::client(group, &a);
        assert_eq!(pair.public, unhex(ALICE_A));
        for capture in [V19, V20] {
            let (salt, b_public) = (unhex(capture.salt), unhex(capture.b_public));
            let identity = Identity { username: b"alice", password: b"wonderland", salt: &salt };
            let x = identity.x(capture.variant);
            assert_eq!(bytes(&x), unhex(capture.x));
            assert_ne!(identity.x(capture.variant.other()), x);
            assert_eq!(scrambler(group, &pair.public, &b_public, &b_public), Ok(number(&unhex(capture.u))));
            let key = client_key(group, &pair, &b_public, &x).unwrap();
            assert_eq!(key.to_vec(), unhex(capture.key));
            let transcript = Transcript {
                group,
                username: b"alice",
                salt: &salt,
                a_public: &pair.public,
                b_public: &b_public,
                key: &key,
            };
            let m1 = transcript.m1(capture.variant);
            assert_eq!(m1.to_vec(), unhex(capture.m1));
            assert_eq!(transcript.m2(capture.variant, &m1).to_vec(), unhex(capture.m2));
        }
    }

    #[test]
    fn v22_the_standards_example_is_made_with_the_zero_state_hash() {
        let n = unhex(
            "D66AAFE8E245F9AC245A199F62CE61AB8FA90A4D80C71CD2ADFD0B9DA163B29F2A34AFBDB3B1B5D0102559CE63D8B6E86B0AA59C14E79D4AA62D1748E4249DF3",
        );
        let group = &Group::new(&n, &[2]);
        let salt = unhex("72f9d5383b7eb7599fb63028f47475b60a55f313d40e0be023e026c97c0a2c32");
        let identity = Identity { username: b"rist", password: b"mainprofile", salt: &salt };
        let x = identity.x(HashVariant::ZeroState);
        assert_eq!(bytes(&x), unhex("8578ded647fc7e82d37886ebef2c300eb0213ccc321d8a43a0de2131b720c9c8"));
        assert_eq!(
            bytes(&identity.x(HashVariant::Standard))[..8],
            unhex("850d72f3946ec76b"),
            "what the standard's text would give"
        );
        let v = verifier(group, &x);
        let client = KeyPair::client(group, &unhex("138ab4045633ad14961cb1ad0720b1989104151c0708794491113302cccc27d5"));
        let server =
            KeyPair::server(group, &unhex("ed0d58ff861a1fc75a0829bea5f1392d2b13ab2b05cbcd6ed1e71aaad761e856"), &v);
        let key = client_key(group, &client, &server.public, &x).unwrap();
        assert_eq!(key.to_vec(), unhex("771a81c5888b81ba1be71c8250ec1cc2a3ba67555364f4603260be65099c5b97"));
        assert_eq!(server_key(group, &server, &client.public, &v).unwrap(), key);
        let transcript = Transcript {
            group,
            username: b"rist",
            salt: &salt,
            a_public: &client.public,
            b_public: &server.public,
            key: &key,
        };
        let m1 = transcript.m1(HashVariant::ZeroState);
        assert_eq!(m1.to_vec(), unhex("ebfc2d79beb3cbf7ba83c27e2b51524f8cd3f3b2c4804815ad2516d465df80c9"));
        let m2 = transcript.m2(HashVariant::ZeroState, &m1);
        assert_eq!(m2.to_vec(), unhex("fb14d73b5acbba101e5a799f80ebcbb43d83890e23ded979110eeff109c0441a"));
        assert!(proves(&m2, &m2) && !proves(&m2, &m1) && !proves(&m2, &m2[..31]));
    }

    #[test]
    fn public_values_that_fix_the_key_are_refused() {
        let group = Group::default_2048();
        let x = number(&[5]);
        let pair = KeyPair::client(group, &[7; 32]);
        for multiple in [0u8, 1, 2] {
            let bad = bytes(&(&group.n * multiple));
            assert_eq!(client_key(group, &pair, &bad, &x), Err(BadPublicValue));
            assert_eq!(server_key(group, &pair, &bad, &x), Err(BadPublicValue));
        }
        assert_eq!(client_key(group, &pair, &[3; 300], &x), Err(BadPublicValue));
    }
}
