//! One link as the sender sees it: what is on its way, how long it takes, what it carries, whether it lives.
//!
//! The measures come from the far end's reports; towards a plain RIST peer from its echoes ([`echo`]). Towards a peer that
//! answers neither, a link is never limited by what is in flight.

pub(crate) mod capacity;
pub(crate) mod delay;
pub(crate) mod echo;
pub(crate) mod ecn;
pub(crate) mod mtu;
mod path_check;
mod queue_limit;
pub(crate) mod radio;
pub(crate) mod sent;
pub(crate) mod shared;
pub(crate) mod watch;

use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

use crate::config::LinkOptions;
use crate::event::StateReason;
use crate::extension::LinkReport;
use crate::fec::loss::{LossModel, Losses};
use crate::sender::RadioHint;
use crate::stats::LinkState;
use capacity::{Capacity, Meter};
use delay::{Delay, RoundTrip};
use echo::{ANSWER_MICROS, ECHOES_MISSED, Echoed};
use ecn::{LinkEcn, Seen};
use path_check::{Look, PathCheck, Room};
use queue_limit::{QUEUE_MICROS_MAX, QueueLimit};
use radio::Radio;
use sent::{Outcome, Progress, SentLog};
use shared::SentBytes;

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
/// Packets that may always be on their way.
const WINDOW_PACKETS_MIN: u64 = 4;
/// IPv4 and UDP headers, which a metered link pays for too.
const IP_UDP_BYTES: u64 = 28;
/// Packets on the way that show a path as it is without a queue.
const EMPTY_PACKETS: u64 = 2;
/// To show its path a link is lowered by so many times the queue that is allowed for.
const DRAIN_QUEUES: f64 = 1.5;
/// A link that has been overdue for so long carries nothing just now.
const STALL_MICROS: f64 = 100_000.0;
/// Bytes of a full datagram, for windows.
const PACKET_BYTES: u64 = 1400;
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
/// Datagrams that may leave back to back.
const BURST_PACKETS: f64 = 4.0;
/// The same on a path whose nodes mark short queues.
const BURST_PACKETS_MARKED: f64 = 2.0;
/// Pacing above the estimate, so that a window can fill and growth is found.
const PACING_GAIN: f64 = 4.0;
/// The same in front of a queue that has shown to be short.
const PACING_GAIN_SHALLOW: f64 = 1.25;
const QUEUE_SHALLOW: f64 = 100_000.0;
/// The same while a queue that is shorter still overflows: it is not empty, and more than this share is lost.
const PACING_GAIN_OVERFLOW: f64 = 1.05;
const QUEUE_SHORT: f64 = 50_000.0;
const OVERFLOW_LOSS: f64 = 0.04;
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

/// A state change, for the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub from: LinkState,
    pub to: LinkState,
    pub reason: StateReason,
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
    /// When the state was entered.
    since: Timestamp,
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
            progress_at: now,
            heard_at: None,
            next_send: now,
            drained_at: 0.0,
            missed: false,
            path_check: PathCheck::default(),
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

    /// Path delay of this link on a scale common to all links: the far clock when it is known, else half a round trip.
    pub(crate) fn path_delay(&self) -> f64 {
        match self.delay.base() {
            Some(base) if self.reported && self.echoed.is_none() => base as f64,
            _ => self.round_trip_low() / 2.0 + self.clock_offset,
        }
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

    /// The share of its rate that the link carries just now: the less, the longer it has been stalling.
    pub(crate) fn moving(&self, now: Timestamp) -> f64 {
        (1.0 - self.overdue(now) / STALL_MICROS).max(0.0)
    }

    /// Microseconds that `bytes` more bytes would wait in front of the bottleneck.
    pub(crate) fn queue_with(&self, bytes: u64) -> f64 {
        let pipe = self.round_trip_usual() + self.report_interval() / 2.0;
        ((self.sent.in_flight_bytes() + bytes) as f64 * 1e6 / self.rate() - pipe).max(0.0)
    }

    /// Microseconds until what was sent has drained at the believed capacity. A burst after a pause queues, however little is on
    /// its way.
    pub(crate) fn burst_queue(&self, now: Timestamp) -> f64 {
        (self.drained_at - now.as_micros() as f64).max(0.0)
    }

    /// When a packet sent now is expected behind everything that was sent, on the scale of [`Link::arrival`].
    pub(crate) fn arrival_behind(&self, now: Timestamp) -> f64 {
        now.as_micros() as f64 + self.path_delay() + self.burst_queue(now).max(self.queue_with(0))
    }

    /// How much longer than usual the far end has confirmed nothing, in microseconds.
    pub(crate) fn overdue(&self, now: Timestamp) -> f64 {
        let Some(oldest) = self.sent.oldest_waiting() else { return 0.0 };
        if let Some(echoed) = &self.echoed {
            let late = echoed.late(now, self.round_trip_low(), self.capacity.estimate()).unwrap_or(0.0);
            return (late - 1.5 * self.report_interval() - 4.0 * self.delay.jitter()).max(0.0);
        }
        // The oldest is next in line: whatever stood before it has arrived, so no queue has to be waited for.
        let after_sending = (now - oldest).as_micros() as f64 - self.round_trip_low();
        let after_progress = (now - self.progress_at).as_micros() as f64 - PACKET_BYTES as f64 * 1e6 / self.rate();
        let report = REPORT_INTERVAL_MICROS * 1.5 + 4.0 * self.delay.jitter();
        (after_sending.min(after_progress) - report).max(0.0)
    }

    /// When a packet of `bytes` bytes sent now is expected at the far end, on the scale of [`Link::path_delay`] added to
    /// our clock.
    pub(crate) fn arrival(&self, now: Timestamp, bytes: u64) -> f64 {
        // A link that stalls is expected to stall for as long again.
        now.as_micros() as f64 + self.path_delay() + self.queue_with(bytes) + self.overdue(now)
    }

    /// When what is confirmed now had arrived at the earliest, on the scale of [`Link::arrival`].
    pub(crate) fn confirmed_at(&self, now: Timestamp) -> f64 {
        now.as_micros() as f64 + self.path_delay() - self.round_trip_low() - REPORT_INTERVAL_MICROS
    }

    /// Bytes that may be on their way while a queue of `queue_micros` is wanted in front of the bottleneck, which carries `rate`
    /// bytes per second.
    pub(crate) fn window(&self, queue_micros: f64, rate: f64) -> u64 {
        match self.path_check.room() {
            Room::Full => {}
            Room::Less => return self.drained(queue_micros),
            Room::None => return 0,
        }
        let queue = queue_micros.min(self.queue_limit.get());
        let bytes = rate * (self.round_trip_usual() + self.report_wait() + queue) / 1e6;
        bytes as u64 + WINDOW_PACKETS_MIN * PACKET_BYTES
    }

    /// What arrived is on its way for so long more, until it is told of: in the mean, towards a plain peer at most; in microseconds.
    fn report_wait(&self) -> f64 {
        if self.echoed.is_some() { self.echo_interval() } else { REPORT_INTERVAL_MICROS / 2.0 }
    }

    /// So few bytes on the way that a queue of `queue_micros` is gone, even if the path is believed to be that much longer
    /// than it is; at least half of what fills the path.
    fn drained(&self, queue_micros: f64) -> u64 {
        let pipe = self.round_trip_low() + if self.echoed.is_some() { self.echo_interval() } else { 0.0 };
        let micros = (pipe - DRAIN_QUEUES * queue_micros).max(pipe / 2.0);
        (self.rate() * micros / 1e6) as u64 + EMPTY_PACKETS * PACKET_BYTES
    }

    /// Whether the link takes new media at all.
    pub(crate) fn usable(&self) -> bool {
        self.is_up() && (!self.budget_spent() || self.resort)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == LinkState::Up
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

    /// When pacing lets the next datagram leave.
    pub(crate) fn next_send(&self) -> Timestamp {
        self.next_send
    }

    /// Notes a datagram for pacing, windows and counters; `order` counts over all links.
    pub(crate) fn on_sent(
        &mut self,
        now: Timestamp,
        order: u64,
        sequence: Option<u32>,
        bytes: usize,
        packet: Option<u64>,
        ecn: Ecn,
    ) {
        let sequence = self.echoed.as_mut().map(|echoed| echoed.next_number(bytes)).or(sequence);
        if let Some(sequence) = sequence.filter(|_| self.reported) {
            if self.sent.in_flight_bytes() == 0 {
                self.progress_at = now;
            }
            // A queue of a few packets is full of a burst before the link is.
            let burst = self.burst_queue(now);
            self.sent.push(now, order, sequence, bytes, packet, self.queue_with(0).max(burst));
            if burst <= 0.0 {
                self.sent.mark_alone();
            }
            if ecn.is_capable() {
                self.sent.mark_capable();
                self.ecn.on_sent();
            }
        }
        self.sent_bytes.push(order, bytes);
        let at = now.as_micros() as f64;
        self.drained_at = (self.drained_at.max(at) + bytes as f64 * 1e6 / self.rate()).min(at + QUEUE_MICROS_MAX);
        self.counters.bytes_sent += bytes as u64;
        self.send_meter.add(now, bytes as u64);
        self.budget_used += bytes as u64 + IP_UDP_BYTES;
        if packet.is_some() {
            self.counters.packets_sent += 1;
            self.media_at = now;
            self.pace(now, bytes);
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

    pub(crate) fn pace(&mut self, now: Timestamp, bytes: usize) {
        let marked = self.ecn.pacing(now);
        let most = self.options.rate_max.map_or(f64::INFINITY, |max| max.as_bps() as f64 / 8.0);
        let rate = if let Some(share) = marked {
            self.rate() * share
        } else if self.reported {
            // The gain is for what is believed; a limit that was set is kept.
            (self.rate() * self.pacing_gain()).min(most)
        } else if most < f64::INFINITY {
            most
        } else {
            return;
        };
        let gap = Duration::from_nanos((bytes as f64 * 1e9 / rate.max(1.0)) as u64);
        let burst = if marked.is_some() { BURST_PACKETS_MARKED } else { BURST_PACKETS };
        let burst = Duration::from_nanos((burst * bytes as f64 * 1e9 / rate.max(1.0)) as u64);
        self.next_send = self.next_send.max(now.back(burst)) + gap;
    }

    fn pacing_gain(&self) -> f64 {
        let full = self.delay.queue() > QUEUE_NONE.min(self.queue_limit.get() / 2.0);
        if self.queue_limit.get() < QUEUE_SHORT && self.loss > OVERFLOW_LOSS && full {
            PACING_GAIN_OVERFLOW
        } else if self.queue_limit.get() < QUEUE_SHALLOW {
            PACING_GAIN_SHALLOW
        } else {
            PACING_GAIN
        }
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
            self.delay.push(now, one_way);
            self.rtt.push(now, trip);
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
        if self.state == LinkState::Up { self.go(now, LinkState::Suspect, reason) } else { None }
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
                self.go(now, LinkState::Down, StateReason::Silent)
            }
            LinkState::Suspect if !self.reported && silent > PLAIN_DOWN_AFTER => {
                self.go(now, LinkState::Down, StateReason::Silent)
            }
            _ => None,
        }
    }

    fn go(&mut self, now: Timestamp, to: LinkState, reason: StateReason) -> Option<Moved> {
        if self.state == to {
            return None;
        }
        self.ecn.pause();
        let moved = Moved { from: self.state, to, reason };
        self.state = to;
        self.since = now;
        Some(moved)
    }
}
