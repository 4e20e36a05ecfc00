//! Sequence numbers: serial comparison and extension beyond the wrap (RFC 3550 appendix A.1, RFC 1982).

use std::fmt;

/// A 16-bit RTP sequence number. Not `Ord`: order is serial and only meaningful within half the number space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// The number `steps` later, wrapping.
    #[must_use]
    pub const fn plus(self, steps: u16) -> Self {
        Self(self.0.wrapping_add(steps))
    }

    /// Signed distance from `earlier` to `self`, -32768 to 32767.
    pub const fn distance_from(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }

    /// True when `self` comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Extends 16-bit sequence numbers to 64 bits that never wrap.
///
/// Each number is placed nearest to the highest one accepted so far, so packets up to 32768 late or early land right.
/// The first number `n` becomes `65536 + n`, which leaves room for packets from before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extender {
    highest: Option<u64>,
}

impl Extender {
    /// An extender that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// The extended number of `sequence`, which may move the highest.
    pub fn extend(&mut self, sequence: SequenceNumber) -> u64 {
        let extended = self.peek(sequence);
        self.highest = Some(self.highest.map_or(extended, |highest| highest.max(extended)));
        extended
    }

    /// The extended number of `sequence` without remembering it: for packets not yet trusted, and for NACKs.
    pub fn peek(&self, sequence: SequenceNumber) -> u64 {
        match self.highest {
            None => 0x1_0000 + u64::from(sequence.0),
            Some(highest) => {
                let step = i64::from(sequence.distance_from(SequenceNumber(highest as u16)));
                // Only a number half a wrap below the very first one could pass zero; it saturates there.
                highest.saturating_add_signed(step)
            }
        }
    }

    /// The highest extended number so far.
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comparison_is_serial() {
        let (last, first) = (SequenceNumber(65_535), SequenceNumber(0));
        assert!(first.is_after(last) && !last.is_after(first) && !first.is_after(first));
        assert_eq!((last.plus(2), first.distance_from(last)), (SequenceNumber(1), 1));
    }

    #[test]
    fn extension_follows_wraps_both_ways() {
        let mut extender = Extender::new();
        assert_eq!(extender.extend(SequenceNumber(65_534)), 0x1_0000 + 65_534);
        assert_eq!(extender.extend(SequenceNumber(1)), 0x2_0001);
        assert_eq!(extender.extend(SequenceNumber(65_535)), 0x1_ffff, "late, from before the wrap");
        assert_eq!(extender.highest(), Some(0x2_0001));
        assert_eq!(extender.peek(SequenceNumber(9)), 0x2_0009);
        assert_eq!(extender.highest(), Some(0x2_0001));
    }

    proptest! {
        #[test]
        fn a_shuffled_stream_extends_without_error(start: u16, steps in proptest::collection::vec(-20_000..20_000i64, 1..200)) {
            let mut extender = Extender::new();
            let mut highest = extender.extend(SequenceNumber(start));
            for step in steps {
                let truth = highest.saturating_add_signed(step);
                prop_assert_eq!(extender.extend(SequenceNumber(truth as u16)), truth);
                highest = highest.max(truth);
                prop_assert_eq!(extender.highest(), Some(highest));
            }
        }
    }
}
