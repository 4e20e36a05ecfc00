//! A whole IP datagram with UDP in it, as full-datagram mode tunnels it (TR-06-2; GRE protocol types 0x0800 and, for IPv6,
//! 0x86DD of RFC 7676).
//!
//! ```text
//! IPv4 (RFC 791), 20 bytes and options: 4 | length in words, -, total length 2, id 2, fragment 2, TTL, protocol 17,
//!                                       checksum 2, source 4, destination 4
//! IPv6 (RFC 8200), 40 bytes:            6, payload length 2 at 4, next header 17 at 6, source 16, destination 16
//! UDP (RFC 768):                        source port 2, destination port 2, length 2, checksum 2
//! ```
//! Refused: fragments, lengths that differ from what is there, wrong checksums (IPv4 header; UDP, which may be 0 in IPv4
//! only). Anything but UDP is handed on unread, IPv6 with extension headers too.

use super::reader::Reader;
use super::reduced::ReducedHeader;
use super::{Output, WireError};

/// The longest headers that this end writes, in bytes: IPv6 and UDP.
pub const HEADERS_BYTES_MAX: usize = IPV6_BYTES + UDP_BYTES;

const IPV4: &str = "a tunnelled IPv4 datagram";
const IPV6: &str = "a tunnelled IPv6 datagram";
const UDP: &str = "a tunnelled UDP datagram";
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const NEXT_FRAGMENT: u8 = 44;
/// More fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
const TTL: u8 = 64;

/// Between whom a tunnelled datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// From.
        source: [u8; 4],
        /// To.
        destination: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// From.
        source: [u8; 16],
        /// To.
        destination: [u8; 16],
    },
}

impl Addresses {
    /// The way back.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::V4 { source, destination } => Self::V4 { source: destination, destination: source },
            Self::V6 { source, destination } => Self::V6 { source: destination, destination: source },
        }
    }

    /// Bytes of IP and UDP headers.
    pub const fn headers_bytes(self) -> usize {
        match self {
            Self::V4 { .. } => IPV4_BYTES + UDP_BYTES,
            Self::V6 { .. } => IPV6_BYTES + UDP_BYTES,
        }
    }

    /// The sum over the pseudo header of UDP.
    fn pseudo_sum(self, udp_bytes: usize) -> u64 {
        let addresses = match self {
            Self::V4 { source, destination } => sum(&source) + sum(&destination),
            Self::V6 { source, destination } => sum(&source) + sum(&destination),
        };
        addresses + u64::from(PROTOCOL_UDP) + udp_bytes as u64
    }
}

/// A UDP datagram and its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Between whom.
    pub addresses: Addresses,
    /// UDP's ports: in the tunnel they are what the virtual ports of reduced overhead are.
    pub ports: ReducedHeader,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes an IP datagram apart; `None` when it carries anything but UDP.
    ///
    /// # Errors
    /// [`WireError`] when it is no IP, or is refused as the module tells.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(got) => Err(WireError::Version { what: "a tunnelled IP datagram", got }),
            None => Err(WireError::Truncated { what: "a tunnelled IP datagram", need: 1, got: 0 }),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(IPV4, bytes);
        let [first, _] = reader.array()?;
        let header_bytes = usize::from(first & 0x0f) * 4;
        if header_bytes < IPV4_BYTES {
            return Err(WireError::Field { what: IPV4, field: "header length", value: u32::from(first & 0x0f) });
        }
        let total = reader.u16()?;
        let _id = reader.u16()?;
        let fragment = reader.u16()?;
        let [_ttl, protocol] = reader.array()?;
        let _checksum = reader.u16()?;
        let addresses = Addresses::V4 { source: reader.array()?, destination: reader.array()? };
        let _options = reader.take(header_bytes - IPV4_BYTES)?;
        if usize::from(total) != bytes.len() {
            return Err(WireError::Field { what: IPV4, field: "total length", value: u32::from(total) });
        }
        if protocol != PROTOCOL_UDP {
            return Ok(None);
        }
        if fragment & FRAGMENT != 0 {
            return Err(WireError::Field { what: IPV4, field: "fragment", value: u32::from(fragment) });
        }
        let (header, udp) = bytes.split_at(header_bytes);
        if fold(sum(header)) != 0xffff {
            return Err(WireError::Field { what: IPV4, field: "checksum", value: u32::from(fold(sum(header))) });
        }
        Self::parse_udp(addresses, udp).map(Some)
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(IPV6, bytes);
        let _flow: [u8; 4] = reader.array()?;
        let length = reader.u16()?;
        let [next, _hops] = reader.array()?;
        let addresses = Addresses::V6 { source: reader.array()?, destination: reader.array()? };
        if usize::from(length) != reader.rest().len() {
            return Err(WireError::Field { what: IPV6, field: "payload length", value: u32::from(length) });
        }
        match next {
            PROTOCOL_UDP => Self::parse_udp(addresses, reader.rest()).map(Some),
            NEXT_FRAGMENT => Err(WireError::Field { what: IPV6, field: "fragment", value: u32::from(next) }),
            _ => Ok(None),
        }
    }

    fn parse_udp(addresses: Addresses, bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(UDP, bytes);
        let ports = ReducedHeader { source: reader.u16()?, destination: reader.u16()? };
        let (length, checksum) = (reader.u16()?, reader.u16()?);
        if usize::from(length) != bytes.len() {
            return Err(WireError::Field { what: UDP, field: "length", value: u32::from(length) });
        }
        let unchecked = checksum == 0 && matches!(addresses, Addresses::V4 { .. });
        // A checksum of 0 that must not be 0 fails too, whatever the sum.
        let right = checksum != 0 && fold(addresses.pseudo_sum(bytes.len()) + sum(bytes)) == 0xffff;
        if !unchecked && !right {
            return Err(WireError::Field { what: UDP, field: "checksum", value: u32::from(checksum) });
        }
        Ok(Self { addresses, ports, payload: reader.rest() })
    }
}

/// Appends a datagram whose payload is what `write` appends, at most 65,507 bytes.
pub fn emit<O: Output>(addresses: Addresses, ports: ReducedHeader, out: &mut O, write: impl FnOnce(&mut O)) {
    let start = out.written().len();
    out.put(&[0; HEADERS_BYTES_MAX][..addresses.headers_bytes()]);
    write(out);
    seal(addresses, ports, &mut out.written()[start..]);
}

/// Writes the headers of a datagram that has room for them.
fn seal(addresses: Addresses, ports: ReducedHeader, bytes: &mut [u8]) {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let total = bytes.len();
    let (ip, udp) = bytes.split_at_mut(addresses.headers_bytes() - UDP_BYTES);
    match addresses {
        Addresses::V4 { source, destination } => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&length(total));
            ip[6..8].copy_from_slice(&DONT_FRAGMENT);
            ip[8..10].copy_from_slice(&[TTL, PROTOCOL_UDP]);
            ip[12..16].copy_from_slice(&source);
            ip[16..20].copy_from_slice(&destination);
            let checksum = !fold(sum(ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Addresses::V6 { source, destination } => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&length(udp.len()));
            ip[6..8].copy_from_slice(&[PROTOCOL_UDP, TTL]);
            ip[8..24].copy_from_slice(&source);
            ip[24..40].copy_from_slice(&destination);
        }
    }
    udp[0..2].copy_from_slice(&ports.source.to_be_bytes());
    udp[2..4].copy_from_slice(&ports.destination.to_be_bytes());
    let udp_bytes = udp.len();
    udp[4..6].copy_from_slice(&length(udp_bytes));
    // 0 would say that there is none.
    let checksum = match !fold(addresses.pseudo_sum(udp_bytes) + sum(udp)) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
}

/// The sum of 16-bit words, the last one padded with 0.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let whole: u64 = words.by_ref().map(|w| u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]]))).sum();
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    whole + u64::from(u32::from_be_bytes(last))
}

/// Ones' complement of 16 bits (RFC 1071); 0xFFFF over anything that holds its own checksum.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    /// A DNS query for `a`, from 192.168.1.2:5000 to 192.168.1.1:53; the checksums were reckoned by hand.
    const QUERY: &str = "4500001f0000400040 11b77a c0a80102c0a80101 13880035000b0000 000100";

    fn query() -> Vec<u8> {
        unhex(&QUERY.replace(' ', ""))
    }

    fn field(bytes: &[u8]) -> &'static str {
        match Datagram::parse(bytes) {
            Err(WireError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_datagram_of_others_parses_and_its_checks_are_verified() {
        let bytes = query();
        let datagram = Datagram::parse(&bytes).unwrap().unwrap();
        assert_eq!(datagram.addresses, Addresses::V4 { source: [192, 168, 1, 2], destination: [192, 168, 1, 1] });
        assert_eq!((datagram.ports.source, datagram.ports.destination), (5000, 53));
        assert_eq!(datagram.payload, [0, 1, 0]);
        // Pseudo header: c0a8 + 0102 + c0a8 + 0101 + 0011 + 000b; UDP: 1388 + 0035 + 000b + 0001 + 0000.
        let mut checked = bytes.clone();
        let whole = 0xc0a8u32 * 2 + 0x0102 + 0x0101 + 0x11 + 0xb + 0x1388 + 0x35 + 0xb + 1;
        checked[26..28].copy_from_slice(&(!((whole & 0xffff) + (whole >> 16)) as u16).to_be_bytes());
        assert_eq!(Datagram::parse(&checked).unwrap().unwrap().payload, [0, 1, 0]);
        checked[30] = 1;
        assert_eq!(field(&checked), "checksum");
        let mut header = bytes.clone();
        header[1] = 4;
        assert_eq!(field(&header), "checksum");
    }

    #[test]
    fn fragments_wrong_lengths_and_other_versions_are_refused() {
        let changed = |at: usize, value: u8| {
            let mut bytes = query();
            bytes[at] = value;
            bytes
        };
        assert_eq!(field(&changed(6, 0x20)), "fragment", "the first");
        assert_eq!(field(&changed(7, 1)), "fragment", "the last");
        assert_eq!(field(&changed(3, 0x1e)), "total length");
        assert_eq!(field(&changed(0, 0x44)), "header length");
        assert!(matches!(Datagram::parse(&changed(0, 0x4f)), Err(WireError::Truncated { what: IPV4, .. })));
        assert!(matches!(Datagram::parse(&changed(0, 0x55)), Err(WireError::Version { got: 5, .. })));
        assert!(matches!(Datagram::parse(&[]), Err(WireError::Truncated { .. })));
        // UDP is not looked at elsewhere, and its length is its own: the header's checksum does not cover it.
        assert_eq!(field(&changed(25, 0x0a)), "length");
        // Another protocol, in whatever state its header is.
        assert_eq!(Datagram::parse(&changed(9, 252)), Ok(None));
        for (next, expected) in [(44, Err("fragment")), (0, Ok(None)), (60, Ok(None)), (58, Ok(None))] {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 8, next, 64];
            bytes.resize(48, 1);
            match expected {
                Err(name) => assert_eq!(field(&bytes), name),
                Ok(none) => assert_eq!(Datagram::parse(&bytes), Ok(none)),
            }
            bytes.push(0);
            assert_eq!(field(&bytes), "payload length");
        }
    }

    #[test]
    fn no_checksum_is_a_matter_of_ipv4() {
        let ports = ReducedHeader { source: 1, destination: 2 };
        for (addresses, at, allowed) in [
            (Addresses::V4 { source: [1; 4], destination: [2; 4] }, 26, true),
            (Addresses::V6 { source: [1; 16], destination: [2; 16] }, 46, false),
        ] {
            let mut bytes = Vec::new();
            emit(addresses, ports, &mut bytes, |out| out.put(b"media"));
            bytes[at..at + 2].fill(0);
            assert_eq!(Datagram::parse(&bytes).is_ok(), allowed);
        }
    }

    /// Where all bits of the sum are set, the checksum is written as 0xFFFF: 0 would say that there is none.
    #[test]
    fn a_checksum_is_never_written_as_none() {
        let addresses = Addresses::V4 { source: [0; 4], destination: [0; 4] };
        let ports = ReducedHeader { source: 0, destination: 0 };
        // 0x11 + 0xa twice, and this.
        let payload = (0xffff - 0x11 - 0xa - 0xau16).to_be_bytes();
        let mut bytes = Vec::new();
        emit(addresses, ports, &mut bytes, |out| out.put(&payload));
        assert_eq!(bytes[26..28], [0xff, 0xff]);
        assert_eq!(Datagram::parse(&bytes).unwrap().unwrap().payload, payload);
    }

    prop_compose! {
        fn any_addresses()(v4: bool, a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16]) -> Addresses {
            if v4 { Addresses::V4 { source: a, destination: b } } else { Addresses::V6 { source: c, destination: d } }
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(
            addresses in any_addresses(), source: u16, destination: u16, payload in proptest::collection::vec(any::<u8>(), 0..64),
            before in proptest::collection::vec(any::<u8>(), 0..5), options in 0..11usize, damaged: prop::sample::Index, bit in 0..8u32
        ) {
            let ports = ReducedHeader { source, destination };
            let mut out = before.clone();
            emit(addresses, ports, &mut out, |out| out.put(&payload));
            prop_assert!(out.starts_with(&before), "what was there stays");
            let mut bytes = out[before.len()..].to_vec();
            prop_assert_eq!(bytes.len(), addresses.headers_bytes() + payload.len());
            let expected = Datagram { addresses, ports, payload: &payload };
            prop_assert_eq!(Datagram::parse(&bytes), Ok(Some(expected)));
            prop_assert_eq!(addresses.reversed().reversed(), addresses);
            // No bit may change that is not free to: those of IPv6 that no checksum covers, and the IPv6 hop limit.
            let at = damaged.index(bytes.len());
            let free = matches!(addresses, Addresses::V6 { .. }) && (at < 4 || at == 7);
            bytes[at] ^= 1 << bit;
            let parsed = Datagram::parse(&bytes);
            // A checksum of 0 says that there is none.
            let none = matches!(addresses, Addresses::V4 { .. }) && bytes[26..28] == [0, 0];
            prop_assert!(free || none || !matches!(parsed, Ok(Some(_))), "byte {} of {:?}", at, bytes);
            bytes[at] ^= 1 << bit;
            if matches!(addresses, Addresses::V4 { .. }) {
                // With options.
                bytes.splice(IPV4_BYTES..IPV4_BYTES, std::iter::repeat_n(1, options * 4));
                bytes[0] = 0x45 + options as u8;
                let total = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&total);
                bytes[10..12].fill(0);
                let checksum = !fold(sum(&bytes[..IPV4_BYTES + options * 4]));
                bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
                prop_assert_eq!(Datagram::parse(&bytes), Ok(Some(expected)));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(first in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0x00]), mut bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = Datagram::parse(&bytes);
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            let _ = Datagram::parse(&bytes);
        }
    }
}
