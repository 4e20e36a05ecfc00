//! When protection in advance pays, and how much of it.
//!
//! A retransmission costs a packet only when one was lost, so it is preferred wherever there is time for it. Protection in
//! advance is for packets that no retransmission can surely mend before their time: then repair packets are spread evenly
//! over the source packets at risk, as many as the losses of their links (single ones and bursts) call for.

use std::collections::VecDeque;
use units::Timestamp;

use super::wire::{COVERED_MAX, SPAN_MAX};
use crate::config::LINKS_MAX;

/// A packet may be lost for good with this probability.
const RESIDUAL_TARGET: f64 = 1e-6;
/// Protection in advance begins where retransmissions alone leave more than this.
const RESIDUAL_WORTH: f64 = 1e-5;
/// From a packet's sending to the retransmission of a lost one, beyond the round trip: the next report, waiting for
/// reordered packets or (of a link with bursts) for what should have arrived, and for the retransmission's turn.
const DETECT_MICROS: f64 = 60_000.0;
const DETECT_BURST_MICROS: f64 = 35_000.0;
/// Copies sent in the last affordable round.
const LAST_ROUND_COPIES: usize = 3;
/// Repair packets sent within this share of the window come in time for its oldest packet.
const WINDOW_USED: f64 = 0.85;
/// Source packets at risk that are remembered.
const WINDOW_MAX: usize = 256;
/// Repair packets sent at once, when links had no room for them before.
const BACKLOG_MAX: f64 = 4.0;
/// Repair packets that may leave beyond the share allowed in the long run.
const ALLOWANCE_MAX: f64 = 16.0;

/// What is known of one link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Path {
    /// Share of packets lost in the long run.
    pub loss: f64,
    /// Length of bursts of losses, 0 when losses come singly; in microseconds.
    pub burst_micros: f64,
    /// Lowest round trip in microseconds.
    pub round_trip: f64,
}

/// What a packet on one link is exposed to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Exposure {
    /// Probability that the packet is lost, if retransmissions leave too much of it; else 0.
    pub risk: f64,
    /// Probability that retransmissions fail once it is lost.
    pub rest: f64,
    pub burst_micros: f64,
    /// True when the link loses packets and there is no time for two more tries: others are better.
    pub avoid: bool,
}

/// What packets sent on `paths[index]` are exposed to, when they have `slack_micros` beyond the fastest path.
pub(crate) fn exposure(paths: &[Path], index: usize, slack_micros: f64) -> Exposure {
    let path = paths[index];
    if path.loss <= 0.0 {
        // Nothing to mend: how well it could be does not matter.
        return Exposure { burst_micros: path.burst_micros, ..Exposure::default() };
    }
    // Where bursts are known, silence is enough; elsewhere later packets have to show the gap.
    let detect = if path.burst_micros > 0.0 { DETECT_BURST_MICROS } else { DETECT_MICROS };
    let rounds = (slack_micros.max(0.0) / (path.round_trip + detect)) as u32;
    let mut losses = [1.0; LINKS_MAX];
    losses.iter_mut().zip(paths).for_each(|(loss, path)| *loss = path.loss);
    losses.sort_unstable_by(f64::total_cmp);
    let last_round: f64 = losses.iter().take(LAST_ROUND_COPIES).product();
    let rest = match rounds {
        0 => 1.0,
        // One after the other on the best link, the last on several.
        more => losses[0].powi(more as i32 - 1) * last_round,
    };
    let at_risk = path.loss * rest > RESIDUAL_WORTH;
    Exposure {
        risk: if at_risk { path.loss } else { 0.0 },
        rest,
        burst_micros: path.burst_micros,
        avoid: path.loss > 0.0 && rounds < 2,
    }
}

/// A source packet at risk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub number: u64,
    pub slot: usize,
    pub at: Timestamp,
    pub exposure: Exposure,
}

/// Repair packets for the newest source packets.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    /// Source packets at risk, ascending by number; at most [`WINDOW_MAX`].
    window: VecDeque<Placed>,
    /// Repair packets owed.
    owed: f64,
    /// Repair packets that the share allows at this moment.
    allowance: f64,
    /// Alternates between subsets when the window holds more than fits.
    turn: usize,
    key: u16,
}

impl Planner {
    /// A source packet was sent; `share_max` is the most repair packets per source packet.
    pub(crate) fn on_source(&mut self, share_max: f64, placed: Option<Placed>, window_micros: f64) {
        self.allowance = (self.allowance + share_max).min(ALLOWANCE_MAX);
        let Some(placed) = placed.filter(|placed| placed.exposure.risk > 0.0) else { return };
        if self.window.len() >= WINDOW_MAX {
            self.window.pop_front();
        }
        // Nearly always the newest; a packet too urgent for the links with room is overtaken.
        let at = self.window.partition_point(|known| known.number < placed.number);
        self.window.insert(at, placed);
        let newest = self.window.back().map_or(0, |newest| newest.number);
        while self.window.front().is_some_and(|first| {
            (placed.at - first.at).as_micros() as f64 > window_micros || newest - first.number >= SPAN_MAX
        }) {
            self.window.pop_front();
        }
        self.owed = (self.owed + self.share(window_micros)).min(BACKLOG_MAX);
    }

    /// Repair packets per source packet at risk that the window asks for.
    fn share(&self, window_micros: f64) -> f64 {
        let count = self.window.len().max(1) as f64;
        let expected: f64 = self.window.iter().map(|placed| placed.exposure.risk).sum();
        let rest = self.window.iter().map(|placed| placed.exposure.rest).fold(0.0, f64::max);
        let target = (RESIDUAL_TARGET / rest.max(RESIDUAL_TARGET)).min(0.1);
        let single = tail(expected, target);
        // A burst takes its part of what one link carries.
        let slots = self.window.iter().fold([0.0f64; 64], |mut slots, placed| {
            if let Some(slot) = slots.get_mut(placed.slot) {
                *slot += (placed.exposure.burst_micros / (WINDOW_USED * window_micros).max(1.0)).min(1.0);
            }
            slots
        });
        let burst = slots.iter().copied().fold(0.0, f64::max);
        let burst = if burst > 0.0 { burst + 1.0 } else { 0.0 };
        (single.max(burst) / count).min(1.0)
    }

    /// True for a packet at risk that repair packets cover.
    pub(crate) fn covers(&self, number: u64) -> bool {
        self.window.binary_search_by_key(&number, |placed| placed.number).is_ok()
    }

    /// True when a repair packet shall be sent.
    pub(crate) fn is_due(&self) -> bool {
        self.owed >= 1.0 && self.allowance >= 1.0
    }

    /// True when more than one repair packet waits for a link.
    pub(crate) fn is_pressing(&self) -> bool {
        self.owed >= 2.0
    }

    /// Nothing is owed any more: links have no room.
    pub(crate) fn forgive(&mut self) {
        self.owed = self.owed.min(0.99);
    }

    /// The numbers that the next repair packet covers, ascending: those at risk that are `open`.
    pub(crate) fn cover(&mut self, open: impl Fn(&Placed) -> bool) -> Vec<Placed> {
        self.window.retain(|placed| open(placed));
        let parts = self.window.len().div_ceil(COVERED_MAX).max(1);
        self.turn = (self.turn + 1) % parts;
        self.window.iter().skip(self.turn).step_by(parts).take(COVERED_MAX).copied().collect()
    }

    /// A repair packet is sent now (or not needed); returns its key.
    pub(crate) fn on_repair(&mut self, sent: bool) -> u16 {
        self.owed -= 1.0;
        if sent {
            self.allowance -= 1.0;
        }
        self.next_key()
    }

    pub(crate) fn next_key(&mut self) -> u16 {
        self.key = self.key.wrapping_add(1);
        self.key
    }
}

/// The smallest count that a Poisson distributed number of this mean exceeds with at most `probability`.
pub(crate) fn tail(mean: f64, probability: f64) -> f64 {
    let (mut term, mut below, mut count) = ((-mean).exp(), 0.0, 0.0);
    while count < 128.0 {
        below += term;
        if 1.0 - below <= probability {
            break;
        }
        count += 1.0;
        term *= mean / count;
    }
    count
}

/// Coded packets to add to `missing` retransmissions of the last round, so that with a loss of `loss` each on the links
/// they take no more than one group in a million is incomplete.
pub(crate) fn last_round_extra(missing: usize, loss: f64) -> usize {
    (1..=missing * (LAST_ROUND_COPIES - 1))
        .find(|extra| {
            let sent = (missing + extra) as f64;
            tail(sent * loss, RESIDUAL_TARGET * missing as f64) <= *extra as f64
        })
        .unwrap_or(missing * (LAST_ROUND_COPIES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Path = Path { loss: 0.0, burst_micros: 0.0, round_trip: 80e3 };

    fn lossy(loss: f64) -> Path {
        Path { loss, ..CLEAN }
    }

    #[test]
    fn retransmission_is_preferred_where_there_is_time() {
        // Five percent everywhere, 500 ms, 80 ms round trip: three rounds, nothing in advance.
        let paths = [lossy(0.05); 4];
        assert_eq!(exposure(&paths, 0, 490e3), Exposure { risk: 0.0, avoid: false, ..exposure(&paths, 0, 490e3) });
        // One round left: copies on three links fail rarely enough with two percent, not with twenty.
        assert!(exposure(&[lossy(0.02); 3], 0, 150e3).risk < 1e-9);
        assert!((exposure(&[lossy(0.2); 3], 0, 150e3).risk - 0.2).abs() < 1e-9);
        // None left.
        assert!((exposure(&paths, 0, 130e3).risk - 0.05).abs() < 1e-9);
        assert!(exposure(&[CLEAN, lossy(0.02)], 1, 130e3).avoid);
    }

    #[test]
    fn links_without_loss_get_nothing() {
        let paths = [CLEAN, CLEAN];
        assert_eq!(exposure(&paths, 0, 0.0).risk.to_bits(), 0f64.to_bits());
        let mut planner = Planner::default();
        for number in 0..10_000u64 {
            let placed =
                Placed { number, slot: 0, at: Timestamp::from_millis(number), exposure: exposure(&paths, 0, 0.0) };
            planner.on_source(0.5, Some(placed), 75e3);
            assert!(!planner.is_due());
        }
    }

    /// Sends a packet a millisecond; returns repair packets and the longest time without one.
    fn plan(planner: &mut Planner, exposure: Exposure, share_max: f64, packets: u64) -> (u64, u64) {
        let (mut repairs, mut last, mut longest) = (0, 0, 0);
        for number in 0..packets {
            let placed = Placed { number, slot: (number % 2) as usize, at: Timestamp::from_millis(number), exposure };
            planner.on_source(share_max, Some(placed), 100e3);
            while planner.is_due() {
                let covered = planner.cover(|_| true);
                assert!(covered.len() <= COVERED_MAX && covered.is_sorted_by_key(|placed| placed.number));
                planner.on_repair(true);
                repairs += 1;
                if number > 1000 {
                    longest = longest.max(number - last);
                }
                last = number;
            }
        }
        (repairs, longest)
    }

    #[test]
    fn single_losses_ask_for_their_tail_spread_evenly() {
        let exposure = Exposure { risk: 0.02, rest: 1.0, burst_micros: 0.0, avoid: true };
        let (repairs, longest) = plan(&mut Planner::default(), exposure, 1.0, 10_000);
        // 101 packets in a window lose two in the mean, more than twelve with one in a million.
        assert!((1100..1300).contains(&repairs), "{repairs}");
        assert!(longest <= 10, "{longest}");
    }

    #[test]
    fn bursts_ask_for_their_part_of_a_link_and_the_share_is_capped() {
        let exposure = Exposure { risk: 0.001, rest: 1.0, burst_micros: 50_000.0, avoid: true };
        let (repairs, _) = plan(&mut Planner::default(), exposure, 1.0, 10_000);
        // Half of what one of two links carries, within 85 % of the time, and one more: 30.7 of 101.
        assert!((3000..3100).contains(&repairs), "{repairs}");
        let (repairs, _) = plan(&mut Planner::default(), exposure, 0.15, 10_000);
        assert!((1400..=1520).contains(&repairs), "{repairs}");
    }

    #[test]
    fn the_tail_is_that_of_the_distribution() {
        for (mean, probability, expected) in [(0.0, 1e-6, 0.0), (0.4, 1e-6, 6.0), (2.0, 1e-6, 12.0), (3.0, 1e-2, 8.0)] {
            assert!((tail(mean, probability) - expected).abs() < 1e-9, "{mean}: {}", tail(mean, probability));
        }
        assert!(tail(1e6, 1e-6) <= 128.0);
    }

    #[test]
    fn coded_packets_for_a_group_are_fewer_than_copies() {
        assert_eq!(last_round_extra(1, 0.05), 2);
        assert!(last_round_extra(4, 0.05) < 8, "{}", last_round_extra(4, 0.05));
        assert!(last_round_extra(10, 0.02) <= 6, "{}", last_round_extra(10, 0.02));
    }
}
