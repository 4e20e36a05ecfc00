//! The timer for packets that wait for others to fill a payload, on the system clock's own thread.

use super::BondSink;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The timer of one stream; at its time [`super::imp::Sink::let_go`] is called.
#[derive(Debug, Default)]
pub(super) struct FillTimer {
    is_set: bool,
    stream: Arc<()>,
}

/// Tells of which stream a timer is: one that has ended has none.
#[derive(Debug)]
pub(super) struct OfStream(Weak<()>);

impl FillTimer {
    /// Sets the timer, unless it is set.
    pub(super) fn set(&mut self, sink: &BondSink, rest: Duration) {
        if !self.is_set {
            self.is_set = schedule(sink, OfStream(Arc::downgrade(&self.stream)), rest);
        }
    }

    /// Notes that its time has come. False when that was the timer of a stream before.
    pub(super) fn has_come(&mut self, of: &OfStream) -> bool {
        let ours = of.0.ptr_eq(&Arc::downgrade(&self.stream));
        self.is_set &= !ours;
        ours
    }
}

/// Has the sink called after `rest`. False when the clock refuses: what waits then goes with what comes next.
pub(super) fn schedule(sink: &BondSink, of: OfStream, rest: Duration) -> bool {
    let clock = gst::SystemClock::obtain();
    let rest = gst::ClockTime::from_nseconds(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX));
    let weak = sink.downgrade();
    let id = clock.new_single_shot_id(clock.time().saturating_add(rest));
    let scheduled = id.wait_async(move |_, _, _| {
        if let Some(sink) = weak.upgrade() {
            sink.imp().let_go(of);
        }
    });
    scheduled.inspect_err(|error| tracing::warn!(?error, "the timer of a short payload cannot be set")).is_ok()
}
