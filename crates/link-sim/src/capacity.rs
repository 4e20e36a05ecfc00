//! The bottleneck: when the last byte of a packet leaves.

use serde::{Deserialize, Serialize};
use units::Timestamp;

use crate::config::{Capacity, ConfigError, Outage};
use crate::rng::Rng;

/// Nanoseconds since the simulation's start.
pub(crate) type Nanos = u64;
pub(crate) const MILLI: Nanos = 1_000_000;
const SECOND: f64 = 1e9;
/// Bytes of one delivery opportunity.
const OPPORTUNITY_BYTES: f64 = 1500.0;
/// A packet never waits longer than this for service; it counts as never served.
pub(crate) const NEVER: Nanos = Nanos::MAX / 4;

pub(crate) fn nanos(at: Timestamp) -> Nanos {
    at.as_micros().saturating_mul(1000)
}

/// Delivery opportunities of a recorded link: each entry is the millisecond at which 1500 bytes may leave (mahimahi
/// format); the last entry is the length of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Trace(Vec<u32>);

impl Trace {
    /// Takes opportunities in ascending milliseconds.
    ///
    /// # Errors
    /// None at all, none after 0 ms, or not ascending.
    pub fn new(opportunities_ms: Vec<u32>) -> Result<Self, ConfigError> {
        if opportunities_ms.last().is_none_or(|last| *last == 0) || !opportunities_ms.is_sorted() {
            return Err(ConfigError::TraceOrder);
        }
        Ok(Self(opportunities_ms))
    }

    /// A cellular uplink made up from a random walk: rate between a tenth and three times `mean_kbps`, deep fades, stalls;
    /// opportunities come in groups, as grants do. The same seed makes the same recording; it is at least a second long.
    pub fn cellular(seed: u64, mean_kbps: f64, seconds: u32) -> Self {
        const STREAM: u64 = 99;
        const STEP_MS: u32 = 20;
        const GRANT_MS: u32 = 5;
        let end = seconds.max(1).saturating_mul(1000);
        let mut rng = Rng::new(seed, STREAM);
        let (mut opportunities, mut level, mut credit) = (Vec::new(), 0.0f64, 0.0);
        let mut stall_until = 0;
        for ms in 1..=end {
            if ms % STEP_MS == 0 {
                level = level * 0.985 + rng.normal() * 0.12;
                if rng.chance(0.0012) {
                    stall_until = ms.saturating_add(rng.exponential(350.0) as u32);
                }
            }
            let rate = if ms < stall_until { 0.0 } else { mean_kbps * level.clamp(-2.3, 1.1).exp() };
            credit += rate / 8.0 / OPPORTUNITY_BYTES;
            while ms % GRANT_MS == 0 && credit >= 1.0 {
                opportunities.push(ms);
                credit -= 1.0;
            }
        }
        opportunities.push(end);
        Self(opportunities)
    }

    /// Parses the text form: one number a line, empty lines ignored.
    ///
    /// # Errors
    /// The first line that is no number, or an unusable recording.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut opportunities = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() {
                opportunities.push(
                    line.parse()
                        .map_err(|_| ConfigError::TraceLine { line: i + 1, found: line.chars().take(32).collect() })?,
                );
            }
        }
        Self::new(opportunities)
    }

    fn period(&self) -> u64 {
        self.0.last().map_or(1, |last| u64::from(*last).max(1))
    }

    /// Index of the first opportunity at or after `at` on the endless tape.
    fn first_at(&self, offset_ms: u64, at: Nanos) -> u64 {
        let ms = at.div_ceil(MILLI) + offset_ms;
        let (cycle, rest) = (ms / self.period(), ms % self.period());
        cycle * self.0.len() as u64 + self.0.partition_point(|o| u64::from(*o) < rest) as u64
    }

    /// When opportunity `k` of the endless tape is; before time 0 for those the offset cuts off.
    fn time(&self, offset_ms: u64, k: u64) -> Nanos {
        let n = self.0.len() as u64;
        let ms = k / n * self.period() + u64::from(self.0[(k % n) as usize]);
        ms.saturating_sub(offset_ms) * MILLI
    }
}

impl TryFrom<Vec<u32>> for Trace {
    type Error = ConfigError;
    fn try_from(opportunities_ms: Vec<u32>) -> Result<Self, ConfigError> {
        Self::new(opportunities_ms)
    }
}

impl From<Trace> for Vec<u32> {
    fn from(trace: Trace) -> Self {
        trace.0
    }
}

/// Serves packets first in, first out.
#[derive(Debug)]
pub(crate) enum Server {
    Unlimited,
    /// `(from, bits per second)`, outages already zero; the first entry is at 0.
    Rate {
        segments: Vec<(Nanos, f64)>,
        free_at: Nanos,
    },
    /// `next` is the first opportunity with room; `used` bytes of it are taken.
    Trace {
        trace: Trace,
        offset_ms: u64,
        bytes: f64,
        outages: Vec<Outage>,
        next: u64,
        used: f64,
    },
}

fn covered(outages: &[Outage], at: Nanos) -> bool {
    outages.iter().any(|outage| outage.covers(at))
}

impl Server {
    pub(crate) fn new(capacity: &Capacity, outages: &[Outage]) -> Self {
        match capacity {
            Capacity::Unlimited => Self::Unlimited,
            Capacity::Constant { kbps } => Self::stepped(&[(0, *kbps)], outages),
            Capacity::Steps { steps } => Self::stepped(steps, outages),
            Capacity::Trace { trace, offset_ms, scale } => Self::Trace {
                trace: trace.clone(),
                offset_ms: *offset_ms,
                bytes: OPPORTUNITY_BYTES * scale,
                outages: outages.to_vec(),
                next: 0,
                used: 0.0,
            },
        }
    }

    fn stepped(steps: &[(u64, u64)], outages: &[Outage]) -> Self {
        let rate_at = |ms: u64| steps.iter().rfind(|s| s.0 <= ms).or(steps.first()).map_or(0.0, |s| s.1 as f64 * 1e3);
        let mut cuts: Vec<u64> = steps.iter().skip(1).map(|s| s.0).collect();
        cuts.extend(outages.iter().flat_map(|o| [o.from_ms, o.to_ms]));
        cuts.push(0);
        cuts.sort_unstable();
        cuts.dedup();
        let rate = |ms: u64| if covered(outages, ms * MILLI) { 0.0 } else { rate_at(ms) };
        Self::Rate { segments: cuts.into_iter().map(|ms| (ms * MILLI, rate(ms))).collect(), free_at: 0 }
    }

    /// When the last of `bytes` bytes that arrive at `now` leaves; [`NEVER`] when it does not.
    pub(crate) fn serve(&mut self, now: Nanos, bytes: u64) -> Nanos {
        match self {
            Self::Unlimited => now,
            Self::Rate { segments, free_at } => {
                let mut at = now.max(*free_at);
                let mut bits = bytes as f64 * 8.0;
                let mut i = segments.partition_point(|s| s.0 <= at).saturating_sub(1);
                loop {
                    let end = segments.get(i + 1).map_or(NEVER, |s| s.0);
                    let rate = segments[i].1;
                    let room = end.saturating_sub(at) as f64 * rate / SECOND;
                    if rate > 0.0 && bits <= room {
                        at += (bits / rate * SECOND).ceil() as Nanos;
                        break;
                    }
                    bits -= room;
                    at = at.max(end);
                    if end == NEVER {
                        break;
                    }
                    i += 1;
                }
                *free_at = at;
                at
            }
            Self::Trace { trace, offset_ms, bytes: room, outages, next, used } => {
                let first = trace.first_at(*offset_ms, now);
                if first > *next {
                    (*next, *used) = (first, 0.0);
                }
                let mut left = bytes as f64;
                loop {
                    let at = trace.time(*offset_ms, *next);
                    if at >= NEVER {
                        return NEVER;
                    }
                    if !covered(outages, at) {
                        let take = left.min(*room - *used);
                        left -= take;
                        *used += take;
                        if left <= 1e-9 {
                            return at;
                        }
                    }
                    (*next, *used) = (*next + 1, 0.0);
                }
            }
        }
    }

    /// Forgets what is still to be served after `at`.
    pub(crate) fn flush(&mut self, at: Nanos) {
        match self {
            Self::Unlimited => {}
            Self::Rate { free_at, .. } => *free_at = at,
            Self::Trace { trace, offset_ms, next, used, .. } => {
                (*next, *used) = (trace.first_at(*offset_ms, at), 0.0);
            }
        }
    }

    /// Bytes that could leave in `from..to`; `None` when unlimited.
    pub(crate) fn bytes_between(&self, from: Nanos, to: Nanos) -> Option<f64> {
        match self {
            Self::Unlimited => None,
            Self::Rate { segments, .. } => Some(
                segments
                    .iter()
                    .enumerate()
                    .map(|(i, s)| {
                        let start = s.0.max(from);
                        let end = segments.get(i + 1).map_or(NEVER, |n| n.0).min(to);
                        end.saturating_sub(start) as f64 / SECOND * s.1 / 8.0
                    })
                    .sum(),
            ),
            Self::Trace { trace, offset_ms, bytes, outages, .. } => {
                let mut k = trace.first_at(*offset_ms, from);
                let mut count = 0u64;
                loop {
                    let at = trace.time(*offset_ms, k);
                    if at >= to {
                        return Some(count as f64 * bytes);
                    }
                    count += u64::from(!covered(outages, at));
                    k += 1;
                }
            }
        }
    }
}
