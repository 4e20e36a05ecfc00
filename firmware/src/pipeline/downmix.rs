//! Surround sound as two channels, as loud as people expect it.
//!
//! GStreamer's converter divides its own matrix by the sum of its coefficients, so that nothing can ever clip: 5.1 sound gets
//! about 8 dB too quiet. Here the matrix is that of ITU-R BS.775-3, annex 4, table 2 (2/0 from 3/2), undivided: the rare peak
//! that is too high is clipped, as in every television set. The low frequency channel is left out, as that standard allows.

use gstreamer as gst;
use gstreamer::prelude::*;

/// -3 dB: what the standard gives the centre and the surround channels.
const MINUS_3_DB: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// The standard's share of one surround channel for both sides.
const MINUS_6_DB: f32 = 0.5;
/// Channels that need no matrix: mono and stereo.
const CHANNELS_PLAIN: i32 = 2;

/// Left and right share of a channel, by its bit in GStreamer's channel mask.
const fn shares(bit: u32) -> (f32, f32) {
    match bit {
        // Front left and right, and those beside the centre.
        0 | 6 => (1.0, 0.0),
        1 | 7 => (0.0, 1.0),
        // Centre.
        2 => (MINUS_3_DB, MINUS_3_DB),
        // Rear and side.
        4 | 10 => (MINUS_3_DB, 0.0),
        5 | 11 => (0.0, MINUS_3_DB),
        // Rear centre.
        8 => (MINUS_6_DB, MINUS_6_DB),
        // Low frequency, height.
        _ => (0.0, 0.0),
    }
}

/// Rows: left, right. Columns: the channels of `mask` in the order of its bits, which is that of the samples.
fn matrix(mask: u64) -> [Vec<f32>; 2] {
    let channels = (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1);
    let (left, right) = channels.map(shares).unzip();
    [left, right]
}

/// Makes `convert` (an `audioconvert` that gives stereo) mix by the standard, whatever its source turns out to be.
pub fn mix_by_standard(convert: &gst::Element) {
    let Some(pad) = convert.static_pad("sink") else { return };
    let convert = convert.downgrade();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let (Some(gst::PadProbeData::Event(event)), Some(convert)) = (&info.data, convert.upgrade())
            && let gst::EventView::Caps(caps) = event.view()
        {
            convert.set_property("mix-matrix", mix_matrix(caps.caps()));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Empty for sound that the converter treats well by itself.
fn mix_matrix(caps: &gst::CapsRef) -> gst::Array {
    let structure = caps.structure(0);
    let channels = structure.and_then(|structure| structure.get::<i32>("channels").ok()).unwrap_or(0);
    let mask =
        structure.and_then(|structure| structure.get::<gst::Bitmask>("channel-mask").ok()).map_or(0, |mask| mask.0);
    if channels <= CHANNELS_PLAIN || mask.count_ones() != channels.unsigned_abs() {
        return gst::Array::default();
    }
    gst::Array::new(matrix(mask).map(gst::Array::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surround_is_mixed_by_the_standards_table() {
        // FL FR FC LFE RL RR
        let [left, right] = matrix(0x3F);
        assert_eq!(left, [1.0, 0.0, MINUS_3_DB, 0.0, MINUS_3_DB, 0.0]);
        assert_eq!(right, [0.0, 1.0, MINUS_3_DB, 0.0, 0.0, MINUS_3_DB]);
        // With side channels instead of rear ones, as many cameras have it.
        assert_eq!(matrix(0xC0F)[0], [1.0, 0.0, MINUS_3_DB, 0.0, MINUS_3_DB, 0.0]);
    }

    /// A tone in the front left channel of 5.1 comes out on the left as loud as it went in.
    #[test]
    fn the_converter_takes_the_matrix() {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(
            "audiotestsrc num-buffers=4 wave=square volume=0.25 freq=100 \
             ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! audioconvert mix-matrix=<<(float)1.0>,<(float)0.0>,<(float)0.0>,<(float)0.0>,<(float)0.0>,<(float)0.0>> \
             ! audio/x-raw,format=F32LE,channels=6,channel-mask=(bitmask)0x3f ! audioconvert name=convert \
             ! audio/x-raw,format=S16LE,channels=2,channel-mask=(bitmask)0x3 ! appsink name=sink sync=false",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        mix_by_standard(&pipeline.by_name("convert").unwrap());
        pipeline.set_state(gst::State::Playing).unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
        let sample = sink.pull_sample().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        let map = sample.buffer().unwrap().map_readable().unwrap();
        let peak = |offset: usize| {
            let samples = map.chunks_exact(4).map(|frame| i16::from_le_bytes([frame[offset], frame[offset + 1]]));
            samples.map(i32::from).map(i32::abs).max().unwrap()
        };
        assert!((8100..=8300).contains(&peak(0)), "left {}", peak(0));
        assert!(peak(2) < 10, "right {}", peak(2));
    }
}
