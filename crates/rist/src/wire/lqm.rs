//! Link quality message (TR-06-4-1): what a receiver tells a source so that it adapts its rate.
//!
//! 44 bytes, eleven 32-bit numbers. In Simple and Main Profile it rides as profile extension of a receiver report.

use super::WireError;
use super::reader::Reader;

/// Bytes of the message.
pub const BYTES: usize = 44;

/// One period's reception, measured by the receiver. Periods are contiguous; a period may be cut short on bad news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lqm {
    /// Number of this message; the same message goes to every link with the same number.
    pub sequence: u32,
    /// Length of the period in milliseconds.
    pub period_ms: u32,
    /// How long the receiver asks for a packet, in milliseconds.
    pub nack_window_ms: u32,
    /// Original packets received.
    pub source_received: u32,
    /// Original packets lost.
    pub originals_lost: u32,
    /// Retransmissions received.
    pub retransmissions_received: u32,
    /// Packets recovered by retransmission.
    pub recovered: u32,
    /// Packets given up.
    pub unrecovered: u32,
    /// Packets that came after their playout time.
    pub late: u32,
    /// Original rate in kbit/s, RTP header and payload.
    pub source_kbps: u32,
    /// Retransmission rate in kbit/s.
    pub retransmission_kbps: u32,
}

impl Lqm {
    /// Parses the first [`BYTES`] bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for less.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a link quality message", bytes);
        Ok(Self {
            sequence: reader.u32()?,
            period_ms: reader.u32()?,
            nack_window_ms: reader.u32()?,
            source_received: reader.u32()?,
            originals_lost: reader.u32()?,
            retransmissions_received: reader.u32()?,
            recovered: reader.u32()?,
            unrecovered: reader.u32()?,
            late: reader.u32()?,
            source_kbps: reader.u32()?,
            retransmission_kbps: reader.u32()?,
        })
    }

    /// Appends the message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        for word in [
            self.sequence,
            self.period_ms,
            self.nack_window_ms,
            self.source_received,
            self.originals_lost,
            self.retransmissions_received,
            self.recovered,
            self.unrecovered,
            self.late,
            self.source_kbps,
            self.retransmission_kbps,
        ] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_is_emitted_back(bytes in any::<[u8; 32]>(), more in any::<[u8; BYTES - 32]>()) {
            let bytes = [&bytes[..], &more].concat();
            let mut out = Vec::new();
            Lqm::parse(&bytes).unwrap().emit(&mut out);
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn the_reference_message_parses_and_emits() {
        let bytes = unhex("00000001000003e8000001f4000003e80000000a000000080000000700000003000000020000138800000078");
        let lqm = Lqm {
            sequence: 1,
            period_ms: 1000,
            nack_window_ms: 500,
            source_received: 1000,
            originals_lost: 10,
            retransmissions_received: 8,
            recovered: 7,
            unrecovered: 3,
            late: 2,
            source_kbps: 5000,
            retransmission_kbps: 120,
        };
        assert_eq!(Lqm::parse(&bytes), Ok(lqm));
        let mut out = Vec::new();
        lqm.emit(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(
            Lqm::parse(&bytes[..43]),
            Err(WireError::Truncated { what: "a link quality message", need: 44, got: 43 })
        );
    }
}
