//! How often one account or address may be wrong: pure, with `now` as an argument, bounded.
//!
//! The first [`FREE_FAILURES`] failures cost nothing here (each refusal is slow already); from then on each doubles the
//! time in which further tries are refused unread, up to [`WAIT_MAX`]. A quiet [`FORGET`] clears the slate.

use crate::door::shares::network_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures without a wait.
pub const FREE_FAILURES: u32 = 5;
/// Longest wait.
pub const WAIT_MAX: Duration = Duration::from_mins(1);
/// Time without failure after which earlier ones are forgotten.
pub const FORGET: Duration = Duration::from_mins(15);
/// Most accounts and addresses remembered; the one that failed longest ago goes first.
pub const ENTRIES_MAX: usize = 4096;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ThrottleKey {
    /// An account, known or not.
    Account(String),
    /// An address; IPv6 by its /64.
    Address(IpAddr),
}

impl ThrottleKey {
    /// The key of an address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(network_of(address))
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    failed_at: Instant,
}

impl Entry {
    fn wait(self) -> Duration {
        match self.failures.checked_sub(FREE_FAILURES) {
            None | Some(0) => Duration::ZERO,
            Some(over) => Duration::from_secs(1 << over.min(16)).min(WAIT_MAX),
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub struct Throttle {
    entries: HashMap<ThrottleKey, Entry>,
}

impl Throttle {
    /// Whether a try is read now.
    ///
    /// # Errors
    /// How long to wait.
    pub fn check(&self, now: Instant, key: &ThrottleKey) -> Result<(), Duration> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let left = entry.wait().saturating_sub(now.saturating_duration_since(entry.failed_at));
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// Counts a failure.
    pub fn failed(&mut self, now: Instant, key: &ThrottleKey) {
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.failed_at) < FORGET);
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(key) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.failed_at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let entry = self.entries.entry(key.clone()).or_insert(Entry { failures: 0, failed_at: now });
        entry.failures = entry.failures.saturating_add(1);
        entry.failed_at = now;
    }

    /// Forgets the failures of one who was right.
    pub fn succeeded(&mut self, key: &ThrottleKey) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> ThrottleKey {
        ThrottleKey::Account(name.to_owned())
    }

    #[test]
    fn waits_double_up_to_the_limit_and_are_forgotten() {
        let start = Instant::now();
        let (mut throttle, key) = (Throttle::default(), account("admin"));
        let mut waits = Vec::new();
        for _ in 0..14 {
            throttle.failed(start, &key);
            waits.push(throttle.check(start, &key).err().unwrap_or_default().as_secs());
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.check(start + WAIT_MAX, &key), Ok(()));
        assert_eq!(throttle.check(start, &account("other")), Ok(()));
        throttle.failed(start + FORGET * 2, &key);
        assert_eq!(throttle.check(start + FORGET * 2, &key), Ok(()), "the slate was cleared");
    }

    #[test]
    fn one_who_was_right_starts_anew() {
        let now = Instant::now();
        let (mut throttle, key) = (Throttle::default(), account("admin"));
        for _ in 0..8 {
            throttle.failed(now, &key);
        }
        assert!(throttle.check(now, &key).is_err());
        throttle.succeeded(&key);
        assert_eq!(throttle.check(now, &key), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        for i in 0..ENTRIES_MAX as u64 + 10 {
            throttle.failed(start + Duration::from_millis(i), &account(&i.to_string()));
        }
        assert_eq!(throttle.entries.len(), ENTRIES_MAX);
        assert!(!throttle.entries.contains_key(&account("9")));
        assert!(throttle.entries.contains_key(&account("10")));
    }
}
