//! Where streams are sent on to.

use super::{Frame, render};
use crate::app::App;
use crate::dashboard::assets;
use crate::dashboard::guard::{Operator, SignedForm};
use crate::destinations::{self, NewDestination};
use crate::problem::Problem;
use crate::store::{DestinationKind, DestinationRecord};
use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Redirect, Response};
use protocol::Secret;

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

pub(super) const fn kind_word(kind: DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Rtmp => "RTMP",
        DestinationKind::Srt => "SRT",
    }
}

pub(in crate::dashboard) async fn destinations(State(app): State<App>, login: Operator) -> Result<Response, Problem> {
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

pub(in crate::dashboard) async fn add_destination(
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

pub(in crate::dashboard) async fn delete_destination(
    State(app): State<App>,
    Path(id): Path<String>,
    SignedForm(login, _): SignedForm,
) -> Result<Redirect, Problem> {
    let record = destinations::delete(&app.store, &id).await?;
    tracing::info!(by = login.user, destination = record.id, "destination deleted");
    Ok(Redirect::to("/destinations"))
}
