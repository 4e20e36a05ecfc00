//! The one place where a flow reads time and randomness from the operating system.

use bond::Seed;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};
use units::Timestamp;

/// A look at both clocks that takes longer says little of either: the thread was kept waiting in between.
const LOOK_MAX: Duration = Duration::from_micros(50);
/// Looks in a row that take longer.
const LOOKS_MAX: usize = 4;

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
    fn two_seeds_differ() {
        assert_ne!(seed().expect("randomness"), seed().expect("randomness"));
    }
}
