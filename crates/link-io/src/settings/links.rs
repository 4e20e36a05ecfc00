//! The list of links as text: on a command line, in a property.
//!
//! `host:port[;key=value]...[,host:port...]`, or `@host:port` and `@:port` where the receiver calls, with the keys `id` (place
//! in the list, from 0, when absent), `name`, `bind` (local address), `dev` (interface), `weight` (fixed share), `priority`,
//! `price`, `rate-max` (kbit/s), `budget-mb`, `last-resort`, `warm` (yes or no) and `mtu`.

use crate::media::{EndpointError, resolve};
use crate::sender::{LinkRule, LinkSpec};
use bond::config::LINKS_MAX;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;
use units::{Bitrate, ByteCount, LinkId};

/// Why a list of links is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkListError {
    /// The destination of a link.
    #[error("link {link} of the list: the destination is wrong")]
    Destination {
        /// Position in the list, from 1.
        link: usize,
        /// What is wrong with it.
        #[source]
        source: EndpointError,
    },
    /// A part that is not `key=value` with a known key.
    #[error("link {link} of the list: `{part}` is not key=value with a key of {LINK_OPTIONS}")]
    Key {
        /// Position in the list, from 1.
        link: usize,
        /// The part.
        part: String,
    },
    /// A value of the wrong kind.
    #[error("link {link} of the list: `{value}` is no value for {key}")]
    Value {
        /// Position in the list, from 1.
        link: usize,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The port 0, which nobody can be called on.
    #[error("link {link} of the list: the destination is wrong: its port is 0")]
    PortZero {
        /// Position in the list, from 1.
        link: usize,
    },
    /// A local address for a link that has one already.
    #[error("link {link} of the list: it listens on the address behind the @, another one (bind) is of no use")]
    Listens {
        /// Position in the list, from 1.
        link: usize,
    },
    /// Links find themselves only where they call.
    #[error("`{to}` listens: give the destination, HOST:PORT")]
    EachListens {
        /// What was given as the destination.
        to: String,
    },
    /// The list of local addresses does not fit the list of links.
    #[error("{binds} local addresses do not fit {links} links: give one link, or as many as addresses")]
    Binds {
        /// Local addresses.
        binds: usize,
        /// Links.
        links: usize,
    },
    /// A line that is no address.
    #[error("line {line} of the list of local addresses: `{text}` is no IP address")]
    Bind {
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// An option that is of a single link, where every interface becomes one.
    #[error("`{part}` is of one link: every interface becomes a link and is called by its own name")]
    EachKey {
        /// The part.
        part: String,
    },
    /// More links than a flow takes.
    #[error("{got} links are too many: a flow takes {LINKS_MAX}")]
    TooMany {
        /// How many.
        got: usize,
    },
}

/// The options of a link, for help texts.
pub const LINK_OPTIONS: &str =
    "id, name, bind, dev, weight, priority, price, rate-max, budget-mb, last-resort, warm, mtu";

/// Reads a list of links; a blank text is none. Names are resolved here, which may take time.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn link_list(text: &str) -> Result<Vec<LinkSpec>, LinkListError> {
    let mut links = one_by_one(text)?;
    tell_apart(&mut links);
    Ok(links)
}

fn one_by_one(text: &str) -> Result<Vec<LinkSpec>, LinkListError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let links = text.split(',').enumerate().map(|(i, text)| link(i, text)).collect::<Result<Vec<_>, _>>()?;
    check_count(&links)?;
    Ok(links)
}

/// Links that are called by the same interface get their numbers, too.
fn tell_apart(links: &mut [LinkSpec]) {
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    for link in links.iter_mut().filter(|link| link.device.as_ref() == Some(&link.name)) {
        if names.iter().filter(|name| **name == link.name).count() > 1 {
            link.name = format!("{}/{}", link.name, link.id);
        }
    }
}

/// Reads a list of links that join others: those without an `id` take the lowest that neither they nor the `others` have.
///
/// # Errors
/// As for [`link_list`]; and all together are too many.
pub fn more_links(text: &str, others: &[LinkId]) -> Result<Vec<LinkSpec>, LinkListError> {
    let mut links = one_by_one(text)?;
    let has = |link: &str, key| link.split(';').any(|part| part.trim().starts_with(key));
    let given: Vec<(bool, bool)> = text.split(',').map(|link| (has(link, "id="), has(link, "name="))).collect();
    let given_ids = links.iter().zip(&given).filter(|(_, given)| given.0).map(|(link, _)| link.id);
    let mut taken: Vec<LinkId> = others.iter().copied().chain(given_ids).collect();
    for (link, (_, named)) in links.iter_mut().zip(given).filter(|(_, given)| !given.0) {
        let free = (0..=u16::MAX).map(LinkId).find(|id| !taken.contains(id)).unwrap_or(link.id);
        if !named && link.name == LinkSpec::new(link.id, link.remote).name {
            link.name = LinkSpec::new(free, link.remote).name;
        }
        link.id = free;
        taken.push(free);
    }
    tell_apart(&mut links);
    taken.sort_unstable();
    taken.dedup();
    if taken.len() > LINKS_MAX { Err(LinkListError::TooMany { got: taken.len() }) } else { Ok(links) }
}

/// Reads `HOST:PORT[;key=value]...`, where links are found by themselves and have these options, and the names of the
/// interfaces they are to use, with commas in between; a blank text names none.
///
/// # Errors
/// The first thing that is wrong.
pub fn link_rule(to: &str, interfaces: &str) -> Result<LinkRule, LinkListError> {
    let of_one = |part: &&str| ["id=", "name=", "bind=", "dev="].iter().any(|key| part.starts_with(key));
    if let Some(part) = to.split(';').skip(1).map(str::trim).find(of_one) {
        return Err(LinkListError::EachKey { part: part.to_owned() });
    }
    let LinkSpec { remote, options, listens, .. } = link(0, to)?;
    if listens {
        return Err(LinkListError::EachListens { to: to.to_owned() });
    }
    let names = interfaces.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(LinkRule { remote, interfaces: names.map(str::to_owned).collect(), options })
}

fn check_count(links: &[LinkSpec]) -> Result<(), LinkListError> {
    if links.len() > LINKS_MAX { Err(LinkListError::TooMany { got: links.len() }) } else { Ok(()) }
}

fn link(index: usize, text: &str) -> Result<LinkSpec, LinkListError> {
    let number = index + 1;
    let mut parts = text.split(';').map(str::trim);
    let destination = parts.next().unwrap_or_default();
    let (destination, listens) = destination.strip_prefix('@').map_or((destination, false), |own| (own, true));
    let remote = resolve(destination).map_err(|source| LinkListError::Destination { link: number, source })?;
    if remote.port() == 0 && !listens {
        return Err(LinkListError::PortZero { link: number });
    }
    let mut spec = LinkSpec { name: String::new(), listens, ..LinkSpec::new(LinkId(index as u16), remote) };
    for part in parts.filter(|part| !part.is_empty()) {
        set(&mut spec, number, part)?;
    }
    if listens && spec.bind.is_some() {
        return Err(LinkListError::Listens { link: number });
    }
    if spec.name.is_empty() {
        spec.name = spec.device.clone().unwrap_or_else(|| LinkSpec::new(spec.id, remote).name);
    }
    Ok(spec)
}

fn set(spec: &mut LinkSpec, link: usize, part: &str) -> Result<(), LinkListError> {
    let unknown = || LinkListError::Key { link, part: part.to_owned() };
    let (key, value) = part.split_once('=').ok_or_else(unknown)?;
    let wrong = || LinkListError::Value { link, key: key.to_owned(), value: value.to_owned() };
    match key {
        "id" => spec.id = LinkId(parsed(value).ok_or_else(wrong)?),
        "name" => value.clone_into(&mut spec.name),
        "bind" => spec.bind = Some(parsed(value).ok_or_else(wrong)?),
        "dev" if !value.is_empty() => spec.device = Some(value.to_owned()),
        "weight" => spec.options.weight = Some(parsed(value).ok_or_else(wrong)?),
        "priority" => spec.options.priority = parsed(value).ok_or_else(wrong)?,
        "rate-max" => spec.options.rate_max = Some(Bitrate::from_kbps(parsed(value).ok_or_else(wrong)?)),
        "budget-mb" => {
            let megabytes: u64 = parsed(value).ok_or_else(wrong)?;
            spec.options.byte_budget = Some(ByteCount::new(megabytes.saturating_mul(1_000_000)));
        }
        "mtu" => spec.options.mtu = parsed(value).ok_or_else(wrong)?,
        "price" => spec.options.price = parsed(value).ok_or_else(wrong)?,
        "last-resort" => spec.options.last_resort = yes_or_no(value).ok_or_else(wrong)?,
        "warm" => spec.options.keep_warm = yes_or_no(value).ok_or_else(wrong)?,
        "dev" => return Err(wrong()),
        _ => return Err(unknown()),
    }
    Ok(())
}

fn yes_or_no(value: &str) -> Option<bool> {
    match value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn parsed<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, LinkListError> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(i, line)| line.parse().map_err(|_| LinkListError::Bind { line: i + 1, text: line.to_owned() }))
        .collect()
}

/// Gives the links local addresses to send from, one a line in `text` (`#` starts a comment line): one link becomes one
/// for each address, several take one each.
///
/// # Errors
/// A line is no address, or their number does not fit.
pub fn bind_links(mut links: Vec<LinkSpec>, text: &str) -> Result<Vec<LinkSpec>, LinkListError> {
    let binds = addresses(text)?;
    if let ([only], count) = (&links[..], binds.len())
        && count > 1
    {
        let copy = |i| {
            let LinkSpec { id, name, .. } = LinkSpec::new(LinkId(i as u16), only.remote);
            LinkSpec { id, name, ..only.clone() }
        };
        links = (0..count).map(copy).collect();
    }
    if links.len() != binds.len() {
        return Err(LinkListError::Binds { binds: binds.len(), links: links.len() });
    }
    check_count(&links)?;
    if let Some(index) = links.iter().position(|link| link.listens) {
        return Err(LinkListError::Listens { link: index + 1 });
    }
    for (link, bind) in links.iter_mut().zip(binds) {
        link.bind = Some(bind);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_their_options_by_key() {
        let links = link_list(
            "127.0.0.1:5000;name=modem;bind=127.0.0.7;dev=wwan0;weight=5;priority=1;rate-max=4000;budget-mb=2;mtu=1400, \
             127.0.0.2:6000, [::1]:5002;id=7;price=12;last-resort=yes;warm=no",
        )
        .expect("three links");
        assert_eq!(links.len(), 3);
        let first = &links[0];
        assert_eq!((first.id, first.name.as_str()), (LinkId(0), "modem"));
        assert_eq!((first.bind, first.device.as_deref()), (Some(IpAddr::from([127, 0, 0, 7])), Some("wwan0")));
        assert_eq!((first.options.weight, first.options.priority, first.options.mtu), (Some(5), 1, 1400));
        assert_eq!(first.options.rate_max, Some(Bitrate::from_kbps(4000)));
        assert_eq!(first.options.byte_budget, Some(ByteCount::new(2_000_000)));
        assert_eq!((links[1].id, links[1].name.as_str(), links[1].bind), (LinkId(1), "1", None));
        assert_eq!(links[1].remote, "127.0.0.2:6000".parse().expect("an address"));
        assert_eq!((links[2].id, links[2].name.as_str()), (LinkId(7), "7"));
        let third = &links[2].options;
        assert_eq!((third.price, third.last_resort, third.keep_warm), (12, true, false));
        assert!(link_list("127.0.0.1:1;warm=maybe").is_err());
        assert_eq!(link_list(" ").expect("no links"), []);
    }

    #[test]
    fn an_at_sign_lets_the_receiver_call() {
        let links = link_list("@:5000;name=a, @127.0.0.1:5002;dev=eth0,127.0.0.1:5004").expect("three links");
        let told: Vec<_> = links.iter().map(|link| (link.listens, link.remote.to_string())).collect();
        let expected = [(true, "0.0.0.0:5000"), (true, "127.0.0.1:5002"), (false, "127.0.0.1:5004")];
        assert_eq!(told, expected.map(|(listens, remote)| (listens, remote.to_owned())));
        assert_eq!((links[0].name.as_str(), links[1].device.as_deref()), ("a", Some("eth0")));
        assert_eq!((links[1].name.as_str(), links[2].name.as_str()), ("eth0", "2"), "called by interface or number");
        let links = link_list("127.0.0.1:1;dev=eth0,127.0.0.1:2;dev=eth0,127.0.0.1:3;dev=eth1").expect("three links");
        assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["eth0/0", "eth0/1", "eth1"]);
        let refused = link_list("127.0.0.1:1,@:5000;bind=127.0.0.1").expect_err("refused");
        assert!(matches!(refused, LinkListError::Listens { link: 2 }));
        let refused = bind_links(link_list("@:5000").expect("a link"), "127.0.0.2").expect_err("refused");
        assert!(matches!(refused, LinkListError::Listens { link: 1 }));
        assert!(matches!(link_rule("@:5000", ""), Err(LinkListError::EachListens { .. })));
    }

    #[test]
    fn links_that_join_others_replace_none_unless_they_name_it() {
        let ids = |text: &str, others: &[u16]| -> Vec<String> {
            let others: Vec<LinkId> = others.iter().copied().map(LinkId).collect();
            let links = more_links(text, &others).expect("links");
            links.iter().map(|link| format!("{} {}", link.id, link.name)).collect()
        };
        assert_eq!(ids("127.0.0.1:1", &[0, 1]), ["2 2"]);
        assert_eq!(ids("127.0.0.1:1;name=a,127.0.0.1:1;id=1,127.0.0.1:1", &[0, 5]), ["2 a", "1 1", "3 3"]);
        assert_eq!(ids("127.0.0.1:1; id=5", &[0, 5]), ["5 5"], "this one is replaced");
        assert_eq!(ids("127.0.0.1:1;name=0", &[0]), ["1 0"], "a name that was given is kept");
        assert_eq!(ids(" ", &[0]), [""; 0]);
        let many: Vec<LinkId> = (0..16).map(LinkId).collect();
        assert!(more_links("127.0.0.1:1;id=3", &many).is_ok());
        assert!(matches!(more_links("127.0.0.1:1", &many), Err(LinkListError::TooMany { got: 17 })));
    }

    #[test]
    fn links_that_find_themselves_have_the_options_of_the_destination() {
        let rule = link_rule("127.0.0.1:5000;priority=1;mtu=1400", " wwan*, eth0,").expect("a rule");
        assert_eq!((rule.remote, rule.options.priority), ("127.0.0.1:5000".parse().expect("an address"), 1));
        assert_eq!(
            (rule.options.mtu, rule.interfaces.as_slice()),
            (1400, &["wwan*".to_owned(), "eth0".to_owned()][..])
        );
        assert_eq!(link_rule("127.0.0.1:5000", "").expect("a rule").interfaces, [""; 0]);
        let refused = |to| link_rule(to, "").expect_err("refused").to_string();
        assert!(refused("127.0.0.1:5000;dev=wwan0").starts_with("`dev=wwan0` is of one link"));
        assert!(refused("127.0.0.1:5000;mtu=x").contains("`x` is no value for mtu"));
        assert!(refused("127.0.0.1:1,127.0.0.1:2").contains("the destination is wrong"));
    }

    #[test]
    fn local_addresses_multiply_one_link_or_pair_with_several() {
        let bound = |links: &str, binds| -> Vec<String> {
            let links = bind_links(link_list(links).expect("links"), binds).expect("local addresses");
            links.iter().map(|l| format!("{} {} {:?}", l.name, l.remote, l.bind.expect("bound"))).collect()
        };
        assert_eq!(
            bound("127.0.0.1:5000", "127.0.0.2\n# spare\n127.0.0.3\n"),
            ["0 127.0.0.1:5000 127.0.0.2", "1 127.0.0.1:5000 127.0.0.3"]
        );
        assert_eq!(
            bound("127.0.0.1:1;name=a,127.0.0.1:2", "127.0.0.2\n127.0.0.3"),
            ["a 127.0.0.1:1 127.0.0.2", "1 127.0.0.1:2 127.0.0.3"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused = |links| link_list(links).expect_err("refused").to_string();
        assert_eq!(refused("127.0.0.1:1,nowhere"), "link 2 of the list: the destination is wrong");
        assert_eq!(refused("127.0.0.1:1;weight=x"), "link 1 of the list: `x` is no value for weight");
        assert_eq!(refused("127.0.0.1:1;dev="), "link 1 of the list: `` is no value for dev");
        assert_eq!(refused("127.0.0.1:1,127.0.0.1:0"), "link 2 of the list: the destination is wrong: its port is 0");
        assert!(refused("127.0.0.1:1;colour=red").starts_with("link 1 of the list: `colour=red` is not key=value"));
        assert_eq!(refused(&vec!["127.0.0.1:1"; 17].join(",")), "17 links are too many: a flow takes 16");
        let unbound =
            |links, binds| bind_links(link_list(links).expect("links"), binds).expect_err("refused").to_string();
        assert_eq!(
            unbound("127.0.0.1:1", "127.0.0.2\nx"),
            "line 2 of the list of local addresses: `x` is no IP address"
        );
        assert!(unbound("127.0.0.1:1,127.0.0.1:2", "127.0.0.2").starts_with("1 local addresses do not fit 2 links"));
        assert_eq!(unbound("127.0.0.1:1", &"127.0.0.2\n".repeat(17)), "17 links are too many: a flow takes 16");
    }

    #[test]
    fn every_option_of_the_help_is_known() {
        for key in LINK_OPTIONS.split(", ") {
            let result = link_list(&format!("127.0.0.1:1;{key}=1"));
            assert!(!matches!(result, Err(LinkListError::Key { .. })), "{key} is not known");
        }
    }
}
