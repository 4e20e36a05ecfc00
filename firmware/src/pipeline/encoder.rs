//! Which encoder, how it is set, and proof that it works here.
//!
//! Candidates are tried in order of cost: the board's VPU, VA, V4L2 memory-to-memory, software. A candidate that is not
//! installed, does not negotiate or does not turn raw pictures into coded ones is passed over, and the reason is kept for the
//! operator. All are set for live use: constant bitrate, no reordering, a fixed key frame distance, at most half a second of
//! rate control buffer.

use super::fault::StreamFault;
use super::picture::{Picture, PictureBudget};
use gstreamer as gst;
use gstreamer::prelude::*;
use protocol::stream::{EncodingSpec, VideoCodec};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use units::Bitrate;

/// How an encoder is told its bitrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RateProperty {
    /// Property in kbit/s.
    Kbps(&'static str),
    /// Properties of Rockchip's MPP in bit/s: target, and a ceiling and floor around it.
    Mpp,
    /// V4L2 control inside the structure `extra-controls`.
    V4l2,
}

/// One encoder element.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    element: &'static str,
    codec: VideoCodec,
    /// Raw format it is given.
    format: &'static str,
    budget: PictureBudget,
    rate: RateProperty,
    /// Name of the key frame distance property, in frames.
    key_frames: &'static str,
    /// Further properties; one that this version does not have is left out.
    settings: &'static [(&'static str, &'static str)],
}

const MPP: &[(&str, &str)] = &[("rc-mode", "cbr"), ("header-mode", "each-idr")];
const VA: &[(&str, &str)] = &[("rate-control", "cbr"), ("b-frames", "0"), ("ref-frames", "1"), ("target-usage", "6")];
const VAAPI: &[(&str, &str)] = &[("rate-control", "cbr"), ("max-bframes", "0"), ("refs", "1"), ("quality-level", "6")];
const X264: &[(&str, &str)] = &[
    // "zerolatency": no lookahead, no B-frames, slices instead of frame threads. "superfast" is the slowest preset that
    // leaves most of two cores to the rest of the device at 720p.
    ("tune", "zerolatency"),
    ("speed-preset", "superfast"),
    ("bframes", "0"),
    ("vbv-buf-capacity", "500"),
    ("aud", "true"),
    // Key frames only where they are asked for: a cut must not cost a burst.
    ("option-string", "scenecut=0"),
];
const X265: &[(&str, &str)] = &[
    ("tune", "zerolatency"),
    ("speed-preset", "ultrafast"),
    ("option-string", "bframes=0:scenecut=0:repeat-headers=1:aud=1:log-level=none"),
];

const CANDIDATES: &[Candidate] = &[
    hardware("mpph264enc", VideoCodec::H264, RateProperty::Mpp, "gop", MPP),
    hardware("vah264enc", VideoCodec::H264, RateProperty::Kbps("bitrate"), "key-int-max", VA),
    hardware("vaapih264enc", VideoCodec::H264, RateProperty::Kbps("bitrate"), "keyframe-period", VAAPI),
    hardware("v4l2h264enc", VideoCodec::H264, RateProperty::V4l2, "", &[]),
    software("x264enc", VideoCodec::H264, X264),
    hardware("mpph265enc", VideoCodec::H265, RateProperty::Mpp, "gop", MPP),
    hardware("vah265enc", VideoCodec::H265, RateProperty::Kbps("bitrate"), "key-int-max", VA),
    hardware("vaapih265enc", VideoCodec::H265, RateProperty::Kbps("bitrate"), "keyframe-period", VAAPI),
    hardware("v4l2h265enc", VideoCodec::H265, RateProperty::V4l2, "", &[]),
    software("x265enc", VideoCodec::H265, X265),
];

const fn hardware(
    element: &'static str,
    codec: VideoCodec,
    rate: RateProperty,
    key_frames: &'static str,
    settings: &'static [(&'static str, &'static str)],
) -> Candidate {
    Candidate { element, codec, format: "NV12", budget: PictureBudget::HARDWARE, rate, key_frames, settings }
}

const fn software(
    element: &'static str,
    codec: VideoCodec,
    settings: &'static [(&'static str, &'static str)],
) -> Candidate {
    Candidate {
        element,
        codec,
        format: "I420",
        budget: PictureBudget::SOFTWARE,
        rate: RateProperty::Kbps("bitrate"),
        key_frames: "key-int-max",
        settings,
    }
}

/// How long a candidate may take to encode [`PROBE_FRAMES`].
const PROBE_TIME_MAX: Duration = Duration::from_secs(4);
/// Frames a candidate must encode to be believed.
const PROBE_FRAMES: i32 = 2;

/// A working encoder, set and ready to be put into a pipeline.
#[derive(Debug)]
pub struct Encoder {
    candidate: Candidate,
    element: gst::Element,
    picture: Picture,
}

/// The encoder found, and what was passed over.
#[derive(Debug)]
pub struct Choice {
    /// The encoder.
    pub encoder: Encoder,
    /// One sentence for each candidate that is installed and does not work; absent ones are not worth a word.
    pub passed_over: Vec<String>,
}

/// What the caller fixes about the picture.
#[derive(Debug, Clone, Copy)]
pub enum PictureWish {
    /// The source's picture, fitted to the encoder's budget.
    Fit(super::picture::SourcePicture),
    /// Exactly this, whatever it costs: the operator asked for it.
    Exact(Picture),
}

/// Finds the first encoder of the order's codec that really works.
///
/// # Errors
/// [`StreamFault::NoEncoder`] with each candidate's reason.
pub fn choose(encoding: &EncodingSpec, wish: PictureWish) -> Result<Choice, StreamFault> {
    let mut passed_over = Vec::new();
    let mut tried = String::new();
    for candidate in CANDIDATES.iter().filter(|candidate| candidate.codec == encoding.codec) {
        let picture = match wish {
            PictureWish::Fit(source) => Picture::fit(source, candidate.budget),
            PictureWish::Exact(picture) => picture,
        };
        match probe(candidate, encoding, picture) {
            Ok(()) => {
                let element = candidate.make(encoding, picture).map_err(|reason| no_encoder(encoding, reason))?;
                return Ok(Choice { encoder: Encoder { candidate: *candidate, element, picture }, passed_over });
            }
            Err(reason) => {
                let separator = if tried.is_empty() { "" } else { "; " };
                // Writing to a String cannot fail.
                let _ = write!(tried, "{separator}{}: {reason}", candidate.element);
                if gst::ElementFactory::find(candidate.element).is_some() {
                    passed_over.push(format!("encoder {} passed over: {reason}", candidate.element));
                }
            }
        }
    }
    Err(no_encoder(encoding, tried))
}

fn no_encoder(encoding: &EncodingSpec, tried: String) -> StreamFault {
    StreamFault::NoEncoder { codec: encoding.codec, tried }
}

impl Encoder {
    /// Name of the element: "mpph264enc", "x264enc".
    pub fn name(&self) -> &'static str {
        self.candidate.element
    }

    /// The element to put into a pipeline.
    pub fn element(&self) -> &gst::Element {
        &self.element
    }

    /// What it is given.
    pub fn picture(&self) -> Picture {
        self.picture
    }

    /// Caps of the raw pictures it is given.
    pub fn raw_caps(&self) -> gst::Caps {
        self.candidate.raw_caps(self.picture)
    }

    /// Name of the parser that follows it.
    pub fn parser(&self) -> &'static str {
        match self.candidate.codec {
            VideoCodec::H264 => "h264parse",
            VideoCodec::H265 => "h265parse",
        }
    }

    /// Asks the running encoder for another bitrate.
    pub fn set_bitrate(&self, target: Bitrate) {
        self.candidate.set_bitrate(&self.element, target, self.candidate.key_frame_frames(&self.element));
    }
}

impl Candidate {
    fn make(&self, encoding: &EncodingSpec, picture: Picture) -> Result<gst::Element, String> {
        let element =
            gst::ElementFactory::make(self.element).name("encoder").build().map_err(|_| "not installed".to_owned())?;
        for (name, value) in self.settings {
            set(&element, name, value);
        }
        let frames = picture.frames_in(encoding.key_frame_interval_ms);
        if !self.key_frames.is_empty() {
            set(&element, self.key_frames, &frames.to_string());
        }
        self.set_bitrate(&element, encoding.bitrate_min, frames);
        Ok(element)
    }

    fn set_bitrate(&self, element: &gst::Element, target: Bitrate, key_frame_frames: u32) {
        match self.rate {
            RateProperty::Kbps(name) => set(element, name, &target.as_kbps().max(1).to_string()),
            RateProperty::Mpp => {
                set(element, "bps", &target.as_bps().to_string());
                set(element, "bps-max", &target.scaled(1.1).as_bps().to_string());
                set(element, "bps-min", &target.scaled(0.5).as_bps().to_string());
            }
            RateProperty::V4l2 => {
                let controls = format!(
                    "controls,video_bitrate_mode=1,video_bitrate={},video_gop_size={key_frame_frames},repeat_sequence_header=1",
                    target.as_bps()
                );
                set(element, "extra-controls", &controls);
            }
        }
    }

    /// The key frame distance set, for encoders whose controls are set together.
    fn key_frame_frames(&self, element: &gst::Element) -> u32 {
        if self.rate != RateProperty::V4l2 {
            return 0;
        }
        let controls = element.property::<Option<gst::Structure>>("extra-controls");
        let frames = controls.and_then(|controls| controls.get::<i32>("video_gop_size").ok());
        frames.and_then(|frames| u32::try_from(frames).ok()).unwrap_or(50)
    }

    fn raw_caps(&self, picture: Picture) -> gst::Caps {
        let (n, d) = picture.frame_rate;
        gst::Caps::builder("video/x-raw")
            .field("format", self.format)
            .field("width", picture.width as i32)
            .field("height", picture.height as i32)
            .field("framerate", gst::Fraction::new(n as i32, d as i32))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build()
    }
}

/// Sets a property if this version of the element has it and takes the value.
fn set(element: &gst::Element, name: &str, value: &str) {
    let Some(property) = element.find_property(name) else {
        tracing::debug!(element = %element.name(), property = name, "encoder has no such property");
        return;
    };
    if let Some(value) = glib_value(&property, value) {
        element.set_property_from_value(name, &value);
    } else {
        tracing::warn!(element = %element.name(), property = name, value, "encoder refuses the value");
    }
}

fn glib_value(property: &gst::glib::ParamSpec, text: &str) -> Option<gst::glib::Value> {
    gst::glib::Value::deserialize_with_pspec(text, property).ok()
}

/// Lets the candidate encode a few pictures of the real size.
fn probe(candidate: &Candidate, encoding: &EncodingSpec, picture: Picture) -> Result<(), String> {
    let encoder = candidate.make(encoding, picture)?;
    let make = |name: &str| gst::ElementFactory::make(name).build().map_err(|_| format!("{name} is not installed"));
    let source = make("videotestsrc")?;
    source.set_property("num-buffers", PROBE_FRAMES);
    let filter = make("capsfilter")?;
    filter.set_property("caps", candidate.raw_caps(picture));
    let sink = make("fakesink")?;
    sink.set_property("sync", false);
    let pipeline = gst::Pipeline::new();
    let elements = [&source, &filter, &encoder, &sink];
    pipeline.add_many(elements).map_err(|error| error.to_string())?;
    gst::Element::link_many(elements).map_err(|_| "it does not take raw pictures of this size".to_owned())?;
    let outcome = run_probe(&pipeline, &sink);
    // A driver that hangs here hangs everywhere; the agent's supervision covers it.
    let _ = pipeline.set_state(gst::State::Null);
    outcome
}

fn run_probe(pipeline: &gst::Pipeline, sink: &gst::Element) -> Result<(), String> {
    pipeline.set_state(gst::State::Playing).map_err(|_| "it does not start".to_owned())?;
    let bus = pipeline.bus().ok_or("a pipeline without bus")?;
    let until = Instant::now() + PROBE_TIME_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = gst::ClockTime::from_nseconds(left.as_nanos() as u64);
        let message = bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error]);
        match message.as_ref().map(|message| message.view()) {
            None => return Err(format!("no coded picture within {} s", PROBE_TIME_MAX.as_secs())),
            Some(gst::MessageView::Error(error)) => return Err(error.error().to_string()),
            Some(gst::MessageView::Eos(_)) => {
                let rendered = sink.property::<gst::Structure>("stats").get::<u64>("rendered").unwrap_or(0);
                return if rendered > 0 { Ok(()) } else { Err("it produced nothing".to_owned()) };
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::picture::SourcePicture;

    fn spec(codec: VideoCodec) -> EncodingSpec {
        EncodingSpec { codec, ..EncodingSpec::default() }
    }

    const SOURCE: SourcePicture = SourcePicture { width: 640, height: 360, pixel_aspect: (1, 1), frame_rate: (25, 1) };

    #[test]
    fn a_software_encoder_is_found_for_each_codec() {
        gst::init().unwrap();
        for codec in [VideoCodec::H264, VideoCodec::H265] {
            let choice = choose(&spec(codec), PictureWish::Fit(SOURCE)).unwrap();
            let factory = choice.encoder.element().factory().unwrap();
            assert_eq!(factory.name(), choice.encoder.name());
            assert_eq!((choice.encoder.picture().width, choice.encoder.picture().height), (640, 360));
        }
    }

    #[test]
    fn x264_is_set_as_ordered() {
        gst::init().unwrap();
        let candidate = CANDIDATES.iter().find(|candidate| candidate.element == "x264enc").unwrap();
        let picture = Picture::fit(SOURCE, candidate.budget);
        let element = candidate.make(&spec(VideoCodec::H264), picture).unwrap();
        assert_eq!(element.property::<u32>("key-int-max"), 50);
        assert_eq!(element.property::<u32>("bitrate"), 300);
        assert_eq!(element.property::<u32>("vbv-buf-capacity"), 500);
        assert_eq!(element.property::<u32>("bframes"), 0);
        candidate.set_bitrate(&element, Bitrate::from_kbps(2345), 0);
        assert_eq!(element.property::<u32>("bitrate"), 2345);
    }

    #[test]
    fn a_candidate_that_cannot_encode_is_named_with_its_reason() {
        gst::init().unwrap();
        // An element that exists and is no encoder: it links and then does not negotiate or posts an error.
        let broken = Candidate { element: "jpegdec", ..*CANDIDATES.last().unwrap() };
        let picture = Picture::fit(SOURCE, PictureBudget::SOFTWARE);
        let reason = probe(&broken, &spec(VideoCodec::H264), picture).unwrap_err();
        assert!(!reason.is_empty());
        let absent = Candidate { element: "no-such-encoder", ..broken };
        assert_eq!(probe(&absent, &spec(VideoCodec::H264), picture).unwrap_err(), "not installed");
    }
}
