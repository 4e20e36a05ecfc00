//! Repair packets at the receiver: what a flow holds, put into equations; what comes out, put into the flow.

use bytes::Bytes;
use rist::sequence::SequenceNumber;
use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

use super::flow::{Cell, Flow, Origin};
use crate::config::HISTORY_PACKETS_MAX;
use crate::extension::RECOVERED_MAX;
use crate::fec::decoder::{Decoder, Recovered};
use crate::fec::encoder::Source;
use crate::fec::wire::{RepairHead, factor};

/// Delivered packets kept, because a repair packet may cover them too.
const TAIL_MAX: usize = 128;
/// The far end is told of a recovered packet for so long: reports get lost.
const TELL_FOR: Duration = Duration::from_millis(200);

/// What repair packets need beside the packets held.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    decoder: Decoder,
    /// The last packets delivered, oldest first, at most [`TAIL_MAX`]: number, RTP time, payload. Empty until the first
    /// repair packet comes.
    tail: VecDeque<(u64, u32, Bytes)>,
    /// Recovered packets of which the far end shall know; at most [`RECOVERED_MAX`].
    told: VecDeque<(Timestamp, u16)>,
    /// True once a repair packet has come.
    used: bool,
}

impl Repair {
    /// A packet has been delivered.
    pub(crate) fn on_delivered(&mut self, number: u64, rtp_time: u32, bytes: &Bytes) {
        if self.used {
            if self.tail.len() >= TAIL_MAX {
                self.tail.pop_front();
            }
            self.tail.push_back((number, rtp_time, bytes.clone()));
        }
    }

    /// Packets below `number` are delivered or given up.
    pub(crate) fn forget_below(&mut self, number: u64) {
        if !self.decoder.is_empty() {
            self.decoder.forget_below(number);
        }
    }

    fn delivered(&self, number: u64) -> Option<Source<'_>> {
        let index = self.tail.binary_search_by_key(&number, |packet| packet.0).ok()?;
        let (number, rtp_time, bytes) = self.tail.get(index)?;
        Some(Source { number: *number, rtp_time: *rtp_time, bytes })
    }

    /// Numbers recovered lately, for the report made now.
    pub(crate) fn told(&mut self, now: Timestamp) -> impl ExactSizeIterator<Item = u16> + '_ {
        while self.told.front().is_some_and(|told| now - told.0 > TELL_FOR) {
            self.told.pop_front();
        }
        self.told.iter().map(|told| told.1)
    }
}

impl Flow {
    /// Takes a repair packet whose mask begins at `first`.
    pub(crate) fn push_repair(&mut self, now: Timestamp, first: u16, head: &RepairHead, symbol: &[u8]) {
        self.repair.used = true;
        if self.highest().is_none() {
            return;
        }
        self.totals.repairs += 1;
        let first = self.peek(SequenceNumber(first));
        let mut symbol = symbol.to_vec();
        let mut unknown = Vec::new();
        for number in head.covered().map(|distance| first + distance) {
            let factor = factor(head.key, number);
            if let Some(source) = self.held_source(number).or_else(|| self.repair.delivered(number)) {
                source.add_to(&mut symbol, factor);
            } else if number >= self.next && number - self.next < HISTORY_PACKETS_MAX as u64 {
                unknown.push((number, factor));
            } else {
                // It covers a packet that is gone: nothing can be told from it.
                return;
            }
        }
        if self.repair.decoder.push(unknown, symbol) {
            self.take_recovered(now);
        }
    }

    /// A packet arrived that equations may ask for.
    pub(crate) fn teach_repair(&mut self, now: Timestamp, number: u64) {
        if self.repair.decoder.is_empty() {
            return;
        }
        let Some(index) = number.checked_sub(self.next) else { return };
        if let Some(Cell::Held { bytes, rtp_time, .. }) = self.cells.get(index as usize) {
            self.repair.decoder.learn(Source { number, rtp_time: *rtp_time, bytes });
            self.take_recovered(now);
        }
    }

    fn held_source(&self, number: u64) -> Option<Source<'_>> {
        match self.cells.get(usize::try_from(number.checked_sub(self.next)?).ok()?)? {
            Cell::Held { bytes, rtp_time, .. } => Some(Source { number, rtp_time: *rtp_time, bytes }),
            Cell::Missing { .. } => None,
        }
    }

    fn take_recovered(&mut self, now: Timestamp) {
        while let Some(recovered) = self.repair.decoder.poll() {
            let Some(media) = self.plausible(&recovered) else { continue };
            let Recovered { number, rtp_time, bytes } = recovered;
            self.extend(now, number);
            self.hold((number - self.next) as usize, media, rtp_time, Origin::Repaired, bytes);
            self.totals.repaired += 1;
            if self.repair.told.len() >= RECOVERED_MAX {
                self.repair.told.pop_front();
            }
            self.repair.told.push_back((now, number as u16));
        }
    }

    /// The media time of a recovered packet, if it lies between those of its neighbours: numbers ascend with time, so what
    /// contradictory equations make up is found out.
    fn plausible(&self, recovered: &Recovered) -> Option<i64> {
        let index = usize::try_from(recovered.number.checked_sub(self.next)?).ok()?;
        if index >= HISTORY_PACKETS_MAX || recovered.bytes.len() > crate::payload::PAYLOAD_BYTES_MAX {
            return None;
        }
        let media = self.playout.media(recovered.rtp_time)?;
        let time = |cell: &Cell| match cell {
            Cell::Held { media, .. } => Some(*media),
            Cell::Missing { .. } => None,
        };
        let before = self.cells.iter().take(index).rev().find_map(time).unwrap_or(self.last_media);
        let after = self.cells.iter().skip(index + 1).find_map(time).unwrap_or(i64::MAX);
        (before <= media && media <= after).then_some(media)
    }
}
