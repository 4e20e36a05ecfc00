//! Announcing the nonce that comes next (TR-06-2 section 7.2.3).

use crate::psk::Nonce;
use std::time::Duration;
use units::Timestamp;

/// The first announcements follow one another after the first pause, all others after the second: any may be lost.
const SOON_TIMES: u32 = 3;
const SOON: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(500);

/// A nonce that is announced until it is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct NextNonce {
    pub nonce: Nonce,
    told: u32,
    due: Timestamp,
    /// The number that followed the last announcement.
    sequence: u32,
}

impl NextNonce {
    pub(super) const fn new(now: Timestamp, nonce: Nonce) -> Self {
        Self { nonce, told: 0, due: now, sequence: 0 }
    }

    /// Whether to announce it now: again and again when `repeated`, as long as other datagrams, up to the number `sequence`, are sent
    /// between.
    pub(super) fn is_due(&self, now: Timestamp, sequence: u32, repeated: bool) -> bool {
        self.told == 0 || (repeated && now >= self.due && sequence != self.sequence)
    }

    /// Notes that it was announced, and which number is next.
    pub(super) fn tell(&mut self, now: Timestamp, sequence: u32) {
        self.told += 1;
        self.due = now + if self.told < SOON_TIMES { SOON } else { AGAIN };
        self.sequence = sequence;
    }
}
