//! `bond-send` and `bond-receive` as an engineer starts them.

mod command_line;
mod ends;
mod media_ways;
#[path = "../support/mod.rs"]
mod support;

const SEND: &str = env!("CARGO_BIN_EXE_bond-send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_bond-receive");
/// Where every byte counts: a second that a busy machine takes away must not be missed.
const LATENCY_MS: u32 = 1400;

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
