//! The relay's HTTP as an operator's script uses it: `/api/v1`, one log-in, one session.

pub mod http;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Answer, Http};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A logged-in (or not yet logged-in) user of one relay.
#[derive(Debug, Clone)]
pub struct Dashboard {
    http: Http,
    csrf: String,
}

impl Dashboard {
    /// A user that has not logged in.
    pub const fn new(address: SocketAddr) -> Self {
        Self { http: Http::new(address), csrf: String::new() }
    }

    /// Address of the dashboard for a browser.
    pub fn origin(&self) -> String {
        self.http.origin()
    }

    /// Whether the relay answers at all.
    pub async fn is_healthy(&mut self) -> bool {
        self.http.get("/healthz").await.is_ok_and(|answer| answer.status == StatusCode::OK)
    }

    /// Tries to log in and gives the answer, whatever it is.
    ///
    /// # Errors
    /// Nothing could be exchanged.
    pub async fn try_log_in(&mut self, name: &str, password: &str) -> Result<Answer> {
        self.post_raw("/api/v1/login", &json!({ "name": name, "password": password })).await
    }

    /// Logs in.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn log_in(&mut self, name: &str, password: &str) -> Result<()> {
        let answer = self.try_log_in(name, password).await?;
        let answer = accepted("POST /api/v1/login", &answer)?;
        answer["csrf"].as_str().context("the log-in gave no csrf token")?.clone_into(&mut self.csrf);
        Ok(())
    }

    /// GET of JSON.
    ///
    /// # Errors
    /// Any status but success, with the relay's words.
    pub async fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.http.get(path).await?;
        accepted(&format!("GET {path}"), &answer)
    }

    /// GET of anything.
    ///
    /// # Errors
    /// Nothing could be exchanged.
    pub async fn get_raw(&mut self, path: &str) -> Result<Answer> {
        self.http.get(path).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// Any status but success, with the relay's words.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post_raw(path, body).await?;
        accepted(&format!("POST {path}"), &answer)
    }

    /// POST of JSON; the answer, whatever it is.
    ///
    /// # Errors
    /// Nothing could be exchanged.
    pub async fn post_raw(&mut self, path: &str, body: &Value) -> Result<Answer> {
        let headers = [("X-CSRF-Token", self.csrf.clone())];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = Bytes::from(serde_json::to_vec(body)?);
        self.http.post(path, &headers, "application/json", body).await
    }

    /// Makes a claim and gives its link.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn claim(&mut self, name: &str) -> Result<String> {
        let answer = self.post("/api/v1/claims", &json!({ "name": name })).await?;
        Ok(text(&answer, "claim_link")?.to_owned())
    }

    /// Makes a destination and gives its id.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn add_destination(&mut self, body: &Value) -> Result<String> {
        let answer = self.post("/api/v1/destinations", body).await?;
        Ok(text(&answer, "id")?.to_owned())
    }

    /// All devices.
    ///
    /// # Errors
    /// The relay refuses, or answers with no list.
    pub async fn devices(&mut self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/devices").await?;
        list(answer, "devices")
    }

    /// All streams, newest first.
    ///
    /// # Errors
    /// The relay refuses, or answers with no list.
    pub async fn streams(&mut self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/streams").await?;
        list(answer, "streams")
    }

    /// One stream.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn stream(&mut self, id: &str) -> Result<Value> {
        self.get(&format!("/api/v1/streams/{id}")).await
    }

    /// Starts a stream of `device` to `destinations` and gives its id.
    ///
    /// # Errors
    /// The relay or the device refuses.
    pub async fn start(&mut self, device: &str, body: &Value) -> Result<String> {
        let answer = self.post(&format!("/api/v1/devices/{device}/start"), body).await?;
        Ok(text(&answer, "stream")?.to_owned())
    }

    /// Stops the stream of `device`.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn stop(&mut self, device: &str) -> Result<()> {
        self.post(&format!("/api/v1/devices/{device}/stop"), &json!({})).await.map(drop)
    }
}

fn accepted(what: &str, answer: &Answer) -> Result<Value> {
    if !answer.status.is_success() {
        bail!("{what}: status {}: {:.500}", answer.status, answer.text());
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    answer.json().with_context(|| what.to_owned())
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer[field].as_str().with_context(|| format!("the answer has no {field:?}: {answer}"))
}

fn list(answer: Value, field: &str) -> Result<Vec<Value>> {
    match answer {
        Value::Array(list) => Ok(list),
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::Array(list)) => Ok(list),
            _ => bail!("the answer has no list {field:?}"),
        },
        other => bail!("the answer is no list: {other}"),
    }
}
