//! Elements that pause, stop, seek and start again.

use super::support::{LATENCY_MS, PATIENCE, collect, end, init, packets, push, receiver, sending, wait_for};
use bond::PacketClass;
use bond::config::SenderConfig;
use gstreamer as gst;
use gstreamer::prelude::*;
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use units::LinkId;

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

/// Goal: a flush does not hang or end a receiving pipeline, and a live stream cannot be sought: what comes after either is taken.
/// Method: numbered payloads all the time, and the newest number that has come out.
#[test]
fn a_flush_of_the_source_and_a_refused_seek_let_the_stream_go_on() {
    init();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("rsristbondsrc").property("listen", "127.0.0.1:0");
    let source = source.property("latency", LATENCY_MS).build().unwrap();
    let taker = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false);
    let taker = taker.property("signal-handoffs", true).build().unwrap();
    let newest = Arc::new(AtomicU32::new(0));
    let taken = Arc::clone(&newest);
    taker.connect("handoff", false, move |values| {
        let map = values[1].get::<gst::Buffer>().unwrap().into_mapped_buffer_readable().unwrap();
        taken.store(u32::from_be_bytes(map[4..8].try_into().unwrap()), Ordering::SeqCst);
        None
    });
    pipeline.add_many([&source, &taker]).unwrap();
    source.link(&taker).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let address = source.property::<String>("local-address").parse().unwrap();
    let links = vec![LinkSpec::new(LinkId(0), address)];
    let flow = FlowSender::open(SenderOptions { bond: SenderConfig::default(), links }).unwrap();
    let mut next = 1;
    // Until something comes out that was sent after the call.
    let mut goes_on = |what: &str| {
        let (first, until) = (next, Instant::now() + PATIENCE);
        while newest.load(Ordering::SeqCst) < first {
            assert!(Instant::now() < until, "nothing comes out {what}");
            flow.push(packets(next..next + 1).into(), PacketClass::Other, None).unwrap();
            next += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    goes_on("at first");
    for round in 0..3 {
        assert!(source.send_event(gst::event::FlushStart::new()), "round {round}");
        std::thread::sleep(Duration::from_millis(50));
        assert!(source.send_event(gst::event::FlushStop::new(true)), "round {round}");
        goes_on("after a flush");
        assert!(pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).is_err());
        goes_on("after a seek");
    }
    // Flushed as it is, it stops.
    assert!(source.send_event(gst::event::FlushStart::new()));
    pipeline.set_state(gst::State::Null).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(source.property::<Option<String>>("local-address").is_some(), "it runs again");
    pipeline.set_state(gst::State::Null).unwrap();
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
