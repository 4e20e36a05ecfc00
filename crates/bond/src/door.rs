//! How many datagrams of unknown sources are looked at, at the end that listens: a source address is easily forged.
//!
//! A second looks at [`NEWCOMERS_PER_SECOND`] unknown sources, and at [`RETURNING_PER_SECOND`] more that were seen shortly
//! before: whoever wants in sends again, a forged source need not exist.

use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;
use units::Timestamp;

/// Unknown sources looked at per second: each may cost a key derivation.
const NEWCOMERS_PER_SECOND: u32 = 32;
/// The same for sources seen shortly before.
const RETURNING_PER_SECOND: u32 = 32;
/// Sources remembered for a short time, by a hash.
const SEEN: usize = 4096;

/// The sources that came lately.
#[derive(Debug)]
pub(crate) struct Door {
    secret: [u8; 32],
    second: Timestamp,
    newcomers: u32,
    returning: u32,
    seen: Vec<u64>,
}

impl Door {
    pub(crate) fn new(now: Timestamp, secret: [u8; 32]) -> Self {
        Self { secret, second: now, newcomers: 0, returning: 0, seen: vec![0; SEEN] }
    }

    /// Whether a datagram of an unknown source is looked at.
    pub(crate) fn admit(&mut self, now: Timestamp, local: u16, from: SocketAddr) -> bool {
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.newcomers, self.returning) = (now, 0, 0);
        }
        let tag = self.tag(local, from);
        let place = &mut self.seen[(tag % SEEN as u64) as usize];
        let returns = std::mem::replace(place, tag) == tag;
        let (count, max) = if self.newcomers < NEWCOMERS_PER_SECOND || !returns {
            (&mut self.newcomers, NEWCOMERS_PER_SECOND)
        } else {
            (&mut self.returning, RETURNING_PER_SECOND)
        };
        let admitted = *count < max;
        *count += u32::from(admitted);
        admitted
    }

    /// Nobody else can tell which sources share a place.
    fn tag(&self, local: u16, from: SocketAddr) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(local.to_be_bytes());
        hash.update(from.port().to_be_bytes());
        match from.ip() {
            std::net::IpAddr::V4(ip) => hash.update(ip.octets()),
            std::net::IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        let hash: [u8; 32] = hash.finalize().into();
        hash[..8].iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> SocketAddr {
        SocketAddr::from(((0xc633_0000 | number >> 8).to_be_bytes(), 1024 + (number & 0xff) as u16))
    }

    #[test]
    fn who_comes_again_is_let_in_whatever_the_crowd() {
        let mut door = Door::new(Timestamp::ZERO, [7; 32]);
        let (mut strangers, mut waited) = (0, 0);
        for number in 0..100_000 {
            let now = Timestamp::from_micros(u64::from(number) * 100);
            strangers += u32::from(door.admit(now, 0, source(number)));
            // Every 20 ms in the second half of each second.
            if number % 200 == 0 && number % 10_000 > 5_000 {
                waited = if door.admit(now, 0, source(u32::MAX)) { 0 } else { waited + 1 };
                assert!(waited <= 3, "turned away {waited} times at {now:?}");
            }
        }
        assert_eq!(strangers, 10 * NEWCOMERS_PER_SECOND);
    }
}
