//! Scenarios: links and load. Times count from the start of the warm-up.

use super::score::WARM_UP;
use link_sim::{BurstLoss, BurstPeriod, Capacity, Link, LinkConfig, Outage, OutageKind, PathConfig, Rng, Trace};
use std::path::{Path, PathBuf};
use std::time::Duration;
use units::Timestamp;

/// Links and load.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: String,
    pub paths: Vec<PathConfig>,
    /// Links that stand behind one bottleneck, with its queue in bytes: it carries what the first of them is said to carry.
    pub shared: Vec<(Vec<usize>, u64)>,
    pub bps: f64,
    pub latency: Duration,
    pub seconds: f64,
}

pub fn link(name: &str, kbps: u64, delay_ms: f64, queue_kb: u64) -> PathConfig {
    PathConfig {
        name: name.into(),
        up: LinkConfig {
            capacity: Capacity::Constant { kbps },
            delay_ms,
            queue_bytes: queue_kb * 1000,
            ..Default::default()
        },
        down: LinkConfig { capacity: Capacity::Constant { kbps: 10_000 }, delay_ms, ..Default::default() },
        ..Default::default()
    }
}

/// 8, 5 and 2 Mbit/s at 20, 50 and 90 ms.
pub fn asymmetric() -> Vec<PathConfig> {
    vec![link("a", 8000, 20.0, 400), link("b", 5000, 50.0, 250), link("c", 2000, 90.0, 100)]
}

fn both(paths: &mut [PathConfig], change: impl Fn(&mut LinkConfig)) {
    for path in paths {
        change(&mut path.up);
        change(&mut path.down);
    }
}

fn outage(from_ms: u64, to_ms: u64) -> Outage {
    Outage { from_ms, to_ms, kind: OutageKind::Lose }
}

/// Outages that lose everything, `(from_ms, to_ms)`.
pub fn outages_of(times: &[(u64, u64)]) -> Vec<Outage> {
    times.iter().map(|(from_ms, to_ms)| outage(*from_ms, *to_ms)).collect()
}

fn scenario(name: &str, mbps: f64, paths: Vec<PathConfig>) -> Scenario {
    Scenario {
        name: name.into(),
        paths,
        shared: Vec::new(),
        bps: mbps * 1e6,
        latency: Duration::from_secs(1),
        seconds: 45.0,
    }
}

/// Unequal links with half-normal jitter: 25 ms towards the receiver, 10 ms back.
pub fn restless() -> Vec<PathConfig> {
    let mut paths = vec![link("a", 6000, 15.0, 225), link("b", 3000, 45.0, 112), link("c", 1500, 80.0, 56)];
    for path in &mut paths {
        (path.up.jitter_ms, path.up.jitter_tau_ms, path.down.jitter_ms) = (25.0, 80.0, 10.0);
    }
    paths
}

/// Constant links and their impairments.
pub fn constant() -> Vec<Scenario> {
    let mut list = Vec::new();
    let equal = |kbps, queue| ["a", "b", "c"].map(|name| link(name, kbps, 30.0, queue)).to_vec();
    list.push(scenario("01 clean equal", 6.0, equal(4000, 200)));
    list.push(scenario("02 asymmetric", 10.0, asymmetric()));
    let mut paths = asymmetric();
    both(&mut paths, |l| (l.loss, l.jitter_ms, l.jitter_tau_ms) = (0.02, 5.0, 40.0));
    list.push(scenario("03 random loss 2 %", 10.0, paths));
    let mut paths = asymmetric();
    let burst = BurstLoss { loss: 0.05, period: BurstPeriod::Millis(60.0), loss_bad: 1.0 };
    both(&mut paths, |l| l.burst_loss = Some(burst));
    list.push(scenario("04 burst loss 5 %", 8.0, paths));
    let mut paths = asymmetric();
    paths[0].outages = vec![outage(25_000, 35_000)];
    list.push(scenario("05 best link dies 10 s", 6.0, paths));
    let mut paths = equal(4000, 150);
    paths[2].up.capacity = Capacity::Steps { steps: vec![(0, 4000), (15_000, 1000), (30_000, 4000)] };
    paths[2].up.queue_bytes = 1_000_000;
    list.push(scenario("07 bufferbloat", 7.0, paths));
    let mut paths = asymmetric();
    for path in &mut paths {
        path.outages = vec![outage(25_000, 27_000)];
    }
    list.push(scenario("08 all out 2 s", 8.0, paths));
    let mut paths = asymmetric();
    paths[0].rebind_ms = vec![20_000];
    list.push(scenario("09 NAT rebind", 10.0, paths));
    list.push(scenario("11 queues of 60 ms", 6.0, vec![link("a", 4000, 30.0, 30), link("b", 4000, 40.0, 30)]));
    let mut moved = vec![link("a", 6000, 20.0, 300)];
    moved[0].up.delay_steps = vec![(20_000, 115.0)];
    list.push(scenario("13 path grows 95 ms longer", 4.0, moved));
    let mut tight = vec![scenario("12 as 02 within 300 ms", 10.0, asymmetric())];
    for (like, name) in
        [("03", "18 as 03 within 300 ms"), ("04", "19 as 04 within 300 ms"), ("05", "20 as 05 within 300 ms")]
    {
        let like = list.iter().filter(|scenario| scenario.name.starts_with(like));
        tight.extend(like.map(|like| Scenario { name: name.into(), ..like.clone() }));
    }
    for mut scenario in tight {
        scenario.latency = Duration::from_millis(300);
        list.push(scenario);
    }
    for (name, millis) in [("21 jitter within 300 ms", 300), ("22 jitter within 500 ms", 500)] {
        let jittery = scenario(name, 7.5, restless());
        list.push(Scenario { latency: Duration::from_millis(millis), ..jittery });
    }
    let policed = scenario("23 queue 12 ms, 300 ms", 8.5, equal(4000, 6));
    list.push(Scenario { latency: Duration::from_millis(300), ..policed });
    list
}

fn traced(name: &str, trace: &Trace, offset_ms: u64, scale: f64, delay_ms: f64, queue_kb: u64) -> PathConfig {
    let mut path = link(name, 0, delay_ms, queue_kb);
    path.up.capacity = Capacity::Trace { trace: trace.clone(), offset_ms, scale };
    path
}

/// Where the recordings are, if they are.
pub fn trace_folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    ["../shared/traces", "../../shared/traces"].iter().map(|at| root.join(at)).find(|at| at.is_dir())
}

fn recording(name: &str) -> Option<Trace> {
    let text = std::fs::read_to_string(trace_folder()?.join(name)).ok()?;
    Trace::parse(&text).ok()
}

/// Three recorded LTE uplinks, beginning so many seconds into the recordings, at a share of their mean capacity.
pub fn lte(shares: &[f64], offset_s: u64) -> Option<Vec<Scenario>> {
    let paths = vec![
        traced("tmobile", &recording("TMobile-LTE-short.up")?, (15 + offset_s) * 1000, 1.0, 30.0, 500),
        traced("verizon", &recording("Verizon-LTE-short.up")?, (35 + offset_s) * 1000, 1.0, 35.0, 500),
        traced("att", &recording("ATT-LTE-driving-2016.up")?, (5 + offset_s) * 1000, 2.0, 40.0, 300),
    ];
    Some(shares.iter().map(|share| of_capacity(&format!("06 LTE {:.0} %", share * 100.0), *share, &paths)).collect())
}

/// The load is a share of the mean capacity after the warm-up.
pub fn of_capacity(name: &str, share: f64, paths: &[PathConfig]) -> Scenario {
    let mut scenario = scenario(name, 0.0, paths.to_vec());
    let (from, to) = (Timestamp::ZERO + WARM_UP, Timestamp::from_micros((scenario.seconds * 1e6) as u64));
    let capacity: f64 = paths.iter().map(|p| bottleneck(p).capacity_between(from, to).unwrap_or(0.0)).sum();
    scenario.bps = share * capacity * 8.0 / (to - from).as_secs_f64();
    scenario
}

/// Four made-up cellular uplinks at a share of their mean capacity.
pub fn synthetic(seed: u64, shares: &[f64]) -> Vec<Scenario> {
    let path = |i: u64| {
        let trace = Trace::cellular(seed * 10 + i, [3000.0, 4500.0, 6000.0, 2500.0][i as usize], 60);
        traced(&format!("cell{i}"), &trace, 0, 1.0, [25.0, 35.0, 45.0, 30.0][i as usize], 400)
    };
    let paths: Vec<_> = (0..4).map(path).collect();
    shares.iter().map(|share| of_capacity(&format!("10 cellular {:.0} %", share * 100.0), *share, &paths)).collect()
}

/// The first two of some links are behind one bottleneck, which carries what the first does.
pub fn two_share(mut scenario: Scenario) -> Scenario {
    scenario.paths[1].up.capacity = Capacity::Constant { kbps: 0 };
    scenario.shared = vec![(vec![0, 1], scenario.paths[0].up.queue_bytes)];
    scenario
}

/// Two links behind one bottleneck and others that are not: constant, and made-up cellular ones.
pub fn shared() -> Vec<Scenario> {
    let paths = ["a", "b", "c"].map(|name| link(name, 5000, 30.0, 400)).to_vec();
    let mut list = vec![two_share(scenario("14 two of three share", 8.0, paths.clone()))];
    let mut bursty = paths;
    for path in bursty.iter_mut().take(2) {
        path.up.outages = (0..18).map(|i| outage(2000 + i * 2503, 2080 + i * 2503)).collect();
    }
    let mut tight = two_share(scenario("15 same, it fails 80 ms", 3.0, bursty));
    tight.latency = Duration::from_millis(200);
    list.push(tight);
    for seed in 1..=2 {
        let paths = synthetic(seed, &[1.0]).remove(0).paths;
        let cells = two_share(scenario("", 0.0, paths));
        for share in [0.6, 0.8] {
            let mut of = of_capacity(&format!("16 cells, two share {:.0} %", share * 100.0), share, &cells.paths);
            of.shared.clone_from(&cells.shared);
            list.push(of);
        }
    }
    list
}

/// Two to six links of every kind, a latency between 300 ms and 4 s, a load of 40 to 90 % of the mean capacity: nothing that the
/// engine was made for in particular.
pub fn mixed(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed, 7);
    let count = 2 + (rng.unit() * 5.0) as u64;
    let mut paths = Vec::new();
    for i in 0..count {
        let kbps = 800.0 * (rng.unit() * 2.5).exp();
        let kind = (rng.unit() * 4.0) as u32;
        let mut path = link(&format!("l{i}"), kbps as u64, 8.0 + rng.unit() * 80.0, 0);
        let queue_ms = [50.0, 150.0, 500.0, 2000.0][(rng.unit() * 4.0) as usize];
        path.up.queue_bytes = ((kbps / 8.0 * queue_ms) as u64).max(12_000);
        match kind {
            0 => {}
            1 => {
                let mut steps = vec![(0, kbps as u64)];
                let mut at = 0;
                while at < 60_000 {
                    at += 3000 + (rng.unit() * 12_000.0) as u64;
                    steps.push((at, (kbps * (0.3 + 1.2 * rng.unit())) as u64));
                }
                path.up.capacity = Capacity::Steps { steps };
            }
            _ => {
                let trace = Trace::cellular(seed * 100 + i, kbps, 60);
                path.up.capacity = Capacity::Trace { trace, offset_ms: 0, scale: 1.0 };
            }
        }
        impair(&mut path, &mut rng);
        paths.push(path);
    }
    let latency_ms = [300, 500, 1000, 2000, 4000][(rng.unit() * 5.0) as usize];
    let share = 0.4 + 0.5 * rng.unit();
    let name = format!("17 {count} links {latency_ms} ms {:.0} %", share * 100.0);
    let mut scenario = of_capacity(&name, share, &paths);
    scenario.latency = Duration::from_millis(latency_ms);
    scenario
}

/// Loss, bursts of loss, jitter, reordering or an outage; or nothing.
fn impair(path: &mut PathConfig, rng: &mut Rng) {
    let kind = rng.unit();
    if kind < 0.2 {
        path.up.loss = 0.001 + 0.03 * rng.unit();
        path.down.loss = path.up.loss;
    } else if kind < 0.35 {
        path.up.burst_loss = Some(BurstLoss { loss: 0.02, period: BurstPeriod::Millis(60.0), loss_bad: 1.0 });
    } else if kind < 0.5 {
        (path.up.jitter_ms, path.up.jitter_tau_ms) = (2.0 + 10.0 * rng.unit(), 40.0);
        path.down.jitter_ms = 4.0;
    } else if kind < 0.6 {
        (path.up.reorder, path.up.reorder_ms) = (0.01, 15.0);
    } else if kind < 0.7 {
        let from_ms = 10_000 + (rng.unit() * 30_000.0) as u64;
        let to_ms = from_ms + 200 + (rng.unit() * 5000.0) as u64;
        let kind = if rng.unit() < 0.5 { OutageKind::Lose } else { OutageKind::Hold };
        path.outages = vec![Outage { from_ms, to_ms, kind }];
    }
}

/// The bottleneck of a path with its outages.
pub fn bottleneck(path: &PathConfig) -> Link<()> {
    let mut up = path.up.clone();
    up.outages.extend(path.outages.iter().copied());
    up.outages.sort_by_key(|outage| outage.from_ms);
    Link::new(up, 0).expect("a valid scenario")
}
