//! When datagrams came: the kernel's receive stamps, in the time of a flow. Pure.

use std::time::{Duration, SystemTime};
use units::Timestamp;

/// How far back a stamp may move an arrival where it is not known whether the wall clock was set meanwhile.
const UNSURE_BACK_MAX: Duration = Duration::from_millis(200);
/// Two looks at both clocks differ by less, unless one was set or the thread was kept waiting in between.
const LOOK_MICROS_MAX: u64 = 1000;
/// One clock gains no more than a thousandth on the other: the kernel slews at half of that.
const GAIN_DIVISOR: u64 = 1000;

/// Stamps are of the wall clock, which may be set; a flow's own clock never is. As long as the two go alike, a stamp of any age is
/// believed: what waited while the process was kept from running came when the kernel says.
#[derive(Debug)]
pub(crate) struct ArrivalClock {
    /// By how many microseconds the wall clock was ahead at the last look.
    ahead: i64,
    looked_at: Timestamp,
    /// Since when they go alike.
    alike_since: Timestamp,
}

impl Default for ArrivalClock {
    fn default() -> Self {
        Self { ahead: 0, looked_at: Timestamp::ZERO, alike_since: Timestamp::MAX }
    }
}

impl ArrivalClock {
    /// Looks at both clocks, at least once before each batch of arrivals.
    pub(crate) fn look(&mut self, now: Timestamp, wall: SystemTime) {
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ahead = micros(wall) - now.as_micros() as i64;
        let gained = now.since(self.looked_at).as_micros() as u64 / GAIN_DIVISOR;
        if ahead.abs_diff(self.ahead) > LOOK_MICROS_MAX + gained {
            self.alike_since = now;
        }
        (self.ahead, self.looked_at) = (ahead, now);
    }

    /// The moment a datagram came that was read by `read_at`; an absent or implausible stamp gives that. Of two stamps that are
    /// believed the older one never gives the later moment.
    pub(crate) fn arrival(&self, stamp: Option<Duration>, read_at: Timestamp) -> Timestamp {
        let Some(stamp) = stamp else { return read_at };
        let at = Timestamp::from_micros((micros(stamp) - self.ahead).max(0) as u64);
        let oldest = self.alike_since.min(read_at.back(UNSURE_BACK_MAX));
        if (oldest..=read_at).contains(&at) { at } else { read_at }
    }
}

fn micros(since_epoch: Duration) -> i64 {
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both clocks at a moment: the flow's in milliseconds, the wall clock in milliseconds after some day.
    fn look(clock: &mut ArrivalClock, now: u64, wall: u64) {
        clock.look(Timestamp::from_millis(now), SystemTime::UNIX_EPOCH + Duration::from_millis(wall));
    }

    fn arrival(clock: &ArrivalClock, stamp: u64, read_at: u64) -> u64 {
        clock.arrival(Some(Duration::from_millis(stamp)), Timestamp::from_millis(read_at)).as_millis()
    }

    #[test]
    fn a_stamp_moves_the_arrival_back_unless_it_is_implausible() {
        let mut clock = ArrivalClock::default();
        look(&mut clock, 10_000, 1_000_000);
        assert_eq!(arrival(&clock, 999_997, 10_001), 9_997);
        assert_eq!(arrival(&clock, 1_000_001, 10_001), 10_001, "it came after the look");
        assert_eq!(arrival(&clock, 1_000_002, 10_001), 10_001, "a stamp of the future");
        assert_eq!(arrival(&clock, 998_000, 10_001), 10_001, "nobody knows what the wall clock was then");
        assert_eq!(arrival(&clock, 0, 10_001), 10_001);
        assert_eq!(clock.arrival(None, Timestamp::from_millis(10_001)), Timestamp::from_millis(10_001));
    }

    /// The process is stopped for five seconds, in which the kernel slews the wall clock as fast as it does.
    #[test]
    fn what_waited_through_a_stall_came_when_the_kernel_says() {
        let mut clock = ArrivalClock::default();
        look(&mut clock, 10_000, 1_000_000);
        look(&mut clock, 15_000, 1_005_002);
        assert_eq!(arrival(&clock, 1_000_102, 15_000), 10_100);
        assert_eq!(arrival(&clock, 1_004_002, 15_000), 14_000);
        assert_eq!(arrival(&clock, 999_000, 15_000), 15_000, "nobody knows");
    }

    #[test]
    fn a_wall_clock_that_is_set_is_not_believed_until_it_goes_on() {
        for set_by in [-3000_i64, 3000] {
            let mut clock = ArrivalClock::default();
            look(&mut clock, 10_000, 1_000_000);
            let wall = |now: u64| (990_000 + now).strict_add_signed(set_by);
            look(&mut clock, 10_500, wall(10_500));
            assert_eq!(arrival(&clock, 1_000_100, 10_500), 10_500, "stamped before");
            assert_eq!(arrival(&clock, wall(10_499), 10_500), 10_499);
            look(&mut clock, 11_500, wall(11_500));
            assert_eq!(arrival(&clock, wall(10_600), 11_500), 10_600, "stamped since");
        }
    }

    /// A machine that slept: its monotonic clock stood still.
    #[test]
    fn what_came_before_a_sleep_of_the_machine_is_taken_to_have_come_now() {
        let mut clock = ArrivalClock::default();
        look(&mut clock, 10_000, 1_000_000);
        look(&mut clock, 10_010, 4_600_010);
        assert_eq!(arrival(&clock, 1_000_005, 10_010), 10_010);
    }
}
