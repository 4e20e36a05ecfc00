//! The whole product on this machine: real programs, real sockets, the dashboard's HTTP, media judged by content.
//!
//! Needs the product's programs in the target directory, ffmpeg, Chromium, node and the clip: `make system` sees to all.
#![allow(clippy::unwrap_used)] // helpers of tests

mod access;
mod browser;
mod crew;
mod demo;
mod device;
mod faults;
mod latency;
mod live;
mod rig;
mod secrets;
