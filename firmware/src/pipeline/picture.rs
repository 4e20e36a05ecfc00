//! Size and frame rate of what is encoded, from what the source gives. Pure.

/// A raw picture as a source gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePicture {
    /// Stored width in pixels.
    pub width: u32,
    /// Stored height in pixels.
    pub height: u32,
    /// Pixel aspect ratio, width to height.
    pub pixel_aspect: (u32, u32),
    /// Frames per second as a fraction; a zero numerator means variable or unknown.
    pub frame_rate: (u32, u32),
}

/// The largest picture an encoder is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureBudget {
    /// Width in pixels.
    pub width_max: u32,
    /// Height in pixels.
    pub height_max: u32,
    /// Frames per second.
    pub frames_per_second_max: u32,
}

impl PictureBudget {
    /// What a hardware encoder of the product's boards carries with room to spare.
    pub const HARDWARE: Self = Self { width_max: 1920, height_max: 1080, frames_per_second_max: 60 };
    /// What two cores encode in software beside everything else: x264 "superfast" needs about 0.3 of a core for it.
    pub const SOFTWARE: Self = Self { width_max: 1280, height_max: 720, frames_per_second_max: 30 };
}

/// What is encoded: square pixels, even sides, constant frame rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second as a fraction.
    pub frame_rate: (u32, u32),
}

/// Frame rate when the source names none.
const FRAME_RATE_UNKNOWN: (u32, u32) = (30, 1);
/// The smallest side any of the encoders takes.
const SIDE_MIN: u32 = 96;

impl Picture {
    /// The largest picture within `budget` that keeps the source's shape; never larger than the source.
    pub fn fit(source: SourcePicture, budget: PictureBudget) -> Self {
        let (par_n, par_d) = source.pixel_aspect;
        let stretch = if par_n == 0 || par_d == 0 { 1.0 } else { f64::from(par_n) / f64::from(par_d) };
        let (width, height) = (f64::from(source.width) * stretch, f64::from(source.height));
        let scale = (f64::from(budget.width_max) / width).min(f64::from(budget.height_max) / height).min(1.0);
        Self {
            width: even(width * scale),
            height: even(height * scale),
            frame_rate: reduce(source.frame_rate, budget.frames_per_second_max),
        }
    }

    /// Frames in `millis` milliseconds, at least one.
    pub fn frames_in(self, millis: u32) -> u32 {
        let (n, d) = (u64::from(self.frame_rate.0), u64::from(self.frame_rate.1));
        u32::try_from((n * u64::from(millis) / (d * 1000)).max(1)).unwrap_or(u32::MAX)
    }
}

fn even(side: f64) -> u32 {
    ((side / 2.0).round() as u32 * 2).max(SIDE_MIN)
}

/// Every n-th frame of the source, with the smallest n that stays within `max`: no frame is shown for an uneven time.
fn reduce((n, d): (u32, u32), max: u32) -> (u32, u32) {
    if n == 0 || d == 0 {
        return FRAME_RATE_UNKNOWN;
    }
    let divisor = n.div_ceil(max.saturating_mul(d).max(1)).max(1);
    // 60000/1001 is "60" to every user and is halved, not divided by three.
    (n, d.saturating_mul(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, pixel_aspect: (u32, u32), frame_rate: (u32, u32)) -> Picture {
        Picture::fit(SourcePicture { width, height, pixel_aspect, frame_rate }, PictureBudget::SOFTWARE)
    }

    #[test]
    fn size_keeps_the_shape_within_the_budget() {
        assert_eq!(picture(1920, 1080, (1, 1), (25, 1)), Picture { width: 1280, height: 720, frame_rate: (25, 1) });
        assert_eq!(picture(640, 360, (1, 1), (25, 1)), Picture { width: 640, height: 360, frame_rate: (25, 1) });
        let upright = picture(1080, 1920, (1, 1), (25, 1));
        assert_eq!((upright.width, upright.height), (406, 720));
        let anamorphic = picture(720, 576, (16, 15), (25, 1));
        assert_eq!((anamorphic.width, anamorphic.height), (768, 576));
        assert_eq!(picture(641, 361, (0, 1), (25, 1)).width, 642);
    }

    #[test]
    fn frame_rates_are_divided_evenly() {
        assert_eq!(picture(640, 360, (1, 1), (50, 1)).frame_rate, (50, 2));
        assert_eq!(picture(640, 360, (1, 1), (60000, 1001)).frame_rate, (60000, 2002));
        assert_eq!(picture(640, 360, (1, 1), (30000, 1001)).frame_rate, (30000, 1001));
        assert_eq!(picture(640, 360, (1, 1), (120, 1)).frame_rate, (120, 4));
        assert_eq!(picture(640, 360, (1, 1), (0, 1)).frame_rate, FRAME_RATE_UNKNOWN);
    }

    #[test]
    fn a_key_frame_distance_becomes_frames() {
        assert_eq!(picture(640, 360, (1, 1), (25, 1)).frames_in(2000), 50);
        assert_eq!(picture(640, 360, (1, 1), (30000, 1001)).frames_in(2000), 59);
        assert_eq!(picture(640, 360, (1, 1), (5, 1)).frames_in(1), 1);
    }
}
