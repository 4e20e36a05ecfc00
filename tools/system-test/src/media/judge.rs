//! The verdict on one output: what was decoded out of it, held against the source.

use super::decode::{Decoded, GrayFrame, Sound, decode, sound};
use super::{likeness, whole};
use anyhow::{Context as _, Result, ensure};
use std::fmt;
use std::path::Path;

/// Every n-th picture is looked up in the source.
const LOOKED_UP_EVERY: usize = 2;
/// Likeness that the encoder's loss alone never falls below at the tests' bitrates, dB; another picture of the clip is below.
const PSNR_DB_MIN: f64 = 25.0;
/// Likeness that half of the pictures must reach, dB.
const PSNR_DB_MEDIAN_MIN: f64 = 30.0;
/// Pictures a second of every source.
const PICTURE_RATE: f64 = 25.0;
/// By how much the pictures after it must fit better in all for a step in the source to be believed, dB.
const STEP_DB_MIN: f64 = 40.0;
/// The longest time without a new picture in an unbroken output, seconds: one picture of 25 a second may be missing.
const GAP_MAX: f64 = 0.1;
/// Loudness below which a second counts as silent, dB.
const LOUDNESS_DB_MIN: f64 = -65.0;

/// The looped source, decoded.
#[derive(Debug, Clone)]
pub struct Source {
    frames: Vec<GrayFrame>,
    /// Pictures by which its sound is longer: so many are held at each end of the loop, lest picture and sound drift apart.
    held: usize,
}

impl Source {
    /// Decodes the clip.
    ///
    /// # Errors
    /// It cannot be decoded, or has no sound.
    pub fn open(file: &Path) -> Result<Self> {
        let frames = decode(file)?.frames;
        let longer = sound(file)?.seconds * PICTURE_RATE - frames.len() as f64;
        Ok(Self { frames, held: longer.max(0.0).ceil() as usize })
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
    /// How many pictures of the source are missing in all, less those that came twice.
    pub drift: i64,
    /// How many may come twice at most: those held where the source begins again.
    pub held_max: usize,
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
    let likeness: Vec<Vec<f64>> =
        pictures.frames.iter().step_by(LOOKED_UP_EVERY).map(|frame| likeness(frame, &source.frames)).collect();
    let mut psnr: Vec<f64> = likeness.iter().filter_map(|row| row.iter().copied().max_by(f64::total_cmp)).collect();
    psnr.sort_by(f64::total_cmp);
    let median = *psnr.get(psnr.len() / 2).context("the source is empty")?;
    Ok(Verdict {
        frames: pictures.frames.len(),
        longest_gap: pictures.longest_gap(),
        psnr_db: (psnr[0], median),
        drift: drift(&likeness),
        held_max: source.held * (pictures.frames.len() / source.frames.len().max(1) + 1),
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
        ensure!((-(self.held_max as i64)..=0).contains(&self.drift), "pictures are missing or doubled: {self}");
        self.expect_content(seconds_min)
    }

    /// Picture and sound are those of the source and long enough; interruptions are allowed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn expect_content(&self, seconds_min: f64) -> Result<()> {
        ensure!(self.frames as f64 >= seconds_min * PICTURE_RATE, "fewer than {seconds_min} s of pictures: {self}");
        ensure!(self.sound.0 >= seconds_min - 0.5, "less than {seconds_min} s of sound: {self}");
        ensure!(self.psnr_db.0 >= PSNR_DB_MIN, "a picture is not of the source: {self}");
        ensure!(self.psnr_db.1 >= PSNR_DB_MEDIAN_MIN, "the pictures are bad: {self}");
        ensure!(self.sound.1 >= LOUDNESS_DB_MIN, "it is silent: {self}");
        Ok(())
    }
}

/// How far the output steps ahead in the source's loop from its first picture to its last, beyond going on picture by picture.
///
/// `likeness` has a row for each picture looked up. Of all ways through the loop the one that fits best counts, where a step
/// costs [`STEP_DB_MIN`]: a single picture may look like many of a still scene.
fn drift(likeness: &[Vec<f64>]) -> i64 {
    let length = likeness.first().map_or(0, Vec::len);
    // For each picture at which the output may have begun, judged by the rows so far: the fit, and where it really began.
    let mut ways: Vec<(f64, usize)> = (0..length).map(|start| (0.0, start)).collect();
    let fittest = |ways: &[(f64, usize)]| {
        let indexed = ways.iter().copied().enumerate();
        indexed.max_by(|a, b| a.1.0.total_cmp(&b.1.0)).map_or((0, (0.0, 0)), |best| best)
    };
    for (i, row) in likeness.iter().enumerate() {
        let (_, (best, began)) = fittest(&ways);
        for (start, way) in ways.iter_mut().enumerate() {
            if i > 0 && best - STEP_DB_MIN > way.0 {
                *way = (best - STEP_DB_MIN, began);
            }
            way.0 += row[(start + i * LOOKED_UP_EVERY) % length];
        }
    }
    let (end, (_, began)) = fittest(&ways);
    let (length, ahead) = (length.max(1) as i64, end as i64 - began as i64);
    (ahead + length / 2).rem_euclid(length) - length / 2
}

fn complaints(pictures: &Decoded, sound: &Sound) -> Vec<String> {
    pictures.complaints.iter().chain(&sound.complaints).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of a loop of 40 that all differ but the ten of a still scene, looked up one after the other.
    fn rows(pictures: &[usize]) -> Vec<Vec<f64>> {
        let scene = |picture: usize| if picture < 10 { 0 } else { picture };
        let row = |seen: usize| (0..40).map(|p| if scene(p) == scene(seen) { 40.0 } else { 20.0 }).collect();
        pictures.iter().step_by(LOOKED_UP_EVERY).map(|picture| row(*picture)).collect()
    }

    #[test]
    fn drift_counts_missing_and_doubled_pictures_across_the_loop() {
        let all: Vec<usize> = (5..105).map(|picture| picture % 40).collect();
        let without = |at: usize, count: usize| [&all[..at], &all[at + count..]].concat();
        let twice = |at: usize, count: usize| [&all[..at + count], &all[at..]].concat();
        assert_eq!(drift(&rows(&all)), 0, "though it begins and ends in a still scene");
        assert_eq!(drift(&rows(&without(8, 4))), 4, "soon after the beginning");
        assert_eq!(drift(&rows(&without(52, 7))), 7);
        assert_eq!(drift(&rows(&twice(20, 6))), -6);
        let missing_and_twice = [&all[..20], &all[24..60], &all[58..]].concat();
        assert_eq!(drift(&rows(&missing_and_twice)), 2);
        assert_eq!(drift(&rows(&all[..1])), 0);
        assert_eq!(drift(&[]), 0);
    }
}
