//! Keys of what this end sends: one nonce at a time, changed before its sequence numbers could repeat.

use super::{IvLayout, KeySize, Nonce, PacketKey, Psk};
use crate::random::Random;

/// The fewest packets between two nonces: a peer of ours derives at most some dozens of keys a second.
pub const ROTATE_PACKETS_MIN: u32 = 32;
/// A nonce changes after this many packets in any case, long before the sequence number has wrapped around.
const ROTATE_PACKETS_MAX: u32 = 1 << 31;
/// The next key is derived this many packets before it is needed, when the rotation is not shorter.
const PREPARE_PACKETS: u32 = 4096;

#[derive(Debug)]
struct Keyed {
    nonce: Nonce,
    key: PacketKey,
}

#[derive(Debug)]
pub(crate) struct Outbound {
    psk: Psk,
    size: KeySize,
    rotate_after: u32,
    current: Keyed,
    packets: u32,
    next: Option<Keyed>,
}

impl Outbound {
    /// Draws the first nonce and derives its key.
    pub(crate) fn new(psk: Psk, size: KeySize, rotate_after: Option<u32>, random: &mut Random) -> Self {
        let rotate_after = rotate_after.unwrap_or(ROTATE_PACKETS_MAX).clamp(ROTATE_PACKETS_MIN, ROTATE_PACKETS_MAX);
        let current = draw(&psk, size, random);
        Self { psk, size, rotate_after, current, packets: 0, next: None }
    }

    pub(crate) const fn size(&self) -> KeySize {
        self.size
    }

    /// True when `nonce` is one that this end uses or will use.
    pub(crate) fn owns(&self, nonce: Nonce) -> bool {
        self.current.nonce == nonce || self.will_use(nonce)
    }

    /// Derives the next key while there is time; returns its nonce once, to be announced.
    pub(crate) fn prepare(&mut self, random: &mut Random) -> Option<Nonce> {
        let left = self.rotate_after - self.packets;
        if self.next.is_some() || left > PREPARE_PACKETS.min(self.rotate_after / 2) {
            return None;
        }
        let next = draw(&self.psk, self.size, random);
        let nonce = next.nonce;
        self.next = Some(next);
        Some(nonce)
    }

    /// True when `nonce` is the one that comes next.
    pub(crate) fn will_use(&self, nonce: Nonce) -> bool {
        self.next.as_ref().is_some_and(|next| next.nonce == nonce)
    }

    /// Counts one packet and returns the nonce to write into it, and whether it is the first under it.
    pub(crate) fn advance(&mut self, sequence: u32, random: &mut Random) -> (Nonce, bool) {
        let wrapped = sequence == 0 && self.packets > 0;
        if self.packets >= self.rotate_after || wrapped {
            self.current = self.next.take().unwrap_or_else(|| draw(&self.psk, self.size, random));
            self.packets = 0;
        }
        self.packets += 1;
        (self.current.nonce, self.packets == 1)
    }

    /// Encrypts the packet that [`Self::advance`] counted.
    pub(crate) fn seal(&self, sequence: u32, body: &mut [u8]) {
        self.current.key.apply(sequence, IvLayout::SequenceFirst, body);
    }
}

/// A new nonce, non-zero and with the top bit 0, which selects the even passphrase (this end has only one).
fn draw(psk: &Psk, size: KeySize, random: &mut Random) -> Keyed {
    let mut nonce: Nonce = [0; 4];
    while nonce == [0; 4] {
        nonce = random.bytes();
        nonce[0] &= 0x7f;
    }
    Keyed { nonce, key: psk.derive(nonce, size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_changes_after_the_set_number_of_packets_and_at_the_wrap() {
        let mut random = Random::from_seed(1);
        let mut outbound = Outbound::new(Psk::new("x"), KeySize::Aes128, Some(40), &mut random);
        let sent: Vec<_> = (0..100).map(|sequence| outbound.advance(sequence, &mut random)).collect();
        let nonces: Vec<_> = sent.iter().map(|(nonce, _)| *nonce).collect();
        assert!(sent.iter().enumerate().all(|(index, (_, first))| *first == (index % 40 == 0)));
        assert!(nonces[..40].iter().all(|nonce| *nonce == nonces[0]));
        assert!(nonces[40..80].iter().all(|nonce| *nonce == nonces[40]));
        assert!(nonces[0] != nonces[40] && nonces[40] != nonces[80]);
        let (renewed, first) = outbound.advance(0, &mut random);
        assert!(first && renewed != nonces[80], "sequence 0 begins a new round");
        assert!(nonces.iter().all(|nonce| nonce[0] & 0x80 == 0));
    }

    #[test]
    fn the_prepared_key_is_announced_once_and_used() {
        let mut random = Random::from_seed(2);
        let mut outbound = Outbound::new(Psk::new("x"), KeySize::Aes128, Some(40), &mut random);
        assert_eq!(outbound.prepare(&mut random), None, "too early");
        for sequence in 0..20 {
            outbound.advance(sequence, &mut random);
        }
        let next = outbound.prepare(&mut random).unwrap();
        assert!(outbound.owns(next));
        assert_eq!(outbound.prepare(&mut random), None);
        for sequence in 20..40 {
            outbound.advance(sequence, &mut random);
        }
        assert_eq!(outbound.advance(40, &mut random).0, next);
    }
}
