//! Which interfaces lead to an address: the main routing table, as `/proc/net` shows it.
//!
//! Routes in other tables, which rules lead to, are asked for ([`super::route_query`]).
//!
//! A socket that is bound to an interface sends there whether or not a route says so; without one its packets only reach
//! neighbours. What cannot be read is no route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Lines of a table that are looked at; a router with the whole Internet's routes has a default route besides.
const LINES_MAX: usize = 100_000;
/// The route is usable (`RTF_UP`), and does not refuse (`RTF_REJECT`).
const FLAG_UP: u32 = 0x1;
const FLAG_REJECT: u32 = 0x200;

/// One route: what begins like `prefix` leaves by `interface`.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    prefix: IpAddr,
    bits: u32,
}

/// The routes of this machine.
#[derive(Debug)]
pub(super) struct Routes(Vec<Route>);

impl Routes {
    pub(super) fn read() -> Self {
        let table = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&table("/proc/net/route"), &table("/proc/net/ipv6_route"))
    }

    fn parse(v4: &str, v6: &str) -> Self {
        let v4 = v4.lines().skip(1).take(LINES_MAX).filter_map(route_v4);
        Self(v4.chain(v6.lines().take(LINES_MAX).filter_map(route_v6)).collect())
    }

    /// Whether `interface` leads to `address`.
    pub(super) fn lead(&self, interface: &str, address: IpAddr) -> bool {
        self.0.iter().any(|route| route.interface == interface && begins(address, route.prefix, route.bits))
    }
}

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & FLAG_UP != 0 && flags & FLAG_REJECT == 0)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, addresses as the machine stores them.
fn route_v4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, destination, _, flags, _, _, _, mask, ..] = fields[..] else { return None };
    let number = |text| u32::from_str_radix(text, 16).ok();
    let prefix = Ipv4Addr::from(number(destination)?.to_ne_bytes());
    let bits = number(mask)?.count_ones();
    is_usable(flags).then(|| Route { interface: interface.to_owned(), prefix: prefix.into(), bits })
}

/// `destination length source length next-hop metric refcnt use flags interface`.
fn route_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, bits, _, _, _, _, _, _, flags, interface] = fields[..] else { return None };
    let prefix = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
    let bits = u32::from_str_radix(bits, 16).ok()?;
    is_usable(flags).then(|| Route { interface: interface.to_owned(), prefix: prefix.into(), bits })
}

fn begins(address: IpAddr, prefix: IpAddr, bits: u32) -> bool {
    match (address, prefix) {
        (IpAddr::V4(address), IpAddr::V4(prefix)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            (address.to_bits() ^ prefix.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(prefix)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            (address.to_bits() ^ prefix.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes them on little-endian machines: a default route, a network, one that refuses.
    const V4: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
        wwan0\t00000000\t0100A8C0\t0003\t0\t0\t700\t00000000\t0\t0\t0\n\
        eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth2\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n\
        broken 12\n";
    const V6: &str = "\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 wwan1\n\
        20010db8000000000000000000000000 20 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth1\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_and_that_of_a_network_lead_there() {
        let routes = Routes::parse(V4, V6);
        let lead = |interface, address: &str| routes.lead(interface, address.parse().expect("an address"));
        assert!(lead("wwan0", "8.8.8.8") && !lead("wwan0", "2001:db8::1"));
        assert!(lead("eth1", "192.168.2.9") && !lead("eth1", "192.168.3.9"));
        assert!(!lead("eth2", "8.8.8.8"), "it refuses");
        assert!(lead("wwan1", "2600::1") && !lead("wwan1", "8.8.8.8"));
        assert!(lead("eth1", "2001:db8::1") && !lead("eth1", "2600::1") && !lead("lo", "2600::1"));
        assert!(!lead("nothing", "8.8.8.8"));
    }

    #[test]
    fn what_cannot_be_read_is_no_route() {
        for text in
            ["", "x", "a b c d e f g h i j", "Iface\nwwan0 ZZ 0 3 0 0 0 0", "Iface\nwwan0 0 0 3 0 0 0 FFFFFFFFFF"]
        {
            assert_eq!(Routes::parse(text, text).0, []);
        }
        assert!(!begins([1, 2, 3, 4].into(), [1, 2, 3, 5].into(), 32));
        assert!(begins([1, 2, 3, 4].into(), [9, 9, 9, 9].into(), 0));
    }
}
