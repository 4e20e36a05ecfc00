//! `rsristbondsrc`: receives a bonded transport stream.

mod imp;
mod properties;
mod settings;
mod times;

use crate::monitor::Monitored;
use bond::config::Secret;
use bond::stats::ReceiverSnapshot;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use link_io::receiver::FlowReceiver;
use std::sync::Arc;

glib::wrapper! {
    /// The element `rsristbondsrc`, with typed access for programs that link this crate.
    pub struct BondSrc(ObjectSubclass<imp::Source>)
        @extends gstreamer_base::PushSrc, gstreamer_base::BaseSrc, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "rsristbondsrc", gst::Rank::NONE, BondSrc::static_type())
}

impl BondSrc {
    /// An element of its own name, not yet in a pipeline.
    pub fn new(name: &str) -> Self {
        glib::Object::builder().property("name", name).build()
    }

    /// The pass phrase; effective with the next start.
    pub fn set_passphrase(&self, passphrase: &str) {
        self.imp().settings().flow.passphrase = Some(Secret::new(passphrase));
    }

    /// Flow and links at most a second ago; `None` while stopped.
    pub fn snapshot(&self) -> Option<Arc<ReceiverSnapshot>> {
        self.imp().with_flow(FlowReceiver::snapshot)
    }
}

impl Monitored for BondSrc {
    fn stats_structure(&self) -> Option<gst::Structure> {
        self.imp().stats()
    }

    fn drain_events(&self) -> Vec<bond::event::Event> {
        self.imp().with_flow(FlowReceiver::events).unwrap_or_default()
    }
}
