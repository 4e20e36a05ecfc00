//! librist's buffer negotiation (VSF subtype 0x8002, not in the standard).

use super::WireError;
use super::reader::Reader;

/// Buffer sizes the two ends tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferNegotiation {
    /// The longest time the sender keeps packets for retransmission, in milliseconds.
    pub sender_max_ms: u16,
    /// The receiver's present buffer in milliseconds; 0 from a sender.
    pub receiver_current_ms: u16,
}

impl BufferNegotiation {
    /// Parses the body; an unknown tail is ignored.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for less than 4 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a buffer negotiation", bytes);
        Ok(Self { sender_max_ms: reader.u16()?, receiver_current_ms: reader.u16()? })
    }

    /// Appends the body, 6 bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sender_max_ms.to_be_bytes());
        out.extend_from_slice(&self.receiver_current_ms.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(sender_max_ms: u16, receiver_current_ms: u16) {
            let negotiation = BufferNegotiation { sender_max_ms, receiver_current_ms };
            let mut out = Vec::new();
            negotiation.emit(&mut out);
            prop_assert_eq!(out.len(), 6);
            prop_assert_eq!(BufferNegotiation::parse(&out), Ok(negotiation));
            prop_assert!(BufferNegotiation::parse(&out[..3]).is_err());
        }
    }
}
