//! Server-sent events: pieces of a page, rendered anew when something changed, and a beat once a second.
//!
//! `fragment` {id, html} replaces an element's content; `figures` is a point of the chart; `beat` says that the relay is
//! there. A page that hears nothing greys all its values.

use super::guard::Operator;
use super::pages::devices::{DeviceParts, devices_fragments};
use super::pages::notice_fragment;
use super::pages::streams::{StreamParts, recording_summary};
use crate::api::parse_id;
use crate::app::App;
use crate::problem::Problem;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, watch};
use units::{DeviceId, StreamId};

/// A page is drawn at most this often.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// A page is drawn at least this often, and its log-in looked at.
const BEAT: Duration = Duration::from_secs(1);

/// The recording's files are counted at most this often: a long one has thousands.
const RECORDING_INTERVAL: Duration = Duration::from_secs(5);

/// What a page follows.
enum Subject {
    Devices,
    Device(DeviceId),
    Stream(StreamId),
}

struct Follower {
    app: App,
    login: Operator,
    headers: HeaderMap,
    subject: Subject,
    fleet: watch::Receiver<u64>,
    sessions: watch::Receiver<u64>,
    /// What the page shows, by element: only what differs is sent.
    shown: HashMap<&'static str, String>,
    charted: f64,
    recording: Option<(usize, String)>,
    recording_seen: Option<Instant>,
    waiting: VecDeque<Event>,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

#[derive(Deserialize)]
pub struct DevicesQuery {
    #[serde(default)]
    device: Option<String>,
}

type Events = Sse<std::pin::Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>>;

/// `GET /devices-events`, `GET /devices-events?device={id}`.
pub async fn devices(
    State(app): State<App>,
    login: Operator,
    headers: HeaderMap,
    Query(query): Query<DevicesQuery>,
) -> Result<Events, Problem> {
    let subject = match query.device {
        Some(id) => Subject::Device(parse_id(&id, "device")?),
        None => Subject::Devices,
    };
    follow(app, login, headers, subject)
}

/// `GET /streams/{id}/events`.
pub async fn stream(
    State(app): State<App>,
    login: Operator,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Events, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    app.sessions.get(&id)?.ok_or_else(|| Problem::not_found("stream"))?;
    follow(app, login, headers, Subject::Stream(id))
}

fn follow(app: App, login: Operator, headers: HeaderMap, subject: Subject) -> Result<Events, Problem> {
    let permit = std::sync::Arc::clone(&app.event_streams).try_acquire_owned().map_err(|_| {
        let detail = "too many pages follow this relay; close some and reload";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-pages", detail)
    })?;
    let follower = Follower {
        fleet: app.fleet.changes(),
        sessions: app.sessions.changes(),
        app,
        login,
        headers,
        subject,
        shown: HashMap::new(),
        charted: 0.0,
        recording: None,
        recording_seen: None,
        waiting: VecDeque::new(),
        first: true,
        _permit: permit,
    };
    let events = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(Box::pin(events)))
}

impl Follower {
    /// The next event; `None` ends the stream: log-out or shutdown.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if !std::mem::take(&mut self.first) {
                self.wait().await?;
            }
            self.draw().await;
            self.waiting.push_back(Event::default().event("beat").data("1"));
        }
    }

    async fn wait(&mut self) -> Option<()> {
        let mut shutdown = self.app.shutdown.clone();
        let beat = tokio::time::sleep(BEAT);
        let changed = async {
            tokio::time::sleep(DRAW_INTERVAL).await;
            tokio::select! {
                _ = self.fleet.changed() => {}
                _ = self.sessions.changed() => {}
            }
        };
        tokio::select! {
            () = shutdown.wait() => return None,
            () = beat => {}
            () = changed => {}
        }
        let token = super::guard::session_token(&self.headers)?;
        self.app.accounts.login_of(token).ok().flatten().map(drop)
    }

    async fn draw(&mut self) {
        if let Subject::Stream(id) = &self.subject
            && self.recording_seen.is_none_or(|at| at.elapsed() >= RECORDING_INTERVAL)
        {
            self.recording = recording_summary(&self.app, id).await;
            self.recording_seen = Some(Instant::now());
        }
        let csrf = self.login.0.csrf.reveal().to_owned();
        let fragments = match &self.subject {
            Subject::Devices => devices_fragments(&self.app, &csrf),
            Subject::Device(id) => {
                DeviceParts::of(&self.app, id, &csrf).map(|parts| parts.fragments()).unwrap_or_default()
            }
            Subject::Stream(id) => match StreamParts::of(&self.app, id, &csrf, self.recording.clone()) {
                Ok(parts) => {
                    if let Some(point) = parts.chart_point(self.charted) {
                        self.charted = point.at();
                        let data = serde_json::to_string(&point).unwrap_or_default();
                        self.waiting.push_back(Event::default().event("figures").data(data));
                    }
                    parts.fragments()
                }
                Err(_) => Vec::new(),
            },
        };
        for (id, html) in fragments.into_iter().chain([notice_fragment(&self.app)]) {
            if self.shown.get(id) != Some(&html) {
                let data = serde_json::json!({ "id": id, "html": html }).to_string();
                self.waiting.push_back(Event::default().event("fragment").data(data));
                self.shown.insert(id, html);
            }
        }
    }
}
