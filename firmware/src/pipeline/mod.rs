//! The streamer's data plane: source, encoder, multiplexer, bond.
//!
//! Two GStreamer pipelines share one clock. The *source* pipeline ([`source`]) opens what the picture comes from and ends in
//! raw video and raw sound; the *sending* pipeline ([`send`]) encodes, multiplexes and hands MPEG-TS to the bond. Between
//! them a [`feed`] gives every buffer its place on one continuous [`timeline`], so that a looped file, a camera plugged in
//! again or a reopened network stream never restarts the encoder, the multiplexer or the bond.
//!
//! [`session`] runs one stream from start to stop, [`worker`] is the process around it: the local socket on which the agent
//! speaks [`protocol::worker::streamer`]. What can be decided without GStreamer is decided in pure modules: [`picture`]
//! (output size and frame rate), [`rate`] (encoder bitrate from the bond's advice), [`timeline`].
//!
//! It refuses to know anything about the relay, the device's settings or the network beyond the links it is given.

pub mod downmix;
pub mod encoder;
pub mod fault;
pub mod feed;
pub mod picture;
pub mod rate;
pub mod rtmp;
pub mod send;
pub mod session;
pub mod slate;
pub mod source;
pub mod telemetry;
pub mod timeline;
pub mod worker;
