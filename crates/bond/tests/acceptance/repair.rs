//! Figures 3, 10 and 11: losses, within a budget for several retransmissions or for none, and what protection costs.

use super::simulation::follow::{self, Encoder};
use super::simulation::{Simulation, load, scenario};
use super::{Row, Target, milliseconds};
use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use bond::stats::SenderSnapshot;
use link_sim::{BurstLoss, BurstPeriod, Outage, OutageKind, PathConfig};
use std::time::Duration;
use units::{Bitrate, Timestamp};

/// Losses of this time teach the sender what links are like.
const WARM_UP: Duration = Duration::from_secs(20);

pub fn rows(rows: &mut Vec<Row>) {
    random_loss(rows);
    clean(rows);
    cellular(rows);
    bursts(rows);
}

/// What a constant load came to after the warm-up.
#[derive(Debug, Default)]
struct Outcome {
    packets: u64,
    lost: u64,
    /// Everything sent beside the first copies, in packets.
    extra: u64,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.lost += other.lost;
        self.extra += other.extra;
    }

    fn residual(&self) -> f64 {
        self.lost as f64 / self.packets as f64
    }

    fn redundancy_percent(&self) -> f64 {
        100.0 * self.extra as f64 / self.packets as f64
    }
}

fn extra(snapshot: &SenderSnapshot) -> u64 {
    snapshot.retransmits + snapshot.copies + snapshot.fec_packets
}

fn run(paths: &[PathConfig], latency: Duration, bps: f64, seconds: f64, seed: u64) -> Outcome {
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, paths, seed);
    let items = load::even(bps, seconds);
    let mut before = None;
    let mut arrived = vec![false; items.len()];
    for item in &items {
        simulation.run_until(item.at);
        if before.is_none() && item.at >= Timestamp::ZERO + WARM_UP {
            before = Some((item.number, extra(&simulation.sender.snapshot(simulation.now))));
        }
        simulation.push(load::payload(item.number), PacketClass::Video);
        for (_, delivered) in simulation.delivered.drain(..) {
            arrived[load::number(&delivered.bytes) as usize] = true;
        }
    }
    simulation.run_until(simulation.now + latency + Duration::from_secs(2));
    for (_, delivered) in simulation.delivered.drain(..) {
        arrived[load::number(&delivered.bytes) as usize] = true;
    }
    let (first, before) = before.expect("the load is longer than the warm-up");
    let judged = &arrived[first as usize..];
    Outcome {
        packets: judged.len() as u64,
        lost: judged.iter().filter(|arrived| !**arrived).count() as u64,
        extra: extra(&simulation.sender.snapshot(simulation.now)) - before,
    }
}

/// The same of an encoder that follows the advice, up to a rate.
fn run_following(paths: &[PathConfig], latency: Duration, bps: f64, seconds: u64, seed: u64) -> Outcome {
    let encoder = Encoder { max: Bitrate::from_bps(bps as u64), ..Default::default() };
    let mut before = 0;
    let run = follow::run(latency, paths, seconds, seed, encoder, |simulation| {
        if simulation.now <= Timestamp::ZERO + WARM_UP {
            before = extra(&simulation.sender.snapshot(simulation.now));
        }
    });
    let (packets, lost) = run.made_and_lost(WARM_UP.as_secs_f64(), seconds as f64);
    Outcome { packets, lost, extra: extra(&run.simulation.sender.snapshot(run.simulation.now)) - before }
}

/// 3: five percent on every link, both ways.
fn random_loss(rows: &mut Vec<Row>) {
    let mut paths: Vec<_> = (0..4).map(|i| scenario::link(&format!("l{i}"), 5000, 40.0, 625)).collect();
    for path in &mut paths {
        (path.up.loss, path.down.loss) = (0.05, 0.05);
    }
    let (mut even, mut following) = (Outcome::default(), Outcome::default());
    for seed in 1..=10 {
        even.add(&run(&paths, milliseconds(500), 10e6, 130.0, seed));
    }
    for seed in 1..=4 {
        following.add(&run_following(&paths, milliseconds(500), 14e6, 130, seed));
    }
    for (load, sum) in [("", even), (", on the advice up to 14 Mbit/s", following)] {
        let figure =
            format!("5 % loss on each of 4 links, round trip 80 ms, D = 500 ms, {} packets{load}", sum.packets);
        rows.push(Row::new(3, format!("{figure}: residual loss"), Target::AtMost(1e-6), "", sum.residual()));
        rows.push(Row::new(3, format!("{figure}: redundancy"), Target::AtMost(6.5), " %", sum.redundancy_percent()));
    }
}

/// 10: nothing is lost, so nothing is protected.
fn clean(rows: &mut Vec<Row>) {
    let paths = super::equal();
    for (latency_ms, load) in [(1000, 0.9), (400, 0.8), (150, 0.6)] {
        let outcome = run(&paths, milliseconds(latency_ms), load * 19.2e6, 80.0, 1);
        let figure = format!("4 links without loss, load {:.0} %, D = {latency_ms} ms: redundancy", load * 100.0);
        rows.push(Row::new(10, figure, Target::AtMost(0.5), " %", outcome.redundancy_percent()));
    }
    for latency_ms in [1000, 400, 150] {
        let outcome = run_following(&paths, milliseconds(latency_ms), 60e6, 80, 1);
        let figure = format!("4 links without loss, on the advice, D = {latency_ms} ms: redundancy");
        rows.push(Row::new(10, figure, Target::AtMost(0.5), " %", outcome.redundancy_percent()));
    }
}

/// 10: over made-up cellular links, which stall and fade.
fn cellular(rows: &mut Vec<Row>) {
    for latency_ms in [1000, 400] {
        let mut sum = Outcome::default();
        for seed in 1..=4 {
            let scenario = scenario::synthetic(seed, &[0.6]).remove(0);
            sum.add(&run(&scenario.paths, milliseconds(latency_ms), scenario.bps, 60.0, seed));
        }
        let figure = format!("cellular links, load 60 %, D = {latency_ms} ms: redundancy");
        rows.push(Row::new(10, figure, Target::AtMost(2.0), " %", sum.redundancy_percent()));
        let mut sum = Outcome::default();
        for seed in 1..=4 {
            let scenario = scenario::synthetic(seed, &[0.6]).remove(0);
            sum.add(&run_following(&scenario.paths, milliseconds(latency_ms), 60e6, 60, seed));
        }
        let figure = format!("cellular links, on the advice, D = {latency_ms} ms: redundancy");
        rows.push(Row::new(10, figure, Target::AtMost(2.0), " %", sum.redundancy_percent()));
    }
}

/// 11: one of three links loses everything for 50 ms now and then, with time for one retransmission or none.
fn bursts(rows: &mut Vec<Row>) {
    for round_trip in [40.0, 80.0, 120.0] {
        let links = ["a", "b", "c"].map(|name| scenario::link(name, 5000, round_trip / 2.0, 625));
        for (what, random) in [("of 50 ms", false), ("of 50 ms in the mean", true)] {
            let paths = |seed: u64| {
                let mut paths = links.to_vec();
                if random {
                    let period = BurstPeriod::Millis(50.0);
                    paths[0].up.burst_loss = Some(BurstLoss { loss: 0.02, period, loss_bad: 1.0 });
                } else {
                    let at = |i: u64| 997 + seed * 100 + i * 2503;
                    let burst = |i| Outage { from_ms: at(i), to_ms: at(i) + 50, kind: OutageKind::Lose };
                    paths[0].up.outages = (0..60).map(burst).collect();
                }
                paths
            };
            for (load, share) in [("load 50 %", Some(0.5)), ("load 70 %", Some(0.7)), ("on the advice", None)] {
                let mut sum = Outcome::default();
                for seed in 1..=if share.is_some() { 10 } else { 4 } {
                    let latency = milliseconds(150);
                    sum.add(&match share {
                        Some(share) => run(&paths(seed), latency, share * 14.4e6, 90.0, seed),
                        None => run_following(&paths(seed), latency, 60e6, 90, seed),
                    });
                }
                let figure = format!(
                    "2 % loss in bursts {what} on one of 3 links, round trip {round_trip} ms, D = 150 ms, {load}"
                );
                rows.push(Row::new(11, format!("{figure}: residual loss"), Target::AtMost(1e-5), "", sum.residual()));
                let cost = sum.redundancy_percent();
                rows.push(Row::new(11, format!("{figure}: redundancy"), Target::AtMost(20.0), " %", cost));
            }
        }
    }
}
