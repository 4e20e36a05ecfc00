//! Random campaign: any mixture of links and impairments, invariants instead of figures.
//!
//! For every seed: nothing is delivered twice, out of order or damaged; neither end comes to spin; memory stays bounded; and
//! once the impairments are over, everything arrives again. A failing seed is printed and replays bit-identically: put it
//! into `replay`. For a long campaign raise [`SEEDS`] to several thousand.

mod simulation;

use bond::PacketClass;
use bond::config::{
    Extension, HISTORY_PACKETS_MAX, KeySize, LinkOptions, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig,
};
use bond::sender::SenderInput;
use link_sim::{BurstLoss, BurstPeriod, Capacity, LinkConfig, Outage, OutageKind, PathConfig, Rng, SkewedClock, Trace};
use simulation::{Simulation, load};
use std::time::Duration;
use units::{LinkId, Timestamp};

/// Seeds run by `cargo test`.
const SEEDS: u64 = 200;
/// Impairments happen in this time, from the start.
const TROUBLE_MS: u64 = 10_000;
/// After trouble the links get this time to come back.
const HEAL_MS: u64 = 4_000;
/// The load ends then; everything sent after healing must arrive.
const END_MS: u64 = 17_000;

fn direction(rng: &mut Rng, kbps: u64, extension: bool) -> LinkConfig {
    let mut config = LinkConfig {
        capacity: Capacity::Constant { kbps },
        queue_bytes: kbps * rng.below(200).max(40) / 8 + 20_000,
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
    if rng.chance(0.15) && extension {
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

struct Plan {
    paths: Vec<PathConfig>,
    sender: SenderConfig,
    receiver: ReceiverConfig,
    clock: SkewedClock,
    bps: f64,
    /// `(ms, index)` of a link taken out and put back a second later.
    pulled: Option<(u64, usize)>,
    latency_change: Option<(u64, Duration)>,
    /// Too short a budget to send everything again that is lost.
    short: bool,
}

fn plan(seed: u64) -> Plan {
    let mut rng = Rng::new(seed, 500);
    let extension = rng.chance(0.8);
    let simple = !extension && rng.chance(0.4);
    let links = 1 + rng.below(5) as usize;
    let mut total = 0;
    let paths: Vec<PathConfig> = (0..links)
        .map(|i| {
            let kbps = 1000 + rng.below(7000);
            total += kbps;
            let down_kbps = 3000 + rng.below(7000);
            let mut path = PathConfig {
                name: format!("link{i}"),
                up: direction(&mut rng, kbps, extension),
                down: direction(&mut rng, down_kbps, extension),
                outages: outages(&mut rng),
                rebind_ms: Vec::new(),
            };
            if extension && rng.chance(0.15) {
                let trace = Trace::cellular(seed * 8 + i as u64, kbps as f64, 30);
                path.up.capacity = Capacity::Trace { trace, offset_ms: 0, scale: 1.0 };
                total -= kbps;
            }
            if rng.chance(0.2) && !simple {
                path.rebind_ms = vec![rng.below(TROUBLE_MS)];
            }
            path
        })
        .collect();
    let short = extension && rng.chance(0.25);
    let latency = Duration::from_millis(if short { 120 + rng.below(300) } else { 600 + rng.below(1400) });
    let psk = (!simple && rng.chance(0.3)).then(|| PskConfig {
        passphrase: Secret::new("campaign"),
        key_size: if rng.chance(0.5) { KeySize::Aes128 } else { KeySize::Aes256 },
        rotate_after_packets: rng.chance(0.5).then_some(1000),
    });
    let profile = if simple { Profile::Simple } else { Profile::Main };
    let offer = if extension { Extension::Offer } else { Extension::Off };
    // Plain RIST shares equally, so the smallest link sets the pace.
    let usable = if extension {
        total.max(600)
    } else {
        (paths.iter().map(|p| slowest(&p.up)).min().unwrap_or(1000)) * links as u64
    };
    Plan {
        sender: SenderConfig { profile, latency, psk: psk.clone(), extension: offer, ..Default::default() },
        receiver: ReceiverConfig { profile, latency, psk, extension: offer, ..Default::default() },
        clock: SkewedClock::new(rng.below(1 << 40), rng.range(-120.0, 120.0) as i32),
        bps: usable as f64 * 1e3 * rng.range(0.1, 0.5),
        pulled: (extension && links > 2 && rng.chance(0.3))
            .then(|| (rng.below(TROUBLE_MS), rng.below(links as u64) as usize)),
        latency_change: (rng.chance(0.1))
            .then(|| (rng.below(TROUBLE_MS), latency + Duration::from_millis(rng.below(500)))),
        short,
        paths,
    }
}

fn slowest(up: &LinkConfig) -> u64 {
    match &up.capacity {
        Capacity::Constant { kbps } => *kbps,
        Capacity::Steps { steps } => steps[0].1,
        _ => 500,
    }
}

fn run(seed: u64) -> Simulation {
    let plan = plan(seed);
    let mut simulation = Simulation::without_links(plan.sender, plan.receiver, &plan.paths, seed, plan.clock);
    for index in 0..plan.paths.len() {
        simulation.add_link(index, LinkOptions { name: format!("link{index}"), ..Default::default() });
    }
    let items = load::video(plan.bps, END_MS as f64 / 1e3);
    let (mut pulled, mut changed) = (0, false);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), class(item));
        if let Some((at, index)) = plan.pulled {
            let link = LinkId(index as u16);
            if pulled == 0 && item.at >= Timestamp::from_millis(at) {
                pulled = 1;
                simulation.input(SenderInput::RemoveLink { link });
            } else if pulled == 1 && item.at >= Timestamp::from_millis(at + 1000) {
                pulled = 2;
                simulation.add_link(index, LinkOptions { name: format!("link{index}"), ..Default::default() });
            }
        }
        if let Some((at, latency)) = plan.latency_change
            && !changed
            && item.at >= Timestamp::from_millis(at)
        {
            changed = true;
            simulation.set_latency(latency);
        }
        if item.number % 200 == 0 {
            let snapshot = simulation.sender.snapshot(simulation.now);
            assert!(snapshot.queued_packets as usize <= HISTORY_PACKETS_MAX);
            assert!(snapshot.queued_ms <= 3_000.0, "a packet waits for {} ms", snapshot.queued_ms);
        }
    }
    simulation.run_until(simulation.now + Duration::from_secs(4));
    check(&items, &simulation, plan.short);
    simulation
}

fn class(item: &load::Item) -> PacketClass {
    match item.number % 50 {
        _ if item.key => PacketClass::Idr,
        7 => PacketClass::Audio,
        30 => PacketClass::Clock,
        _ => PacketClass::Video,
    }
}

fn check(items: &[load::Item], simulation: &Simulation, short: bool) {
    let mut newest = None;
    let mut arrived = vec![false; items.len()];
    for (_, delivered) in &simulation.delivered {
        let number = load::number(&delivered.bytes);
        assert!(newest.is_none_or(|newest| number > newest), "packet {number} after {newest:?}");
        newest = Some(number);
        arrived[number as usize] = true;
    }
    let healed = Timestamp::from_millis(TROUBLE_MS + HEAL_MS);
    let late: Vec<u32> =
        items.iter().filter(|i| i.at >= healed && !arrived[i.number as usize]).map(|i| i.number).collect();
    let sent = items.iter().filter(|i| i.at >= healed).count();
    // Recordings go on stalling and loss goes on: a single link may then lose a packet for good. A short budget leaves no time
    // to send again, nor for key pictures eight times the others; it must not come to lose more than the links do.
    let allowed = if short { sent / 4 } else { 1 };
    assert!(
        late.len() <= allowed,
        "{} of {sent} packets are missing after healing, first {:?}",
        late.len(),
        late.first()
    );
    let sender = simulation.sender.snapshot(simulation.now);
    let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
    assert_eq!(sender.queued_packets, 0, "the queue is empty in the end");
    assert!(sender.extension || sender.fec_packets == 0, "a plain peer gets no repair packets");
    assert!(receiver.fec_packets <= 2 * sender.fec_packets && receiver.fec_recovered <= receiver.fec_packets);
    assert!(sender.fec_recovered <= receiver.fec_recovered);
    assert!(sender.fec_packets <= sender.packets_in, "{} repair packets", sender.fec_packets);
}

/// Goal: see the module.
#[test]
fn invariants_hold_for_any_mixture() {
    let mut failed = Vec::new();
    let (mut repairs, mut recovered, mut copies) = (0, 0, 0);
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(simulation) => {
                let sender = simulation.sender.snapshot(simulation.now);
                repairs += sender.fec_packets;
                recovered += sender.fec_recovered;
                copies += sender.copies;
            }
            Err(cause) => {
                let text = cause.downcast_ref::<String>().map_or("(no text)", String::as_str);
                println!("seed {seed}: {text}");
                failed.push(seed);
            }
        }
    }
    println!("{repairs} repair packets, {recovered} packets recovered from them, {copies} copies");
    assert!(repairs > 1000 && recovered > 10 && copies > 100, "protection is part of the campaign");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

/// Goal: the same seed gives the same deliveries at the same microsecond, and as many datagrams.
#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in [3, 17] {
        let trace = |simulation: Simulation| {
            let deliveries: Vec<_> = simulation.delivered.iter().map(|(at, d)| (*at, load::number(&d.bytes))).collect();
            (deliveries, simulation.up_packets, simulation.up_bytes, simulation.down_bytes)
        };
        assert_eq!(trace(run(seed)), trace(run(seed)));
    }
}
