//! The subclass behind [`super::BondSrc`].

use crate::monitor::Monitor;
use crate::settings::{Aes, Encryption, Profile, resolve_all};
use crate::stats;
use bond::config::{Extension, LATENCY_DEFAULT, LATENCY_MAX, LATENCY_MIN, ReceiverConfig, Secret};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_src::CreateSuccess;
use gstreamer_base::subclass::prelude::*;
use link_io::receiver::{Delivered, FlowReceiver, ReceiverOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a waiting `create` looks whether it should return.
const UNLOCK_CHECK: Duration = Duration::from_millis(50);
const LISTEN_DEFAULT: &str = "0.0.0.0:5000";

/// Locks that do not poison: the state behind them is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    listen: String,
    connect: String,
    latency: Duration,
    pub(crate) encryption: Encryption,
    cname: String,
    profile: Profile,
    reorder_ms: u32,
    extension: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: LISTEN_DEFAULT.to_owned(),
            connect: String::new(),
            latency: LATENCY_DEFAULT,
            encryption: Encryption::default(),
            cname: String::new(),
            profile: Profile::default(),
            reorder_ms: 0,
            extension: true,
        }
    }
}

/// An open flow and its messages.
struct Running {
    flow: Arc<FlowReceiver>,
    _monitor: Option<Monitor>,
}

#[derive(Default)]
pub struct Source {
    settings: Mutex<Settings>,
    running: Mutex<Option<Running>>,
    unlocked: AtomicBool,
}

impl Source {
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(crate) fn flow(&self) -> Option<Arc<FlowReceiver>> {
        lock(&self.running).as_ref().map(|running| Arc::clone(&running.flow))
    }

    pub(crate) fn stats(&self) -> Option<gst::Structure> {
        self.flow().map(|flow| stats::receiver(&flow.snapshot(), flow.io_counters()))
    }

    fn set_latency(&self, latency: Duration) {
        let changed = std::mem::replace(&mut self.settings().latency, latency) != latency;
        if let Some(flow) = self.flow().filter(|_| changed) {
            flow.set_latency(latency);
            let obj = self.obj();
            // Refused only while there is no bus: nobody to tell.
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    fn open(&self) -> Result<FlowReceiver, gst::ErrorMessage> {
        let settings = self.settings().clone();
        let wrong = |error: String| gst::error_msg!(gst::ResourceError::Settings, ("{error}"));
        let psk = settings.encryption.psk().map_err(|error| wrong(crate::settings::chain(&error)))?;
        let listen = resolve_all(&settings.listen).map_err(|error| wrong(error.to_string()))?;
        let connect = resolve_all(&settings.connect).map_err(|error| wrong(error.to_string()))?;
        let bond = ReceiverConfig {
            profile: settings.profile.into(),
            psk,
            cname: settings.cname,
            latency: settings.latency,
            reorder: (settings.reorder_ms > 0).then(|| Duration::from_millis(settings.reorder_ms.into())),
            extension: if settings.extension { Extension::Offer } else { Extension::Off },
            ..ReceiverConfig::default()
        };
        FlowReceiver::open(ReceiverOptions { bond, listen, connect })
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenRead, ("{}", crate::settings::chain(&error))))
    }

    /// A buffer whose time is that of its content: the receiver holds everything back by the latency budget.
    fn buffer(&self, flow: &FlowReceiver, delivered: Delivered) -> gst::Buffer {
        let age = flow.now().since(delivered.source_time);
        let running_time = self.obj().current_running_time();
        let mut buffer = gst::Buffer::from_slice(delivered.bytes);
        // A fresh buffer has one owner.
        let header = buffer.make_mut();
        header
            .set_pts(running_time.map(|now| now.saturating_sub(gst::ClockTime::from_nseconds(age.as_nanos() as u64))));
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
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties);
        PROPERTIES.as_ref()
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // The property system checks types before it calls: a mismatch cannot reach this place.
        match pspec.name() {
            "listen" => self.settings().listen = text(value),
            "connect" => self.settings().connect = text(value),
            "latency" => self.set_latency(Duration::from_millis(number(value).into())),
            "psk" => self.settings().encryption.passphrase = optional_text(value).map(Secret::new),
            "psk-file" => self.settings().encryption.file = optional_text(value),
            "aes" => self.settings().encryption.aes = value.get::<Aes>().unwrap_or_default(),
            "cname" => self.settings().cname = text(value),
            "profile" => self.settings().profile = value.get::<Profile>().unwrap_or_default(),
            "reorder" => self.settings().reorder_ms = number(value),
            "extension" => self.settings().extension = value.get().unwrap_or(true),
            _ => unreachable!("only properties installed above arrive here"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings().clone();
        match pspec.name() {
            "listen" => settings.listen.to_value(),
            "connect" => settings.connect.to_value(),
            "latency" => (settings.latency.as_millis() as u32).to_value(),
            "psk-file" => settings.encryption.file.to_value(),
            "aes" => settings.encryption.aes.to_value(),
            "cname" => settings.cname.to_value(),
            "profile" => settings.profile.to_value(),
            "reorder" => settings.reorder_ms.to_value(),
            "extension" => settings.extension.to_value(),
            "local-address" => self.flow().map(|flow| flow.local_addr().to_string()).to_value(),
            "stats" => self.stats().to_value(),
            _ => unreachable!("only readable properties installed above arrive here"),
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
        string("listen", "Listen", "Addresses to listen on, host:port, separated by commas; port 0 takes a free one")
            .default_value(Some(LISTEN_DEFAULT))
            .mutable_ready()
            .build(),
        string("connect", "Connect", "Listening senders to call, host:port, separated by commas").mutable_ready().build(),
        glib::ParamSpecUInt::builder("latency")
            .nick("Latency")
            .blurb("Time from input at the sender to output here, in milliseconds; the sender must use the same")
            .minimum(LATENCY_MIN.as_millis() as u32)
            .maximum(LATENCY_MAX.as_millis() as u32)
            .default_value(LATENCY_DEFAULT.as_millis() as u32)
            .mutable_playing()
            .build(),
        string("psk", "Pass phrase", "Pass phrase of the encryption; none receives in the clear (Main Profile only)")
            .write_only()
            .mutable_ready()
            .build(),
        string("psk-file", "Pass phrase file", "File with the pass phrase, so that it is not in the arguments")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Aes>("aes")
            .nick("AES")
            .blurb("Key length of the encryption of what is sent back")
            .mutable_ready()
            .build(),
        string("cname", "CNAME", "Canonical name told to the sender; empty makes one").mutable_ready().build(),
        glib::ParamSpecEnum::builder::<Profile>("profile").nick("Profile").blurb("RIST profile").mutable_ready().build(),
        glib::ParamSpecUInt::builder("reorder")
            .nick("Reorder")
            .blurb("How long a gap may stay open before it is reported to a plain RIST sender, in milliseconds; 0 follows the RTT")
            .maximum(10_000)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("extension")
            .nick("Extension")
            .blurb("Offer the engine's own reports; a plain RIST sender ignores the offer")
            .default_value(true)
            .mutable_ready()
            .build(),
        string("local-address", "Local address", "The first address in use; none while stopped").read_only().build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Statistics of flow and links; also posted as an element message once a second")
            .read_only()
            .build(),
    ]
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
        let flow = Arc::new(self.open()?);
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
            let budget = gst::ClockTime::from_nseconds(self.settings().latency.as_nanos() as u64);
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
        let flow = self.flow().ok_or(gst::FlowError::Flushing)?;
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
