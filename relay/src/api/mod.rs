//! JSON for scripts, below `/api/v1`: the same cookie as the pages, `X-CSRF-Token` on writes.
//!
//! Errors are `{error, detail}` with the right status. Keys are write-only.

mod views;

use crate::app::App;
use crate::dashboard::guard::{Asker, Operator, Writer, cookie_of, is_same_origin};
use crate::destinations::{self, NewDestination};
use crate::enrolment::CLAIM_TTL;
use crate::orders::SettingsRequest;
use crate::problem::Problem;
use crate::sessions::StartRequest;
use crate::store::{DestinationKind, DestinationRecord};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use units::{Bitrate, DeviceId, StreamId};

pub use views::{DeviceView, StreamView};

/// Streams in one list, newest first.
pub const STREAMS_LISTED_MAX: usize = 200;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/session", get(session))
        .route("/api/v1/login", post(login))
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/devices/{id}", get(device))
        .route("/api/v1/devices/{id}/start", post(start))
        .route("/api/v1/devices/{id}/stop", post(stop))
        .route("/api/v1/devices/{id}/settings", post(settings))
        .route("/api/v1/devices/{id}/revoke", post(revoke))
        .route("/api/v1/claims", post(claims))
        .route("/api/v1/destinations", get(destinations).post(add_destination))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/streams/{id}", get(stream))
        .route("/api/{*rest}", axum::routing::any(async || Problem::not_found("API call")))
}

/// JSON whose errors are our [`Problem`].
struct Body<T>(T);

impl<T: serde::de::DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, app: &App) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, app).await {
            Ok(Json(body)) => Ok(Self(body)),
            // A value of the wrong type is 400 as well: scripts need not tell it from wrong JSON.
            Err(error @ JsonRejection::JsonDataError(_)) => Err(Problem::bad_request(error.body_text())),
            Err(error) => Err(Problem::new(error.status(), "bad-request", error.body_text())),
        }
    }
}

/// Reads an id out of a path; a text that is no id names nothing.
pub(crate) fn parse_id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(what))
}

async fn session(Operator(login): Operator) -> Json<Value> {
    Json(json!({ "user": login.user, "csrf": login.csrf.reveal() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    name: String,
    password: Secret,
}

async fn login(
    State(app): State<App>,
    Asker(from): Asker,
    headers: HeaderMap,
    Body(body): Body<LoginBody>,
) -> Result<Response, Problem> {
    if !is_same_origin(&headers) {
        return Err(Problem::forged());
    }
    let (token, login) = app.accounts.log_in(&body.name, body.password, from).await?;
    let answer = Json(json!({ "csrf": login.csrf.reveal() }));
    Ok(([(header::SET_COOKIE, cookie_of(&token, &app))], answer).into_response())
}

async fn devices(State(app): State<App>, _: Operator) -> Json<Vec<DeviceView>> {
    let devices = app.fleet.list();
    Json(devices.iter().map(|device| DeviceView::of(device, app.sessions.of_device(&device.record.id))).collect())
}

async fn device(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Json<DeviceView>, Problem> {
    let id: DeviceId = parse_id(&id, "device")?;
    let device = app.fleet.get(&id).ok_or_else(|| Problem::not_found("device"))?;
    Ok(Json(DeviceView::of(&device, app.sessions.of_device(&id))))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StartBody {
    destinations: Vec<String>,
    bitrate_max_kbps: Option<u64>,
    latency_ms: Option<u32>,
}

async fn start(
    State(app): State<App>,
    Writer(login): Writer,
    Path(id): Path<String>,
    Body(body): Body<StartBody>,
) -> Result<Json<Value>, Problem> {
    let request = StartRequest {
        destinations: body.destinations,
        bitrate_max: body.bitrate_max_kbps.map(Bitrate::from_kbps),
        latency_ms: body.latency_ms,
    };
    let stream = app.sessions.start(&parse_id(&id, "device")?, request, &login.user).await?;
    Ok(Json(json!({ "stream": stream })))
}

async fn stop(State(app): State<App>, Writer(login): Writer, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let stream = app.sessions.stop(&parse_id(&id, "device")?, &login.user).await?;
    Ok(Json(json!({ "stream": stream })))
}

async fn settings(
    State(app): State<App>,
    Writer(login): Writer,
    Path(id): Path<String>,
    Body(body): Body<SettingsRequest>,
) -> Result<Json<Value>, Problem> {
    let command = app.order_settings(&parse_id(&id, "device")?, body, &login.user)?;
    Ok(Json(json!({ "command": command })))
}

async fn revoke(State(app): State<App>, Writer(login): Writer, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let device: DeviceId = parse_id(&id, "device")?;
    app.revoke(&device, &login.user).await?;
    Ok(Json(json!({ "revoked": device })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    name: String,
}

async fn claims(
    State(app): State<App>,
    Writer(login): Writer,
    Body(body): Body<ClaimBody>,
) -> Result<Json<Value>, Problem> {
    let link = app.enrolment.make_claim(&body.name, &login.user, &app.address).await?;
    tracing::info!(by = login.user, name = body.name, "claim code made");
    Ok(Json(json!({ "claim_link": link.reveal(), "expires_in_s": CLAIM_TTL.as_secs() })))
}

#[derive(Serialize)]
struct DestinationView {
    id: String,
    name: String,
    kind: DestinationKind,
    url: String,
    has_key: bool,
}

async fn destinations(State(app): State<App>, _: Operator) -> Result<Json<Vec<DestinationView>>, Problem> {
    let records = app.store.scan::<DestinationRecord>()?;
    let view = |it: DestinationRecord| DestinationView {
        has_key: it.secret.is_some(),
        id: it.id,
        name: it.name,
        kind: it.kind,
        url: it.url,
    };
    Ok(Json(records.into_iter().map(view).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationBody {
    name: String,
    kind: DestinationKind,
    url: String,
    #[serde(default)]
    key: Option<Secret>,
    #[serde(default)]
    passphrase: Option<Secret>,
}

async fn add_destination(
    State(app): State<App>,
    Writer(login): Writer,
    Body(body): Body<DestinationBody>,
) -> Result<Json<Value>, Problem> {
    let secret = match body.kind {
        DestinationKind::Rtmp => body.key,
        DestinationKind::Srt => body.passphrase,
    };
    let new = NewDestination { name: body.name, kind: body.kind, url: body.url, secret: secret.unwrap_or_default() };
    let record = destinations::add(&app.store, &app.sealer, new).await?;
    tracing::info!(by = login.user, destination = record.id, "destination added");
    Ok(Json(json!({ "id": record.id })))
}

async fn streams(State(app): State<App>, _: Operator) -> Result<Json<Vec<StreamView>>, Problem> {
    let history = app.sessions.history()?.into_iter().take(STREAMS_LISTED_MAX);
    Ok(Json(history.map(|stream| StreamView::of(stream, None)).collect()))
}

async fn stream(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Json<StreamView>, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    let stream = app.sessions.get(&id)?.ok_or_else(|| Problem::not_found("stream"))?;
    let device = app.fleet.get(&stream.record.device);
    Ok(Json(StreamView::of(stream, device.as_ref())))
}
