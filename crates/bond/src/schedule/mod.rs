//! Which link carries a packet: pure decisions over a small table of candidates.
//!
//! Packets wait in one queue in the order of their deadlines and are pulled by links that have room, so nothing is
//! committed to a link before it must be. A fixed playout time makes order inside the buffer free: what counts is
//! that the packet arrives before its deadline.

/// Microseconds on the common scale: a link's path delay is in the far clock, deadlines too.
pub(crate) type Micros = f64;

/// A link at the moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Index of the link.
    pub slot: usize,
    /// Used only for what lower numbers can not carry.
    pub priority: u8,
    /// When a packet sent now would arrive.
    pub arrival: Micros,
    /// Uncertainty of that.
    pub spread: Micros,
    /// Lowest round trip.
    pub round_trip: Micros,
    /// Share of packets lost.
    pub loss: f64,
    /// Extra cost of a link for its price, and when its losses can not be mended in time.
    pub penalty: Micros,
    /// Believed capacity in bytes per second.
    pub rate: f64,
    /// True when pacing and window let it send now.
    pub ready: bool,
}

/// A packet at the moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// It must have arrived by then.
    pub deadline: Micros,
    /// How long it has been waiting since its source time.
    pub age: Micros,
    /// Links that carry a copy of this round already, one bit a slot.
    pub avoid: u16,
    /// Links that lost a copy, one bit a slot.
    pub lost_on: u16,
    /// The latency budget.
    pub latency: Micros,
    /// True when the expected arrival suffices, however uncertain.
    pub gamble: bool,
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Send it on this slot.
    Send(usize),
    /// A link without room now is better: keep it.
    Wait,
    /// No link can surely deliver it in time.
    Doubtful,
    /// No link can deliver it in time.
    Hopeless,
}

/// Certainty below which another link is looked for: lost or held up, a packet needs time for a second try.
const MARGIN_MICROS: Micros = 10_000.0;
/// Share of the latency budget that a packet has waited for when the second priority class is opened; each further one is opened
/// after half as long again.
const SPILL_SHARE: f64 = 0.15;
/// Extra cost, in its round trips, of a link that lost a copy of this very packet.
const LOST_PENALTY: f64 = 0.5;

/// When a packet sent now has surely arrived.
pub(crate) fn sure_by(candidate: &Candidate) -> Micros {
    candidate.arrival + candidate.spread + MARGIN_MICROS
}

/// How long a packet has waited when so many classes above the best are open to it.
pub(crate) fn spill_age(classes_above: usize, latency: Micros) -> Micros {
    SPILL_SHARE * latency * (2.0 - 2.0 * 0.5f64.powi(classes_above.min(16) as i32))
}

/// How many classes are better than `priority`: what their numbers are does not matter.
fn classes_above(candidates: &[Candidate], priority: u8) -> usize {
    let first_of_class =
        |(i, c): &(usize, &Candidate)| candidates[..*i].iter().all(|before| before.priority != c.priority);
    candidates.iter().enumerate().filter(first_of_class).filter(|(_, c)| c.priority < priority).count()
}

/// Chooses a link for a packet.
pub(crate) fn choose(candidates: &[Candidate], ask: &Ask) -> Choice {
    let best_priority = candidates.iter().map(|c| c.priority).min().unwrap_or(0);
    let mut best: Option<(Micros, usize)> = None;
    let (mut sure, mut reachable) = (candidates.is_empty(), false);
    for candidate in candidates {
        let needed = if ask.gamble { candidate.arrival } else { sure_by(candidate) };
        reachable |= candidate.arrival <= ask.deadline;
        sure |= needed <= ask.deadline;
        if !candidate.ready || ask.avoid >> candidate.slot & 1 == 1 {
            continue;
        }
        let is_best = candidate.priority == best_priority;
        if !is_best && ask.age < spill_age(classes_above(candidates, candidate.priority), ask.latency) {
            continue;
        }
        if needed > ask.deadline {
            continue;
        }
        // Loss costs a second round in the mean.
        let mut cost = candidate.arrival + candidate.loss * 2.0 * candidate.round_trip + candidate.penalty;
        if ask.lost_on >> candidate.slot & 1 == 1 {
            cost += LOST_PENALTY * candidate.round_trip;
        }
        if best.is_none_or(|(lowest, _)| cost < lowest) {
            best = Some((cost, candidate.slot));
        }
    }
    match best {
        Some((_, slot)) => Choice::Send(slot),
        None if sure => Choice::Wait,
        None if reachable => Choice::Doubtful,
        None => Choice::Hopeless,
    }
}

/// How many copies to send at once, so that the packet is lost with at most one in a million: one while another round
/// still fits, more in the last.
pub(crate) fn copies(candidates: &[Candidate], ask: &Ask, loss: f64, round_trip: Micros) -> u8 {
    const TARGET: f64 = 1e-6;
    const COPIES_MAX: f64 = 3.0;
    const DETECT_MICROS: Micros = 30_000.0;
    let earliest = candidates.iter().map(|c| c.arrival).fold(f64::MAX, f64::min);
    let rounds = (ask.deadline - earliest) / (round_trip + DETECT_MICROS);
    if rounds >= 1.0 || loss < 1e-4 {
        return 1;
    }
    (TARGET.ln() / loss.clamp(1e-4, 0.9).ln()).ceil().clamp(1.0, COPIES_MAX.min(candidates.len() as f64)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(slot: usize, arrival_ms: f64, ready: bool) -> Candidate {
        Candidate {
            slot,
            priority: 0,
            arrival: arrival_ms * 1e3,
            spread: 2e3,
            round_trip: 40e3,
            loss: 0.0,
            penalty: 0.0,
            rate: 1e6,
            ready,
        }
    }

    fn ask(deadline_ms: f64) -> Ask {
        Ask { deadline: deadline_ms * 1e3, age: 0.0, avoid: 0, lost_on: 0, latency: 1e6, gamble: false }
    }

    #[test]
    fn the_earliest_arrival_with_room_carries_the_packet() {
        assert_eq!(choose(&[link(0, 90.0, true), link(1, 20.0, true)], &ask(1000.0)), Choice::Send(1));
        assert_eq!(choose(&[link(0, 90.0, true), link(1, 20.0, false)], &ask(1000.0)), Choice::Send(0));
    }

    #[test]
    fn a_slow_link_is_no_choice_for_an_urgent_packet() {
        assert_eq!(choose(&[link(0, 90.0, true), link(1, 20.0, false)], &ask(95.0)), Choice::Wait);
        assert_eq!(choose(&[link(0, 90.0, true), link(1, 20.0, false)], &ask(25.0)), Choice::Doubtful);
        assert_eq!(choose(&[link(0, 90.0, true), link(1, 20.0, false)], &ask(15.0)), Choice::Hopeless);
        assert_eq!(choose(&[], &ask(15.0)), Choice::Wait);
    }

    #[test]
    fn a_second_try_prefers_another_link_and_a_copy_must() {
        let links = [link(0, 20.0, true), link(1, 30.0, true)];
        assert_eq!(choose(&links, &Ask { lost_on: 1, ..ask(500.0) }), Choice::Send(1));
        assert_eq!(choose(&links, &Ask { avoid: 2, lost_on: 1, ..ask(500.0) }), Choice::Send(0));
        assert_eq!(choose(&links, &Ask { avoid: 3, ..ask(500.0) }), Choice::Wait);
    }

    #[test]
    fn a_reserve_link_waits_for_packets_that_wait() {
        let links = [link(0, 20.0, false), Candidate { priority: 1, ..link(1, 30.0, true) }];
        assert_eq!(choose(&links, &ask(900.0)), Choice::Wait);
        assert_eq!(choose(&links, &Ask { age: 160e3, ..ask(900.0) }), Choice::Send(1));
        assert_eq!(choose(&links[1..], &ask(900.0)), Choice::Send(1));
    }

    #[test]
    fn copies_belong_to_the_last_round() {
        let links = [link(0, 20.0, true), link(1, 30.0, true), link(2, 40.0, true)];
        assert_eq!(copies(&links, &ask(500.0), 0.05, 40e3), 1);
        assert_eq!(copies(&links, &ask(60.0), 0.05, 40e3), 3);
        assert_eq!(copies(&links, &ask(60.0), 0.0, 40e3), 1);
        assert_eq!(copies(&links[..1], &ask(60.0), 0.05, 40e3), 1);
    }
}
