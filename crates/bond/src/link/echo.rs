//! What a plain RIST peer's echoes tell of a link (TR-06-1 section 5.2.6).
//!
//! An echo request waits in the same queues as the media before it. So its answer says that everything sent before it on
//! this link has arrived or is lost, and when: that is a report without a bitmap. What is lost the peer's requests tell,
//! later and for the flow as a whole; until then it counts as delivered.

use std::collections::VecDeque;
use units::Timestamp;

use super::Link;
use super::sent::{Outcome, Progress};

/// Requests whose answers are awaited; older ones are forgotten.
const PENDING_MAX: usize = 64;

/// Bytes lost that are subtracted later, at most: after an outage much is asked for that says nothing of the link now.
const OWED_MAX: u64 = 64 * 1024;

/// The count of what was sent on one link, and the requests on their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Echoed {
    next: u32,
    /// `(timestamp in the request, number of its datagram)`, oldest first.
    pending: VecDeque<(u64, u32)>,
    /// Bytes that left the bottleneck, wrapping, as far as is known.
    delivered: u32,
    /// Bytes asked for again that still have to be subtracted.
    owed: u64,
}

impl Echoed {
    /// Numbers a datagram.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Notes that the datagram numbered last carried a request with this timestamp.
    pub(crate) fn asked(&mut self, timestamp: u64) {
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((timestamp, self.next));
    }

    /// The number of the datagram with the request that is answered now; older requests are forgotten.
    fn answered(&mut self, timestamp: u64) -> Option<u32> {
        let index = self.pending.iter().position(|asked| asked.0 == timestamp)?;
        self.pending.drain(..=index).next_back().map(|asked| asked.1)
    }

    fn deliver(&mut self, bytes: u64) -> u32 {
        let paid = self.owed.min(bytes);
        self.owed -= paid;
        self.delivered = self.delivered.wrapping_add((bytes - paid) as u32);
        self.delivered
    }
}

impl Link {
    /// Takes the answer to the request with `timestamp`, `trip_micros` after it was sent; appends what is no longer on its
    /// way to `outcomes`, all as arrived.
    pub(crate) fn on_echo(
        &mut self,
        now: Timestamp,
        timestamp: u64,
        trip_micros: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Progress {
        let Some(echoed) = &mut self.echoed else { return Progress::default() };
        let Some(number) = echoed.answered(timestamp) else { return Progress::default() };
        let progress = self.sent.report(now, number, std::iter::repeat(u32::MAX), outcomes);
        let delivered = echoed.deliver(progress.confirmed_bytes);
        if progress.confirmed > 0 {
            self.delay.push(now, i64::try_from(trip_micros).unwrap_or(i64::MAX));
            self.capacity.push(now.as_micros(), delivered, self.delay.queue_last(), self.delay.jitter());
            self.progress_at = now;
            self.heard_at = Some(now);
            self.note_loss(now, &progress);
        }
        progress
    }

    /// The peer asks for a packet of `bytes` bytes that went over this link: it did not arrive after all.
    pub(crate) fn on_asked(&mut self, now: Timestamp, bytes: usize) {
        let queue = self.queue_with(0);
        if let Some(echoed) = &mut self.echoed {
            echoed.owed = (echoed.owed + bytes as u64).min(OWED_MAX);
            self.note_loss(now, &Progress { lost: 1, queue_lost: queue, ..Progress::default() });
        }
    }

    /// True when a packet that an answer at `passed_at` told of had arrived, or was lost, before the peer asked for it, half
    /// of `asked_trip_micros` ago. Else the request was for what had only been overtaken on other links.
    pub(crate) fn had_passed(&self, now: Timestamp, passed_at: Timestamp, asked_trip_micros: f64) -> bool {
        let asked = now.as_micros() as f64 - asked_trip_micros / 2.0;
        asked >= passed_at.as_micros() as f64 - self.round_trip_low() / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LinkOptions;
    use units::LinkId;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn link() -> Link {
        let mut link = Link::new(ms(0), LinkId(1), LinkOptions::default());
        (link.reported, link.echoed) = (true, Some(Echoed::default()));
        link
    }

    #[test]
    fn an_answer_confirms_everything_sent_before_its_request() {
        let (mut link, mut outcomes) = (link(), Vec::new());
        for number in 0..10 {
            link.on_sent(ms(number), 0, None, 1000, Some(number));
            if number == 6 {
                link.on_sent(ms(6), 0, None, 100, None);
                link.echoed.as_mut().unwrap().asked(6_000);
            }
        }
        let progress = link.on_echo(ms(60), 6_000, 54_000, &mut outcomes);
        assert_eq!((progress.confirmed, progress.confirmed_bytes), (8, 7100));
        assert_eq!(link.sent.in_flight_bytes(), 3000);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Arrived(number) if *number <= 6)));
        assert_eq!(outcomes.len(), 7);
        // The same answer, or one never asked for, tells nothing.
        assert_eq!(link.on_echo(ms(61), 6_000, 55_000, &mut outcomes).confirmed, 0);
        assert_eq!(link.on_echo(ms(61), 9_999, 55_000, &mut outcomes).confirmed, 0);
    }

    #[test]
    fn what_is_asked_for_counts_as_loss_and_not_as_delivered() {
        let (mut link, mut outcomes) = (link(), Vec::new());
        let mut at = 0;
        for round in 0..200u64 {
            for _ in 0..10 {
                at += 5;
                link.on_sent(ms(at), 0, None, 1000, Some(at));
            }
            link.echoed.as_mut().unwrap().asked(round);
            link.on_asked(ms(at), 1000);
            // A standing queue of 100 ms after the first answers.
            let trip = if round < 2 { 20_000 } else { 120_000 };
            link.on_echo(ms(at + trip / 1000), round, trip, &mut outcomes);
        }
        assert!((0.07..0.13).contains(&link.loss()), "{}", link.loss());
        // 10 packets in 50 ms were sent, 9 arrived.
        let rate = link.capacity.estimate();
        assert!((170_000.0..190_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_request_that_other_links_caused_is_known_by_its_time() {
        let mut link = link();
        link.rtt.push(ms(0), 80_000);
        // Passed the far end at 160 ms; asked for at 155, at 165.
        assert!(!link.had_passed(ms(205), ms(200), 100_000.0));
        assert!(link.had_passed(ms(215), ms(200), 100_000.0));
    }
}
