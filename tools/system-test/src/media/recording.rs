//! A recording: MPEG-TS parts in a directory.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The parts, oldest first: their names sort by time.
///
/// # Errors
/// The directory cannot be read.
pub fn parts(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("no recording in {}", directory.display()))?;
    let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "ts"));
    parts.sort();
    Ok(parts)
}

/// Writes all parts one after the other into `file` (MPEG-TS can be cut and joined at packets); gives their number.
///
/// # Errors
/// There is no part, or a file cannot be read or written.
pub fn join(directory: &Path, file: &Path) -> Result<usize> {
    let parts = parts(directory)?;
    if parts.is_empty() {
        bail!("no recording part in {}", directory.display());
    }
    let mut whole = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    for part in &parts {
        let mut bytes = File::open(part).with_context(|| format!("cannot read {}", part.display()))?;
        std::io::copy(&mut bytes, &mut whole).with_context(|| format!("cannot copy {}", part.display()))?;
    }
    Ok(parts.len())
}
