//! Whether a path still is what it is believed to be.
//!
//! The path's own delay is the lowest of some seconds. When a path grows longer (a handover, another route), the difference
//! looks like a queue that never ends, and what a link may have on its way becomes too little to fill it. Only silence tells
//! one from the other: a steady delay that stays too long is checked by sending nothing until nearly nothing is on its way;
//! what is sent then shows the path itself.
//!
//! A link that is fully used for long never shows its path: the lowest delay then creeps up by the queue, and the queue by
//! that. So once its lowest round trip has crept up, such a link is kept below what fills it until its queue is gone.

use std::time::Duration;
use units::Timestamp;

/// A queue may be so much longer than wanted, in microseconds.
const LONGER_MICROS: f64 = 20_000.0;
/// A delay that changes more than this from report to report, in microseconds, is a queue in front of a radio link.
const STEADY_MICROS: f64 = 8_000.0;
/// A lowest round trip that has grown by less shows that the queue was gone lately.
const CREPT_MICROS: f64 = 4_000.0;
/// Looks (every 10 ms) in a row that found it so.
const LOOKS: u32 = 25;
/// A link that has been full for so long is lowered; shorter than the path's delay is remembered.
const FULL: Duration = Duration::from_secs(3);
/// The shortest time between two checks.
const INTERVAL: Duration = Duration::from_millis(2400);

/// What a look finds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The queue that the delay seems to show, and its change from report to report, in microseconds.
    pub queue: f64,
    pub jitter: f64,
    /// The queue that is allowed for.
    pub queue_wanted: f64,
    /// How much longer the lowest round trip of the last seconds is than that of the last minute, in microseconds.
    pub crept: f64,
    /// True when this comes from echoes: few, each behind a burst of packets.
    pub coarse: bool,
    /// True when what is on its way leaves room for a queue to drain.
    pub low: bool,
    /// True when nearly nothing is on its way.
    pub empty: bool,
}

/// How much may be on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// As much as the capacity allows.
    #[default]
    Full,
    /// Less than what fills the path, until no more is.
    Less,
    /// Nothing, until nearly nothing is.
    None,
}

/// The check of one path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PathCheck {
    long: u32,
    room: Room,
    /// When little was last on the way.
    low_at: Timestamp,
    /// When the last check had emptied the path.
    emptied_at: Option<Timestamp>,
    unproved: bool,
}

impl PathCheck {
    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// Looks at the link, every 10 ms.
    pub(crate) fn look(&mut self, now: Timestamp, look: &Look) {
        if look.low {
            self.low_at = now;
        }
        match self.room {
            Room::None if look.empty => {
                *self = Self { emptied_at: Some(now), unproved: true, low_at: now, ..Self::default() };
            }
            Room::Less if look.low => self.room = Room::Full,
            Room::Full => self.decide(now, look),
            Room::None | Room::Less => {}
        }
    }

    fn decide(&mut self, now: Timestamp, look: &Look) {
        let steady = look.jitter < STEADY_MICROS;
        let long = steady && !look.coarse && look.queue > look.queue_wanted + LONGER_MICROS;
        self.long = if long { self.long + 1 } else { 0 };
        let crept =
            if look.coarse { look.crept > CREPT_MICROS.max(look.jitter) } else { steady && look.crept > CREPT_MICROS };
        let rested = self.emptied_at.is_none_or(|at| now - at > INTERVAL);
        if self.long > LOOKS && rested {
            self.room = Room::None;
        } else if crept && now - self.low_at > FULL {
            self.room = Room::Less;
        }
    }

    /// True once after a check, for the first packet sent on the emptied path.
    pub(crate) fn proves(&mut self, sent_at: Timestamp) -> bool {
        let proves = self.unproved && self.emptied_at.is_some_and(|at| sent_at >= at);
        self.unproved &= !proves;
        proves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Look = Look {
        queue: 95_000.0,
        jitter: 1_000.0,
        queue_wanted: 60_000.0,
        crept: 5_000.0,
        coarse: false,
        low: false,
        empty: false,
    };

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_steady_long_delay_is_checked_once_and_proved_by_what_is_sent_after() {
        let mut check = PathCheck::default();
        for i in 0..=25 {
            assert_eq!(check.room(), Room::Full);
            check.look(ms(i * 10), &LONG);
        }
        assert_eq!(check.room(), Room::None);
        check.look(ms(500), &Look { empty: true, ..LONG });
        assert!(check.room() == Room::Full && !check.proves(ms(499)));
        assert!(check.proves(ms(500)) && !check.proves(ms(501)));
        for i in 51..=250 {
            check.look(ms(i * 10), &LONG);
            assert_eq!(check.room(), Room::Full, "rests for a while");
        }
    }

    #[test]
    fn a_restless_or_short_queue_is_left_alone() {
        let mut check = PathCheck::default();
        for i in 0..200 {
            check.look(ms(i * 10), &Look { jitter: 9_000.0, ..LONG });
            check.look(ms(i * 10 + 5), &Look { queue: 75_000.0, ..LONG });
        }
        assert_eq!(check.room(), Room::Full);
    }

    #[test]
    fn a_link_that_stays_full_is_lowered_until_its_queue_is_gone() {
        let mut check = PathCheck::default();
        let full = Look { queue: 50_000.0, ..LONG };
        for i in 0..=300 {
            assert_eq!(check.room(), Room::Full);
            check.look(ms(i * 10), &full);
        }
        check.look(ms(3005), &Look { crept: 3_000.0, ..full });
        assert_eq!(check.room(), Room::Full, "its path shows by itself");
        check.look(ms(3010), &full);
        assert_eq!(check.room(), Room::Less);
        check.look(ms(3020), &Look { low: true, ..full });
        check.look(ms(3030), &full);
        assert!(check.room() == Room::Full && !check.proves(ms(3030)));
    }

    #[test]
    fn echoes_stop_no_link_and_lower_it_once_it_crept_by_more_than_their_jitter() {
        let mut check = PathCheck::default();
        let echoes = Look { coarse: true, ..LONG };
        let jittery = Look { jitter: 12_000.0, ..echoes };
        for i in 0..=400 {
            check.look(ms(i * 10), if i < 200 { &echoes } else { &jittery });
            assert_eq!(check.room(), Room::Full);
        }
        check.look(ms(4010), &Look { crept: 13_000.0, ..jittery });
        assert_eq!(check.room(), Room::Less);
    }
}
