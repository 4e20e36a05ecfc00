//! Files of a stream: HLS for the player, the list of the recording, and the recording itself as one file.

use super::guard::Operator;
use crate::api::parse_id;
use crate::app::App;
use crate::problem::Problem;
use crate::sessions::files::{is_hls_name, recording_files};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, Take};
use tokio::sync::OwnedSemaphorePermit;
use units::StreamId;

/// Largest HLS segment that is served, bytes.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Recordings that are downloaded at once; one more is told to come back.
pub const DOWNLOADS_MAX: usize = 16;
/// What is read of a recording at a time.
const CHUNK_BYTES: usize = 256 * 1024;
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

/// `GET /streams/{id}/recording.ts`: all parts, one after the other, as they are now.
pub async fn download(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Response, Problem> {
    let id: StreamId = parse_id(&id, "stream")?;
    let permit = Arc::clone(&app.downloads).try_acquire_owned().map_err(|_| {
        let detail = "too many recordings are being downloaded; try again when one is done";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-downloads", detail)
    })?;
    let directory = app.sessions.directory(&id);
    let listed = tokio::task::spawn_blocking(move || {
        let files = recording_files(&directory, RECORDING_FILES_MAX)?;
        let parts = files.into_iter().filter(|(name, _)| is_part_name(name));
        io::Result::Ok(parts.map(|(name, bytes)| (directory.join("recording").join(name), bytes)).collect::<Vec<_>>())
    });
    let parts = listed.await.map_err(|error| Problem::ours(&error))?.map_err(|error| Problem::ours(&error))?;
    let length: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    if length == 0 {
        return Err(Problem::not_found("recording"));
    }
    let headers = [
        (header::CONTENT_TYPE, "video/mp2t".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"strata-{id}.ts\"")),
    ];
    let reading = Reading { parts: parts.into(), open: None, _permit: permit };
    Ok((headers, Body::from_stream(try_unfold(reading, Reading::next))).into_response())
}

fn is_part_name(name: &str) -> bool {
    name.starts_with("part-") && name.rsplit('.').next() == Some("ts")
}

/// A recording on its way to a browser.
struct Reading {
    /// Path and length of the parts to come; what is recorded meanwhile is not sent.
    parts: VecDeque<(PathBuf, u64)>,
    open: Option<Take<File>>,
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let Some(file) = &mut self.open else {
                let Some((path, bytes)) = self.parts.pop_front() else { return Ok(None) };
                self.open = Some(File::open(path).await?.take(bytes));
                continue;
            };
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            if file.read_buf(&mut chunk).await? > 0 {
                return Ok(Some((chunk.freeze(), self)));
            }
            self.open = None;
        }
    }
}
