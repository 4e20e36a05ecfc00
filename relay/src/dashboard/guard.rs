//! Who asks, and whether the request came from our own page.
//!
//! A write needs three things: a valid session cookie, an `Origin` and `Sec-Fetch-Site` (where the browser sends them) that
//! are ours, and the log-in's CSRF token in the form field `csrf` or the header `X-CSRF-Token`.

use super::Peer;
use crate::accounts::{LOGIN_TTL, Login};
use crate::app::App;
use crate::problem::Problem;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use std::net::IpAddr;

/// Name of the session cookie.
pub const COOKIE: &str = "strata_session";
/// Most fields of one form.
const FIELDS_MAX: usize = 64;

/// One who is logged in.
#[derive(Debug, Clone)]
pub struct Operator(pub Login);

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = session_token(&parts.headers).ok_or_else(Problem::log_in)?;
        app.accounts.login_of(token)?.map(Self).ok_or_else(Problem::log_in)
    }
}

/// One who is logged in and whose request came from our page: a script that sends the header `X-CSRF-Token`.
#[derive(Debug, Clone)]
pub struct Writer(pub Login);

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Operator(login) = Operator::from_request_parts(parts, app).await?;
        let token = parts.headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
        if !is_same_origin(&parts.headers) || !token.is_some_and(|token| login.csrf_matches(token)) {
            return Err(Problem::forged());
        }
        Ok(Self(login))
    }
}

/// The fields of a form.
#[derive(Debug, Clone)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first field of this name, trimmed; `None` when absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All fields of this name that are not empty.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.trim()).filter(|it| !it.is_empty())
    }

    /// A number.
    ///
    /// # Errors
    /// [`Problem`]: it is there and no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| Problem::bad_request(format!("{name} is {text:?}, not a number"))))
            .transpose()
    }
}

/// A form from our own page, by one who is logged in.
#[derive(Debug)]
pub struct SignedForm(pub Login, pub Fields);

impl FromRequest<App> for SignedForm {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Operator(login) = Operator::from_request_parts(&mut parts, app).await?;
        let same_origin = is_same_origin(&parts.headers);
        let header = parts.headers.get("x-csrf-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let fields = form_fields(Request::from_parts(parts, body), app).await?;
        let token = fields.get("csrf").map(str::to_owned).or(header);
        if !same_origin || !token.is_some_and(|token| login.csrf_matches(&token)) {
            return Err(Problem::forged());
        }
        Ok(Self(login, fields))
    }
}

/// A form from our own page, by anyone: the log-in.
#[derive(Debug)]
pub struct OpenForm(pub Fields);

impl FromRequest<App> for OpenForm {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !is_same_origin(request.headers()) {
            return Err(Problem::forged());
        }
        form_fields(request, app).await.map(Self)
    }
}

async fn form_fields(request: Request, app: &App) -> Result<Fields, Problem> {
    let form = axum::Form::<Vec<(String, String)>>::from_request(request, app).await;
    let fields = form.map_err(|error| Problem::new(error.status(), "bad-request", error.body_text()))?.0;
    if fields.len() > FIELDS_MAX {
        return Err(Problem::bad_request(format!("a form has at most {FIELDS_MAX} fields")));
    }
    Ok(Fields(fields))
}

/// The address that asks. A proxy on this machine is believed the address it appended to `X-Forwarded-For`.
#[derive(Debug, Clone, Copy)]
pub struct Asker(pub IpAddr);

impl FromRequestParts<App> for Asker {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0.0.ip());
        Ok(Self(asker(peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)), &parts.headers)))
    }
}

fn asker(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !peer.to_canonical().is_loopback() {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
}

/// Whether nothing in the headers says that another site sent the request.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return false;
    }
    let Some(origin) = text("origin") else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == text("host")
}

pub(super) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// The `Set-Cookie` of a log-in.
pub fn cookie_of(token: &protocol::Secret, app: &App) -> HeaderValue {
    let secure = if app.config.dashboard.insecure_cookies { "" } else { "; Secure" };
    let age = LOGIN_TTL.as_secs();
    let text = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}", token.reveal());
    let mut value = HeaderValue::try_from(text).expect("a base64url token has no control characters");
    value.set_sensitive(true);
    value
}

/// The `Set-Cookie` of a log-out.
pub const COOKIE_GONE: &str = "strata_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    #[test]
    fn a_foreign_origin_is_seen() {
        let ours = [("host", "relay.example:8080")];
        assert!(is_same_origin(&headers(&ours)), "scripts send neither header");
        let with = |name, value| headers(&[ours[0], (name, value)]);
        assert!(is_same_origin(&with("origin", "https://relay.example:8080")));
        assert!(!is_same_origin(&with("origin", "https://evil.example")));
        assert!(!is_same_origin(&with("origin", "null")));
        assert!(is_same_origin(&with("sec-fetch-site", "same-origin")));
        assert!(!is_same_origin(&with("sec-fetch-site", "cross-site")));
        assert!(!is_same_origin(&with("sec-fetch-site", "same-site")));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "a=b; strata_session=xyz; c=d")]);
        assert_eq!(session_token(&found), Some("xyz"));
        assert_eq!(session_token(&headers(&[("cookie", "xstrata_session=xyz")])), None);
    }

    #[test]
    fn only_a_local_proxy_is_believed_an_address() {
        let forwarded = headers(&[("x-forwarded-for", "203.0.113.9, 198.51.100.7")]);
        assert_eq!(asker("127.0.0.1".parse().unwrap(), &forwarded), "198.51.100.7".parse::<IpAddr>().unwrap());
        let stranger: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(asker(stranger, &forwarded), stranger);
    }
}
