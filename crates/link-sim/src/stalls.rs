//! The stalls of a link behind a bottleneck that goes on, and what they hold meanwhile.

use std::collections::VecDeque;

use crate::capacity::{MILLI, Nanos};
use crate::config::{Outage, OutageKind};

/// What comes out of the bottleneck in a stall waits for its end, as much as there is room for.
#[derive(Debug)]
pub(crate) struct Stalls {
    /// Ascending by their beginning.
    spans: Vec<Outage>,
    bytes_max: u64,
    /// `(until, bytes)`, in that order.
    held: VecDeque<(Nanos, u64)>,
}

impl Stalls {
    /// Those among `outages`, which are ascending.
    pub(crate) fn new(outages: &[Outage], bytes_max: u64) -> Self {
        let spans = outages.iter().filter(|outage| outage.kind == OutageKind::Hold).copied().collect();
        Self { spans, bytes_max, held: VecDeque::new() }
    }

    /// When what leaves the bottleneck at `leaves` goes on: then, or at the end of the stall.
    pub(crate) fn end(&self, leaves: Nanos) -> Nanos {
        // What one stall lets go may fall into a later one.
        self.spans.iter().fold(leaves, |until, stall| if stall.covers(until) { stall.to_ms * MILLI } else { until })
    }

    /// Holds a packet from `leaves`, which like `now` does not go back, until its [`Stalls::end`]; false when there is no room.
    pub(crate) fn hold(&mut self, now: Nanos, leaves: Nanos, until: Nanos, bytes: u64) -> bool {
        if until <= leaves {
            return true;
        }
        while self.held.pop_front_if(|(until, _)| *until <= now).is_some() {}
        // As full as when this one will leave the bottleneck: what is let go by then counts no more.
        let held: u64 = self.held.iter().filter(|(until, _)| *until > leaves).map(|(_, bytes)| bytes).sum();
        if held + bytes > self.bytes_max {
            return false;
        }
        self.held.push_back((until, bytes));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stalls from 1 to 10, 10 to 20 and 30 to 40 ms that hold 2500 bytes; an outage between that holds nothing.
    fn stalls() -> Stalls {
        let outage = |from_ms, to_ms, kind| Outage { from_ms, to_ms, kind };
        let (hold, lose) = (OutageKind::Hold, OutageKind::Lose);
        Stalls::new(&[outage(1, 10, hold), outage(10, 20, hold), outage(22, 24, lose), outage(30, 40, hold)], 2500)
    }

    #[test]
    fn what_one_stall_lets_go_waits_in_the_next() {
        let ends = [0, 1, 9, 10, 20, 23, 30, 40].map(|ms| stalls().end(ms * MILLI) / MILLI);
        assert_eq!(ends, [0, 20, 20, 20, 20, 23, 40, 40]);
    }

    #[test]
    fn a_stall_holds_as_much_as_there_is_room_for_when_a_packet_comes_to_it() {
        let mut stalls = stalls();
        let mut hold = |now: Nanos, leaves: Nanos, bytes| {
            let until = stalls.end(leaves * MILLI);
            stalls.hold(now * MILLI, leaves * MILLI, until, bytes)
        };
        assert!(hold(0, 0, 9000), "not in a stall");
        assert_eq!([hold(0, 2, 1500), hold(0, 3, 1000), hold(0, 4, 1), hold(0, 20, 9000)], [true, true, false, true]);
        // What the first stalls hold has gone on by then.
        assert_eq!([hold(5, 31, 2500), hold(5, 32, 1)], [true, false]);
        assert_eq!([hold(20, 33, 1), hold(39, 40, 9000)], [false, true]);
        assert_eq!(stalls.held.len(), 1, "what went on is forgotten");
    }
}
