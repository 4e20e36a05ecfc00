//! What a video stream's parameter sets say (ITU-T H.264 section 7.3.2.1, H.265 section 7.3.2.2), and the decoder
//! configuration record made of them (ISO/IEC 14496-15 section 5.3.3.1).

use super::bits::{BitReader, unescape};
use super::nal::{NalKind, VideoCodec, units};
use bytes::Bytes;
use std::fmt;

/// Parameter sets of one kind kept of an access unit; further ones are ignored.
const PARAMETER_SETS_MAX: usize = 8;
/// Longest parameter set kept, in bytes; encoders make them of 10 to 200.
const PARAMETER_SET_BYTES_MAX: usize = 4096;
/// Largest width or height believed, in pixels (level 6.2).
const PIXELS_MAX: u32 = 16_888;

/// Coding parameters of a video stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// Which coding.
    pub codec: VideoCodec,
    /// Video parameter sets (H.265), sequence parameter sets, picture parameter sets: NAL units without start code.
    pub vps: Vec<Bytes>,
    /// See `vps`.
    pub sps: Vec<Bytes>,
    /// See `vps`.
    pub pps: Vec<Bytes>,
    /// What the first sequence parameter set says, if it could be read.
    pub sequence: Option<Sequence>,
}

/// What a sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// `profile_idc`.
    pub profile: u8,
    /// `level_idc`: ten times the level in H.264, thirty times in H.265.
    pub level: u8,
    /// Pixels, cropped.
    pub width: u32,
    /// Pixels, cropped.
    pub height: u32,
}

/// What one access unit holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VideoUnit {
    /// There is a slice.
    pub has_slice: bool,
    /// A decoder can start here.
    pub random_access: bool,
    vps: Vec<Bytes>,
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
}

/// Looks through an access unit.
pub fn inspect(codec: VideoCodec, payload: &[u8]) -> VideoUnit {
    let mut unit = VideoUnit::default();
    for nal in units(payload) {
        match codec.kind(nal) {
            NalKind::VideoParameters => keep(&mut unit.vps, nal),
            NalKind::SequenceParameters => keep(&mut unit.sps, nal),
            NalKind::PictureParameters => keep(&mut unit.pps, nal),
            NalKind::RandomAccessSlice => (unit.has_slice, unit.random_access) = (true, true),
            NalKind::Slice => unit.has_slice = true,
            NalKind::Delimiter | NalKind::Other => {}
        }
        // Parameter sets come before the slices, and the slices are the long part.
        if unit.has_slice {
            break;
        }
    }
    unit
}

fn keep(sets: &mut Vec<Bytes>, nal: &[u8]) {
    if sets.len() < PARAMETER_SETS_MAX && nal.len() <= PARAMETER_SET_BYTES_MAX {
        // Copied: a slice of the payload would keep the whole access unit in memory.
        sets.push(Bytes::copy_from_slice(nal));
    }
}

impl VideoUnit {
    /// Whether there are sequence parameter sets: encoders put them before random access points only.
    pub fn has_parameters(&self) -> bool {
        !self.sps.is_empty()
    }

    /// The configuration after this unit: a new one where its parameter sets differ from `current`.
    pub fn config(&self, codec: VideoCodec, current: Option<&VideoConfig>) -> Option<VideoConfig> {
        if self.sps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let unchanged = current.is_some_and(|config| {
            config.codec == codec && (&config.vps, &config.sps, &config.pps) == (&self.vps, &self.sps, &self.pps)
        });
        (!unchanged).then(|| VideoConfig {
            codec,
            sequence: self.sps.first().and_then(|sps| parse_sequence(codec, sps)),
            vps: self.vps.clone(),
            sps: self.sps.clone(),
            pps: self.pps.clone(),
        })
    }
}

impl VideoConfig {
    /// `AVCDecoderConfigurationRecord`; `None` for H.265 and without usable parameter sets.
    pub fn avc_record(&self) -> Option<Vec<u8>> {
        let first = self.sps.first().filter(|sps| sps.len() >= 4 && self.codec == VideoCodec::H264)?;
        // Version 1; profile, compatibility and level as in the set; lengths of 4 bytes.
        let mut record = vec![1, first[1], first[2], first[3], 0xff];
        record.push(0xe0 | self.sps.len() as u8);
        push_sets(&mut record, &self.sps);
        record.push(self.pps.len() as u8);
        push_sets(&mut record, &self.pps);
        Some(record)
    }
}

fn push_sets(record: &mut Vec<u8>, sets: &[Bytes]) {
    for set in sets {
        record.extend_from_slice(&(set.len() as u16).to_be_bytes());
        record.extend_from_slice(set);
    }
}

/// "H.264 High 4.0".
impl fmt::Display for VideoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, level_unit) = match self.codec {
            VideoCodec::H264 => ("H.264", 10),
            VideoCodec::H265 => ("H.265", 30),
        };
        let Some(sequence) = self.sequence else { return f.write_str(name) };
        let level = u32::from(sequence.level) * 10 / level_unit;
        write!(f, "{name} {} {}.{}", profile_name(self.codec, sequence.profile), level / 10, level % 10)
    }
}

fn profile_name(codec: VideoCodec, profile: u8) -> String {
    let name = match (codec, profile) {
        (VideoCodec::H264, 66) => "Baseline",
        (VideoCodec::H264, 77) | (VideoCodec::H265, 1) => "Main",
        (VideoCodec::H264, 88) => "Extended",
        (VideoCodec::H264, 100) => "High",
        (VideoCodec::H264, 110) => "High 10",
        (VideoCodec::H264, 122) => "High 4:2:2",
        (VideoCodec::H264, 244) => "High 4:4:4",
        (VideoCodec::H265, 2) => "Main 10",
        (VideoCodec::H265, 3) => "Main Still",
        (VideoCodec::H265, 4) => "RExt",
        _ => return format!("profile {profile}"),
    };
    name.to_owned()
}

fn parse_sequence(codec: VideoCodec, sps: &[u8]) -> Option<Sequence> {
    let sequence = match codec {
        VideoCodec::H264 => parse_h264(&unescape(sps.get(1..)?)),
        VideoCodec::H265 => parse_h265(&unescape(sps.get(2..)?)),
    }?;
    let believable = 1..=PIXELS_MAX;
    (believable.contains(&sequence.width) && believable.contains(&sequence.height)).then_some(sequence)
}

fn parse_h264(rbsp: &[u8]) -> Option<Sequence> {
    let mut reader = BitReader::new(rbsp);
    let profile = reader.bits(8)? as u8;
    reader.skip(8)?;
    let level = reader.bits(8)? as u8;
    reader.unsigned_golomb()?; // id
    let mut chroma_format = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 134 | 135 | 138 | 139) {
        chroma_format = reader.unsigned_golomb()?;
        if chroma_format == 3 && reader.flag()? {
            chroma_format = 0; // planes coded apart crop like monochrome
        }
        reader.unsigned_golomb()?; // luma depth
        reader.unsigned_golomb()?; // chroma depth
        reader.skip(1)?;
        if reader.flag()? {
            skip_h264_scaling_lists(&mut reader, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    reader.unsigned_golomb()?; // log2_max_frame_num
    match reader.unsigned_golomb()? {
        0 => {
            reader.unsigned_golomb()?;
        }
        1 => {
            reader.skip(1)?;
            reader.signed_golomb()?;
            reader.signed_golomb()?;
            for _ in 0..reader.unsigned_golomb()?.min(256) {
                reader.signed_golomb()?;
            }
        }
        _ => {}
    }
    reader.unsigned_golomb()?; // reference frames
    reader.skip(1)?;
    let width_units = reader.unsigned_golomb()?.checked_add(1)?;
    let height_units = reader.unsigned_golomb()?.checked_add(1)?;
    let frames_only = reader.flag()?;
    if !frames_only {
        reader.skip(1)?;
    }
    reader.skip(1)?; // direct_8x8_inference
    let field_factor = if frames_only { 1 } else { 2 };
    let (crop_x, crop_y) = match chroma_format {
        1 => (2, 2 * field_factor),
        2 => (2, field_factor),
        _ => (1, field_factor),
    };
    let crop = Crop::read(&mut reader)?;
    Some(Sequence {
        profile,
        level,
        width: width_units.checked_mul(16)?.checked_sub(crop.horizontal.checked_mul(crop_x)?)?,
        height: height_units.checked_mul(16 * field_factor)?.checked_sub(crop.vertical.checked_mul(crop_y)?)?,
    })
}

fn skip_h264_scaling_lists(reader: &mut BitReader<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !reader.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i64, 8_i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + reader.signed_golomb()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Some(())
}

fn parse_h265(rbsp: &[u8]) -> Option<Sequence> {
    let mut reader = BitReader::new(rbsp);
    reader.skip(4)?;
    let sub_layers = reader.bits(3)?; // minus 1
    reader.skip(1)?;
    reader.skip(3)?; // profile space, tier
    let profile = reader.bits(5)? as u8;
    reader.skip(32 + 48)?;
    let level = reader.bits(8)? as u8;
    let present: Vec<(bool, bool)> =
        (0..sub_layers).map(|_| Some((reader.flag()?, reader.flag()?))).collect::<Option<_>>()?;
    if sub_layers > 0 {
        reader.skip(2 * (8 - sub_layers as usize))?;
    }
    for (has_profile, has_level) in present {
        reader.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })?;
    }
    reader.unsigned_golomb()?; // id
    let chroma_format = reader.unsigned_golomb()?;
    if chroma_format == 3 {
        reader.skip(1)?;
    }
    let (width, height) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
    let crop = Crop::read(&mut reader)?;
    let (crop_x, crop_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    Some(Sequence {
        profile,
        level,
        width: width.checked_sub(crop.horizontal.checked_mul(crop_x)?)?,
        height: height.checked_sub(crop.vertical.checked_mul(crop_y)?)?,
    })
}

/// Cropping on both sides together, in cropping units.
struct Crop {
    horizontal: u32,
    vertical: u32,
}

impl Crop {
    fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        if !reader.flag()? {
            return Some(Self { horizontal: 0, vertical: 0 });
        }
        let horizontal = reader.unsigned_golomb()?.checked_add(reader.unsigned_golomb()?)?;
        let vertical = reader.unsigned_golomb()?.checked_add(reader.unsigned_golomb()?)?;
        Some(Self { horizontal, vertical })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, High, level 4.0, 1920x1080 (68 rows of macroblocks, 8 lines cropped).
    const SPS_1080: &str = "67640028acd940780227e5c044000003000400000300c83c60c658";
    /// x265, Main, level 3.1, 1280x720.
    const SPS_H265_720: &str = "42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003210";

    #[test]
    fn size_profile_and_level_are_read_from_h264() {
        let sps = hex::decode(SPS_1080).unwrap();
        let sequence = parse_sequence(VideoCodec::H264, &sps).unwrap();
        assert_eq!((sequence.width, sequence.height), (1920, 1080));
        let config = VideoConfig {
            codec: VideoCodec::H264,
            vps: vec![],
            sps: vec![sps.clone().into()],
            pps: vec![vec![0x68, 0xeb].into()],
            sequence: Some(sequence),
        };
        assert_eq!(config.to_string(), "H.264 High 4.0");
        let record = config.avc_record().unwrap();
        assert_eq!(record[..8], [1, 0x64, 0, 0x28, 0xff, 0xe1, 0, sps.len() as u8]);
        assert_eq!(record[8 + sps.len()..], [1, 0, 2, 0x68, 0xeb]);
    }

    #[test]
    fn size_profile_and_level_are_read_from_h265() {
        let sps = hex::decode(SPS_H265_720).unwrap();
        let sequence = parse_sequence(VideoCodec::H265, &sps).unwrap();
        assert_eq!(sequence, Sequence { profile: 1, level: 93, width: 1280, height: 720 });
    }

    #[test]
    fn a_unit_with_other_parameter_sets_gives_a_new_configuration() {
        let unit = |pps: u8| {
            inspect(
                VideoCodec::H264,
                &[0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 66, 0, 30, 0, 0, 1, 0x68, pps, 0, 0, 1, 0x65, 1],
            )
        };
        assert!(unit(1).random_access && unit(1).has_slice);
        let config = unit(1).config(VideoCodec::H264, None).unwrap();
        assert_eq!(config.pps, [Bytes::from_static(&[0x68, 1])]);
        assert_eq!(unit(1).config(VideoCodec::H264, Some(&config)), None);
        assert!(unit(2).config(VideoCodec::H264, Some(&config)).is_some());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse_sequence(VideoCodec::H264, &bytes);
            parse_sequence(VideoCodec::H265, &bytes);
            inspect(VideoCodec::H264, &bytes);
        }
    }
}
