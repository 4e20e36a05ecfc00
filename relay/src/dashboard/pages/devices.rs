//! The list of devices, adding one, and a device's own page.

use super::destinations::kind_word;
use super::streams::HistoryRow;
use super::{Frame, fragment, render};
use crate::api::parse_id;
use crate::app::App;
use crate::dashboard::assets;
use crate::dashboard::device_detail::{DeviceDetail, InputRow};
use crate::dashboard::device_view::{DeviceRow, Summary};
use crate::dashboard::guard::{Operator, SignedForm};
use crate::dashboard::wants_json;
use crate::enrolment::CLAIM_TTL;
use crate::orders::SettingsRequest;
use crate::problem::Problem;
use crate::sessions::StartRequest;
use crate::sessions::live::StreamSnapshot;
use crate::store::DestinationRecord;
use askama::Template;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use units::{Bitrate, DeviceId};

/// Past streams shown on a device's page.
const DEVICE_HISTORY_ROWS_MAX: usize = 8;

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    frame: Frame,
    summary: String,
    list: String,
}

#[derive(Template)]
#[template(path = "parts/summary.html")]
struct SummaryPart {
    summary: Summary,
}

#[derive(Template)]
#[template(path = "parts/devices.html")]
struct DevicesPart<'a> {
    rows: Vec<DeviceRow>,
    csrf: &'a str,
}

/// The pieces of the devices page.
pub(in crate::dashboard) fn devices_fragments(app: &App, csrf: &str) -> Vec<(&'static str, String)> {
    let mut rows: Vec<DeviceRow> = app
        .fleet
        .list()
        .iter()
        .map(|device| {
            let id = &device.record.id;
            DeviceRow::new(device, app.sessions.of_device(id).as_ref(), app.sessions.last_over(id).as_ref())
        })
        .collect();
    rows.sort_by(|a, b| (a.urgency, a.name.to_lowercase(), &a.id).cmp(&(b.urgency, b.name.to_lowercase(), &b.id)));
    let summary = fragment(&SummaryPart { summary: Summary::of(&rows) });
    vec![("summary", summary), ("devices", fragment(&DevicesPart { rows, csrf }))]
}

pub(in crate::dashboard) async fn devices(State(app): State<App>, login: Operator) -> Response {
    let frame = Frame::new(&app, &login, "devices", "Devices").following("/devices-events".to_owned());
    let mut parts = devices_fragments(&app, &frame.csrf).into_iter().map(|(_, html)| html);
    let (summary, list) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    render(&DevicesPage { frame, summary, list })
}

#[derive(Template)]
#[template(path = "claim.html")]
struct ClaimPage {
    frame: Frame,
    name: String,
    link: String,
    minutes: u64,
}

pub(in crate::dashboard) async fn make_claim(
    State(app): State<App>,
    headers: HeaderMap,
    SignedForm(login, fields): SignedForm,
) -> Result<Response, Problem> {
    let name = fields.get("name").unwrap_or_default().to_owned();
    let link = app.enrolment.make_claim(&name, &login.user, &app.address).await?;
    tracing::info!(by = login.user, name, "claim code made");
    if wants_json(&headers) {
        let answer = serde_json::json!({ "claim_link": link.reveal(), "expires_in_s": CLAIM_TTL.as_secs() });
        return Ok(Json(answer).into_response());
    }
    let frame = Frame::new(&app, &Operator(login), "devices", "Add a device").following("/devices-events".to_owned());
    Ok(render(&ClaimPage { frame, name, link: link.reveal(), minutes: CLAIM_TTL.as_secs() / 60 }))
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    frame: Frame,
    id: String,
    head: String,
    detail: String,
    name: String,
    revoked: bool,
    destinations: Vec<DestinationChoice>,
    latency_ms: u32,
    bitrate_max_kbps: u64,
    inputs: Vec<InputRow>,
    history: Vec<HistoryRow>,
}

struct DestinationChoice {
    id: String,
    name: String,
    kind: &'static str,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "parts/device_head.html")]
struct DeviceHeadPart<'a> {
    row: &'a DeviceRow,
    csrf: &'a str,
}

#[derive(Template)]
#[template(path = "parts/device_detail.html")]
struct DeviceDetailPart<'a> {
    detail: &'a DeviceDetail,
}

/// The pieces of a device's page.
pub(in crate::dashboard) struct DeviceParts {
    row: DeviceRow,
    detail: DeviceDetail,
    csrf: String,
}

impl DeviceParts {
    pub(in crate::dashboard) fn of(app: &App, id: &DeviceId, csrf: &str) -> Option<Self> {
        let device = app.fleet.get(id)?;
        let (stream, last) = (app.sessions.of_device(id), app.sessions.last_over(id));
        let row = DeviceRow::new(&device, stream.as_ref(), last.as_ref());
        Some(Self { row, detail: DeviceDetail::new(&device), csrf: csrf.to_owned() })
    }

    pub(in crate::dashboard) fn fragments(&self) -> Vec<(&'static str, String)> {
        let head = fragment(&DeviceHeadPart { row: &self.row, csrf: &self.csrf });
        vec![("head", head), ("detail", fragment(&DeviceDetailPart { detail: &self.detail }))]
    }
}

pub(in crate::dashboard) async fn device(
    State(app): State<App>,
    login: Operator,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id: DeviceId = parse_id(&id, "device")?;
    let device = app.fleet.get(&id).ok_or_else(|| Problem::not_found("device"))?;
    let frame =
        Frame::new(&app, &login, "devices", device.name.clone()).following(format!("/devices-events?device={id}"));
    let parts = DeviceParts::of(&app, &id, &frame.csrf).ok_or_else(|| Problem::not_found("device"))?;
    let mut fragments = parts.fragments().into_iter().map(|(_, html)| html);
    let (head, detail) = (fragments.next().unwrap_or_default(), fragments.next().unwrap_or_default());
    let history: Vec<StreamSnapshot> =
        app.sessions.history()?.into_iter().filter(|it| it.record.device == id).take(DEVICE_HISTORY_ROWS_MAX).collect();
    let usual: Vec<String> =
        history.first().map(|it| it.record.destinations.iter().map(|it| it.id.clone()).collect()).unwrap_or_default();
    let choice = |it: DestinationRecord| DestinationChoice {
        chosen: usual.contains(&it.id),
        kind: kind_word(it.kind),
        id: it.id,
        name: it.name,
    };
    let last = history.first().map(|it| &it.record);
    Ok(render(&DevicePage {
        id: id.to_string(),
        head,
        detail,
        name: device.name.clone(),
        revoked: device.record.revoked_ms.is_some(),
        destinations: app.store.scan::<DestinationRecord>()?.into_iter().map(choice).collect(),
        latency_ms: last.map_or(app.config.streams.latency_ms, |it| it.latency_ms),
        bitrate_max_kbps: last.map_or(app.config.streams.bitrate_max_kbps, |it| it.encoding.bitrate_max.as_kbps()),
        inputs: parts.detail.inputs.clone(),
        history: history.iter().map(HistoryRow::new).collect(),
        frame,
    }))
}

pub(in crate::dashboard) async fn start(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, fields): SignedForm,
) -> Result<Redirect, Problem> {
    let request = StartRequest {
        destinations: fields.all("destination").map(str::to_owned).collect(),
        bitrate_max: fields.number("bitrate_max_kbps")?.map(Bitrate::from_kbps),
        latency_ms: fields.number("latency_ms")?,
    };
    let stream = app.sessions.start(&parse_id(&id, "device")?, request, &login.user).await?;
    Ok(Redirect::to(&format!("/streams/{stream}")))
}

pub(in crate::dashboard) async fn stop(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, fields): SignedForm,
) -> Result<Redirect, Problem> {
    let stream = app.sessions.stop(&parse_id(&id, "device")?, &login.user).await?;
    Ok(match fields.get("back") {
        Some("stream") => Redirect::to(&format!("/streams/{stream}")),
        Some("devices") => Redirect::to("/"),
        _ => Redirect::to(&format!("/devices/{id}")),
    })
}

pub(in crate::dashboard) async fn settings(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, fields): SignedForm,
) -> Result<Redirect, Problem> {
    let asked = SettingsRequest {
        name: fields.get("name").map(str::to_owned),
        input: fields.get("input").map(str::to_owned),
        latency_ms: fields.number("latency_ms")?,
        bitrate_max_kbps: fields.number("bitrate_max_kbps")?,
    };
    app.order_settings(&parse_id(&id, "device")?, asked, &login.user)?;
    Ok(Redirect::to(&format!("/devices/{id}")))
}

pub(in crate::dashboard) async fn revoke(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, _): SignedForm,
) -> Result<Redirect, Problem> {
    app.revoke(&parse_id(&id, "device")?, &login.user).await?;
    Ok(Redirect::to("/"))
}
