//! The properties of the source.

use super::imp::Source;
use super::settings::LISTEN_DEFAULT;
use crate::settings::FlowSettings;
use crate::value::{number, text};
use gstreamer::glib;
use gstreamer::prelude::*;
use std::time::Duration;

/// Every property of the element, its own first.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let string = |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb);
    let own = vec![
        string("listen", "Listen", "Addresses to listen on, host:port, separated by commas; port 0 takes a free one")
            .default_value(Some(LISTEN_DEFAULT))
            .mutable_ready()
            .build(),
        string("connect", "Connect", "Listening senders to call, host:port, separated by commas").mutable_ready().build(),
        glib::ParamSpecUInt::builder("reorder")
            .nick("Reorder")
            .blurb("How long a gap may stay open before it is reported to a plain RIST sender, in milliseconds; 0 follows the RTT")
            .maximum(10_000)
            .mutable_ready()
            .build(),
        string("local-address", "Local address", "The first address in use; none while stopped").read_only().build(),
    ];
    own.into_iter().chain(FlowSettings::properties()).collect()
}

pub(super) fn set(source: &Source, name: &str, value: &glib::Value) {
    match name {
        "listen" => source.settings().listen = text(value),
        "connect" => source.settings().connect = text(value),
        "latency" => source.set_latency(Duration::from_millis(number(value).into())),
        "reorder" => source.settings().reorder_ms = number(value),
        shared => source.settings().flow.set(shared, value),
    }
}

pub(super) fn get(source: &Source, name: &str) -> glib::Value {
    match name {
        "listen" => source.settings().listen.to_value(),
        "connect" => source.settings().connect.to_value(),
        "reorder" => source.settings().reorder_ms.to_value(),
        "local-address" => source.with_flow(|flow| flow.local_addr().to_string()).to_value(),
        "stats" => source.stats().to_value(),
        shared => source.settings().flow.get(shared),
    }
}
