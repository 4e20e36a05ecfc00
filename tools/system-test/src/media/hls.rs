//! HLS as a viewer gets it: playlist and segments over the dashboard's HTTP.

use crate::dashboard::Dashboard;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use std::path::Path;

/// Most segments that are fetched: a live playlist is short.
const SEGMENTS_MAX: usize = 64;

/// Fetches all segments that the live playlist of `stream` lists, one after the other, into `file`; gives their names.
///
/// # Errors
/// The playlist or a segment is absent, or the playlist lists nothing.
pub async fn fetch(dashboard: &mut Dashboard, stream: &str, file: &Path) -> Result<Vec<String>> {
    let names = playlist(dashboard, stream).await?;
    if names.is_empty() {
        bail!("the HLS playlist lists no segment");
    }
    let mut bytes = Vec::new();
    for name in &names {
        bytes.extend_from_slice(&segment(dashboard, stream, name).await?);
    }
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(names)
}

/// Fetches one segment into `file`.
///
/// # Errors
/// It is absent.
pub async fn fetch_one(dashboard: &mut Dashboard, stream: &str, name: &str, file: &Path) -> Result<()> {
    let bytes = segment(dashboard, stream, name).await?;
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

async fn segment(dashboard: &mut Dashboard, stream: &str, name: &str) -> Result<Bytes> {
    let answer = dashboard.get_raw(&format!("/streams/{stream}/hls/{name}")).await?;
    if !answer.status.is_success() {
        bail!("the listed HLS segment {name} is answered with {}", answer.status);
    }
    Ok(answer.body)
}

/// Names of the segments in the live playlist, oldest first.
///
/// # Errors
/// There is no playlist.
pub async fn playlist(dashboard: &mut Dashboard, stream: &str) -> Result<Vec<String>> {
    let answer = dashboard.get_raw(&format!("/streams/{stream}/hls/live.m3u8")).await?;
    if !answer.status.is_success() {
        bail!("the HLS playlist is answered with {}", answer.status);
    }
    let text = answer.text();
    if !text.starts_with("#EXTM3U") {
        bail!("no HLS playlist: {text:.100}");
    }
    Ok(segments(&text))
}

fn segments(playlist: &str) -> Vec<String> {
    let lines = playlist.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.take(SEGMENTS_MAX).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_lines_that_are_no_tags() {
        let playlist = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:2.0,\na-1.ts\r\n\n#EXTINF:2.0,\na-2.ts\n";
        assert_eq!(segments(playlist), ["a-1.ts", "a-2.ts"]);
    }
}
