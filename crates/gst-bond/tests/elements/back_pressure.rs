//! Sources that can wait are held back to what the links carry; live ones are not.

use super::support::{
    LONG_LATENCY_MS, PATIENCE, collect, end, init, packets, packets_in, push, receiver_within, wait_for, without_links,
};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::time::{Duration, Instant};

/// Waits until the sink has the first of two buffers and the source still has the second: the sink waits for room then.
#[track_caller]
fn wait_until_held(source: &gst::Element, second: u64) {
    let level = || source.property::<u64>("current-level-bytes");
    let until = Instant::now() + PATIENCE;
    while level() != second {
        assert!(Instant::now() < until, "{} bytes", level());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(level(), second, "it does not wait");
}

/// No link is up and back-pressure holds the streaming thread: a flush and a stop get through all the same.
#[test]
fn a_sink_that_waits_for_room_is_flushed_and_stopped() {
    init();
    let (pipeline, source, sink) = without_links(false);
    for end in ["flush", "stop"] {
        push(&source, packets(0..70));
        push(&source, packets(70..140));
        wait_until_held(&source, 70 * 188);
        let started = Instant::now();
        if end == "flush" {
            let pad = source.static_pad("src").unwrap();
            assert!(pad.push_event(gst::event::FlushStart::new()));
            assert!(pad.push_event(gst::event::FlushStop::new(true)));
            assert_eq!(packets_in(&sink), 0, "nothing went on without room");
            // The flush ended the source's task; from the beginning it runs again.
            pipeline.set_state(gst::State::Ready).unwrap();
            pipeline.set_state(gst::State::Playing).unwrap();
        } else {
            pipeline.set_state(gst::State::Null).unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    }
}

/// A pause while the sink waits for room ends nothing: what was held back goes on after it, whole.
#[test]
fn a_sink_that_waits_for_room_goes_on_after_a_pause() {
    init();
    let flow = receiver_within(LONG_LATENCY_MS);
    let (pipeline, source, sink) = without_links(false);
    push(&source, packets(0..7000));
    push(&source, packets(7000..7070));
    wait_until_held(&source, 70 * 188);
    for _ in 0..2 {
        assert!(pipeline.set_state(gst::State::Paused).is_ok());
        std::thread::sleep(Duration::from_millis(100));
        assert!(pipeline.set_state(gst::State::Playing).is_ok());
        wait_until_held(&source, 70 * 188);
    }
    assert_eq!(packets_in(&sink), 0);
    assert!(sink.emit_by_name::<bool>("add-link", &[&flow.local_addr().to_string()]));
    end(&source);
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let received = collect(&flow);
    assert!(received == packets(0..7070), "{} of {} bytes", received.len(), 7070 * 188);
}

/// What comes at once is held back to what the links carry, and arrives whole; without back-pressure it does not.
#[test]
fn a_sink_takes_no_more_than_the_links_carry() {
    const KBPS: u32 = 4000;
    init();
    for backpressure in [true, false] {
        let flow = receiver_within(LONG_LATENCY_MS);
        let (pipeline, source, sink) = without_links(false);
        sink.set_property("backpressure", backpressure);
        let link = format!("{};rate-max={KBPS}", flow.local_addr());
        assert!(sink.emit_by_name::<bool>("add-link", &[&link]));
        let started = Instant::now();
        let bytes = packets(0..7 * 1200);
        push(&source, bytes.clone());
        end(&source);
        wait_for(&pipeline, gst::MessageType::Eos);
        let took = started.elapsed();
        pipeline.set_state(gst::State::Null).unwrap();
        let received = collect(&flow);
        assert_eq!(received == bytes, backpressure, "{} of {} bytes in {took:?}", received.len(), bytes.len());
        let least = Duration::from_secs_f64(bytes.len() as f64 * 8.0 / f64::from(KBPS) / 1e3);
        // The last of it is in the flow's hands and not on its way yet.
        let least = least.saturating_sub(Duration::from_millis(u64::from(LONG_LATENCY_MS) / 4));
        assert_eq!(took > least, backpressure, "{took:?}, at least {least:?}");
    }
}

/// A live source is never held back: what its links do not carry is given up by the flow, which knows what matters most.
#[test]
fn a_live_source_is_not_held_back() {
    init();
    let (pipeline, source, sink) = without_links(true);
    push(&source, packets(0..700));
    let until = Instant::now() + PATIENCE;
    while packets_in(&sink) < 100 {
        assert!(Instant::now() < until, "{}", packets_in(&sink));
        std::thread::sleep(Duration::from_millis(5));
    }
    pipeline.set_state(gst::State::Null).unwrap();
}
