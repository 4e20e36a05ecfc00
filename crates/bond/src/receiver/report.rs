//! What the receiver shows.

use units::{Bitrate, ByteCount, LossRatio, Timestamp};

use super::Receiver;
use super::flow::Flow;
use super::peer::Peer;
use crate::stats::{ReceiverFlowSnapshot, ReceiverLinkSnapshot, ReceiverSnapshot, of_micros};

impl Receiver {
    pub(super) fn make_snapshot(&self, now: Timestamp) -> ReceiverSnapshot {
        let mut totals = self.ended;
        for flow in &self.flows {
            totals.add(&flow.totals);
        }
        let held = self.flows.iter().map(super::Flow::held).max().unwrap_or_default();
        ReceiverSnapshot {
            at: now,
            links: self.peers.iter().filter(|peer| peer.is_shown()).map(|peer| link_snapshot(peer, now)).collect(),
            half_open: self.peers.iter().filter(|peer| peer.is_half_open()).count() as u64,
            flows: self.flows.iter().filter(|flow| !flow.is_done).map(|flow| flow_snapshot(flow, now)).collect(),
            delivered_packets: totals.delivered,
            delivered_bytes: ByteCount::new(totals.delivered_bytes),
            lost_packets: totals.lost,
            late_packets: totals.late.total(),
            late: totals.late,
            recovered_packets: totals.recovered,
            duplicates: totals.duplicates,
            refused_datagrams: self.refused.total(),
            refused: self.refused,
            nacks_sent: totals.asked,
            quality_messages: self.quality_messages,
            fec_packets: totals.repairs,
            fec_recovered: totals.repaired,
            rate: self.flows.iter().map(|flow| flow.meter.rate(now)).sum::<Bitrate>(),
            latency: self.config.latency,
            buffer: held,
        }
    }
}

fn flow_snapshot(flow: &Flow, now: Timestamp) -> ReceiverFlowSnapshot {
    ReceiverFlowSnapshot {
        flow: flow.id.ssrc,
        virtual_port: flow.id.port,
        delivered_packets: flow.totals.delivered,
        lost_packets: flow.totals.lost,
        late_packets: flow.totals.late.total(),
        late: flow.totals.late,
        recovered_packets: flow.totals.recovered,
        rate: flow.meter.rate(now),
    }
}

fn link_snapshot(peer: &Peer, now: Timestamp) -> ReceiverLinkSnapshot {
    ReceiverLinkSnapshot {
        peer: peer.address,
        name: peer.name.clone(),
        rtt: peer.rtt.smoothed().map(of_micros),
        received_packets: peer.media_packets,
        received_bytes: ByteCount::new(peer.bytes),
        rate: peer.meter.rate(now),
        loss: LossRatio::new(peer.loss),
        duplicates: peer.duplicates,
        last_heard_ago: now - peer.heard_at,
        ce_packets: u64::from(peer.arrivals.ecn.ce),
    }
}
