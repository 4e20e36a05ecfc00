//! Pipelines, media and far ends that the tests share.

use bond::config::ReceiverConfig;
use gstreamer as gst;
use gstreamer::prelude::*;
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use std::time::Duration;

pub(crate) const LATENCY_MS: u32 = 200;
/// The latency where every byte counts: a moment that a busy machine takes away must not be missed.
pub(crate) const LONG_LATENCY_MS: u32 = 1400;
/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn init() {
    gst::init().unwrap();
    gst_bond::register().unwrap();
}

/// Distinguishable TS packets on one PID.
pub(crate) fn packets(range: std::ops::Range<u32>) -> Vec<u8> {
    let packet = |n: u32| {
        let mut bytes = [0x47, 0x01, 0x00, 0x10].to_vec();
        bytes.extend(n.to_be_bytes());
        bytes.resize(188, n as u8);
        bytes
    };
    range.flat_map(packet).collect()
}

pub(crate) fn receiver() -> FlowReceiver {
    receiver_within(LATENCY_MS)
}

pub(crate) fn receiver_within(latency_ms: u32) -> FlowReceiver {
    FlowReceiver::open(ReceiverOptions {
        bond: ReceiverConfig { latency: Duration::from_millis(latency_ms.into()), ..ReceiverConfig::default() },
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        connect: Vec::new(),
    })
    .unwrap()
}

/// What arrives until nothing more does for three times the latency budget.
pub(crate) fn collect(flow: &FlowReceiver) -> Vec<u8> {
    let mut received = Vec::new();
    let quiet = flow.snapshot().latency * 3;
    while let Some(delivered) = flow.recv_timeout(quiet).unwrap() {
        received.extend_from_slice(&delivered.bytes);
    }
    received
}

/// `appsrc` in front of a sink that sends to `flow`.
pub(crate) fn sending(flow: &FlowReceiver) -> (gst::Pipeline, gst::Element, gst::Element) {
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

/// A playing source, live or not, in front of a sink without links.
pub(crate) fn without_links(live: bool) -> (gst::Pipeline, gst::Element, gst::Element) {
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

pub(crate) fn push(source: &gst::Element, bytes: Vec<u8>) {
    let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&gst::Buffer::from_slice(bytes)]);
    assert_eq!(flow, gst::FlowReturn::Ok);
}

pub(crate) fn end(source: &gst::Element) {
    assert_eq!(source.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]), gst::FlowReturn::Ok);
}

pub(crate) fn packets_in(sink: &gst::Element) -> u64 {
    sink.property::<gst::Structure>("stats").get("packets-in").unwrap()
}

#[track_caller]
pub(crate) fn wait_for(pipeline: &gst::Pipeline, kind: gst::MessageType) -> gst::Message {
    let wait = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let message = pipeline.bus().unwrap().timed_pop_filtered(wait, &[kind, gst::MessageType::Error]);
    let message = message.expect("a message in time");
    if let (gst::MessageView::Error(error), true) = (message.view(), kind != gst::MessageType::Error) {
        panic!("{} {:?}", error.error(), error.debug());
    }
    message
}
