//! SRT as caller, by GStreamer's `srtsink`: the access units as a clean transport stream, seven packets a message.
//!
//! A thread of its own, because connecting and sending block. A connection that ends is made again with growing pauses; it
//! begins at a point where a decoder can start. Bounds: [`QUEUED_BYTES_MAX`] wait inside the pipeline.

use super::backoff::Backoff;
use super::queue::{Feed, Item};
use super::status::StatusCell;
use crate::media::mux::Muxer;
use crate::media::packet::PACKET_BYTES;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use protocol::Secret;
use std::time::{Duration, Instant};

/// What `srtsink` sends as one message.
const MESSAGE_BYTES: usize = 7 * PACKET_BYTES;
/// What may wait between this thread and the socket: two seconds of 16 Mbit/s. More means that the far end does not take it.
const QUEUED_BYTES_MAX: u64 = 4 << 20;
/// How long the last messages may take at the end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Sends until the feed ends.
pub fn run(url: &str, passphrase: &Secret, mut feed: Feed, status: &StatusCell) {
    if let Err(error) = gst::init() {
        status.failed(&format!("GStreamer does not start ({error}): install gstreamer1.0-plugins-bad"));
        while feed.next_blocking().is_some() {}
        return;
    }
    let mut backoff = Backoff::default();
    let begun = Instant::now();
    loop {
        status.connecting();
        let attempt = Connection::open(url, passphrase);
        if !feed.discard() {
            return;
        }
        let (reason, delivered_for) = match attempt {
            Ok(mut connection) => match connection.send(&mut feed, status) {
                Some(outcome) => outcome,
                None => return,
            },
            Err(reason) => (reason, Duration::ZERO),
        };
        let pause = backoff.pause(delivered_for, begun.elapsed().as_nanos() as u64);
        status.retrying(&reason, pause);
        let again = Instant::now() + pause;
        while Instant::now() < again {
            // Ticks come several times a second and end the wait in time.
            if feed.next_blocking().is_none() {
                return;
            }
        }
    }
}

/// One connection.
struct Connection {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: gst::Element,
}

impl Connection {
    /// Connects; gives the reason in words when that fails.
    fn open(url: &str, passphrase: &Secret) -> Result<Self, String> {
        let pipeline = gst::Pipeline::new();
        let source = AppSrc::builder().is_live(true).format(gst::Format::Time).max_bytes(QUEUED_BYTES_MAX).build();
        let sink = gst::ElementFactory::make("srtsink")
            .property("uri", caller(url))
            .property("wait-for-connection", false)
            .property("sync", false)
            .property("async", false)
            .build()
            .map_err(|_| "the element srtsink is missing: install gstreamer1.0-plugins-bad".to_owned())?;
        if sink.has_property("auto-reconnect") {
            sink.set_property("auto-reconnect", false); // reconnecting is ours: it must begin at a starting point
        }
        if !passphrase.is_empty() {
            sink.set_property("passphrase", passphrase.reveal());
            sink.set_property_from_str("pbkeylen", "32");
        }
        let source_element: &gst::Element = source.upcast_ref();
        pipeline.add_many([source_element, &sink]).map_err(|error| error.to_string())?;
        source_element.link(&sink).map_err(|error| error.to_string())?;
        let connection = Self { pipeline, source, sink };
        match connection.pipeline.set_state(gst::State::Playing) {
            Ok(_) => connection.fault().map_or(Ok(()), Err),
            Err(_) => {
                Err(connection.fault().unwrap_or_else(|| "cannot connect: check address and listener".to_owned()))
            }
        }?;
        Ok(connection)
    }

    /// Sends until the connection breaks: the reason, and how long it delivered. `None` when the feed ended.
    fn send(&mut self, feed: &mut Feed, status: &StatusCell) -> Option<(String, Duration)> {
        let connected = Instant::now();
        let mut muxer = Muxer::default();
        let (mut buffer, mut begun, mut stands) = (Vec::with_capacity(4 * MESSAGE_BYTES), false, false);
        while let Some(item) = feed.next_blocking() {
            if let Some(reason) = self.fault() {
                return Some((reason, connected.elapsed()));
            }
            let Item::Unit { unit, after_gap } = item else { continue };
            begun = unit.starts_output() || (begun && !after_gap);
            if !begun {
                continue;
            }
            if self.source.current_level_bytes() > QUEUED_BYTES_MAX {
                begun = false; // goes on at the next starting point
                continue;
            }
            muxer.write_unit(&unit, &mut buffer);
            if let Err(reason) = self.push(&mut buffer, status) {
                return Some((reason, connected.elapsed()));
            }
            // Before that the pipeline holds what the far end may never take. Asking for the statistics is not free.
            stands = stands || self.sent_bytes() > 0;
            if stands {
                status.active();
            }
        }
        self.drain();
        None
    }

    fn push(&self, buffer: &mut Vec<u8>, status: &StatusCell) -> Result<(), String> {
        for message in buffer.chunks(MESSAGE_BYTES) {
            let pushed = self.source.push_buffer(gst::Buffer::from_slice(message.to_vec()));
            pushed.map_err(|_| self.fault().unwrap_or_else(|| "the connection ended".to_owned()))?;
        }
        status.add_bytes(buffer.len());
        buffer.clear();
        Ok(())
    }

    /// Bytes that left on the connection, by SRT's own count; 0 before it stands.
    fn sent_bytes(&self) -> u64 {
        let statistics = self.sink.property::<gst::Structure>("stats");
        statistics.get::<u64>("bytes-sent-total").or_else(|_| statistics.get::<u64>("bytes-sent")).unwrap_or(0)
    }

    /// What went wrong since the last call, in words; never a pass phrase.
    fn fault(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos])?;
        match message.view() {
            gst::MessageView::Error(error) => {
                Some(format!("{}: check that the far end listens and the pass phrase is the same", error.error()))
            }
            _ => Some("the far end closed the connection".to_owned()),
        }
    }

    fn drain(&self) {
        let deadline = Instant::now() + DRAIN_TIME_MAX;
        while self.source.current_level_bytes() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null); // a failure leaves nothing to undo
    }
}

/// The address with the caller's mode.
fn caller(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}mode=caller")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_added_to_the_address() {
        assert_eq!(caller("srt://a:1"), "srt://a:1?mode=caller");
        assert_eq!(caller("srt://a:1?latency=200"), "srt://a:1?latency=200&mode=caller");
    }

    /// A real listener on loopback takes what is pushed, and only then is anything counted as sent.
    #[test]
    fn bytes_count_as_sent_only_when_a_listener_takes_them() {
        gst::init().unwrap();
        let port = free_ports::free_pair();
        let url = format!("srt://127.0.0.1:{port}");
        let push = |connection: &Connection| {
            let status = StatusCell::new("srt", "SRT");
            let _ = connection.push(&mut vec![0x47; MESSAGE_BYTES], &status); // refused once the connection failed
        };
        if let Ok(alone) = Connection::open(&url, &Secret::default()) {
            push(&alone);
            assert_eq!(alone.sent_bytes(), 0, "nobody listens");
        }
        let far_end = format!("srtsrc uri={url}?mode=listener ! fakesink");
        let listener = gst::parse::launch(&far_end).unwrap();
        listener.set_state(gst::State::Playing).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut sent = 0;
        while sent == 0 && Instant::now() < deadline {
            if let Ok(connection) = Connection::open(&url, &Secret::default()) {
                while sent == 0 && connection.fault().is_none() && Instant::now() < deadline {
                    push(&connection);
                    std::thread::sleep(Duration::from_millis(20));
                    sent = connection.sent_bytes();
                }
            }
        }
        listener.set_state(gst::State::Null).unwrap();
        assert!(sent >= MESSAGE_BYTES as u64, "a listener took {sent} bytes");
    }
}
