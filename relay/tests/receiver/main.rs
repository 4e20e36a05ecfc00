//! The real receiver process with real media: ffmpeg encodes, the bond carries it over loopback, ffmpeg and ffprobe judge what
//! comes out. Nothing is a mock; a tool that is missing is a failure that names it.
#![allow(clippy::unwrap_used)] // helpers of tests may, as tests may

mod continuity;
mod full_disk;
mod key_frame;
mod rtmps;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod support;
