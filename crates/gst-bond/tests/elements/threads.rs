//! Properties and links that several threads set and read, also during a start.

use super::support::{PATIENCE, init};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A start that takes its time keeps nobody from looking at properties: here it waits for a key that comes through a pipe.
#[test]
fn properties_are_told_during_a_slow_start() {
    init();
    for name in ["rsristbondsink", "rsristbondsrc"] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let key = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let element = gst::ElementFactory::make(name).property("psk-file", key).build().unwrap();
        if name == "rsristbondsrc" {
            element.set_property("listen", "127.0.0.1:0");
        }
        let starting = element.clone();
        let start = std::thread::spawn(move || starting.set_state(gst::State::Paused).is_ok());
        std::thread::sleep(Duration::from_millis(200));
        assert!(!start.is_finished(), "{name} does not wait");
        let (tell, told) = std::sync::mpsc::channel();
        let telling = element.clone();
        std::thread::spawn(move || tell.send(telling.property::<u32>("latency")));
        let latency = told.recv_timeout(Duration::from_secs(3));
        writer.write_all(b"a key\n").unwrap();
        drop(writer);
        assert!(start.join().unwrap(), "{name}");
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(latency, Ok(1000), "{name}");
    }
}

/// Links and latency set while the element starts reach its flow, whatever moment they are set at.
#[test]
fn what_is_set_during_a_start_reaches_the_flow() {
    init();
    let sink = gst::ElementFactory::make("rsristbondsink").property("async", false).build().unwrap();
    let measured = Instant::now();
    sink.set_state(gst::State::Paused).unwrap();
    let start_takes = measured.elapsed();
    sink.set_state(gst::State::Null).unwrap();
    for step in 0..40 {
        sink.set_property("latency", 50_u32);
        sink.set_property("links", "");
        let other = sink.clone();
        let set = std::thread::spawn(move || {
            let until = Instant::now() + start_takes * step / 30;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            other.set_property("latency", 60_u32);
            assert!(other.emit_by_name::<bool>("add-link", &[&"127.0.0.1:9"]));
        });
        sink.set_state(gst::State::Paused).unwrap();
        set.join().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let stats = sink.property::<gst::Structure>("stats");
            let latency = stats.get::<f64>("latency-ms").unwrap();
            let links = stats.get::<gst::Array>("links").unwrap().len();
            if (latency - 60.0).abs() < 0.5 && links == 1 {
                break;
            }
            assert!(Instant::now() < until, "step {step}: {latency} ms, {links} links");
            std::thread::sleep(Duration::from_millis(5));
        }
        sink.set_state(gst::State::Null).unwrap();
    }
}

/// The lowest rate holds without a highest one, and a highest that is taken back while playing holds no more.
#[test]
fn either_end_of_the_encoder_range_may_be_left_open() {
    init();
    let sink = gst::ElementFactory::make("rsristbondsink")
        .property("async", false)
        .property("encoder-bitrate-min", 3_000_000_u64)
        .build()
        .unwrap();
    sink.set_state(gst::State::Paused).unwrap();
    // Without links there is nothing to advise: the lowest rate is what it says.
    let wait_for_advice = |bps: u64| {
        let until = Instant::now() + PATIENCE;
        while sink.property::<u64>("rate-advice") != bps {
            assert!(Instant::now() < until, "{} instead of {bps}", sink.property::<u64>("rate-advice"));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for_advice(3_000_000);
    sink.set_property("encoder-bitrate-max", 4_000_000_u64);
    sink.set_property("encoder-bitrate-min", 1_000_000_u64);
    wait_for_advice(1_000_000);
    sink.set_property("encoder-bitrate-max", 0_u64);
    sink.set_property("encoder-bitrate-min", 9_000_000_u64);
    wait_for_advice(9_000_000);
    sink.set_state(gst::State::Null).unwrap();
}

/// Runs both at once.
fn at_once(first: impl FnOnce() + Send, second: impl FnOnce() + Send) {
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            first();
        });
        start.wait();
        second();
    });
}

/// Two threads set one end each, at the same moment, and look after both have.
#[test]
fn both_ends_of_the_encoder_range_may_be_set_at_once() {
    init();
    let sink = gst::ElementFactory::make("rsristbondsink").build().unwrap();
    let steps = AtomicU64::new(0);
    let meet = |step: u64| {
        steps.fetch_add(1, Ordering::SeqCst);
        while steps.load(Ordering::SeqCst) < 2 * step {
            std::thread::yield_now();
        }
    };
    let lost = AtomicU64::new(0);
    let set = |name: &'static str| {
        let (sink, meet, lost) = (&sink, &meet, &lost);
        move || {
            for round in 0..20_000 {
                meet(2 * round + 1);
                sink.set_property(name, round);
                meet(2 * round + 2);
                lost.fetch_add(u64::from(sink.property::<u64>(name) != round), Ordering::SeqCst);
            }
        }
    };
    at_once(set("encoder-bitrate-min"), set("encoder-bitrate-max"));
    assert_eq!(lost.into_inner(), 0);
}

/// Two threads add links that have no id yet: each gets one of its own.
#[test]
fn links_may_be_added_by_two_threads_at_once() {
    const EACH: u32 = 8;
    init();
    let sink = gst::ElementFactory::make("rsristbondsink").build().unwrap();
    for round in 0..100 {
        let add = || {
            let sink = sink.clone();
            move || (0..EACH).for_each(|_| assert!(sink.emit_by_name::<bool>("add-link", &[&"127.0.0.1:9"])))
        };
        at_once(add(), add());
        let links = (0..2 * EACH).filter(|id| sink.emit_by_name::<bool>("remove-link", &[id])).count();
        assert_eq!(links, 2 * EACH as usize, "round {round}");
    }
}
