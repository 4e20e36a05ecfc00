//! How much of cellular links our sender uses towards librist's `ristreceiver`, with an encoder that follows the rate
//! advice: real sockets, the real program, made-up uplinks (`link_sim`) that fade and stall between them.
//!
//! `cargo bench -p link-io --bench plain` prints a row for each bond, two at a time; nothing is asserted. A row takes 50 s.
//! `BENCH_SEEDS=FROM-TO` runs other bonds. Figures count from 5 s on: payload that came out, as a share of what the links
//! could carry less headers; payloads missing (standard error tells when, and what the program says); milliseconds from the
//! encoder to the output.

#[path = "../tests/support/mod.rs"]
mod support;

use bond::PacketClass;
use bond::config::{Profile, SenderConfig};
use free_ports::{free_pair, loopback};
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use link_sim::{Capacity, Link, LinkConfig, PathConfig, Rng, Trace};
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::media::{Output, PAYLOAD_BYTES, number_of, payload};
use support::proxy::Proxy;
use support::tool::Tool;
use units::{Bitrate, LinkId, Timestamp};

const SEEDS: (u64, u64) = (1, 8);
const PARALLEL: usize = 2;
const LATENCY: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(5);
const COUNTED: Duration = Duration::from_secs(40);
const RUN: Duration = WARM_UP.saturating_add(COUNTED);
const FRAME: Duration = Duration::from_micros(33_333);
/// RTP, GRE with virtual ports, UDP and IPv4 on a payload.
const HEADER_BYTES: usize = 12 + 8 + 28;
/// TS packets in a payload, which the numbers count.
const PACKETS: u32 = 7;

/// Four links as of the acceptance figures, or two to six of any kind.
fn links(seed: u64) -> Vec<PathConfig> {
    let mut rng = Rng::new(seed, 23);
    let path = |i: u64, kbps: f64, delay_ms: f64, queue_ms: f64| {
        let trace = Trace::cellular(seed * 100 + i, kbps, 60);
        let capacity = Capacity::Trace { trace, offset_ms: 0, scale: 1.0 };
        let queue_bytes = ((kbps / 8.0 * queue_ms) as u64).max(60_000);
        let up = LinkConfig { capacity, delay_ms, queue_bytes, ..LinkConfig::default() };
        PathConfig { up, down: LinkConfig { delay_ms, ..LinkConfig::default() }, ..PathConfig::default() }
    };
    if seed % 2 == 1 {
        return (0..4u64).map(|i| path(i, 2000.0 + 1000.0 * i as f64, 20.0 + 10.0 * i as f64, 1000.0)).collect();
    }
    (0..2 + rng.below(5))
        .map(|i| path(i, 1000.0 * (rng.unit() * 1.7).exp(), 12.0 + rng.unit() * 50.0, 400.0 + rng.unit() * 1600.0))
        .collect()
}

/// Payload bits per second that the links carry.
fn capacity(paths: &[PathConfig]) -> f64 {
    let (from, to) = (Timestamp::ZERO + WARM_UP, Timestamp::ZERO + RUN);
    let bytes = paths.iter().filter_map(|path| {
        let link: Link<()> = Link::new(path.up.clone(), 0).expect("a link that can be");
        link.capacity_between(from, to)
    });
    let share = PAYLOAD_BYTES as f64 / (PAYLOAD_BYTES + HEADER_BYTES) as f64;
    bytes.sum::<f64>() * 8.0 * share / COUNTED.as_secs_f64()
}

fn run(seed: u64) -> String {
    let paths = links(seed);
    let target = loopback(free_pair());
    let (output, to) = Output::udp();
    let Output::Udp(output) = output else { unreachable!("asked for") };
    let buffer = LATENCY.as_millis();
    let input = format!("rist://@{target}?cname=theirs&buffer={buffer}&session-timeout=5000");
    let receiver =
        Tool::start("ristreceiver", &["-p", "1", "-i", &input, "-o", &format!("udp://{to}")].map(str::to_owned));
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    let proxy = Proxy::start_each(Profile::Main, paths.iter().map(|path| (target, path)), seed);
    let fronts = proxy.fronts.iter().enumerate();
    let links = fronts.map(|(i, front)| LinkSpec::new(LinkId(i as u16), *front)).collect();
    let bond = SenderConfig { latency: LATENCY, ..SenderConfig::default() };
    let sender = FlowSender::open(SenderOptions { bond, links }).expect("our sender");
    sender.set_encoder_range(Bitrate::from_kbps(300), Bitrate::from_kbps(60_000));
    let done = AtomicBool::new(false);
    let (made, out) = std::thread::scope(|scope| {
        let output = scope.spawn(|| collect(&output, &done));
        let made = encode(&sender, started);
        std::thread::sleep(LATENCY * 3);
        done.store(true, Ordering::SeqCst);
        (made, output.join().expect("no panic"))
    });
    let counted: Vec<(u32, Instant)> =
        made.into_iter().filter(|(_, at)| (WARM_UP..RUN).contains(&(*at - started))).collect();
    let mut waits: Vec<u128> = Vec::new();
    let mut lost: Option<(Duration, Duration)> = None;
    for (number, at) in &counted {
        match out.binary_search_by_key(number, |(number, _)| *number) {
            Ok(place) => waits.push((out[place].1 - *at).as_millis()),
            Err(_) => lost = Some((lost.map_or(*at - started, |(first, _)| first), *at - started)),
        }
    }
    if let Some((first, last)) = lost {
        eprintln!(
            "bond {seed}: the first lost payload was made at {first:.1?}, the last at {last:.1?}; {}",
            receiver.log_tail()
        );
    }
    waits.sort_unstable();
    let of = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0);
    let used = waits.len() as f64 * PAYLOAD_BYTES as f64 * 8.0 / COUNTED.as_secs_f64() / capacity(&paths);
    let stats = sender.snapshot();
    drop((receiver, proxy));
    format!(
        "| {seed} | {} | {used:.3} | {} of {} | {} | {} | {} | {:.2} % |",
        paths.len(),
        counted.len() - waits.len(),
        counted.len(),
        stats.dropped_packets,
        of(0.5),
        of(0.99),
        stats.redundancy * 100.0
    )
}

/// Frames as large as the advice allows; gives the number of every payload and when it was made.
fn encode(sender: &FlowSender, started: Instant) -> Vec<(u32, Instant)> {
    let (mut made, mut owed) = (Vec::new(), 0.0);
    let mut due = started;
    while started.elapsed() < RUN {
        owed += sender.rate_advice().as_bps() as f64 / 8.0 * FRAME.as_secs_f64();
        let now = Instant::now();
        while owed >= PAYLOAD_BYTES as f64 {
            owed -= PAYLOAD_BYTES as f64;
            let number = made.len() as u32;
            made.push((number, now));
            sender.push(payload(number, false), PacketClass::Video, None).expect("room for a payload");
        }
        due += FRAME;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    made
}

/// The number of every payload that comes out, and when it did; ascending.
fn collect(output: &UdpSocket, done: &AtomicBool) -> Vec<(u32, Instant)> {
    output.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let (mut out, mut bytes) = (Vec::new(), [0; 2048]);
    while !done.load(Ordering::SeqCst) {
        if let Ok(length) = output.recv(&mut bytes)
            && let Some(number) = number_of(&bytes[..length])
        {
            out.push((number / PACKETS, Instant::now()));
        }
    }
    out.sort_unstable_by_key(|(number, _)| *number);
    out
}

fn main() {
    let seeds = std::env::var("BENCH_SEEDS").ok();
    let (from, to) = seeds
        .as_deref()
        .and_then(|seeds| seeds.split_once('-'))
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
        .unwrap_or(SEEDS);
    println!(
        "| bond | links | of the capacity used | lost | given up | p50 ms | p99 ms | redundancy |\n|---|---|---|---|---|---|---|---|"
    );
    let next = AtomicU64::new(from);
    let printing = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > to {
                        return;
                    }
                    let row = run(seed);
                    let _guard = printing.lock();
                    println!("{row}");
                }
            });
        }
    });
}
