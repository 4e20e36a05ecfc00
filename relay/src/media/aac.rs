//! AAC in ADTS (ISO/IEC 13818-7 section 6.2): frames, and the configuration that containers without ADTS want.

use std::fmt;

/// Samples in an AAC frame, per channel.
pub const SAMPLES_PER_FRAME: u64 = 1024;
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Coding parameters of an AAC stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// Audio object type (ISO/IEC 14496-3 table 1.17): 2 is LC.
    pub object_type: u8,
    /// Index into the standard's table of rates.
    rate_index: u8,
    /// Channel configuration: the number of channels up to 6, 7 for 7.1, 0 when the frames tell.
    pub channels: u8,
}

impl AacConfig {
    /// Samples per second and channel.
    pub fn sample_rate(self) -> u32 {
        SAMPLE_RATES[usize::from(self.rate_index)]
    }

    /// `AudioSpecificConfig` (ISO/IEC 14496-3 section 1.6.2.1).
    pub fn specific_config(self) -> [u8; 2] {
        (u16::from(self.object_type) << 11 | u16::from(self.rate_index) << 7 | u16::from(self.channels) << 3)
            .to_be_bytes()
    }
}

/// "AAC-LC 48 kHz 2 ch".
impl fmt::Display for AacConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object_type {
            1 => f.write_str("AAC-Main")?,
            2 => f.write_str("AAC-LC")?,
            other => write!(f, "AAC type {other}")?,
        }
        write!(
            f,
            " {} kHz {} ch",
            f64::from(self.sample_rate()) / 1000.0,
            if self.channels == 7 { 8 } else { self.channels }
        )
    }
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacFrame<'a> {
    /// From its header.
    pub config: AacConfig,
    /// The raw frame without header.
    pub raw: &'a [u8],
}

/// Iterates over the whole frames in a PES payload; ends at the first byte that is none.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = AacFrame<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (frame, length) = parse_frame(rest)?;
        rest = &rest[length..];
        Some(frame)
    })
}

fn parse_frame(bytes: &[u8]) -> Option<(AacFrame<'_>, usize)> {
    let header = bytes.first_chunk::<7>()?;
    if header[0] != 0xff || header[1] & 0xf6 != 0xf0 {
        return None;
    }
    let header_bytes = if header[1] & 1 == 0 { 9 } else { 7 };
    let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
    let raw = bytes.get(header_bytes..length)?;
    let rate_index = header[2] >> 2 & 0x0f;
    if usize::from(rate_index) >= SAMPLE_RATES.len() {
        return None;
    }
    let config =
        AacConfig { object_type: (header[2] >> 6) + 1, rate_index, channels: (header[2] & 1) << 2 | header[3] >> 6 };
    Some((AacFrame { config, raw }, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adts(raw: &[u8]) -> Vec<u8> {
        let length = raw.len() + 7;
        // MPEG-4, no checksum, LC, 48 kHz, 2 channels.
        let mut bytes =
            vec![0xff, 0xf1, 0x4c, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8, 0];
        bytes.extend_from_slice(raw);
        bytes
    }

    #[test]
    fn frames_and_configuration_are_read() {
        let bytes = [adts(&[1, 2, 3]), adts(&[4]), vec![0xff, 0xf1, 0x4c]].concat();
        let found: Vec<_> = frames(&bytes).collect();
        assert_eq!(found.iter().map(|frame| frame.raw).collect::<Vec<_>>(), [&[1, 2, 3][..], &[4]]);
        assert_eq!(found[0].config.to_string(), "AAC-LC 48 kHz 2 ch");
        assert_eq!(found[0].config.specific_config(), [0x11, 0x90]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if bytes.len() > 2 {
                bytes[..2].copy_from_slice(&[0xff, 0xf1]);
            }
            prop_assert!(frames(&bytes).count() <= bytes.len() / 7);
        }
    }
}
