//! Delays and their distribution. Pure.

use std::fmt;

/// Delays of pictures in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delays {
    sorted: Vec<u64>,
}

impl Delays {
    /// Of these, in any order.
    pub fn of(mut delays_ms: Vec<u64>) -> Self {
        delays_ms.sort_unstable();
        Self { sorted: delays_ms }
    }

    /// How many pictures.
    pub const fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The delay that this share (0 to 1) of all pictures does not exceed; 0 without pictures.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Half of the pictures were faster.
    pub fn median(&self) -> u64 {
        self.percentile(0.5)
    }

    /// The slowest.
    pub fn max(&self) -> u64 {
        self.sorted.last().copied().unwrap_or(0)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p99, max) = (self.median(), self.percentile(0.99), self.max());
        write!(f, "{:>8} {median:>8} {p99:>8} {max:>8}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let delays = Delays::of((1..=200).rev().collect());
        assert_eq!((delays.median(), delays.percentile(0.99), delays.max(), delays.count()), (100, 198, 200, 200));
        assert_eq!(Delays::of(vec![7]).percentile(0.99), 7);
        assert_eq!(Delays::default().median(), 0);
    }
}
