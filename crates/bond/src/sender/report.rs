//! What the sender shows, and what it advises the encoder.

use std::time::Duration;
use units::{Bitrate, ByteCount, LossRatio, Timestamp};

use super::plain::ECHO_TRUST;
use super::{Link, Sender, Slot};
use crate::rate_advice::Measured;
use crate::stats::{SenderLinkSnapshot, SenderSnapshot, of_micros};

/// Headers per payload byte (60 of 1316, bonding over IPv4 with encryption).
const HEADER_SHARE: f64 = 0.046;
/// A link's dips pass, and others make up for them; when less than this share of what all are believed to carry arrives, the bond
/// has fallen, and nothing waits for the beliefs to follow.
const FALLEN_SHARE: f64 = 0.7;

impl Sender {
    /// The media rate, in payload bits, that the links can carry in time; within the encoder's range.
    pub fn rate_advice(&self, now: Timestamp) -> Bitrate {
        let _ = now;
        self.advice.get().clamp(self.encoder.0, self.encoder.1)
    }

    /// Lets the advice follow the bond.
    pub(super) fn advise(&mut self, now: Timestamp) {
        let links = self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, &slot.as_ref()?.link)));
        let usable = links.filter(|(_, link)| link.usable());
        let carried = |rate: fn(&Link) -> f64| -> f64 {
            let payload = |(index, link): (usize, &Link)| {
                let rate = self.bottleneck_share(index) * rate(link) * link.moving(now);
                rate * 8.0 * (1.0 - link.loss()) / (1.0 + HEADER_SHARE)
            };
            usable.clone().map(payload).sum()
        };
        let oldest = self.history.pending_from(0).and_then(|number| self.history.get(number));
        let waited = oldest.map_or(Duration::ZERO, |packet| now - packet.source_time);
        let (mut capacity, lately) = (carried(Link::rate), carried(Link::rate_lately));
        if lately < FALLEN_SHARE * capacity {
            capacity = lately;
        }
        if self.extension != Some(true) {
            let known = usable.clone().all(|(_, link)| link.reported);
            capacity *= ECHO_TRUST;
            capacity = self.quality.limit(now, capacity, known);
        }
        let measured = Measured { capacity, waited, latency: self.config.latency, spill: self.spill() };
        self.advice.update(now, &measured, self.encoder.1);
    }

    pub(super) fn make_snapshot(&self, now: Timestamp) -> SenderSnapshot {
        let links: Vec<_> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let mut snapshot = link_snapshot(slot.as_ref()?, now);
                (snapshot.shares_bottleneck_with, snapshot.shared_correlation) = self.shared_with(index);
                Some(snapshot)
            })
            .collect();
        let oldest = self.history.pending().next().and_then(|number| self.history.get(number));
        let mut snapshot = SenderSnapshot {
            at: now,
            flow: self.flow,
            extension: self.extension == Some(true),
            latency: self.config.latency,
            media_rate: self.media_meter.rate(now),
            send_rate: links.iter().map(|link| link.send_rate).sum(),
            rate_advice: self.rate_advice(now),
            payload_bytes_max: self.payload_bytes_max(),
            packets_in: self.totals.packets_in,
            bytes_in: ByteCount::new(self.totals.bytes_in),
            packets_refused: self.totals.refused,
            queued_packets: self.history.pending_len() as u64,
            queued: oldest.map_or(Duration::ZERO, |packet| now - packet.source_time),
            retransmits: self.totals.retransmits,
            copies: self.totals.copies,
            useless_copies: self.totals.useless,
            fec_packets: self.protection.sent,
            fec_recovered: self.protection.recovered,
            redundancy: (self.totals.retransmits + self.totals.copies + self.protection.sent) as f64
                / self.totals.packets_in.max(1) as f64,
            dropped_packets: self.totals.dropped,
            unrecoverable: self.totals.unrecoverable,
            far_end: self.quality.snapshot(),
            links,
        };
        snapshot.links.sort_by_key(|link| link.link);
        snapshot
    }
}

fn link_snapshot(slot: &Slot, now: Timestamp) -> SenderLinkSnapshot {
    let link = &slot.link;
    SenderLinkSnapshot {
        link: link.id,
        name: link.options.name.clone(),
        state: link.state,
        rtt: link.rtt.smoothed().map(of_micros),
        queue_delay: of_micros(link.delay.queue()),
        send_rate: link.send_meter.rate(now),
        capacity: Bitrate::from_bps((link.rate() * 8.0) as u64),
        goodput: link.goodput_meter.rate(now),
        loss: LossRatio::new(link.loss()),
        in_flight_packets: link.sent.in_flight_packets(),
        in_flight_bytes: ByteCount::new(link.sent.in_flight_bytes()),
        packets_sent: link.counters.packets_sent,
        bytes_sent: ByteCount::new(link.counters.bytes_sent),
        retransmits: link.counters.retransmits,
        packets_lost: link.counters.lost,
        nacks_received: link.counters.nacks,
        datagram_bytes_max: slot.mtu.fits(),
        budget_spent: link.budget_spent(),
        shares_bottleneck_with: Vec::new(),
        shared_correlation: None,
        ecn: link.ecn.state(),
        ce_share: LossRatio::new(link.ecn.marked().0),
        ce_packets: link.ecn.marked().1,
    }
}
