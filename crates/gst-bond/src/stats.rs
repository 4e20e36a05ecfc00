//! Snapshots as GStreamer structures: every field of [`SenderSnapshot`] and [`ReceiverSnapshot`] under its own name with
//! hyphens, and the unit behind it where the snapshot's type tells that: `-bps` (bit/s), `-us` (microseconds), `-ratio`
//! (0 to 1). What is not measured yet is negative; what there is nothing of is absent.

use bond::stats::{
    EcnState, FarEndSnapshot, LatePackets, ReceiverFlowSnapshot, ReceiverLinkSnapshot, ReceiverSnapshot,
    RefusedDatagrams, SenderLinkSnapshot, SenderSnapshot,
};
use gstreamer as gst;
use link_io::receiver::ReceiverIoCounters;
use link_io::sender::SenderIoCounters;
use units::as_millis_f64;

/// A sender's statistics; `counters` is what the element itself counted.
pub(crate) fn sender(snapshot: &SenderSnapshot, io: SenderIoCounters, counters: SinkCounters) -> gst::Structure {
    let links = snapshot.links.iter().map(sender_link);
    gst::Structure::builder(crate::STATS_MESSAGE)
        .field("at-us", snapshot.at.as_micros())
        .field("flow", snapshot.flow)
        .field("extension", snapshot.extension)
        .field("latency-ms", as_millis_f64(snapshot.latency))
        .field("media-rate-bps", snapshot.media_rate.as_bps())
        .field("send-rate-bps", snapshot.send_rate.as_bps())
        .field("rate-advice-bps", snapshot.rate_advice.as_bps())
        .field("payload-bytes-max", snapshot.payload_bytes_max as u64)
        .field("packets-in", snapshot.packets_in)
        .field("bytes-in", snapshot.bytes_in.as_u64())
        .field("packets-refused", snapshot.packets_refused)
        .field("queued-packets", snapshot.queued_packets)
        .field("queued-ms", as_millis_f64(snapshot.queued))
        .field("retransmits", snapshot.retransmits)
        .field("copies", snapshot.copies)
        .field("useless-copies", snapshot.useless_copies)
        .field("fec-packets", snapshot.fec_packets)
        .field("fec-recovered", snapshot.fec_recovered)
        .field("redundancy", snapshot.redundancy)
        .field("dropped-packets", snapshot.dropped_packets)
        .field("unrecoverable", snapshot.unrecoverable)
        .field_if_some("far-end", snapshot.far_end.as_ref().map(far_end))
        .field("payloads-refused", io.payloads_refused)
        .field("datagrams-dropped", io.datagrams_dropped)
        .field("datagrams-foreign", io.datagrams_foreign)
        .field("sockets-reopened", io.sockets_reopened)
        .field("payloads-dropped", counters.payloads_dropped)
        .field("bytes-skipped", counters.bytes_skipped)
        .field("links", gst::Array::new(links))
        .build()
}

/// What a plain RIST receiver tells.
fn far_end(far_end: &FarEndSnapshot) -> gst::Structure {
    gst::Structure::builder("far-end")
        .field("messages", far_end.messages)
        .field("messages-refused", far_end.messages_refused)
        .field("received-packets", far_end.received_packets)
        .field("recovered-packets", far_end.recovered_packets)
        .field("lost-packets", far_end.lost_packets)
        .field("late-packets", far_end.late_packets)
        .field("media-rate-bps", far_end.media_rate.as_bps())
        .field("retransmission-rate-bps", far_end.retransmission_rate.as_bps())
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
        .field("rtt-ms", link.rtt.map_or(-1.0, as_millis_f64))
        .field("queue-delay-ms", as_millis_f64(link.queue_delay))
        .field("send-rate-bps", link.send_rate.as_bps())
        .field("capacity-bps", link.capacity.as_bps())
        .field("goodput-bps", link.goodput.as_bps())
        .field("loss-ratio", link.loss.as_f64())
        .field("in-flight-packets", link.in_flight_packets)
        .field("in-flight-bytes", link.in_flight_bytes.as_u64())
        .field("packets-sent", link.packets_sent)
        .field("bytes-sent", link.bytes_sent.as_u64())
        .field("retransmits", link.retransmits)
        .field("packets-lost", link.packets_lost)
        .field("nacks-received", link.nacks_received)
        .field("datagram-bytes-max", u32::from(link.datagram_bytes_max))
        .field("budget-spent", link.budget_spent)
        .field("shares-bottleneck-with", gst::Array::new(link.shares_bottleneck_with.iter().map(|id| u32::from(id.0))))
        .field("shared-correlation", link.shared_correlation.unwrap_or(-1.0))
        .field("ecn", ecn(link.ecn))
        .field("ce-share-ratio", link.ce_share.as_f64())
        .field("ce-packets", link.ce_packets)
        .build()
}

/// As in the JSON statistics of the programs.
const fn ecn(state: EcnState) -> &'static str {
    match state {
        EcnState::Off => "off",
        EcnState::Testing => "testing",
        EcnState::InUse => "in_use",
        EcnState::Cleared => "cleared",
        EcnState::BlackHole => "black_hole",
        EcnState::AllMarked => "all_marked",
    }
}

/// A receiver's statistics.
pub(crate) fn receiver(snapshot: &ReceiverSnapshot, io: ReceiverIoCounters) -> gst::Structure {
    let links = snapshot.links.iter().map(receiver_link);
    gst::Structure::builder(crate::STATS_MESSAGE)
        .field("at-us", snapshot.at.as_micros())
        .field("latency-ms", as_millis_f64(snapshot.latency))
        .field("buffer-ms", as_millis_f64(snapshot.buffer))
        .field("rate-bps", snapshot.rate.as_bps())
        .field("half-open", snapshot.half_open)
        .field("delivered-packets", snapshot.delivered_packets)
        .field("delivered-bytes", snapshot.delivered_bytes.as_u64())
        .field("lost-packets", snapshot.lost_packets)
        .field("late-packets", snapshot.late_packets)
        .field("late", late(&snapshot.late))
        .field("recovered-packets", snapshot.recovered_packets)
        .field("duplicates", snapshot.duplicates)
        .field("refused-datagrams", snapshot.refused_datagrams)
        .field("refused", refused(&snapshot.refused))
        .field("nacks-sent", snapshot.nacks_sent)
        .field("quality-messages", snapshot.quality_messages)
        .field("fec-packets", snapshot.fec_packets)
        .field("fec-recovered", snapshot.fec_recovered)
        .field("flows", gst::Array::new(snapshot.flows.iter().map(receiver_flow)))
        .field("deliveries-dropped", io.deliveries_dropped)
        .field("datagrams-dropped", io.datagrams_dropped)
        .field("sockets-reopened", io.sockets_reopened)
        .field("links", gst::Array::new(links))
        .build()
}

fn late(late: &LatePackets) -> gst::Structure {
    gst::Structure::builder("late")
        .field("originals", late.originals)
        .field("retransmissions", late.retransmissions)
        .field("outdated", late.outdated)
        .build()
}

fn refused(refused: &RefusedDatagrams) -> gst::Structure {
    gst::Structure::builder("refused")
        .field("malformed", refused.malformed)
        .field("clear", refused.clear)
        .field("encrypted", refused.encrypted)
        .field("wrong-key", refused.wrong_key)
        .field("replayed", refused.replayed)
        .field("log-in", refused.log_in)
        .field("strangers", refused.strangers)
        .field("unwanted", refused.unwanted)
        .field("out-of-window", refused.out_of_window)
        .build()
}

fn receiver_flow(flow: &ReceiverFlowSnapshot) -> gst::Structure {
    gst::Structure::builder("flow")
        .field("flow", flow.flow)
        .field("virtual-port", u32::from(flow.virtual_port))
        .field("delivered-packets", flow.delivered_packets)
        .field("lost-packets", flow.lost_packets)
        .field("late-packets", flow.late_packets)
        .field("late", late(&flow.late))
        .field("recovered-packets", flow.recovered_packets)
        .field("rate-bps", flow.rate.as_bps())
        .build()
}

fn receiver_link(link: &ReceiverLinkSnapshot) -> gst::Structure {
    gst::Structure::builder("link")
        .field("peer", link.peer.to_string())
        .field("name", &link.name)
        .field("rtt-ms", link.rtt.map_or(-1.0, as_millis_f64))
        .field("received-packets", link.received_packets)
        .field("received-bytes", link.received_bytes.as_u64())
        .field("rate-bps", link.rate.as_bps())
        .field("loss-ratio", link.loss.as_f64())
        .field("duplicates", link.duplicates)
        .field("last-heard-ms-ago", as_millis_f64(link.last_heard_ago))
        .field("ce-packets", link.ce_packets)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bond::config::{LinkOptions, ReceiverConfig, SenderConfig};
    use bond::receiver::Receiver;
    use bond::sender::{Sender, SenderInput};
    use serde::Serialize;
    use serde_json::{Map, Value};
    use std::time::Duration;
    use units::{Bitrate, ByteCount, LinkId, LossRatio, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(5);

    fn fields(snapshot: impl Serialize) -> Map<String, Value> {
        match serde_json::to_value(snapshot) {
            Ok(Value::Object(fields)) => fields,
            other => panic!("{other:?}"),
        }
    }

    /// Fails unless every field of a snapshot is in the structure, numbers with the same value.
    fn assert_complete(structure: &gst::StructureRef, snapshot: &Map<String, Value>) {
        for (name, value) in snapshot {
            let name = name.replace('_', "-");
            let found =
                ["", "-bps", "-us", "-ratio"].iter().find_map(|unit| structure.value(format!("{name}{unit}")).ok());
            let found = found.unwrap_or_else(|| panic!("{name} is missing in {structure}"));
            let number = [gst::glib::Type::U32, gst::glib::Type::U64, gst::glib::Type::F64].contains(&found.type_());
            if let (true, Some(expected)) = (number, value.as_f64()) {
                let got = found.transform::<f64>().expect("a number").get::<f64>().expect("a number");
                assert!((got - expected).abs() < 1e-6, "{name}: {got}, not {expected}");
            }
        }
    }

    fn part(structure: &gst::Structure, list: &str) -> gst::Structure {
        let list = structure.get::<gst::Array>(list).expect("a list");
        list.first().expect("one").get().expect("a structure")
    }

    fn sender_snapshot() -> SenderSnapshot {
        let mut machine = Sender::new(SenderConfig::default(), 1, NOW).expect("settings");
        machine.handle_input(NOW, SenderInput::AddLink { link: LinkId(3), options: LinkOptions::default() });
        let mut snapshot = machine.snapshot(NOW);
        snapshot.far_end = Some(FarEndSnapshot { messages: 1, lost_packets: 2, late_packets: 3, ..Default::default() });
        (snapshot.useless_copies, snapshot.redundancy, snapshot.media_rate) = (4, 0.5, Bitrate::from_bps(6));
        let link = &mut snapshot.links[0];
        (link.budget_spent, link.shares_bottleneck_with) = (true, vec![LinkId(7), LinkId(9)]);
        (link.shared_correlation, link.ce_share, link.in_flight_bytes) =
            (Some(0.75), LossRatio::new(0.25), ByteCount::new(8));
        snapshot
    }

    #[test]
    fn a_senders_structure_tells_all_that_the_snapshot_does() {
        gst::init().expect("GStreamer");
        let snapshot = sender_snapshot();
        let structure = sender(&snapshot, SenderIoCounters::default(), SinkCounters::default());
        assert_complete(&structure, &fields(&snapshot));
        let link = part(&structure, "links");
        assert_complete(&link, &fields(&snapshot.links[0]));
        let shared = link.get::<gst::Array>("shares-bottleneck-with").expect("a list");
        assert_eq!(shared.iter().map(|id| id.get::<u32>().expect("an id")).collect::<Vec<_>>(), [7, 9]);
        assert_eq!((link.get::<bool>("budget-spent"), link.get::<&str>("ecn")), (Ok(true), Ok("off")));
        let far_end = structure.get::<gst::Structure>("far-end").expect("told");
        assert_complete(&far_end, &fields(snapshot.far_end));
        assert_complete(&structure, &fields(SenderIoCounters::default()));
        let silent = SenderSnapshot { far_end: None, ..snapshot };
        assert!(!sender(&silent, SenderIoCounters::default(), SinkCounters::default()).has_field("far-end"));
    }

    #[test]
    fn a_receivers_structure_tells_all_that_the_snapshot_does() {
        gst::init().expect("GStreamer");
        let machine = Receiver::new(ReceiverConfig::default(), 1, NOW).expect("settings");
        let flow = |port| ReceiverFlowSnapshot {
            flow: 2,
            virtual_port: port,
            delivered_packets: 3,
            lost_packets: 4,
            late_packets: 5,
            late: LatePackets::default(),
            recovered_packets: 6,
            rate: Bitrate::from_bps(7),
        };
        let link = ReceiverLinkSnapshot {
            peer: "127.0.0.1:5000".parse().expect("an address"),
            name: "a".to_owned(),
            rtt: Some(Duration::from_micros(1500)),
            received_packets: 8,
            received_bytes: ByteCount::new(9),
            rate: Bitrate::from_bps(10),
            loss: LossRatio::new(0.5),
            duplicates: 11,
            last_heard_ago: Duration::from_millis(12),
            ce_packets: 13,
        };
        let mut snapshot = machine.snapshot(NOW);
        (snapshot.flows, snapshot.links, snapshot.half_open) = (vec![flow(2000), flow(2002)], vec![link], 14);
        let structure = receiver(&snapshot, ReceiverIoCounters::default());
        assert_complete(&structure, &fields(&snapshot));
        let of = |name: &str| structure.get::<gst::Structure>(name).expect("told");
        assert_complete(&of("late"), &fields(snapshot.late));
        assert_complete(&of("refused"), &fields(snapshot.refused));
        assert_complete(&part(&structure, "links"), &fields(&snapshot.links[0]));
        assert_complete(&part(&structure, "flows"), &fields(&snapshot.flows[0]));
        assert_eq!(structure.get::<gst::Array>("flows").expect("a list").len(), 2);
        assert_complete(&structure, &fields(ReceiverIoCounters::default()));
    }
}
