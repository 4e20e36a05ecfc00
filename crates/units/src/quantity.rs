//! Rates, sizes and ratios.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bitrate(u64);

impl Bitrate {
    /// No bits at all.
    pub const ZERO: Self = Self(0);

    /// `bps` bits per second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// `kbps` thousand bits per second.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(1000))
    }

    /// Bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// Thousands of bits per second, rounded down.
    pub const fn as_kbps(self) -> u64 {
        self.0 / 1000
    }

    /// Millions of bits per second.
    pub fn as_mbps_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The rate at which `bytes` pass in `time`; zero for no time.
    pub fn of(bytes: ByteCount, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 { Self::ZERO } else { Self((bytes.as_u64() as f64 * 8.0 / seconds) as u64) }
    }

    /// How long `bytes` take at this rate; `Duration::MAX` at a rate of zero.
    pub fn time_for(self, bytes: ByteCount) -> Duration {
        if self.0 == 0 {
            return Duration::MAX;
        }
        Duration::from_nanos(
            u64::try_from(u128::from(bytes.as_u64()) * 8_000_000_000 / u128::from(self.0)).unwrap_or(u64::MAX),
        )
    }

    /// How many bytes pass in `time`, rounded down.
    pub fn bytes_in(self, time: Duration) -> ByteCount {
        ByteCount(u64::try_from(u128::from(self.0) * time.as_micros() / 8_000_000).unwrap_or(u64::MAX))
    }

    /// This rate times `factor`; negative and NaN factors give zero.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// `self - other`, not below zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bitrate {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Bitrate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000_000 {
            write!(f, "{:.2} Mbit/s", self.as_mbps_f64())
        } else {
            write!(f, "{} kbit/s", self.as_kbps())
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteCount(u64);

impl ByteCount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number as an integer.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<usize> for ByteCount {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

impl Add for ByteCount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for ByteCount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// A share of lost packets, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossRatio(f64);

impl LossRatio {
    /// No loss.
    pub const ZERO: Self = Self(0.0);

    /// A ratio clamped into 0..=1; NaN is 0.
    pub fn new(ratio: f64) -> Self {
        if ratio.is_nan() { Self(0.0) } else { Self(ratio.clamp(0.0, 1.0)) }
    }

    /// `lost` of `total`; 0 when there was nothing to lose.
    pub fn of(lost: u64, total: u64) -> Self {
        if total == 0 { Self::ZERO } else { Self::new(lost as f64 / total as f64) }
    }

    /// The ratio as a number from 0 to 1.
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

impl fmt::Display for LossRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} %", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_converts_bytes_to_time_and_back() {
        let rate = Bitrate::from_kbps(8000);
        assert_eq!(rate.time_for(ByteCount::new(1000)), Duration::from_millis(1));
        assert_eq!(rate.bytes_in(Duration::from_millis(1)), ByteCount::new(1000));
        assert_eq!(Bitrate::of(ByteCount::new(1000), Duration::from_millis(1)), rate);
        assert_eq!(Bitrate::ZERO.time_for(ByteCount::new(1)), Duration::MAX);
        assert_eq!(Bitrate::of(ByteCount::new(1), Duration::ZERO), Bitrate::ZERO);
    }

    #[test]
    fn odd_factors_and_ratios_stay_in_range() {
        assert_eq!(Bitrate::from_bps(10).scaled(-1.0), Bitrate::ZERO);
        assert_eq!(Bitrate::from_bps(10).scaled(f64::NAN), Bitrate::ZERO);
        assert_eq!(LossRatio::new(f64::NAN), LossRatio::ZERO);
        assert_eq!(LossRatio::of(5, 0), LossRatio::ZERO);
        assert!((LossRatio::of(1, 4).as_f64() - 0.25).abs() < 1e-12);
    }
}
