//! Figures 1, 2 and 7 to 9: how much of the links is used, by an encoder that follows the advice and by one that does not.

use super::simulation::follow::{self, Encoder, Followed};
use super::simulation::{self, Simulation, bound, load, scenario, score};
use super::{Row, Target, equal, milliseconds};
use bond::stats::LinkState;
use link_sim::{Capacity, PathConfig};

/// A loss below this is none.
const LOSS_MAX: f64 = 1e-6;

pub fn rows(rows: &mut Vec<Row>) {
    for (latency_ms, share) in [(1000, 92.0), (400, 85.0)] {
        cellular_links(rows, latency_ms, share);
    }
    constant_rate(rows);
    steps(rows);
    constant_links(rows);
    far(rows);
}

/// Four made-up cellular links, a second of queue each.
fn cellular(seed: u64) -> Vec<PathConfig> {
    scenario::synthetic(seed, &[1.0]).remove(0).paths
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Queue delay of every full datagram in milliseconds, the first two seconds' left out.
fn queue_delays(simulation: &Simulation, paths: &[PathConfig], into: &mut Vec<f64>) {
    for (delays, path) in simulation.one_way.iter().zip(paths) {
        let skip = delays.len() / 20;
        into.extend(delays.iter().skip(skip).map(|micros| f64::from(*micros) / 1e3 - path.up.delay_ms));
    }
}

/// 1 and 8: an encoder that follows the advice over cellular links.
fn cellular_links(rows: &mut Vec<Row>, latency_ms: u64, share: f64) {
    const SECONDS: u64 = 60;
    let (mut used, mut could, mut made, mut lost) = (0.0, 0.0, 0, 0);
    let mut delays = Vec::new();
    for seed in 1..=4 {
        let paths = cellular(seed);
        let run = follow::run(milliseconds(latency_ms), &paths, SECONDS, seed, Encoder::default(), |_| ());
        let end = SECONDS as f64;
        used += run.delivered(5.0, end);
        could += run.capacity(5.0, end);
        let (m, l) = run.made_and_lost(5.0, end);
        (made, lost) = (made + m, lost + l);
        queue_delays(&run.simulation, &paths, &mut delays);
    }
    let mut row = |number, what: &str, target, unit, measured| {
        rows.push(Row::new(number, format!("cellular links, D = {latency_ms} ms: {what}"), target, unit, measured));
    };
    row(1, "share of the capacity used", Target::AtLeast(share), " %", 100.0 * used / could);
    row(1, "residual loss", Target::AtMost(LOSS_MAX), "", lost as f64 / made as f64);
    row(8, "queue delay, 95th percentile", Target::AtMost(60.0), " ms", quantile(&mut delays, 0.95));
    row(8, "queue delay, 99th percentile", Target::AtMost(120.0), " ms", quantile(&mut delays, 0.99));
}

/// 2: the highest constant rate without loss, against what a sender that knows the future could carry.
fn constant_rate(rows: &mut Vec<Row>) {
    const SECONDS: f64 = 40.0;
    let (mut ours, mut most) = (0.0, 0.0);
    for seed in 1..=3 {
        let mut scenario = scenario::synthetic(seed, &[1.0]).remove(0);
        scenario.seconds = SECONDS;
        let mean = scenario.bps;
        let highest = |works: &dyn Fn(f64) -> bool| {
            let (mut low, mut high) = (0.2 * mean, mean);
            for _ in 0..7 {
                let middle = f64::midpoint(low, high);
                if works(middle) { low = middle } else { high = middle }
            }
            low
        };
        let nearest = scenario.paths.iter().map(|path| path.up.delay_ms).fold(f64::MAX, f64::min);
        most += highest(&|bps| {
            let items = load::even(
                bps * follow::WIRE_BYTES as f64 / (load::PAYLOAD_BYTES + simulation::IP_BYTES) as f64,
                SECONDS,
            );
            bound::in_order(&scenario, &items, milliseconds(nearest as u64)).0 >= 100.0
        });
        ours += highest(&|bps| {
            let items = load::even(bps, SECONDS);
            let (got, _) = score::run(scenario.latency, &scenario.paths, &items, seed, score::Classes::Unknown);
            got.delivered_percent >= 100.0
        });
    }
    rows.push(Row::new(
        2,
        "cellular links, D = 1000 ms: highest constant rate without loss, of the most possible",
        Target::AtLeast(95.0),
        " %",
        100.0 * ours / most,
    ));
}

/// 7: capacity in steps.
fn steps(rows: &mut Vec<Row>) {
    let (up, down, end) = (20.0, 40.0, 60.0);
    let mut paths = equal();
    for path in &mut paths {
        path.up.capacity = Capacity::Steps { steps: vec![(0, 1700), (20_000, 5000), (40_000, 1700)] };
        path.up.queue_bytes = 212_000;
    }
    let run = follow::run(milliseconds(1000), &paths, 60, 4, Encoder::default(), |_| ());
    let (low, high) = (run.capacity(0.0, up), run.capacity(up, down));
    let enough = 0.9 * 0.92 * high;
    let climbed = (0..200).map(|i| up + f64::from(i) * 0.1).find(|at| made(&run, *at, at + 0.5) >= enough);
    let climbed = climbed.unwrap_or(down) - up;
    let cut = run.between(down, end).find(|frame| frame.advised <= low);
    let cut = cut.map_or(f64::INFINITY, |frame| (frame.at - follow::at(down)).as_secs_f64() * 1e3);
    let mut row = |what: &str, target, unit, measured| rows.push(Row::new(7, what, target, unit, measured));
    row("capacity x 3: until the encoder makes 90 % of what figure 1 asks", Target::AtMost(4.0), " s", climbed);
    row("capacity / 3: packets lost", Target::AtMost(0.0), "", run.made_and_lost(down - 5.0, end).1 as f64);
    row("capacity / 3: until the advice is at most the capacity", Target::AtMost(250.0), " ms", cut);
}

/// 8: the queues in front of links that stay as they are.
fn constant_links(rows: &mut Vec<Row>) {
    let paths = equal();
    let run = follow::run(milliseconds(1000), &paths, 40, 4, Encoder::default(), |_| ());
    let mut delays = Vec::new();
    queue_delays(&run.simulation, &paths, &mut delays);
    let used = 100.0 * run.delivered(5.0, 40.0) / run.capacity(5.0, 40.0);
    let mut row = |what: &str, target, unit, measured| rows.push(Row::new(8, what, target, unit, measured));
    row("constant links: share of the capacity used", Target::AtLeast(90.0), " %", used);
    row("constant links: queue delay, 95th percentile", Target::AtMost(60.0), " ms", quantile(&mut delays, 0.95));
    row("constant links: queue delay, 99th percentile", Target::AtMost(120.0), " ms", quantile(&mut delays, 0.99));
}

/// Payload bits per second made.
fn made(run: &Followed, from: f64, to: f64) -> f64 {
    run.made_and_lost(from, to).0 as f64 * load::PAYLOAD_BYTES as f64 * 8.0 / (to - from)
}

/// 9: a near and a far link.
fn far(rows: &mut Vec<Row>) {
    let paths = [scenario::link("near", 5000, 10.0, 625), scenario::link("far", 5000, 150.0, 625)];
    let run = follow::run(milliseconds(700), &paths, 40, 4, Encoder::default(), |_| ());
    let now = run.simulation.now;
    let spurious = run.simulation.receiver.snapshot(run.simulation.clock.local(now)).duplicates as f64;
    let snapshot = run.simulation.sender.snapshot(now);
    let sent: u64 = snapshot.links.iter().map(|link| link.packets_sent).sum();
    assert!(snapshot.links.iter().all(|link| link.state == LinkState::Up));
    let used = 100.0 * run.delivered(5.0, 40.0) / run.capacity(5.0, 40.0);
    let lost = run.made_and_lost(5.0, 40.0).1 as f64;
    let mut row = |what: &str, target, measured| {
        let figure = format!("round trips 20 and 300 ms, D = 700 ms: {what}");
        rows.push(Row::new(9, figure, target, "", measured));
    };
    row("share of the capacity used in %", Target::AtLeast(90.0), used);
    row("arrived twice, of packets sent, in %", Target::AtMost(0.2), 100.0 * spurious / sent as f64);
    row("packets lost", Target::AtMost(0.0), lost);
}
