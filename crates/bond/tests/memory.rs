//! What a flow costs in memory: allocations per packet, and how much it holds in the long run. Method: an allocator that
//! counts.
#![allow(clippy::unwrap_used)] // a simulation that can not be set up must fail

mod simulation;

use bond::PacketClass;
use bond::config::{KeySize, PskConfig, ReceiverConfig, Secret, SenderConfig};
use link_sim::{BurstLoss, BurstPeriod, Capacity, LinkConfig, Outage, OutageKind, PathConfig};
use simulation::{Simulation, load};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use units::Timestamp;

/// Counts for each thread by itself: tests run side by side.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    // Gone while a thread ends.
    let _ = ALLOCATIONS.try_with(|counter| counter.set(counter.get() + allocations));
    let _ = HELD_BYTES.try_with(|counter| counter.set(counter.get() + bytes));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn path(kbps: u64, delay_ms: f64) -> PathConfig {
    let up =
        LinkConfig { capacity: Capacity::Constant { kbps }, delay_ms, queue_bytes: kbps * 50, ..LinkConfig::default() };
    PathConfig { up, down: LinkConfig { delay_ms, ..LinkConfig::default() }, ..PathConfig::default() }
}

fn simulation(latency: Duration, paths: &[PathConfig]) -> Simulation {
    let psk = Some(PskConfig {
        passphrase: Secret::new("x"),
        key_size: KeySize::Aes256,
        rotate_after_packets: Some(100_000),
    });
    let sender = SenderConfig { latency, psk: psk.clone(), ..Default::default() };
    let receiver = ReceiverConfig { latency, psk, ..Default::default() };
    Simulation::new(sender, receiver, paths, 1)
}

/// Takes what came out; how many packets.
fn taken(simulation: &mut Simulation) -> u64 {
    simulation.sender_events.clear();
    simulation.receiver_events.clear();
    simulation.one_way.iter_mut().for_each(Vec::clear);
    simulation.delivered.drain(..).count() as u64
}

/// Goal: in a steady flow a packet costs no allocation, not even at both ends together: memory is taken for a dozen at once.
#[test]
fn a_packet_costs_no_allocation() {
    let mut simulation = simulation(Duration::from_millis(500), &[path(30_000, 20.0), path(30_000, 30.0)]);
    let payload = load::payload(1);
    // How many allocations a second takes at one packet every so many microseconds.
    let second = |interval_micros: u64, simulation: &mut Simulation| {
        let (began, mut at) = (simulation.now, simulation.now);
        let mut delivered = taken(simulation);
        while at < began + Duration::from_secs(3) {
            at += Duration::from_micros(interval_micros);
            simulation.run_until(at);
            simulation.push(payload.clone(), PacketClass::Video);
            delivered += taken(simulation);
        }
        // The emulated network copies every datagram once.
        let before = ALLOCATIONS.get();
        while at < began + Duration::from_secs(4) {
            at += Duration::from_micros(interval_micros);
            simulation.run_until(at);
            simulation.push(payload.clone(), PacketClass::Video);
            delivered += taken(simulation);
        }
        println!("{interval_micros} us: {} allocations, {delivered} delivered", ALLOCATIONS.get() - before);
        ALLOCATIONS.get() - before
    };
    let few = second(2_000, &mut simulation);
    let many = second(500, &mut simulation);
    let per_packet = (many - few) as f64 / 1500.0;
    let of_both_ends = per_packet - 1.0;
    assert!(of_both_ends < 0.5, "{of_both_ends} allocations per packet beside the network's one");
}

/// Goal: hours of losses, outages and retransmissions leave nothing behind. What the two ends hold is the media of the
/// latency budget and a few tables.
#[test]
fn hours_leave_nothing_behind() {
    const HOURS: u64 = 2;
    const MBPS: f64 = 1.2;
    let mut paths = [path(2_000, 20.0), path(1_500, 60.0)];
    paths[0].up.loss = 0.01;
    paths[1].up.burst_loss = Some(BurstLoss { loss: 0.01, period: BurstPeriod::Millis(40.0), loss_bad: 1.0 });
    // Every five minutes one link is away for ten seconds, every eleven the other for one.
    let outage = |from_ms, long_ms| Outage { from_ms, to_ms: from_ms + long_ms, kind: OutageKind::Lose };
    paths[0].outages = (1..HOURS * 12).map(|i| outage(i * 300_000, 10_000)).collect();
    paths[1].outages = (1..HOURS * 5).map(|i| outage(i * 660_000, 1_000)).collect();
    let latency = Duration::from_secs(1);
    let mut simulation = simulation(latency, &paths);
    let interval = Duration::from_secs_f64(load::PAYLOAD_BYTES as f64 * 8.0 / (MBPS * 1e6));
    let (mut pushed, mut delivered) = (0u64, 0);
    // The most that was held in each ten minutes.
    let mut most = Vec::new();
    let mut at = Timestamp::ZERO;
    let before = HELD_BYTES.get();
    for part in 0..HOURS * 6 {
        let mut held_most = 0;
        while at < Timestamp::from_millis((part + 1) * 600_000) {
            at += interval;
            simulation.run_until(at);
            simulation.push(load::payload(pushed as u32), PacketClass::Video);
            pushed += 1;
            delivered += taken(&mut simulation);
            held_most = held_most.max(HELD_BYTES.get() - before);
        }
        most.push(held_most);
    }
    println!("held at most in each ten minutes: {most:?}; {delivered} of {pushed} delivered");
    assert!(delivered as f64 > pushed as f64 * 0.999, "{delivered} of {pushed}");
    let highest = most.iter().copied().max().unwrap();
    let (first_half, second_half) = most.split_at(most.len() / 2);
    let [first, second] = [first_half, second_half].map(|half| half.iter().copied().max().unwrap());
    // An outage may fall together with another once, and a table that has grown for it stays.
    assert!(second <= first * 5 / 4, "{first} bytes in the first half, {second} in the second");
    // Both ends hold the media of their budget, one of them half a second more; the rest is tables and blocks of memory.
    let media = (MBPS * 1e6 / 8.0 * 2.5) as i64;
    assert!(highest < 2 * media + 500_000, "{highest} bytes held for {media} bytes of media");
}
