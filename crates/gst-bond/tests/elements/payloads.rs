//! From buffers to payloads: what fills none, what time it has, what a flush forgets.

use super::support::{
    LATENCY_MS, LONG_LATENCY_MS, PATIENCE, collect, end, init, packets, push, receiver, receiver_within, sending,
    wait_for, without_links,
};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::time::{Duration, Instant};

#[test]
fn the_end_of_the_stream_sends_the_last_short_payload() {
    init();
    let flow = receiver();
    let (pipeline, source, _) = sending(&flow);
    let bytes = packets(0..45); // six payloads of seven, and three packets
    push(&source, bytes.clone());
    end(&source);
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap(); // waits until everything is confirmed
    assert_eq!(collect(&flow), bytes);
}

/// Media of very low rate is not kept for more to come; also where it came while no link was up, for longer than the latency: it
/// gets no older by that.
#[test]
fn packets_that_do_not_fill_a_payload_leave_without_others() {
    init();
    let flow = receiver();
    for links_first in [true, false] {
        let (pipeline, source, sink) = if links_first { sending(&flow) } else { without_links(false) };
        push(&source, packets(0..3));
        if !links_first {
            std::thread::sleep(Duration::from_millis(u64::from(4 * LATENCY_MS)));
            sink.set_property("latency", LATENCY_MS);
            assert!(sink.emit_by_name::<bool>("add-link", &[&flow.local_addr().to_string()]));
        }
        let delivered = flow.recv_timeout(PATIENCE).unwrap().expect("a payload in time");
        assert_eq!(delivered.bytes, packets(0..3));
        assert_eq!(sink.property::<gst::Structure>("stats").get::<u64>("payloads-dropped"), Ok(0));
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// Two payloads: one that sets the tie of media time to real time, and one whose packets are of 40 and of 100 ms.
#[test]
fn a_payload_is_as_old_as_its_first_packet() {
    init();
    let flow = receiver_within(LONG_LATENCY_MS);
    let (pipeline, source, sink) = sending(&flow);
    sink.set_property("latency", LONG_LATENCY_MS);
    let push_at = |millis: u64, range| {
        let mut buffer = gst::Buffer::from_slice(packets(range));
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(millis));
        let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    };
    push_at(0, 0..7);
    std::thread::sleep(Duration::from_millis(100));
    push_at(40, 7..10);
    push_at(100, 10..14);
    let times = [(); 2].map(|()| flow.recv_timeout(PATIENCE).unwrap().expect("a payload in time").source_time);
    let apart = times[1].since(times[0]);
    assert!(apart.abs_diff(Duration::from_millis(40)) < Duration::from_millis(20), "{apart:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_flush_forgets_the_payload_under_way_and_nothing_else() {
    init();
    let flow = receiver();
    let (pipeline, source, sink) = sending(&flow);
    let mut bytes = packets(0..8);
    bytes.truncate(7 * 188 + 100); // a payload of seven goes out, the beginning of a packet waits for its end
    push(&source, bytes);
    let stats = || sink.property::<gst::Structure>("stats");
    let until = Instant::now() + PATIENCE;
    while stats().get::<u64>("packets-in").unwrap() < 1 {
        assert!(Instant::now() < until, "{:?}", stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    let pad = source.static_pad("src").unwrap();
    assert!(pad.push_event(gst::event::FlushStart::new()));
    assert!(pad.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(pad.push_event(gst::event::Segment::new(&segment)));
    push(&source, packets(100..107));
    end(&source);
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(collect(&flow), [packets(0..7), packets(100..107)].concat());
}
