//! The way back: reports that get lost.
#![allow(clippy::unwrap_used)] // a load without pictures must fail

mod simulation;

use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use simulation::{Simulation, load, scenario, score};
use std::time::Duration;

const LATENCY: Duration = Duration::from_millis(300);

/// Four links that lose 2 % of the media, the two nearest of them `back` of what comes back: share of frames on time in percent, and
/// bytes sent back.
fn carry(back: f64, seed: u64) -> (f64, u64) {
    let mut paths = [("a", 20.0), ("b", 25.0), ("c", 35.0), ("d", 45.0)]
        .map(|(name, delay_ms)| scenario::link(name, 4000, delay_ms, 200));
    for (index, path) in paths.iter_mut().enumerate() {
        path.up.loss = 0.02;
        path.down.loss = if index < 2 { back } else { 0.0 };
    }
    let sender = SenderConfig { latency: LATENCY, ..Default::default() };
    let receiver = ReceiverConfig { latency: LATENCY, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &paths, seed);
    let items = load::video(10e6, 20.0);
    for item in &items {
        simulation.run_until(item.at);
        let class = if item.key { PacketClass::Idr } else { PacketClass::Video };
        simulation.push(load::payload(item.number), class);
    }
    simulation.run_until(items.last().unwrap().at + LATENCY + Duration::from_secs(2));
    (score::judge(&items, LATENCY, &simulation).frames_on_time_percent, simulation.down_bytes)
}

/// Goal: reports go where they arrive. When the way back of the two nearest links loses much or all, as much is in time as without,
/// at no more datagrams.
#[test]
fn reports_take_links_whose_way_back_is_good() {
    let mean = |back: f64| {
        let runs = [0, 1, 2].map(|seed| carry(back, seed));
        let bytes: u64 = runs.iter().map(|run| run.1).sum();
        (runs.iter().map(|run| run.0).sum::<f64>() / 3.0, bytes as f64)
    };
    let (on_time, bytes) = mean(0.0);
    for back in [0.3, 0.6, 0.9, 1.0] {
        let (with_loss, with_loss_bytes) = mean(back);
        let case =
            format!("{back} lost: {with_loss:.2} % on time, {on_time:.2} without, {with_loss_bytes} bytes of {bytes}");
        println!("{case}");
        assert!(with_loss > on_time - 0.5 && with_loss_bytes < 1.03 * bytes, "{case}");
    }
}
