//! Requests for retransmission (TR-06-1 section 5.3): bit masks, ranges, and the upper sequence half (TR-06-2 8.3).

use super::{PT_APP, PT_RTPFB, RIST_NAME, app::App, begin, finish};
use crate::wire::reader::Reader;
use crate::wire::{Entries, Entry, WireError};

/// The most entries written into one message, as the standard bounds it. Peers send more (librist up to 199); all that
/// fit the datagram are read.
pub const NACK_ENTRIES_MAX: usize = 16;

/// A packet and sixteen more behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BitmaskEntry {
    /// The first lost packet.
    pub first: u16,
    /// Bit `i` (lowest is 0): packet `first + 1 + i` is lost too.
    pub following: u16,
}

impl BitmaskEntry {
    /// The sequence numbers asked for, in order, at most 17.
    pub fn sequences(self) -> impl Iterator<Item = u16> {
        let mask = u32::from(self.following) << 1 | 1;
        (0..=16u16).filter(move |i| mask >> i & 1 == 1).map(move |i| self.first.wrapping_add(i))
    }

    /// The shortest list of bitmasks for ascending (serially) sequence numbers, lazily.
    pub fn cover(sequences: impl IntoIterator<Item = u16>) -> impl Iterator<Item = Self> {
        let mut sequences = sequences.into_iter().peekable();
        std::iter::from_fn(move || {
            let first = sequences.next()?;
            let mut following = 0;
            while let Some(next) = sequences.next_if(|next| (1..=16).contains(&next.wrapping_sub(first))) {
                following |= 1 << (next.wrapping_sub(first) - 1);
            }
            Some(Self { first, following })
        })
    }
}

impl Entry for BitmaskEntry {
    const BYTES: usize = 4;

    fn read(bytes: &[u8]) -> Self {
        Self { first: u16::from_be_bytes([bytes[0], bytes[1]]), following: u16::from_be_bytes([bytes[2], bytes[3]]) }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.following.to_be_bytes());
    }
}

/// A run of lost packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RangeEntry {
    /// The first lost packet.
    pub first: u16,
    /// How many more behind it.
    pub additional: u16,
}

impl RangeEntry {
    /// The sequence numbers asked for, in order, up to 65536: the caller bounds how many it serves.
    pub fn sequences(self) -> impl Iterator<Item = u16> {
        (0..=self.additional).map(move |i| self.first.wrapping_add(i))
    }

    /// The shortest list of ranges for ascending (serially) sequence numbers, lazily.
    pub fn cover(sequences: impl IntoIterator<Item = u16>) -> impl Iterator<Item = Self> {
        let mut sequences = sequences.into_iter().peekable();
        std::iter::from_fn(move || {
            let first = sequences.next()?;
            let mut additional = 0;
            while additional < u16::MAX && sequences.next_if_eq(&first.wrapping_add(additional + 1)).is_some() {
                additional += 1;
            }
            Some(Self { first, additional })
        })
    }
}

impl Entry for RangeEntry {
    const BYTES: usize = 4;

    fn read(bytes: &[u8]) -> Self {
        let BitmaskEntry { first, following } = BitmaskEntry::read(bytes);
        Self { first, additional: following }
    }

    fn write(self, out: &mut Vec<u8>) {
        BitmaskEntry { first: self.first, following: self.additional }.write(out);
    }
}

/// Generic NACK (RFC 4585): type 205, format 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackBitmask<'a> {
    /// The flow.
    pub media_ssrc: u32,
    /// What is lost.
    pub entries: Entries<'a, BitmaskEntry>,
}

impl<'a> NackBitmask<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a bitmask NACK", body);
        reader.u32()?; // the requester's SSRC, which librist leaves 0
        Ok(Self { media_ssrc: reader.u32()?, entries: Entries::new(reader.rest()) })
    }
}

impl NackBitmask<'static> {
    /// Appends as many messages as `entries` need, [`NACK_ENTRIES_MAX`] in each; nothing for none.
    pub fn emit(sender_ssrc: u32, media_ssrc: u32, entries: impl IntoIterator<Item = BitmaskEntry>, out: &mut Vec<u8>) {
        emit_split(entries, out, |out| {
            let start = begin(1, PT_RTPFB, out);
            out.extend_from_slice(&sender_ssrc.to_be_bytes());
            out.extend_from_slice(&media_ssrc.to_be_bytes());
            start
        });
    }
}

/// RIST's range NACK: APP "RIST", subtype 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackRange<'a> {
    /// The flow.
    pub media_ssrc: u32,
    /// What is lost.
    pub entries: Entries<'a, RangeEntry>,
}

impl<'a> NackRange<'a> {
    pub(super) fn from_app(app: &App<'a>) -> Self {
        Self { media_ssrc: app.ssrc, entries: Entries::new(app.body) }
    }
}

impl NackRange<'static> {
    /// Appends as many messages as `entries` need, [`NACK_ENTRIES_MAX`] in each; nothing for none.
    pub fn emit(media_ssrc: u32, entries: impl IntoIterator<Item = RangeEntry>, out: &mut Vec<u8>) {
        emit_split(entries, out, |out| {
            let start = begin(0, PT_APP, out);
            out.extend_from_slice(&media_ssrc.to_be_bytes());
            out.extend_from_slice(&RIST_NAME);
            start
        });
    }
}

fn emit_split<T: Entry>(
    entries: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    begin_message: impl Fn(&mut Vec<u8>) -> usize,
) {
    let mut open = None;
    for (index, entry) in entries.into_iter().enumerate() {
        if index % NACK_ENTRIES_MAX == 0 {
            if let Some(start) = open {
                finish(start, out);
            }
            open = Some(begin_message(out));
        }
        entry.write(out);
    }
    if let Some(start) = open {
        finish(start, out);
    }
}

/// The upper 16 bits of the sequence numbers in the NACKs behind it in the compound: APP "RIST", subtype 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtendedSequence {
    /// The flow.
    pub media_ssrc: u32,
    /// Bits 31 to 16.
    pub high: u16,
}

impl ExtendedSequence {
    pub(super) fn from_app(app: &App<'_>) -> Result<Self, WireError> {
        Ok(Self { media_ssrc: app.ssrc, high: Reader::new("an extended sequence", app.body).u16()? })
    }

    /// Appends the message, 16 bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = begin(1, PT_APP, out);
        out.extend_from_slice(&self.media_ssrc.to_be_bytes());
        out.extend_from_slice(&RIST_NAME);
        out.extend_from_slice(&self.high.to_be_bytes());
        finish(start, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RtcpPacket, packets};
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn the_captured_requests_ask_for_29_to_31() {
        let range = unhex("80cc0003982f9b0e52495354001d0002");
        let Some(Ok(RtcpPacket::NackRange(nack))) = packets(&range).next() else { panic!("no range") };
        assert_eq!(nack.media_ssrc, 0x982f_9b0e);
        assert_eq!(nack.entries.iter().flat_map(RangeEntry::sequences).collect::<Vec<_>>(), [29, 30, 31]);
        let mut out = Vec::new();
        NackRange::emit(nack.media_ssrc, RangeEntry::cover([29, 30, 31]), &mut out);
        assert_eq!(out, range);

        let bitmask = unhex("81cd00030000000039f027e8001d0003");
        let Some(Ok(RtcpPacket::NackBitmask(nack))) = packets(&bitmask).next() else { panic!("no bitmask") };
        assert_eq!(nack.media_ssrc, 0x39f0_27e8);
        assert_eq!(nack.entries.iter().flat_map(BitmaskEntry::sequences).collect::<Vec<_>>(), [29, 30, 31]);
        out.clear();
        NackBitmask::emit(0, nack.media_ssrc, [BitmaskEntry { first: 29, following: 3 }], &mut out);
        assert_eq!(out, bitmask);
    }

    #[test]
    fn sequences_wrap_and_the_largest_range_ends() {
        let all = BitmaskEntry { first: u16::MAX, following: u16::MAX };
        assert_eq!(all.sequences().collect::<Vec<_>>(), std::iter::once(u16::MAX).chain(0..16).collect::<Vec<_>>());
        assert_eq!(RangeEntry { first: 9, additional: u16::MAX }.sequences().count(), 65_536);
        assert_eq!(
            RangeEntry::cover([65_535, 0, 1, 5, 7, 8]).collect::<Vec<_>>(),
            [(65_535, 2), (5, 0), (7, 1)].map(|(first, additional)| RangeEntry { first, additional })
        );
        let repeated = RangeEntry::cover((0..=u16::MAX).chain(0..3)).collect::<Vec<_>>();
        assert_eq!(repeated, [RangeEntry { first: 0, additional: u16::MAX }, RangeEntry { first: 0, additional: 2 }]);
    }

    #[test]
    fn more_than_sixteen_entries_take_several_messages() {
        let mut out = Vec::new();
        NackRange::emit(2, (0..40).map(|first| RangeEntry { first, additional: 0 }), &mut out);
        let lengths: Vec<_> = packets(&out)
            .map(|packet| match packet.unwrap() {
                RtcpPacket::NackRange(nack) => nack.entries.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [16, 16, 8]);
        out.clear();
        NackRange::emit(2, [], &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn requests_parse_back(sender: u32, media_ssrc: u32, words in proptest::collection::vec(any::<(u16, u16)>(), 1..=16)) {
            let ranges: Vec<_> = words.iter().map(|&(first, additional)| RangeEntry { first, additional }).collect();
            let masks: Vec<_> = words.iter().map(|&(first, following)| BitmaskEntry { first, following }).collect();
            let mut out = Vec::new();
            NackRange::emit(media_ssrc, ranges.iter().copied(), &mut out);
            NackBitmask::emit(sender, media_ssrc, masks.iter().copied(), &mut out);
            ExtendedSequence { media_ssrc, high: words[0].0 }.emit(&mut out);
            let mut parsed = packets(&out);
            let Some(Ok(RtcpPacket::NackRange(range))) = parsed.next() else { panic!("no range") };
            let Some(Ok(RtcpPacket::NackBitmask(bitmask))) = parsed.next() else { panic!("no bitmask") };
            prop_assert_eq!((range.media_ssrc, range.entries.iter().collect::<Vec<_>>()), (media_ssrc, ranges));
            prop_assert_eq!((bitmask.media_ssrc, bitmask.entries.iter().collect::<Vec<_>>()), (media_ssrc, masks));
            prop_assert_eq!(
                parsed.next(),
                Some(Ok(RtcpPacket::ExtendedSequence(ExtendedSequence { media_ssrc, high: words[0].0 })))
            );
            prop_assert_eq!(parsed.next(), None);
        }

        #[test]
        fn ranges_cover_exactly_what_is_lost(lost in proptest::collection::btree_set(any::<u16>(), 0..64)) {
            let covered: Vec<_> = RangeEntry::cover(lost.iter().copied()).flat_map(RangeEntry::sequences).collect();
            prop_assert_eq!(covered, lost.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn bitmasks_cover_what_was_asked_for_and_nothing_else() {
        let wanted = [65_530, 65_531, 65_535, 3, 10, 11, 40];
        let entries: Vec<BitmaskEntry> = BitmaskEntry::cover(wanted).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries.iter().flat_map(|entry| entry.sequences()).collect::<Vec<u16>>(), wanted);
        assert_eq!(BitmaskEntry::cover([]).count(), 0);
    }
}
