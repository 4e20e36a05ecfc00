//! Back-pressure: whether the stream may be held back, and for how long it was; what time is without that.

use super::BondSink;
use gstreamer as gst;
use gstreamer::prelude::*;
use link_io::media::MediaClock;
use std::time::{Duration, Instant};

/// The pace of one stream, from start to stop.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whether upstream is live, asked once it sends.
    live: Option<bool>,
    clock: MediaClock,
}

impl Default for Pace {
    fn default() -> Self {
        Self { live: None, clock: MediaClock::start(Instant::now()) }
    }
}

impl Pace {
    /// True when the source can wait for the links: a live one cannot, its media would only get old.
    pub(super) fn can_wait(&mut self, sink: &BondSink) -> bool {
        !*self.live.get_or_insert_with(|| is_live(sink))
    }

    /// Time since the start, but for the waits: media gets no older by them.
    pub(super) fn now(&self) -> Duration {
        self.clock.time(Instant::now())
    }

    /// A wait begins, if none is under way.
    pub(super) fn stop(&mut self) {
        self.clock.stop(Instant::now());
    }

    /// Ends the wait, if one is under way; it makes all that follows so much later.
    pub(super) fn go_on(&mut self) {
        self.clock.go_on(Instant::now());
    }

    /// The time of media that would have been sent at `running_time` without the waits.
    pub(super) fn time(&self, running_time: Duration) -> Duration {
        running_time + self.clock.waited()
    }
}

fn is_live(sink: &BondSink) -> bool {
    let mut query = gst::query::Latency::new();
    let answered = sink.static_pad("sink").is_some_and(|pad| pad.peer_query(&mut query));
    answered && query.result().0
}
