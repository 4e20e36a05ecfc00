//! Links that come and go with the interfaces of the machine.
//!
//! An interface becomes a link when it is up and has an address that reaches beyond the next router and a route to the
//! receiver (the default route is one); the loopback and bridges (docker and the like) are left out. The route may be in the
//! main table, or in one that a rule for its address leads to (a table for each modem): then the link sends from that
//! address. Whoever names interfaces gets those alone, bridges and ones without a route too. A link goes with its
//! interface, or when that has had no address for [`GRACE`]; it begins anew when it has to send from another address.

use super::interfaces::Interfaces;
use super::routes::Routes;
use super::{LinkSpec, SocketAddr};
use bond::config::{LINKS_MAX, LinkOptions};
use std::net::IpAddr;
use std::time::Duration;
use units::{LinkId, Timestamp};

/// A lease that is renewed takes the old address away first.
const GRACE: Duration = Duration::from_secs(10);
/// Names remembered with their ids, so that an interface that comes again is the same link to whoever reads statistics.
const NAMES_MAX: usize = 64;

/// Which interfaces become links, and what the links are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRule {
    /// The receiver; the even port P in Simple Profile.
    pub remote: SocketAddr,
    /// Names of interfaces, where `*` at the end stands for any rest. None: every one that leads to the receiver.
    pub interfaces: Vec<String>,
    /// Options of each link; its name is that of the interface.
    pub options: LinkOptions,
}

impl LinkRule {
    /// Whether the operator named the interface, as far as there are names.
    fn names(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => interface.starts_with(beginning),
            None => name == interface,
        })
    }
}

/// One interface as the rule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) name: String,
    /// Up, with a carrier.
    pub(super) carrier: bool,
    /// Has an address of the receiver's family that reaches beyond the next router.
    pub(super) address: bool,
    /// The loopback or a bridge.
    pub(super) internal: bool,
    /// Has a route to the receiver.
    pub(super) route: bool,
    /// The address for which a rule leads there; `None` where the main table does.
    pub(super) source: Option<IpAddr>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Add(LinkSpec),
    Remove(LinkId),
}

/// The interfaces that are, or were, links.
#[derive(Debug)]
pub(super) struct Discovery {
    rule: LinkRule,
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    id: LinkId,
    linked: bool,
    /// Where its link sends from.
    source: Option<IpAddr>,
    without_address_since: Option<Timestamp>,
}

impl Discovery {
    pub(super) const fn new(rule: LinkRule) -> Self {
        Self { rule, known: Vec::new() }
    }

    /// Looks at the machine; `others` are the links that somebody added by hand.
    pub(super) fn look(&mut self, now: Timestamp, interfaces: &Interfaces, others: &[LinkId]) -> Vec<Change> {
        let routes = Routes::read();
        let candidates = interfaces.candidates(self.rule.remote.ip(), &routes);
        self.follow(now, &candidates, others)
    }

    /// When to look again although nothing was heard.
    pub(super) fn look_at(&self) -> Option<Timestamp> {
        self.known.iter().filter_map(|known| known.without_address_since).min().map(|since| since + GRACE)
    }

    /// The links that this has added.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.known.iter().filter(|known| known.linked).map(|known| known.id)
    }

    fn follow(&mut self, now: Timestamp, candidates: &[Candidate], others: &[LinkId]) -> Vec<Change> {
        let mut changes = Vec::new();
        for known in self.known.iter_mut().filter(|known| known.linked) {
            let candidate = candidates.iter().find(|candidate| candidate.name == known.name);
            let gone = match candidate {
                None => true,
                Some(candidate) if candidate.address => {
                    known.without_address_since = None;
                    false
                }
                Some(_) => now - *known.without_address_since.get_or_insert(now) >= GRACE,
            };
            if gone {
                (known.linked, known.without_address_since) = (false, None);
                changes.push(Change::Remove(known.id));
            }
        }
        for candidate in candidates {
            if !self.wants(candidate) {
                continue;
            }
            let known = self.known.iter_mut().find(|known| known.linked && known.name == candidate.name);
            if let Some(known) = known {
                // A rule or table that is being made anew is no other way yet.
                if candidate.route && known.source != candidate.source {
                    known.source = candidate.source;
                    let id = known.id;
                    changes.push(Change::Add(self.spec(id, candidate)));
                }
                continue;
            }
            if self.links().count() + others.len() >= LINKS_MAX {
                tracing::warn!(
                    interface = candidate.name,
                    links = LINKS_MAX,
                    "no link for it: the flow has all it takes"
                );
                break;
            }
            let id = self.id_of(candidate, others);
            changes.push(Change::Add(self.spec(id, candidate)));
        }
        changes
    }

    fn spec(&self, id: LinkId, candidate: &Candidate) -> LinkSpec {
        LinkSpec {
            name: candidate.name.clone(),
            device: Some(candidate.name.clone()),
            bind: candidate.source,
            options: LinkOptions { name: candidate.name.clone(), ..self.rule.options.clone() },
            ..LinkSpec::new(id, self.rule.remote)
        }
    }

    fn wants(&self, candidate: &Candidate) -> bool {
        let chosen = if self.rule.interfaces.is_empty() {
            candidate.route && !candidate.internal
        } else {
            self.rule.names(&candidate.name)
        };
        chosen && candidate.carrier && candidate.address
    }

    /// The id that the interface had, or the first that is free.
    fn id_of(&mut self, candidate: &Candidate, others: &[LinkId]) -> LinkId {
        let Candidate { name, source, .. } = candidate;
        let free = |id: &LinkId| !others.contains(id);
        if let Some(known) = self.known.iter_mut().find(|known| known.name == *name && free(&known.id)) {
            (known.linked, known.source) = (true, *source);
            return known.id;
        }
        self.known.retain(|known| known.name != *name);
        if self.known.len() >= NAMES_MAX
            && let Some(index) = self.known.iter().position(|known| !known.linked)
        {
            self.known.remove(index);
        }
        let taken = |id: &LinkId| self.known.iter().any(|known| known.id == *id);
        let id = (0..=u16::MAX).map(LinkId).find(|id| free(id) && !taken(id)).unwrap_or(LinkId(u16::MAX));
        let (name, source) = (name.clone(), *source);
        self.known.push(Known { name, id, linked: true, source, without_address_since: None });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modem(name: &str) -> Candidate {
        Candidate { name: name.to_owned(), carrier: true, address: true, internal: false, route: true, source: None }
    }

    fn discovery(interfaces: &[&str]) -> Discovery {
        let remote = "192.0.2.1:5000".parse().expect("an address");
        let options = LinkOptions { priority: 3, ..LinkOptions::default() };
        Discovery::new(LinkRule {
            remote,
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
            options,
        })
    }

    /// What changes at `seconds`, as `+name:id` and `-id`.
    fn follow(discovery: &mut Discovery, seconds: u64, candidates: &[Candidate]) -> Vec<String> {
        let changes = discovery.follow(Timestamp::from_millis(seconds * 1000), candidates, &[LinkId(1)]);
        let told = changes.into_iter().map(|change| match change {
            Change::Add(spec) => {
                assert_eq!((spec.device.as_deref(), spec.options.priority), (Some(spec.name.as_str()), 3));
                assert_eq!(spec.options.name, spec.name);
                format!("+{}:{}", spec.name, spec.id)
            }
            Change::Remove(id) => format!("-{id}"),
        });
        told.collect()
    }

    #[test]
    fn a_link_sends_from_the_address_that_a_rule_is_for() {
        let from = |last: u8| Candidate { source: Some(IpAddr::from([10, 0, 0, last])), ..modem("wwan0") };
        let look = |discovery: &mut Discovery, candidate: Candidate| -> Vec<(LinkId, Option<IpAddr>)> {
            let changes = discovery.follow(Timestamp::from_millis(1), &[candidate], &[]);
            let told = changes.into_iter().map(|change| match change {
                Change::Add(spec) => (spec.id, spec.bind),
                Change::Remove(id) => panic!("{id} removed"),
            });
            told.collect()
        };
        let mut discovery = discovery(&[]);
        assert_eq!(look(&mut discovery, from(1)), [(LinkId(0), from(1).source)]);
        assert_eq!(look(&mut discovery, from(1)), []);
        assert_eq!(look(&mut discovery, from(2)), [(LinkId(0), from(2).source)], "another lease");
        // The rule is gone for a moment.
        assert_eq!(look(&mut discovery, Candidate { route: false, ..modem("wwan0") }), []);
        assert_eq!(look(&mut discovery, from(2)), []);
        assert_eq!(look(&mut discovery, modem("wwan0")), [(LinkId(0), None)], "the main table leads there by now");
    }

    #[test]
    fn what_leads_to_the_receiver_becomes_a_link_and_nothing_else() {
        let candidates = [
            modem("wwan0"),
            Candidate { internal: true, ..modem("docker0") },
            Candidate { route: false, ..modem("camera") },
            Candidate { address: false, ..modem("eth1") },
            Candidate { carrier: false, ..modem("eth2") },
            modem("wwan1"),
        ];
        assert_eq!(follow(&mut discovery(&[]), 0, &candidates), ["+wwan0:0", "+wwan1:2"]);
        let mut named = discovery(&["docker0", "cam*", "eth*"]);
        assert_eq!(follow(&mut named, 0, &candidates), ["+docker0:0", "+camera:2"]);
    }

    #[test]
    fn a_link_goes_with_its_interface_and_comes_again_as_the_same() {
        let mut discovery = discovery(&[]);
        let (a, b) = (modem("a"), modem("b"));
        assert_eq!(follow(&mut discovery, 0, &[a.clone(), b.clone()]), ["+a:0", "+b:2"]);
        assert_eq!(follow(&mut discovery, 1, &[a.clone(), b.clone()]), [""; 0]);
        assert_eq!(follow(&mut discovery, 2, std::slice::from_ref(&b)), ["-0"]);
        assert_eq!(follow(&mut discovery, 3, &[modem("c"), a, b]), ["+c:3", "+a:0"]);
    }

    #[test]
    fn a_link_outlasts_a_lost_carrier_and_a_renewed_lease() {
        let mut discovery = discovery(&[]);
        let a = modem("a");
        follow(&mut discovery, 0, std::slice::from_ref(&a));
        let unplugged = Candidate { carrier: false, route: false, ..a.clone() };
        assert_eq!(follow(&mut discovery, 100, &[unplugged]), [""; 0], "suspect, and tried again");
        let bare = Candidate { address: false, route: false, ..a.clone() };
        assert_eq!(follow(&mut discovery, 200, std::slice::from_ref(&bare)), [""; 0]);
        assert_eq!(discovery.look_at(), Some(Timestamp::from_millis(210_000)));
        assert_eq!(follow(&mut discovery, 203, &[a]), [""; 0]);
        assert_eq!(discovery.look_at(), None);
        follow(&mut discovery, 300, std::slice::from_ref(&bare));
        assert_eq!(follow(&mut discovery, 310, &[bare]), ["-0"]);
        assert_eq!(discovery.look_at(), None);
    }

    #[test]
    fn links_and_names_are_bounded() {
        let mut discovery = discovery(&[]);
        let many: Vec<Candidate> = (0..40).map(|i| modem(&format!("m{i}"))).collect();
        assert_eq!(follow(&mut discovery, 0, &many).len(), LINKS_MAX - 1, "one was added by hand");
        for round in 0..100 {
            follow(&mut discovery, round, &[modem(&format!("usb{round}"))]);
        }
        assert_eq!((discovery.known.len(), discovery.links().count()), (NAMES_MAX, 1));
    }
}
