//! Links that change while a stream runs, and what is told of them.

use super::support::{PATIENCE, collect, end, init, packets, push, receiver, sending, wait_for};
use gst_bond::{EVENT_MESSAGE, STATS_MESSAGE};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::time::{Duration, Instant};

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

/// Goal: a link that is only called otherwise goes on with what it has used of its budget. Method: a link of one interface spends
/// its budget, and gets its number with its name when another of that interface joins it.
#[test]
fn a_link_that_is_renamed_keeps_what_it_has_used() {
    init();
    let flow = receiver();
    let (pipeline, source, sink) = sending(&flow);
    let link = format!("{};dev=lo;budget-mb=1", flow.local_addr());
    sink.set_property("links", &link);
    let links = || {
        let stats = sink.property::<gst::Structure>("stats");
        let links = stats.get::<gst::Array>("links").unwrap();
        let told = |link: &gst::glib::SendValue| {
            let link = link.get::<gst::Structure>().unwrap();
            (link.get::<String>("name").unwrap(), link.get::<bool>("budget-spent").unwrap())
        };
        links.iter().map(told).collect::<Vec<_>>()
    };
    let mut sent = 0;
    let mut wait_for_links = |step: u32, expected: &[(&str, bool)]| {
        let until = Instant::now() + PATIENCE;
        while links().iter().map(|(name, spent)| (name.as_str(), *spent)).ne(expected.iter().copied()) {
            assert!(Instant::now() < until, "{:?} instead of {expected:?}", links());
            if step > 0 {
                push(&source, packets(sent..sent + step));
            }
            sent += step;
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait_for_links(7, &[("lo", false)]);
    wait_for_links(7, &[("lo", true)]);
    sink.set_property("links", format!("{link},{link}"));
    // Nothing is sent that could spend a new budget.
    wait_for_links(0, &[("lo/0", true), ("lo/1", false)]);
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Goal: statistics are posted once a second, by both elements, not more and not less.
#[test]
fn statistics_are_posted_once_a_second() {
    const SECONDS: u64 = 6;
    init();
    let pipeline = gst::Pipeline::new();
    let receiving = gst::ElementFactory::make("rsristbondsrc").property("listen", "127.0.0.1:0").build().unwrap();
    let taker = gst::ElementFactory::make("fakesink").property("async", false).build().unwrap();
    let sink = gst::ElementFactory::make("rsristbondsink").property("async", false).build().unwrap();
    pipeline.add_many([&receiving, &taker, &sink]).unwrap();
    receiving.link(&taker).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(Duration::from_secs(SECONDS));
    let bus = pipeline.bus().unwrap();
    let mut counts = [0; 2];
    while let Some(message) = bus.pop() {
        let is_stats = message.structure().is_some_and(|structure| structure.name() == STATS_MESSAGE);
        for (element, count) in [&receiving, &sink].into_iter().zip(&mut counts) {
            *count += u64::from(is_stats && message.src() == Some(element.upcast_ref()));
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(counts.iter().all(|count| count.abs_diff(SECONDS) <= 2), "{counts:?} in {SECONDS} s");
}
