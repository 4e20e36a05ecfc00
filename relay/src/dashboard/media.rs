//! Files of a stream: HLS for the player, the list of the recording.

use super::guard::Operator;
use crate::api::parse_id;
use crate::app::App;
use crate::problem::Problem;
use crate::sessions::{is_hls_name, recording_files};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::io;
use units::StreamId;

/// Largest HLS segment that is served, bytes.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most files of a recording that are listed.
pub const RECORDING_FILES_MAX: usize = 10_000;

/// `GET /streams/{id}/hls/{file}`.
pub async fn hls(
    State(app): State<App>,
    _: Operator,
    Path((id, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    if !is_hls_name(&file) {
        return Err(Problem::not_found("file"));
    }
    let path = app.sessions.directory(&id).join("hls").join(&file);
    let absent = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::not_found("file"),
        _ => Problem::ours(&error),
    };
    if tokio::fs::metadata(&path).await.map_err(absent)?.len() > SEGMENT_BYTES_MAX {
        return Err(Problem::not_found("file of that size"));
    }
    let bytes = tokio::fs::read(&path).await.map_err(absent)?;
    let playlist = file.rsplit('.').next() == Some("m3u8");
    let kind = if playlist { "application/vnd.apple.mpegurl" } else { "video/mp2t" };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

/// `GET /streams/{id}/recording`.
pub async fn recording(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    app.sessions.get(&id)?.ok_or_else(|| Problem::not_found("stream"))?;
    let directory = app.sessions.directory(&id);
    let listed = tokio::task::spawn_blocking(move || recording_files(&directory, RECORDING_FILES_MAX)).await;
    let files = listed.map_err(|error| Problem::ours(&error))?.map_err(|error| Problem::ours(&error))?;
    let files: Vec<Value> = files.into_iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
    Ok(Json(json!({ "files": files })))
}
