//! Elements that pause, stop, seek and start again.

use super::support::{LATENCY_MS, PATIENCE, collect, end, init, packets, push, receiver, sending, wait_for};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nothing arrives: the end must not wait for a packet.
#[test]
fn a_silent_source_ends_at_once_when_asked_and_stops_while_it_waits() {
    init();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("rsristbondsrc").property("listen", "127.0.0.1:0").build().unwrap();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(pipeline.send_event(gst::event::Eos::new()));
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let pad = source.static_pad("src").unwrap();
    assert!(source.property::<Option<String>>("local-address").is_some(), "it runs again");
    assert!(sink.static_pad("sink").unwrap().peer().is_some_and(|peer| peer == pad));
    pipeline.set_state(gst::State::Null).unwrap(); // returns: `create` is unlocked
    assert!(source.property::<Option<String>>("local-address").is_none());
}

/// Whoever looks at statistics all the time does not keep the socket from the next start.
#[test]
fn a_source_starts_again_on_its_port_while_it_is_looked_at() {
    init();
    let address = free_ports::loopback(free_ports::free_pair()).to_string();
    let source = gst::ElementFactory::make("rsristbondsrc").property("listen", address).build().unwrap();
    source.set_state(gst::State::Playing).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    drop(source.property::<Option<gst::Structure>>("stats"));
                }
            });
        }
        let starts = (0..100).map(|_| {
            source.set_state(gst::State::Null).unwrap();
            source.set_state(gst::State::Playing).is_ok()
        });
        let started = starts.filter(|started| *started).count();
        ended.store(true, Ordering::Relaxed);
        assert_eq!(started, 100);
    });
    source.set_state(gst::State::Null).unwrap();
}

/// A flushing seek in the middle: what was sent stays, and the file comes again from its beginning, whole.
#[test]
fn a_seek_with_flush_sends_the_file_again_from_its_beginning() {
    const PACKETS: u32 = 7 * 600;
    init();
    let flow = receiver();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), packets(0..PACKETS)).unwrap();
    let location = file.path().display().to_string();
    let source =
        gst::ElementFactory::make("filesrc").property("location", location).property("blocksize", 1316_u32).build();
    let pause = gst::ElementFactory::make("identity").property("sleep-time", 4000_u32).build();
    let sink = gst::ElementFactory::make("rsristbondsink")
        .property("links", flow.local_addr().to_string())
        .property("latency", LATENCY_MS)
        .property("sync", false)
        .build();
    let elements = [source.unwrap(), pause.unwrap(), sink.unwrap()];
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(&elements).unwrap();
    gst::Element::link_many(&elements).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let taken =
        || elements[2].property::<Option<gst::Structure>>("stats").and_then(|s| s.get::<u64>("packets-in").ok());
    let until = Instant::now() + PATIENCE;
    while taken().unwrap_or(0) < 20 {
        assert!(Instant::now() < until, "{:?}", taken());
        std::thread::sleep(Duration::from_millis(5));
    }
    // As gst-validate does it: paused, sought, and on.
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::format::Bytes::from_u64(0)).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let received = collect(&flow);
    let whole = packets(0..PACKETS);
    assert!(received.ends_with(&whole), "{} bytes", received.len());
    let before = &received[..received.len() - whole.len()];
    assert!(before.len() >= 20 * 1316 && whole.starts_with(before), "{} bytes before the seek", before.len());
}

/// Paused it holds what comes; stopped and started again it is a new flow with the same links.
#[test]
fn a_pause_and_a_stop_lose_nothing_that_was_sent_before() {
    init();
    let flow = receiver();
    let (pipeline, source, sink) = sending(&flow);
    push(&source, packets(0..70));
    let taken = || sink.property::<Option<gst::Structure>>("stats").and_then(|s| s.get::<u64>("packets-in").ok());
    let wait_taken = |count: u64| {
        let until = Instant::now() + PATIENCE;
        while taken() != Some(count) {
            assert!(Instant::now() < until, "{:?} instead of {count}", taken());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_taken(10);
    pipeline.set_state(gst::State::Paused).unwrap();
    push(&source, packets(70..140));
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_taken(20);
    // Waits until everything is confirmed.
    pipeline.set_state(gst::State::Ready).unwrap();
    assert_eq!(collect(&flow), packets(0..140));
    pipeline.set_state(gst::State::Playing).unwrap();
    push(&source, packets(140..210));
    end(&source);
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(collect(&flow), packets(140..210));
}
