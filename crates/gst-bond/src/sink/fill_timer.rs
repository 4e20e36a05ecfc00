//! The timer for packets that wait for others to fill a payload, on the system clock's own thread.

use super::BondSink;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use link_io::media::FILL_WAIT_MAX;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A timer that came in vain comes again no later than this.
const AGAIN_MAX: Duration = Duration::from_millis(250);

/// The timer of one stream; at its time [`super::imp::Sink::let_go`] is called.
#[derive(Debug, Default)]
pub(super) struct FillTimer {
    /// Of the timer that is set: whether it comes late, or not at all.
    late: Option<Arc<AtomicBool>>,
}

/// A timer that was set: one whose stream has ended, or that another replaced, counts no more.
#[derive(Debug, Clone)]
pub(super) struct Timer {
    late: Weak<AtomicBool>,
    /// Where it comes in vain, it comes again after so long.
    pause: Duration,
}

impl FillTimer {
    /// Sets the timer, unless one is set that comes in time.
    pub(super) fn set(&mut self, sink: &BondSink, rest: Duration) {
        if self.late.as_ref().is_none_or(|late| late.load(Ordering::Relaxed)) {
            let late = self.late.insert(Arc::default());
            schedule(sink, Timer { late: Arc::downgrade(late), pause: FILL_WAIT_MAX }, rest);
        }
    }

    /// True when `timer` is the one that is set.
    pub(super) fn is(&self, timer: &Timer) -> bool {
        self.late.as_ref().is_some_and(|late| timer.late.ptr_eq(&Arc::downgrade(late)))
    }

    /// Notes that the timer has come.
    pub(super) fn clear(&mut self) {
        self.late = None;
    }
}

impl Timer {
    /// Comes again, for it came in vain: after a longer pause each time.
    pub(super) fn again(self, sink: &BondSink) {
        let Some(late) = self.late.upgrade() else { return };
        late.store(true, Ordering::Relaxed);
        let pause = (self.pause * 2).min(AGAIN_MAX);
        schedule(sink, Self { pause, ..self.clone() }, self.pause);
    }
}

/// Has the sink called after `rest`. Where the clock refuses, what waits goes with what comes next.
fn schedule(sink: &BondSink, timer: Timer, rest: Duration) {
    let clock = gst::SystemClock::obtain();
    let rest = gst::ClockTime::from_nseconds(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX));
    let (weak, late) = (sink.downgrade(), timer.late.clone());
    let id = clock.new_single_shot_id(clock.time().saturating_add(rest));
    let scheduled = id.wait_async(move |_, _, _| {
        if let Some(sink) = weak.upgrade() {
            sink.imp().let_go(timer);
        }
    });
    if let Err(error) = scheduled {
        tracing::warn!(?error, "the timer of a short payload cannot be set");
        if let Some(late) = late.upgrade() {
            late.store(true, Ordering::Relaxed);
        }
    }
}
