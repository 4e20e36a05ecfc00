//! How many of something each key holds, within a limit: connections of an address, or of a device.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What limits count as one address: an IPv6 customer holds a whole /64.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

type Counts<K> = Arc<Mutex<HashMap<K, usize>>>;

/// The counts; only keys that hold something are in it.
#[derive(Debug)]
pub struct Shares<K> {
    counts: Counts<K>,
    each_max: usize,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// At most `each_max` for each key.
    pub fn new(each_max: usize) -> Self {
        Self { counts: Counts::default(), each_max }
    }

    /// One more for `key`, until the share is dropped; `None` when it holds all it may.
    pub fn take(&self, key: K) -> Option<Share<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Share { counts: Arc::clone(&self.counts), key })
    }
}

/// One of what a key holds.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    counts: Counts<K>,
    key: K,
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_share_and_nothing_is_kept_of_those_that_left() {
        let shares = Shares::new(2);
        let held = [shares.take("a").unwrap(), shares.take("a").unwrap(), shares.take("b").unwrap()];
        assert!(shares.take("a").is_none());
        drop(held);
        assert!(shares.counts.lock().unwrap().is_empty());
        assert!(shares.take("a").is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let key = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
