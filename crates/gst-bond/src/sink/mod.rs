//! `rsristbondsink`: sends a transport stream over every link of a bond.

mod fill_timer;
mod imp;
mod pace;
mod properties;
mod settings;

use crate::monitor::Monitored;
use bond::config::Secret;
use bond::stats::SenderSnapshot;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use link_io::sender::{LinkSpec, SenderIoCounters};
use std::sync::Arc;
use std::time::Duration;
use units::{Bitrate, LinkId};

glib::wrapper! {
    /// The element `rsristbondsink`, with typed access for programs that link this crate.
    pub struct BondSink(ObjectSubclass<imp::Sink>) @extends gstreamer_base::BaseSink, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "rsristbondsink", gst::Rank::NONE, BondSink::static_type())
}

impl BondSink {
    /// An element of its own name, not yet in a pipeline.
    pub fn new(name: &str) -> Self {
        glib::Object::builder().property("name", name).build()
    }

    /// The pass phrase; effective with the next start.
    pub fn set_passphrase(&self, passphrase: &str) {
        self.imp().settings().flow.passphrase = Some(Secret::new(passphrase));
    }

    /// Adds a link or replaces the one with the same id, also while running.
    pub fn add_link(&self, link: LinkSpec) {
        self.imp().add_link(link);
    }

    /// Takes a link out, also while running. False when there is none.
    pub fn remove_link(&self, link: LinkId) -> bool {
        self.imp().remove_link(link)
    }

    /// Changes the latency budget, also while running.
    pub fn set_latency(&self, latency: Duration) {
        self.imp().set_latency(latency);
    }

    /// Tells the bond between which rates of payload it may advise, also while running; a highest of 0 is none.
    pub fn set_encoder_range(&self, min: Bitrate, max: Bitrate) {
        self.imp().change_encoder_range(|settings| (settings.encoder_min, settings.encoder_max) = (min, max));
    }

    /// What the encoder may produce, in payload bits; `None` while stopped.
    pub fn rate_advice(&self) -> Option<Bitrate> {
        self.imp().with_flow(link_io::sender::FlowSender::rate_advice)
    }

    /// Flow and links at most a second ago; `None` while stopped.
    pub fn snapshot(&self) -> Option<Arc<SenderSnapshot>> {
        self.imp().with_flow(link_io::sender::FlowSender::snapshot)
    }

    /// How old [`BondSink::snapshot`] is; `None` while stopped.
    pub fn snapshot_age(&self) -> Option<Duration> {
        self.imp().with_flow(|flow| flow.now().since(flow.snapshot().at))
    }

    /// What was dropped between element and network; `None` while stopped.
    pub fn io_counters(&self) -> Option<SenderIoCounters> {
        self.imp().with_flow(link_io::sender::FlowSender::io_counters)
    }

    /// Payloads dropped since the start because the flow's queue was full.
    pub fn payloads_dropped(&self) -> u64 {
        self.imp().counters().payloads_dropped
    }
}

impl Monitored for BondSink {
    fn stats_structure(&self) -> Option<gst::Structure> {
        self.imp().stats()
    }

    fn drain_events(&self) -> Vec<bond::event::Event> {
        self.imp().with_flow(link_io::sender::FlowSender::events).unwrap_or_default()
    }
}
