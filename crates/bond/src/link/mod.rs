//! One link as the sender sees it: what is on its way, how long it takes, what it carries, whether it lives.
//!
//! The measures come from the far end's reports; towards a plain RIST peer from its echoes ([`echo`]). Towards a peer that
//! answers neither, a link is never limited by what is in flight.

mod arrival;
pub(crate) mod capacity;
pub(crate) mod delay;
pub(crate) mod echo;
pub(crate) mod ecn;
pub(crate) mod life;
pub(crate) mod mtu;
mod pace;
mod path_check;
mod queue_limit;
pub(crate) mod radio;
pub(crate) mod sent;
pub(crate) mod shared;
mod step;
pub(crate) mod watch;

use units::{Ecn, LinkId, Timestamp};

use crate::config::LinkOptions;
use crate::event::StateReason;
use crate::extension::LinkReport;
use crate::fec::loss::{LossModel, Losses};
use crate::sender::RadioHint;
use crate::stats::LinkState;
use capacity::{Capacity, Meter};
use delay::{Delay, RoundTrip};
use echo::{ANSWER_MICROS, Echoed};
use ecn::{LinkEcn, Seen};
use life::Moved;
use path_check::PathCheck;
use queue_limit::QueueLimit;
use radio::Radio;
use sent::{Outcome, Progress, SentLog};
use shared::SentBytes;
use step::{Sample, StepWatch};

/// What a new link is believed to carry, bytes per second: ten packets in a round trip of 80 ms.
const CAPACITY_START: f64 = 170_000.0;
/// A link is never believed to carry less: below it could not be probed.
const CAPACITY_MIN: f64 = 6_000.0;
/// Round trip assumed before the first sample.
const ROUND_TRIP_START: f64 = 100_000.0;
/// Part of a measured round trip that is waiting for the next report.
pub(crate) const REPORT_INTERVAL_MICROS: f64 = 20_000.0;
/// What has not arrived so long (beside four times the jitter) after it should have is missed.
const MISSED_MICROS: f64 = 4_000.0;
/// A queue that stays is no queue up to this, in microseconds: what a packet takes longer then is the path's.
pub(crate) const QUEUE_NONE: f64 = 8_000.0;
/// Packets on the way that show a path as it is without a queue.
const EMPTY_PACKETS: u64 = 2;
/// Bytes of a full datagram, for windows.
const PACKET_BYTES: u64 = 1400;
/// Weight of one report in the loss share.
const LOSS_MEMORY_PACKETS: f64 = 400.0;

/// Counters for show.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub retransmits: u64,
    pub lost: u64,
    pub nacks: u64,
}

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    pub id: LinkId,
    pub options: LinkOptions,
    pub state: LinkState,
    pub sent: SentLog,
    pub sent_bytes: SentBytes,
    pub delay: Delay,
    pub rtt: RoundTrip,
    pub capacity: Capacity,
    pub counters: Counters,
    pub send_meter: Meter,
    pub goodput_meter: Meter,
    /// True while it is known what has arrived: from reports, or from echoes.
    pub reported: bool,
    /// From echoes, see [`echo`].
    pub echoed: Option<Echoed>,
    pub ecn: LinkEcn,
    /// Share of lost packets, slowly following.
    loss: f64,
    /// The same, remembered for longer, and whether it comes in bursts.
    pub losses: LossModel,
    /// When the state was entered, and why.
    since: Timestamp,
    reason: StateReason,
    /// When a report last confirmed something new, or the link fell idle.
    progress_at: Timestamp,
    /// When anything was last heard on or about this link.
    heard_at: Option<Timestamp>,
    /// Pacing: the next datagram may leave then.
    next_send: Timestamp,
    /// When what was sent has drained at the believed capacity, in microseconds.
    drained_at: f64,
    /// True while the last report should have told of the next packet, and did not.
    missed: bool,
    path_check: PathCheck,
    step_watch: StepWatch,
    queue_limit: QueueLimit,
    /// Bytes sent with IP headers, against the byte budget.
    pub budget_used: u64,
    /// Used beyond its byte budget, because no other link is up.
    pub resort: bool,
    /// When media was last sent.
    media_at: Timestamp,
    /// When the system refused to send, or said that there is no carrier.
    refused_at: Option<Timestamp>,
    /// What the modem knows.
    pub radio: Radio,
    /// Far clock minus ours, for a link that no report has timed yet; in microseconds.
    pub clock_offset: f64,
    /// Towards a plain RIST peer: bytes per weight up to which the link has had its part, on a scale common to all links.
    share: f64,
}

impl Link {
    pub(crate) fn new(now: Timestamp, id: LinkId, options: LinkOptions) -> Self {
        Self {
            id,
            options,
            state: LinkState::Probe,
            sent: SentLog::default(),
            sent_bytes: SentBytes::default(),
            delay: Delay::new(),
            rtt: RoundTrip::new(),
            capacity: Capacity::new(CAPACITY_START),
            counters: Counters::default(),
            send_meter: Meter::default(),
            goodput_meter: Meter::default(),
            reported: false,
            echoed: None,
            ecn: LinkEcn::default(),
            loss: 0.0,
            losses: LossModel::new(now),
            since: now,
            reason: StateReason::Added,
            progress_at: now,
            heard_at: None,
            next_send: now,
            drained_at: 0.0,
            missed: false,
            path_check: PathCheck::default(),
            step_watch: StepWatch::default(),
            queue_limit: QueueLimit::default(),
            budget_used: 0,
            resort: false,
            media_at: now,
            refused_at: None,
            radio: Radio::default(),
            clock_offset: 0.0,
            share: 0.0,
        }
    }

    /// Forgets the path's measures: the address behind the link changed.
    pub(crate) fn restart(
        &mut self,
        now: Timestamp,
        reason: StateReason,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<Moved> {
        self.sent.give_up(outcomes);
        self.sent.forget_reordering();
        self.delay = Delay::new();
        self.rtt = RoundTrip::new();
        self.capacity.restart(CAPACITY_START);
        self.queue_limit = QueueLimit::default();
        self.drained_at = 0.0;
        self.path_check = PathCheck::default();
        self.step_watch = StepWatch::default();
        self.ecn.restart();
        self.heard_at = None;
        self.progress_at = now;
        self.go(now, LinkState::Probe, reason)
    }

    /// Nobody will tell what became of what is on its way, or by other numbers.
    pub(crate) fn forget_sent(&mut self, outcomes: &mut Vec<Outcome>) {
        self.sent.give_up(outcomes);
        (self.sent, self.echoed) = (SentLog::default(), None);
    }

    /// Forgets what hangs on the far end's clock and counts: there is another one, or something else tells the measures.
    pub(crate) fn forget_far_end(&mut self) {
        self.delay = Delay::new();
        self.capacity.restart(self.capacity.estimate());
        self.path_check = PathCheck::default();
        self.step_watch = StepWatch::default();
        self.ecn.restart();
        (self.clock_offset, self.missed) = (0.0, false);
    }

    /// Lowest round trip in microseconds.
    pub(crate) fn round_trip_low(&self) -> f64 {
        self.rtt.low().unwrap_or(ROUND_TRIP_START)
    }

    /// Round trip of a packet that meets no queue, in the mean, in microseconds: on a path that jitters longer than the lowest.
    fn round_trip_usual(&self) -> f64 {
        self.round_trip_low() + self.rtt.excess()
    }

    /// Share of packets lost.
    pub(crate) fn loss(&self) -> f64 {
        self.loss
    }

    fn report_interval(&self) -> f64 {
        if self.echoed.is_some() { self.echo_interval() + ANSWER_MICROS } else { REPORT_INTERVAL_MICROS }
    }

    /// Capacity in bytes per second, within the configured limit.
    pub(crate) fn rate(&self) -> f64 {
        let rate = self.capacity.estimate().max(CAPACITY_MIN);
        self.options.rate_max.map_or(rate, |max| rate.min(max.as_bps() as f64 / 8.0))
    }

    /// No more than arrived of late, in bytes per second: a fall shows there first.
    pub(crate) fn rate_lately(&self) -> f64 {
        self.rate().min(self.capacity.lately().max(CAPACITY_MIN))
    }

    /// Whether the link takes new media at all.
    pub(crate) fn usable(&self) -> bool {
        self.is_up() && (!self.budget_spent() || self.resort)
    }

    /// Whether it has sent as many bytes as it may.
    pub(crate) fn budget_spent(&self) -> bool {
        self.options.byte_budget.is_some_and(|budget| self.budget_used >= budget.as_u64())
    }

    /// When media was last sent, or the link was added.
    pub(crate) fn media_at(&self) -> Timestamp {
        self.media_at
    }

    /// Takes what the modem knows.
    pub(crate) fn on_hint(&mut self, now: Timestamp, hint: RadioHint) {
        if let Some(share) = self.radio.on_hint(now, hint) {
            let rate = self.capacity.estimate();
            self.capacity.restart(rate * share);
        }
    }

    /// Where the link's next packet stands on the scale of fixed shares, of which all have had their part up to `turn`: a link that
    /// was away makes up for nothing (start-time fair queueing, Goyal 1996).
    pub(crate) fn share_from(&self, turn: f64) -> f64 {
        self.share.max(turn)
    }

    /// Accounts for the fixed share of a link towards a plain RIST peer.
    pub(crate) fn add_share(&mut self, turn: f64, bytes: usize) {
        let weight = self.options.weight.unwrap_or(1).max(1);
        self.share = self.share_from(turn) + bytes as f64 / f64::from(weight);
    }

    /// The ECN codepoint of an RTCP compound to a far end that counts marks.
    pub(crate) fn control_ecn(&mut self, now: Timestamp) -> Ecn {
        if self.is_up() && self.ecn.is_due(now) {
            self.ecn.begin(self.sent.forget_capable());
        }
        self.ecn.control()
    }

    /// Takes what the far end says about this link; appends the fate of packets to `outcomes`.
    pub(crate) fn on_report(
        &mut self,
        now: Timestamp,
        far_clock: u64,
        report: &LinkReport<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Progress {
        self.reported = true;
        if self.capacity.is_disowned(report.bytes) {
            self.forget_far_end();
            self.rtt = RoundTrip::new();
            self.sent.forget_highest();
        }
        let progress = self.sent.report(now, report.highest, report.words(), outcomes);
        if let Some(sent_at) = progress.newest_sent_at {
            let arrival = far_clock.saturating_sub(u64::from(report.held_micros));
            let one_way = (arrival as i64).wrapping_sub(sent_at.as_micros() as i64);
            let trip = (now - sent_at).as_micros().saturating_sub(u128::from(report.held_micros));
            let trip = u64::try_from(trip).unwrap_or(u64::MAX);
            let base = self.delay.base().unwrap_or(one_way);
            self.delay.push(now, one_way);
            self.rtt.push(now, trip);
            self.watch_step(
                Sample { at: now, sent_at, one_way, round_trip: trip, coarse: false },
                base,
                self.capacity.estimate(),
            );
            if progress.newest_alone && self.delay.queue_staying() <= QUEUE_NONE {
                self.rtt.push_alone(trip);
            }
            if self.path_check.proves(sent_at) {
                self.delay.prove(now, one_way);
                self.rtt.prove(now, trip);
            }
            if progress.newest_alone {
                self.delay.push_alone();
            }
            let marked = self.note_marks(now, far_clock, &progress, report);
            let queue = match (marked, progress.newest_alone) {
                // What goes alone on an idle link meets no queue of ours, however its path swings.
                (false, true) if progress.newest_single => 0.0,
                // Where a queue was marked, there is one, however short.
                (true, _) => f64::INFINITY,
                (false, true) => self.delay.queue_staying() - self.delay.swing(),
                (false, false) => self.delay.queue_staying(),
            };
            self.capacity.note_gap(arrival, report.bytes, queue);
            self.capacity.push(arrival, report.bytes, queue, self.delay.jitter());
        } else {
            self.note_marks(now, far_clock, &progress, report);
        }
        if progress.confirmed > 0 {
            self.progress_at = now;
            self.heard_at = Some(now);
        }
        self.note_loss(now, &progress);
        self.missed = self.is_missed(far_clock);
        progress
    }

    /// Looks whether the path, of this delay and capacity before, grew longer.
    fn watch_step(&mut self, sample: Sample, base: i64, believed: f64) {
        let longer = self.step_watch.push(sample, base, believed);
        // Where marks keep queues short, they tell what the link carries.
        if let Some(longer) = longer.filter(|_| !self.ecn.tells(sample.at)) {
            self.delay.prove(sample.at, longer.one_way);
            self.rtt.lengthen(sample.at, longer.round_trip);
        }
    }

    fn note_marks(&mut self, now: Timestamp, far_clock: u64, progress: &Progress, report: &LinkReport<'_>) -> bool {
        let seen = Seen {
            far_clock,
            loss: self.loss,
            queue: self.delay.queue_last(),
            round_trip: self.rtt.smoothed().unwrap_or(ROUND_TRIP_START),
            rate: self.rate(),
        };
        self.ecn.on_report(now, progress, report.marks, &seen)
    }

    /// Whether the next packet should have arrived when the far end's clock showed `far_clock`.
    fn is_missed(&self, far_clock: u64) -> bool {
        let (Some(base), Some((sent_at, queue))) = (self.delay.base(), self.sent.next_expected()) else { return false };
        let expected = sent_at.as_micros() as f64 + base as f64 + queue.max(self.delay.queue());
        far_clock as f64 > expected + MISSED_MICROS + 4.0 * self.delay.jitter()
    }

    /// True while nothing arrives of what should, on a link that loses packets: what is on its way may be lost, and nothing behind
    /// it may come that would show it.
    pub(crate) fn in_burst(&self) -> bool {
        self.missed && self.losses.share() > 0.0
    }

    fn note_loss(&mut self, now: Timestamp, progress: &Progress) {
        let (arrived, lost, runs) = (progress.confirmed, progress.lost, progress.lost_runs);
        let total = f64::from(lost + arrived);
        // What was sent on a dead link tells nothing of the losses of one that lives.
        if total > 0.0 && self.state != LinkState::Down {
            self.losses.push(now, &Losses { arrived, lost, runs, span_micros: progress.lost_span });
            let share = f64::from(lost) / total;
            self.loss += (share - self.loss) * (total / LOSS_MEMORY_PACKETS).min(0.5);
        }
        self.counters.lost += u64::from(progress.lost);
        self.queue_limit.learn(progress, self.delay.queue(), self.loss);
    }
}
