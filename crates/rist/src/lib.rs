//! RIST (Reliable Internet Stream Transport), Simple and Main Profile, without I/O.
#![warn(missing_docs)]

pub mod null_deletion;
pub mod sequence;
#[cfg(test)]
mod test_support;
pub mod wire;
