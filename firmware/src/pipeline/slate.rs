//! What is sent while the source gives no picture.
//!
//! The multiplexer waits for video: without a picture the sound would stop, too. After [`hold`] without a picture a still slate
//! (two bars on grey, the sign for "pause") takes its place at the picture's own frame rate, until the source gives pictures
//! again. A frozen last picture would look like a live one.

use super::feed::Target;
use super::picture::Picture;
use super::timeline::Medium;
use gstreamer as gst;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Shortest time without a picture before the slate.
const HOLD_MIN: Duration = Duration::from_millis(500);
/// Frames of a slow source that may be missing before the slate.
const HOLD_FRAMES: u32 = 4;
const GREY: u8 = 48;
const WHITE: u8 = 180;
const NEUTRAL: u8 = 128;

/// How long a source may give no picture before the slate takes its place.
pub fn hold(picture: Picture) -> Duration {
    HOLD_MIN.max(frame_duration(picture) * HOLD_FRAMES)
}

fn frame_duration(picture: Picture) -> Duration {
    let (n, d) = picture.frame_rate;
    Duration::from_secs_f64(f64::from(d.max(1)) / f64::from(n.max(1)))
}

/// Watches one sending pipeline; ends when dropped.
#[derive(Debug)]
pub struct Slate {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slate {
    /// Starts watching.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(target: Target, picture: Picture) -> io::Result<Self> {
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let sample = still(picture);
        let watch = move || {
            let (frame, hold) = (frame_duration(picture), hold(picture));
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(frame);
                // Several at first: the time of the hold is filled, too.
                while let Some(at) = target.slate_due(frame, hold) {
                    if target.video.push_sample(&at_time(&sample, at, frame)).is_err() {
                        return; // the pipeline is ending
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("slate".to_owned()).spawn(watch)?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Slate {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the slate's thread panicked");
        }
    }
}

impl Target {
    /// Where on the timeline the next slate goes, if one is due now.
    fn slate_due(&self, frame: Duration, hold: Duration) -> Option<u64> {
        let mut timeline = self.lock_timeline();
        timeline.fill(Medium::Video, nanos(frame), self.now(), nanos(hold))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn at_time(sample: &gst::Sample, at: u64, frame: Duration) -> gst::Sample {
    let mut buffer = sample.buffer_owned().unwrap_or_default();
    let header = buffer.make_mut();
    header.set_pts(gst::ClockTime::from_nseconds(at));
    header.set_duration(gst::ClockTime::from_nseconds(nanos(frame)));
    gst::Sample::builder().buffer(&buffer).caps_if_some(sample.caps_owned().as_ref()).build()
}

/// The slate in planar 4:2:0: a plane of brightness, then two quarter planes of colour.
fn still(picture: Picture) -> gst::Sample {
    let (width, height) = (picture.width as usize, picture.height as usize);
    // GStreamer's default layout: rows of brightness padded to 4 bytes, rows of colour to 4 bytes.
    let (stride, colour_stride) = (width.next_multiple_of(4), width.div_ceil(2).next_multiple_of(4));
    let (rows, colour_rows) = (height.next_multiple_of(2), height.div_ceil(2));
    let mut bytes = vec![GREY; stride * rows + 2 * colour_stride * colour_rows];
    bytes[stride * rows..].fill(NEUTRAL);
    for row in height * 3 / 8..height * 5 / 8 {
        for bar in [width * 15 / 32..width * 31 / 64, width * 33 / 64..width * 17 / 32] {
            bytes[row * stride..][bar].fill(WHITE);
        }
    }
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", picture.width as i32)
        .field("height", picture.height as i32)
        .field("framerate", gst::Fraction::new(picture.frame_rate.0 as i32, picture.frame_rate.1 as i32))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build();
    gst::Sample::builder().buffer(&gst::Buffer::from_slice(bytes)).caps(&caps).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, frame_rate: (u32, u32)) -> Picture {
        Picture { width, height, frame_rate }
    }

    #[test]
    fn the_slate_has_the_size_gstreamer_expects() {
        gst::init().unwrap();
        for (width, height) in [(320, 180), (1280, 720), (406, 720), (98, 98)] {
            let sample = still(picture(width, height, (25, 1)));
            let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            assert_eq!(sample.buffer().unwrap().size(), info.size(), "{width}x{height}");
        }
    }

    #[test]
    fn slow_pictures_are_given_time() {
        assert_eq!(hold(picture(320, 180, (25, 1))), HOLD_MIN);
        assert_eq!(hold(picture(320, 180, (2, 1))), Duration::from_secs(2));
    }
}
