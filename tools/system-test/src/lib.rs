//! The whole product on one machine: emulated links, real programs, real readers, the dashboard's HTTP, and judgement of the
//! media that comes out.
//!
//! * [`emulator`]: cellular links in user space between a sender and a receiver on this machine; no root needed.
//! * [`lab`]: starts, watches, kills and ends the relay, the agent and the readers, all below one directory.
//! * [`dashboard`]: the relay's HTTP as an operator's script uses it.
//! * [`readers`]: RTMP and SRT listeners (ffmpeg) that play the streaming platform.
//! * [`media`]: decodes what came out and compares it with the source.
//! * [`demo`]: `make demo`.
//! * [`latency`]: the age of the picture at every output, measured in the picture itself.
//! * [`figures`]: `make figures`.
//!
//! Nothing here is part of the product; it may depend on all of it, and nothing depends on it.

pub mod dashboard;
pub mod demo;
pub mod emulator;
pub mod figures;
pub mod lab;
pub mod latency;
pub mod media;
pub mod readers;
