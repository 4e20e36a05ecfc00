//! The elements in running pipelines, against each other and against the flow at the far end.
#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers too

mod back_pressure;
mod interface;
mod links;
mod payloads;
mod restart;
mod support;
mod threads;
