//! Towards a plain RIST peer.
//!
//! A peer that answers echoes is scheduled like one of our own: its answers are reports of a kind ([`crate::link::echo`]).
//! With fixed weights, or a peer without echoes (GStreamer), packets go out at once in fixed shares, and what a link that
//! falls silent carried last is sent again over the others.
//!
//! Such a peer plays everything as late after its source time as the first packet came. So what waited for its first answer
//! gets new times ([`CatchUp`]): else that wait would stay in the latency for good.

use units::Timestamp;

use super::control::RtcpEcho;
use super::transmit::LOOK_MAX;
use super::{Packet, Sender, SenderOutput, Slot, Standing};
use crate::event::Cause;
use crate::link::echo::Echoed;

/// Before a link fell silent, its packets may have been lost for so long already: one interval of the peer's RTCP and some.
const SILENCE_BEGAN_MICROS: f64 = 150_000.0;
/// The shortest time between two copies asked for by a peer without echoes.
const NACK_SPACING_MICROS_MIN: f64 = 10_000.0;

/// Echoes show less than reports do, and losses not at all until the peer asks: the advice relies on so much of what links
/// are believed to carry.
pub(super) const ECHO_TRUST: f64 = 0.96;

/// What waited for the first answer is played so many times as fast as it was made.
const CATCH_UP_SPEED: u32 = 2;

/// New times for what waited for the first answer of a plain peer, and for what follows until nothing is behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct CatchUp {
    /// When the first packet that waited was made.
    made: Timestamp,
    /// When it is sent.
    sent: Timestamp,
}

impl CatchUp {
    fn time(self, source_time: Timestamp) -> Timestamp {
        source_time.max(self.sent + source_time.since(self.made) / CATCH_UP_SPEED)
    }
}

impl Sender {
    /// The far end turned out to be a plain peer: its latency begins with what it is sent now, unless it was sent something
    /// before. What is older than the latency is given up; what was sent keeps its time.
    pub(super) fn begin_catching_up(&mut self, now: Timestamp) {
        let latency = self.config.latency;
        let old = |packet: &Packet| packet.standing == Standing::Open && now - packet.source_time > latency;
        let old: Vec<(u64, bool)> =
            self.history.numbered().filter(|(_, p)| old(p)).map(|(n, p)| (n, p.transmissions > 0)).collect();
        for (number, sent) in old {
            self.history.settle(number, Standing::Dropped);
            self.totals.dropped += u64::from(!sent);
        }
        let unsent = self.history.unsent_from();
        let first = self.history.pending_from(unsent).and_then(|number| self.history.get(number));
        let Some(made) = first.map(|packet| packet.source_time) else { return };
        let catch_up = CatchUp { made, sent: now };
        self.catch_up = Some(catch_up);
        let rtp_base = self.rtp_base;
        self.history.retime(unsent, |packet| {
            packet.source_time = catch_up.time(packet.source_time);
            packet.rtp_time = super::rtp_time(rtp_base, packet.source_time);
        });
    }

    /// The time that a packet made at `source_time` gets.
    pub(super) fn caught_up(&mut self, source_time: Timestamp) -> Timestamp {
        let Some(catch_up) = self.catch_up else { return source_time };
        let time = catch_up.time(source_time);
        if time == source_time {
            self.catch_up = None;
        }
        time
    }

    /// When a packet may be sent first, if it may not now.
    pub(super) fn held_until(&self, now: Timestamp, number: u64) -> Option<Timestamp> {
        self.catch_up?;
        self.history.get(number).map(|packet| packet.source_time).filter(|at| *at > now)
    }

    /// True when the peer's echoes drive the scheduler.
    pub(super) fn is_echo_driven(&self) -> bool {
        self.extension == Some(false)
            && self.slots.iter().flatten().all(|slot| slot.link.options.weight.is_none())
            && self.slots.iter().flatten().any(|slot| slot.link.usable() && slot.link.echoed.is_some())
    }

    /// Lets echoes drive every link on which the peer has answered one.
    pub(super) fn begin_echoes(&mut self) {
        for Slot { link, .. } in self.slots.iter_mut().flatten() {
            if link.rtt.low().is_some() && link.options.weight.is_none() && link.echoed.is_none() {
                link.echoed = Some(Echoed::default());
                link.reported = true;
            }
        }
    }

    /// Takes the answer to one of our echo requests.
    pub(super) fn on_echo(&mut self, now: Timestamp, index: usize, echo: RtcpEcho) {
        let plain = self.extension == Some(false);
        let Some(slot) = &mut self.slots[index] else { return };
        slot.link.rtt.push(now, echo.trip_micros);
        if !plain || slot.link.options.weight.is_some() {
            return;
        }
        if slot.link.echoed.is_none() {
            self.begin_echoes();
            return;
        }
        let progress = slot.link.on_echo(now, echo.timestamp, echo.trip_micros, &mut self.outcomes);
        let moved = slot.link.on_confirmed(now, &progress);
        self.note_moved(now, index, moved);
        self.settle_outcomes(now, index);
    }

    /// The peer asks for a packet. Returns whether it shall be sent again, and which link (a bit) has lost it.
    pub(super) fn is_missed(&mut self, now: Timestamp, index: usize, number: u64) -> Option<u16> {
        // Once per copy: a peer asks again until one arrives.
        let packet = self.history.get(number).filter(|packet| !packet.repair)?;
        let (sent_at, first, bytes) = (packet.sent_at, packet.transmissions == 1, packet.bytes.len());
        let passed_at = packet.passed_at;
        let carrier = usize::from(packet.last_slot);
        let trip = self.slots[index].as_ref().map_or(0.0, |slot| slot.link.round_trip_low());
        let link = self.slots.get_mut(carrier)?.as_mut().map(|slot| &mut slot.link);
        match link.filter(|link| link.echoed.is_some()) {
            // It is on its way; if its link stalls, it is rescued in time, and seldom in vain.
            Some(_) if passed_at.is_none() => None,
            Some(link) if passed_at.is_some_and(|passed_at| link.had_passed(now, passed_at, trip)) => {
                link.on_asked(now, bytes);
                Some(1 << carrier)
            }
            Some(_) => None,
            None => {
                let waited = (now - sent_at).as_micros() as f64;
                (first || waited >= trip.max(NACK_SPACING_MICROS_MIN)).then_some(0)
            }
        }
    }

    /// A link fell silent that nothing tells of what arrived: what it carried lately goes to the others.
    pub(super) fn rescue_from_silence(&mut self, now: Timestamp, index: usize) {
        let Some(Slot { link, .. }) = &self.slots[index] else { return };
        let others = self.slots.iter().flatten().any(|slot| slot.link.usable());
        let Some(heard) = link.heard_at().filter(|_| !link.reported && others) else { return };
        let since = heard.as_micros() as f64 - SILENCE_BEGAN_MICROS;
        let (id, name) = (link.id, link.options.name.clone());
        let latency = self.config.latency;
        let hanging: Vec<u64> = self
            .history
            .numbered()
            .filter(|(_, packet)| usize::from(packet.last_slot) == index && packet.transmissions > 0)
            .filter(|(_, packet)| packet.sent_at.as_micros() as f64 >= since && now - packet.source_time < latency)
            .filter(|(_, packet)| packet.standing == Standing::Open)
            .map(|(number, _)| number)
            .collect();
        for number in &hanging {
            self.history.queue_repair(*number, 0, 1 << index);
        }
        if !hanging.is_empty() {
            self.note(now, Cause::Reinjected { link: id, name, packets: hanging.len() as u64 });
        }
    }

    /// Plain RIST: fixed shares, everything at once, repairs over the link with the shortest round trip.
    pub(super) fn transmit_plain(&mut self, now: Timestamp) -> Result<SenderOutput, Timestamp> {
        let (mut from, mut wake) = (0, Timestamp::MAX);
        for _ in 0..LOOK_MAX {
            let Some(number) = self.history.pending_from(from) else { break };
            if let Some(at) = self.held_until(now, number) {
                return Err(wake.min(at));
            }
            if self.drop_waiting_copy(now, number) {
                continue;
            }
            match self.transmit_one(now, number) {
                Ok(output) => return Ok(output),
                Err(at) => wake = wake.min(at),
            }
            // A copy that waits for its link holds up nothing that nobody has yet.
            if !self.history.get(number).is_some_and(|packet| packet.further) {
                break;
            }
            from = number + 1;
        }
        Err(wake)
    }

    fn transmit_one(&mut self, now: Timestamp, number: u64) -> Result<SenderOutput, Timestamp> {
        let Some(packet) = self.history.get(number) else { return Err(Timestamp::MAX) };
        let narrow = self.too_narrow(packet.bytes.len());
        let avoid = packet.avoid | narrow;
        let (lost_on, repair) = (packet.lost_on, packet.repair);
        let usable = |slot: &Slot| slot.link.usable();
        let duplicate =
            self.slots.iter().flatten().filter(|slot| usable(slot)).all(|slot| slot.link.options.weight == Some(0));
        let mut wake = Timestamp::MAX;
        let mut best: Option<(f64, usize)> = None;
        let fits = |(index, slot): (usize, &Option<Slot>)| {
            let slot = slot.as_ref().filter(|slot| narrow >> index & 1 == 0 && usable(slot))?;
            Some(slot.link.options.priority)
        };
        let lowest = self.slots.iter().enumerate().filter_map(fits).min();
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.as_ref().filter(|slot| usable(slot)) else { continue };
            if avoid >> index & 1 == 1 || Some(slot.link.options.priority) != lowest {
                continue;
            }
            if slot.link.next_send() > now {
                wake = wake.min(slot.link.next_send());
                continue;
            }
            let cost = if repair {
                slot.link.round_trip_low() * if lost_on >> index & 1 == 1 { 2.0 } else { 1.0 }
            } else {
                slot.link.share_from(self.turn)
            };
            if best.is_none_or(|(lowest, _)| cost < lowest) {
                best = Some((cost, index));
            }
        }
        let Some((cost, index)) = best else { return Err(wake) };
        if !repair {
            self.turn = cost;
        }
        if duplicate && !repair {
            let others = self
                .slots
                .iter()
                .enumerate()
                .filter(|(i, slot)| *i != index && avoid >> i & 1 == 0 && fits((*i, slot)) == lowest);
            let left = others.count() as u8;
            if let Some(packet) = self.history.get_mut(number) {
                packet.copies = left + 1;
            }
        }
        Ok(self.send(now, number, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_is_caught_up_with_at_twice_its_speed() {
        let at = Timestamp::from_millis;
        let catch_up = CatchUp { made: at(1000), sent: at(1300) };
        let times = [1000, 1100, 1300, 1600, 1700].map(|ms| catch_up.time(at(ms)));
        assert_eq!(times, [at(1300), at(1350), at(1450), at(1600), at(1700)]);
    }
}
