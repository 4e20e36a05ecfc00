//! Running a load over links and judging what came out.

use super::load::{self, Item};
use super::{IP_BYTES, Simulation};
use bond::PacketClass;
use bond::config::{ReceiverConfig, SenderConfig};
use link_sim::{Bottleneck, Path, PathConfig};
use std::time::Duration;
use units::Timestamp;

/// The load of this time warms up and is not judged.
pub const WARM_UP: Duration = Duration::from_secs(5);
/// A frame may be so late beyond the latency budget (its own length and the fastest path).
pub const GRACE: Duration = Duration::from_millis(200);

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// However late.
    pub delivered_percent: f64,
    /// Whole, within the latency and [`GRACE`].
    pub frames_on_time_percent: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub freeze_ms: f64,
    /// IP bytes sent per IP byte of media.
    pub sent_per_media: f64,
    /// IP bytes sent, of those that the links could carry meanwhile.
    pub used_percent: f64,
}

/// Whether the sender is told which packets are key pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    Told,
    Unknown,
}

/// Runs `items` and judges those after the warm-up.
pub fn run(
    latency: Duration,
    paths: &[PathConfig],
    items: &[Item],
    seed: u64,
    classes: Classes,
) -> (Score, Simulation) {
    let (score, simulation) = run_shared(latency, paths, &[], items, seed, classes);
    (score.unwrap_or_else(|fault| panic!("seed {seed}: {fault}")), simulation)
}

/// The same with links that share bottlenecks, see [`super::scenario::Scenario::shared`]; a fault of the delivery is told.
pub fn run_shared(
    latency: Duration,
    paths: &[PathConfig],
    shared: &[(Vec<usize>, u64)],
    items: &[Item],
    seed: u64,
    classes: Classes,
) -> (Result<Score, String>, Simulation) {
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, paths, seed);
    for (links, queue_bytes) in shared {
        let bottleneck = Bottleneck::new(&paths[links[0]].up.capacity, *queue_bytes);
        simulation.share(links, &bottleneck.expect("a valid bottleneck"));
    }
    let mut before = (0, 0);
    for item in items {
        simulation.run_until(item.at);
        if simulation.up_bytes > 0 && before.1 == 0 && item.at >= Timestamp::ZERO + WARM_UP {
            before = (item.number, simulation.up_bytes);
        }
        let class = if item.key && classes == Classes::Told { PacketClass::Idr } else { PacketClass::Video };
        simulation.push(load::payload(item.number), class);
    }
    let end = items.last().map_or(Timestamp::ZERO, |item| item.at);
    let up_bytes = simulation.up_bytes - before.1;
    simulation.run_until(end + latency + Duration::from_secs(2));
    let media = (items.len() as u64 - u64::from(before.0)) * (load::PAYLOAD_BYTES + IP_BYTES) as u64;
    let capacity = |path: &Path<_>| path.up().capacity_between(Timestamp::ZERO + WARM_UP, end);
    let score = try_judge(items, latency, &simulation).map(|score| Score {
        sent_per_media: up_bytes as f64 / media as f64,
        used_percent: 100.0 * up_bytes as f64 / simulation.paths.iter().filter_map(capacity).sum::<f64>(),
        ..score
    });
    (score, simulation)
}

/// Judges what was delivered; panics at a duplicate or at packets out of order.
pub fn judge(items: &[Item], latency: Duration, simulation: &Simulation) -> Score {
    try_judge(items, latency, simulation).unwrap_or_else(|fault| panic!("{fault}"))
}

/// # Errors
/// A duplicate, or packets out of order.
fn try_judge(items: &[Item], latency: Duration, simulation: &Simulation) -> Result<Score, String> {
    let start = Timestamp::ZERO + WARM_UP;
    let mut newest = None;
    let mut arrival: Vec<Option<Timestamp>> = vec![None; items.len()];
    for (at, delivered) in &simulation.delivered {
        let number = load::number(&delivered.bytes);
        if let Some(newest) = newest.replace(number).filter(|newest| number <= *newest) {
            return Err(format!("packet {number} was delivered after packet {newest}"));
        }
        arrival[number as usize] = Some(*at);
    }
    let judged: Vec<_> = items.iter().zip(&arrival).filter(|(item, _)| item.at >= start).collect();
    let mut latencies: Vec<f64> =
        judged.iter().filter_map(|(i, at)| Some((at.as_ref()?.since(i.at)).as_secs_f64() * 1e3)).collect();
    let delivered = latencies.len();
    latencies.sort_by(f64::total_cmp);
    let quantile =
        |q: f64| latencies.get(((latencies.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN);
    let (mut frames, mut on_time) = (0u32, 0u32);
    for frame in judged.chunk_by(|a, b| a.0.frame == b.0.frame) {
        frames += 1;
        let first = frame[0].0.at;
        on_time += u32::from(frame.iter().all(|(_, at)| at.is_some_and(|at| at.since(first) <= latency + GRACE)));
    }
    let times: Vec<Timestamp> = judged.iter().filter_map(|(_, at)| **at).collect();
    let freeze = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Ok(Score {
        delivered_percent: 100.0 * delivered as f64 / judged.len() as f64,
        frames_on_time_percent: 100.0 * f64::from(on_time) / f64::from(frames),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        freeze_ms: freeze.as_secs_f64() * 1e3,
        sent_per_media: 0.0,
        used_percent: 0.0,
    })
}
