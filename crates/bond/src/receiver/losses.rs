//! What a flow lost, summed up for the operator: a bad second makes hundreds of gaps and one event.

use std::time::Duration;
use units::{Timestamp, as_millis_f64};

use crate::event::Cause;

/// Losses are gathered for so long before they are told.
const GATHER_MIN: Duration = Duration::from_secs(1);
/// While losses go on this doubles, up to so long.
const GATHER_MAX: Duration = Duration::from_secs(16);
/// A pause between two packets that is worth telling as the cause.
const SILENCE_MIN: Duration = Duration::from_millis(100);

/// The losses of one flow.
#[derive(Debug)]
pub(super) struct Losses {
    sum: Option<Sum>,
    gather: Duration,
    told_at: Timestamp,
    /// The longest pause that losses of these days may come from, and when it ended.
    silence: (Timestamp, Duration),
}

#[derive(Debug)]
struct Sum {
    since: Timestamp,
    packets: u64,
    gaps: u64,
    /// Packets of the flow that had come too late before.
    late_before: u64,
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self { sum: None, gather: GATHER_MIN, told_at: Timestamp::ZERO, silence: (Timestamp::ZERO, Duration::ZERO) }
    }

    /// A packet comes after `pause` without any.
    pub(super) fn heard(&mut self, now: Timestamp, pause: Duration, latency: Duration) {
        // What was missing in a pause is missed at its time, which may be the budget later. While losses are gathered the
        // longest pause counts.
        let gathered_since = self.sum.as_ref().map_or(now, |sum| sum.since);
        let stale = gathered_since - self.silence.0 > latency + GATHER_MIN;
        if pause >= SILENCE_MIN && (pause > self.silence.1 || stale) {
            self.silence = (now, pause);
        }
    }

    /// `packets` in a row were not there at their time; `late` came after theirs since the flow began.
    pub(super) fn add(&mut self, now: Timestamp, packets: u64, late: u64) {
        let sum = self.sum.get_or_insert_with(|| {
            let goes_on = self.told_at > Timestamp::ZERO && now - self.told_at < self.gather;
            self.gather = if goes_on { (self.gather * 2).min(GATHER_MAX) } else { GATHER_MIN };
            Sum { since: now, packets: 0, gaps: 0, late_before: late }
        });
        sum.packets += packets;
        sum.gaps += 1;
    }

    /// The sum, when it is to be told, or at the end of its flow.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        flow: u32,
        late: u64,
        latency: Duration,
        flow_ends: bool,
    ) -> Option<Cause> {
        let gather = self.gather;
        let sum = self.sum.take_if(|sum| flow_ends || now - sum.since >= gather)?;
        self.told_at = now;
        let (ended_at, silence) = std::mem::replace(&mut self.silence, (now, Duration::ZERO));
        let is_cause = ended_at + latency + GATHER_MIN >= sum.since;
        Some(Cause::Lost {
            flow,
            packets: sum.packets,
            gaps: sum.gaps,
            late: late - sum.late_before,
            silence_ms: if is_cause { as_millis_f64(silence) } else { 0.0 },
            over_ms: as_millis_f64(now - sum.since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// Packets, gaps, late ones and silence of what is told from `from` to `to` with two packets lost every 50 ms.
    fn told(losses: &mut Losses, from: u64, to: u64) -> Vec<(u64, u64, u64)> {
        let mut told = Vec::new();
        for ms in (from..to).step_by(50) {
            losses.add(at(ms), 2, ms / 100);
            if let Some(Cause::Lost { packets, gaps, late, .. }) = losses.take(at(ms), 7, ms / 100, LATENCY, false) {
                told.push((packets, gaps, late));
            }
        }
        told
    }

    #[test]
    fn losses_that_go_on_are_told_ever_less_often_and_none_is_forgotten() {
        let mut losses = Losses::new();
        let first = told(&mut losses, 1000, 60_000);
        assert_eq!(first[0], (42, 21, 10), "after a second");
        assert_eq!(first.len(), 6, "1, 2, 4, 8, 16 and 16 s: {first:?}");
        let rest = losses.take(at(60_000), 7, 600, LATENCY, true);
        let Some(Cause::Lost { packets, .. }) = rest else { panic!("{rest:?}") };
        assert_eq!(first.iter().map(|told| told.0).sum::<u64>() + packets, 2 * 59 * 20);
        assert_eq!(told(&mut losses, 90_000, 91_100).len(), 1, "after a good time it begins anew");
    }

    #[test]
    fn a_silence_before_the_loss_is_its_cause_and_an_older_one_is_not() {
        let mut losses = Losses::new();
        let silence = |losses: &mut Losses, lost_at: u64| {
            losses.add(at(lost_at), 9, 0);
            match losses.take(at(lost_at + 1000), 7, 0, LATENCY, false) {
                Some(Cause::Lost { silence_ms, over_ms, .. }) => (silence_ms, over_ms),
                other => panic!("{other:?}"),
            }
        };
        losses.heard(at(10_000), Duration::from_millis(800), LATENCY);
        losses.heard(at(10_100), Duration::from_millis(100), LATENCY);
        assert_eq!(silence(&mut losses, 10_400), (800.0, 1000.0));
        losses.heard(at(20_000), Duration::from_millis(900), LATENCY);
        assert_eq!(silence(&mut losses, 30_000), (0.0, 1000.0), "long ago");
        losses.heard(at(40_000), Duration::from_millis(20), LATENCY);
        assert_eq!(silence(&mut losses, 40_100), (0.0, 1000.0), "no silence at all");
    }

    #[test]
    fn a_short_pause_does_not_hide_the_long_one_of_the_same_sum() {
        let mut losses = Losses::new();
        losses.add(at(10_000), 1, 0);
        losses.heard(at(10_100), Duration::from_millis(800), LATENCY);
        losses.heard(at(11_900), Duration::from_millis(110), LATENCY);
        let told = losses.take(at(12_000), 7, 0, LATENCY, false);
        assert!(matches!(told, Some(Cause::Lost { silence_ms: 800.0, .. })), "{told:?}");
    }
}
