//! Events of causes: what the links did that the operator may notice.

use std::time::Duration;
use units::{Bitrate, LossRatio, Timestamp, as_millis_f64};

use super::{LinkState, Sender};
use crate::event::{Cause, EcnFault};
use crate::link::watch::{Change, Figures};
use crate::stats::EcnState;

/// Time between two looks.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// The advice is told when it left these shares of what was told before.
const ADVICE_FALL: f64 = 0.8;
const ADVICE_GROWTH: f64 = 1.25;
/// Least time between two events of the advice; a growing advice is told when it has come to rest, or after this.
const ADVICE_CALM: Duration = Duration::from_secs(2);

/// A link that nobody has answered for so long is told of.
const UNANSWERED: Duration = Duration::from_secs(5);

/// What was told of the advice.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdviceTold {
    advice: Bitrate,
    /// Not again before.
    from: Timestamp,
}

impl AdviceTold {
    pub(super) const fn new() -> Self {
        Self { advice: Bitrate::ZERO, from: Timestamp::ZERO }
    }

    /// The advice told before, when `now`'s is worth telling.
    fn update(&mut self, now: Timestamp, advice: Bitrate) -> Option<Bitrate> {
        let before = self.advice;
        let share = advice.as_bps() as f64 / before.as_bps().max(1) as f64;
        if now < self.from || (ADVICE_FALL..ADVICE_GROWTH).contains(&share) || advice == before {
            return None;
        }
        *self = Self { advice, from: now + ADVICE_CALM };
        Some(before)
    }
}

impl Sender {
    /// Looks at links and advice, and tells what changed.
    pub(super) fn tell_causes(&mut self, now: Timestamp) {
        for index in 0..self.slots.len() {
            self.tell_ecn(now, index);
            self.tell_unanswered(now, index);
            let Some(slot) = &mut self.slots[index] else { continue };
            if let Some(packets) = slot.watch.take_reinjected(now) {
                let (link, name) = (slot.link.id, slot.link.options.name.clone());
                self.note(now, Cause::Reinjected { link, name, packets });
            }
            let Some(slot) = &mut self.slots[index] else { continue };
            if slot.link.state != LinkState::Up || !slot.link.reported {
                slot.watch.pause();
                continue;
            }
            let link = &slot.link;
            let figures = Figures {
                queue: link.delay.queue(),
                capacity: link.rate(),
                loss: link.loss(),
                marked: link.ecn.marked().0,
            };
            let Some(change) = slot.watch.update(now, figures) else { continue };
            let (link, name) = (link.id, link.options.name.clone());
            let bits = |bytes: f64| Bitrate::from_bps((bytes * 8.0) as u64);
            self.note(
                now,
                match change {
                    Change::Capacity(before, now) => Cause::LinkCapacity {
                        link,
                        name,
                        queue_before_ms: before.queue / 1e3,
                        queue_now_ms: now.queue / 1e3,
                        before: bits(before.capacity),
                        now: bits(now.capacity),
                    },
                    Change::Loss(before, now) => {
                        Cause::LinkLoss { link, name, before: LossRatio::new(before), now: LossRatio::new(now) }
                    }
                    Change::Marked(before, now) => {
                        Cause::LinkMarked { link, name, before: LossRatio::new(before), now: LossRatio::new(now) }
                    }
                },
            );
        }
        let advice = self.rate_advice(now);
        if advice > Bitrate::ZERO
            && self.totals.packets_in > 0
            && let Some(before) = self.advice_told.update(now, advice)
        {
            self.note(now, Cause::RateAdvice { before, now: advice });
        }
    }

    /// Tells of a link that sends and is not answered, once until it is.
    fn tell_unanswered(&mut self, now: Timestamp, index: usize) {
        let Some(slot) = &mut self.slots[index] else { return };
        let waited = slot.link.in_state(now);
        match slot.link.state {
            LinkState::Up => slot.unanswered_told = false,
            LinkState::Probe if slot.listening.is_none() && waited >= UNANSWERED && !slot.unanswered_told => {
                slot.unanswered_told = true;
                let (link, name) = (slot.link.id, slot.link.options.name.clone());
                self.note(now, Cause::LinkUnanswered { link, name, waited_ms: as_millis_f64(waited) });
            }
            _ => {}
        }
    }

    /// Tells what a link's path does with congestion marks, when that is something else than was told.
    fn tell_ecn(&mut self, now: Timestamp, index: usize) {
        let Some(slot) = &mut self.slots[index] else { return };
        let state = slot.link.ecn.state();
        let (link, name) = (slot.link.id, slot.link.options.name.clone());
        let cause = match state {
            // A link that is not up is tested again; only another result is news.
            EcnState::Off | EcnState::Testing => return,
            _ if slot.ecn_told == Some(state) => return,
            EcnState::InUse => Cause::EcnUsed { link, name },
            EcnState::Cleared => Cause::EcnRefused { link, name, fault: EcnFault::Cleared },
            EcnState::BlackHole => Cause::EcnRefused { link, name, fault: EcnFault::BlackHole },
            EcnState::AllMarked => Cause::EcnRefused { link, name, fault: EcnFault::AllMarked },
        };
        slot.ecn_told = Some(state);
        self.note(now, cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_told_when_it_moved_notably_and_not_too_often() {
        let mut told = AdviceTold::new();
        let kbps = Bitrate::from_kbps;
        assert_eq!(told.update(Timestamp::from_millis(0), kbps(3000)), Some(Bitrate::ZERO));
        assert_eq!(told.update(Timestamp::from_millis(500), kbps(1000)), None, "too soon");
        assert_eq!(told.update(Timestamp::from_millis(2500), kbps(2600)), None, "too little");
        assert_eq!(told.update(Timestamp::from_millis(2600), kbps(900)), Some(kbps(3000)));
        assert_eq!(told.update(Timestamp::from_millis(9000), kbps(1200)), Some(kbps(900)));
    }
}
