//! NAL units in a byte stream (ITU-T H.264 annex B), and their kinds in H.264 and H.265.

/// Iterates over the NAL units between start codes, without start codes and trailing zeros.
pub fn units(bytes: &[u8]) -> Units<'_> {
    Units { rest: after_start_code(bytes, 0).map_or(&[], |start| &bytes[start..]) }
}

/// See [`units`].
#[derive(Debug, Clone)]
pub struct Units<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let next = after_start_code(self.rest, 0);
            let unit = &self.rest[..next.map_or(self.rest.len(), |start| start - 3)];
            self.rest = next.map_or(&[], |start| &self.rest[start..]);
            let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if end > 0 {
                return Some(&unit[..end]);
            }
        }
        None
    }
}

/// Index just behind the next 00 00 01 at or after `from`.
fn after_start_code(bytes: &[u8], from: usize) -> Option<usize> {
    // The third byte decides how far to go on: most are above 1, so most of the stream is looked at once in three bytes.
    let mut at = from + 2;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 2] == 0 && bytes[at - 1] == 0 => return Some(at + 1),
            _ => at += 3,
        }
    }
    None
}

/// Video coding of an elementary stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

/// What matters about a NAL unit here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NalKind {
    /// Video parameter set (H.265).
    VideoParameters,
    /// Sequence parameter set.
    SequenceParameters,
    /// Picture parameter set.
    PictureParameters,
    /// A slice of a picture a decoder can start at.
    RandomAccessSlice,
    /// Another slice.
    Slice,
    /// Access unit delimiter.
    Delimiter,
    /// Everything else.
    Other,
}

impl VideoCodec {
    /// The kind of a NAL unit.
    pub fn kind(self, nal: &[u8]) -> NalKind {
        let Some(&first) = nal.first() else { return NalKind::Other };
        match self {
            Self::H264 => match first & 0x1f {
                1..=4 => NalKind::Slice,
                5 => NalKind::RandomAccessSlice,
                7 => NalKind::SequenceParameters,
                8 => NalKind::PictureParameters,
                9 => NalKind::Delimiter,
                _ => NalKind::Other,
            },
            Self::H265 => match first >> 1 & 0x3f {
                0..=9 => NalKind::Slice,
                16..=21 => NalKind::RandomAccessSlice,
                32 => NalKind::VideoParameters,
                33 => NalKind::SequenceParameters,
                34 => NalKind::PictureParameters,
                35 => NalKind::Delimiter,
                _ => NalKind::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_found_between_short_and_long_start_codes() {
        let bytes = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 0, 2, 0, 0, 0, 1, 0, 0, 1, 0x65];
        let found: Vec<&[u8]> = units(&bytes).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68, 0, 2], &[0x65]]);
        assert_eq!(VideoCodec::H264.kind(found[2]), NalKind::RandomAccessSlice);
        assert_eq!(units(&[0, 0, 2, 0, 0]).count(), 0);
    }

    proptest! {
        /// What is joined with start codes comes apart again, whatever the bytes between.
        #[test]
        fn joined_units_come_apart(parts in proptest::collection::vec(proptest::collection::vec(2..=255_u8, 1..30), 0..8)) {
            let joined: Vec<u8> = parts.iter().flat_map(|part| [&[0, 0, 0, 1][..], part].concat()).collect();
            prop_assert_eq!(units(&joined).map(<[u8]>::to_vec).collect::<Vec<_>>(), parts);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(0..3_u8, 0..60)) {
            for nal in units(&bytes) {
                VideoCodec::H264.kind(nal);
                VideoCodec::H265.kind(nal);
            }
        }
    }
}
