//! Snapshots as GStreamer structures. Units are in the field names, as in the snapshots.

use bond::stats::{ReceiverLinkSnapshot, ReceiverSnapshot, SenderLinkSnapshot, SenderSnapshot};
use gstreamer as gst;
use link_io::receiver::ReceiverIoCounters;
use link_io::sender::SenderIoCounters;

/// A sender's statistics; `counters` is what the element itself counted.
pub(crate) fn sender(snapshot: &SenderSnapshot, io: SenderIoCounters, counters: SinkCounters) -> gst::Structure {
    let links = snapshot.links.iter().map(sender_link);
    gst::Structure::builder(crate::STATS_MESSAGE)
        .field("at-us", snapshot.at.as_micros())
        .field("flow", snapshot.flow)
        .field("extension", snapshot.extension)
        .field("latency-ms", snapshot.latency_ms)
        .field("media-rate-bps", snapshot.media_rate.as_bps())
        .field("send-rate-bps", snapshot.send_rate.as_bps())
        .field("rate-advice-bps", snapshot.rate_advice.as_bps())
        .field("packets-in", snapshot.packets_in)
        .field("bytes-in", snapshot.bytes_in.as_u64())
        .field("packets-refused", snapshot.packets_refused)
        .field("queued-packets", snapshot.queued_packets)
        .field("queued-ms", snapshot.queued_ms)
        .field("retransmits", snapshot.retransmits)
        .field("copies", snapshot.copies)
        .field("dropped-packets", snapshot.dropped_packets)
        .field("unrecoverable", snapshot.unrecoverable)
        .field("payloads-refused", io.payloads_refused)
        .field("datagrams-dropped", io.datagrams_dropped)
        .field("datagrams-foreign", io.datagrams_foreign)
        .field("sockets-reopened", io.sockets_reopened)
        .field("payloads-dropped", counters.payloads_dropped)
        .field("bytes-skipped", counters.bytes_skipped)
        .field("links", gst::Array::new(links))
        .build()
}

/// What the sink element counted since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SinkCounters {
    /// Payloads dropped because the flow's queue was full.
    pub(crate) payloads_dropped: u64,
    /// Bytes that belonged to no TS packet.
    pub(crate) bytes_skipped: u64,
}

fn sender_link(link: &SenderLinkSnapshot) -> gst::Structure {
    gst::Structure::builder("link")
        .field("link", u32::from(link.link.0))
        .field("name", &link.name)
        .field("state", link.state.to_string())
        // Negative: not measured yet.
        .field("rtt-ms", link.rtt_ms.unwrap_or(-1.0))
        .field("queue-delay-ms", link.queue_delay_ms)
        .field("send-rate-bps", link.send_rate.as_bps())
        .field("capacity-bps", link.capacity.as_bps())
        .field("goodput-bps", link.goodput.as_bps())
        .field("loss-ratio", link.loss.as_f64())
        .field("in-flight-packets", link.in_flight_packets)
        .field("packets-sent", link.packets_sent)
        .field("bytes-sent", link.bytes_sent.as_u64())
        .field("retransmits", link.retransmits)
        .field("packets-lost", link.packets_lost)
        .field("nacks-received", link.nacks_received)
        .build()
}

/// A receiver's statistics.
pub(crate) fn receiver(snapshot: &ReceiverSnapshot, io: ReceiverIoCounters) -> gst::Structure {
    let links = snapshot.links.iter().map(receiver_link);
    gst::Structure::builder(crate::STATS_MESSAGE)
        .field("at-us", snapshot.at.as_micros())
        .field("latency-ms", snapshot.latency_ms)
        .field("buffer-ms", snapshot.buffer_ms)
        .field("rate-bps", snapshot.rate.as_bps())
        .field("delivered-packets", snapshot.delivered_packets)
        .field("delivered-bytes", snapshot.delivered_bytes.as_u64())
        .field("lost-packets", snapshot.lost_packets)
        .field("late-packets", snapshot.late_packets)
        .field("recovered-packets", snapshot.recovered_packets)
        .field("duplicates", snapshot.duplicates)
        .field("refused-datagrams", snapshot.refused_datagrams)
        .field("nacks-sent", snapshot.nacks_sent)
        .field("deliveries-dropped", io.deliveries_dropped)
        .field("datagrams-dropped", io.datagrams_dropped)
        .field("sockets-reopened", io.sockets_reopened)
        .field("links", gst::Array::new(links))
        .build()
}

fn receiver_link(link: &ReceiverLinkSnapshot) -> gst::Structure {
    gst::Structure::builder("link")
        .field("peer", link.peer.to_string())
        .field("name", &link.name)
        .field("rtt-ms", link.rtt_ms.unwrap_or(-1.0))
        .field("received-packets", link.received_packets)
        .field("received-bytes", link.received_bytes.as_u64())
        .field("rate-bps", link.rate.as_bps())
        .field("loss-ratio", link.loss.as_f64())
        .field("duplicates", link.duplicates)
        .field("last-heard-ms-ago", link.last_heard_ms_ago)
        .build()
}
