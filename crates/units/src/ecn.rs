//! The ECN field of an IP packet.

use serde::{Deserialize, Serialize};

/// The two bits of the IP header by which a network tells of congestion without losing packets (RFC 3168, RFC 9331).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ecn {
    /// The sender does not understand marks: congested nodes drop.
    #[default]
    NotEct,
    /// The sender understands each mark as a small step (L4S).
    Ect1,
    /// The sender takes a mark for a loss.
    Ect0,
    /// Congestion experienced: marked by a node with a queue.
    Ce,
}

impl Ecn {
    /// From the two lowest bits of the Type of Service or Traffic Class byte; the others are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::Ect1,
            2 => Self::Ect0,
            3 => Self::Ce,
            _ => Self::NotEct,
        }
    }

    /// True when a node may mark the packet instead of dropping it, or has marked it.
    pub const fn is_capable(self) -> bool {
        !matches!(self, Self::NotEct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codepoints_are_those_of_rfc_3168() {
        assert_eq!([0b00, 0b01, 0b10, 0b11].map(Ecn::from_bits), [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce]);
        assert_eq!(Ecn::from_bits(0b1011_1001), Ecn::Ect1, "the DSCP is of no interest");
        assert_eq!([Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce].map(Ecn::is_capable), [false, true, true, true]);
    }
}
