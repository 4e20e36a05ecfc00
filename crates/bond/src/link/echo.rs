//! What a plain RIST peer's echoes tell of a link (TR-06-1 section 5.2.6).
//!
//! An echo request waits in the same queues as the media before it. So its answer says that everything sent before it on
//! this link has arrived or is lost, and when: that is a report without a bitmap. What is lost the peer's requests tell,
//! later and for the flow as a whole; until then it counts as delivered. An answer that does not come tells, too: the link
//! stalls. The more a link carries, the more often it is asked.

use std::collections::VecDeque;
use units::Timestamp;

use super::Link;
use super::sent::{Outcome, Progress};
use super::step::Sample;

/// Requests whose answers are awaited; older ones are forgotten. In a stall they go on, every 50 ms at least.
const PENDING_MAX: usize = 256;

/// A request with its headers and those of its compound, in bytes,
const REQUEST_BYTES: f64 = 110.0;
/// and the share of a link's capacity that requests take. (TR-06-1 allows RTCP 5 % of the media.)
const REQUEST_SHARE: f64 = 0.02;
/// Time between requests while media is on its way, in microseconds.
const REQUEST_INTERVAL_MIN: f64 = 20_000.0;
const REQUEST_INTERVAL_MAX: f64 = 50_000.0;
/// What a peer may take to answer; librist looks every 5 ms.
pub(crate) const ANSWER_MICROS: f64 = 10_000.0;
/// After so many intervals without an answer (on top of 2.5 round trips) a link is suspect: as many must have been lost.
pub(crate) const ECHOES_MISSED: f64 = 3.0;

/// Bytes lost that are subtracted later, at most: after an outage much is asked for that says nothing of the link now.
const OWED_MAX: u64 = 64 * 1024;

/// An answer later than this tells of a stall, which says little of what the link carries after it:
const STALLED_MICROS: f64 = 100_000.0;
/// the estimate falls by this share of the way.
const STALLED_FALL: f64 = 0.4;

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// In the request.
    timestamp: u64,
    at: Timestamp,
    /// Number of its datagram.
    number: u32,
    /// Bytes sent before it.
    sent: u64,
}

/// The count of what was sent on one link, and the requests on their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Echoed {
    next: u32,
    /// Bytes sent.
    sent: u64,
    /// Oldest first.
    pending: VecDeque<Asked>,
    /// Bytes sent before the request answered last, and when the answer came.
    answered: Option<(u64, Timestamp)>,
    /// Bytes that left the bottleneck, wrapping, as far as is known.
    delivered: u32,
    /// Bytes asked for again that still have to be subtracted.
    owed: u64,
}

impl Echoed {
    /// Numbers a datagram of `bytes` bytes.
    pub(crate) fn next_number(&mut self, bytes: usize) -> u32 {
        self.sent += bytes as u64;
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Notes that the datagram numbered last carried a request with this timestamp.
    pub(crate) fn asked(&mut self, now: Timestamp, timestamp: u64) {
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(Asked { timestamp, at: now, number: self.next, sent: self.sent });
    }

    /// The request that is answered now; older requests are forgotten.
    fn answered(&mut self, now: Timestamp, timestamp: u64) -> Option<Asked> {
        let index = self.pending.iter().position(|asked| asked.timestamp == timestamp)?;
        let asked = self.pending.drain(..=index).next_back()?;
        self.answered = Some((asked.sent, now));
        Some(asked)
    }

    /// How much longer than the link needs at `rate` bytes per second the next answer has been coming, in microseconds.
    pub(crate) fn late(&self, now: Timestamp, round_trip: f64, rate: f64) -> Option<f64> {
        let ((before, answered_at), asked) = self.answered.zip(self.pending.front())?;
        let after_sending = (now - asked.at).as_micros() as f64 - round_trip;
        let ahead = asked.sent.saturating_sub(before) as f64 * 1e6 / rate;
        let after_answer = (now - answered_at).as_micros() as f64 - ahead;
        Some(after_sending.min(after_answer))
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
        let late = echoed.late(now, self.rtt.low().unwrap_or(0.0), self.capacity.estimate()).unwrap_or(0.0);
        let since = echoed.answered.map(|(_, at)| at);
        let Some(asked) = echoed.answered(now, timestamp) else { return Progress::default() };
        let progress = self.sent.report(now, asked.number, std::iter::repeat(u32::MAX), outcomes);
        let delivered = echoed.deliver(progress.confirmed_bytes);
        let believed = self.capacity.estimate();
        if let Some(since) = since.filter(|_| late > STALLED_MICROS) {
            let rate = progress.confirmed_bytes as f64 * 1e6 / (now - since).as_micros() as f64;
            self.capacity.restart(believed + (rate - believed).min(0.0) * STALLED_FALL);
        }
        if progress.confirmed > 0 {
            let trip = i64::try_from(trip_micros).unwrap_or(i64::MAX);
            let base = self.delay.base().unwrap_or(trip);
            self.delay.push(now, trip);
            let sample = Sample { at: now, sent_at: asked.at, one_way: trip, round_trip: trip_micros, coarse: true };
            self.watch_step(sample, base, believed);
            self.capacity.push(now.as_micros(), delivered, self.delay.queue_last(), self.delay.jitter());
            self.progress_at = now;
            self.heard_at = Some(now);
            self.note_loss(now, &progress);
        }
        progress
    }

    /// Time between requests while media is on its way, in microseconds.
    pub(crate) fn echo_interval(&self) -> f64 {
        let interval = REQUEST_BYTES * 1e6 / (REQUEST_SHARE * self.capacity.estimate());
        interval.clamp(REQUEST_INTERVAL_MIN, REQUEST_INTERVAL_MAX)
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
    use units::{Ecn, LinkId};

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
            link.on_sent(ms(number), 0, None, 1000, Some(number), Ecn::NotEct);
            if number == 6 {
                link.on_sent(ms(6), 0, None, 100, None, Ecn::NotEct);
                link.echoed.as_mut().unwrap().asked(ms(6), 6_000);
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
                link.on_sent(ms(at), 0, None, 1000, Some(at), Ecn::NotEct);
            }
            link.echoed.as_mut().unwrap().asked(ms(at), round);
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

    /// Two requests, 50 ms and 20 kB apart, on a link of 400 kB/s with a round trip of 40 ms; the first is answered.
    fn asked_twice() -> Link {
        let (mut link, mut outcomes) = (link(), Vec::new());
        for request in 0..2 {
            link.echoed.as_mut().unwrap().asked(ms(request * 50), request);
            for number in 0..20 {
                link.on_sent(ms(request * 50), 0, None, 1000, Some(request * 20 + number), Ecn::NotEct);
            }
        }
        link.rtt.push(ms(40), 40_000);
        link.capacity.restart(400_000.0);
        link.on_echo(ms(40), 0, 40_000, &mut outcomes);
        link
    }

    #[test]
    fn a_link_stalls_when_an_answer_takes_longer_than_what_is_in_front_of_it() {
        let link = asked_twice();
        // 20 kB pass in 50 ms; the answer is patiently waited for.
        let patience = (1.5 * (REQUEST_INTERVAL_MIN + ANSWER_MICROS) + 4.0 * link.delay.jitter()) / 1e3;
        for (after, overdue) in [(0.0, 0.0), (49.0 + patience, 0.0), (60.0 + patience, 10.0), (250.0 + patience, 200.0)]
        {
            let told = link.overdue(ms(40 + after as u64)) / 1e3;
            assert!((told - overdue).abs() < 1.5, "{after} ms: {told} ms");
        }
        assert!((link.rate() - 400_000.0).abs() < 1.0, "what it carries when it goes on is another matter");
        assert!(link.moving(ms(500)) < 1e-3);
    }

    #[test]
    fn a_stall_takes_little_of_what_is_believed_of_a_link() {
        let (mut link, mut outcomes) = (asked_twice(), Vec::new());
        link.on_echo(ms(1040), 1, 990_000, &mut outcomes);
        assert!((200_000.0..300_000.0).contains(&link.rate()), "{}", link.rate());
        assert!(link.overdue(ms(1040)) < 1.0);
    }

    #[test]
    fn requests_take_a_fiftieth_of_a_link() {
        let mut link = link();
        for (rate, interval) in [(1e6, 20_000.0), (137_500.0, 40_000.0), (20_000.0, 50_000.0)] {
            link.capacity.restart(rate);
            assert!((link.echo_interval() - interval).abs() < 1.0, "{rate}: {}", link.echo_interval());
        }
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
