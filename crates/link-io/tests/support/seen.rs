//! What has passed a proxy, for what cannot be told from the ends.

use super::media::{TS_BYTES, number_of};
use bond::config::Profile;
use std::collections::BTreeSet;

/// Bytes of an RTP header without sources and extension.
const RTP_BYTES: usize = 12;
const GRE_CHECKSUM: u8 = 0x80;
const GRE_KEY: u8 = 0x20;

/// Of one path; the client is the end that calls, the target the one that is called.
#[derive(Debug, Clone)]
pub struct Seen {
    profile: Profile,
    /// Main Profile: nonces of what the client sent, and of what the target did.
    pub nonces: [BTreeSet<[u8; 4]>; 2],
    /// Simple Profile: numbers of the TS packets that the client sent.
    pub sent: BTreeSet<u32>,
    /// The same for what was handed to the target, after losses and repairs.
    pub handed_on: BTreeSet<u32>,
}

impl Seen {
    pub fn new(profile: Profile) -> Self {
        Self { profile, nonces: Default::default(), sent: BTreeSet::new(), handed_on: BTreeSet::new() }
    }

    pub fn client_sends(&mut self, datagram: &[u8]) {
        match self.profile {
            Profile::Main => self.nonces[0].extend(nonce(datagram)),
            Profile::Simple => self.sent.extend(numbers(datagram)),
        }
    }

    pub fn target_sends(&mut self, datagram: &[u8]) {
        if self.profile == Profile::Main {
            self.nonces[1].extend(nonce(datagram));
        }
    }

    pub fn target_gets(&mut self, datagram: &[u8]) {
        if self.profile == Profile::Simple {
            self.handed_on.extend(numbers(datagram));
        }
    }
}

/// The nonce of an encrypted GRE datagram.
fn nonce(datagram: &[u8]) -> Option<[u8; 4]> {
    let flags = *datagram.first()?;
    let at = if flags & GRE_CHECKSUM == 0 { 4 } else { 8 };
    if flags & GRE_KEY == 0 { None } else { datagram.get(at..at + 4)?.try_into().ok() }
}

/// Numbers of the TS packets in RTP; RTCP has none.
fn numbers(datagram: &[u8]) -> impl Iterator<Item = u32> {
    datagram.get(RTP_BYTES..).unwrap_or_default().chunks(TS_BYTES).filter_map(number_of)
}
