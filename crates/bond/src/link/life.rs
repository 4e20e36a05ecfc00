//! The life of a link: probed, up, suspect, down; what moves it from one state to another, and why.

use std::time::Duration;
use units::Timestamp;

use super::echo::ECHOES_MISSED;
use super::path_check::Look;
use super::sent::{Outcome, Progress};
use super::{CAPACITY_MIN, CAPACITY_START, EMPTY_PACKETS, Link, PACKET_BYTES};
use crate::event::StateReason;
use crate::stats::LinkState;

/// Without confirmation for so long, and longer than 2.5 round trips, a link is suspect.
const SUSPECT_AFTER_MICROS: f64 = 150_000.0;
/// A suspect link is down after this.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// The capacity of a link that was down for so long is trusted again, or by half.
const MEMORY_WHOLE: Duration = Duration::from_secs(5);
const MEMORY_HALF: Duration = Duration::from_secs(30);
/// A plain RIST peer answers at least every 100 ms; so much silence makes a link suspect.
const PLAIN_SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// So much silence makes it down.
const PLAIN_DOWN_AFTER: Duration = Duration::from_secs(2);

/// A state change, for the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub from: LinkState,
    pub to: LinkState,
    pub reason: StateReason,
}

/// A link that was down for what the system said, and that the system has not refused for so long, is asked for as if it were new.
const STILL_REFUSED: Duration = Duration::from_secs(5);

impl Link {
    pub(crate) fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// Notes that the far end answered on this link (anything at all).
    pub(crate) fn on_heard(&mut self, now: Timestamp) -> Option<Moved> {
        self.heard_at = Some(now);
        match self.state {
            LinkState::Probe => self.go(now, LinkState::Up, StateReason::Answered),
            // With reports a link is up again when something sent on it has arrived; an answer alone proves only the
            // way back.
            LinkState::Suspect | LinkState::Down if !self.reported => {
                self.go(now, LinkState::Up, StateReason::Answered)
            }
            _ => None,
        }
    }

    /// Notes that something sent on this link has arrived; what was sent before the system refused to send proves nothing.
    pub(crate) fn on_confirmed(&mut self, now: Timestamp, progress: &Progress) -> Option<Moved> {
        let fresh = |refused| progress.newest_sent_at.is_some_and(|sent| sent > refused);
        if progress.confirmed == 0 || self.refused_at.is_some_and(|refused| !fresh(refused)) {
            return None;
        }
        self.refused_at = None;
        match self.state {
            LinkState::Up => None,
            LinkState::Down => {
                // The longer it was away, the less what is known of it is worth.
                let kept = match self.in_state(now) {
                    away if away < MEMORY_WHOLE => self.capacity.estimate(),
                    away if away < MEMORY_HALF => self.capacity.estimate() / 2.0,
                    _ => CAPACITY_START / 2.0,
                };
                self.capacity.restart(kept.max(CAPACITY_MIN));
                self.go(now, LinkState::Up, StateReason::Answered)
            }
            _ => self.go(now, LinkState::Up, StateReason::Answered),
        }
    }

    /// When anything was last heard on or about this link.
    pub(crate) fn heard_at(&self) -> Option<Timestamp> {
        self.heard_at
    }

    /// How long the link has been in its state.
    pub(crate) fn in_state(&self, now: Timestamp) -> Duration {
        now - self.since
    }

    /// Notes that the system refuses to send, for `reason`.
    pub(crate) fn on_error(&mut self, now: Timestamp, reason: StateReason) -> Option<Moved> {
        self.refused_at = Some(now);
        match self.state {
            LinkState::Up => self.go(now, LinkState::Suspect, reason),
            // Nobody can answer what never left.
            LinkState::Probe => self.go(now, LinkState::Down, reason),
            LinkState::Suspect => {
                self.reason = reason;
                None
            }
            LinkState::Down => None,
        }
    }

    /// The far end has closed the link: what is on its way is lost, and what was sent before proves nothing. It is asked on,
    /// for the far end may come again.
    pub(crate) fn on_closed(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) -> Option<Moved> {
        self.refused_at = Some(now);
        self.sent.give_up(outcomes);
        match self.state {
            LinkState::Up | LinkState::Suspect => self.go(now, LinkState::Down, StateReason::FarEndClosed),
            LinkState::Probe | LinkState::Down => None,
        }
    }

    /// Lets time pass, at most 10 ms while anything is on its way; `Down` gives that up. `queue_wanted` is the queue allowed
    /// for in front of the bottleneck, in microseconds.
    pub(crate) fn on_tick(&mut self, now: Timestamp, queue_wanted: f64, outcomes: &mut Vec<Outcome>) -> Option<Moved> {
        self.sent.set_round_trip(Duration::from_micros(self.rtt.low().unwrap_or(0.0) as u64));
        self.sent.forget(now, outcomes);
        let in_flight = self.sent.in_flight_bytes();
        let (low, empty) = (in_flight <= self.drained(queue_wanted), in_flight <= EMPTY_PACKETS * PACKET_BYTES);
        let look = Look {
            queue: self.delay.queue(),
            jitter: self.delay.jitter(),
            queue_wanted,
            crept: self.rtt.crept(),
            coarse: self.echoed.is_some(),
            low,
            empty,
        };
        self.path_check.look(now, &look);
        let silent = self.heard_at.map_or(Duration::ZERO, |at| now - at);
        match self.state {
            LinkState::Up if self.reported => {
                let trips = 2.5 * (self.round_trip_low() + self.delay.queue());
                let patience = match self.echoed {
                    Some(_) => ECHOES_MISSED * self.report_interval() + trips,
                    None => SUSPECT_AFTER_MICROS.max(trips),
                };
                let oldest = self.sent.oldest_waiting()?;
                let waited = (now - self.progress_at.max(oldest)).as_micros() as f64;
                if waited < patience {
                    return None;
                }
                self.go(now, LinkState::Suspect, StateReason::NoReports)
            }
            LinkState::Up if silent > PLAIN_SUSPECT_AFTER => self.go(now, LinkState::Suspect, StateReason::Silent),
            LinkState::Suspect if self.reported && now - self.since > DOWN_AFTER => {
                self.sent.give_up(outcomes);
                self.go(now, LinkState::Down, self.why_silent())
            }
            LinkState::Down if self.reason.is_cause() && self.refused_at.is_none_or(|at| now - at >= STILL_REFUSED) => {
                self.go(now, LinkState::Probe, StateReason::AddressChanged)
            }
            LinkState::Suspect if !self.reported && silent > PLAIN_DOWN_AFTER => {
                self.go(now, LinkState::Down, self.why_silent())
            }
            _ => None,
        }
    }

    /// Why nothing comes over a suspect link: what made it suspect, where that is a cause.
    fn why_silent(&self) -> StateReason {
        if self.reason.is_cause() { self.reason } else { StateReason::Silent }
    }

    pub(super) fn go(&mut self, now: Timestamp, to: LinkState, reason: StateReason) -> Option<Moved> {
        if self.state == to {
            return None;
        }
        self.ecn.pause();
        let moved = Moved { from: self.state, to, reason };
        (self.state, self.since, self.reason) = (to, now, reason);
        Some(moved)
    }
}
