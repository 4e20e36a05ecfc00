//! Seeded network links in virtual time.
//!
//! A [`Link`] is one direction: a drop-tail queue in front of a bottleneck whose capacity is constant, stepped or
//! replayed from a recording, then loss, then propagation delay with jitter, reordering and duplicates. A [`Path`] is
//! both directions of one network path with what they share: outages and NAT rebinding. Several links can share one
//! [`Bottleneck`]. Nothing here reads a clock or a file: time is an argument, a recording is parsed from text, chance
//! comes from a seed. The same seed and calls give the same deliveries, byte for byte.
//!
//! The order of events is: MTU, outage, queue, bottleneck, loss, delay. Lost packets therefore cost capacity, as they do
//! behind a radio link. Service is first in, first out and the capacity is known in advance, so the moment a packet
//! leaves the bottleneck is computed when it arrives; a link costs nothing while nothing is sent.
//!
//! Bounds: a link holds at most `queue_bytes` in its queue plus what is propagating, and never more than
//! [`PACKETS_MAX`] packets.

mod bottleneck;
mod capacity;
mod clock;
mod config;
mod link;
mod loss;
mod path;
mod rng;
mod stalls;

pub use bottleneck::Bottleneck;
pub use capacity::Trace;
pub use clock::SkewedClock;
pub use config::{BurstLoss, BurstPeriod, Capacity, ConfigError, EcnPath, LinkConfig, Outage, OutageKind, PathConfig};
pub use link::{Delivery, DropReason, Link, LinkStats, PACKETS_MAX};
pub use path::Path;
pub use rng::Rng;
