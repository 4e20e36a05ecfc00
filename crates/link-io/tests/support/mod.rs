//! What the tests with real processes and sockets share.
#![allow(dead_code)] // each test program uses its own part

pub mod cases;
pub mod matrix;
pub mod media;
pub mod network;
pub mod piped;
pub mod proxy;
pub mod seen;
pub mod tool;
pub mod untested;
