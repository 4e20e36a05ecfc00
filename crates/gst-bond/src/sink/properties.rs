//! The properties and action signals of the sink.

use super::imp::Sink;
use crate::settings::FlowSettings;
use crate::value::{number, text};
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use link_io::sender::FlowSender;
use link_io::settings::LINK_OPTIONS;
use std::time::Duration;
use units::{Bitrate, LinkId};

/// Every property of the element, its own first.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let own = vec![
        glib::ParamSpecString::builder("links")
            .nick("Links")
            .blurb(&format!(
                "Links of the bond, separated by commas: host:port, then options after semicolons: {LINK_OPTIONS}; bind is a \
                 local address, dev an interface, rate-max in kbit/s"
            ))
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("null-deletion")
            .nick("Null deletion")
            .blurb("Leave TS null packets out on the wire; the receiver puts them back")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("flow-id")
            .nick("Flow id")
            .blurb("SSRC of the flow, even; 0 draws one")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("encoder-bitrate-min")
            .nick("Lowest encoder bitrate")
            .blurb("Lowest payload rate the rate advice may ask for, in bit/s")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("encoder-bitrate-max")
            .nick("Highest encoder bitrate")
            .blurb("Highest payload rate the rate advice may ask for, in bit/s; 0 leaves it open")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("backpressure")
            .nick("Back-pressure")
            .blurb("Hold a source that is not live back to what the links carry, so that nothing is lost; otherwise, when the \
                 queue to the bond is full, drop and count")
            .default_value(true)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("rate-advice")
            .nick("Rate advice")
            .blurb("Payload rate that the links carry in time, in bit/s; 0 while stopped")
            .read_only()
            .build(),
    ];
    own.into_iter().chain(FlowSettings::properties()).collect()
}

/// `add-link` takes the text of one or more links, `remove-link` an id; both tell whether they did it.
pub(super) fn signals() -> Vec<glib::subclass::Signal> {
    vec![
        glib::subclass::Signal::builder("add-link")
            .param_types([String::static_type()])
            .return_type::<bool>()
            .action()
            .class_handler(|args| {
                // The types were checked by the signal system.
                let sink = args[0].get::<super::BondSink>().ok()?;
                let text = args[1].get::<String>().ok()?;
                Some(sink.imp().add_links_text(&text).to_value())
            })
            .build(),
        glib::subclass::Signal::builder("remove-link")
            .param_types([u32::static_type()])
            .return_type::<bool>()
            .action()
            .class_handler(|args| {
                let sink = args[0].get::<super::BondSink>().ok()?;
                let link = u16::try_from(args[1].get::<u32>().ok()?).ok();
                Some(link.is_some_and(|link| sink.remove_link(LinkId(link))).to_value())
            })
            .build(),
    ]
}

pub(super) fn set(sink: &Sink, name: &str, value: &glib::Value) {
    match name {
        "links" => sink.set_links_text(&text(value)),
        "latency" => sink.set_latency(Duration::from_millis(number(value).into())),
        "null-deletion" => sink.settings().null_deletion = value.get().unwrap_or_default(),
        "flow-id" => sink.settings().flow_id = number(value),
        "encoder-bitrate-min" => sink.change_encoder_range(|settings| settings.encoder_min = rate(value)),
        "encoder-bitrate-max" => sink.change_encoder_range(|settings| settings.encoder_max = rate(value)),
        "backpressure" => sink.settings().backpressure = value.get().unwrap_or(true),
        shared => sink.settings().flow.set(shared, value),
    }
}

fn rate(value: &glib::Value) -> Bitrate {
    Bitrate::from_bps(value.get().unwrap_or_default())
}

pub(super) fn get(sink: &Sink, name: &str) -> glib::Value {
    match name {
        "links" => sink.settings().links_text.to_value(),
        "null-deletion" => sink.settings().null_deletion.to_value(),
        "flow-id" => sink.settings().flow_id.to_value(),
        "encoder-bitrate-min" => sink.settings().encoder_min.as_bps().to_value(),
        "encoder-bitrate-max" => sink.settings().encoder_max.as_bps().to_value(),
        "backpressure" => sink.settings().backpressure.to_value(),
        "rate-advice" => sink.with_flow(FlowSender::rate_advice).unwrap_or(Bitrate::ZERO).as_bps().to_value(),
        "stats" => sink.stats().to_value(),
        shared => sink.settings().flow.get(shared),
    }
}
