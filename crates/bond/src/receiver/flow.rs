//! One flow: the packets of all links merged by number, held until their time, delivered once and in order; what is
//! missing is asked for.
//!
//! Numbers ascend with time. A packet whose number was there before while its time is beyond everything seen contradicts
//! that; [`CONTRADICTIONS`] in a row show that the sender counts anew (it was started again), and so does the flow. So does one
//! too far ahead to be held, unless more wait than numbers hold (see `pace`). What is late, repeated or comes again after a request has an older time, so it is never such a packet.
//!
//! Times that have nothing to do with those before, in as many packets, begin another timeline (it was started again, too).
//! Either way what is held of before is delivered first, at its time.

use bytes::Bytes;
use rist::sequence::{Extender, SequenceNumber};
use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

use super::Delivered;
use super::losses::Losses;
use super::pace::Pace;
use super::playout::{Playout, Timed};
use super::quality::Quality;
use super::repair::Repair;
use crate::agreed_latency::AgreedLatency;
use crate::config::HISTORY_PACKETS_MAX;
use crate::event::Cause;
use crate::link::capacity::Meter;
use crate::stats::LatePackets;

/// Requests for one packet, at most; and while nothing comes of its flow: nobody may hear them.
const ASK_MAX: u8 = 20;
const ASK_SILENT_MAX: u8 = 10;
/// Delivered numbers remembered, to tell a copy from a late packet.
pub(super) const DONE_WINDOW: u64 = 4096;
/// Sixteen bits must name those and all that are held.
const _: () = assert!(HISTORY_PACKETS_MAX as u64 + DONE_WINDOW <= 1 << 16);
/// That is told once in so long.
const SHORTENED_TOLD: Duration = Duration::from_mins(1);

/// After so much silence numbers are taken anew.
const IDLE: Duration = Duration::from_secs(5);
/// They are, too, after so many packets in a row that contradict those before,
const CONTRADICTIONS: u32 = 16;
/// whose numbers are this near to each other.
const ROW_SPREAD: u16 = 1024;

#[derive(Debug, Clone)]
pub(super) enum Cell {
    Missing { since: Timestamp, asked_at: Timestamp, asked: u8 },
    Held { bytes: Bytes, media: i64, rtp_time: u32, origin: Origin },
}

/// Which flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowId {
    /// Its even virtual destination port; 0 in Simple Profile.
    pub port: u16,
    /// Its SSRC, even.
    pub ssrc: u32,
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    First,
    Retransmitted,
    Repaired,
}

/// How and when to ask for missing packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskPolicy {
    /// A gap may stay open this long first.
    pub patience: Duration,
    /// Time between requests.
    pub repeat: Duration,
    /// A packet whose time is nearer than this is not asked for any more.
    pub hopeless: Duration,
    /// Only packets whose time is nearer than this are asked for.
    pub within: Option<Duration>,
}

/// Counters of one flow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FlowTotals {
    pub delivered: u64,
    pub delivered_bytes: u64,
    pub lost: u64,
    pub late: LatePackets,
    pub recovered: u64,
    pub duplicates: u64,
    pub asked: u64,
    /// Repair packets received, and packets that came out of them.
    pub repairs: u64,
    pub repaired: u64,
}

impl FlowTotals {
    /// Adds those of another flow.
    pub(crate) fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.lost += other.lost;
        self.late += other.late;
        self.recovered += other.recovered;
        self.duplicates += other.duplicates;
        self.asked += other.asked;
        self.repairs += other.repairs;
        self.repaired += other.repaired;
    }
}

/// What became of a packet handed to the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    Duplicate,
    Late,
    Refused,
}

/// Packets in a row that contradict those before.
#[derive(Debug, Clone, Copy)]
struct Row {
    count: u32,
    /// The lowest of their numbers, on the wire.
    low: u16,
}

/// Held from before numbers were taken anew.
#[derive(Debug)]
struct Earlier {
    /// When its content was produced, in our clock, as it was known then.
    source: Timestamp,
    /// Packets missing before it.
    gap: u64,
    bytes: Bytes,
    origin: Origin,
}

/// A packet whose time fits nothing: forged, or the first ones of another timeline.
#[derive(Debug)]
struct Doubted {
    at: Timestamp,
    sequence: u16,
    rtp_time: u32,
    origin: Origin,
    bytes: Bytes,
}

/// One flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub id: FlowId,
    pub playout: Playout,
    extender: Extender,
    /// Number of the first cell; everything before is delivered or given up.
    pub(super) next: u64,
    pub(super) cells: VecDeque<Cell>,
    /// What is held from before numbers were taken anew; it is delivered before `cells`, and takes their room.
    before: VecDeque<Earlier>,
    /// In a row, oldest first; fewer than begin another timeline.
    doubted: Vec<Doubted>,
    /// True until something numbered anew is delivered.
    anew: bool,
    row: Option<Row>,
    missing: usize,
    /// Set bits: numbers below `next` that were delivered, by number modulo the window.
    done: Vec<u64>,
    started: bool,
    gap: u64,
    pub(super) last_media: i64,
    /// What the last packet delivered was told to be of. Kept when another timeline begins.
    last_source: Timestamp,
    /// Of all packets taken the latest media time, and what it was when numbers were taken anew: what is older than that is
    /// numbered in the old way, and comes too late.
    pub(super) newest_media: i64,
    begin_media: i64,
    pub(super) pace: Pace,
    pub(super) repair: Repair,
    pub heard_at: Timestamp,
    /// Time between its packets, in the mean of the last ones.
    pub interval: Duration,
    /// Its sender has closed all its links, or it gave way to another flow: it takes no room, and what it holds is delivered.
    pub is_closed: bool,
    /// It gave way, and takes nothing but what it lacks unless there is room for it again.
    pub gave_way: bool,
    /// Something of it was refused since.
    pub was_refused: bool,
    /// And all there was of it is delivered, and its end told.
    pub is_done: bool,
    /// When it was told that numbers do not hold the latency.
    shortened_told: Option<Timestamp>,
    /// Packets that were new.
    pub taken: u64,
    pub totals: FlowTotals,
    pub agreed: AgreedLatency,
    pub losses: Losses,
    pub quality: Quality,
    pub meter: Meter,
}

impl Flow {
    pub(crate) fn new(id: FlowId, now: Timestamp) -> Self {
        Self {
            id,
            playout: Playout::new(),
            extender: Extender::new(),
            next: 0,
            cells: VecDeque::new(),
            before: VecDeque::new(),
            doubted: Vec::new(),
            anew: false,
            row: None,
            missing: 0,
            done: vec![0; (DONE_WINDOW / 64) as usize],
            started: false,
            gap: 0,
            last_media: i64::MIN,
            last_source: Timestamp::ZERO,
            newest_media: i64::MIN,
            begin_media: i64::MIN,
            pace: Pace::default(),
            repair: Repair::default(),
            heard_at: now,
            interval: Duration::ZERO,
            is_closed: false,
            gave_way: false,
            was_refused: false,
            is_done: false,
            shortened_told: None,
            taken: 0,
            totals: FlowTotals::default(),
            agreed: AgreedLatency::default(),
            losses: Losses::new(),
            quality: Quality::new(now),
            meter: Meter::default(),
        }
    }

    /// Takes a packet, which may come so much later than the fastest and be in time (`None` on a link that never was).
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        sequence: u16,
        rtp_time: u32,
        origin: Origin,
        bytes: Bytes,
        allowed: Option<Duration>,
    ) -> Taken {
        let idle = now - self.heard_at;
        self.heard_at = now;
        self.interval = (self.interval * 7 + idle.min(IDLE)) / 8;
        let media = match self.playout.push(now, rtp_time, allowed) {
            Timed::At(media) => media,
            Timed::Stranger => {
                self.doubted.push(Doubted { at: now, sequence, rtp_time, origin, bytes });
                return Taken::Refused;
            }
            Timed::Former => {
                self.totals.late.outdated += 1;
                return Taken::Late;
            }
            Timed::NewTimeline => {
                self.restart(now);
                for Doubted { at, sequence, rtp_time, origin, bytes } in std::mem::take(&mut self.doubted) {
                    self.push(at, sequence, rtp_time, origin, bytes, allowed);
                }
                return self.push(now, sequence, rtp_time, origin, bytes, allowed);
            }
        };
        self.doubted.clear();
        if !self.started && self.cells.is_empty() && self.extender.highest().is_none() {
            // Leave room below: packets of a slower link may have smaller numbers.
            self.next = self.extender.extend(SequenceNumber(sequence));
        }
        if idle > IDLE && self.is_empty() && media > self.last_media {
            // After a long silence 16 bits do not tell how many packets are missing.
            self.number_anew(now, sequence);
        } else if media <= self.begin_media {
            self.totals.late.outdated += 1;
            return Taken::Late;
        } else if !self.contradicts(sequence, media) {
            self.row = None;
        } else if let Some(low) = self.lengthen_row(sequence) {
            self.number_anew(now, low);
        }
        let number = self.number_of(sequence, media);
        let round_late =
            self.highest().is_some_and(|highest| highest.saturating_sub(number) >= (1 << 16) - DONE_WINDOW);
        self.pace.count(media > self.newest_media, round_late);
        if number < self.next {
            return self.take_old(now, number, media, rtp_time, origin, bytes);
        }
        let index = (number - self.next) as usize;
        if self.is_beyond(number, media) {
            self.shorten(number, media);
        }
        if index + self.before.len() >= HISTORY_PACKETS_MAX {
            return Taken::Refused;
        }
        self.extend(now, number);
        let taken = self.hold(index, media, rtp_time, origin, bytes);
        self.taken += u64::from(taken == Taken::New);
        self.teach_repair(now, number);
        taken
    }

    /// True when a packet of this time is newer than all there is, or of another timeline.
    pub(super) fn is_newer(&self, rtp_time: u32) -> bool {
        self.playout.media(rtp_time).is_none_or(|media| media > self.newest_media)
    }

    /// Takes up again a flow that gave way, with this packet. What was refused of it meanwhile is past; of what nobody saw the links
    /// may still have it.
    pub(super) fn come_back(&mut self, now: Timestamp, sequence: u16, rtp_time: u32) {
        if self.playout.media(rtp_time).is_none() {
            // Of another timeline, or repeated by somebody: the next packets tell.
            return;
        }
        if std::mem::take(&mut self.gave_way) && std::mem::take(&mut self.was_refused) {
            self.number_anew(now, sequence);
        }
    }

    /// True when the number was there before, or is too far away to be the next, and the time is newer than all.
    fn contradicts(&self, sequence: u16, media: i64) -> bool {
        let number = self.number_of(sequence, media);
        media > self.newest_media
            && match number.checked_sub(self.next) {
                Some(index) if index >= HISTORY_PACKETS_MAX as u64 => !self.is_beyond(number, media),
                Some(index) => matches!(self.cells.get(index as usize), Some(Cell::Held { .. })),
                None => true,
            }
    }

    /// One more packet that contradicts: the lowest number of the row, once it is long enough.
    fn lengthen_row(&mut self, sequence: u16) -> Option<u16> {
        let fresh = Row { count: 0, low: sequence };
        let near =
            |row: &Row| SequenceNumber(sequence).distance_from(SequenceNumber(row.low)).unsigned_abs() <= ROW_SPREAD;
        let row = self.row.filter(near).unwrap_or(fresh);
        let lower = SequenceNumber(row.low).is_after(SequenceNumber(sequence));
        let row = Row { count: row.count + 1, low: if lower { sequence } else { row.low } };
        self.row = Some(row);
        (row.count >= CONTRADICTIONS).then_some(row.low)
    }

    /// Begins to count at the number `first`; what is held keeps its time.
    pub(super) fn number_anew(&mut self, now: Timestamp, first: u16) {
        self.begin_media = self.newest_media;
        self.last_media = self.newest_media;
        self.put_before(now);
        self.next = self.extender.extend(SequenceNumber(first));
    }

    /// Begins another timeline, and to count anew with it; what is held keeps its time.
    fn restart(&mut self, now: Timestamp) {
        self.put_before(now);
        self.playout.restart(now);
        (self.last_media, self.newest_media, self.begin_media) = (i64::MIN, i64::MIN, i64::MIN);
    }

    /// Forgets the numbers, and keeps what is held to be delivered before all that follows.
    fn put_before(&mut self, now: Timestamp) {
        let mut gap = 0;
        for cell in self.cells.drain(..) {
            match cell {
                Cell::Missing { .. } => gap += 1,
                Cell::Held { bytes, media, origin, .. } => {
                    // It was mapped too late, perhaps by seconds, if it was not made yet: what follows must not wait for that.
                    let source = self.playout.due(media, Duration::ZERO).min(now);
                    self.before.push_back(Earlier { source, gap: std::mem::take(&mut gap), bytes, origin });
                }
            }
        }
        self.anew |= self.started || !self.before.is_empty();
        (self.started, self.row, self.missing) = (false, None, 0);
        self.extender = Extender::new();
        self.done.fill(0);
        self.pace.restart(self.before.is_empty());
        self.repair = Repair::default();
    }

    /// The full number of a 16-bit one.
    pub(super) fn peek(&self, sequence: SequenceNumber) -> u64 {
        self.extender.peek(sequence)
    }

    /// True when this is the number of a packet that is missing and still of use.
    pub(super) fn lacks(&self, sequence: u16) -> bool {
        let index = self.peek(SequenceNumber(sequence)).checked_sub(self.next);
        let cell = index.and_then(|index| self.cells.get(usize::try_from(index).ok()?));
        matches!(cell, Some(Cell::Missing { .. }))
    }

    /// The highest number seen.
    pub(super) fn highest(&self) -> Option<u64> {
        self.extender.highest()
    }

    /// Makes room up to `number`, which must lie within [`HISTORY_PACKETS_MAX`] of the edge.
    pub(super) fn extend(&mut self, now: Timestamp, number: u64) {
        if self.highest().is_none() {
            self.extender.extend(SequenceNumber(number as u16));
        }
        // In steps that 16 bits tell.
        while let Some(highest) = self.highest().filter(|highest| *highest < number) {
            self.extender.extend(SequenceNumber(number.min(highest + (1 << 14)) as u16));
        }
        while self.next + self.cells.len() as u64 <= number {
            self.cells.push_back(Cell::Missing { since: now, asked_at: Timestamp::ZERO, asked: 0 });
            self.missing += 1;
        }
    }

    pub(super) fn hold(&mut self, index: usize, media: i64, rtp_time: u32, origin: Origin, bytes: Bytes) -> Taken {
        match &mut self.cells[index] {
            cell @ Cell::Missing { .. } => {
                *cell = Cell::Held { bytes, media, rtp_time, origin };
                if media > self.newest_media {
                    self.newest_media = media;
                    self.pace.push(self.next + index as u64, media);
                }
                self.missing -= 1;
                Taken::New
            }
            Cell::Held { .. } => {
                self.totals.duplicates += 1;
                Taken::Duplicate
            }
        }
    }

    /// A number below the edge: a copy, too late, or from before the first packet of a flow not yet started.
    fn take_old(
        &mut self,
        now: Timestamp,
        number: u64,
        media: i64,
        rtp_time: u32,
        origin: Origin,
        bytes: Bytes,
    ) -> Taken {
        if !self.started
            && self.next - number <= DONE_WINDOW
            && self.held_packets() + DONE_WINDOW as usize <= HISTORY_PACKETS_MAX
        {
            for _ in number..self.next {
                self.cells.push_front(Cell::Missing { since: now, asked_at: Timestamp::ZERO, asked: 0 });
                self.missing += 1;
            }
            self.next = number;
            return self.hold(0, media, rtp_time, origin, bytes);
        }
        if self.next - number <= DONE_WINDOW && self.is_done(number) {
            self.totals.duplicates += 1;
            Taken::Duplicate
        } else {
            let late = &mut self.totals.late;
            *match origin {
                _ if self.next - number > DONE_WINDOW => &mut late.outdated,
                Origin::First => &mut late.originals,
                Origin::Retransmitted | Origin::Repaired => &mut late.retransmissions,
            } += 1;
            Taken::Late
        }
    }

    /// The next packet whose time has come.
    pub(crate) fn poll(&mut self, now: Timestamp, latency: Duration) -> Option<Delivered> {
        if let Some(due) = self.due_before(latency) {
            return if due <= now { self.deliver_before(now) } else { None };
        }
        let (index, due) = self.first_held(latency)?;
        if due > now {
            return None;
        }
        self.gap += u64::from(std::mem::take(&mut self.anew));
        for _ in 0..index {
            self.cells.pop_front();
            self.set_done(self.next, false);
            self.missing -= 1;
            self.next += 1;
            self.totals.lost += 1;
            self.gap += 1;
        }
        let Some(Cell::Held { bytes, media, rtp_time, origin }) = self.cells.pop_front() else { return None };
        self.repair.on_delivered(self.next, rtp_time, &bytes);
        self.set_done(self.next, true);
        self.next += 1;
        self.repair.forget_below(self.next);
        self.started = true;
        self.playout.lock(now);
        self.last_media = self.last_media.max(media);
        // The mapping may have been corrected. What is delivered in time is of later than this: only what is overdue then is held.
        let source = self.playout.due(self.last_media, Duration::ZERO);
        Some(self.deliver(now, bytes, source, origin))
    }

    /// The latency it is played with where this one is asked for: numbers may not hold so much.
    pub(crate) fn latency(&self, asked: Duration) -> Duration {
        asked.min(self.pace.holds)
    }

    /// The latency that numbers hold, when that is shorter than the one asked for, once in a while.
    pub(crate) fn take_shortened(&mut self, now: Timestamp, asked: Duration) -> Option<Duration> {
        let holds = self.latency(asked);
        if holds >= asked
            || !self.pace.is_shortened
            || self.shortened_told.is_some_and(|told| now - told < SHORTENED_TOLD)
        {
            return None;
        }
        (self.shortened_told, self.pace.is_shortened) = (Some(now), false);
        Some(holds)
    }

    /// The first of those from before numbers were taken anew. The mapping may be that of another timeline since.
    fn deliver_before(&mut self, now: Timestamp) -> Option<Delivered> {
        let Earlier { source, gap, bytes, origin } = self.before.pop_front()?;
        self.totals.lost += gap;
        self.gap += gap;
        Some(self.deliver(now, bytes, source, origin))
    }

    fn deliver(&mut self, now: Timestamp, bytes: Bytes, source: Timestamp, origin: Origin) -> Delivered {
        self.totals.delivered += 1;
        self.totals.delivered_bytes += bytes.len() as u64;
        self.totals.recovered += u64::from(origin == Origin::Retransmitted);
        self.meter.add(now, bytes.len() as u64);
        let discontinuity = self.gap > 0;
        let source_time = source.max(self.last_source);
        self.last_source = source_time;
        let FlowId { port: virtual_port, ssrc: flow } = self.id;
        Delivered { flow, virtual_port, bytes, source_time, discontinuity }
    }

    /// Gives up all that is held.
    pub(crate) fn give_up(&mut self, now: Timestamp) {
        let gaps: u64 = self.before.iter().map(|earlier| earlier.gap).sum();
        let packets = self.held_packets() as u64 + gaps;
        self.before.clear();
        self.cells.clear();
        self.totals.lost += packets;
        self.gap += packets;
        self.add_up_gap(now);
    }

    /// Counts the packets missing before the last delivered one among the losses.
    pub(crate) fn add_up_gap(&mut self, now: Timestamp) {
        let packets = std::mem::take(&mut self.gap);
        if packets > 0 {
            self.losses.add(now, packets, self.totals.late.total());
        }
    }

    /// What was lost, when it is to be told.
    pub(crate) fn take_lost(&mut self, now: Timestamp, latency: Duration, flow_ends: bool) -> Option<Cause> {
        self.losses.take(now, self.id.ssrc, self.totals.late.total(), latency, flow_ends)
    }

    /// When the next delivery is due.
    pub(crate) fn next_due(&self, latency: Duration) -> Option<Timestamp> {
        self.due_before(latency).or_else(|| self.first_held(latency).map(|(_, due)| due))
    }

    /// When the first of those from before numbers were taken anew is due.
    fn due_before(&self, latency: Duration) -> Option<Timestamp> {
        Some(self.before.front()?.source + latency)
    }

    /// Media time held, from the first to the last packet.
    pub(crate) fn held(&self) -> Duration {
        let before = self.before.iter().map(|earlier| earlier.source);
        let cells = self.cells.iter().filter_map(|cell| match cell {
            Cell::Held { media, .. } => Some(self.playout.due(*media, Duration::ZERO)),
            Cell::Missing { .. } => None,
        });
        let mut times = before.chain(cells);
        let first = times.next().unwrap_or_default();
        times.next_back().unwrap_or(first) - first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.before.is_empty()
    }

    /// Packets held, and those missing among the ones that are numbered.
    pub(crate) fn held_packets(&self) -> usize {
        self.cells.len() + self.before.len()
    }

    /// Packets held from before numbers were taken anew.
    pub(super) fn before_packets(&self) -> usize {
        self.before.len()
    }

    /// Of the oldest packet held how many are missing before it, and when its content was produced.
    pub(super) fn oldest_held(&self) -> Option<(usize, Timestamp)> {
        let before = self.before.front().map(|earlier| (0, earlier.source));
        before.or_else(|| self.first_held(Duration::ZERO))
    }

    /// The numbers to ask for now, oldest first, at most `max`, with the times each was asked for before.
    pub(crate) fn ask(
        &mut self,
        now: Timestamp,
        latency: Duration,
        policy: &AskPolicy,
        max: usize,
        wanted: &mut Vec<(u16, u8)>,
    ) {
        if self.missing == 0 {
            return;
        }
        // The time of a missing packet is not known: it is at most that of the next one held.
        let mut due = Timestamp::MAX;
        let mut found = 0;
        for index in (0..self.cells.len()).rev() {
            match &self.cells[index] {
                Cell::Held { media, .. } => due = self.playout.due(*media, latency),
                Cell::Missing { since, asked_at, asked } => {
                    let left = due.since(now);
                    let fits = left > policy.hopeless && policy.within.is_none_or(|within| left < within);
                    let timely = match asked {
                        0 => now.since(*since) >= policy.patience,
                        count => {
                            let answered = *count < ASK_SILENT_MAX || self.heard_at > *asked_at;
                            *count < ASK_MAX && answered && now.since(*asked_at) >= policy.repeat
                        }
                    };
                    if fits && timely {
                        wanted.push(((self.next + index as u64) as u16, *asked));
                        found += 1;
                    }
                }
            }
        }
        wanted.reverse();
        wanted.truncate(max);
        let next = self.next as u16;
        for (sequence, _) in wanted.iter() {
            let index = usize::from(sequence.wrapping_sub(next));
            if let Some(Cell::Missing { asked_at, asked, .. }) = self.cells.get_mut(index) {
                *asked_at = now;
                *asked += 1;
            }
        }
        self.totals.asked += found.min(max) as u64;
    }

    fn first_held(&self, latency: Duration) -> Option<(usize, Timestamp)> {
        self.cells.iter().enumerate().find_map(|(index, cell)| match cell {
            Cell::Held { media, .. } => Some((index, self.playout.due(*media, latency))),
            Cell::Missing { .. } => None,
        })
    }

    fn is_done(&self, number: u64) -> bool {
        self.done[(number % DONE_WINDOW / 64) as usize] >> (number % 64) & 1 == 1
    }

    fn set_done(&mut self, number: u64, value: bool) {
        let word = &mut self.done[(number % DONE_WINDOW / 64) as usize];
        *word = *word & !(1 << (number % 64)) | u64::from(value) << (number % 64);
    }
}
