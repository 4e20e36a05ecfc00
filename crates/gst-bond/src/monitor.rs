//! Statistics and events as element messages, from the system clock's own thread.

use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often events are looked for.
const EVENT_PERIOD: gst::ClockTime = gst::ClockTime::from_mseconds(250);
/// Statistics go out with every so many looks: once a second.
const LOOKS_PER_STATS: u64 = 4;

/// What an element gives its monitor.
pub(crate) trait Monitored: IsA<gst::Element> + IsA<gst::Object> + Send + Sync {
    /// The property `stats`; absent when the flow is not open.
    fn stats_structure(&self) -> Option<gst::Structure>;
    /// The events since the last call, oldest first.
    fn drain_events(&self) -> Vec<bond::event::Event>;
}

/// A running monitor; ends when dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    id: gst::PeriodicClockId,
}

impl Monitor {
    /// Starts posting messages for `element`; `None` when the clock refuses, which costs messages and nothing else.
    pub(crate) fn start<E: Monitored>(element: &E) -> Option<Self> {
        let clock = gst::SystemClock::obtain();
        let id = clock.new_periodic_id(clock.time(), EVENT_PERIOD);
        let weak = element.downgrade();
        let looks = AtomicU64::new(0);
        let scheduled = id.wait_async(move |_, _, _| {
            let Some(element) = weak.upgrade() else { return };
            look(&element, looks.fetch_add(1, Ordering::Relaxed));
        });
        match scheduled {
            Ok(_) => Some(Self { id }),
            Err(error) => {
                tracing::warn!(?error, "the bond's statistics messages cannot be scheduled");
                None
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.id.unschedule();
    }
}

fn look<E: Monitored>(element: &E, looks: u64) {
    for event in element.drain_events() {
        let structure = gst::Structure::builder(crate::EVENT_MESSAGE)
            .field("at-us", event.at.as_micros())
            .field("text", event.to_string())
            .build();
        post(element, structure);
    }
    if looks % LOOKS_PER_STATS == LOOKS_PER_STATS - 1
        && let Some(stats) = element.stats_structure()
    {
        post(element, stats);
    }
}

fn post<E: Monitored>(element: &E, structure: gst::Structure) {
    // Refused only while there is no bus or it is flushing: nobody listens then.
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}
