//! From a source's raw buffers to the sending pipeline, on one timeline.
//!
//! One queue and one thread a medium. A file's buffers wait here until they are due; the queue then bridges the moment in
//! which the file is sent back to its beginning. A live source's buffers pass at once; when the queue is full (the encoder
//! cannot follow) the newest is dropped and counted, so that latency stays what it is.

use super::send::SoundInlet;
use super::timeline::{Medium, Passes, Timeline, Tolerance};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Raw pictures waiting between source and encoder: 0.2 s of 25 frames a second, 7 MB at 720p. It bridges the moment in which a
/// file is sent back to its beginning.
pub const VIDEO_QUEUE_BUFFERS: usize = 5;
/// Raw sound buffers waiting: about 0.7 s in buffers of 21 ms.
pub const AUDIO_QUEUE_BUFFERS: usize = 32;
/// How often a waiting thread looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Locks that do not poison: the state behind them is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a source's buffers meet the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each waits until it is due, and the source waits for room.
    File,
    /// They come when they are due.
    Live,
}

impl Pace {
    fn tolerance(self) -> Tolerance {
        match self {
            Self::File => Tolerance::FILE,
            Self::Live => Tolerance::LIVE,
        }
    }
}

/// The near end of the sending pipeline; outlives every source.
#[derive(Debug, Clone)]
pub struct Target {
    /// Raw pictures.
    pub video: gst_app::AppSrc,
    /// Raw sound.
    pub audio: Arc<SoundInlet>,
    /// The sending pipeline, for its running time.
    pub pipeline: gst::Pipeline,
    /// Where on it each buffer goes.
    pub timeline: Arc<Mutex<Timeline>>,
}

impl Target {
    /// The state behind the lock is valid after every statement: a panic elsewhere does not spoil it.
    pub(super) fn lock_timeline(&self) -> MutexGuard<'_, Timeline> {
        lock(&self.timeline)
    }

    /// Running time of the sending pipeline, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.pipeline.current_running_time().map_or(0, gst::ClockTime::nseconds)
    }

    fn source(&self, medium: Medium) -> Option<&gst_app::AppSrc> {
        match medium {
            Medium::Video => Some(&self.video),
            Medium::Audio => self.audio.source(),
        }
    }
}

/// One raw buffer at its time in the source.
struct Unit {
    buffer: gst::Buffer,
    caps: gst::Caps,
    at: u64,
    duration: u64,
}

/// The queues of one source and the threads that empty them.
#[derive(Debug)]
pub struct Feed {
    pace: Pace,
    passes: Arc<Mutex<Passes>>,
    dropped: Arc<AtomicU64>,
    pictures: Arc<AtomicU64>,
    stop: Arc<Stop>,
    receivers: Vec<(Medium, Receiver<Unit>)>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    fn set(&self) {
        let _guard = lock(&self.lock);
        self.set.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits; false when the feed stopped meanwhile.
    fn sleep(&self, time: Duration) -> bool {
        let guard = lock(&self.lock);
        if !self.is_set() {
            drop(self.changed.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner));
        }
        !self.is_set()
    }
}

impl Feed {
    /// A feed whose threads start with [`Feed::start`]; until then the queues fill.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            passes: Arc::default(),
            dropped: Arc::default(),
            pictures: Arc::default(),
            stop: Arc::default(),
            receivers: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// The sink that ends a branch of the source pipeline; `caps` is what it takes. `on_first` is told the caps of the first
    /// buffer, on the source's streaming thread.
    pub fn sink(
        &mut self,
        medium: Medium,
        caps: &gst::Caps,
        on_first: impl FnOnce(&gst::CapsRef) + Send + 'static,
    ) -> gst_app::AppSink {
        let (sender, receiver) = sync_channel(match medium {
            Medium::Video => VIDEO_QUEUE_BUFFERS,
            Medium::Audio => AUDIO_QUEUE_BUFFERS,
        });
        self.receivers.push((medium, receiver));
        let mut intake = Intake {
            pace: self.pace,
            passes: Arc::clone(&self.passes),
            dropped: Arc::clone(&self.dropped),
            taken: match medium {
                Medium::Video => Arc::clone(&self.pictures),
                Medium::Audio => Arc::default(),
            },
            sender,
            on_first: Some(Box::new(on_first)),
        };
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| intake.take(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?))
            .build();
        let name = match medium {
            Medium::Video => "video",
            Medium::Audio => "audio",
        };
        gst_app::AppSink::builder()
            .name(name)
            .caps(caps)
            .sync(false)
            .async_(false)
            .max_buffers(2)
            .callbacks(callbacks)
            .build()
    }

    /// The source's present pass ended and it begins again; false when the pass was empty.
    pub fn next_pass(&self) -> bool {
        lock(&self.passes).begin_next()
    }

    /// Pictures the source has given.
    pub fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// Raw buffers dropped because the encoder did not follow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Starts handing over to the sending pipeline.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(&mut self, target: &Target) -> std::io::Result<()> {
        lock(&target.timeline).detach();
        for (medium, receiver) in self.receivers.drain(..) {
            let pump = Pump {
                medium,
                pace: self.pace,
                target: target.clone(),
                dropped: Arc::clone(&self.dropped),
                stop: Arc::clone(&self.stop),
            };
            let name = format!("feed-{}", if medium == Medium::Video { "video" } else { "audio" });
            self.threads.push(std::thread::Builder::new().name(name).spawn(move || pump.run(&receiver))?);
        }
        Ok(())
    }

    /// Ends the threads; the source's pads see an error from then on and must be stopped next.
    pub fn stop(&mut self) {
        self.stop.set();
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a feed thread panicked");
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs on the source's streaming thread.
struct Intake {
    pace: Pace,
    passes: Arc<Mutex<Passes>>,
    dropped: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    sender: SyncSender<Unit>,
    on_first: Option<OnFirst>,
}

type OnFirst = Box<dyn FnOnce(&gst::CapsRef) + Send>;

impl Intake {
    fn take(&mut self, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if let (Some(caps), Some(on_first)) = (sample.caps(), self.on_first.take()) {
            on_first(caps);
        }
        let Some((running_time, duration)) = times(sample) else { return Ok(gst::FlowSuccess::Ok) };
        let at = lock(&self.passes).place(running_time, duration);
        // The sample itself is the sink's: it is used again for the next buffer.
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let unit = Unit { buffer, caps, at, duration };
        match self.pace {
            Pace::File => self.sender.send(unit).map_err(|_| gst::FlowError::Flushing)?,
            Pace::Live => match self.sender.try_send(unit) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => return Err(gst::FlowError::Flushing),
            },
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Running time and duration of a sample; `None` for one outside its segment or without time.
fn times(sample: &gst::Sample) -> Option<(u64, u64)> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
    let running_time = segment.to_running_time(buffer.pts()?)?;
    let duration = buffer.duration().or_else(|| frame_duration(sample.caps()?)).unwrap_or(gst::ClockTime::ZERO);
    Some((running_time.nseconds(), duration.nseconds()))
}

fn frame_duration(caps: &gst::CapsRef) -> Option<gst::ClockTime> {
    let rate = caps.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
    let (n, d) = (u64::try_from(rate.numer()).ok()?, u64::try_from(rate.denom()).ok()?);
    gst::ClockTime::SECOND.mul_div_floor(d, n)
}

/// Runs on a feed thread.
struct Pump {
    medium: Medium,
    pace: Pace,
    target: Target,
    dropped: Arc<AtomicU64>,
    stop: Arc<Stop>,
}

impl Pump {
    fn run(&self, receiver: &Receiver<Unit>) {
        while !self.stop.is_set() {
            match receiver.recv_timeout(STOP_CHECK) {
                Ok(unit) => {
                    if !self.pass_on(unit) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// False when the feed should end.
    fn pass_on(&self, unit: Unit) -> bool {
        let tolerance = self.pace.tolerance();
        let placed =
            lock(&self.target.timeline).place(self.medium, unit.at, unit.duration, self.target.now(), tolerance);
        let Some(at) = placed else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        if self.pace == Pace::File && !self.wait_until(at) {
            return false;
        }
        let Some(source) = self.target.source(self.medium) else { return false };
        if source.current_level_buffers() >= source.max_buffers() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        source.push_sample(&restamped(unit, at)).is_ok()
    }

    fn wait_until(&self, at: u64) -> bool {
        loop {
            let left = at.saturating_sub(self.target.now());
            if left == 0 {
                return !self.stop.is_set();
            }
            if !self.stop.sleep(Duration::from_nanos(left).min(STOP_CHECK)) {
                return false;
            }
        }
    }
}

/// The same content at another time; the memory is shared.
fn restamped(unit: Unit, at: u64) -> gst::Sample {
    let mut buffer = unit.buffer;
    let header = buffer.make_mut();
    header.set_pts(gst::ClockTime::from_nseconds(at));
    header.set_dts(gst::ClockTime::NONE);
    gst::Sample::builder().buffer(&buffer).caps(&unit.caps).build()
}
