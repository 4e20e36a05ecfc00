//! Repair packets on the wire.
//!
//! An RTP packet of payload type [`PAYLOAD_TYPE_REPAIR`] in the flow's SSRC; its sequence number is that of the first packet
//! it may cover, its timestamp that of the newest. The payload, big-endian:
//! version 1 (= 1), mask words 1 (1 to [`MASK_WORDS_MAX`]), key 2, mask words 8 each, then the repair symbol. Bit i of
//! word w set: the packet numbered `first + 64 w + i` is covered, with the factor [`factor`] of key and number. At most
//! [`COVERED_MAX`] bits may be set.
//!
//! A source symbol is: payload length 2, RTP time 4, payload, zeros up to the longest of those covered.

use crate::payload::PAYLOAD_BYTES_MAX;

/// RTP payload type of repair packets, of the dynamic range.
pub(crate) const PAYLOAD_TYPE_REPAIR: u8 = 111;
/// Source packets that one repair packet covers at most.
pub(crate) const COVERED_MAX: usize = 64;
/// Words of the mask: covered packets lie within so many times 64 numbers.
pub(crate) const MASK_WORDS_MAX: usize = 8;
/// Numbers within which the covered packets lie.
pub(crate) const SPAN_MAX: u64 = MASK_WORDS_MAX as u64 * 64;
/// Length and RTP time before the payload in a symbol.
pub(crate) const SYMBOL_HEAD_BYTES: usize = 6;
/// What a repair packet is longer than the longest payload it covers, at most.
pub(crate) const REPAIR_MORE_BYTES_MAX: usize = repair_more_bytes(SPAN_MAX);
/// The longest symbol.
pub(crate) const SYMBOL_BYTES_MAX: usize = SYMBOL_HEAD_BYTES + PAYLOAD_BYTES_MAX;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 4;

/// What a repair packet is longer than the longest payload it covers, when those lie within `span` numbers.
pub(crate) const fn repair_more_bytes(span: u64) -> usize {
    HEAD_BYTES + 8 * span.div_ceil(64) as usize + SYMBOL_HEAD_BYTES
}

/// What a repair packet covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepairHead {
    pub key: u16,
    mask: [u64; MASK_WORDS_MAX],
}

impl RepairHead {
    pub(crate) const fn new(key: u16) -> Self {
        Self { key, mask: [0; MASK_WORDS_MAX] }
    }

    /// Covers the packet at this distance from the first, below [`SPAN_MAX`].
    pub(crate) fn cover(&mut self, distance: u64) {
        if let Some(word) = self.mask.get_mut((distance / 64) as usize) {
            *word |= 1 << (distance % 64);
        }
    }

    /// Splits the RTP payload of a repair packet into head and symbol; `None` for anything malformed.
    pub(crate) fn parse(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = payload.split_at_checked(HEAD_BYTES)?;
        let words = usize::from(head[1]);
        if head[0] != VERSION || !(1..=MASK_WORDS_MAX).contains(&words) {
            return None;
        }
        let (mask, symbol) = rest.split_at_checked(words * 8)?;
        let mut parsed = Self::new(u16::from_be_bytes([head[2], head[3]]));
        for (word, bytes) in parsed.mask.iter_mut().zip(mask.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        let covered: u32 = parsed.mask.iter().map(|word| word.count_ones()).sum();
        let fits = (1..=COVERED_MAX).contains(&(covered as usize))
            && (SYMBOL_HEAD_BYTES + 1..=SYMBOL_BYTES_MAX).contains(&symbol.len());
        fits.then_some((parsed, symbol))
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        let words = self.mask.iter().rposition(|word| *word != 0).unwrap_or(0) + 1;
        out.extend_from_slice(&[VERSION, words as u8]);
        out.extend_from_slice(&self.key.to_be_bytes());
        for word in &self.mask[..words] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    /// Distances of the covered numbers from the first, ascending.
    pub(crate) fn covered(&self) -> impl Iterator<Item = u64> + use<> {
        let mask = self.mask;
        (0..SPAN_MAX).filter(move |distance| mask[(distance / 64) as usize] >> (distance % 64) & 1 == 1)
    }
}

/// The factor of a source packet in a repair packet; never 0.
pub(crate) fn factor(key: u16, number: u64) -> u8 {
    let mut mixed = u32::from(key) << 16 | u32::from(number as u16);
    mixed = (mixed ^ mixed >> 16).wrapping_mul(0x7feb_352d);
    mixed = (mixed ^ mixed >> 15).wrapping_mul(0x846c_a68b);
    ((mixed ^ mixed >> 16) % 255) as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn factors_are_spread_evenly_and_never_zero() {
        let mut counts = [0u32; 256];
        for key in 0..200 {
            for number in 65_500..65_700 {
                counts[usize::from(factor(key, number))] += 1;
            }
        }
        assert_eq!(counts[0], 0);
        // 40 000 over 255 values: 157 in the mean, standard deviation 12.5.
        assert!(counts[1..].iter().all(|count| (95..220).contains(count)), "{counts:?}");
        assert_eq!(factor(7, 3), factor(7, 65_536 + 3));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mut head = RepairHead::new(0xabcd);
        for distance in [0, 4, 63, 64, 200] {
            head.cover(distance);
        }
        let mut good = Vec::new();
        head.emit(&mut good);
        assert_eq!(good.len(), 4 + 4 * 8);
        good.extend([1; 40]);
        let (parsed, symbol) = RepairHead::parse(&good).unwrap();
        assert_eq!((parsed, symbol.len()), (head, 40));
        assert_eq!(parsed.covered().collect::<Vec<_>>(), [0, 4, 63, 64, 200]);
        for (at, value) in [(0, 2), (1, 0), (1, 9)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(RepairHead::parse(&bad), None, "byte {at} = {value}");
        }
        let mut none = good.clone();
        none[4..36].fill(0);
        assert_eq!(RepairHead::parse(&none), None);
        let mut many = good.clone();
        many[4..13].fill(0xff);
        assert_eq!(RepairHead::parse(&many), None);
        assert_eq!(RepairHead::parse(&good[..36 + SYMBOL_HEAD_BYTES]), None);
        good.resize(36 + SYMBOL_BYTES_MAX + 1, 0);
        assert_eq!(RepairHead::parse(&good), None);
    }

    proptest! {
        #[test]
        fn a_head_survives_the_wire(
            key: u16,
            covered in proptest::collection::btree_set(0..SPAN_MAX, 1..=COVERED_MAX),
            symbol in 7usize..100,
        ) {
            let mut head = RepairHead::new(key);
            for distance in &covered {
                head.cover(*distance);
            }
            let mut out = Vec::new();
            head.emit(&mut out);
            out.resize(out.len() + symbol, 9);
            prop_assert_eq!(RepairHead::parse(&out), Some((head, &[9u8; 100][..symbol])));
            prop_assert!(head.covered().eq(covered));
        }

        #[test]
        fn no_bytes_can_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((head, _)) = RepairHead::parse(&bytes) {
                prop_assert!((1..=COVERED_MAX).contains(&head.covered().count()));
            }
        }
    }
}
