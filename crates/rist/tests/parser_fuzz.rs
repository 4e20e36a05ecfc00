//! Goal: no datagram makes a parser panic, loop or grow beyond its bound. Method: captured and emitted messages, changed
//! by a seeded generator; every parser sees every input.
#![allow(clippy::unwrap_used)]

mod common;

use common::seeds::corpus;
use common::{Rng, checks, mutate};
use rist::srp::{Entropy, Login, Password, SrpConfig};
use rist::tunnel::{PskConfig, Role, Side, Tunnel, TunnelConfig};
use units::Timestamp;

/// Inputs in each test run.
const ITERATIONS: u64 = 400_000;
/// Inputs of the long run: `cargo test -p rist -- --ignored`.
const ITERATIONS_LONG: u64 = 20_000_000;

/// Tunnels of all kinds; they live through the whole run.
fn tunnels() -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    for (role, side) in [(Role::Client, Side::Sender), (Role::Server, Side::Receiver)] {
        for secured in 0..4 {
            let mut config = TunnelConfig::new(role, side);
            if secured & 1 == 1 {
                let psk = PskConfig { accept_revision_0: true, ..PskConfig::new("ristpsk128") };
                config.psk = Some(psk);
            }
            if secured & 2 == 2 {
                let login = Login { username: "alice".to_owned(), password: Password::new("wonderland") };
                config.srp = Some(SrpConfig::new(vec![login], Entropy::new([1; 32])));
            }
            tunnels.push(Tunnel::new(config, secured));
        }
    }
    tunnels
}

fn run(seed: u64, iterations: u64) {
    let corpus = corpus();
    let mut tunnels = tunnels();
    let mut rng = Rng(seed);
    let mut out = Vec::new();
    for iteration in 0..iterations {
        let now = Timestamp::from_micros(iteration * 500);
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        mutate(&mut rng, &mut bytes);
        for check in [checks::rtp, checks::rtcp, checks::gre, checks::keepalive, checks::eapol, checks::lqm] {
            check(&bytes);
        }
        let index = rng.below(tunnels.len());
        let tunnel = &mut tunnels[index];
        let _ = tunnel.parse(now, &mut bytes);
        out.clear();
        while tunnel.poll_control(now, &mut out) {}
        assert!(out.len() <= 1024, "an answer to {} bytes", bytes.len());
    }
}

#[test]
fn mutated_datagrams_break_no_parser() {
    run(1, ITERATIONS);
}

#[test]
#[ignore = "minutes long, for cargo test -- --ignored"]
fn mutated_datagrams_break_no_parser_in_a_long_run() {
    run(2, ITERATIONS_LONG);
}
