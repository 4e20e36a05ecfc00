//! UDP ports of receivers: even numbers of the configured range, one a stream.

use std::net::{IpAddr, UdpSocket};

/// The first even port of `first..=last` that no stream holds and no other program uses on `bind`.
///
/// The search begins after `after`, so that a stream that ended a moment ago does not lend its port to a new one while its
/// sender may still be sending.
pub fn free(bind: IpAddr, first: u16, last: u16, after: Option<u16>, taken: &[u16]) -> Option<u16> {
    let even: Vec<u16> = (first..=last).filter(|port| port % 2 == 0).collect();
    let start = after.and_then(|after| even.iter().position(|port| *port > after)).unwrap_or(0);
    let (early, late) = even.split_at(start);
    late.iter().chain(early).copied().find(|port| !taken.contains(port) && UdpSocket::bind((bind, *port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1));

    #[test]
    fn ports_are_even_free_and_not_used_again_at_once() {
        assert_eq!(free(HERE, 40_001, 40_007, None, &[]), Some(40_002));
        assert_eq!(free(HERE, 40_001, 40_007, Some(40_002), &[]), Some(40_004));
        assert_eq!(free(HERE, 40_001, 40_007, Some(40_006), &[40_002]), Some(40_004));
        assert_eq!(free(HERE, 40_001, 40_003, None, &[40_002]), None);
        let _held = UdpSocket::bind((HERE, 40_012)).unwrap();
        assert_eq!(free(HERE, 40_012, 40_014, None, &[]), Some(40_014));
    }
}
