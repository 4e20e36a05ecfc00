//! The device's stream: what it should be doing, and the streamer process that does it.
//!
//! * [`machine`]: every state of a stream and every move between them; pure.
//! * [`port`]: the streamer process: starting, connecting, speaking, killing.
//! * [`record`]: the running stream on disk, sealed, so that a device that lost power goes on by itself.

pub mod machine;
pub mod port;
pub mod record;

pub use machine::{Action, Busy, Event, Generation, Kept, LaunchMode, Machine, Milestone, WorkerEvent};
