//! The elements in running pipelines, against each other and against the flow at the far end.
#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers too

use bond::config::ReceiverConfig;
use gst_bond::{EVENT_MESSAGE, STATS_MESSAGE};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LATENCY_MS: u32 = 200;
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

fn init() {
    gst::init().unwrap();
    gst_bond::register().unwrap();
}

/// Distinguishable TS packets on one PID.
fn packets(range: std::ops::Range<u32>) -> Vec<u8> {
    let packet = |n: u32| {
        let mut bytes = [0x47, 0x01, 0x00, 0x10].to_vec();
        bytes.extend(n.to_be_bytes());
        bytes.resize(188, n as u8);
        bytes
    };
    range.flat_map(packet).collect()
}

fn receiver() -> FlowReceiver {
    receiver_within(LATENCY_MS)
}

fn receiver_within(latency_ms: u32) -> FlowReceiver {
    FlowReceiver::open(ReceiverOptions {
        bond: ReceiverConfig { latency: Duration::from_millis(latency_ms.into()), ..ReceiverConfig::default() },
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        connect: Vec::new(),
    })
    .unwrap()
}

/// What arrives until nothing more does for three times the latency budget.
fn collect(flow: &FlowReceiver) -> Vec<u8> {
    let mut received = Vec::new();
    let quiet = Duration::from_secs_f64(3.0 * flow.snapshot().latency_ms / 1e3);
    while let Some(delivered) = flow.recv_timeout(quiet).unwrap() {
        received.extend_from_slice(&delivered.bytes);
    }
    received
}

/// `appsrc` in front of a sink that sends to `flow`.
fn sending(flow: &FlowReceiver) -> (gst::Pipeline, gst::Element, gst::Element) {
    let source = gst::ElementFactory::make("appsrc").build().unwrap();
    source.set_property("format", gst::Format::Time);
    source.set_property("caps", gst::Caps::builder("video/mpegts").field("systemstream", true).build());
    let sink = gst::ElementFactory::make("rsristbondsink")
        .property("links", format!("{0};name=first,{0};name=second", flow.local_addr()))
        .property("latency", LATENCY_MS)
        .property("sync", false)
        .build()
        .unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    (pipeline, source, sink)
}

fn push(source: &gst::Element, bytes: Vec<u8>) {
    let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&gst::Buffer::from_slice(bytes)]);
    assert_eq!(flow, gst::FlowReturn::Ok);
}

fn end(source: &gst::Element) {
    assert_eq!(source.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]), gst::FlowReturn::Ok);
}

#[track_caller]
fn wait_for(pipeline: &gst::Pipeline, kind: gst::MessageType) -> gst::Message {
    let wait = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let message = pipeline.bus().unwrap().timed_pop_filtered(wait, &[kind, gst::MessageType::Error]);
    let message = message.expect("a message in time");
    if let (gst::MessageView::Error(error), true) = (message.view(), kind != gst::MessageType::Error) {
        panic!("{} {:?}", error.error(), error.debug());
    }
    message
}

/// The next element message called `name`.
#[track_caller]
fn wait_for_element(pipeline: &gst::Pipeline, name: &str) -> gst::Structure {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let message = wait_for(pipeline, gst::MessageType::Element);
        if let Some(structure) = message.structure().filter(|structure| structure.name() == name) {
            return structure.to_owned();
        }
    }
    panic!("no {name} in time");
}

/// What `gst-inspect-1.0` tells users; a change here is a change of the interface.
fn inspect(element: &str) -> String {
    let factory = gst::ElementFactory::find(element).unwrap();
    let made = factory.create().build().unwrap();
    let mut text = format!("{element}: {}\n", factory.metadata("long-name").unwrap());
    for key in ["klass", "description"] {
        writeln!(text, "{key}: {}", factory.metadata(key).unwrap()).unwrap();
    }
    for template in factory.static_pad_templates() {
        let (direction, presence) = (template.direction(), template.presence());
        writeln!(text, "pad {} {direction:?} {presence:?}: {}", template.name_template(), template.caps()).unwrap();
    }
    for property in made.list_properties().iter().filter(|property| property.owner_type() == made.type_()) {
        let flags = property.flags();
        let access =
            match (flags.contains(gst::glib::ParamFlags::READABLE), flags.contains(gst::glib::ParamFlags::WRITABLE)) {
                (true, true) => "read, write",
                (true, false) => "read",
                _ => "write",
            };
        let default = property.default_value();
        // GStreamer complains about serializing a structure that is not there.
        let default = if default.type_().is_a(gst::glib::Type::BOXED) { None } else { default.serialize().ok() };
        let default = default.map_or_else(|| "none".to_owned(), |text| text.to_string());
        let live = if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) { ", while playing" } else { "" };
        writeln!(text, "{} ({}; {access}{live}; {default})", property.name(), property.value_type()).unwrap();
        writeln!(text, "    {}: {}", property.nick(), property.blurb().unwrap_or_default()).unwrap();
    }
    text
}

#[test]
fn the_interface_is_what_it_was() {
    init();
    insta::assert_snapshot!("rsristbondsink", inspect("rsristbondsink"));
    insta::assert_snapshot!("rsristbondsrc", inspect("rsristbondsrc"));
}

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

/// The latency where every byte counts: a moment that a busy machine takes away must not be missed.
const LONG_LATENCY_MS: u32 = 1400;

/// A playing source, live or not, in front of a sink without links.
fn without_links(live: bool) -> (gst::Pipeline, gst::Element, gst::Element) {
    let source = gst::ElementFactory::make("appsrc").property("is-live", live).property("format", gst::Format::Time);
    let source = source.property("max-bytes", 0_u64).build().unwrap();
    let sink = gst::ElementFactory::make("rsristbondsink")
        .property("latency", LONG_LATENCY_MS)
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    (pipeline, source, sink)
}

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

fn packets_in(sink: &gst::Element) -> u64 {
    sink.property::<gst::Structure>("stats").get("packets-in").unwrap()
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

/// A sink adds its processing deadline and nothing else: what the bond takes passes after it, on the way to the receiver.
#[test]
fn the_sink_answers_the_latency_query_with_that_of_its_source() {
    init();
    let source = gst::ElementFactory::make("audiotestsrc").property("is-live", true).build().unwrap();
    let sink = gst::ElementFactory::make("rsristbondsink").property("async", false).build().unwrap();
    let pipeline = gst::Pipeline::new();
    let muxer = gst::ElementFactory::make("mpegtsmux").build().unwrap();
    let encoder = gst::ElementFactory::make("avenc_ac3").build().unwrap();
    pipeline.add_many([&source, &encoder, &muxer, &sink]).unwrap();
    gst::Element::link_many([&source, &encoder, &muxer, &sink]).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let latency_of = |element: &gst::Element, pad: &str| {
        let mut query = gst::query::Latency::new();
        let answered = element.static_pad(pad).unwrap().query(&mut query);
        answered.then(|| query.result())
    };
    let until = Instant::now() + PATIENCE;
    let of_muxer = loop {
        if let Some(latency) = latency_of(&muxer, "src").filter(|(live, ..)| *live) {
            break latency;
        }
        assert!(Instant::now() < until, "no latency");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut query = gst::query::Latency::new();
    assert!(sink.query(&mut query));
    assert_eq!(query.result().0, of_muxer.0);
    let deadline = gst::ClockTime::from_nseconds(sink.property("processing-deadline"));
    assert_eq!(query.result().1, of_muxer.1 + deadline);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn statistics_and_events_are_messages_and_links_change_while_playing() {
    init();
    let flow = receiver();
    let (pipeline, source, sink) = sending(&flow);
    push(&source, packets(0..70));
    let event = wait_for_element(&pipeline, EVENT_MESSAGE);
    assert!(event.get::<String>("text").unwrap().contains("first"), "{event:?}");
    let names = |stats: &gst::Structure| {
        let links = stats.get::<gst::Array>("links").unwrap();
        let name = |link: &gst::glib::SendValue| link.get::<gst::Structure>().unwrap().get::<String>("name").unwrap();
        links.iter().map(name).collect::<Vec<_>>()
    };
    let stats = wait_for_element(&pipeline, STATS_MESSAGE);
    assert_eq!(names(&stats), ["first", "second"]);
    assert_eq!(stats.get::<u64>("packets-in").unwrap(), 10);
    assert_eq!(stats.get::<u64>("bytes-in").unwrap(), 70 * 188);

    let third = format!("{};id=5;name=third", flow.local_addr());
    assert!(sink.emit_by_name::<bool>("add-link", &[&third]));
    assert!(!sink.emit_by_name::<bool>("add-link", &[&"nonsense"]));
    assert!(sink.emit_by_name::<bool>("remove-link", &[&0_u32]));
    assert!(!sink.emit_by_name::<bool>("remove-link", &[&77_u32]));
    sink.set_property("latency", 400_u32);
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = wait_for_element(&pipeline, STATS_MESSAGE);
        let latency = stats.get::<f64>("latency-ms").unwrap();
        if names(&stats) == ["second", "third"] && (latency - 400.0).abs() < 0.5 {
            break;
        }
        assert!(Instant::now() < until, "{stats:?}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(sink.property::<Option<gst::Structure>>("stats").is_none(), "no statistics of a closed flow");
}

/// Links are replaced, added and taken out, down to a single new one, under a stream of which no byte is lost.
#[test]
fn links_change_under_a_stream_and_no_byte_is_lost() {
    init();
    let flow = receiver();
    let (pipeline, source, sink) = sending(&flow);
    let address = flow.local_addr();
    let names = || {
        let stats = sink.property::<gst::Structure>("stats");
        let links = stats.get::<gst::Array>("links").unwrap();
        let name = |link: &gst::glib::SendValue| link.get::<gst::Structure>().unwrap().get::<String>("name").unwrap();
        links.iter().map(name).collect::<Vec<_>>()
    };
    let mut sent = 0;
    // 5 Mbit/s, until the links are as they should be, and 0.2 s on: every set of links carries for a while.
    let mut send_until = |expected: &[&str]| {
        let until = Instant::now() + PATIENCE;
        let mut left = 100;
        while left > 0 {
            assert!(Instant::now() < until, "{:?} instead of {expected:?}", names());
            push(&source, packets(sent..sent + 7));
            sent += 7;
            std::thread::sleep(Duration::from_millis(2));
            if names() == expected {
                left -= 1;
            }
        }
    };
    send_until(&["first", "second"]);
    sink.set_property("links", format!("{address};id=1;name=second,{address};id=2;name=third"));
    send_until(&["second", "third"]);
    // Without an id it takes one that is free.
    assert!(sink.emit_by_name::<bool>("add-link", &[&format!("{address};name=fourth")]));
    send_until(&["fourth", "second", "third"]);
    assert!(sink.emit_by_name::<bool>("remove-link", &[&1_u32]));
    send_until(&["fourth", "third"]);
    sink.set_property("links", format!("{address};id=9;name=last"));
    send_until(&["last"]);
    end(&source);
    wait_for(&pipeline, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let received = collect(&flow);
    assert!(received == packets(0..sent), "{} of {} bytes", received.len(), sent * 188);
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

#[test]
fn settings_that_cannot_work_fail_the_start_and_name_themselves() {
    init();
    for (property, value, named) in
        [("links", "127.0.0.1:5000;colour=red", "colour=red"), ("psk-file", "/no/such/key", "/no/such/key")]
    {
        let pipeline = gst::Pipeline::new();
        let sink = gst::ElementFactory::make("rsristbondsink").property(property, value).build().unwrap();
        pipeline.add(&sink).unwrap();
        assert!(pipeline.set_state(gst::State::Playing).is_err(), "{property} {value}");
        let message = wait_for(&pipeline, gst::MessageType::Error);
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        assert!(error.error().to_string().contains(named), "{}", error.error());
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("rsristbondsrc").property("listen", &address).build().unwrap();
    pipeline.add(&source).unwrap();
    assert!(pipeline.set_state(gst::State::Playing).is_err());
    let message = wait_for(&pipeline, gst::MessageType::Error);
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().to_string().contains(&address), "{}", error.error());
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_source_is_live_and_its_latency_is_the_budget() {
    init();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("rsristbondsrc")
        .property("listen", "127.0.0.1:0")
        .property("latency", 300_u32)
        .build()
        .unwrap();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let pad = source.static_pad("src").unwrap();
    let latency = || {
        let mut query = gst::query::Latency::new();
        assert!(pad.query(&mut query));
        let (live, least, _) = query.result();
        (live, least.mseconds())
    };
    assert_eq!(latency(), (true, 300));
    source.set_property("latency", 700_u32);
    wait_for(&pipeline, gst::MessageType::Latency);
    assert_eq!(latency(), (true, 700));
    assert!(source.downcast_ref::<gstreamer_base::BaseSrc>().unwrap().is_live());
    assert!(source.property::<String>("local-address").starts_with("127.0.0.1:"));
    pipeline.set_state(gst::State::Null).unwrap();
}
