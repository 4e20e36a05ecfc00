//! A stream's files: which may be served, and what the recording holds.

use std::fs;
use std::io;
use std::path::Path;

/// Whether `file` may be served from a stream's `hls/` directory: one plain name.
pub fn is_hls_name(file: &str) -> bool {
    let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !stem.is_empty() && stem.chars().all(plain) && matches!(extension, "m3u8" | "ts") && file.len() <= 64
}

/// Files of a stream's recording: name and bytes, by name. At most `limit`.
///
/// # Errors
/// The directory cannot be read; an absent one is empty.
pub fn recording_files(directory: &Path, limit: usize) -> io::Result<Vec<(String, u64)>> {
    let entries = match fs::read_dir(directory.join("recording")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries.take(limit) {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_hls_names_are_served() {
        for good in ["live.m3u8", "segment-00012.ts", "a_b.ts"] {
            assert!(is_hls_name(good), "{good}");
        }
        for bad in ["", "..", "../receiver.sock", "a/b.ts", ".ts", "live.m3u8/", "x.key", "a..ts", "a%2fb.ts"] {
            assert!(!is_hls_name(bad), "{bad}");
        }
    }
}
