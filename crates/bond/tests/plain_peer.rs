//! Our sender towards a plain RIST receiver, which tells nothing but echoes and requests.
//!
//! The receiver is ours with its extension off; it behaves as TR-06-1 asks, and so do the real ones that link-io's interop
//! tests run.

mod simulation;

use bond::config::{Extension, LinkOptions, Profile, ReceiverConfig, SenderConfig};
use bond::sender::SenderInput;
use bond::{Channel, PacketClass};
use bytes::Bytes;
use link_sim::{Capacity, Outage, OutageKind, PathConfig, Rng, SkewedClock, Trace};
use rist::wire::rtcp::{NackRange, RangeEntry, ReceiverReport, Sdes};
use simulation::follow::{self, Encoder};
use simulation::score::Score;
use simulation::{Simulation, load, scenario, score};
use std::time::Duration;
use units::{LinkId, Timestamp};

const LATENCY: Duration = Duration::from_secs(1);

fn run(profile: Profile, paths: &[PathConfig], mbps: f64, seconds: f64, seed: u64) -> (Score, Simulation) {
    let sender = SenderConfig { profile, latency: LATENCY, ..Default::default() };
    let receiver = ReceiverConfig {
        profile,
        latency: LATENCY,
        extension: Extension::Off,
        quality_messages: false,
        ..Default::default()
    };
    let mut simulation = Simulation::without_links(sender, receiver, paths, seed, SkewedClock::new(3_000_000, 40));
    for index in 0..paths.len() {
        simulation.add_link(index, LinkOptions::default());
    }
    let items = load::video(mbps * 1e6, seconds);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    simulation.run_until(simulation.now + LATENCY + Duration::from_secs(2));
    let mut score = score::judge(&items, LATENCY, &simulation);
    score.sent_per_media = simulation.up_bytes as f64 / (items.len() as f64 * 1344.0);
    (score, simulation)
}

/// Four links of 5 Mbit/s.
fn equal() -> Vec<PathConfig> {
    [20.0, 30.0, 45.0, 60.0]
        .iter()
        .enumerate()
        .map(|(i, ms)| scenario::link(&format!("l{i}"), 5000, *ms, 625))
        .collect()
}

/// Goal: links of 8, 5 and 2 Mbit/s carry 11, each what it can: equal shares would overload the smallest.
#[test]
fn shares_follow_what_links_carry() {
    for profile in [Profile::Main, Profile::Simple] {
        let (score, simulation) = run(profile, &scenario::asymmetric(), 11.0, 30.0, 1);
        let sender = simulation.sender.snapshot(simulation.now);
        println!("{profile:?} {score:?}");
        assert!(!sender.extension);
        assert!(score.delivered_percent > 99.999, "{profile:?} {score:?}");
        let sent: Vec<u64> = sender.links.iter().map(|link| link.packets_sent).collect();
        assert!(sent[0] > 2 * sent[2] && sent[1] > sent[2], "{sent:?}");
        assert!(score.sent_per_media < 1.1, "{score:?}");
        assert!(score.frames_on_time_percent > 99.99, "{score:?}");
        // The budget and the shortest way: that media waited for the first answer is made up for.
        assert!((1019.0..1030.0).contains(&score.p50_ms), "{score:?}");
    }
}

/// Goal: one of four links is cut without warning at 70 % load, and nothing is lost.
#[test]
fn a_cut_link_costs_nothing() {
    for cut in 0..4 {
        let mut paths = equal();
        paths[cut].outages = vec![Outage { from_ms: 12_000, to_ms: 60_000, kind: OutageKind::Lose }];
        let (score, simulation) = run(Profile::Main, &paths, 14.0 * 0.95, 25.0, 7 + cut as u64);
        println!("cut {cut}: {score:?}");
        let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
        assert_eq!(receiver.lost_packets, 0, "cut {cut}");
        assert!(score.delivered_percent > 99.999 && score.sent_per_media < 1.2, "cut {cut}: {score:?}");
    }
}

/// Goal: with 2 % of loss on every way everything is delivered, and little more is sent than was lost.
#[test]
fn losses_are_repaired_once() {
    let mut paths = equal();
    for path in &mut paths {
        (path.up.loss, path.down.loss) = (0.02, 0.02);
    }
    let (score, simulation) = run(Profile::Main, &paths, 12.0, 30.0, 3);
    println!("{score:?}");
    assert!(score.delivered_percent > 99.999 && score.sent_per_media < 1.09, "{score:?}");
    for link in simulation.sender.snapshot(simulation.now).links {
        let loss = link.loss.as_f64();
        assert!((0.005..0.04).contains(&loss), "{}: {loss}", link.name);
    }
}

/// Goal: hundreds of isolated losses that are found at once are asked for in datagrams that every path takes, and all come: half
/// of a burst is lost, every second packet, on paths that carry datagrams of 1200 bytes towards the sender.
#[test]
fn many_requests_fit_their_datagrams() {
    for profile in [Profile::Main, Profile::Simple] {
        let sender = SenderConfig { profile, extension: Extension::Off, ..Default::default() };
        let receiver = ReceiverConfig { profile, extension: Extension::Off, ..Default::default() };
        let mut paths = [scenario::link("a", 10_000_000, 20.0, 4000), scenario::link("b", 10_000_000, 20.0, 4000)];
        for path in &mut paths {
            path.down.mtu = Some(1228);
        }
        paths[1].up.outages = scenario::outages_of(&[(2000, 2010)]);
        let mut simulation = Simulation::without_links(sender, receiver, &paths, 8, SkewedClock::new(3_000_000, 0));
        simulation.overheard_down = Some(Vec::new());
        for index in 0..paths.len() {
            simulation.add_link(index, LinkOptions { weight: Some(1), ..Default::default() });
        }
        let burst = (0..900).map(|number| (2001, number));
        let items: Vec<(u64, u32)> =
            (0..200).map(|n| (10 * u64::from(n), 900 + n)).chain(burst).chain([(2011, 1100)]).collect();
        for &(ms, number) in &items {
            simulation.run_until(Timestamp::from_millis(ms));
            simulation.push(load::payload(number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(3));
        let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
        let nacks: u64 = simulation.sender.snapshot(simulation.now).links.iter().map(|l| l.nacks_received).sum();
        let overheard = simulation.overheard_down.unwrap_or_default();
        let longest = overheard.iter().map(Bytes::len).max();
        println!("{profile:?}: {longest:?} bytes, {nacks} requests, {} lost", receiver.lost_packets);
        assert!(longest.is_some_and(|bytes| bytes <= 1200), "{profile:?}: {longest:?} bytes");
        assert!(nacks >= 440, "{profile:?}: {nacks} requests");
        assert_eq!((simulation.delivered.len(), receiver.lost_packets), (items.len(), 0), "{profile:?}");
    }
}

/// Goal: an encoder that follows the advice uses nearly as much of made-up cellular links as with our own receiver, and
/// nothing is lost.
#[test]
fn the_advice_uses_most_of_cellular_links() {
    let used = |extension| {
        let (mut used, mut made, mut lost) = (0.0, 0, 0);
        for seed in 21..=24 {
            let paths = scenario::synthetic(seed, &[1.0]).remove(0).paths;
            let run = follow::run_towards(extension, LATENCY, &paths, 45, seed, Encoder::default(), |_| ());
            used += run.delivered(5.0, 45.0) / run.capacity(5.0, 45.0) / 4.0;
            let (packets, missing) = run.made_and_lost(5.0, 45.0);
            (made, lost) = (made + packets, lost + missing);
        }
        println!("{extension:?}: {used:.3} of the capacity used, {lost} of {made} packets lost");
        (used, lost as f64 / made as f64)
    };
    let (own, plain) = (used(Extension::Offer), used(Extension::Off));
    assert!(plain.0 > 0.9 * own.0 && plain.0 > 0.85, "{plain:?} of {own:?}");
    assert!(plain.1 < 1e-5, "{plain:?}");
}

/// Two to six made-up cellular links of any mean, delay and queue.
fn any_links(seed: u64) -> Vec<PathConfig> {
    let mut rng = Rng::new(seed, 17);
    let count = 2 + (rng.unit() * 5.0) as u64;
    let path = |i| {
        let kbps = 1500.0 * (rng.unit() * 1.7).exp();
        let delay_ms = 12.0 + rng.unit() * 50.0;
        let queue_kb = (kbps / 8.0 * (0.4 + rng.unit() * 1.6)).max(100.0) as u64;
        let mut path = scenario::link(&format!("any{i}"), 0, delay_ms, queue_kb);
        let trace = Trace::cellular(seed * 100 + i, kbps, 60);
        path.up.capacity = Capacity::Trace { trace, offset_ms: 0, scale: 1.0 };
        path
    };
    (0..count).map(path).collect()
}

/// Goal: the same on links that nothing was tuned for: at least 0.8 of each bond is used, and hardly anything is lost, though
/// each run has links that stall for up to two seconds. Of two links, what one held then may be more than the other carries.
#[test]
fn the_advice_uses_most_of_any_cellular_links() {
    let four = |seed| scenario::synthetic(seed, &[1.0]).remove(0).paths;
    let runs = (101..=116).map(|seed| (seed, four(seed))).chain((101..=112).map(|seed| (seed, any_links(seed))));
    let mut sums = [(0, 0); 2];
    for (seed, paths) in runs {
        let run = follow::run_towards(Extension::Off, LATENCY, &paths, 45, seed, Encoder::default(), |_| ());
        let used = run.delivered(5.0, 45.0) / run.capacity(5.0, 45.0);
        let (packets, missing) = run.made_and_lost(5.0, 45.0);
        println!(
            "seed {seed}, {} links: {used:.3} of the capacity used, {missing} of {packets} packets lost",
            paths.len()
        );
        assert!(used > 0.8, "seed {seed}: {used:.3}");
        let (made, lost) = &mut sums[usize::from(paths.len() == 2)];
        (*made, *lost) = (*made + packets, *lost + missing);
    }
    println!("{sums:?}");
    let share = |(made, lost): (u64, u64)| lost as f64 / made.max(1) as f64;
    assert!(share(sums[0]) < 1e-5, "{sums:?}");
    assert!(share(sums[1]) < 3e-4, "two links: {sums:?}");
}

/// Goal: one datagram of requests makes the sender look for as many packets as there are numbers, however often it names
/// them. Method: what is asked for behind all numbers that were never sent is sent again, behind twice as many it is not.
#[test]
fn one_datagram_asks_for_no_more_than_all_numbers() {
    const FLOW: u32 = 0x1234_5670;
    for (times, expected) in [(1, 1), (2, 0)] {
        let sender = SenderConfig {
            profile: Profile::Simple,
            latency: LATENCY,
            flow_id: Some(FLOW),
            first_sequence: Some(0),
            ..Default::default()
        };
        let receiver = ReceiverConfig {
            profile: Profile::Simple,
            latency: LATENCY,
            extension: Extension::Off,
            ..Default::default()
        };
        let mut simulation = Simulation::without_links(sender, receiver, &equal()[..1], 1, SkewedClock::new(0, 0));
        simulation.add_link(0, LinkOptions::default());
        let items = load::even(2e6, 1.0);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_millis(240));
        let sent = items.len() as u16;
        let before = simulation.sender.snapshot(simulation.now).retransmits;
        let mut compound = Vec::new();
        ReceiverReport::emit(7, &[], None, &mut compound);
        Sdes { ssrc: 7, cname: b"x" }.emit(&mut compound);
        for _ in 0..times {
            NackRange::emit(FLOW, [RangeEntry { first: sent, additional: u16::MAX - sent }], &mut compound);
        }
        NackRange::emit(FLOW, [RangeEntry { first: sent - 1, additional: 0 }], &mut compound);
        simulation.input(SenderInput::Datagram { link: LinkId(0), channel: Channel::Control, bytes: &mut compound });
        simulation.run_until(simulation.now + Duration::from_millis(50));
        assert_eq!(simulation.sender.snapshot(simulation.now).retransmits - before, expected, "{times}");
    }
}
