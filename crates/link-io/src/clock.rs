//! The one place where a flow reads time and randomness from the operating system.

use bond::Seed;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};
use units::Timestamp;

/// How far back a kernel receive stamp may move an arrival: an older stamp says that the wall clock was stepped.
const ARRIVAL_BACK_MAX: Duration = Duration::from_millis(200);

/// Monotonic time of one flow: its origin is the moment the flow was opened.
///
/// The origin is shifted by [`Clock::HEADSTART`], so that code which looks a little back in time does not saturate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// The timestamp of the origin.
    const HEADSTART: Duration = Duration::from_mins(1);

    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ZERO + Self::HEADSTART + self.origin.elapsed()
    }

    /// The moment a datagram arrived that the kernel stamped with the wall clock, seen at `now`.
    ///
    /// An absent or implausible stamp gives `now`.
    pub(crate) fn arrival(now: Timestamp, wall: SystemTime, stamp: Option<Duration>) -> Timestamp {
        let age = stamp.and_then(|since_epoch| wall.duration_since(SystemTime::UNIX_EPOCH + since_epoch).ok());
        match age {
            Some(age) if age <= ARRIVAL_BACK_MAX => now.back(age),
            _ => now,
        }
    }
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
    fn a_stamp_moves_the_arrival_back_unless_it_is_implausible() {
        let now = Timestamp::from_millis(10_000);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let stamped = |millis| Clock::arrival(now, wall, Some(Duration::from_millis(millis)));
        assert_eq!(stamped(999_997), Timestamp::from_millis(9_997));
        assert_eq!(stamped(1_000_001), now, "a stamp of the future");
        assert_eq!(stamped(998_000), now, "a wall clock that was stepped");
        assert_eq!(Clock::arrival(now, wall, None), now);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().expect("randomness"), seed().expect("randomness"));
    }
}
