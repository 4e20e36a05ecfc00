//! The pages' handlers and their templates' views.

use super::assets;
use super::device_view::{Badge, DeviceDetail, DeviceRow, Summary};
use super::format;
use super::guard::{Asker, COOKIE_GONE, OpenForm, Operator, SignedForm, cookie_of};
use super::stream_view::{self, ChartPoint, Figure, LinkRow, OutputRow, StreamHead};
use crate::api::parse_id;
use crate::app::App;
use crate::destinations::{self, NewDestination};
use crate::enrolment::CLAIM_TTL;
use crate::orders::SettingsRequest;
use crate::problem::Problem;
use crate::sessions::live::{StreamSnapshot, StreamWord};
use crate::sessions::{StartRequest, recording_files};
use crate::store::{DestinationKind, DestinationRecord};
use askama::Template;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use protocol::Secret;
use serde::Deserialize;
use units::{Bitrate, DeviceId, StreamId};

/// Streams shown in the history.
const HISTORY_ROWS_MAX: usize = 200;
/// Past streams shown on a device's page.
const DEVICE_HISTORY_ROWS_MAX: usize = 8;

/// What every page's frame needs.
struct Frame {
    title: String,
    section: &'static str,
    user: String,
    csrf: String,
    /// Address of the page's events; empty for none.
    follow: String,
    notice: String,
}

#[derive(Template)]
#[template(path = "parts/notice.html")]
struct NoticePart {
    notice: Option<(&'static str, String)>,
}

/// What every page says above all else, where there is something to say.
pub(super) fn notice_fragment(app: &App) -> (&'static str, String) {
    ("notice", fragment(&NoticePart { notice: crate::retention::disk_notice(&app.config) }))
}

impl Frame {
    fn new(app: &App, login: &Operator, section: &'static str, title: impl Into<String>) -> Self {
        let csrf = login.0.csrf.reveal().to_owned();
        let notice = notice_fragment(app).1;
        Self { title: title.into(), section, user: login.0.user.clone(), csrf, follow: String::new(), notice }
    }

    fn following(mut self, address: String) -> Self {
        self.follow = address;
        self
    }
}

fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => Problem::ours(&error).into_response(),
    }
}

fn fragment(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a template failed");
        String::new()
    })
}

// ---- log-in ----

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    next: String,
    name: String,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NextQuery {
    #[serde(default)]
    next: String,
}

/// Only a path of this relay is gone to after the log-in.
fn safe_next(next: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    if next.starts_with('/') && !next.starts_with("//") && next.chars().all(plain) {
        next.to_owned()
    } else {
        "/".to_owned()
    }
}

pub(super) async fn login_page(Query(query): Query<NextQuery>) -> Response {
    render(&LoginPage { next: safe_next(&query.next), name: String::new(), error: None })
}

pub(super) async fn log_in(
    State(app): State<App>,
    Asker(from): Asker,
    OpenForm(fields): OpenForm,
) -> Result<Response, Problem> {
    let (name, password) = (fields.get("name").unwrap_or_default(), fields.get("password").unwrap_or_default());
    let next = safe_next(fields.get("next").unwrap_or_default());
    match app.accounts.log_in(name, Secret::new(password), from).await {
        Ok((token, _)) => Ok(([(header::SET_COOKIE, cookie_of(&token, &app))], Redirect::to(&next)).into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            if problem.status == StatusCode::INTERNAL_SERVER_ERROR {
                return Err(problem);
            }
            let page =
                LoginPage { next, name: name.to_owned(), error: Some(super::device_view::sentence(&problem.detail)) };
            Ok((problem.status, render(&page)).into_response())
        }
    }
}

pub(super) async fn log_out(State(app): State<App>, SignedForm(login, _): SignedForm) -> Result<Response, Problem> {
    app.accounts.log_out(&login).await?;
    Ok(([(header::SET_COOKIE, COOKIE_GONE)], Redirect::to("/login")).into_response())
}

// ---- devices ----

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
pub(super) fn devices_fragments(app: &App, csrf: &str) -> Vec<(&'static str, String)> {
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

pub(super) async fn devices(State(app): State<App>, login: Operator) -> Response {
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

pub(super) async fn make_claim(
    State(app): State<App>,
    headers: HeaderMap,
    SignedForm(login, fields): SignedForm,
) -> Result<Response, Problem> {
    let name = fields.get("name").unwrap_or_default().to_owned();
    let link = app.enrolment.make_claim(&name, &login.user, &app.address).await?;
    tracing::info!(by = login.user, name, "claim code made");
    if super::wants_json(&headers) {
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
    inputs: Vec<super::device_view::InputRow>,
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
pub(super) struct DeviceParts {
    row: DeviceRow,
    detail: DeviceDetail,
    csrf: String,
}

impl DeviceParts {
    pub(super) fn of(app: &App, id: &DeviceId, csrf: &str) -> Option<Self> {
        let device = app.fleet.get(id)?;
        let (stream, last) = (app.sessions.of_device(id), app.sessions.last_over(id));
        let row = DeviceRow::new(&device, stream.as_ref(), last.as_ref());
        Some(Self { row, detail: DeviceDetail::new(&device), csrf: csrf.to_owned() })
    }

    pub(super) fn fragments(&self) -> Vec<(&'static str, String)> {
        let head = fragment(&DeviceHeadPart { row: &self.row, csrf: &self.csrf });
        vec![("head", head), ("detail", fragment(&DeviceDetailPart { detail: &self.detail }))]
    }
}

pub(super) async fn device(
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

pub(super) async fn start(
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

pub(super) async fn stop(
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

pub(super) async fn settings(
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

pub(super) async fn revoke(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, _): SignedForm,
) -> Result<Redirect, Problem> {
    app.revoke(&parse_id(&id, "device")?, &login.user).await?;
    Ok(Redirect::to("/"))
}

// ---- destinations ----

#[derive(Template)]
#[template(path = "destinations.html")]
struct DestinationsPage {
    frame: Frame,
    rows: Vec<DestinationRow>,
}

struct DestinationRow {
    id: String,
    name: String,
    kind: &'static str,
    url: String,
    key: &'static str,
}

const fn kind_word(kind: DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Rtmp => "RTMP",
        DestinationKind::Srt => "SRT",
    }
}

pub(super) async fn destinations(State(app): State<App>, login: Operator) -> Result<Response, Problem> {
    let row = |it: DestinationRecord| DestinationRow {
        kind: kind_word(it.kind),
        key: match (it.secret.is_some(), it.kind) {
            (true, DestinationKind::Rtmp) => "stream key kept sealed",
            (true, DestinationKind::Srt) => "pass phrase kept sealed",
            (false, _) => "none",
        },
        id: it.id,
        name: it.name,
        url: it.url,
    };
    let rows = app.store.scan::<DestinationRecord>()?.into_iter().map(row).collect();
    Ok(render(&DestinationsPage { frame: Frame::new(&app, &login, "destinations", "Destinations"), rows }))
}

pub(super) async fn add_destination(
    State(app): State<App>,
    SignedForm(login, fields): SignedForm,
) -> Result<Redirect, Problem> {
    let kind = match fields.get("kind") {
        Some("rtmp") => DestinationKind::Rtmp,
        Some("srt") => DestinationKind::Srt,
        _ => return Err(Problem::bad_request("kind is \"rtmp\" or \"srt\"")),
    };
    let text = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let new = NewDestination { name: text("name"), kind, url: text("url"), secret: Secret::new(text("key")) };
    let record = destinations::add(&app.store, &app.sealer, new).await?;
    tracing::info!(by = login.user, destination = record.id, "destination added");
    Ok(Redirect::to("/destinations"))
}

pub(super) async fn delete_destination(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, _): SignedForm,
) -> Result<Redirect, Problem> {
    let record = destinations::delete(&app.store, &id).await?;
    tracing::info!(by = login.user, destination = record.id, "destination deleted");
    Ok(Redirect::to("/destinations"))
}

// ---- streams ----

struct HistoryRow {
    id: String,
    device_name: String,
    badge: Badge,
    created: String,
    lasted: String,
    started_by: String,
    outcome: String,
    destinations: String,
}

impl HistoryRow {
    fn new(stream: &StreamSnapshot) -> Self {
        let head = StreamHead::new(stream);
        let names: Vec<&str> = stream.record.destinations.iter().map(|it| it.name.as_str()).collect();
        let lasted = match (&head.lasted, stream.record.on_air_ms) {
            (Some(lasted), _) => lasted.clone(),
            (None, Some(_)) => "still going".to_owned(),
            (None, None) => "never on air".to_owned(),
        };
        let outcome = match stream.word {
            StreamWord::Ended | StreamWord::Failed => stream.reason.clone().unwrap_or_default(),
            _ => String::new(),
        };
        Self {
            id: head.id,
            device_name: head.device_name,
            // A table that is not live must not say ON AIR: that is the receiver's word of now.
            badge: if head.over { head.badge } else { Badge { class: "ended", text: "RUNNING" } },
            created: head.created,
            lasted,
            started_by: head.started_by,
            outcome: super::device_view::sentence(&outcome),
            destinations: if names.is_empty() { "preview and recording".to_owned() } else { names.join(", ") },
        }
    }
}

#[derive(Template)]
#[template(path = "streams.html")]
struct StreamsPage {
    frame: Frame,
    rows: Vec<HistoryRow>,
}

pub(super) async fn streams(State(app): State<App>, login: Operator) -> Result<Response, Problem> {
    let rows = app.sessions.history()?.iter().take(HISTORY_ROWS_MAX).map(HistoryRow::new).collect();
    Ok(render(&StreamsPage { frame: Frame::new(&app, &login, "streams", "Streams"), rows }))
}

#[derive(Template)]
#[template(path = "stream.html")]
struct StreamPage {
    frame: Frame,
    id: String,
    over: bool,
    parts: StreamHtml,
}

struct StreamHtml {
    status: String,
    figures: String,
    links: String,
    outputs: String,
    timeline: String,
}

#[derive(Template)]
#[template(path = "parts/stream_status.html")]
struct StatusPart<'a> {
    head: &'a StreamHead,
    csrf: &'a str,
}

#[derive(Template)]
#[template(path = "parts/stream_figures.html")]
struct FiguresPart<'a> {
    figures: &'a [Figure],
    over: bool,
}

#[derive(Template)]
#[template(path = "parts/stream_links.html")]
struct LinksPart<'a> {
    links: &'a [LinkRow],
    over: bool,
}

#[derive(Template)]
#[template(path = "parts/stream_outputs.html")]
struct OutputsPart<'a> {
    id: &'a str,
    outputs: &'a [OutputRow],
    asked: &'a [String],
    recording: &'a Option<(usize, String)>,
    over: bool,
}

#[derive(Template)]
#[template(path = "parts/timeline.html")]
struct TimelinePart<'a> {
    events: &'a [(String, &'static str, String)],
}

/// The pieces of a stream's page.
pub(super) struct StreamParts {
    stream: StreamSnapshot,
    head: StreamHead,
    figures: Vec<Figure>,
    links: Vec<LinkRow>,
    outputs: Vec<OutputRow>,
    asked: Vec<String>,
    /// Parts and size.
    recording: Option<(usize, String)>,
    csrf: String,
}

/// How many parts a recording has, and how large it is.
pub(super) async fn recording_summary(app: &App, id: &StreamId) -> Option<(usize, String)> {
    let directory = app.sessions.directory(id);
    let limit = super::media::RECORDING_FILES_MAX;
    let files = tokio::task::spawn_blocking(move || recording_files(&directory, limit)).await.ok()?.ok()?;
    let parts = files.iter().filter(|(name, _)| name.rsplit('.').next() == Some("ts"));
    let bytes: Vec<u64> = parts.map(|(_, bytes)| *bytes).collect();
    (!bytes.is_empty()).then(|| (bytes.len(), format::bytes(bytes.iter().sum())))
}

impl StreamParts {
    pub(super) fn of(
        app: &App,
        id: &StreamId,
        csrf: &str,
        recording: Option<(usize, String)>,
    ) -> Result<Self, Problem> {
        let stream = app.sessions.get(id)?.ok_or_else(|| Problem::not_found("stream"))?;
        let device = app.fleet.get(&stream.record.device);
        let sender = stream_view::sender_of(&stream, device.as_ref());
        Ok(Self {
            head: StreamHead::new(&stream),
            figures: stream_view::figures(&stream, sender),
            links: stream_view::links(&stream, sender),
            outputs: stream_view::outputs(&stream),
            asked: stream.record.destinations.iter().map(|it| it.name.clone()).collect(),
            recording,
            csrf: csrf.to_owned(),
            stream,
        })
    }

    pub(super) fn chart_point(&self, after: f64) -> Option<ChartPoint> {
        // Two looks at the same figures differ by the clock's jitter only.
        stream_view::chart_point(&self.stream).filter(|point| point.at() > after + 0.3)
    }

    fn html(&self) -> StreamHtml {
        let over = self.head.over;
        StreamHtml {
            status: fragment(&StatusPart { head: &self.head, csrf: &self.csrf }),
            figures: fragment(&FiguresPart { figures: &self.figures, over }),
            links: fragment(&LinksPart { links: &self.links, over }),
            outputs: fragment(&OutputsPart {
                id: &self.head.id,
                outputs: &self.outputs,
                asked: &self.asked,
                recording: &self.recording,
                over,
            }),
            timeline: fragment(&TimelinePart { events: &stream_view::timeline(&self.stream) }),
        }
    }

    pub(super) fn fragments(&self) -> Vec<(&'static str, String)> {
        let html = self.html();
        vec![
            ("status", html.status),
            ("figures", html.figures),
            ("links", html.links),
            ("outputs", html.outputs),
            ("timeline", html.timeline),
        ]
    }
}

pub(super) async fn stream(
    State(app): State<App>,
    login: Operator,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    let frame = Frame::new(&app, &login, "streams", "Stream");
    let recording = recording_summary(&app, &id).await;
    let parts = StreamParts::of(&app, &id, &frame.csrf, recording)?;
    let over = parts.head.over;
    let frame = Frame { title: parts.head.device_name.clone(), ..frame };
    let frame = if over { frame } else { frame.following(format!("/streams/{id}/events")) };
    Ok(render(&StreamPage { frame, id: id.to_string(), over, parts: parts.html() }))
}

// ---- problems ----

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    status: u16,
    title: &'a str,
    detail: String,
}

/// A problem as a page.
pub(super) fn problem(problem: &Problem) -> Response {
    let title = match problem.status {
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::CONFLICT => "Not now",
        StatusCode::FORBIDDEN => "Not from there",
        StatusCode::BAD_REQUEST => "Not like that",
        _ => "That did not work",
    };
    let status = problem.status.as_u16();
    let page = ProblemPage { status, title, detail: super::device_view::sentence(&problem.detail) };
    (problem.status, render(&page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_leads_only_to_pages_of_this_relay() {
        assert_eq!(safe_next("/streams/abc-1"), "/streams/abc-1");
        for bad in ["//evil.example", "https://evil.example", "", "/\\evil", "/a?b=//c"] {
            assert_eq!(safe_next(bad), "/", "{bad}");
        }
    }
}
