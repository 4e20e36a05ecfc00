//! Which per-link sequence numbers have arrived: a sliding bitmap for the reports and the replay of a moved link.

use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

use crate::extension::{Marks, REPORT_WORDS_MAX};

/// Numbers remembered.
const WINDOW: u64 = 1024;
/// A jump ahead by more begins a new count.
const JUMP_MAX: u64 = 65_536;
/// So many numbers that had come before, and no higher one in between: the far end counts anew. So does a link that is taken
/// out before it has sent a window's worth, and put back.
const REPEATED_MAX: u32 = 8;
/// The bytes go back so far when what was counted was another link's; less than half of what reports can tell.
const DISOWNED_BYTES: u64 = 1 << 30;
/// Reports look back at least over what arrived in this time, so that losing some of them does no harm.
const LOOK_BACK: Duration = Duration::from_millis(300);

/// The per-link numbers of one peer.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    highest: Option<u64>,
    highest_at: Timestamp,
    bits: [u64; (WINDOW / 64) as usize],
    /// `(when, highest)` at earlier reports, oldest first.
    marks: VecDeque<(Timestamp, u64)>,
    /// Datagrams and bytes received, wrapping.
    pub packets: u64,
    pub bytes: u64,
    /// Of the datagrams those that came with ECN.
    pub ecn: Marks,
    /// True while something arrived that no report has told of.
    pub unreported: bool,
    /// Whether a report has told of this count.
    told: bool,
    /// Numbers that never came, over all.
    pub missing: u64,
    /// Numbers that had come before, since the highest.
    repeated: u32,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self {
            highest: None,
            highest_at: Timestamp::ZERO,
            bits: [0; (WINDOW / 64) as usize],
            marks: VecDeque::new(),
            packets: 0,
            bytes: 0,
            ecn: Marks::default(),
            unreported: false,
            told: false,
            missing: 0,
            repeated: 0,
        }
    }

    /// Notes a datagram.
    pub(crate) fn push(&mut self, now: Timestamp, sequence: u32, bytes: usize) {
        self.packets += 1;
        self.bytes = self.bytes.wrapping_add(bytes as u64);
        self.unreported = true;
        let Some(highest) = self.highest else {
            self.restart(now, sequence);
            return;
        };
        let step = i64::from(sequence.wrapping_sub(highest as u32) as i32);
        let full = highest.wrapping_add_signed(step);
        let known = step <= 0 && highest - full < WINDOW && self.has(full);
        self.repeated = if step > 0 { 0 } else { self.repeated + u32::from(known) };
        if self.repeated >= REPEATED_MAX {
            self.restart(now, sequence);
        } else if step > 0 && (step as u64) < JUMP_MAX {
            for gap in (highest + 1..full).take(WINDOW as usize) {
                self.set(gap, false);
            }
            self.missing += full - highest - 1;
            self.set(full, true);
            self.highest = Some(full);
            self.highest_at = now;
        } else if step <= 0 && highest - full < WINDOW {
            if !known {
                self.missing = self.missing.saturating_sub(1);
            }
            self.set(full, true);
        } else {
            self.restart(now, sequence);
        }
    }

    /// The next number begins a new count.
    pub(crate) fn begin_anew(&mut self) {
        self.highest = None;
    }

    /// What was counted was not this link's. The next number begins a new count, and the bytes go back, by which the sender knows that
    /// what it took from the reports was wrong.
    pub(crate) fn disown(&mut self) {
        self.highest = None;
        self.unreported = false;
        if std::mem::take(&mut self.told) {
            self.bytes = self.bytes.wrapping_sub(DISOWNED_BYTES);
        }
    }

    /// Adds what another 4-tuple of the same link had received.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.ecn.add(other.ecn);
        self.missing = other.missing;
        let (Some(mine), Some(theirs)) = (self.highest, other.highest) else { return };
        let step = i64::from((theirs as u32).wrapping_sub(mine as u32) as i32);
        for back in 0..WINDOW {
            let Some(number) = theirs.checked_sub(back) else { break };
            let full = mine.wrapping_add_signed(step).wrapping_sub(back);
            if other.has(number) && full <= mine && mine - full < WINDOW {
                self.set(full, true);
            }
        }
    }

    /// Highest number and when it arrived.
    pub(crate) fn highest(&self) -> Option<(u32, Timestamp)> {
        self.highest.map(|highest| (highest as u32, self.highest_at))
    }

    /// Numbers that have passed since the last report.
    pub(crate) fn unreported_numbers(&self) -> u64 {
        self.highest.zip(self.marks.back()).map_or(0, |(highest, mark)| highest.saturating_sub(mark.1))
    }

    /// Notes that a report is made now; returns how many bitmap words it should have.
    pub(crate) fn mark(&mut self, now: Timestamp) -> usize {
        let Some(highest) = self.highest else { return 0 };
        self.unreported = false;
        self.told = true;
        while self.marks.get(1).is_some_and(|mark| now - mark.0 >= LOOK_BACK) || self.marks.len() > 64 {
            self.marks.pop_front();
        }
        let oldest = self.marks.front().map_or(highest.saturating_sub(32), |mark| mark.1);
        self.marks.push_back((now, highest));
        ((highest.saturating_sub(oldest) / 32 + 1) as usize).min(REPORT_WORDS_MAX)
    }

    /// Bitmap words below the highest number.
    pub(crate) fn words(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        let highest = self.highest.unwrap_or(0);
        (0..count as u64).map(move |word| {
            (0..32).fold(0u32, |bits, i| {
                let number = highest.checked_sub(1 + word * 32 + i);
                bits | u32::from(number.is_some_and(|number| self.has(number))) << i
            })
        })
    }

    fn restart(&mut self, now: Timestamp, sequence: u32) {
        // Far from zero, so that looking back never meets the beginning.
        let full = (1 << 40) + u64::from(sequence);
        self.bits = [0; (WINDOW / 64) as usize];
        self.marks.clear();
        self.repeated = 0;
        self.highest = Some(full);
        self.highest_at = now;
        self.set(full, true);
    }

    fn has(&self, number: u64) -> bool {
        self.highest.is_some_and(|highest| number <= highest && highest - number < WINDOW)
            && self.bits[(number % WINDOW / 64) as usize] >> (number % 64) & 1 == 1
    }

    fn set(&mut self, number: u64, value: bool) {
        let word = &mut self.bits[(number % WINDOW / 64) as usize];
        *word = *word & !(1 << (number % 64)) | u64::from(value) << (number % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn what_was_told_and_was_not_the_links_goes_back() {
        let mut arrivals = Arrivals::new();
        arrivals.push(ms(0), 70, 1000);
        arrivals.disown();
        assert_eq!((arrivals.highest(), arrivals.bytes), (None, 1000), "nobody was told");
        for _ in 0..3 {
            arrivals.push(ms(1), 5, 1000);
            arrivals.mark(ms(1));
            let told = arrivals.bytes as u32;
            arrivals.disown();
            assert!(arrivals.highest().is_none() && (arrivals.bytes as u32).wrapping_sub(told) as i32 <= -(1 << 30));
        }
        arrivals.push(ms(2), 3, 1000);
        assert_eq!(arrivals.highest(), Some((3, ms(2))));
    }

    #[test]
    fn the_bitmap_tells_what_came_across_the_wrap() {
        let mut arrivals = Arrivals::new();
        for sequence in [u32::MAX - 2, u32::MAX - 1, 0, 3, 1] {
            arrivals.push(ms(5), sequence, 100);
        }
        assert_eq!(arrivals.highest(), Some((3, ms(5))));
        // Below 3: 2 no, 1 yes, 0 yes, MAX no, MAX-1 yes, MAX-2 yes.
        assert_eq!(arrivals.words(1).next(), Some(0b11_0110));
        assert_eq!((arrivals.missing, arrivals.bytes, arrivals.packets), (2, 500, 5));
    }

    #[test]
    fn a_report_covers_the_last_300_milliseconds() {
        let mut arrivals = Arrivals::new();
        let mut words = 0;
        for i in 0..1000u32 {
            arrivals.push(ms(u64::from(i)), i, 100);
            if i % 20 == 19 {
                words = arrivals.mark(ms(u64::from(i)));
            }
        }
        assert_eq!(words, 10);
        assert!(arrivals.words(words).all(|word| word == u32::MAX));
    }

    #[test]
    fn a_moved_link_keeps_what_its_old_address_had_received() {
        let (mut old, mut new) = (Arrivals::new(), Arrivals::new());
        for sequence in 0..100 {
            old.push(ms(1), sequence, 10);
        }
        for sequence in 103..110 {
            new.push(ms(2), sequence, 10);
        }
        new.merge(&old);
        assert_eq!(new.bytes, 1070);
        // 109 is the highest: 108..103 came, 102..100 did not, 99 and below did.
        assert_eq!(new.words(1).next(), Some(!0b1_1100_0000));
    }

    #[test]
    fn a_new_count_is_noticed() {
        let mut arrivals = Arrivals::new();
        arrivals.push(ms(1), 5_000_000, 10);
        arrivals.push(ms(2), 3, 10);
        assert_eq!(arrivals.highest(), Some((3, ms(2))));
        assert_eq!(arrivals.words(1).next(), Some(0));
    }

    #[test]
    fn a_new_count_within_the_window_is_noticed_and_copies_are_none() {
        let mut arrivals = Arrivals::new();
        for sequence in 0..500 {
            // The network repeats each: that is no new count.
            arrivals.push(ms(1), sequence, 10);
            arrivals.push(ms(1), sequence, 10);
        }
        assert_eq!(arrivals.highest(), Some((499, ms(1))));
        for sequence in 0..REPEATED_MAX + 3 {
            arrivals.push(ms(2), sequence, 10);
        }
        assert_eq!(arrivals.highest(), Some((REPEATED_MAX + 2, ms(2))));
        // The last copy of 499 counted, too.
        assert_eq!(arrivals.words(1).next(), Some(0b1111), "of the new count");
    }
}
