//! From the device's uplinks to the links of a bond.

use appliance::{Uplink, UplinkKind};
use protocol::limits::LINKS_MAX;
use protocol::state::{self, Radio, Usability};
use protocol::telemetry::RadioReading;
use protocol::worker::streamer::{StreamerLink, ToStreamer};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use units::{LinkId, Timestamp};

/// The bond's number of each interface, kept while the agent runs, so that an interface that returns is the same link.
#[derive(Debug, Default)]
pub struct LinkNumbers(BTreeMap<String, LinkId>);

impl LinkNumbers {
    /// Takes over the numbers that a running streamer knows.
    pub fn adopt(&mut self, links: &[StreamerLink]) {
        for link in links {
            if let Some(interface) = &link.device {
                self.0.insert(interface.clone(), link.link);
            }
        }
    }

    /// Numbers for `uplinks`; one that has none gets the lowest that is free. Interfaces that are long gone give up theirs
    /// only when all [`LINKS_MAX`] are taken; an uplink for which none is left is skipped.
    pub fn assign(&mut self, uplinks: &[Uplink]) {
        for uplink in uplinks {
            if let Some(link) = uplink.link {
                self.0.insert(uplink.interface.clone(), link);
            } else if !self.0.contains_key(&uplink.interface)
                && let Some(link) = self.free(uplinks)
            {
                self.0.insert(uplink.interface.clone(), link);
            }
        }
    }

    fn free(&mut self, present: &[Uplink]) -> Option<LinkId> {
        let unused = |taken: &BTreeMap<String, LinkId>| {
            (0..LINKS_MAX as u16).map(LinkId).find(|link| !taken.values().any(|used| used == link))
        };
        unused(&self.0).or_else(|| {
            let gone = self.0.keys().find(|name| !present.iter().any(|uplink| uplink.interface == **name))?.clone();
            self.0.remove(&gone);
            unused(&self.0)
        })
    }

    fn of(&self, uplink: &Uplink) -> Option<LinkId> {
        self.0.get(&uplink.interface).copied()
    }
}

/// The links that a bond to `receiver` (its addresses, best first) and `port` should have now, by number.
pub fn links(
    uplinks: &[Uplink],
    numbers: &LinkNumbers,
    receiver: &[IpAddr],
    port: u16,
) -> BTreeMap<LinkId, StreamerLink> {
    uplinks
        .iter()
        .filter_map(|uplink| Some((numbers.of(uplink)?, uplink)))
        .filter_map(|(link, uplink)| {
            let (bind, remote) = pair(uplink, receiver)?;
            let device = uplink.bind_to_interface.then(|| uplink.interface.clone());
            let remote = SocketAddr::new(remote, port);
            Some((link, StreamerLink { link, name: uplink.name.clone(), bind: Some(bind), device, remote }))
        })
        .take(LINKS_MAX)
        .collect()
}

/// Local and remote address of one family.
fn pair(uplink: &Uplink, receiver: &[IpAddr]) -> Option<(IpAddr, IpAddr)> {
    if uplink.problem.is_some() {
        return None;
    }
    let remotes = match &uplink.gateway {
        Some(gateway) => std::slice::from_ref(gateway),
        None => receiver,
    };
    uplink.addresses.iter().find_map(|bind| {
        let remote = remotes.iter().find(|remote| remote.is_ipv4() == bind.is_ipv4())?;
        Some((*bind, *remote))
    })
}

/// What to tell a streamer that has the links `known`, so that it has `wanted`.
pub fn changes(known: &BTreeMap<LinkId, StreamerLink>, wanted: &BTreeMap<LinkId, StreamerLink>) -> Vec<ToStreamer> {
    let added = wanted.values().filter(|link| known.get(&link.link) != Some(link)).cloned().map(ToStreamer::AddLink);
    let removed =
        known.keys().filter(|link| !wanted.contains_key(link)).map(|link| ToStreamer::RemoveLink { link: *link });
    added.chain(removed).collect()
}

/// The uplinks as they are reported.
pub fn report(now: Timestamp, uplinks: &[Uplink], numbers: &LinkNumbers) -> Vec<state::UplinkState> {
    let numbered = uplinks.iter().filter_map(|uplink| Some((numbers.of(uplink)?, uplink)));
    numbered.map(|(link, uplink)| report_one(now, link, uplink)).take(LINKS_MAX).collect()
}

fn report_one(now: Timestamp, link: LinkId, uplink: &Uplink) -> state::UplinkState {
    state::UplinkState {
        link,
        name: uplink.name.clone(),
        interface: uplink.interface.clone(),
        kind: match uplink.kind {
            UplinkKind::Modem => state::UplinkKind::Modem,
            UplinkKind::Wifi => state::UplinkKind::Wifi,
            UplinkKind::Ethernet => state::UplinkKind::Ethernet,
        },
        usable: match &uplink.problem {
            None => Usability::Yes,
            Some(reason) => Usability::No { reason: reason.clone() },
        },
        radio: radio(now, uplink),
    }
}

/// What the radios read, for the measurements of each second: the state is published only when it changes.
pub fn radios(now: Timestamp, uplinks: &[Uplink], numbers: &LinkNumbers) -> Vec<RadioReading> {
    let readings = uplinks
        .iter()
        .filter_map(|uplink| Some(RadioReading { link: numbers.of(uplink)?, radio: radio(now, uplink)? }));
    readings.take(LINKS_MAX).collect()
}

fn radio(now: Timestamp, uplink: &Uplink) -> Option<Radio> {
    uplink.radio.as_ref().map(|radio| Radio {
        technology: radio.technology.clone(),
        operator: radio.operator.clone(),
        signal_dbm: radio.signal_dbm,
        age_ms: (now - radio.read_at).as_millis() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(interface: &str, addresses: &[&str]) -> Uplink {
        Uplink {
            interface: interface.to_owned(),
            name: interface.to_uppercase(),
            kind: UplinkKind::Ethernet,
            link: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            bind_to_interface: true,
            gateway: None,
            problem: None,
            radio: None,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_interface_keeps_its_number_and_the_lowest_free_one_is_given() {
        let mut numbers = LinkNumbers::default();
        let (a, b, c) = (uplink("a", &["192.0.2.1"]), uplink("b", &["192.0.2.2"]), uplink("c", &["192.0.2.3"]));
        numbers.assign(&[b.clone(), c.clone()]);
        numbers.assign(&[a.clone(), c.clone()]);
        assert_eq!(
            (numbers.of(&b), numbers.of(&c), numbers.of(&a)),
            (Some(LinkId(0)), Some(LinkId(1)), Some(LinkId(2)))
        );
        for round in 0..40 {
            numbers.assign(&[uplink(&format!("x{round}"), &[])]);
            assert!(numbers.0.len() <= LINKS_MAX);
            assert!(numbers.0.contains_key(&format!("x{round}")), "the newest has a number");
        }
    }

    #[test]
    fn families_match_and_an_emulated_link_takes_the_receivers_place() {
        let mut numbers = LinkNumbers::default();
        let mut emulated = uplink("fake0", &["127.0.0.1"]);
        emulated.gateway = Some(ip("127.0.11.1"));
        emulated.bind_to_interface = false;
        let six = uplink("six", &["2001:db8::5"]);
        let both = uplink("both", &["192.0.2.9", "2001:db8::9"]);
        let broken = Uplink { problem: Some("no cable".to_owned()), ..uplink("broken", &["192.0.2.8"]) };
        let all = [emulated, six, both, broken];
        numbers.assign(&all);
        let found = links(&all, &numbers, &[ip("198.51.100.1")], 5000);
        let remotes: Vec<_> =
            found.values().map(|link| (link.link.0, link.remote.to_string(), link.device.clone())).collect();
        assert_eq!(
            remotes,
            [(0, "127.0.11.1:5000".to_owned(), None), (2, "198.51.100.1:5000".to_owned(), Some("both".to_owned()))]
        );
        let found = links(&all, &numbers, &[ip("2001:db8::1"), ip("198.51.100.1")], 5000);
        assert_eq!(found[&LinkId(1)].remote, "[2001:db8::1]:5000".parse().unwrap());
        assert_eq!(found[&LinkId(2)].bind, Some(ip("192.0.2.9")), "the uplink's own preference comes first");
    }

    #[test]
    fn only_differences_are_told() {
        let mut numbers = LinkNumbers::default();
        let before = [uplink("a", &["192.0.2.1"]), uplink("b", &["192.0.2.2"]), uplink("c", &["192.0.2.3"])];
        numbers.assign(&before);
        let known = links(&before, &numbers, &[ip("198.51.100.1")], 5000);
        assert_eq!(changes(&known, &known), []);
        let after = [uplink("a", &["192.0.2.1"]), uplink("b", &["192.0.2.77"])];
        let wanted = links(&after, &numbers, &[ip("198.51.100.1")], 5000);
        assert_eq!(
            changes(&known, &wanted),
            [ToStreamer::AddLink(wanted[&LinkId(1)].clone()), ToStreamer::RemoveLink { link: LinkId(2) }]
        );
    }
}
