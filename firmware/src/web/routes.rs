//! The page's addresses.

use super::guard::{self, Guard};
use super::sections::{PageTemplate, Sections};
use super::{PageRequest, PageState, Reply};
use crate::core::View;
use askama::Template as _;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use protocol::command::SettingsChange;
use protocol::stream::EncodingSpec;
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::oneshot;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use units::Bitrate;

/// Longest form, bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Longest wait for the agent's answer.
const REPLY_TIME_MAX: Duration = Duration::from_secs(5);
/// Shortest time between two events to one browser.
const EVENT_PAUSE: Duration = Duration::from_millis(200);

const STYLE: &str = include_str!("../../templates/page.css");
const SCRIPT: &str = include_str!("../../templates/page.js");
/// Everything comes from this device, and nobody may frame it.
const CONTENT_POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

pub(super) fn router(state: PageState, guard: Guard) -> Router {
    let fixed = |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/api/v1/state", get(state_json))
        .route("/go-live", post(go_live))
        .route("/stop", post(stop))
        .route("/settings", post(settings))
        .route("/claim", post(claim))
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .route("/page.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/page.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .layer(RequestBodyLimitLayer::new(FORM_BYTES_MAX))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .layer(fixed(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Not "no-referrer": with it browsers send `Origin: null` with the page's own forms.
        .layer(fixed(header::REFERRER_POLICY, "same-origin"))
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
        .with_state(state)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn page(State(state): State<PageState>) -> Response {
    let view = state.view.borrow().clone();
    match PageTemplate::new(&view).render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &format!("the page cannot be built: {error}")),
    }
}

async fn state_json(State(state): State<PageState>) -> Json<View> {
    Json(state.view.borrow().clone())
}

/// The sections that changed, as a JSON object of their HTML.
async fn events(State(state): State<PageState>) -> Response {
    let PageState { mut view, shutdown, watchers, .. } = state;
    let Ok(place) = watchers.try_acquire_owned() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "too many browsers watch this page; close some");
    };
    view.mark_changed(); // the first event brings everything
    let begin = (view, shutdown, Sections::default(), place);
    let stream = futures_util::stream::unfold(begin, |(mut view, mut end, last, place)| async move {
        loop {
            tokio::select! {
                changed = view.changed() => changed.ok()?,
                () = end.wait() => return None,
            }
            let now = Sections::new(&view.borrow_and_update().clone());
            if now != last {
                let changed = serde_json::to_string(&now.changed_since(&last)).unwrap_or_default();
                tokio::time::sleep(EVENT_PAUSE).await;
                let event: Result<Event, Infallible> = Ok(Event::default().data(changed));
                return Some((event, (view, end, now, place)));
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

async fn go_live(State(state): State<PageState>, headers: HeaderMap) -> Response {
    answer(&headers, ask(&state, |reply| PageRequest::GoLive { reply }).await)
}

async fn stop(State(state): State<PageState>, headers: HeaderMap) -> Response {
    answer(&headers, ask(&state, |reply| PageRequest::Stop { reply }).await)
}

/// The settings form; absent fields stay as they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsForm {
    name: Option<String>,
    input: Option<String>,
    latency_ms: Option<u32>,
    bitrate_max_kbps: Option<u64>,
}

async fn settings(State(state): State<PageState>, headers: HeaderMap, Form(form): Form<SettingsForm>) -> Response {
    let encoding = form.bitrate_max_kbps.map(|kbps| {
        let current = state.view.borrow().settings.encoding.clone();
        let bitrate_max = Bitrate::from_kbps(kbps);
        EncodingSpec { bitrate_min: current.bitrate_min.min(bitrate_max), bitrate_max, ..current }
    });
    let change = SettingsChange { name: form.name, input: form.input, latency_ms: form.latency_ms, encoding };
    answer(&headers, ask(&state, |reply| PageRequest::Settings { change, reply }).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimForm {
    link: String,
}

async fn claim(State(state): State<PageState>, headers: HeaderMap, Form(form): Form<ClaimForm>) -> Response {
    match form.link.parse() {
        Ok(link) => answer(&headers, ask(&state, |reply| PageRequest::Claim { link, reply }).await),
        Err(error) => answer(&headers, Err(error.to_string())),
    }
}

async fn ask(state: &PageState, request: impl FnOnce(Reply) -> PageRequest) -> Result<(), String> {
    let (sender, receiver) = oneshot::channel();
    let late = || "the agent did not answer; try again".to_owned();
    state.requests.try_send(request(sender)).map_err(|_| "too many requests at once; try again".to_owned())?;
    tokio::time::timeout(REPLY_TIME_MAX, receiver).await.map_err(|_| late())?.map_err(|_| late())?
}

/// Back to the page for a browser, JSON for a script.
fn answer(headers: &HeaderMap, outcome: Result<(), String>) -> Response {
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    match outcome {
        Ok(()) if wants_page => Redirect::to("/").into_response(),
        Ok(()) => Json(serde_json::json!({ "ok": true })).into_response(),
        Err(detail) if wants_page => match (super::sections::RefusalTemplate { detail: &detail }).render() {
            Ok(text) => (StatusCode::CONFLICT, Html(text)).into_response(),
            Err(_) => failure(StatusCode::CONFLICT, &detail),
        },
        Err(detail) => failure(StatusCode::CONFLICT, &detail),
    }
}

fn failure(status: StatusCode, detail: &str) -> Response {
    (status, Json(serde_json::json!({ "error": "refused", "detail": detail }))).into_response()
}
