//! What a seed stands for: links, impairments, load and settings.
//!
//! Towards a plain peer, which confirms nothing, links are not steered: they get equal shares, and what their paths take is not
//! measured. So it meets no paths that swallow large packets, no marks, no recordings, and no more load than the smallest link
//! bears (in trials such a load cost half of what was sent on a link in a short fade, until the encoder had followed). All else
//! it meets, over Simple Profile as over Main: also rebinding, where RTP and RTCP each get another port, delays that step, and
//! links taken out and put back.

use super::simulation::load;
use super::{END_MS, TROUBLE_MS};
use bond::config::{Extension, KeySize, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use link_sim::{
    BurstLoss, BurstPeriod, Capacity, EcnPath, LinkConfig, Outage, OutageKind, PathConfig, Rng, SkewedClock, Trace,
};
use std::fmt;
use std::time::Duration;

/// Below this there is not always time to send again.
const SHORT_MS: u64 = 500;

/// A run, but for its chances on the way.
pub struct Plan {
    pub paths: Vec<PathConfig>,
    /// Links behind the bottleneck of the first of them, with its queue in bytes.
    pub shared: Option<(Vec<usize>, u64)>,
    pub sender: SenderConfig,
    pub receiver: ReceiverConfig,
    pub clock: SkewedClock,
    /// `(from second, bit/s)`.
    pub load: Vec<(f64, f64)>,
    /// `(ms, index)` of a link taken out and put back a second later.
    pub pulled: Option<(u64, usize)>,
    pub latency_change: Option<(u64, Duration)>,
    /// Too short a budget to send everything again that is lost.
    pub short: bool,
}

impl Plan {
    pub fn items(&self) -> Vec<load::Item> {
        load::video_steps(&self.load, END_MS as f64 / 1e3)
    }

    /// The longest budget of the run.
    pub fn latency_max(&self) -> Duration {
        self.latency_change.map_or(self.sender.latency, |(_, latency)| latency.max(self.sender.latency))
    }

    /// The highest load.
    pub fn bps_max(&self) -> f64 {
        self.load.iter().map(|step| step.1).fold(0.0, f64::max)
    }

    /// More than the links carry, or nearly, until the trouble is over.
    pub fn is_overload(&self) -> bool {
        self.load.len() > 1
    }

    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 500);
        let extension = rng.chance(0.8);
        let simple = !extension && rng.chance(0.4);
        let links = 1 + rng.below(5) as usize;
        // Marks and those who lie about them.
        let ecn = extension && rng.chance(0.4);
        let mut paths = Vec::new();
        // What each link carries of full packets once the trouble is over; unknown for recordings.
        let mut carries = Vec::new();
        for index in 0..links {
            let kbps = 1000 + rng.below(7000);
            let down_kbps = 3000 + rng.below(7000);
            let mut path = PathConfig {
                name: format!("link{index}"),
                up: direction(&mut rng, kbps),
                down: direction(&mut rng, down_kbps),
                outages: outages(&mut rng),
                rebind_ms: Vec::new(),
            };
            carries.push(kbps);
            if extension && rng.chance(0.15) {
                let trace = Trace::cellular(seed * 8 + index as u64, kbps as f64, 30);
                path.up.capacity = Capacity::Trace { trace, offset_ms: 0, scale: 1.0 };
                carries[index] = 0;
            }
            if rng.chance(0.2) {
                path.rebind_ms = vec![rng.below(TROUBLE_MS)];
            }
            // One link takes everything: full packets have a way.
            if index > 0 && extension && rng.chance(0.2) {
                narrow(&mut rng, &mut path.up);
                carries[index] = 0;
            }
            if ecn {
                marks(&mut rng, kbps, &mut path.up);
            }
            paths.push(path);
        }
        let shared = (links > 1 && rng.chance(0.15)).then(|| {
            // What the first carries is for both.
            carries[1] = 0;
            (vec![0, 1], paths[0].up.queue_bytes)
        });
        let short = extension && rng.chance(0.25);
        let latency_ms = if short { 120 + rng.below(300) } else { 600 + rng.below(1400) };
        let psk = (!simple && rng.chance(0.3)).then(|| PskConfig {
            passphrase: Secret::new("campaign"),
            key_size: if rng.chance(0.5) { KeySize::Aes128 } else { KeySize::Aes256 },
            rotate_after_packets: rng.chance(0.5).then_some(1000),
        });
        let profile = if simple { Profile::Simple } else { Profile::Main };
        let offer = if extension { Extension::Offer } else { Extension::Off };
        let usable = if extension {
            carries.iter().sum::<u64>().max(600)
        } else {
            // Plain RIST shares equally, so the smallest link sets the pace.
            let share = |index: usize| if shared.is_some() && index < 2 { carries[0] / 2 } else { carries[index] };
            (0..links).map(share).min().unwrap_or(1000) * links as u64
        };
        let clock = SkewedClock::new(rng.below(1 << 40), rng.range(-120.0, 120.0) as i32);
        let bps = usable as f64 * 1e3 * rng.range(0.1, 0.5);
        let mut load = vec![(0.0, bps)];
        if extension && rng.chance(0.2) {
            load = vec![(0.0, usable as f64 * 1e3 * rng.range(0.8, 1.5)), (TROUBLE_MS as f64 / 1e3, bps)];
        }
        let latency = Duration::from_millis(latency_ms);
        let latency_change = rng.chance(0.2).then(|| {
            let longer = latency_ms + rng.below(500);
            let shorter = (latency_ms as f64 * rng.range(0.3, 1.0)) as u64;
            (rng.below(TROUBLE_MS), if rng.chance(0.5) { longer } else { shorter.max(100) })
        });
        let latency_change = latency_change.map(|(at, ms)| (at, Duration::from_millis(ms)));
        let shortest = latency_change.map_or(latency, |(_, changed)| latency.min(changed));
        Self {
            sender: SenderConfig { profile, latency, psk: psk.clone(), extension: offer, ecn, ..Default::default() },
            receiver: ReceiverConfig { profile, latency, psk, extension: offer, ecn, ..Default::default() },
            clock,
            load,
            pulled: (links > 2 && rng.chance(0.3)).then(|| (rng.below(TROUBLE_MS), rng.below(links as u64) as usize)),
            latency_change,
            short: shortest < Duration::from_millis(SHORT_MS),
            shared,
            paths,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.paths {
            let mut path = path.clone();
            for direction in [&mut path.up, &mut path.down] {
                if let Capacity::Trace { trace, .. } = &mut direction.capacity {
                    // Too long to read.
                    *trace = Trace::new(vec![1]).unwrap();
                }
            }
            writeln!(f, "{path:?}")?;
        }
        let Self { shared, sender, clock, load, pulled, latency_change, short, .. } = self;
        writeln!(f, "{sender:?}\n{clock:?}\nshared {shared:?}, load {load:?}, pulled {pulled:?}")?;
        write!(f, "latency change {latency_change:?}, short {short}")
    }
}

fn direction(rng: &mut Rng, kbps: u64) -> LinkConfig {
    // A buffer of seconds ("bufferbloat"), or one as it should be.
    let queue_ms = if rng.chance(0.25) { 300 + rng.below(1700) } else { 40 + rng.below(160) };
    let mut config = LinkConfig {
        capacity: Capacity::Constant { kbps },
        queue_bytes: kbps * queue_ms / 8 + 20_000,
        delay_ms: rng.range(1.0, 120.0),
        ..Default::default()
    };
    if rng.chance(0.3) {
        config.jitter_ms = rng.range(0.5, 20.0);
        config.jitter_tau_ms = rng.range(0.0, 60.0);
        config.jitter_reorders = rng.chance(0.3);
    }
    if rng.chance(0.3) {
        config.loss = rng.range(0.0, 0.04);
    }
    if rng.chance(0.2) {
        config.burst_loss = Some(BurstLoss {
            loss: rng.range(0.001, 0.05),
            period: BurstPeriod::Millis(rng.range(5.0, 80.0)),
            loss_bad: 1.0,
        });
    }
    if rng.chance(0.2) {
        config.duplicate = rng.range(0.0, 0.1);
    }
    if rng.chance(0.2) {
        (config.reorder, config.reorder_ms) = (rng.range(0.0, 0.05), rng.range(0.1, 15.0));
    }
    if rng.chance(0.3) {
        let low = (kbps as f64 * rng.range(0.05, 0.6)) as u64;
        let at = rng.below(TROUBLE_MS - 1000);
        config.capacity =
            Capacity::Steps { steps: vec![(0, kbps), (at, low), (at + rng.below(TROUBLE_MS - at), kbps)] };
    }
    if rng.chance(0.15) {
        config.delay_steps = vec![(rng.below(TROUBLE_MS), rng.range(1.0, 150.0))];
    }
    config
}

fn outages(rng: &mut Rng) -> Vec<Outage> {
    let mut list: Vec<Outage> = (0..rng.below(3))
        .map(|_| {
            let from_ms = rng.below(TROUBLE_MS - 100);
            let to_ms = (from_ms + rng.exponential(900.0) as u64 + 1).min(TROUBLE_MS);
            Outage { from_ms, to_ms, kind: if rng.chance(0.5) { OutageKind::Lose } else { OutageKind::Hold } }
        })
        .collect();
    list.sort_by_key(|outage| outage.from_ms);
    list
}

/// A path that swallows large packets: always, from some time on, or for a time.
fn narrow(rng: &mut Rng, up: &mut LinkConfig) {
    let mtu = 500 + rng.below(1000) as u32;
    let from = rng.below(TROUBLE_MS);
    match rng.below(3) {
        0 => up.mtu = Some(mtu),
        1 => up.mtu_steps = vec![(from, mtu)],
        _ => up.mtu_steps = vec![(from, mtu), (from + rng.below(TROUBLE_MS - from), 1500)],
    }
}

/// A queue that marks, or not; and a path that leaves the marks alone, or not, or not always.
fn marks(rng: &mut Rng, kbps: u64, up: &mut LinkConfig) {
    // So many full packets' service: also less than one, which marks every full packet.
    up.mark_above_ms = rng.chance(0.6).then(|| 11_500.0 / kbps as f64 * rng.range(0.2, 8.0));
    for _ in 0..rng.below(3) {
        let kinds = [EcnPath::Clear, EcnPath::Drop, EcnPath::MarkAll, EcnPath::Pass];
        up.ecn_steps.push((rng.below(TROUBLE_MS), kinds[rng.below(4) as usize]));
    }
    up.ecn_steps.sort_by_key(|step| step.0);
}
