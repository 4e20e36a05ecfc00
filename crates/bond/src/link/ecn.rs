//! Explicit congestion notification on one link: whether its path carries marks, and what marks do to the pace.
//!
//! A path must show first that it carries ECN (RFC 6679 section 7.2, RFC 9000 section 13.4.2): every second RTCP compound,
//! which nobody misses, leaves as ECT(1), and the far end's counts tell what became of it. Only then media does, too; the
//! counts are compared for as long as it goes on, and so is the fate of the other compounds with that of media. A path that
//! clears the field, drops such packets or marks them whatever the pace is (everything, what takes longer than a part of a
//! packet's service) is left alone for [`RETRY`]; so is the picture.
//!
//! A mark says that a queue is longer than its node wants, long before the delay tells. The answer is that of RFC 9331
//! (Prague): alpha follows the marked share by 1/16, and once in a round trip with marks the pace falls by half of alpha; without,
//! it grows by a packet. It works on the pace alone: how much may be on its way, the queue's delay goes on deciding.

use std::time::Duration;
use units::{Ecn, Timestamp};

use super::PACKET_BYTES;
use super::sent::Progress;
use crate::event::EcnFault;
use crate::extension::Marks;
use crate::stats::EcnState;

/// Capable datagrams whose fate decides whether the path carries ECN.
const TEST_PACKETS: u64 = 6;
/// So many of them must have arrived to tell what the path did to them.
const TEST_ARRIVED: u64 = 3;
/// Datagrams without ECN that must have arrived meanwhile, or nothing is known of the difference.
const TEST_OTHERS: u64 = 3;
/// More of the capable ones lost than this, on a link that loses less than the other of what is not: a black hole.
const LOST_SHARE: f64 = 0.6;
const LOST_SHARE_OTHERS: f64 = 0.3;
/// Confirmed capable datagrams after which the counts are compared again.
const VERIFY_PACKETS: u64 = 64;
/// A path that failed is tested again after this time.
const RETRY: Duration = Duration::from_mins(10);
/// A queue shorter than this, in microseconds, is none that a node would mark everything for.
const BARE_MICROS: f64 = 2_000.0;
/// Marks are counted over at least so many datagrams, so long a time and so many round trips. When more than this share is marked,
/// so many times in a row (fewer with a short queue, or where most were marked without any), marks tell nothing: the pace is so low
/// by then that no queue is left. One that is there has its time to drain. (A sane node marks as many twice in a row at the most, if
/// it leaves room for one packet; one that leaves less marks all full ones. Less patience finds capacities that fall; more of it
/// starves the link meanwhile.)
const CROWDED_PACKETS: u32 = 20;
const CROWDED_TIME: Duration = Duration::from_millis(250);
const CROWDED_TRIPS: f64 = 4.0;
const CROWDED_SHARE: f64 = 0.6;
const CROWDED_TIMES_BARE: u32 = 3;
const CROWDED_TIMES_SHORT: u32 = 4;
const CROWDED_TIMES: u32 = 8;
/// Nor do marks tell anything if more than this share stays marked, with a short queue, while the believed capacity falls to so
/// much of what it was: a queue of many short stops marks what leaves at any pace.
const STAYING_SHARE: f64 = 0.15;
const STAYING_RATE: f64 = 0.5;
/// A queue of so many packets, or of so many microseconds, is short.
const SHORT_PACKETS: f64 = 2.0;
const SHORT_MICROS: f64 = 10_000.0;
/// So many capable datagrams lost in a row, while so many others arrive, look like a black hole. The others are a fifth of a
/// second apart: a queue that overflows loses many in a row, too.
const BLACK_HOLE_PACKETS: u64 = 8;
const BLACK_HOLE_OTHERS: u64 = 2;
/// Weight of one round in alpha.
const ALPHA_GAIN: f64 = 1.0 / 16.0;
/// A round is never shorter: so are reports.
const ROUND_MIN_MICROS: f64 = 25_000.0;
/// Pacing on a path that marks, times the believed capacity and what marks leave of it.
const GAIN: f64 = 1.05;
/// Marks never lower the pace by more: beyond that the capacity itself is believed to be less.
const SHARE_MIN: f64 = 0.75;
/// Without marks it grows beyond one, so that more capacity is found.
const SHARE_MAX: f64 = 1.2;
/// Limits of the growth of one round, as a share of the pace.
const GROWTH_MIN: f64 = 0.01;
const GROWTH_MAX: f64 = 0.02;
/// A path that has marked nothing for so long is paced as any other.
const MEMORY: Duration = Duration::from_secs(10);
/// Weight of a packet in the share that is shown.
const SHOWN_MEMORY_PACKETS: f64 = 400.0;

/// What the link knows when a report comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// When the far end made the report, in its clock.
    pub far_clock: u64,
    /// Share of packets lost on the link.
    pub loss: f64,
    /// The queue that the newest packet found, in microseconds.
    pub queue: f64,
    /// Smoothed round trip, in microseconds.
    pub round_trip: f64,
    /// What the link is believed to carry, in bytes per second.
    pub rate: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing is marked as capable; tested once the link is up.
    #[default]
    Idle,
    Testing,
    InUse,
    Failed(EcnFault, Timestamp),
}

/// What was sent and what became of it since the last comparison.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Capable datagrams sent, confirmed and lost.
    sent: u64,
    confirmed: u64,
    lost: u64,
    /// Others confirmed.
    others: u64,
    /// What the far end counted as capable and as marked; of the latter, where no queue was.
    ect: u64,
    ce: u64,
    ce_bare: u64,
}

/// Marks that do not become fewer, however low the pace.
#[derive(Debug, Clone, Copy, Default)]
struct Crowd {
    /// When the present count began, what was counted, and the sum of the queues that were seen with marks, in microseconds.
    began: Option<Timestamp>,
    marks: Marks,
    queues: f64,
    /// Marks where no queue was.
    bare: f64,
    /// Crowded counts in a row, those with most marks where no queue was, and those with a short queue.
    times: u32,
    times_bare: u32,
    times_short: u32,
    /// What the link was believed to carry at the most since marks stay, in bytes per second.
    rate: f64,
}

impl Crowd {
    /// Takes what a report told; true when marks have shown not to follow the pace.
    fn push(&mut self, now: Timestamp, news: Marks, seen: &Seen) -> bool {
        let began = *self.began.get_or_insert(now);
        self.marks.ect = self.marks.ect.saturating_add(news.ect);
        self.marks.ce = self.marks.ce.saturating_add(news.ce);
        self.queues += f64::from(news.ce) * seen.queue;
        self.bare += if seen.queue < BARE_MICROS { f64::from(news.ce) } else { 0.0 };
        let total = self.marks.ect.saturating_add(self.marks.ce);
        let time = CROWDED_TIME.max(Duration::from_micros((CROWDED_TRIPS * seen.round_trip) as u64));
        if total < CROWDED_PACKETS || now - began < time {
            return false;
        }
        let marked = f64::from(self.marks.ce);
        let is_more_than = |share: f64| marked > share * f64::from(total);
        let short = SHORT_MICROS.max(SHORT_PACKETS * PACKET_BYTES as f64 * 1e6 / seen.rate.max(1.0));
        let (crowded, is_short) = (is_more_than(CROWDED_SHARE), self.queues < short * marked);
        let before = if is_short && is_more_than(STAYING_SHARE) { self.rate } else { 0.0 };
        *self = Self {
            began: Some(now),
            times: if crowded { self.times + 1 } else { 0 },
            times_bare: if crowded && 2.0 * self.bare > marked { self.times_bare + 1 } else { 0 },
            times_short: if crowded && is_short { self.times_short + 1 } else { 0 },
            rate: seen.rate.max(before),
            ..Self::default()
        };
        let stays = seen.rate < STAYING_RATE * self.rate;
        stays
            || self.times >= CROWDED_TIMES
            || self.times_bare >= CROWDED_TIMES_BARE
            || self.times_short >= CROWDED_TIMES_SHORT
    }
}

/// ECN on one link.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkEcn {
    phase: Phase,
    /// The next control datagram of a test is capable.
    turn: bool,
    tally: Tally,
    /// The counts told last, and when the far end did, in its clock.
    told: Option<(u64, Marks)>,
    /// Capable datagrams lost, and others confirmed, since the last capable one that was confirmed.
    lost_run: (u64, u64),
    crowd: Crowd,
    /// When the present round ends, and what was counted in it.
    round_until: Timestamp,
    round: Marks,
    alpha: f64,
    /// What marks leave of the pace.
    share: Option<f64>,
    marked_at: Option<Timestamp>,
    /// For show: share of marked datagrams, slowly following, and their number.
    shown: f64,
    marked: u64,
}

impl LinkEcn {
    /// The codepoint of media.
    pub(crate) fn media(&self) -> Ecn {
        if self.phase == Phase::InUse { Ecn::Ect1 } else { Ecn::NotEct }
    }

    /// True when the path of a link that is up is to be tested.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Idle => true,
            Phase::Failed(_, until) => now >= until,
            Phase::Testing | Phase::InUse => false,
        }
    }

    /// Begins a test; so many capable datagrams may still arrive from before.
    pub(crate) fn begin(&mut self, on_the_way: u64) {
        self.phase = Phase::Testing;
        self.tally = Tally { sent: on_the_way, ..Tally::default() };
    }

    /// The codepoint of an RTCP compound.
    pub(crate) fn control(&mut self) -> Ecn {
        self.turn = !self.turn;
        match self.phase {
            Phase::Testing | Phase::InUse if self.turn => Ecn::Ect1,
            _ => Ecn::NotEct,
        }
    }

    /// Notes a capable datagram.
    pub(crate) fn on_sent(&mut self) {
        self.tally.sent += 1;
    }

    /// The link is not up any more: ECN may be the cause, or the path another one.
    pub(crate) fn pause(&mut self) {
        if matches!(self.phase, Phase::Testing | Phase::InUse) {
            self.stop(Phase::Idle);
        }
    }

    /// Another address is another path; another far end has counts and a clock of its own.
    pub(crate) fn restart(&mut self) {
        self.told = None;
        self.stop(Phase::Idle);
    }

    fn stop(&mut self, phase: Phase) {
        self.phase = phase;
        (self.alpha, self.share, self.marked_at) = (0.0, None, None);
        (self.shown, self.lost_run, self.crowd) = (0.0, (0, 0), Crowd::default());
    }

    /// How it stands, for show.
    pub(crate) fn state(&self) -> EcnState {
        match self.phase {
            Phase::Idle => EcnState::Off,
            Phase::Testing => EcnState::Testing,
            Phase::InUse => EcnState::InUse,
            Phase::Failed(EcnFault::Cleared, _) => EcnState::Cleared,
            Phase::Failed(EcnFault::BlackHole, _) => EcnState::BlackHole,
            Phase::Failed(EcnFault::AllMarked, _) => EcnState::AllMarked,
        }
    }

    /// Share of datagrams marked lately, and the number of all that were, while ECN is in use.
    pub(crate) fn marked(&self) -> (f64, u64) {
        (self.shown, self.marked)
    }

    /// What the pace is of the believed capacity, while the path marks.
    pub(crate) fn pacing(&self, now: Timestamp) -> Option<f64> {
        self.marked_at.filter(|at| now - *at < MEMORY)?;
        self.share.map(|share| GAIN * share)
    }

    /// True while marks tell of queues: the path marks, and left enough unmarked when they were counted last.
    pub(crate) fn tells(&self, now: Timestamp) -> bool {
        self.pacing(now).is_some() && self.crowd.times == 0
    }

    /// Takes a report: what it told of this link's datagrams, and the far end's counts. True when marks say that a queue stands
    /// in front of the bottleneck.
    pub(crate) fn on_report(&mut self, now: Timestamp, progress: &Progress, marks: Marks, seen: &Seen) -> bool {
        let news = self.news(marks, seen.far_clock);
        let tally = &mut self.tally;
        tally.confirmed += u64::from(progress.ect_confirmed);
        tally.lost += u64::from(progress.ect_lost);
        tally.others += u64::from(progress.confirmed - progress.ect_confirmed);
        tally.ect += u64::from(news.ect);
        tally.ce += u64::from(news.ce);
        tally.ce_bare += if seen.queue < BARE_MICROS { u64::from(news.ce) } else { 0 };
        match self.phase {
            Phase::Idle | Phase::Failed(..) => false,
            Phase::Testing => {
                match self.judge(seen.loss) {
                    Some(Ok(())) => {
                        self.phase = Phase::InUse;
                        self.round_until = now;
                        self.round = Marks::default();
                        self.tally = Tally::default();
                    }
                    Some(Err(fault)) => self.stop(Phase::Failed(fault, now + RETRY)),
                    None => {}
                }
                false
            }
            Phase::InUse => {
                if self.is_black_hole(progress) {
                    self.stop(Phase::Idle);
                    return false;
                }
                if let Some(fault) = self.verify(now, news, seen) {
                    self.stop(Phase::Failed(fault, now + RETRY));
                    return false;
                }
                self.answer(now, news, seen);
                news.ce > 0 && seen.queue >= BARE_MICROS
            }
        }
    }

    /// What came since the last report; nothing when this one is older, or the far end counts anew.
    fn news(&mut self, marks: Marks, far_clock: u64) -> Marks {
        if self.told.is_some_and(|(clock, _)| far_clock <= clock) {
            return Marks::default();
        }
        let Some((_, before)) = self.told.replace((far_clock, marks)) else { return Marks::default() };
        let news = Marks { ect: marks.ect.wrapping_sub(before.ect), ce: marks.ce.wrapping_sub(before.ce) };
        if (news.ect as i32) < 0 || (news.ce as i32) < 0 { Marks::default() } else { news }
    }

    /// The result of a test, when there is one.
    fn judge(&self, loss: f64) -> Option<Result<(), EcnFault>> {
        let Tally { sent, confirmed, lost, others, ect, ce, ce_bare } = self.tally;
        let decided = confirmed + lost;
        if ce > 2 * sent + TEST_PACKETS {
            // Packets that must not be marked are: more than what the network may have repeated.
            return Some(Err(EcnFault::AllMarked));
        }
        if decided < TEST_PACKETS || others < TEST_OTHERS {
            return None;
        }
        if lost as f64 > LOST_SHARE * decided as f64 {
            return (loss < LOST_SHARE_OTHERS).then_some(Err(EcnFault::BlackHole));
        }
        if confirmed < TEST_ARRIVED {
            return None;
        }
        if 2 * (ect + ce) < confirmed {
            return Some(Err(EcnFault::Cleared));
        }
        Some(if ect == 0 && 2 * ce_bare >= ce { Err(EcnFault::AllMarked) } else { Ok(()) })
    }

    /// True when only what is not capable arrives any more: to be tested again.
    fn is_black_hole(&mut self, progress: &Progress) -> bool {
        let (lost, others) = if progress.ect_confirmed > 0 { (0, 0) } else { self.lost_run };
        // What arrived until the first was lost had left before it.
        let others = if lost > 0 { others + u64::from(progress.confirmed - progress.ect_confirmed) } else { 0 };
        self.lost_run = (lost + u64::from(progress.ect_lost), others);
        self.lost_run.0 >= BLACK_HOLE_PACKETS && others >= BLACK_HOLE_OTHERS
    }

    /// Whether the path still does what it did in the test.
    fn verify(&mut self, now: Timestamp, news: Marks, seen: &Seen) -> Option<EcnFault> {
        if self.crowd.push(now, news, seen) {
            return Some(EcnFault::AllMarked);
        }
        if self.tally.confirmed < VERIFY_PACKETS {
            return None;
        }
        let Tally { confirmed, ect, ce, .. } = std::mem::take(&mut self.tally);
        (2 * (ect + ce) < confirmed).then_some(EcnFault::Cleared)
    }

    /// Lets the pace follow the marks, once in a round trip.
    fn answer(&mut self, now: Timestamp, news: Marks, seen: &Seen) {
        let total = f64::from(news.ect) + f64::from(news.ce);
        if total > 0.0 {
            let weight = (total / SHOWN_MEMORY_PACKETS).min(0.5);
            self.shown += (f64::from(news.ce) / total - self.shown) * weight;
            self.marked += u64::from(news.ce);
        }
        self.round.ect = self.round.ect.saturating_add(news.ect);
        self.round.ce = self.round.ce.saturating_add(news.ce);
        if now < self.round_until {
            return;
        }
        let trip = seen.round_trip.max(ROUND_MIN_MICROS);
        self.round_until = now + Duration::from_micros(trip as u64);
        let Marks { ect, ce } = std::mem::take(&mut self.round);
        if ect + ce == 0 || ce == 0 && self.marked_at.is_none() {
            return;
        }
        let marked = f64::from(ce) / (f64::from(ect) + f64::from(ce));
        self.alpha += (marked - self.alpha) * ALPHA_GAIN;
        let share = self.share.unwrap_or(1.0);
        self.share = Some(if ce > 0 {
            self.marked_at = Some(now);
            (share * (1.0 - self.alpha / 2.0)).max(SHARE_MIN)
        } else {
            let packet = PACKET_BYTES as f64 * 1e6 / (seen.rate * trip).max(1.0);
            (share + packet.clamp(GROWTH_MIN, GROWTH_MAX)).min(SHARE_MAX)
        });
    }
}
