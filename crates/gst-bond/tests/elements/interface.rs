//! What the elements tell of themselves: properties, latency, mistakes in their settings.

use super::support::{PATIENCE, init, wait_for, without_links};
use gstreamer as gst;
use gstreamer::glib::subclass::SignalId;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The elements' signals, which cannot be listed without naming them.
const SIGNALS: [&str; 2] = ["add-link", "remove-link"];

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
        let values = gst::glib::EnumClass::with_type(property.value_type());
        for value in values.iter().flat_map(gst::glib::EnumClass::values) {
            writeln!(text, "    {} {}: {}", value.value(), value.nick(), value.name()).unwrap();
        }
    }
    for query in SIGNALS.iter().filter_map(|name| SignalId::lookup(name, made.type_())).map(|id| id.query()) {
        let kind = if query.flags().contains(gst::glib::SignalFlags::ACTION) { "action" } else { "signal" };
        let parameters: Vec<_> = query.param_types().iter().map(|of| of.type_().to_string()).collect();
        let (name, returns) = (query.signal_name(), query.return_type().type_());
        writeln!(text, "{kind} {name} ({}) -> {returns}", parameters.join(", ")).unwrap();
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
fn a_sink_without_links_says_so_and_waits() {
    init();
    let (pipeline, _source, sink) = without_links(true);
    let message = wait_for(&pipeline, gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
    assert!(warning.error().to_string().starts_with("no link to send over"), "{}", warning.error());
    assert!(sink.emit_by_name::<bool>("add-link", &[&"127.0.0.1:9"]));
    assert_eq!(sink.current_state(), gst::State::Playing);
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
