//! Starting and stopping leaves nothing behind. Alone in its process: it counts what the process holds.
#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers too

use gstreamer as gst;
use gstreamer::glib::WeakRef;
use gstreamer::prelude::*;
use std::process::Command;
use std::time::{Duration, Instant};

/// Cycles mostly wait for the last packet to be confirmed, so some run side by side.
const LANES: u32 = 8;
const WARM_UP_PER_LANE: u32 = 25;
const CYCLES_PER_LANE: u32 = 125;
/// Growth of memory that is no leak, two kilobytes a cycle: allocators keep some of what was freed. Measured: 600 to 850 KB,
/// whether after one thousand cycles or eight.
const GROWTH_KB_MAX: i64 = 2 * 1024;
/// A timer that fires at the end has hold of its element for a moment.
const LET_GO_MAX: Duration = Duration::from_secs(10);
/// `GStreamer`'s own thread pool keeps some for a moment, at most one a lane.
const THREADS_MORE_MAX: usize = LANES as usize;

#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
    /// The most there ever was: what there is now depends on what the allocator gave back a moment ago.
    memory_peak_kb: i64,
}

fn held() -> Held {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    Held {
        threads: count("/proc/self/task"),
        descriptors: count("/proc/self/fd"),
        memory_peak_kb: peak.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// Everything of a pipeline that counts its references: itself, its elements, their pads.
fn objects(pipeline: &gst::Pipeline) -> Vec<WeakRef<gst::Object>> {
    let elements: Vec<_> = pipeline.iterate_recurse().into_iter().map(Result::unwrap).collect();
    let pads = elements.iter().flat_map(ElementExtManual::pads);
    let pads: Vec<_> = pads.map(|pad| pad.upcast_ref::<gst::Object>().downgrade()).collect();
    let bus = pipeline.bus().unwrap().upcast::<gst::Object>().downgrade();
    let of_elements = elements.iter().map(|element| element.upcast_ref::<gst::Object>().downgrade());
    of_elements.chain(pads).chain([bus, pipeline.upcast_ref::<gst::Object>().downgrade()]).collect()
}

/// One packet through both elements, then everything down, and nobody holds any of it.
fn cycle(packet: &[u8]) {
    let mut objects = run(packet);
    assert_eq!(objects.len(), 2 * (2 + 2 + 2), "two pipelines of two elements with a pad each, and their buses");
    let until = Instant::now() + LET_GO_MAX;
    loop {
        objects.retain(|object| object.upgrade().is_some());
        if objects.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left: {:?}", objects.iter().map(WeakRef::upgrade).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives what it made.
fn run(packet: &[u8]) -> Vec<WeakRef<gst::Object>> {
    let source = gst::ElementFactory::make("rsristbondsrc")
        .property("listen", "127.0.0.1:0")
        .property("latency", 50_u32)
        .property("psk", "secret words")
        .build()
        .unwrap();
    let taker = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build().unwrap();
    let receiving = gst::Pipeline::new();
    receiving.add_many([&source, &taker]).unwrap();
    source.link(&taker).unwrap();
    receiving.set_state(gst::State::Playing).unwrap();

    let giver = gst::ElementFactory::make("appsrc").property("format", gst::Format::Time).build().unwrap();
    let address = source.property::<String>("local-address");
    let sink = gst::ElementFactory::make("rsristbondsink")
        .property("links", format!("{address},{address}"))
        .property("latency", 50_u32)
        .property("psk", "secret words")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    let sending = gst::Pipeline::new();
    sending.add_many([&giver, &sink]).unwrap();
    giver.link(&sink).unwrap();
    sending.set_state(gst::State::Playing).unwrap();
    let buffer = gst::Buffer::from_slice(packet.to_vec());
    assert_eq!(giver.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]), gst::FlowReturn::Ok);
    assert_eq!(giver.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]), gst::FlowReturn::Ok);
    let bus = sending.bus().unwrap();
    assert!(bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Eos]).is_some());
    sending.set_state(gst::State::Null).unwrap();
    receiving.set_state(gst::State::Null).unwrap();
    [objects(&sending), objects(&receiving)].concat()
}

fn cycles(per_lane: u32, packet: &[u8]) {
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| (0..per_lane).for_each(|_| cycle(packet)));
        }
    });
}

/// Set in the process that counts: many arenas of the allocator would look like a leak.
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

#[test]
fn a_thousand_starts_and_stops_leave_nothing_behind() {
    if std::env::var_os(ONE_ARENA.0).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        assert!(again.arg("--nocapture").env(ONE_ARENA.0, ONE_ARENA.1).status().unwrap().success());
        return;
    }
    gst::init().unwrap();
    gst_bond::register().unwrap();
    let mut packet = vec![0x47, 0x01, 0x00, 0x10];
    packet.resize(188 * 7, 0x47);
    cycles(WARM_UP_PER_LANE, &packet);
    let before = held();
    let started = Instant::now();
    cycles(CYCLES_PER_LANE, &packet);
    let after = held();
    println!("{} cycles in {:?}: {before:?}, then {after:?}", LANES * CYCLES_PER_LANE, started.elapsed());
    assert!(after.threads <= before.threads + THREADS_MORE_MAX, "{before:?} {after:?}");
    assert!(after.descriptors <= before.descriptors + 1, "{before:?} {after:?}");
    assert!(after.memory_peak_kb - before.memory_peak_kb < GROWTH_KB_MAX, "{before:?} {after:?}");
}
