//! Quantities whose unit is their type.
//!
//! A rate is a [`Bitrate`], never a bare number of kilobits; a point in time of the sans-IO crates is a
//! [`Timestamp`], which only the edge (sockets, programs) makes from a clock. Ids are checked once, where
//! they enter, and are safe in topics, paths and log fields from then on. A [`Secret`] never prints itself.

mod ecn;
mod id;
mod quantity;
mod secret;
mod span;
mod timestamp;

pub use ecn::Ecn;
pub use id::{DeviceId, IdError, LinkId, StreamId};
pub use quantity::{Bitrate, ByteCount, LossRatio};
pub use secret::Secret;
pub use span::{as_millis_f32, as_millis_f64};
pub use timestamp::Timestamp;
