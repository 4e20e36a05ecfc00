//! The sending pipeline: encode, multiplex, hand over.
//!
//! ```text
//! video -> convert, scale, constant frame rate -> encoder -> parser -> queue \
//!                                                                             mpegtsmux (7 packets a buffer) -> sink
//! sound + silence -> mixer -> AAC encoder -> parser -> queue                 /
//! ```
//! Silence is always mixed in: a source without sound, or one whose sound stops, still gives a stream with sound. The
//! pipeline runs from the first picture to the stop, whatever happens to the source.

use super::encoder::Encoder;
use super::fault::StreamFault;
use super::feed::{AUDIO_QUEUE_BUFFERS, Pace, Target};
use super::source::{add, make, raw_audio_caps};
use super::timeline::Timeline;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use protocol::stream::EncodingSpec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use units::Bitrate;

/// AAC encoders by preference.
const AUDIO_ENCODERS: [&str; 3] = ["fdkaacenc", "voaacenc", "avenc_aac"];
/// Raw pictures between feed and encoder; a full queue means that the encoder does not follow.
const ENCODER_QUEUE_BUFFERS: u64 = 3;
/// How late sound may come before silence takes its place. Costs latency only while there is no sound.
const SOUND_LATE_MAX: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// The same for a source whose video decoder holds pictures back against the sound.
const SOUND_LATE_MAX_LAN: gst::ClockTime = gst::ClockTime::from_mseconds(600);
/// TS packets in a buffer: what one packet of the bond carries.
const TS_PACKETS_PER_BUFFER: i32 = 7;

/// What the sending pipeline says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendEvent {
    /// The first coded bytes reached the sink.
    Flowing,
    /// Everything was handed over after [`Sending::finish`].
    End,
    /// Something happened in the bond.
    Bond {
        /// The sentence for the operator.
        text: String,
    },
    /// Latencies changed; call [`Sending::recalculate_latency`].
    Latency,
    /// It does not work any more.
    Failed {
        /// The element that said so.
        element: String,
        /// Its words.
        detail: String,
    },
}

/// Told everything the sending pipeline says, from any thread; must not block.
pub type Notify = Arc<dyn Fn(SendEvent) + Send + Sync>;

/// A running sending pipeline.
#[derive(Debug)]
pub struct Sending {
    target: Target,
    encoder: Encoder,
    silence: gst::Element,
}

impl Sending {
    /// Builds the pipeline in front of `sink` and starts it.
    ///
    /// # Errors
    /// An element is missing or does not start.
    pub fn start(
        encoder: Encoder,
        encoding: &EncodingSpec,
        pace: Pace,
        sink: &gst::Element,
        notify: &Notify,
    ) -> Result<Self, StreamFault> {
        let pipeline = gst::Pipeline::with_name("sending");
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let mux = make("mpegtsmux")?;
        mux.set_property("alignment", TS_PACKETS_PER_BUFFER);
        add(&pipeline, &[mux.clone(), sink.clone()])?;
        let late_max = if pace == Pace::File { SOUND_LATE_MAX } else { SOUND_LATE_MAX_LAN };
        let (video, video_end) = build_video(&pipeline, &encoder, &mux)?;
        let (mixer, silence, audio_end) = build_audio(&pipeline, encoding.audio_bitrate, late_max, &mux)?;
        start_together([video_end, audio_end].into_iter().flatten().collect());
        watch(&pipeline, notify);
        watch_first_buffer(sink, notify);
        let audio = Arc::new(SoundInlet { pipeline: pipeline.clone(), mixer, late_max, source: OnceLock::new() });
        let target = Target { video, audio, pipeline, timeline: Arc::new(Mutex::new(Timeline::default())) };
        let sending = Self { target, encoder, silence };
        sending.target.pipeline.set_state(gst::State::Playing).map_err(|_| StreamFault::Pipeline {
            element: "the sending pipeline".to_owned(),
            detail: first_error(&sending.target.pipeline).unwrap_or_else(|| "it does not start".to_owned()),
        })?;
        Ok(sending)
    }

    /// Where the source's feed goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The encoder in use.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Ends the stream: everything in the pipeline is encoded and handed over, then [`SendEvent::End`].
    pub fn finish(&self) {
        for source in [Some(&self.target.video), self.target.audio.connected()].into_iter().flatten() {
            if let Err(error) = source.end_of_stream() {
                tracing::debug!(?error, "the sending pipeline takes no end of stream");
            }
        }
        self.silence.send_event(gst::event::Eos::new());
    }

    /// Distributes changed latencies.
    pub fn recalculate_latency(&self) {
        if let Err(error) = self.target.pipeline.recalculate_latency() {
            tracing::warn!(%error, "latencies of the sending pipeline");
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(bus) = self.target.pipeline.bus() {
            bus.unset_sync_handler();
            bus.set_flushing(true);
        }
        if let Err(error) = self.target.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "the sending pipeline does not stop cleanly");
        }
    }
}

fn build_video(
    pipeline: &gst::Pipeline,
    encoder: &Encoder,
    mux: &gst::Element,
) -> Result<(gst_app::AppSrc, Option<gst::Pad>), StreamFault> {
    let source = app_source("video", ENCODER_QUEUE_BUFFERS);
    let filter = make("capsfilter")?;
    filter.set_property("caps", encoder.raw_caps());
    let parser = make(encoder.parser())?;
    // Parameter sets before every key frame: a receiver can begin anywhere.
    parser.set_property("config-interval", -1_i32);
    let rate = make("videorate")?;
    // A gap of the source is not filled afterwards with a burst of old pictures.
    rate.set_property("skip-to-first", true);
    let queue = make("queue")?;
    let chain = [
        source.clone().upcast(),
        make("videoconvert")?,
        make("videoscale")?,
        rate,
        filter,
        encoder.element().clone(),
        parser,
        queue.clone(),
        mux.clone(),
    ];
    add_in_front(pipeline, &chain)?;
    Ok((source, queue.static_pad("src")))
}

fn build_audio(
    pipeline: &gst::Pipeline,
    bitrate: Bitrate,
    late_max: gst::ClockTime,
    mux: &gst::Element,
) -> Result<(gst::Element, gst::Element, Option<gst::Pad>), StreamFault> {
    let silence = make("audiotestsrc")?;
    silence.set_property("is-live", true);
    silence.set_property_from_str("wave", "silence");
    silence.set_property("samplesperbuffer", 960_i32);
    let mixer = make("audiomixer")?;
    // From the start what it will be with sound, so that the first sound changes nothing.
    mixer.set_property("min-upstream-latency", late_max.nseconds());
    let filter = make("capsfilter")?;
    filter.set_property("caps", raw_audio_caps());
    let encoder = audio_encoder(bitrate)?;
    let queue = make("queue")?;
    let chain = [mixer.clone(), filter, make("audioconvert")?, encoder, make("aacparse")?, queue.clone(), mux.clone()];
    add_in_front(pipeline, &chain)?;
    let silence_filter = make("capsfilter")?;
    silence_filter.set_property("caps", raw_audio_caps());
    add_in_front(pipeline, &[silence.clone(), silence_filter, mixer.clone()])?;
    Ok((mixer, silence, queue.static_pad("src")))
}

/// Holds the first buffer on each pad until every pad has one: a live multiplexer that times out on one input while another
/// has no caps yet fails. Caps pass.
fn start_together(pads: Vec<gst::Pad>) {
    type Gates = Mutex<(usize, Vec<(gst::Pad, gst::PadProbeId)>)>;
    let gates: Arc<Gates> = Arc::new(Mutex::new((pads.len(), Vec::with_capacity(pads.len()))));
    for pad in pads {
        let shared = Arc::clone(&gates);
        let arrived = AtomicBool::new(false);
        let id = pad.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, move |pad, _| {
            let mut gates = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if !arrived.swap(true, Ordering::AcqRel) {
                gates.0 -= 1;
            }
            if gates.0 > 0 {
                return gst::PadProbeReturn::Ok; // keeps blocking
            }
            let all = std::mem::take(&mut gates.1);
            drop(gates);
            for (other, id) in all.into_iter().filter(|(other, _)| other != pad) {
                other.remove_probe(id);
            }
            gst::PadProbeReturn::Remove
        });
        if let Some(id) = id {
            gates.lock().unwrap_or_else(PoisonError::into_inner).1.push((pad, id));
        }
    }
}

fn audio_encoder(bitrate: Bitrate) -> Result<gst::Element, StreamFault> {
    let name = AUDIO_ENCODERS.iter().find(|name| gst::ElementFactory::find(name).is_some());
    let encoder = make(name.copied().unwrap_or(AUDIO_ENCODERS[1]))?;
    let bps = i32::try_from(bitrate.as_bps()).unwrap_or(i32::MAX).clamp(32_000, 320_000);
    encoder.set_property_from_str("bitrate", &bps.to_string());
    Ok(encoder)
}

/// Where the source's sound enters: a source without sound never has one, and the mixer does not wait for it.
#[derive(Debug)]
pub struct SoundInlet {
    pipeline: gst::Pipeline,
    mixer: gst::Element,
    late_max: gst::ClockTime,
    source: OnceLock<Option<gst_app::AppSrc>>,
}

impl SoundInlet {
    /// Made with the first sound; `None` when that is impossible, and silence goes on.
    pub fn source(&self) -> Option<&gst_app::AppSrc> {
        let made = self.source.get_or_init(|| self.connect().map_err(|fault| tracing::error!(%fault, "no sound")).ok());
        made.as_ref()
    }

    /// What was made, if there was sound.
    fn connected(&self) -> Option<&gst_app::AppSrc> {
        self.source.get().and_then(Option::as_ref)
    }

    fn connect(&self) -> Result<gst_app::AppSrc, StreamFault> {
        let source = app_source("audio", AUDIO_QUEUE_BUFFERS as u64);
        source.set_caps(Some(&raw_audio_caps()));
        source.set_latency(self.late_max, gst::ClockTime::NONE);
        let element: &gst::Element = source.upcast_ref();
        add_in_front(&self.pipeline, &[element.clone(), self.mixer.clone()])?;
        element.sync_state_with_parent().map_err(|error| StreamFault::Pipeline {
            element: element.name().to_string(),
            detail: error.to_string(),
        })?;
        Ok(source)
    }
}

fn app_source(name: &str, buffers_max: u64) -> gst_app::AppSrc {
    gst_app::AppSrc::builder()
        .name(name)
        .is_live(true)
        .format(gst::Format::Time)
        .max_buffers(buffers_max)
        .max_bytes(0)
        .block(false)
        .build()
}

/// Like [`add`], where the last element is in the pipeline already.
fn add_in_front(pipeline: &gst::Pipeline, chain: &[gst::Element]) -> Result<(), StreamFault> {
    let Some((last, fresh)) = chain.split_last() else { return Ok(()) };
    add(pipeline, fresh)?;
    let front = fresh.last().unwrap_or(last);
    front
        .link(last)
        .map_err(|error| StreamFault::Pipeline { element: front.name().to_string(), detail: error.to_string() })
}

fn watch(pipeline: &gst::Pipeline, notify: &Notify) {
    let Some(bus) = pipeline.bus() else { return };
    let told = Arc::clone(notify);
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Eos(_) => told(SendEvent::End),
            gst::MessageView::Latency(_) => told(SendEvent::Latency),
            gst::MessageView::Error(error) => {
                let element = message.src().map(|source| source.name().to_string()).unwrap_or_default();
                told(SendEvent::Failed { element, detail: error.error().to_string() });
                return gst::BusSyncReply::Pass; // for `first_error`
            }
            gst::MessageView::Warning(warning) => tracing::warn!(error = %warning.error(), "sending pipeline"),
            gst::MessageView::Element(element) => {
                let event = element.structure().filter(|structure| structure.name() == gst_bond::EVENT_MESSAGE);
                if let Some(text) = event.and_then(|event| event.get::<String>("text").ok()) {
                    told(SendEvent::Bond { text });
                }
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

fn watch_first_buffer(sink: &gst::Element, notify: &Notify) {
    let Some(pad) = sink.static_pad("sink") else { return };
    let told = Arc::clone(notify);
    let seen = AtomicBool::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
        if !seen.swap(true, Ordering::AcqRel) {
            told(SendEvent::Flowing);
        }
        gst::PadProbeReturn::Remove
    });
}

/// The error that made a state change fail.
fn first_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}
