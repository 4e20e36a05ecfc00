//! Payloads that fit the paths of the links.

use bytes::Bytes;
use units::Timestamp;

use super::{Sender, Slot, Standing};
use crate::event::Cause;

/// Bytes of a TS packet.
const TS_PACKET_BYTES: usize = 188;
/// The usual payload: seven TS packets.
pub(super) const PAYLOAD_BYTES_USUAL: usize = 7 * TS_PACKET_BYTES;
/// Payloads are not made shorter than this for a link's sake while others take it: 60 bytes of headers on each would cost
/// all links more than the narrow one brings.
const PAYLOAD_BYTES_WORTH: usize = 5 * TS_PACKET_BYTES;

impl Sender {
    /// The longest payload that fits the links in use, in bytes: a whole number of TS packets, seven at most.
    ///
    /// A source that packs TS packets should follow it. Longer payloads are cut between TS packets, which costs headers;
    /// payloads that are no transport stream go over links that take them.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// The links whose path does not take a payload of so many bytes, one bit a slot; none when no link takes it.
    pub(super) fn too_narrow(&self, payload_bytes: usize) -> u16 {
        let narrow = |slot: &Slot| slot.mtu.fits() < slot.control.media_bytes(payload_bytes);
        let (mut mask, mut wide) = (0, false);
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.as_ref().filter(|slot| slot.link.usable()) else { continue };
            if narrow(slot) {
                mask |= 1 << index;
            } else {
                wide = true;
            }
        }
        if wide { mask } else { 0 }
    }

    /// True when it is known of every link that it does not take a payload of so many bytes.
    pub(super) fn fits_nowhere(&self, payload_bytes: usize) -> bool {
        let mut usable = self.slots.iter().flatten().filter(|slot| slot.link.usable()).peekable();
        usable.peek().is_some()
            && usable.all(|slot| slot.mtu.settled() && slot.mtu.fits() < slot.control.media_bytes(payload_bytes))
    }

    /// Gives up what waits and fits nowhere: it was numbered before the paths were known.
    fn drop_too_long(&mut self) {
        let long = |number: &u64| self.history.get(*number).is_some_and(|packet| self.fits_nowhere(packet.bytes.len()));
        let hopeless: Vec<u64> = self.history.pending().filter(long).collect();
        self.totals.dropped += hopeless.len() as u64;
        for number in hopeless {
            self.history.settle(number, Standing::Dropped);
        }
    }

    /// Follows what the paths take.
    pub(super) fn limit_payloads(&mut self, now: Timestamp) {
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            let (before, fits) = (slot.mtu_told, slot.mtu.fits());
            if before != fits && slot.mtu.settled() {
                slot.mtu_told = fits;
                let (link, name) = (slot.link.id, slot.link.options.name.clone());
                self.note(now, Cause::LinkMtu { link, name, before, now: fits });
            }
        }
        let known = self.slots.iter().flatten().any(|slot| slot.link.usable() && slot.mtu.settled());
        // What is accepted before any link is up will travel on those that are there.
        let none_usable = !self.slots.iter().flatten().any(|slot| slot.link.usable());
        let room = self.room_for_repair(now);
        let limits = || {
            let usable = self.slots.iter().flatten().filter(|slot| slot.link.usable() || none_usable);
            // What is only suspected of one link is no reason to bother the source while others carry on.
            let counted = usable.filter(move |slot| !known || slot.mtu.settled());
            counted.map(|slot| usize::from(slot.mtu.fits().saturating_sub(slot.control.media_bytes(room))))
        };
        let worth = limits().filter(|limit| *limit >= PAYLOAD_BYTES_WORTH).min();
        let Some(limit) = worth.or_else(|| limits().max()) else { return };
        let packets = (limit / TS_PACKET_BYTES).max(1);
        let limit = (packets * TS_PACKET_BYTES).min(PAYLOAD_BYTES_USUAL);
        let before = std::mem::replace(&mut self.payload_bytes_max, limit);
        if before != limit {
            self.drop_too_long();
            self.note(now, Cause::PayloadLimit { before, now: limit });
        }
    }

    /// A payload in pieces that fit: one, unless it is a transport stream too long for the links.
    pub(super) fn cut(&self, bytes: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        let limit = self.payload_bytes_max;
        let stream = bytes.len().is_multiple_of(TS_PACKET_BYTES) && bytes[0] == 0x47;
        let size = if stream && bytes.len() > limit {
            // Equal pieces: a short rest would cost as many headers as a full one.
            let pieces = bytes.len().div_ceil(limit);
            (bytes.len() / TS_PACKET_BYTES).div_ceil(pieces) * TS_PACKET_BYTES
        } else {
            bytes.len()
        };
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let length = size.min(rest.len());
            (length > 0).then(|| rest.split_to(length))
        })
    }
}
