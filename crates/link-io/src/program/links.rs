//! The list of links on a command line.
//!
//! `host:port[;key=value]...[,host:port...]` with the keys `name`, `bind` (local address), `dev` (interface), `weight`
//! (fixed share), `priority`, `max-kbps`, `budget-mb` and `mtu`. One destination and several lines in a list of local
//! addresses make one link for each address.

use crate::media::{EndpointError, resolve};
use crate::sender::LinkSpec;
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
    #[error("link {link}: the destination is wrong")]
    Destination {
        /// Position in the list, from 1.
        link: usize,
        /// What is wrong with it.
        #[source]
        source: EndpointError,
    },
    /// A part that is not `key=value` with a known key.
    #[error(
        "link {link}: `{part}` is not key=value with a key of name, bind, dev, weight, priority, max-kbps, budget-mb, mtu"
    )]
    Key {
        /// Position in the list, from 1.
        link: usize,
        /// The part.
        part: String,
    },
    /// A value of the wrong kind.
    #[error("link {link}: `{value}` is no value for {key}")]
    Value {
        /// Position in the list, from 1.
        link: usize,
        /// The key.
        key: String,
        /// The value.
        value: String,
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
    /// More links than a flow takes.
    #[error("{got} links are too many: a flow takes {LINKS_MAX}")]
    TooMany {
        /// How many.
        got: usize,
    },
}

/// Reads a list of links, and the text of a list of local addresses when there is one.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn link_list(links: &str, binds: Option<&str>) -> Result<Vec<LinkSpec>, LinkListError> {
    let mut specs = links.split(',').enumerate().map(|(i, text)| link(i, text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(text) = binds {
        specs = bind_links(specs, &addresses(text)?)?;
    }
    if specs.len() > LINKS_MAX {
        return Err(LinkListError::TooMany { got: specs.len() });
    }
    Ok(specs)
}

fn link(index: usize, text: &str) -> Result<LinkSpec, LinkListError> {
    let number = index + 1;
    let mut parts = text.split(';').map(str::trim);
    let destination = parts.next().unwrap_or_default();
    let remote = resolve(destination).map_err(|source| LinkListError::Destination { link: number, source })?;
    let mut spec = LinkSpec::new(LinkId(index as u16), remote);
    spec.name = format!("link-{number}");
    for part in parts.filter(|part| !part.is_empty()) {
        set(&mut spec, number, part)?;
    }
    spec.options.name.clone_from(&spec.name);
    Ok(spec)
}

fn set(spec: &mut LinkSpec, link: usize, part: &str) -> Result<(), LinkListError> {
    let unknown = || LinkListError::Key { link, part: part.to_owned() };
    let (key, value) = part.split_once('=').ok_or_else(unknown)?;
    let wrong = || LinkListError::Value { link, key: key.to_owned(), value: value.to_owned() };
    match key {
        "name" => value.clone_into(&mut spec.name),
        "bind" => spec.bind = Some(parsed(value).ok_or_else(wrong)?),
        "dev" => spec.device = Some(value.to_owned()).filter(|name| !name.is_empty()),
        "weight" => spec.options.weight = Some(parsed(value).ok_or_else(wrong)?),
        "priority" => spec.options.priority = parsed(value).ok_or_else(wrong)?,
        "max-kbps" => spec.options.rate_max = Some(Bitrate::from_kbps(parsed(value).ok_or_else(wrong)?)),
        "budget-mb" => {
            let megabytes: u64 = parsed(value).ok_or_else(wrong)?;
            spec.options.byte_budget = Some(ByteCount::new(megabytes.saturating_mul(1_000_000)));
        }
        "mtu" => spec.options.mtu = parsed(value).ok_or_else(wrong)?,
        _ => return Err(unknown()),
    }
    Ok(())
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

fn bind_links(mut links: Vec<LinkSpec>, binds: &[IpAddr]) -> Result<Vec<LinkSpec>, LinkListError> {
    if let ([only], count) = (&links[..], binds.len())
        && count > 1
    {
        links = (0..count)
            .map(|i| {
                let mut copy = LinkSpec { id: LinkId(i as u16), name: format!("link-{}", i + 1), ..only.clone() };
                copy.options.name.clone_from(&copy.name);
                copy
            })
            .collect();
    }
    if links.len() != binds.len() {
        return Err(LinkListError::Binds { binds: binds.len(), links: links.len() });
    }
    for (link, bind) in links.iter_mut().zip(binds) {
        link.bind = Some(*bind);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_their_options_by_key() {
        let links = link_list(
            "127.0.0.1:5000;name=modem;bind=127.0.0.7;dev=wwan0;weight=5;priority=1;max-kbps=4000;budget-mb=2;mtu=1400,\
             127.0.0.2:6000",
            None,
        )
        .expect("two links");
        assert_eq!(links.len(), 2);
        let first = &links[0];
        assert_eq!((first.name.as_str(), first.options.name.as_str()), ("modem", "modem"));
        assert_eq!((first.bind, first.device.as_deref()), (Some(IpAddr::from([127, 0, 0, 7])), Some("wwan0")));
        assert_eq!((first.options.weight, first.options.priority, first.options.mtu), (Some(5), 1, 1400));
        assert_eq!(first.options.rate_max, Some(Bitrate::from_kbps(4000)));
        assert_eq!(first.options.byte_budget, Some(ByteCount::new(2_000_000)));
        assert_eq!((links[1].id, links[1].name.as_str(), links[1].bind), (LinkId(1), "link-2", None));
        assert_eq!(links[1].remote, "127.0.0.2:6000".parse().expect("an address"));
    }

    #[test]
    fn local_addresses_multiply_one_link_or_pair_with_several() {
        let bound = |links: &str, binds| -> Vec<String> {
            let links = link_list(links, Some(binds)).expect("links");
            links.iter().map(|l| format!("{} {} {:?}", l.name, l.remote, l.bind.expect("bound"))).collect()
        };
        assert_eq!(
            bound("127.0.0.1:5000", "127.0.0.2\n# spare\n127.0.0.3\n"),
            ["link-1 127.0.0.1:5000 127.0.0.2", "link-2 127.0.0.1:5000 127.0.0.3"]
        );
        assert_eq!(
            bound("127.0.0.1:1;name=a,127.0.0.1:2", "127.0.0.2\n127.0.0.3"),
            ["a 127.0.0.1:1 127.0.0.2", "link-2 127.0.0.1:2 127.0.0.3"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused = |links, binds| link_list(links, binds).expect_err("refused").to_string();
        assert_eq!(refused("127.0.0.1:1,nowhere", None), "link 2: the destination is wrong");
        assert_eq!(refused("127.0.0.1:1;weight=x", None), "link 1: `x` is no value for weight");
        assert!(refused("127.0.0.1:1;colour=red", None).starts_with("link 1: `colour=red` is not key=value"));
        assert_eq!(
            refused("127.0.0.1:1", Some("127.0.0.2\nx")),
            "line 2 of the list of local addresses: `x` is no IP address"
        );
        assert!(
            refused("127.0.0.1:1,127.0.0.1:2", Some("127.0.0.2")).starts_with("1 local addresses do not fit 2 links")
        );
        assert_eq!(refused(&vec!["127.0.0.1:1"; 17].join(","), None), "17 links are too many: a flow takes 16");
    }
}
