//! The verdict on one output: what was decoded out of it, held against the source.

use super::decode::{Decoded, GrayFrame, Sound, decode, sound};
use super::{Match, best_match, whole};
use anyhow::{Context as _, Result, ensure};
use std::fmt;
use std::path::Path;

/// Every n-th picture is looked up in the source.
const LOOKED_UP_EVERY: usize = 2;
/// Likeness that the encoder's loss alone never falls below at the tests' bitrates, dB; another picture of the clip is below.
const PSNR_DB_MIN: f64 = 25.0;
/// Likeness that half of the pictures must reach, dB.
const PSNR_DB_MEDIAN_MIN: f64 = 30.0;
/// How far a look-up may be off, in pictures: neighbours of a still scene differ less than the encoder's loss.
const LOOK_UP_SLACK: i64 = 4;
/// The longest time without a new picture in an unbroken output, seconds: one picture of 25 a second may be missing.
const GAP_MAX: f64 = 0.1;
/// Loudness below which a second counts as silent, dB.
const LOUDNESS_DB_MIN: f64 = -65.0;

/// The looped source, decoded.
#[derive(Debug, Clone)]
pub struct Source {
    frames: Vec<GrayFrame>,
}

impl Source {
    /// Decodes the clip.
    ///
    /// # Errors
    /// It cannot be decoded.
    pub fn open(file: &Path) -> Result<Self> {
        Ok(Self { frames: decode(file)?.frames })
    }
}

/// What an output brought.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Pictures decoded.
    pub frames: usize,
    /// Longest time between two pictures, seconds.
    pub longest_gap: f64,
    /// Likeness to the best picture of the source: lowest and median, dB.
    pub psnr_db: (f64, f64),
    /// By how many pictures the sequence of matches runs ahead of (or behind) the sequence decoded.
    pub drift: i64,
    /// Length of sound, seconds, and its loudness, dB.
    pub sound: (f64, f64),
    /// What the decoder complained of.
    pub complaints: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames, longest gap {:.3} s, PSNR {:.1} dB at least and {:.1} dB in the middle, drift {} frames, \
             sound {:.1} s at {:.1} dB, {} complaints",
            self.frames,
            self.longest_gap,
            self.psnr_db.0,
            self.psnr_db.1,
            self.drift,
            self.sound.0,
            self.sound.1,
            self.complaints.len()
        )
    }
}

/// Decodes `file` and compares it with `source`. The picture and sound that the end of an MPEG-TS file cuts off are left out.
///
/// # Errors
/// It cannot be opened, or has no picture or no sound.
pub fn judge(file: &Path, source: &Source) -> Result<Verdict> {
    if file.extension().is_none_or(|extension| extension != "ts") {
        return judge_all(file, source);
    }
    let copy = file.with_extension("whole.ts");
    whole::copy(file, &copy)?;
    let verdict = judge_all(&copy, source);
    std::fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    verdict
}

fn judge_all(file: &Path, source: &Source) -> Result<Verdict> {
    let pictures = decode(file)?;
    let sound = sound(file)?;
    let matches: Vec<Match> =
        pictures.frames.iter().step_by(LOOKED_UP_EVERY).filter_map(|frame| best_match(frame, &source.frames)).collect();
    let mut psnr: Vec<f64> = matches.iter().map(|m| m.psnr_db).collect();
    psnr.sort_by(f64::total_cmp);
    let median = *psnr.get(psnr.len() / 2).context("the source is empty")?;
    Ok(Verdict {
        frames: pictures.frames.len(),
        longest_gap: pictures.longest_gap(),
        psnr_db: (psnr[0], median),
        drift: drift(&matches, source.frames.len()),
        sound: (sound.seconds, sound.mean_db()),
        complaints: complaints(&pictures, &sound),
    })
}

impl Verdict {
    /// Unbroken: nothing missing, nothing damaged, picture and sound those of the source.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn expect_unbroken(&self, seconds_min: f64) -> Result<()> {
        ensure!(self.complaints.is_empty(), "the decoder complains: {:?}; {self}", self.complaints);
        ensure!(self.longest_gap < GAP_MAX, "pictures are missing: {self}");
        ensure!(self.drift.abs() <= LOOK_UP_SLACK, "pictures are missing or doubled: {self}");
        self.expect_content(seconds_min)
    }

    /// Picture and sound are those of the source and long enough; interruptions are allowed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn expect_content(&self, seconds_min: f64) -> Result<()> {
        ensure!(self.frames as f64 >= seconds_min * 25.0, "fewer than {seconds_min} s of pictures: {self}");
        ensure!(self.sound.0 >= seconds_min - 0.5, "less than {seconds_min} s of sound: {self}");
        ensure!(self.psnr_db.0 >= PSNR_DB_MIN, "a picture is not of the source: {self}");
        ensure!(self.psnr_db.1 >= PSNR_DB_MEDIAN_MIN, "the pictures are bad: {self}");
        ensure!(self.sound.1 >= LOUDNESS_DB_MIN, "it is silent: {self}");
        Ok(())
    }
}

/// Matches step through the loop of the source as the pictures go; the sum of their steps tells what is missing or doubled.
fn drift(matches: &[Match], source_len: usize) -> i64 {
    let length = source_len as i64;
    let steps = matches.windows(2).map(|pair| {
        let step = pair[1].picture as i64 - pair[0].picture as i64 - LOOKED_UP_EVERY as i64;
        (step + length / 2).rem_euclid(length) - length / 2
    });
    steps.sum()
}

fn complaints(pictures: &Decoded, sound: &Sound) -> Vec<String> {
    pictures.complaints.iter().chain(&sound.complaints).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pictures: &[usize]) -> Vec<Match> {
        pictures.iter().map(|picture| Match { picture: *picture, psnr_db: 40.0 }).collect()
    }

    #[test]
    fn drift_counts_missing_and_doubled_pictures_across_the_loop() {
        assert_eq!(drift(&at(&[6, 8, 0, 2]), 10), 0);
        assert_eq!(drift(&at(&[0, 2, 5, 7]), 10), 1, "one is missing");
        assert_eq!(drift(&at(&[0, 2, 3, 5]), 10), -1, "one came twice");
        assert_eq!(drift(&at(&[0, 1, 4, 6]), 10), 0, "an unsure look-up evens out");
    }
}
