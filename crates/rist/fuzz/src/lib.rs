//! What the fuzz targets run. Each takes any bytes; a panic is a finding.

#[path = "../../tests/common/checks.rs"]
pub mod checks;
#[path = "../../tests/common/seeds.rs"]
mod messages;

pub mod bond;
pub mod extension;
pub mod login;
/// What the bond's files that are included name of their crate.
mod payload {
    pub use ::bond::PAYLOAD_BYTES_MAX;
}
mod script;
pub mod session;
pub mod tunnel;

use rist::null_deletion::{delete, restore};
use std::path::PathBuf;

/// What is left out comes back.
pub fn null_deletion(bytes: &[u8]) {
    let mut shortened = Vec::new();
    if let Some(extension) = delete(bytes, &mut shortened) {
        let mut restored = Vec::new();
        restore(&extension, &shortened, &mut restored).expect("what was deleted can be restored");
        assert_eq!(restored, bytes);
    }
    checks::rtp(bytes);
}

/// Writes the inputs to begin with into the directory that the environment variable `FUZZ_SEEDS` names, if it does; the
/// fuzzer reads its directories afterwards.
///
/// # Panics
/// They can not be written.
#[allow(clippy::disallowed_methods)] // the fuzzer passes all arguments on to libFuzzer
pub fn write_seeds() {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, bytes) in seeds().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), bytes).expect("the directory of FUZZ_SEEDS");
    }
}

/// Inputs to begin with, for all targets: every captured message as it is, as the bytes of a script, and scripts in which
/// every step occurs.
fn seeds() -> Vec<Vec<u8>> {
    let corpus = messages::corpus();
    let mut seeds = corpus.clone();
    for message in &corpus {
        let length = (message.len() as u16).to_be_bytes();
        seeds.push([&[0, 4][..], &length, message].concat());
    }
    let mut all_steps = Vec::new();
    for round in 0..12u8 {
        for step in 0..26u8 {
            all_steps.extend([step, round, 40]);
        }
    }
    seeds.push(all_steps);
    seeds.push([[0, 0, 3, 2, 1, 3, 3, 1, 2]; 30].concat());
    // TS packets, two of seven null.
    let mut payload = Vec::new();
    for packet in 0..7u8 {
        let null = packet == 2 || packet == 5;
        payload.extend(if null { [0x47, 0x1f, 0xff, 0x10] } else { [0x47, 1, 0, 0x10] });
        payload.resize(payload.len() + 184, if null { 0xff } else { packet });
    }
    seeds.push(payload);
    // Of the bond's extension: a report of two links with ECN counts, a repair packet of three, a list, an announcement.
    let link = |words: u8| {
        [&[0, 7, 0, words][..], &[0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 5], &[0xa5; 64][..4 * usize::from(words)]].concat()
    };
    let head = [&[1, 2, 3, 232][..], &[1; 20]].concat();
    seeds.push([head, link(3), link(1), vec![1, 2, 0, 0], vec![2; 16]].concat());
    seeds.push([&[1, 1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 3][..], &[9; 40]].concat());
    seeds.push(vec![1, 3, 0, 7, 0, 9, 1, 0]);
    seeds.push([&[1, 0, 0, 2, 3, 232, 5][..], b"modem"].concat());
    seeds
}
