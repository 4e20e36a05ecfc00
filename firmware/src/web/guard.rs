//! A guard against foreign web sites and foreign networks: a page elsewhere must not press buttons here, nor read this page under a name of its
//! own (DNS rebinding).
//!
//! Opened by address, as `localhost` or under a configured name: served; under another name: refused with 421. A request
//! that changes something must come from this page, judged by `Origin` and `Sec-Fetch-Site`, which browsers always send
//! with it and no web page can forge; scripts send neither.

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The names under which the page may be opened.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Vec<String>>);

impl Guard {
    pub(crate) fn new(host_names: &[String]) -> Self {
        let own = host_names.iter().map(|name| name.to_ascii_lowercase());
        Self(Arc::new(own.chain(["localhost".to_owned()]).collect()))
    }

    /// Why a request is refused, if it is.
    fn judge(&self, method: &Method, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let host = text(headers, header::HOST.as_str()).unwrap_or_default();
        if !self.is_own(name_of(host)) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "open this page by the device's address, or add the name to local_page.host_names",
            ));
        }
        if method.is_safe() {
            return Ok(());
        }
        let same_origin = text(headers, header::ORIGIN.as_str())
            .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host)));
        let same_site = text(headers, "sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
        if same_origin && same_site {
            Ok(())
        } else {
            Err((StatusCode::FORBIDDEN, "this request came from another web site; use the device's own page"))
        }
    }

    fn is_own(&self, name: &str) -> bool {
        name.parse::<IpAddr>().is_ok() || self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// A header as text; one that is no text counts as present and matches nothing.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

/// The host without its port and brackets.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

/// Whether an address is of a network that only neighbours share: this machine, private, link-local. The page has no
/// log-in and listens on all interfaces by default, so the internet behind an uplink must not reach it.
fn is_neighbour(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_private() || peer.is_link_local(),
        IpAddr::V6(peer) => peer == Ipv6Addr::LOCALHOST || peer.is_unicast_link_local() || peer.is_unique_local(),
    }
}

/// The middleware.
pub(crate) async fn check(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !is_neighbour(peer.ip()) {
        tracing::warn!(%peer, "request from outside refused");
        return (StatusCode::FORBIDDEN, "this page is for the device's own network").into_response();
    }
    match guard.judge(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(method: &Method, pairs: &[(&'static str, &str)]) -> Option<u16> {
        let headers =
            pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect();
        Guard::new(&["strata.local".to_owned()]).judge(method, &headers).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_own_names_and_addresses_are_served() {
        for host in ["192.168.4.1:8081", "[fe80::1]:8081", "localhost:8081", "STRATA.local", "127.0.0.1"] {
            assert_eq!(judge(&Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example:8081", "strata.local.evil.example", "", "127.0.0.1.evil.example"] {
            assert_eq!(judge(&Method::GET, &[("host", host)]), Some(421), "{host}");
        }
    }

    #[test]
    fn the_internet_is_no_neighbour() {
        for peer in
            ["127.0.0.1", "192.168.4.20", "10.1.2.3", "169.254.7.7", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(is_neighbour(peer.parse().unwrap()), "{peer}");
        }
        for peer in ["198.51.100.7", "100.64.1.1", "2001:db8::1", "::ffff:198.51.100.7", "0.0.0.0"] {
            assert!(!is_neighbour(peer.parse().unwrap()), "{peer}");
        }
    }

    #[test]
    fn a_foreign_page_cannot_press_buttons() {
        let host = ("host", "192.168.4.1:8081");
        assert_eq!(judge(&Method::POST, &[host]), None, "a script");
        assert_eq!(judge(&Method::POST, &[host, ("origin", "http://192.168.4.1:8081")]), None);
        assert_eq!(judge(&Method::POST, &[host, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(judge(&Method::POST, &[host, ("origin", "http://192.168.4.1:9")]), Some(403));
        assert_eq!(judge(&Method::POST, &[host, ("origin", "null")]), Some(403));
        assert_eq!(judge(&Method::POST, &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(judge(&Method::POST, &[host, ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(
            judge(&Method::GET, &[host, ("origin", "http://evil.example")]),
            None,
            "reading is the browser's matter"
        );
    }
}
