//! A small HTTP/1.1 client: one connection a request, one host, cookies kept, bodies bounded.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// The longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A request that takes longer fails.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Where it redirects to.
    pub location: Option<String>,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, for messages and pages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {:.200}", self.text()))
    }
}

/// One host and its cookies.
#[derive(Debug, Clone)]
pub struct Http {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl Http {
    /// A client of the server at `address`.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// The server's origin.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// GET.
    ///
    /// # Errors
    /// Nothing could be exchanged; a status of any kind is an answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.exchange(Method::GET, path, &[], None, Bytes::new()).await
    }

    /// POST with a body of a given type, and further headers.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], kind: &str, body: Bytes) -> Result<Answer> {
        self.exchange(Method::POST, path, headers, Some(kind), body).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        kind: Option<&str>,
        body: Bytes,
    ) -> Result<Answer> {
        let what = format!("{method} {}{path}", self.origin());
        let exchange = self.exchange_unbounded(method, path, headers, kind, body);
        match tokio::time::timeout(REQUEST_TIME_MAX, exchange).await {
            Ok(answer) => answer.with_context(|| what),
            Err(_) => bail!("{what}: no answer within {REQUEST_TIME_MAX:?}"),
        }
    }

    async fn exchange_unbounded(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        kind: Option<&str>,
        body: Bytes,
    ) -> Result<Answer> {
        let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(&method).uri(path).header(HOST, self.address.to_string());
        let own_origin = !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(ORIGIN.as_str()));
        if method != Method::GET && own_origin {
            request = request.header(ORIGIN, self.origin());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(SET_COOKIE) {
            self.keep_cookie(cookie.to_str().context("Set-Cookie is no text")?);
        }
        let location = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => bail!("the body could not be read: {error}"),
        };
        connection.abort();
        Ok(Answer { status: parts.status, location, body })
    }

    fn keep_cookie(&mut self, header: &str) {
        let pair = header.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            if value.is_empty() {
                self.cookies.remove(name.trim());
            } else {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}
