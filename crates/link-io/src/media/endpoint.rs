//! Where media comes from or goes to, as the programs' arguments name it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// A source or sink of media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `udp://@:PORT`, `udp://@IP:PORT` or `udp://HOST:PORT`: datagrams of up to seven TS packets. An input listens there (and
    /// joins the group of a multicast address), an output sends there.
    Udp(SocketAddr),
    /// A file.
    File(PathBuf),
    /// `-`: standard input or output.
    Standard,
}

/// Why a text names no endpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Neither `udp://`, a file nor `-`.
    #[error("`{scheme}://` is not supported: give udp://HOST:PORT, a file name or -")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// Not `HOST:PORT`.
    #[error("`{text}` is not HOST:PORT: {why}")]
    Address {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name service does not know the host.
    #[error("the host of `{text}` cannot be resolved")]
    Unresolved {
        /// The text.
        text: String,
        /// What the name service says.
        #[source]
        source: io::Error,
    },
}

/// The first address of `HOST:PORT`; an empty host is any local address.
///
/// # Errors
/// The text has no port, or its host cannot be resolved.
pub fn resolve(text: &str) -> Result<SocketAddr, EndpointError> {
    let wrong = |why| EndpointError::Address { text: text.to_owned(), why };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
    let port: u16 = port.parse().map_err(|_| wrong("the port must be a number up to 65535"))?;
    if host.is_empty() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(wrong("an IPv6 address needs brackets"));
    }
    let unresolved = |source| EndpointError::Unresolved { text: text.to_owned(), source };
    let first = text.to_socket_addrs().map_err(unresolved)?.next();
    first.ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))
}

/// The addresses of `HOST:PORT[,HOST:PORT...]`, each once; a blank text is none.
///
/// # Errors
/// The first that [`resolve`] refuses.
pub fn resolve_all(text: &str) -> Result<Vec<SocketAddr>, EndpointError> {
    let mut addresses = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let address = resolve(part)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.split_once("://") {
            _ if text == "-" => Ok(Self::Standard),
            Some(("udp", address)) => Ok(Self::Udp(resolve(address.strip_prefix('@').unwrap_or(address))?)),
            Some((scheme, _)) => Err(EndpointError::Scheme { scheme: scheme.to_owned() }),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Standard => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    fn refused(text: &str) -> String {
        text.parse::<Endpoint>().expect_err("refused").to_string()
    }

    #[test]
    fn udp_files_and_pipes_are_told_apart() {
        assert_eq!(parsed("udp://@:5000"), Endpoint::Udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5000))));
        assert_eq!(parsed("udp://@127.0.0.1:5000"), parsed("udp://127.0.0.1:5000"));
        assert_eq!(parsed("udp://[::1]:7").to_string(), "udp://[::1]:7");
        assert_eq!(parsed("a/b.ts"), Endpoint::File("a/b.ts".into()));
        assert_eq!(parsed("-"), Endpoint::Standard);
    }

    #[test]
    fn a_list_names_each_address_once() {
        let list = resolve_all("127.0.0.1:5000, [::1]:2,127.0.0.1:5000").expect("addresses");
        assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:5000", "[::1]:2"]);
        assert_eq!(resolve_all(" ").expect("none"), []);
        assert!(resolve_all("127.0.0.1:1,x").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused("rtp://h:1"), "`rtp://` is not supported: give udp://HOST:PORT, a file name or -");
        assert_eq!(refused("udp://host"), "`host` is not HOST:PORT: the port is missing");
        assert_eq!(refused("udp://h:66000"), "`h:66000` is not HOST:PORT: the port must be a number up to 65535");
        assert_eq!(refused("udp://::1:5"), "`::1:5` is not HOST:PORT: an IPv6 address needs brackets");
    }
}
