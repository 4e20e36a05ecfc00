//! The real `strata-streamer` process over its real socket and a real bond on loopback; what it sends is decoded and judged
//! by content.

#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers too

mod lan;
mod life;
mod media;
mod probe;
mod rig;
