//! What is on its way on one link: every datagram by its per-link sequence number, until the far end has confirmed it or
//! it must be taken for lost.
//!
//! Within one link packets keep their order (but for a little reordering), so a gap in what is confirmed is a loss; no
//! other link can make it look like one.

use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// Datagrams remembered per link; older ones are taken for lost.
pub(crate) const SENT_MAX: usize = 16_384;
/// Later confirmed packets that make a gap a loss.
const REORDER_PACKETS: u64 = 3;
/// Fewer make it one when the newest was sent so long after it, on a link that carries little.
const REORDER_TIME_FEW: Duration = Duration::from_millis(20);
/// A lost packet is remembered this long after it was sent, to notice that it was only late: on a long path, so long after its
/// round trip.
const LOST_KEPT: Duration = Duration::from_millis(600);
const LOST_KEPT_AFTER_TRIP: Duration = Duration::from_millis(300);
/// The longest round trip that this is done for.
const LOST_KEPT_TRIP_MAX: Duration = Duration::from_millis(1500);
/// The longest a link's own reordering is waited for.
const REORDER_TIME_MAX: Duration = Duration::from_millis(100);
/// The time grows by this with each report that shows a loss to be none, and shrinks by it after so many confirmed datagrams without.
const REORDER_STEP: Duration = Duration::from_millis(5);
const REORDER_FORGET_PACKETS: u64 = 20_000;
/// Up to so many bytes on the way make no queue to speak of: one full datagram.
const SINGLE_BYTES: u64 = 1500;

/// How far a report looks back from its highest sequence number, in numbers.
pub(crate) const BITMAP_BITS_MAX: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Confirmed,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Timestamp,
    /// Its place among those of all links.
    order: u64,
    bytes: u32,
    /// The queue believed to stand in front of the bottleneck when it was sent, in microseconds.
    queue: u32,
    /// The flow's packet it carried; `None` for control traffic.
    packet: Option<u64>,
    fate: Fate,
    /// It left as ECN-capable.
    ect: bool,
    /// What was sent before it should have left the bottleneck.
    alone: bool,
    /// At most one datagram was on its way before it.
    single: bool,
}

/// What became of one flow packet's copy on this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It arrived.
    Arrived(u64),
    /// It did not.
    Lost(u64),
}

/// What one report told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// When the highest confirmed datagram had been sent, if it is newer than in earlier reports.
    pub newest_sent_at: Option<Timestamp>,
    /// Its place among those of all links.
    pub newest_order: u64,
    /// It should have met no queue of what was sent before it.
    pub newest_alone: bool,
    /// At most one datagram was on its way before it.
    pub newest_single: bool,
    /// Datagrams newly confirmed.
    pub confirmed: u32,
    /// Bytes newly confirmed.
    pub confirmed_bytes: u64,
    /// Media packets newly taken for lost.
    pub lost: u32,
    /// Runs of lost datagrams without an arrival between them, and the time they span in all, in microseconds.
    pub lost_runs: u32,
    pub lost_span: f64,
    /// Packets that had been taken for lost and arrived.
    pub spurious: u32,
    /// Sums of the queues, in microseconds, that the newly confirmed and the newly lost had met.
    pub queue_confirmed: f64,
    pub queue_lost: f64,
    /// Of the newly confirmed and the newly lost datagrams of any kind those that left as ECN-capable.
    pub ect_confirmed: u32,
    pub ect_lost: u32,
}

/// The datagrams on their way on one link.
#[derive(Debug, Default)]
pub(crate) struct SentLog {
    /// Sequence number of the oldest entry.
    first: u64,
    entries: VecDeque<Sent>,
    /// Entries before this index are decided.
    decided: usize,
    highest_confirmed: Option<u64>,
    in_flight_bytes: u64,
    in_flight_packets: u64,
    /// What is missing is waited for at least so long behind what overtook it.
    reorder_time: Duration,
    /// Datagrams confirmed since a loss was found to be none.
    in_order: u64,
    /// The path's round trip.
    round_trip: Duration,
}

impl SentLog {
    /// Notes a datagram; `sequence` is the per-link number the tunnel gave it.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        order: u64,
        sequence: u32,
        bytes: usize,
        packet: Option<u64>,
        queue: f64,
    ) {
        let next = self.first + self.entries.len() as u64;
        let gap = sequence.wrapping_sub(next as u32);
        if self.entries.is_empty() || gap >= 64 {
            // The first one, or the tunnel began to count anew.
            self.first = (next & !0xffff_ffff) + (1 << 32) + u64::from(sequence);
            self.clear();
        } else {
            for _ in 0..gap {
                self.entries.push_back(Sent {
                    at: now,
                    order,
                    bytes: 0,
                    queue: 0,
                    packet: None,
                    fate: Fate::Confirmed,
                    ect: false,
                    alone: false,
                    single: false,
                });
            }
        }
        self.entries.push_back(Sent {
            at: now,
            order,
            bytes: bytes as u32,
            queue: queue as u32,
            packet,
            fate: Fate::Waiting,
            ect: false,
            alone: false,
            single: self.in_flight_bytes <= SINGLE_BYTES,
        });
        self.in_flight_bytes += bytes as u64;
        self.in_flight_packets += u64::from(packet.is_some());
    }

    /// Notes that what was sent before the last datagram should have left the bottleneck.
    pub(crate) fn mark_alone(&mut self) {
        if let Some(sent) = self.entries.back_mut() {
            sent.alone = true;
        }
    }

    /// Notes that the last datagram left as ECN-capable.
    pub(crate) fn mark_capable(&mut self) {
        if let Some(sent) = self.entries.back_mut() {
            sent.ect = true;
        }
    }

    /// Takes what has not arrived for not ECN-capable; returns how much that were.
    pub(crate) fn forget_capable(&mut self) -> u64 {
        let capable = self.entries.iter_mut().filter(|sent| sent.ect && sent.fate != Fate::Confirmed);
        capable.map(|sent| sent.ect = false).count() as u64
    }

    /// The path's round trip, without a queue: what is late on a long path is waited for longer.
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.min(LOST_KEPT_TRIP_MAX);
    }

    /// What was told of the highest number was wrong.
    pub(crate) fn forget_highest(&mut self) {
        self.highest_confirmed = None;
    }

    /// Bytes on their way.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Media packets on their way.
    pub(crate) fn in_flight_packets(&self) -> u64 {
        self.in_flight_packets
    }

    /// When the oldest undecided datagram was sent.
    pub(crate) fn oldest_waiting(&self) -> Option<Timestamp> {
        self.entries.range(self.decided..).find(|sent| sent.fate == Fate::Waiting).map(|sent| sent.at)
    }

    /// When the first datagram after the highest confirmed one was sent, and the queue it was believed to meet.
    pub(crate) fn next_expected(&self) -> Option<(Timestamp, f64)> {
        let next = self.highest_confirmed? + 1;
        self.entry(next).map(|sent| (sent.at, f64::from(sent.queue)))
    }

    /// The undecided media packets, oldest first, with their time of sending.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, Timestamp)> + '_ {
        let undecided = self.entries.range(self.decided..).filter(|sent| sent.fate == Fate::Waiting);
        undecided.filter_map(|sent| sent.packet.map(|packet| (packet, sent.at)))
    }

    /// Takes a report: `highest` arrived, and `highest - 1 - i` for every set bit `i` of `bitmap` (word 0 first, lowest
    /// bit first). Appends what is now known of the flow's packets to `outcomes`.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        highest: u32,
        bitmap: impl Iterator<Item = u32>,
        outcomes: &mut Vec<Outcome>,
    ) -> Progress {
        let mut progress = Progress::default();
        let Some(highest) = self.extend(highest) else { return progress };
        if self.highest_confirmed.is_none_or(|known| highest > known) {
            self.highest_confirmed = Some(highest);
            progress.newest_sent_at = self.entry(highest).map(|sent| sent.at);
            progress.newest_order = self.entry(highest).map_or(0, |sent| sent.order);
            progress.newest_single = self.entry(highest).is_some_and(|sent| sent.single);
            progress.newest_alone = self.entry(highest).is_some_and(|sent| sent.alone);
        }
        self.confirm(highest, &mut progress, outcomes);
        let mut sequence = highest;
        for word in bitmap.take((BITMAP_BITS_MAX / 32) as usize) {
            let Some(base) = sequence.checked_sub(32).filter(|base| base + 32 > self.first) else { break };
            let mut word = word;
            while word != 0 {
                let bit = word.trailing_zeros();
                word &= word - 1;
                self.confirm(sequence - 1 - u64::from(bit), &mut progress, outcomes);
            }
            sequence = base;
        }
        self.find_losses(&mut progress, outcomes);
        self.learn_reordering(&progress);
        self.forget(now, outcomes);
        progress
    }

    /// Waits longer for what overtakes, and again less, the longer nothing does.
    fn learn_reordering(&mut self, progress: &Progress) {
        if progress.spurious > 0 {
            self.reorder_time = (self.reorder_time + REORDER_STEP).min(REORDER_TIME_MAX);
            self.in_order = 0;
            return;
        }
        self.in_order += u64::from(progress.confirmed);
        if self.in_order >= REORDER_FORGET_PACKETS {
            self.in_order = 0;
            self.reorder_time = self.reorder_time.saturating_sub(REORDER_STEP);
        }
    }

    /// Another path reorders otherwise.
    pub(crate) fn forget_reordering(&mut self) {
        (self.reorder_time, self.in_order) = (Duration::ZERO, 0);
    }

    /// Takes everything undecided for lost: the link is gone.
    pub(crate) fn give_up(&mut self, outcomes: &mut Vec<Outcome>) {
        for sent in self.entries.range_mut(self.decided..) {
            if sent.fate == Fate::Waiting {
                sent.fate = Fate::Lost;
                outcomes.extend(sent.packet.map(Outcome::Lost));
            }
        }
        self.decided = self.entries.len();
        self.in_flight_bytes = 0;
        self.in_flight_packets = 0;
    }

    /// Drops what is too old to be told of; called now and then.
    pub(crate) fn forget(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        let kept = LOST_KEPT.max(self.round_trip + LOST_KEPT_AFTER_TRIP);
        while let Some(sent) = self.entries.front() {
            let decided = match sent.fate {
                Fate::Waiting => false,
                Fate::Confirmed => true,
                Fate::Lost => now - sent.at > kept,
            };
            if !decided && self.entries.len() <= SENT_MAX {
                break;
            }
            if sent.fate == Fate::Waiting {
                self.in_flight_bytes -= u64::from(sent.bytes);
                self.in_flight_packets -= u64::from(sent.packet.is_some());
                outcomes.extend(sent.packet.map(Outcome::Lost));
            }
            self.entries.pop_front();
            self.first += 1;
            self.decided = self.decided.saturating_sub(1);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.decided = 0;
        self.highest_confirmed = None;
        self.in_flight_bytes = 0;
        self.in_flight_packets = 0;
    }

    /// The full number of a 32-bit one, if it was sent.
    fn extend(&self, sequence: u32) -> Option<u64> {
        let end = self.first + self.entries.len() as u64;
        let back = (end as u32).wrapping_sub(sequence);
        let full = end.checked_sub(u64::from(back))?;
        (back > 0 && full >= self.first).then_some(full)
    }

    fn entry(&self, sequence: u64) -> Option<&Sent> {
        self.entries.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    fn confirm(&mut self, sequence: u64, progress: &mut Progress, outcomes: &mut Vec<Outcome>) {
        let Some(index) = sequence.checked_sub(self.first) else { return };
        let Some(sent) = self.entries.get_mut(index as usize) else { return };
        match sent.fate {
            Fate::Confirmed => return,
            Fate::Waiting => {
                self.in_flight_bytes -= u64::from(sent.bytes);
                self.in_flight_packets -= u64::from(sent.packet.is_some());
            }
            Fate::Lost => progress.spurious += 1,
        }
        sent.fate = Fate::Confirmed;
        progress.confirmed += 1;
        progress.ect_confirmed += u32::from(sent.ect);
        progress.confirmed_bytes += u64::from(sent.bytes);
        progress.queue_confirmed += f64::from(sent.queue);
        outcomes.extend(sent.packet.map(Outcome::Arrived));
    }

    fn find_losses(&mut self, progress: &mut Progress, outcomes: &mut Vec<Outcome>) {
        let Some(highest) = self.highest_confirmed else { return };
        let Some(newest_at) = self.entry(highest).map(|sent| sent.at) else { return };
        let mut run: Option<Timestamp> = None;
        while let Some(sent) = self.entries.get_mut(self.decided) {
            let sequence = self.first + self.decided as u64;
            if sent.fate == Fate::Waiting {
                let later = newest_at - sent.at;
                let few = sequence + REORDER_PACKETS > highest && (sequence >= highest || later < REORDER_TIME_FEW);
                if few || later < self.reorder_time {
                    break;
                }
                sent.fate = Fate::Lost;
                progress.ect_lost += u32::from(sent.ect);
                match run.replace(sent.at) {
                    Some(before) => progress.lost_span += (sent.at - before).as_micros() as f64,
                    None => progress.lost_runs += 1,
                }
                self.in_flight_bytes -= u64::from(sent.bytes);
                if let Some(packet) = sent.packet {
                    self.in_flight_packets -= 1;
                    progress.lost += 1;
                    progress.queue_lost += f64::from(sent.queue);
                    outcomes.push(Outcome::Lost(packet));
                }
            } else {
                run = None;
            }
            self.decided += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn log(packets: u64, start: u32) -> SentLog {
        let mut log = SentLog::default();
        for i in 0..packets {
            log.push(ms(i), 0, start.wrapping_add(i as u32), 1000, Some(100 + i), 0.0);
        }
        log
    }

    #[test]
    fn a_gap_is_a_loss_after_three_later_packets() {
        let mut log = log(10, 5);
        let mut outcomes = Vec::new();
        // 5, 6, 8 and 9 arrived: 7 may still come.
        let progress = log.report(ms(50), 9, [0b1101].into_iter(), &mut outcomes);
        assert_eq!((progress.confirmed, progress.lost), (4, 0));
        assert_eq!(progress.newest_sent_at, Some(ms(4)));
        outcomes.clear();
        let progress = log.report(ms(60), 10, [0b11011].into_iter(), &mut outcomes);
        assert_eq!((progress.confirmed, progress.lost), (1, 1));
        assert_eq!(outcomes, [Outcome::Arrived(105), Outcome::Lost(102)]);
        assert_eq!((log.in_flight_packets(), log.in_flight_bytes()), (4, 4000));
        assert_eq!(log.oldest_waiting(), Some(ms(6)));
    }

    /// Goal: a link that once reordered is not waited for as long for ever.
    #[test]
    fn the_wait_for_what_was_overtaken_grows_and_is_forgotten() {
        let mut log = SentLog::default();
        let (mut outcomes, mut longest) = (Vec::new(), Duration::ZERO);
        for i in 0..500_000u32 {
            let at = ms(u64::from(i));
            log.push(at, 0, i, 1000, Some(u64::from(i)), 0.0);
            // Every fiftieth of the first two thousand comes 30 packets late.
            let late = i < 2000 && i % 50 == 0;
            if late {
                continue;
            }
            let bits = (0..32).fold(0u32, |bits, back| {
                let number = i.wrapping_sub(1 + back);
                bits | u32::from(number < i && (number >= 2000 || number % 50 != 0 || back >= 29)) << back
            });
            log.report(at, i, [bits].into_iter(), &mut outcomes);
            outcomes.clear();
            longest = longest.max(log.reorder_time);
        }
        assert!(longest >= Duration::from_millis(25), "{longest:?}");
        assert_eq!(log.reorder_time, Duration::ZERO);
    }

    #[test]
    fn what_comes_next_is_what_follows_the_highest_confirmed() {
        let mut log = log(10, 5);
        assert_eq!(log.next_expected(), None);
        log.report(ms(50), 9, [0b1101].into_iter(), &mut Vec::new());
        assert_eq!(log.next_expected(), Some((ms(5), 0.0)));
        log.report(ms(60), 14, [0].into_iter(), &mut Vec::new());
        assert_eq!(log.next_expected(), None);
    }

    #[test]
    fn a_late_arrival_is_noticed_and_makes_the_link_more_patient() {
        let mut log = log(10, 0);
        let mut outcomes = Vec::new();
        log.report(ms(50), 9, [0b1_1111_1011].into_iter(), &mut outcomes);
        assert!(outcomes.contains(&Outcome::Lost(106)));
        outcomes.clear();
        let progress = log.report(ms(51), 9, [0b1_1111_1111].into_iter(), &mut outcomes);
        assert_eq!((progress.spurious, progress.newest_sent_at), (1, None));
        assert_eq!(outcomes, [Outcome::Arrived(106)]);
        assert_eq!(log.in_flight_bytes(), 0);
        for i in 0..6u32 {
            log.push(ms(100 + u64::from(i)), 0, 10 + i, 1000, Some(200), 0.0);
        }
        assert_eq!(log.report(ms(120), 14, [0b1011].into_iter(), &mut outcomes).lost, 0);
    }

    /// Goal: a link over a satellite learns of its reordering as others do.
    #[test]
    fn a_late_arrival_is_noticed_on_a_long_path() {
        for trip in [80, 700, 1400] {
            let mut log = log(20, 0);
            log.set_round_trip(Duration::from_millis(trip));
            let all_but_six = u32::MAX ^ 1 << (18 - 6);
            assert_eq!(log.report(ms(trip + 20), 19, [all_but_six].into_iter(), &mut Vec::new()).lost, 1, "{trip} ms");
            let progress = log.report(ms(trip + 60), 19, [u32::MAX].into_iter(), &mut Vec::new());
            assert_eq!(progress.spurious, 1, "{trip} ms");
            log.push(ms(trip + 1000), 0, 20, 1000, Some(900), 0.0);
            log.forget(ms(trip + 1000), &mut Vec::new());
            assert_eq!(log.entries.len(), 1, "{trip} ms");
        }
    }

    #[test]
    fn numbers_wrap_and_unknown_ones_change_nothing() {
        let mut log = log(10, u32::MAX - 4);
        let mut outcomes = Vec::new();
        assert_eq!(log.report(ms(5), 100, std::iter::empty(), &mut outcomes).confirmed, 0);
        assert_eq!(log.report(ms(20), 4, [u32::MAX; 40].into_iter(), &mut outcomes).confirmed, 10);
        assert_eq!(log.in_flight_bytes(), 0);
        assert_eq!(log.report(ms(21), 4, [u32::MAX].into_iter(), &mut outcomes).confirmed, 0);
    }

    #[test]
    fn giving_up_loses_the_rest_and_memory_is_bounded() {
        let mut log = log(SENT_MAX as u64 + 10, 0);
        let mut outcomes = Vec::new();
        log.forget(ms(20_000), &mut outcomes);
        assert_eq!(outcomes.len(), 10);
        assert_eq!(log.entries.len(), SENT_MAX);
        outcomes.clear();
        log.give_up(&mut outcomes);
        assert_eq!(outcomes.len(), SENT_MAX);
        assert_eq!(log.in_flight_packets(), 0);
    }
}
