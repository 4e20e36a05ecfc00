//! The clock of an end that runs fast or slow.

use units::Timestamp;

/// Maps simulation time to the local time of one end and back.
#[derive(Debug, Clone, Copy)]
pub struct SkewedClock {
    offset_micros: u64,
    ppm: i32,
}

impl SkewedClock {
    /// A clock that shows `offset_micros` at simulation time 0 and gains `ppm` microseconds a second.
    pub const fn new(offset_micros: u64, ppm: i32) -> Self {
        Self { offset_micros, ppm }
    }

    /// What the clock shows at simulation time `now`.
    pub fn local(&self, now: Timestamp) -> Timestamp {
        let micros = i128::from(now.as_micros());
        let local = micros + micros * i128::from(self.ppm) / 1_000_000 + i128::from(self.offset_micros);
        Timestamp::from_micros(u64::try_from(local).unwrap_or(u64::MAX))
    }

    /// The first simulation time at which the clock shows `local` or more.
    pub fn global(&self, local: Timestamp) -> Timestamp {
        if local == Timestamp::MAX {
            return local;
        }
        let micros = i128::from(local.as_micros()) - i128::from(self.offset_micros);
        let guess = micros * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        let mut at = Timestamp::from_micros(u64::try_from(guess.max(0)).unwrap_or(u64::MAX));
        while self.local(at) < local {
            at = Timestamp::from_micros(at.as_micros().saturating_add(1));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_maps_there_and_back() {
        for ppm in [-200, 0, 150] {
            let clock = SkewedClock::new(7_000_000, ppm);
            for micros in [0, 1, 999, 1_000_003, 3_600_000_000] {
                let local = clock.local(Timestamp::from_micros(micros));
                let back = clock.global(local);
                assert!(clock.local(back) >= local);
                assert!(back.as_micros().abs_diff(micros) <= 1, "{ppm} {micros} {back:?}");
            }
        }
        assert_eq!(SkewedClock::new(0, 100).local(Timestamp::from_millis(10_000)), Timestamp::from_millis(10_001));
    }
}
