//! The history, and a stream's own page.

use super::{Frame, fragment, render};
use crate::api::parse_id;
use crate::app::App;
use crate::dashboard::assets;
use crate::dashboard::format;
use crate::dashboard::guard::Operator;
use crate::dashboard::media::RECORDING_FILES_MAX;
use crate::dashboard::stream_view::{self, ChartPoint, Figure, LinkRow, OutputRow, StreamHead};
use crate::dashboard::words::{Badge, sentence};
use crate::problem::Problem;
use crate::sessions::files::recording_files;
use crate::sessions::live::{StreamSnapshot, StreamWord};
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use units::StreamId;

/// Streams shown in the history.
const HISTORY_ROWS_MAX: usize = 200;

pub(super) struct HistoryRow {
    pub(super) id: String,
    pub(super) device_name: String,
    pub(super) badge: Badge,
    pub(super) created: String,
    pub(super) lasted: String,
    pub(super) started_by: String,
    pub(super) outcome: String,
    pub(super) destinations: String,
}

impl HistoryRow {
    pub(super) fn new(stream: &StreamSnapshot) -> Self {
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
            outcome: sentence(&outcome),
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

pub(in crate::dashboard) async fn streams(State(app): State<App>, login: Operator) -> Result<Response, Problem> {
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
pub(in crate::dashboard) struct StreamParts {
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
pub(in crate::dashboard) async fn recording_summary(app: &App, id: &StreamId) -> Option<(usize, String)> {
    let directory = app.sessions.directory(id);
    let limit = RECORDING_FILES_MAX;
    let files = tokio::task::spawn_blocking(move || recording_files(&directory, limit)).await.ok()?.ok()?;
    let parts = files.iter().filter(|(name, _)| name.rsplit('.').next() == Some("ts"));
    let bytes: Vec<u64> = parts.map(|(_, bytes)| *bytes).collect();
    (!bytes.is_empty()).then(|| (bytes.len(), format::bytes(bytes.iter().sum())))
}

impl StreamParts {
    pub(in crate::dashboard) fn of(
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

    pub(in crate::dashboard) fn chart_point(&self, after: f64) -> Option<ChartPoint> {
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

    pub(in crate::dashboard) fn fragments(&self) -> Vec<(&'static str, String)> {
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

pub(in crate::dashboard) async fn stream(
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
