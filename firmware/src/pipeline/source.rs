//! Opening what the picture comes from, down to raw video and raw sound.
//!
//! A source is a pipeline of its own: it can fail, be closed and opened again while the sending pipeline goes on. It tells
//! its session what happens through one callback and never decides what to do about it.

use super::fault::{StreamFault, redact_uri};
use super::feed::{Feed, Pace, Target};
use super::picture::SourcePicture;
use super::rtmp;
use super::timeline::Medium;
use gstreamer as gst;
use gstreamer::prelude::*;
use protocol::worker::streamer::Source;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Jitter buffer of an RTSP source, in milliseconds: a local network needs little.
const RTSP_LATENCY_MS: u32 = 200;
/// Decoded pictures between decoder and feed.
const DECODED_PICTURES_MAX: u32 = 2;
/// What a LAN address may begin with; nothing here opens a file.
const LAN_SCHEMES: [&str; 5] = ["rtsp", "rtsps", "srt", "udp", "rtmp"];
/// Name of the element that captures sound; its failure costs the sound only.
const AUDIO_CAPTURE: &str = "audio-capture";

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// The first picture came.
    Picture(SourcePicture),
    /// Everything in the source was found, and there is no video in it.
    NoPicture,
    /// Everything was sent.
    End,
    /// The sound stopped; the picture goes on.
    SoundLost {
        /// GStreamer's words.
        detail: String,
    },
    /// It does not work any more.
    Failed {
        /// GStreamer's words.
        detail: String,
    },
}

/// Told everything a source says, from any thread; must not block.
pub type Notify = Arc<dyn Fn(SourceEvent) + Send + Sync>;

/// An open source.
#[derive(Debug)]
pub struct OpenSource {
    pipeline: gst::Pipeline,
    feed: Feed,
    /// After the pipeline: it ends when nothing takes what it has.
    listener: Option<rtmp::Listener>,
}

/// Raw sound as the sending pipeline takes it.
pub fn raw_audio_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("layout", "interleaved")
        .field("rate", 48_000_i32)
        .field("channels", 2_i32)
        .field("channel-mask", gst::Bitmask::new(3))
        .build()
}

/// What people call a source; never with credentials.
pub fn describe(source: &Source) -> String {
    match source {
        Source::Test { width, height, frames_per_second } => {
            format!("test pattern {width}x{height} at {frames_per_second} frames a second")
        }
        Source::File { path } => format!("file {path}"),
        Source::V4l2 { device, .. } => format!("camera {device}"),
        Source::Lan { uri } => redact_uri(uri.reveal()),
    }
}

/// How a source meets the clock.
pub fn pace(source: &Source) -> Pace {
    if matches!(source, Source::File { .. }) { Pace::File } else { Pace::Live }
}

impl OpenSource {
    /// Opens `source`; what comes of it is told to `notify`.
    ///
    /// # Errors
    /// What can be seen at once: a file or device that is not there, an address of an unknown kind, an element that is
    /// not installed.
    pub fn open(source: &Source, notify: &Notify) -> Result<Self, StreamFault> {
        let pipeline = gst::Pipeline::with_name("source");
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let mut feed = Feed::new(pace(source));
        let branches = Branches::new(&mut feed, notify);
        let mut listener = None;
        match source {
            Source::Test { width, height, frames_per_second } => {
                build_test(&pipeline, &branches, *width, *height, *frames_per_second)?;
            }
            Source::File { path } => build_file(&pipeline, branches, path, notify)?,
            Source::V4l2 { device, audio_device } => {
                build_v4l2(&pipeline, branches, device, audio_device.as_deref(), notify)?;
            }
            Source::Lan { uri } => listener = build_lan(&pipeline, branches, uri.reveal(), notify)?,
        }
        watch(&pipeline, notify);
        let open = Self { pipeline, feed, listener };
        open.pipeline.set_state(gst::State::Playing).map_err(|_| StreamFault::SourceFailed {
            what: describe(source),
            detail: first_error(&open.pipeline).unwrap_or_else(|| "it does not start".to_owned()),
        })?;
        Ok(open)
    }

    /// Starts handing pictures and sound to the sending pipeline.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(&mut self, target: &Target) -> std::io::Result<()> {
        self.feed.start(target)
    }

    /// Pictures the source has given.
    pub fn pictures(&self) -> u64 {
        self.feed.pictures()
    }

    /// Raw buffers dropped because the encoder did not follow.
    pub fn dropped(&self) -> u64 {
        self.feed.dropped()
    }

    /// Begins again from the start. False when that is impossible: the pass was empty or the source cannot seek.
    pub fn rewind(&self) -> bool {
        self.feed.next_pass()
            && self.pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, gst::ClockTime::ZERO).is_ok()
    }
}

impl Drop for OpenSource {
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
            bus.set_flushing(true);
        }
        // First the queues, so that no streaming thread waits in one when the pipeline stops.
        self.feed.stop();
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "the source does not stop cleanly");
        }
        self.listener = None;
    }
}

/// The ends that raw video and sound are linked to, each at most once.
#[derive(Debug, Clone)]
struct Branches {
    video: gst::Element,
    audio: gst::Element,
    has_video: Arc<AtomicBool>,
    has_audio: Arc<AtomicBool>,
}

impl Branches {
    fn new(feed: &mut Feed, notify: &Notify) -> Self {
        let told = Arc::clone(notify);
        let video_caps = gst::Caps::new_empty_simple("video/x-raw");
        let video = feed.sink(Medium::Video, &video_caps, move |caps| {
            if let Some(picture) = picture_of(caps) {
                told(SourceEvent::Picture(picture));
            }
        });
        let audio = feed.sink(Medium::Audio, &raw_audio_caps(), |_| {});
        Self { video: video.upcast(), audio: audio.upcast(), has_video: Arc::default(), has_audio: Arc::default() }
    }

    /// Ends a pad of raw video or sound in the feed; a second of its kind is left alone.
    fn attach(&self, pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), StreamFault> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let kind = caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default();
        if kind.starts_with("video/") && !self.has_video.swap(true, Ordering::AcqRel) {
            let queue = make("queue")?;
            // Raw pictures are large; the feed behind holds what is needed.
            queue.set_property("max-size-buffers", DECODED_PICTURES_MAX);
            connect(pipeline, pad, &[queue, self.video.clone()])
        } else if kind.starts_with("audio/") && !self.has_audio.swap(true, Ordering::AcqRel) {
            let chain = [make("queue")?, stereo_converter()?, make("audioresample")?, self.audio.clone()];
            connect(pipeline, pad, &chain)
        } else {
            tracing::debug!(caps = %caps, "a further stream of the source is left alone");
            Ok(())
        }
    }

    /// Attaches every pad that `decoder` grows; reports when it has grown all and none was video.
    fn follow(self, pipeline: &gst::Pipeline, decoder: &gst::Element, notify: &Notify) {
        let branches = self.clone();
        let weak = pipeline.downgrade();
        let told = Arc::clone(notify);
        decoder.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            if let Err(fault) = branches.attach(&pipeline, pad) {
                told(SourceEvent::Failed { detail: fault.to_string() });
            }
        });
        let told = Arc::clone(notify);
        decoder.connect_no_more_pads(move |_| {
            if !self.has_video.load(Ordering::Acquire) {
                told(SourceEvent::NoPicture);
            }
        });
    }
}

fn stereo_converter() -> Result<gst::Element, StreamFault> {
    let convert = make("audioconvert")?;
    super::downmix::mix_by_standard(&convert);
    Ok(convert)
}

/// Adds `chain` to the pipeline, links it and puts `pad` in front.
fn connect(pipeline: &gst::Pipeline, pad: &gst::Pad, chain: &[gst::Element]) -> Result<(), StreamFault> {
    add(pipeline, chain)?;
    let entry = chain.first().and_then(|element| element.static_pad("sink"));
    let linked = entry.is_some_and(|entry| pad.link(&entry).is_ok());
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(|_| pipeline_fault(element, "does not start"))?;
    }
    if linked { Ok(()) } else { Err(pipeline_fault(&chain[0], "does not take what the source gives")) }
}

fn build_test(
    pipeline: &gst::Pipeline,
    branches: &Branches,
    width: u32,
    height: u32,
    frames_per_second: u32,
) -> Result<(), StreamFault> {
    let video = make("videotestsrc")?;
    video.set_property("is-live", true);
    video.set_property_from_str("pattern", "smpte");
    video.set_property_from_str("animation-mode", "running-time");
    // Moves the pattern: a frozen picture shows at once.
    video.set_property("horizontal-speed", 2_i32);
    let filter = make("capsfilter")?;
    let (width, height, rate) = (side(width)?, side(height)?, side(frames_per_second)?);
    filter.set_property(
        "caps",
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(rate, 1))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build(),
    );
    let mut chain = vec![video, filter];
    // Text needs the Pango plugin; the pattern moves without it, too.
    for (name, place) in [("timeoverlay", "bottom"), ("clockoverlay", "top")] {
        if let Ok(overlay) = gst::ElementFactory::make(name).build() {
            overlay.set_property_from_str("valignment", place);
            overlay.set_property_from_str("halignment", "center");
            overlay.set_property("font-desc", "Sans 24");
            chain.push(overlay);
        } else {
            tracing::warn!(element = name, "not installed: the test pattern has no clock");
        }
    }
    chain.push(branches.video.clone());
    add(pipeline, &chain)?;

    let tone = make("audiotestsrc")?;
    tone.set_property("is-live", true);
    tone.set_property("freq", 440.0_f64);
    tone.set_property("volume", 0.1_f64);
    tone.set_property("samplesperbuffer", 960_i32);
    add(pipeline, &[tone, branches.audio.clone()])
}

fn side(value: u32) -> Result<i32, StreamFault> {
    let in_range = i32::try_from(value).ok().filter(|value| (1..=8192).contains(value));
    in_range.ok_or_else(|| StreamFault::SourceFailed {
        what: "test pattern".to_owned(),
        detail: format!("{value} is no usable size or rate"),
    })
}

fn build_file(pipeline: &gst::Pipeline, branches: Branches, path: &str, notify: &Notify) -> Result<(), StreamFault> {
    let unreadable = |detail: String| StreamFault::FileUnreadable { path: path.to_owned(), detail };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let is_file = file.metadata().map_err(|error| unreadable(error.to_string()))?.is_file();
    if !is_file {
        return Err(unreadable("it is no file".to_owned()));
    }
    let absolute = Path::new(path).canonicalize().map_err(|error| unreadable(error.to_string()))?;
    let uri = gst::glib::filename_to_uri(absolute, None).map_err(|error| unreadable(error.to_string()))?;
    build_decoder(pipeline, branches, &uri, notify)
}

fn build_lan(
    pipeline: &gst::Pipeline,
    branches: Branches,
    uri: &str,
    notify: &Notify,
) -> Result<Option<rtmp::Listener>, StreamFault> {
    let known = uri.split_once("://").is_some_and(|(scheme, _)| LAN_SCHEMES.contains(&scheme));
    if !known {
        return Err(StreamFault::AddressUnusable { uri: redact_uri(uri) });
    }
    let Some(listen) = rtmp::Listen::parse(uri) else {
        return build_decoder(pipeline, branches, uri, notify).map(|()| None);
    };
    let source = rtmp::source();
    let decoder = make("decodebin")?;
    decoder.set_property("caps", raw_caps());
    add(pipeline, &[source.clone().upcast(), decoder.clone()])?;
    branches.follow(pipeline, &decoder, notify);
    rtmp::Listener::start(&listen, source).map(Some)
}

/// What decoders give the feed: raw pictures and sound, wherever they lie in memory.
fn raw_caps() -> gst::Caps {
    let mut wanted = gst::Caps::new_empty();
    for kind in ["video/x-raw", "audio/x-raw"] {
        let any = gst::Caps::builder(kind).any_features().build();
        wanted.get_mut().into_iter().for_each(|caps| caps.append(any.clone()));
    }
    wanted
}

fn build_decoder(pipeline: &gst::Pipeline, branches: Branches, uri: &str, notify: &Notify) -> Result<(), StreamFault> {
    let decoder = make("uridecodebin")?;
    decoder.set_property("uri", uri);
    decoder.set_property("expose-all-streams", false);
    decoder.set_property("caps", raw_caps());
    decoder.connect("source-setup", false, |arguments| {
        let source = arguments.get(1)?.get::<gst::Element>().ok()?;
        if source.factory().is_some_and(|factory| factory.name() == "rtspsrc") {
            source.set_property("latency", RTSP_LATENCY_MS);
        }
        None
    });
    branches.follow(pipeline, &decoder, notify);
    add(pipeline, &[decoder])
}

fn build_v4l2(
    pipeline: &gst::Pipeline,
    branches: Branches,
    device: &str,
    audio_device: Option<&str>,
    notify: &Notify,
) -> Result<(), StreamFault> {
    if !Path::new(device).exists() {
        return Err(StreamFault::CaptureAbsent { device: device.to_owned() });
    }
    let capture = make("v4l2src")?;
    capture.set_property("device", device);
    // Cameras give raw, JPEG or coded pictures; the decoder lets raw ones through.
    let decoder = make("decodebin")?;
    add(pipeline, &[capture, decoder.clone()])?;
    if let Some(Err(fault)) = audio_device.map(|audio_device| build_alsa(pipeline, &branches, audio_device)) {
        notify(SourceEvent::SoundLost { detail: fault.to_string() });
    }
    branches.follow(pipeline, &decoder, notify);
    Ok(())
}

fn build_alsa(pipeline: &gst::Pipeline, branches: &Branches, device: &str) -> Result<(), StreamFault> {
    let capture = gst::ElementFactory::make("alsasrc")
        .name(AUDIO_CAPTURE)
        .property("device", device)
        .build()
        .map_err(|_| StreamFault::ElementMissing { element: "alsasrc".to_owned() })?;
    // Opens the device: one that is absent or busy must not take the picture along.
    let opened = capture.set_state(gst::State::Ready);
    if opened.is_err() {
        let _ = capture.set_state(gst::State::Null);
        return Err(pipeline_fault(&capture, &format!("cannot open {device}")));
    }
    let chain = [capture, make("queue")?, stereo_converter()?, make("audioresample")?, branches.audio.clone()];
    branches.has_audio.store(true, Ordering::Release);
    add(pipeline, &chain)
}

/// Tells errors and the end, from whichever thread they come.
fn watch(pipeline: &gst::Pipeline, notify: &Notify) {
    let Some(bus) = pipeline.bus() else { return };
    let told = Arc::clone(notify);
    let failed = Mutex::new(false);
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Eos(_) => told(SourceEvent::End),
            gst::MessageView::Error(error) => {
                let detail = in_words(error);
                if message.src().is_some_and(|source| source.name() == AUDIO_CAPTURE) {
                    told(SourceEvent::SoundLost { detail });
                } else if !std::mem::replace(&mut *failed.lock().unwrap_or_else(PoisonError::into_inner), true) {
                    // Further errors are consequences of the first.
                    told(SourceEvent::Failed { detail });
                    return gst::BusSyncReply::Pass; // for `first_error`
                }
            }
            gst::MessageView::Warning(warning) => {
                tracing::warn!(error = %warning.error(), "source");
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

/// The error that made a state change fail.
fn first_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(in_words(error)),
        _ => None,
    }
}

/// What GStreamer says, with the cause that it tells developers; never one that names an address, which may hold a password.
fn in_words(error: &gst::message::Error) -> String {
    let text = error.error().to_string();
    // First line: file and function.
    let debug = error.debug().unwrap_or_default();
    let cause = debug.split_once('\n').map(|(_, cause)| cause.lines().next().unwrap_or_default().trim());
    match cause.filter(|cause| !cause.is_empty() && !cause.contains("://") && !cause.contains('@')) {
        Some(cause) if !text.contains(cause) => format!("{} ({cause})", text.trim_end_matches('.')),
        _ => text,
    }
}

fn picture_of(caps: &gst::CapsRef) -> Option<SourcePicture> {
    let structure = caps.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|value| u32::try_from(value).ok());
    let fraction = |name, default: (u32, u32)| {
        let value = structure.get::<gst::Fraction>(name).ok();
        value.map_or(default, |value| (value.numer().unsigned_abs(), value.denom().unsigned_abs()))
    };
    Some(SourcePicture {
        width: side("width").filter(|&width| width > 0)?,
        height: side("height").filter(|&height| height > 0)?,
        pixel_aspect: fraction("pixel-aspect-ratio", (1, 1)),
        frame_rate: fraction("framerate", (0, 1)),
    })
}

pub(super) fn make(element: &str) -> Result<gst::Element, StreamFault> {
    gst::ElementFactory::make(element).build().map_err(|_| StreamFault::ElementMissing { element: element.to_owned() })
}

/// Adds elements and links them in order.
pub(super) fn add(pipeline: &gst::Pipeline, chain: &[gst::Element]) -> Result<(), StreamFault> {
    let fail = |error: gst::glib::BoolError| StreamFault::Pipeline {
        element: chain.first().map(|element| element.name().to_string()).unwrap_or_default(),
        detail: error.to_string(),
    };
    pipeline.add_many(chain).map_err(fail)?;
    gst::Element::link_many(chain).map_err(fail)
}

fn pipeline_fault(element: &gst::Element, detail: &str) -> StreamFault {
    StreamFault::Pipeline { element: element.name().to_string(), detail: detail.to_owned() }
}
