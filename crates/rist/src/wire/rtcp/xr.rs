//! Extended reports (RFC 3611): reference times and the delays since them.
//!
//! librist receivers send reference times until they have seen an echo and never answer one. This end measures by echo,
//! as every RIST peer can: it reads both reports, sends none, and leaves a reference time unanswered.

use super::{PT_XR, begin, finish};
use crate::wire::reader::Reader;
use crate::wire::{Entries, Entry, WireError};

const BLOCK_REFERENCE_TIME: u8 = 4;
const BLOCK_DELAYS: u8 = 5;
/// The most blocks looked at in one packet.
const BLOCKS_MAX: usize = 16;

/// An extended report; blocks of other types are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xr<'a> {
    /// The reporting end's SSRC.
    pub ssrc: u32,
    /// Receiver reference time: 32.32 fixed-point seconds.
    pub reference_time: Option<u64>,
    /// Delays since the last receiver reference time.
    pub delays: Entries<'a, DelayBlock>,
}

/// One entry of the delay-since-last-receiver-report block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DelayBlock {
    /// The receiver meant.
    pub ssrc: u32,
    /// Middle 32 bits of its reference time.
    pub last_rr: u32,
    /// Time since that came, in 1/65536 s.
    pub delay_since_last_rr: u32,
}

impl Entry for DelayBlock {
    const BYTES: usize = 12;

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { ssrc: word(0), last_rr: word(4), delay_since_last_rr: word(8) }
    }

    fn write(self, out: &mut Vec<u8>) {
        for word in [self.ssrc, self.last_rr, self.delay_since_last_rr] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

impl<'a> Xr<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        const WHAT: &str = "an extended report";
        let mut reader = Reader::new(WHAT, body);
        let mut xr = Self { ssrc: reader.u32()?, reference_time: None, delays: Entries::new(&[]) };
        for _ in 0..BLOCKS_MAX {
            if reader.rest().is_empty() {
                break;
            }
            let [kind, _] = reader.array()?;
            let words = usize::from(reader.u16()?);
            let block = reader.take(words * 4)?;
            match kind {
                BLOCK_REFERENCE_TIME => xr.reference_time = Some(Reader::new(WHAT, block).u64()?),
                BLOCK_DELAYS => xr.delays = Entries::new(block),
                _ => {}
            }
        }
        Ok(xr)
    }
}

impl Xr<'static> {
    /// Appends a report (type 207) with the parts that are there.
    pub fn emit(ssrc: u32, reference_time: Option<u64>, delays: &[DelayBlock], out: &mut Vec<u8>) {
        let start = begin(0, PT_XR, out);
        out.extend_from_slice(&ssrc.to_be_bytes());
        if let Some(time) = reference_time {
            out.extend_from_slice(&[BLOCK_REFERENCE_TIME, 0, 0, 2]);
            out.extend_from_slice(&time.to_be_bytes());
        }
        if !delays.is_empty() {
            let words = (delays.len() * DelayBlock::BYTES / 4) as u16;
            out.extend_from_slice(&[BLOCK_DELAYS, 0]);
            out.extend_from_slice(&words.to_be_bytes());
            for delay in delays {
                delay.write(out);
            }
        }
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
    fn both_packet_types_of_librist_are_read() {
        for kind in ["cf", "4d"] {
            let bytes = unhex(&format!("80{kind}0004d04dd7df0400000283aa842da8fedf47"));
            let expected =
                Xr { ssrc: 0xd04d_d7df, reference_time: Some(0x83aa_842d_a8fe_df47), delays: Entries::new(&[]) };
            assert_eq!(packets(&bytes).next(), Some(Ok(RtcpPacket::Xr(expected))), "{kind}");
        }
        let mut out = Vec::new();
        Xr::emit(0xd04d_d7df, Some(0x83aa_842d_a8fe_df47), &[], &mut out);
        assert_eq!(out, unhex("80cf0004d04dd7df0400000283aa842da8fedf47"));
    }

    proptest! {
        #[test]
        fn reports_parse_back(ssrc: u32, reference_time: Option<u64>, words in proptest::collection::vec(any::<[u32; 3]>(), 0..8)) {
            let delays: Vec<_> = words
                .into_iter()
                .map(|[ssrc, last_rr, delay_since_last_rr]| DelayBlock { ssrc, last_rr, delay_since_last_rr })
                .collect();
            let mut out = Vec::new();
            Xr::emit(ssrc, reference_time, &delays, &mut out);
            let Some(Ok(RtcpPacket::Xr(xr))) = packets(&out).next() else { panic!("no report") };
            prop_assert_eq!((xr.ssrc, xr.reference_time), (ssrc, reference_time));
            prop_assert_eq!(xr.delays.iter().collect::<Vec<_>>(), delays);
        }
    }
}
