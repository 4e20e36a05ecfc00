//! Replay window over the GRE sequence numbers of one nonce (the ring of RFC 6479).

/// How far behind the newest packet of a nonce a packet may still come, and how far ahead without confirmation.
///
/// 4032 packets are two seconds at 20 Mbit/s on one link. A forged packet that decrypts plausibly by chance can move the
/// window by no more than this, so packets from before the jump are still accepted.
pub const REPLAY_WINDOW_PACKETS: u32 = WORDS * 64 - 64;

const WORDS: u32 = 64;

/// What a sequence number means for the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Not seen, inside or just ahead of the window.
    Fresh,
    /// Seen, or too old to tell.
    Replayed,
    /// So far ahead that a second packet nearby must confirm it.
    FarAhead,
}

/// Which sequence numbers of a nonce have been accepted. Numbers do not wrap: at the wrap the nonce changes.
#[derive(Debug)]
pub(super) struct ReplayWindow {
    highest: u32,
    /// Bit `sequence % (WORDS * 64)`; words ahead of the highest are cleared as it advances.
    seen: [u64; WORDS as usize],
    /// The last far-ahead number, waiting for a second one near it.
    far: Option<u32>,
}

impl ReplayWindow {
    /// A window whose first accepted number is `sequence`.
    pub(super) fn new(sequence: u32) -> Self {
        let mut window = Self { highest: sequence, seen: [0; WORDS as usize], far: None };
        window.mark(sequence);
        window
    }

    /// A window whose first accepted number is `sequence`, and to which everything up to `floor`, which is lower, is a replay.
    pub(super) fn above(floor: Option<u32>, sequence: u32) -> Self {
        let Some(floor) = floor.filter(|floor| *floor < sequence) else { return Self::new(sequence) };
        let mut window = Self { highest: floor, seen: [u64::MAX; WORDS as usize], far: None };
        window.seen[(floor / 64 % WORDS) as usize] = u64::MAX >> (63 - floor % 64);
        window.accept(sequence);
        window
    }

    pub(super) const fn highest(&self) -> u32 {
        self.highest
    }

    pub(super) fn judge(&self, sequence: u32) -> Freshness {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            let confirmed =
                self.far.is_some_and(|far| far != sequence && far.abs_diff(sequence) <= REPLAY_WINDOW_PACKETS);
            if ahead <= REPLAY_WINDOW_PACKETS || confirmed { Freshness::Fresh } else { Freshness::FarAhead }
        } else if self.highest - sequence >= REPLAY_WINDOW_PACKETS || self.is_marked(sequence) {
            Freshness::Replayed
        } else {
            Freshness::Fresh
        }
    }

    /// Remembers an authentic-looking number that [`Self::judge`] called far ahead.
    pub(super) const fn note_far(&mut self, sequence: u32) {
        self.far = Some(sequence);
    }

    /// Accepts a number that [`Self::judge`] called fresh.
    pub(super) fn accept(&mut self, sequence: u32) {
        if sequence > self.highest {
            let words = (sequence / 64 - self.highest / 64).min(WORDS);
            for step in 1..=words {
                self.seen[((self.highest / 64).wrapping_add(step) % WORDS) as usize] = 0;
            }
            self.highest = sequence;
            self.far = None;
        }
        self.mark(sequence);
    }

    const fn mark(&mut self, sequence: u32) {
        self.seen[(sequence / 64 % WORDS) as usize] |= 1 << (sequence % 64);
    }

    const fn is_marked(&self, sequence: u32) -> bool {
        self.seen[(sequence / 64 % WORDS) as usize] >> (sequence % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_far_jump_needs_a_second_packet_near_it() {
        let mut window = ReplayWindow::new(10);
        let far = 10 + REPLAY_WINDOW_PACKETS + 1;
        assert_eq!(window.judge(far - 1), Freshness::Fresh);
        assert_eq!(window.judge(far), Freshness::FarAhead);
        window.note_far(far);
        assert_eq!(window.judge(far), Freshness::FarAhead, "the same packet again confirms nothing");
        assert_eq!(window.judge(u32::MAX), Freshness::FarAhead, "nor does one elsewhere");
        assert_eq!(window.judge(far + 1), Freshness::Fresh);
        window.accept(far + 1);
        assert_eq!(window.judge(far), Freshness::Fresh, "the first packet of the jump was never accepted");
        assert_eq!(window.judge(10), Freshness::Replayed);
    }

    proptest! {
        #[test]
        fn nothing_below_the_floor_is_fresh(floor in 0..u32::MAX - 1, ahead in 1..10_000u32, back in 0..10_000u32) {
            let sequence = floor.saturating_add(ahead);
            let window = ReplayWindow::above(Some(floor), sequence);
            let number = sequence.saturating_sub(back);
            let fresh = number > floor && number < sequence && sequence - number < REPLAY_WINDOW_PACKETS;
            prop_assert_eq!(window.judge(number) == Freshness::Fresh, fresh);
        }

        /// Against a set of all numbers ever accepted: nothing twice, and everything recent once.
        #[test]
        fn the_window_agrees_with_a_full_memory(
            start: u32, steps in proptest::collection::vec((-5000..5000i64, any::<bool>()), 1..400)
        ) {
            let mut window = ReplayWindow::new(start);
            let mut accepted = HashSet::from([start]);
            let mut highest = start;
            for (step, small) in steps {
                let step = if small { step % 70 } else { step };
                let sequence = (i64::from(highest) + step).clamp(0, i64::from(u32::MAX)) as u32;
                match window.judge(sequence) {
                    Freshness::Fresh => {
                        prop_assert!(accepted.insert(sequence));
                        window.accept(sequence);
                        highest = highest.max(sequence);
                    }
                    Freshness::Replayed => prop_assert!(
                        accepted.contains(&sequence) || highest - sequence >= REPLAY_WINDOW_PACKETS
                    ),
                    Freshness::FarAhead => prop_assert!(sequence - highest > REPLAY_WINDOW_PACKETS),
                }
                prop_assert_eq!(window.highest(), highest);
            }
        }
    }
}
