//! The subclass behind [`super::BondSink`].

use super::fill_timer::{FillTimer, Timer};
use super::pace::Pace;
use super::properties;
use super::settings::Settings;
use crate::lock;
use crate::monitor::Monitor;
use crate::settings::chain;
use crate::stats::{self, SinkCounters};
use bond::PacketClass;
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::prelude::*;
use link_io::PushError;
use link_io::media::{FILL_WAIT_MAX, Packer};
use link_io::sender::{FlowSender, LinkSpec};
use link_io::settings::{link_list, more_links};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use units::LinkId;

/// How often it is looked for room under back-pressure.
const ROOM_RETRY: Duration = Duration::from_millis(5);

static CATEGORY: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("rsristbondsink", gst::DebugColorFlags::empty(), Some("RIST bonding sink"))
});

/// An open flow and its messages.
struct Running {
    flow: FlowSender,
    _monitor: Option<Monitor>,
}

/// The stream on its way through the element.
#[derive(Default)]
struct Stream {
    packer: Packer<Came>,
    pace: Pace,
    fill_timer: FillTimer,
}

/// When media came.
#[derive(Clone, Copy)]
struct Came {
    /// In the time of the stream's pace.
    at: Duration,
    /// Its place in media time; without one it was produced when it came.
    running_time: Option<Duration>,
}

#[derive(Default)]
pub struct Sink {
    settings: Mutex<Settings>,
    running: Mutex<Option<Running>>,
    /// Held by whoever changes what reaches a running flow, until it has, and by a start: no change is lost between the settings
    /// and the flow.
    changing: Mutex<()>,
    stream: Mutex<Option<Stream>>,
    dropped: AtomicU64,
    /// Beside the packer: a render that waits for room holds the stream.
    skipped: AtomicU64,
    /// Set by `unlock`: a render that waits for room must let go.
    unlocked: AtomicBool,
    unlock_lock: Mutex<()>,
    unlock_changed: Condvar,
}

impl Sink {
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(crate) fn with_flow<T>(&self, use_flow: impl FnOnce(&FlowSender) -> T) -> Option<T> {
        lock(&self.running).as_ref().map(|running| use_flow(&running.flow))
    }

    pub(crate) fn add_link(&self, link: LinkSpec) {
        let changing = lock(&self.changing);
        self.join_link(link, &changing);
    }

    fn join_link(&self, link: LinkSpec, _changing: &MutexGuard<'_, ()>) {
        self.settings().add_link(link.clone());
        self.with_flow(|flow| flow.add_link(link));
    }

    pub(crate) fn remove_link(&self, link: LinkId) -> bool {
        let _changing = lock(&self.changing);
        let found = self.settings().remove_link(link);
        if found {
            self.with_flow(|flow| flow.remove_link(link));
        }
        found
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        let _changing = lock(&self.changing);
        self.settings().flow.latency = latency;
        self.with_flow(|flow| flow.set_latency(latency));
    }

    /// Changes either end of the encoder's range, or both.
    pub(crate) fn change_encoder_range(&self, change: impl FnOnce(&mut Settings)) {
        let _changing = lock(&self.changing);
        let (min, max) = {
            let mut settings = self.settings();
            change(&mut settings);
            settings.encoder_range()
        };
        self.with_flow(|flow| flow.set_encoder_range(min, max));
    }

    pub(crate) fn counters(&self) -> SinkCounters {
        SinkCounters {
            payloads_dropped: self.dropped.load(Ordering::Relaxed),
            bytes_skipped: self.skipped.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn stats(&self) -> Option<gst::Structure> {
        let counters = self.counters();
        self.with_flow(|flow| stats::sender(&flow.snapshot(), flow.io_counters(), counters))
    }

    pub(super) fn set_links_text(&self, text: &str) {
        let parsed = link_list(text);
        let _changing = lock(&self.changing);
        let (old, new) = {
            let mut settings = self.settings();
            text.clone_into(&mut settings.links_text);
            match parsed {
                Ok(links) => {
                    settings.links_error = None;
                    let old = std::mem::replace(&mut settings.links, links);
                    (old, settings.links.clone())
                }
                Err(error) => {
                    let error = chain(&error);
                    gst::error!(CATEGORY, imp = self, "links: {error}");
                    settings.links_error = Some(error);
                    return;
                }
            }
        };
        self.with_flow(|flow| apply_links(flow, &old, &new));
    }

    /// Adds the links of a text; false when it names none.
    pub(super) fn add_links_text(&self, text: &str) -> bool {
        let known = || -> Vec<LinkId> { self.settings().links.iter().map(|link| link.id).collect() };
        loop {
            let others = known();
            // It may ask the name service: nobody waits for that.
            let links = match more_links(text, &others) {
                Ok(links) => links,
                Err(error) => {
                    gst::error!(CATEGORY, imp = self, "add-link: {}", chain(&error));
                    return false;
                }
            };
            let changing = lock(&self.changing);
            // Otherwise an id that was free may be another thread's by now.
            if known() == others {
                let some = !links.is_empty();
                for link in links {
                    self.join_link(link, &changing);
                }
                return some;
            }
        }
    }

    /// Hands one payload over; under back-pressure it waits until the links carry it, or, of a live source, for room in the queue.
    fn push(&self, pace: &mut Pace, bytes: &Bytes, class: PacketClass, came: Came) -> Result<(), gst::FlowError> {
        let backpressure = self.settings().backpressure;
        let patient = backpressure && pace.can_wait(&self.obj());
        pace.go_on();
        loop {
            match self.push_once(pace, bytes, class, came, patient) {
                Some(Ok(())) => return Ok(()),
                Some(Err(PushError::Full)) if backpressure => {
                    if patient {
                        pace.stop();
                    }
                    let waited = self.wait_for_room();
                    pace.go_on();
                    waited?;
                }
                Some(Err(PushError::Full)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Some(Err(error)) => {
                    gst::element_imp_error!(self, gst::ResourceError::Write, ("{error}"));
                    return Err(gst::FlowError::Error);
                }
                None => return Err(gst::FlowError::Flushing),
            }
        }
    }

    /// Hands one payload over, if the links carry it or it is not `patient`; `None` while no flow is open.
    fn push_once(
        &self,
        pace: &Pace,
        bytes: &Bytes,
        class: PacketClass,
        came: Came,
        patient: bool,
    ) -> Option<Result<(), PushError>> {
        self.with_flow(|flow| match came.running_time {
            _ if patient && !flow.has_room() => Err(PushError::Full),
            Some(time) => flow.push(bytes.clone(), class, Some(pace.time(time))),
            None => flow.push_aged(bytes.clone(), class, pace.now().saturating_sub(came.at)),
        })
    }

    /// Sets the timer for packets that wait for others.
    fn watch_fill(&self, stream: &mut Stream) {
        let Some(came) = stream.packer.waiting_since() else { return };
        // Asked of upstream now, for it is remembered: on the clock's thread there is no asking.
        stream.pace.can_wait(&self.obj());
        let rest = (came.at + FILL_WAIT_MAX).saturating_sub(stream.pace.now());
        stream.fill_timer.set(&self.obj(), rest.max(ROOM_RETRY));
    }

    /// Lets go packets that have waited long enough for others. On the thread of the system's clock, which is everybody's: here
    /// nothing waits.
    pub(super) fn let_go(&self, timer: Timer) {
        let mut guard = match self.stream.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A render is under way and may wait for room.
            Err(TryLockError::WouldBlock) => {
                timer.again(&self.obj());
                return;
            }
        };
        let Some(stream) = guard.as_mut() else { return };
        let Stream { packer, pace, fill_timer } = &mut *stream;
        if !fill_timer.is(&timer) {
            return;
        }
        let is_due = packer.waiting_since().is_some_and(|came| pace.now() >= came.at + FILL_WAIT_MAX);
        let patient = self.settings().backpressure && pace.can_wait(&self.obj());
        if is_due && patient && self.with_flow(FlowSender::has_room) != Some(true) {
            pace.stop();
            timer.again(&self.obj());
            return;
        }
        fill_timer.clear();
        if is_due {
            pace.go_on();
            let Ok(()) = packer.finish(|bytes, class, came| {
                let lost = matches!(self.push_once(pace, &bytes, class, came, false), Some(Err(_)));
                self.dropped.fetch_add(u64::from(lost), Ordering::Relaxed);
                Ok::<_, Infallible>(())
            });
        }
        self.watch_fill(stream);
    }

    /// Waits a little, and through a pause. An error means that the stream is flushed or stopped.
    fn wait_for_room(&self) -> Result<(), gst::FlowError> {
        let unlocked = || self.unlocked.load(Ordering::Acquire);
        let guard = lock(&self.unlock_lock);
        let waited = self.unlock_changed.wait_timeout_while(guard, ROOM_RETRY, |()| !unlocked());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        if unlocked() {
            // Lets the change of state have the lock it asks for, and returns when the stream goes on.
            self.obj().wait_preroll()?;
        }
        Ok(())
    }

    /// The buffer's place in media time; without one it counts as produced now.
    fn source_time(&self, buffer: &gst::BufferRef) -> Option<Duration> {
        let time = buffer.dts_or_pts()?;
        let segment = self.obj().segment();
        let running_time = segment.downcast_ref::<gst::ClockTime>()?.to_running_time(time)?;
        Some(Duration::from_nanos(running_time.nseconds()))
    }

    fn finish_payload(&self) -> Result<(), gst::FlowError> {
        let mut stream = lock(&self.stream);
        let Some(Stream { packer, pace, .. }) = stream.as_mut() else { return Ok(()) };
        packer.finish(|bytes, class, came| self.push(pace, &bytes, class, came))
    }
}

fn apply_links(flow: &FlowSender, old: &[LinkSpec], new: &[LinkSpec]) {
    for gone in old.iter().filter(|link| !new.iter().any(|other| other.id == link.id)) {
        flow.remove_link(gone.id);
    }
    for link in new.iter().filter(|link| !old.contains(link)) {
        // Where only options and name differ the link goes on, with what it has used of its budget.
        let with = |other: &LinkSpec, options| LinkSpec { name: link.name.clone(), options, ..other.clone() };
        if old.iter().any(|other| with(other, link.options.clone()) == *link) {
            let mut options = link.options.clone();
            if options.name.is_empty() {
                options.name.clone_from(&link.name);
            }
            flow.set_link_options(link.id, options);
        } else {
            flow.add_link(link.clone());
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for Sink {
    const NAME: &'static str = "GstRsRistBondSink";
    type Type = super::BondSink;
    type ParentType = gst_base::BaseSink;
}

impl ObjectImpl for Sink {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties::properties);
        PROPERTIES.as_ref()
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(properties::signals);
        SIGNALS.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        properties::set(self, pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        properties::get(self, pspec.name())
    }
}

impl GstObjectImpl for Sink {}

impl ElementImpl for Sink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RIST bonding sink",
                "Sink/Network",
                "Sends MPEG-TS over several links at once as RIST (VSF TR-06-1, TR-06-2)",
                "The Strata developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/mpegts").field("systemstream", true).build();
            gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &caps)
                .into_iter()
                .collect()
        });
        TEMPLATES.as_ref()
    }
}

impl BaseSinkImpl for Sink {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let _changing = lock(&self.changing);
        // Files are read while the properties can be looked at.
        let settings = self.settings().clone();
        if settings.links.is_empty() && settings.links_error.is_none() {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("no link to send over: set the property links, or add one while it runs")
            );
        }
        let flow = settings.open()?;
        self.dropped.store(0, Ordering::Relaxed);
        self.skipped.store(0, Ordering::Relaxed);
        *lock(&self.stream) = Some(Stream::default());
        *lock(&self.running) = Some(Running { flow, _monitor: Monitor::start(&*self.obj()) });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let running = lock(&self.running).take();
        *lock(&self.stream) = None;
        if let Some(running) = running {
            running.flow.close();
        }
        Ok(())
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let mut stream = lock(&self.stream);
        let stream = stream.as_mut().ok_or(gst::FlowError::Flushing)?;
        let Stream { packer, pace, .. } = stream;
        if let Some(limit) = self.with_flow(FlowSender::payload_bytes_max) {
            packer.limit(limit);
        }
        let came = Came { at: pace.now(), running_time: self.source_time(buffer) };
        packer.push(&map, came, |bytes, class, came| self.push(pace, &bytes, class, came))?;
        self.skipped.store(packer.skipped_bytes(), Ordering::Relaxed);
        self.watch_fill(stream);
        Ok(gst::FlowSuccess::Ok)
    }

    fn event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Eos(_) => {
                // Flushing or closed is no reason to hold the end of stream back.
                if let Err(error) = self.finish_payload() {
                    gst::debug!(CATEGORY, imp = self, "the last payload was not sent: {error:?}");
                }
            }
            gst::EventView::FlushStop(_) => {
                if let Some(stream) = lock(&self.stream).as_mut() {
                    stream.packer.discard();
                    stream.pace.go_on();
                }
            }
            _ => {}
        }
        self.parent_event(event)
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        let _guard = lock(&self.unlock_lock);
        self.unlocked.store(true, Ordering::Release);
        self.unlock_changed.notify_all();
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.unlocked.store(false, Ordering::Release);
        Ok(())
    }
}
