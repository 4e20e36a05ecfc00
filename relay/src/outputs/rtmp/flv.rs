//! Bodies of FLV audio and video tags (Adobe Flash Video File Format 10.1, annex E.4), which RTMP carries too.

use crate::media::aac::{AacConfig, AacFrame};
use crate::media::nal::{self, NalKind, VideoCodec};
use crate::media::pes::TICKS_PER_SECOND;
use crate::media::unit::Unit;
use crate::media::video::VideoConfig;

/// Key frame (1) or inter frame (2), AVC (7).
const AVC_KEY_FRAME: u8 = 0x17;
const AVC_INTER_FRAME: u8 = 0x27;
/// AAC (10), 44 kHz, 16 bit, stereo: fixed for AAC, the configuration says the truth.
const AAC: u8 = 0xaf;

/// Milliseconds of ticks.
pub fn milliseconds(ticks: i64) -> i64 {
    ticks.div_euclid(TICKS_PER_SECOND / 1000)
}

/// Decoder configuration of the video; `None` unless it is H.264.
pub fn video_header(config: &VideoConfig) -> Option<Vec<u8>> {
    let mut body = vec![AVC_KEY_FRAME, 0, 0, 0, 0];
    body.extend_from_slice(&config.avc_record()?);
    Some(body)
}

/// A picture: its NAL units with lengths instead of start codes, without what the configuration holds already. `None`
/// when nothing is left.
pub fn video_body(unit: &Unit) -> Option<Vec<u8>> {
    let composition = milliseconds(unit.pts) - milliseconds(unit.dts);
    let [_, high, middle, low] = (composition as i32).to_be_bytes();
    let mut body = Vec::with_capacity(unit.payload.len() + 32);
    body.extend_from_slice(&[if unit.random_access { AVC_KEY_FRAME } else { AVC_INTER_FRAME }, 1, high, middle, low]);
    for nal in nal::units(&unit.payload) {
        match VideoCodec::H264.kind(nal) {
            NalKind::Delimiter | NalKind::SequenceParameters | NalKind::PictureParameters => {}
            _ => {
                body.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                body.extend_from_slice(nal);
            }
        }
    }
    (body.len() > 5).then_some(body)
}

/// Decoder configuration of the audio.
pub fn audio_header(config: AacConfig) -> Vec<u8> {
    let [high, low] = config.specific_config();
    vec![AAC, 0, high, low]
}

/// One AAC frame.
pub fn audio_body(frame: &AacFrame<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(frame.raw.len() + 2);
    body.extend_from_slice(&[AAC, 1]);
    body.extend_from_slice(frame.raw);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{aac, samples};

    #[test]
    fn a_picture_has_lengths_composition_time_and_no_parameter_sets() {
        let unit = samples::picture(90_000, true, 3);
        let body = video_body(&unit).unwrap();
        assert_eq!(body, [0x17, 1, 0, 0, 40, 0, 0, 0, 4, 0x65, 1, 1, 3]);
        assert_eq!(video_body(&samples::picture(90_000, false, 1)).unwrap()[0], 0x27);
        let header = video_header(unit.program.video().unwrap()).unwrap();
        assert_eq!(header[..10], [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x28, 0xff]);
    }

    #[test]
    fn sound_has_its_configuration_and_frames_without_adts() {
        let unit = samples::sound(0, 2);
        let frames: Vec<_> = aac::frames(&unit.payload).collect();
        assert_eq!(audio_header(frames[0].config), [0xaf, 0, 0x11, 0x90]);
        assert_eq!(audio_body(&frames[1]), [0xaf, 1, 1, 2, 3, 4, 5, 6, 7]);
    }
}
