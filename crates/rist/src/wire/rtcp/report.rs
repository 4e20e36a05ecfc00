//! Sender and receiver reports (RFC 3550 sections 6.4.1 and 6.4.2).

use super::{PT_RR, PT_SR, begin, finish};
use crate::wire::lqm::{self, Lqm};
use crate::wire::reader::Reader;
use crate::wire::{Entries, Entry, WireError};

/// A sender report without its blocks, which RIST does not use (they are skipped).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderReport {
    /// The sender's SSRC.
    pub ssrc: u32,
    /// Wall clock as 32.32 fixed-point seconds since 1900.
    pub ntp: u64,
    /// The same moment in RTP timestamp units.
    pub rtp_timestamp: u32,
    /// Packets sent; librist writes 0.
    pub packets: u32,
    /// Payload bytes sent; librist writes 0.
    pub octets: u32,
}

impl SenderReport {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a sender report", body);
        Ok(Self {
            ssrc: reader.u32()?,
            ntp: reader.u64()?,
            rtp_timestamp: reader.u32()?,
            packets: reader.u32()?,
            octets: reader.u32()?,
        })
    }

    /// Appends the report, 28 bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = begin(0, PT_SR, out);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.ntp.to_be_bytes());
        out.extend_from_slice(&self.rtp_timestamp.to_be_bytes());
        out.extend_from_slice(&self.packets.to_be_bytes());
        out.extend_from_slice(&self.octets.to_be_bytes());
        finish(start, out);
    }
}

/// One block of a receiver report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The SSRC reported on; librist leaves 0 or junk.
    pub source: u32,
    /// Loss since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all; 24 bits, two's complement on the wire.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report.
    pub last_sr: u32,
    /// Time since that report came, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// The range of [`ReportBlock::cumulative_lost`].
const CUMULATIVE_LOST_MAX: i32 = 0x007f_ffff;

impl Entry for ReportBlock {
    const BYTES: usize = 24;

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let lost = word(4);
        Self {
            source: word(0),
            fraction_lost: (lost >> 24) as u8,
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        let lost = self.cumulative_lost.clamp(-CUMULATIVE_LOST_MAX - 1, CUMULATIVE_LOST_MAX) as u32 & 0x00ff_ffff;
        for word in [
            self.source,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        ] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// A receiver report; empty (no blocks) it only leads a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// The reporting end's SSRC.
    pub ssrc: u32,
    /// Blocks, at most 31.
    pub blocks: Entries<'a, ReportBlock>,
    /// Link quality message in the profile extension (TR-06-4-1 section 6).
    pub lqm: Option<Lqm>,
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(blocks: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a receiver report", body);
        let ssrc = reader.u32()?;
        let blocks = Entries::new(reader.take(usize::from(blocks) * ReportBlock::BYTES)?);
        let lqm = if reader.rest().len() == lqm::BYTES { Some(Lqm::parse(reader.rest())?) } else { None };
        Ok(Self { ssrc, blocks, lqm })
    }
}

impl ReceiverReport<'static> {
    /// Appends a report with at most 31 `blocks` (more are left out) and perhaps a link quality message.
    pub fn emit(ssrc: u32, blocks: &[ReportBlock], lqm: Option<&Lqm>, out: &mut Vec<u8>) {
        const BLOCKS_MAX: usize = 31;
        let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
        let start = begin(blocks.len() as u8, PT_RR, out);
        out.extend_from_slice(&ssrc.to_be_bytes());
        for block in blocks {
            block.write(out);
        }
        if let Some(lqm) = lqm {
            lqm.emit(out);
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
    fn the_captured_sender_report_parses_and_emits() {
        let bytes = unhex("80c8000603b7047eeeab79d31833dc0bdb24f4400000000000000000");
        let report = SenderReport {
            ssrc: 0x03b7_047e,
            ntp: 0xeeab_79d3_1833_dc0b,
            rtp_timestamp: 0xdb24_f440,
            packets: 0,
            octets: 0,
        };
        assert_eq!(packets(&bytes).next(), Some(Ok(RtcpPacket::SenderReport(report))));
        let mut out = Vec::new();
        report.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn an_empty_report_with_a_quality_message_is_52_bytes() {
        let lqm = Lqm { sequence: 1, period_ms: 1000, ..Lqm::default() };
        let mut out = Vec::new();
        ReceiverReport::emit(7, &[], Some(&lqm), &mut out);
        assert_eq!((out.len(), &out[..8]), (52, &unhex("80c9000c00000007")[..]));
        let Some(Ok(RtcpPacket::ReceiverReport(report))) = packets(&out).next() else { panic!("no report") };
        assert_eq!((report.ssrc, report.blocks.len(), report.lqm), (7, 0, Some(lqm)));
    }

    fn block() -> impl Strategy<Value = ReportBlock> {
        (any::<u32>(), any::<u8>(), -0x80_0000..=CUMULATIVE_LOST_MAX, any::<[u32; 4]>()).prop_map(
            |(source, fraction_lost, cumulative_lost, [highest_sequence, jitter, last_sr, delay_since_last_sr])| {
                ReportBlock {
                    source,
                    fraction_lost,
                    cumulative_lost,
                    highest_sequence,
                    jitter,
                    last_sr,
                    delay_since_last_sr,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn sender_reports_parse_back(ssrc: u32, ntp: u64, rtp_timestamp: u32, packets_sent: u32, octets: u32) {
            let report = SenderReport { ssrc, ntp, rtp_timestamp, packets: packets_sent, octets };
            let mut out = Vec::new();
            report.emit(&mut out);
            prop_assert_eq!(packets(&out).next(), Some(Ok(RtcpPacket::SenderReport(report))));
        }

        #[test]
        fn receiver_reports_parse_back(
            ssrc: u32, blocks in proptest::collection::vec(block(), 0..=31), words in any::<Option<[u8; 44]>>()
        ) {
            let lqm = words.map(|bytes| Lqm::parse(&bytes).unwrap());
            let mut out = Vec::new();
            ReceiverReport::emit(ssrc, &blocks, lqm.as_ref(), &mut out);
            let Some(Ok(RtcpPacket::ReceiverReport(report))) = packets(&out).next() else { panic!("no report") };
            prop_assert_eq!(report.ssrc, ssrc);
            prop_assert_eq!(report.blocks.iter().collect::<Vec<_>>(), blocks);
            prop_assert_eq!(report.lqm, lqm);
        }
    }
}
