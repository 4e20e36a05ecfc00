//! What GStreamer's `ristsrc` (1.22, and newer ones) leaves of a request for retransmission.
//!
//! It writes a range NACK first and takes it back when bit masks are shorter, but takes back twelve bytes however many
//! entries there were: the entries stay, at the end of the compound and without a header. The bit masks are then written
//! over them, unless the first entry looks like the beginning of a padded RTCP packet: then nothing may follow it, and the
//! entries alone are sent. So it is with every request whose first sequence number is in 0xA000..=0xBFFF, an eighth of
//! all, and a sender that does not read them leaves all of their losses unrepaired.

use super::nack::RangeEntry;
use crate::wire::{Entries, Entry};

/// The version and the padding bit, and how they are set.
const VERSION_AND_PADDING: u8 = 0xE0;
const PADDED: u8 = 0xA0;

/// The entries that `rest`, what follows the source description, consists of; `None` when it may be RTCP.
///
/// An RTCP packet with the padding bit ends in the number of bytes of padding, a multiple of four that it has room for
/// (RFC 3550 section 6.4.1). Entries ask for single packets or short runs: theirs does not.
pub(super) fn ranges(rest: &[u8]) -> Option<Entries<'_, RangeEntry>> {
    let [flags, _, high, low, ..] = *rest else { return None };
    if flags & VERSION_AND_PADDING != PADDED || !rest.len().is_multiple_of(RangeEntry::BYTES) {
        return None;
    }
    let body = usize::from(u16::from_be_bytes([high, low])) * 4;
    let padding = rest.get(4..4 + body).and_then(|body| body.last()).map_or(0, |last| usize::from(*last));
    let padded = padding > 0 && padding.is_multiple_of(4) && padding <= body;
    (!padded).then(|| Entries::new(rest))
}

#[cfg(test)]
mod tests {
    use super::super::{RtcpPacket, packets};
    use super::*;
    use crate::test_support::unhex;
    use crate::wire::rtcp::{ReceiverReport, Sdes};
    use proptest::prelude::*;

    /// An early compound as `ristsrc` begins it.
    fn compound() -> Vec<u8> {
        let mut out = Vec::new();
        ReceiverReport::emit(0xe887_83b8, &[], None, &mut out);
        Sdes { ssrc: 0xe887_83b8, cname: b"user3201563384@host-5a1c29d7" }.emit(&mut out);
        out
    }

    fn asked(compound: &[u8]) -> Vec<u16> {
        packets(compound)
            .filter_map(|packet| match packet {
                Ok(RtcpPacket::HeadlessRanges(ranges)) => Some(ranges),
                _ => None,
            })
            .flat_map(|ranges| ranges.iter().flat_map(RangeEntry::sequences).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn entries_without_a_header_are_a_request() {
        for (entries, expected) in [
            ("bb620000", vec![0xbb62]),
            ("bb620001", vec![0xbb62, 0xbb63]),
            ("a0c90000bff00002", vec![0xa0c9, 0xbff0, 0xbff1, 0xbff2]),
            // The list is as long as the process asks in vain; later numbers may be anything.
            ("bffe0001c0000000c0100000", vec![0xbffe, 0xbfff, 0xc000, 0xc010]),
        ] {
            let mut bytes = compound();
            bytes.extend(unhex(entries));
            assert_eq!(asked(&bytes), expected, "{entries}");
            assert_eq!(packets(&bytes).count(), 3);
        }
    }

    #[test]
    fn rtcp_is_rtcp() {
        // A BYE with eight bytes of padding, a bit mask NACK, a packet that breaks off, and the same without a description.
        for rest in ["a1cb0003e88783b80000000000000008", "81cd0003e88783b8be624deebb620000", "80c90001e887"] {
            let mut bytes = compound();
            bytes.extend(unhex(rest));
            assert_eq!(asked(&bytes), [0; 0], "{rest}");
        }
        let mut bytes = Vec::new();
        ReceiverReport::emit(1, &[], None, &mut bytes);
        bytes.extend(unhex("bb620000"));
        assert_eq!(asked(&bytes), [0; 0]);
    }

    proptest! {
        #[test]
        fn every_request_of_that_eighth_is_read(
            first in 0xa000..=0xbfffu16, more in proptest::collection::vec((any::<u16>(), 0..4u16), 0..60),
            additional in 0..4u16,
        ) {
            let mut bytes = compound();
            let mut expected = Vec::new();
            for (first, additional) in std::iter::once((first, additional)).chain(more) {
                let entry = RangeEntry { first, additional };
                entry.write(&mut bytes);
                expected.extend(entry.sequences());
            }
            prop_assert_eq!(asked(&bytes), expected);
        }
    }
}
