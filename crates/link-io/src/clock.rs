//! The one place where a flow reads time and randomness from the operating system.

use bond::Seed;
use nix::time::ClockId;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime};
use units::Timestamp;

/// A look at both clocks that takes longer says little of either: the thread was kept waiting in between.
const LOOK_MAX: Duration = Duration::from_micros(50);
/// Looks in a row that take longer.
const LOOKS_MAX: usize = 4;

/// Monotonic time of one flow: its origin is the moment the flow was opened.
///
/// The time that the machine sleeps counts (`CLOCK_BOOTTIME`): it counts at the far end, and what is sent afterwards is for that time.
///
/// The origin is shifted by [`Clock::HEADSTART`], so that code which looks a little back in time does not saturate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    id: ClockId,
    origin: Duration,
}

impl Clock {
    /// The timestamp of the origin.
    const HEADSTART: Duration = Duration::from_mins(1);

    pub(crate) fn start() -> Self {
        // Not every sandbox has the first.
        let id = [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC].into_iter().find(|id| id.now().is_ok());
        let id = id.unwrap_or(ClockId::CLOCK_MONOTONIC);
        Self { id, origin: read(id) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ZERO + Self::HEADSTART + read(self.id).saturating_sub(self.origin)
    }

    /// The present, and the wall clock's at the same time.
    pub(crate) fn with_wall(&self) -> (Timestamp, SystemTime) {
        let mut look = (self.now(), SystemTime::now());
        for _ in 1..LOOKS_MAX {
            if self.now().since(look.0) <= LOOK_MAX {
                break;
            }
            look = (self.now(), SystemTime::now());
        }
        look
    }
}

/// A clock that could be read when the flow was opened can be read.
fn read(id: ClockId) -> Duration {
    id.now().map_or(Duration::ZERO, Duration::from)
}

/// A seed nobody outside this process can guess: flow ids, nonces and SRP secrets are drawn from it.
///
/// # Errors
/// The operating system gave no randomness.
pub(crate) fn seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Seed::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_the_machine_sleeps_counts() {
        let clock = Clock::start();
        assert_eq!(clock.id, ClockId::CLOCK_BOOTTIME);
        let up = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let up: f64 = up.split_whitespace().next().and_then(|text| text.parse().ok()).expect("seconds");
        assert!((read(clock.id).as_secs_f64() - up).abs() < 1.0, "up for {up} s, sleep included");
        let (before, after) = (clock.now(), clock.now());
        assert!(before >= Timestamp::ZERO + Clock::HEADSTART && after >= before);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().expect("randomness"), seed().expect("randomness"));
    }
}
