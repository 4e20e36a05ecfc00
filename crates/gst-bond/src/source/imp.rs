//! The subclass behind [`super::BondSrc`].

use super::properties;
use super::settings::Settings;
use super::times::Times;
use crate::lock;
use crate::monitor::Monitor;
use crate::stats;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_src::CreateSuccess;
use gstreamer_base::subclass::prelude::*;
use link_io::receiver::{Delivered, FlowReceiver};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

/// How often a waiting `create` looks whether it should return.
const UNLOCK_CHECK: Duration = Duration::from_millis(50);

/// An open flow and its messages.
struct Running {
    flow: Arc<FlowReceiver>,
    _monitor: Option<Monitor>,
}

#[derive(Default)]
pub struct Source {
    settings: Mutex<Settings>,
    running: Mutex<Option<Running>>,
    /// Held by a change of the latency until it has reached a running flow, and by a start.
    changing: Mutex<()>,
    unlocked: AtomicBool,
    times: Mutex<Times>,
}

impl Source {
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// Only `create` keeps the flow for longer, and it has returned when the element stops: whoever had it then would keep its
    /// sockets from the next start.
    pub(crate) fn with_flow<T>(&self, use_flow: impl FnOnce(&FlowReceiver) -> T) -> Option<T> {
        lock(&self.running).as_ref().map(|running| use_flow(&running.flow))
    }

    pub(crate) fn stats(&self) -> Option<gst::Structure> {
        self.with_flow(|flow| stats::receiver(&flow.snapshot(), flow.io_counters()))
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        let changing = lock(&self.changing);
        let changed = std::mem::replace(&mut self.settings().flow.latency, latency) != latency;
        if changed && self.with_flow(|flow| flow.set_latency(latency)).is_some() {
            drop(changing);
            let obj = self.obj();
            // Refused only while there is no bus: nobody to tell.
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// A buffer whose time is that of its content: the receiver holds everything back by the latency budget.
    fn buffer(&self, flow: &FlowReceiver, delivered: Delivered) -> gst::Buffer {
        let running_time = self.obj().current_running_time();
        let age = gst::ClockTime::from_nseconds(flow.now().since(delivered.source_time).as_nanos() as u64);
        let mut buffer = gst::Buffer::from_slice(delivered.bytes);
        // A fresh buffer has one owner.
        let header = buffer.make_mut();
        header.set_pts(running_time.map(|now| lock(&self.times).pts(now, age)));
        if delivered.discontinuity {
            header.set_flags(gst::BufferFlags::DISCONT);
        }
        buffer
    }
}

#[glib::object_subclass]
impl ObjectSubclass for Source {
    const NAME: &'static str = "GstRsRistBondSrc";
    type Type = super::BondSrc;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for Source {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties::properties);
        PROPERTIES.as_ref()
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        properties::set(self, pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        properties::get(self, pspec.name())
    }
}

impl GstObjectImpl for Source {}

impl ElementImpl for Source {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RIST bonding source",
                "Source/Network",
                "Receives MPEG-TS from several links at once as RIST (VSF TR-06-1, TR-06-2)",
                "The Strata developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps =
                gst::Caps::builder("video/mpegts").field("systemstream", true).field("packetsize", 188_i32).build();
            gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps).into_iter().collect()
        });
        TEMPLATES.as_ref()
    }
}

impl BaseSrcImpl for Source {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let _changing = lock(&self.changing);
        // Names are resolved and files read while the properties can be looked at.
        let settings = self.settings().clone();
        let flow = Arc::new(settings.open()?);
        *lock(&self.times) = Times::default();
        *lock(&self.running) = Some(Running { flow, _monitor: Monitor::start(&*self.obj()) });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.running) = None;
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
            let budget = gst::ClockTime::from_nseconds(self.settings().flow.latency.as_nanos() as u64);
            latency.set(true, budget, gst::ClockTime::NONE);
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.unlocked.store(true, Ordering::Release);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.unlocked.store(false, Ordering::Release);
        Ok(())
    }
}

impl PushSrcImpl for Source {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        let running = lock(&self.running).as_ref().map(|running| Arc::clone(&running.flow));
        let flow = running.ok_or(gst::FlowError::Flushing)?;
        loop {
            if self.unlocked.load(Ordering::Acquire) {
                return Err(gst::FlowError::Flushing);
            }
            match flow.recv_timeout(UNLOCK_CHECK) {
                Ok(Some(delivered)) => return Ok(CreateSuccess::NewBuffer(self.buffer(&flow, delivered))),
                Ok(None) => {}
                Err(_) => return Err(gst::FlowError::Eos),
            }
        }
    }
}
