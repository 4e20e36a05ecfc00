//! Which picture of the source a received picture is, and how alike they are.

use super::decode::GrayFrame;

/// A place in the source: index of the picture.
pub type SourcePicture = usize;

/// The best match of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Index in the source.
    pub picture: SourcePicture,
    /// Likeness, dB; the encoder's own loss leaves 30 and more.
    pub psnr_db: f64,
}

/// Peak signal-to-noise ratio of two pictures of one size in dB; 99 for equal ones.
pub fn psnr_db(a: &GrayFrame, b: &GrayFrame) -> f64 {
    let square_error: u64 = a.0.iter().zip(&b.0).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    if square_error == 0 {
        return 99.0;
    }
    let mean = square_error as f64 / a.0.len() as f64;
    (10.0 * (255.0 * 255.0 / mean).log10()).min(99.0)
}

/// How much `frame` resembles each picture of `source`, dB.
pub fn likeness(frame: &GrayFrame, source: &[GrayFrame]) -> Vec<f64> {
    source.iter().map(|s| psnr_db(frame, s)).collect()
}

/// The picture of `source` that `frame` resembles most; `None` for an empty source.
pub fn best_match(frame: &GrayFrame, source: &[GrayFrame]) -> Option<Match> {
    let matches = likeness(frame, source).into_iter().enumerate().map(|(picture, psnr_db)| Match { picture, psnr_db });
    matches.max_by(|a, b| a.psnr_db.total_cmp(&b.psnr_db))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seed: u8) -> GrayFrame {
        GrayFrame((0..3600_u32).map(|i| (i.wrapping_mul(u32::from(seed) * 2 + 1) >> 3) as u8).collect())
    }

    #[test]
    fn a_noisy_picture_is_found_among_others() {
        let source: Vec<_> = (0..20).map(frame).collect();
        let mut noisy = source[7].clone();
        for (i, luma) in noisy.0.iter_mut().enumerate() {
            *luma = luma.saturating_add((i % 3) as u8);
        }
        let best = best_match(&noisy, &source).unwrap();
        assert_eq!(best.picture, 7);
        assert!((40.0..60.0).contains(&best.psnr_db), "{best:?}");
        assert!(psnr_db(&source[3], &source[7]) < 15.0);
        assert!((psnr_db(&source[3], &source[3]) - 99.0).abs() < 1e-9);
        assert_eq!(best_match(&noisy, &[]), None);
    }
}
