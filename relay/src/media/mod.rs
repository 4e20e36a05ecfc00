//! Media in and out of MPEG-TS, in plain Rust: packets, tables, access units, parameter sets, and the one output
//! timeline. Pure: no socket, file, thread or clock.
//!
//! [`demux::Demuxer`] with [`timeline::Timeline`] makes [`unit::Unit`]s of packets; [`mux::Muxer`] makes packets of units.

pub mod aac;
pub mod bits;
pub mod demux;
pub mod mux;
pub mod nal;
pub mod packet;
pub mod pes;
pub mod psi;
pub mod timeline;
pub mod unit;
pub mod video;

#[cfg(test)]
pub(crate) mod samples;
