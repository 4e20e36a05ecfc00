//! Where an RTMP output goes: the address people paste, taken apart.

use protocol::Secret;
use std::fmt;
use thiserror::Error;

/// Why an address cannot be used; the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Another scheme.
    #[error("the address must begin with rtmp:// or rtmps://")]
    Scheme,
    /// No host, or a port that is none.
    #[error("the address has no usable host and port: write rtmp://host[:port]/app")]
    Host,
    /// No application.
    #[error("the address names no application: write rtmp://host/app")]
    App,
    /// No key.
    #[error("there is no stream key: enter the key the platform gives you")]
    Key,
}

/// A checked address.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether the session runs over TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port; 1935, or 443 with TLS, where not given.
    pub port: u16,
    /// Application, with instance and query.
    pub app: String,
    /// Stream key.
    pub key: Secret,
}

impl Target {
    /// Takes `url` apart; where `key` is empty, the last part of the path is the key.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &str, key: &Secret) -> Result<Self, TargetError> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(TargetError::Scheme),
        };
        let (authority, path) = rest.split_once('/').ok_or(TargetError::App)?;
        let (host, port) = split_authority(authority).ok_or(TargetError::Host)?;
        let path = path.trim_end_matches('/');
        let (app, key) = if key.is_empty() {
            let (app, key) = path.rsplit_once('/').ok_or(TargetError::Key)?;
            (app, Secret::new(key))
        } else {
            (path, Secret::new(key.reveal().trim()))
        };
        if app.is_empty() {
            return Err(TargetError::App);
        }
        if key.is_empty() {
            return Err(TargetError::Key);
        }
        let port = port.unwrap_or(if tls { 443 } else { 1935 });
        Ok(Self { tls, host, port, app: app.to_owned(), key })
    }

    /// The address without key, as servers want it in `tcUrl`.
    pub fn tc_url(&self) -> String {
        format!("{self}")
    }
}

fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port =
        port.map(|port| port.parse().ok().filter(|port| *port != 0)).map_or(Some(None), |port| port.map(Some))?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Without key.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, standard) = if self.tls { ("rtmps", 443) } else { ("rtmp", 1935) };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = if self.port == standard { String::new() } else { format!(":{}", self.port) };
        write!(f, "{scheme}://{host}{port}/{}", self.app)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, key: &str) -> Result<(bool, String, u16, String, String), TargetError> {
        let target = Target::parse(url, &Secret::new(key))?;
        Ok((target.tls, target.host.clone(), target.port, target.app.clone(), target.key.reveal().to_owned()))
    }

    #[test]
    fn addresses_are_taken_apart() {
        let expected = |tls, host: &str, port, app: &str, key: &str| {
            Ok((tls, host.to_owned(), port, app.to_owned(), key.to_owned()))
        };
        assert_eq!(
            parse("rtmp://a.rtmp.youtube.com/live2", "ab-cd"),
            expected(false, "a.rtmp.youtube.com", 1935, "live2", "ab-cd")
        );
        assert_eq!(
            parse("rtmps://live-api-s.facebook.com:443/rtmp/", " FB?s_bl=1 "),
            expected(true, "live-api-s.facebook.com", 443, "rtmp", "FB?s_bl=1")
        );
        assert_eq!(parse("rtmp://[::1]:1936/live/inst/key", ""), expected(false, "::1", 1936, "live/inst", "key"));
    }

    #[test]
    fn unusable_addresses_are_refused_by_name() {
        assert_eq!(parse("http://host/live", "k"), Err(TargetError::Scheme));
        assert_eq!(parse("host/live", "k"), Err(TargetError::Scheme));
        assert_eq!(parse("rtmp://host", "k"), Err(TargetError::App));
        assert_eq!(parse("rtmp://host/", "k"), Err(TargetError::App));
        assert_eq!(parse("rtmp://:1935/live", "k"), Err(TargetError::Host));
        assert_eq!(parse("rtmp://host:99999/live", "k"), Err(TargetError::Host));
        assert_eq!(parse("rtmp://host/live", ""), Err(TargetError::Key));
    }

    #[test]
    fn a_key_is_never_shown() {
        let target = Target::parse("rtmp://host/live/verysecret", &Secret::default()).unwrap();
        assert_eq!(format!("{target:?} {target}"), "Target(rtmp://host/live) rtmp://host/live");
    }
}
