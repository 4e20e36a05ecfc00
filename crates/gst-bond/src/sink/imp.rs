//! The subclass behind [`super::BondSink`].

use crate::monitor::Monitor;
use crate::pack::Packer;
use crate::settings::{Aes, Encryption, Profile, chain, parse_links};
use crate::stats::{self, SinkCounters};
use bond::PacketClass;
use bond::config::{Extension, LATENCY_DEFAULT, LATENCY_MAX, LATENCY_MIN, Secret, SenderConfig};
use bytes::Bytes;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::prelude::*;
use link_io::PushError;
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use units::{Bitrate, LinkId};

/// How often a full queue is tried again under back-pressure.
const FULL_RETRY: Duration = Duration::from_millis(5);

static CATEGORY: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("rsristbondsink", gst::DebugColorFlags::empty(), Some("RIST bonding sink"))
});

/// Locks that do not poison: the state behind them is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) links: Vec<LinkSpec>,
    pub(crate) links_text: String,
    /// A `links` text that does not parse is reported when the element starts.
    pub(crate) links_error: Option<String>,
    pub(crate) latency: Duration,
    pub(crate) encryption: Encryption,
    pub(crate) cname: String,
    pub(crate) profile: Profile,
    pub(crate) null_deletion: bool,
    pub(crate) extension: bool,
    pub(crate) flow_id: u32,
    pub(crate) encoder_min: Bitrate,
    pub(crate) encoder_max: Bitrate,
    pub(crate) backpressure: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            links_text: String::new(),
            links_error: None,
            latency: LATENCY_DEFAULT,
            encryption: Encryption::default(),
            cname: String::new(),
            profile: Profile::default(),
            null_deletion: false,
            extension: true,
            flow_id: 0,
            encoder_min: Bitrate::ZERO,
            encoder_max: Bitrate::ZERO,
            backpressure: true,
        }
    }
}

/// An open flow and its messages.
struct Running {
    flow: FlowSender,
    _monitor: Option<Monitor>,
}

#[derive(Default)]
pub struct Sink {
    settings: Mutex<Settings>,
    running: Mutex<Option<Running>>,
    packer: Mutex<Option<Packer>>,
    dropped: AtomicU64,
    /// Beside the packer: a render that waits for room holds the packer.
    skipped: AtomicU64,
    /// Set by `unlock`: a render that waits for room must return.
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
        let mut settings = self.settings();
        settings.links.retain(|known| known.id != link.id);
        settings.links.push(link.clone());
        drop(settings);
        self.with_flow(|flow| flow.add_link(link));
    }

    pub(crate) fn remove_link(&self, link: LinkId) -> bool {
        let mut settings = self.settings();
        let before = settings.links.len();
        settings.links.retain(|known| known.id != link);
        let found = settings.links.len() < before;
        drop(settings);
        if found {
            self.with_flow(|flow| flow.remove_link(link));
        }
        found
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.settings().latency = latency;
        self.with_flow(|flow| flow.set_latency(latency));
    }

    pub(crate) fn set_encoder_range(&self, min: Bitrate, max: Bitrate) {
        {
            let mut settings = self.settings();
            (settings.encoder_min, settings.encoder_max) = (min, max);
        }
        // A range with nothing in it is the default of the properties: the bond is not told.
        if max > Bitrate::ZERO && min <= max {
            self.with_flow(|flow| flow.set_encoder_range(min, max));
        }
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

    fn set_links_text(&self, text: &str) {
        let parsed = parse_links(text);
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
                    gst::error!(CATEGORY, imp = self, "links: {error}");
                    settings.links_error = Some(error.to_string());
                    return;
                }
            }
        };
        self.with_flow(|flow| apply_links(flow, &old, &new));
    }

    fn open(&self) -> Result<FlowSender, gst::ErrorMessage> {
        let settings = self.settings().clone();
        if let Some(error) = settings.links_error {
            return Err(gst::error_msg!(gst::ResourceError::Settings, ("{error}")));
        }
        let psk = settings
            .encryption
            .psk()
            .map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{}", chain(&error))))?;
        let config = SenderConfig {
            profile: settings.profile.into(),
            psk,
            cname: settings.cname,
            latency: settings.latency,
            flow_id: (settings.flow_id != 0).then_some(settings.flow_id),
            null_deletion: settings.null_deletion,
            extension: if settings.extension { Extension::Offer } else { Extension::Off },
            ..SenderConfig::default()
        };
        let flow = FlowSender::open(SenderOptions { bond: config, links: settings.links })
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenWrite, ("{}", chain(&error))))?;
        let (min, max) = (settings.encoder_min, settings.encoder_max);
        if max > Bitrate::ZERO && min <= max {
            flow.set_encoder_range(min, max);
        }
        Ok(flow)
    }

    /// Hands one payload over; waits for room under back-pressure.
    fn push(&self, bytes: &Bytes, class: PacketClass, time: Option<Duration>) -> Result<(), gst::FlowError> {
        let backpressure = self.settings().backpressure;
        loop {
            let pushed = self.with_flow(|flow| flow.push(bytes.clone(), class, time));
            match pushed {
                Some(Ok(())) => return Ok(()),
                Some(Err(PushError::Full)) if backpressure => self.wait_for_room()?,
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

    fn wait_for_room(&self) -> Result<(), gst::FlowError> {
        let guard = lock(&self.unlock_lock);
        if !self.unlocked.load(Ordering::Acquire) {
            drop(self.unlock_changed.wait_timeout(guard, FULL_RETRY).unwrap_or_else(PoisonError::into_inner));
        }
        if self.unlocked.load(Ordering::Acquire) { Err(gst::FlowError::Flushing) } else { Ok(()) }
    }

    /// The buffer's place in media time; without one it counts as produced now.
    fn source_time(&self, buffer: &gst::BufferRef) -> Option<Duration> {
        let time = buffer.dts_or_pts()?;
        let segment = self.obj().segment();
        let running_time = segment.downcast_ref::<gst::ClockTime>()?.to_running_time(time)?;
        Some(Duration::from_nanos(running_time.nseconds()))
    }

    fn finish_payload(&self) -> Result<(), gst::FlowError> {
        let mut packer = lock(&self.packer);
        let Some(packer) = packer.as_mut() else { return Ok(()) };
        packer.finish(|bytes, class| self.push(&bytes, class, None))
    }
}

fn apply_links(flow: &FlowSender, old: &[LinkSpec], new: &[LinkSpec]) {
    for gone in old.iter().filter(|link| !new.iter().any(|other| other.id == link.id)) {
        flow.remove_link(gone.id);
    }
    for link in new.iter().filter(|link| !old.contains(link)) {
        flow.add_link(link.clone());
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
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        PROPERTIES.as_ref()
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
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
        });
        SIGNALS.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // The property system checks types before it calls: a mismatch cannot reach this place.
        match pspec.name() {
            "links" => self.set_links_text(&text(value)),
            "latency" => self.set_latency(Duration::from_millis(number(value).into())),
            "psk" => self.settings().encryption.passphrase = optional_text(value).map(Secret::new),
            "psk-file" => self.settings().encryption.file = optional_text(value),
            "aes" => self.settings().encryption.aes = value.get::<Aes>().unwrap_or_default(),
            "cname" => self.settings().cname = text(value),
            "profile" => self.settings().profile = value.get::<Profile>().unwrap_or_default(),
            "null-deletion" => self.settings().null_deletion = value.get().unwrap_or_default(),
            "extension" => self.settings().extension = value.get().unwrap_or(true),
            "flow-id" => self.settings().flow_id = number(value),
            "encoder-bitrate-min" => {
                let max = self.settings().encoder_max;
                self.set_encoder_range(Bitrate::from_bps(value.get().unwrap_or_default()), max);
            }
            "encoder-bitrate-max" => {
                let min = self.settings().encoder_min;
                self.set_encoder_range(min, Bitrate::from_bps(value.get().unwrap_or_default()));
            }
            "backpressure" => self.settings().backpressure = value.get().unwrap_or(true),
            _ => unreachable!("only properties installed above arrive here"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings().clone();
        match pspec.name() {
            "links" => settings.links_text.to_value(),
            "latency" => (settings.latency.as_millis() as u32).to_value(),
            "psk-file" => settings.encryption.file.to_value(),
            "aes" => settings.encryption.aes.to_value(),
            "cname" => settings.cname.to_value(),
            "profile" => settings.profile.to_value(),
            "null-deletion" => settings.null_deletion.to_value(),
            "extension" => settings.extension.to_value(),
            "flow-id" => settings.flow_id.to_value(),
            "encoder-bitrate-min" => settings.encoder_min.as_bps().to_value(),
            "encoder-bitrate-max" => settings.encoder_max.as_bps().to_value(),
            "backpressure" => settings.backpressure.to_value(),
            "rate-advice" => self.with_flow(FlowSender::rate_advice).unwrap_or(Bitrate::ZERO).as_bps().to_value(),
            "stats" => self.stats().to_value(),
            _ => unreachable!("only readable properties installed above arrive here"),
        }
    }
}

impl Sink {
    fn add_links_text(&self, text: &str) -> bool {
        match parse_links(text) {
            Ok(links) if !links.is_empty() => {
                for link in links {
                    self.add_link(link);
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                gst::error!(CATEGORY, imp = self, "add-link: {error}");
                false
            }
        }
    }
}

fn text(value: &glib::Value) -> String {
    optional_text(value).unwrap_or_default()
}

fn optional_text(value: &glib::Value) -> Option<String> {
    value.get::<Option<String>>().ok().flatten()
}

fn number(value: &glib::Value) -> u32 {
    value.get().unwrap_or_default()
}

fn properties() -> Vec<glib::ParamSpec> {
    let string = |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb);
    vec![
        string(
            "links",
            "Links",
            "Links of the bond, separated by commas: host:port, then options after semicolons: id, name, bind (local \
             address), dev (interface), priority, weight, rate-max (kbit/s), mtu",
        )
        .mutable_playing()
        .build(),
        glib::ParamSpecUInt::builder("latency")
            .nick("Latency")
            .blurb("Time from input here to output at the receiver, in milliseconds; the receiver must use the same")
            .minimum(LATENCY_MIN.as_millis() as u32)
            .maximum(LATENCY_MAX.as_millis() as u32)
            .default_value(LATENCY_DEFAULT.as_millis() as u32)
            .mutable_playing()
            .build(),
        string("psk", "Pass phrase", "Pass phrase of the encryption; none sends in the clear (Main Profile only)")
            .write_only()
            .mutable_ready()
            .build(),
        string("psk-file", "Pass phrase file", "File with the pass phrase, so that it is not in the arguments")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Aes>("aes")
            .nick("AES")
            .blurb("Key length of the encryption")
            .mutable_ready()
            .build(),
        string("cname", "CNAME", "Canonical name told to the receiver; empty makes one").mutable_ready().build(),
        glib::ParamSpecEnum::builder::<Profile>("profile")
            .nick("Profile")
            .blurb("RIST profile")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("null-deletion")
            .nick("Null deletion")
            .blurb("Leave TS null packets out on the wire; the receiver puts them back")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("extension")
            .nick("Extension")
            .blurb("Offer the engine's own reports; a plain RIST receiver ignores the offer")
            .default_value(true)
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
            .blurb("Wait when the queue to the bond is full; otherwise drop and count")
            .default_value(true)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("rate-advice")
            .nick("Rate advice")
            .blurb("Payload rate that the links carry in time, in bit/s; 0 while stopped")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Statistics of flow and links; also posted as an element message once a second")
            .read_only()
            .build(),
    ]
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
        let flow = self.open()?;
        self.dropped.store(0, Ordering::Relaxed);
        self.skipped.store(0, Ordering::Relaxed);
        *lock(&self.packer) = Some(Packer::new());
        *lock(&self.running) = Some(Running { flow, _monitor: Monitor::start(&*self.obj()) });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let running = lock(&self.running).take();
        *lock(&self.packer) = None;
        if let Some(running) = running {
            running.flow.close();
        }
        Ok(())
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let time = self.source_time(buffer);
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let mut packer = lock(&self.packer);
        let packer = packer.as_mut().ok_or(gst::FlowError::Flushing)?;
        packer.push(&map, |bytes, class| self.push(&bytes, class, time))?;
        self.skipped.store(packer.skipped_bytes(), Ordering::Relaxed);
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
                if let Some(packer) = lock(&self.packer).as_mut() {
                    packer.discard();
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
