//! How a bottleneck was treated: whether it was offered more than it carries, and for how long.

use super::simulation::Offer;

/// Resolution of capacities.
const BIN_MS: u64 = 100;
/// What links are like is learned in this time from the start.
const LEARNED_MS: u64 = 2_000;
/// A capacity that stayed above this share of its highest for so long stands.
const STANDS_SHARE: f64 = 0.8;
const STANDS_BINS: usize = 15;
/// Bins of a second, and of the time in which a link showed what it carries.
const SECOND_BINS: usize = 10;
const SHOWN_BINS: usize = 30;
/// Losses of a full queue that are no further apart are one overflow.
const APART_MS: u64 = 300;
/// A queue is long when it holds more than the link carries in this time at its best of late, and a few packets.
const LONG_BINS: f64 = 3.0;
const LONG_BYTES: f64 = 6_000.0;

/// What became of one bottleneck, from the time when it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Treated {
    /// IP bytes sent on it, and of them what its full queue dropped.
    pub offered_bytes: u64,
    pub overflowed_bytes: u64,
    /// The most that it dropped within a second, of what it carries in that, while its capacity stood.
    pub worst_second: f64,
    /// The longest overflow while its capacity stood.
    pub overflow_ms: u64,
    /// The longest time that its queue stayed long.
    pub long_queue_ms: u64,
    /// What it dropped since the trouble is over, of what it carried.
    pub healed: f64,
}

/// Looks at `offers`, in the order of time; `capacity` are the bytes that the bottleneck carries between two milliseconds.
pub fn treated(offers: &[Offer], healed_ms: u64, capacity: impl Fn(u64, u64) -> f64) -> Treated {
    let mut treated = Treated::default();
    let Some(last) = offers.last() else { return treated };
    let bins = (last.at.as_millis() / BIN_MS) as usize + 1;
    let carries: Vec<f64> = (0..bins as u64).map(|bin| capacity(bin * BIN_MS, (bin + 1) * BIN_MS)).collect();
    let best = |range: &[f64]| range.iter().copied().fold(0.0, f64::max);
    // Whether the capacity stands at a bin and has for a while.
    let stands = |bin: usize| {
        let range = &carries[bin.saturating_sub(STANDS_BINS)..=bin];
        range.iter().all(|bytes| *bytes > 0.0 && *bytes >= STANDS_SHARE * best(range))
    };
    let stands: Vec<bool> = (0..bins).map(stands).collect();
    let mut dropped = vec![0u64; bins];
    let (mut overflow, mut long, mut healed_bytes) = (None::<(u64, u64)>, None, 0);
    for offer in offers.iter().filter(|offer| offer.at.as_millis() >= LEARNED_MS) {
        let at = offer.at.as_millis();
        let bin = (at / BIN_MS) as usize;
        treated.offered_bytes += offer.ip_bytes;
        if offer.overflowed {
            treated.overflowed_bytes += offer.ip_bytes;
            healed_bytes += if at >= healed_ms { offer.ip_bytes } else { 0 };
            dropped[bin] += offer.ip_bytes;
            let goes_on = overflow.filter(|(_, last)| stands[bin] && at - last <= APART_MS);
            let (began, _) = *overflow.insert((goes_on.map_or(at, |(began, _)| began), at));
            treated.overflow_ms = treated.overflow_ms.max(at - began);
        }
        let shown = best(&carries[bin.saturating_sub(SHOWN_BINS)..=bin]);
        if offer.queued_bytes as f64 > LONG_BINS * shown + LONG_BYTES {
            treated.long_queue_ms = treated.long_queue_ms.max(at - *long.get_or_insert(at));
        } else {
            long = None;
        }
    }
    for (second, dropped) in dropped.windows(SECOND_BINS).enumerate() {
        let range = second..second + SECOND_BINS;
        if stands[range.clone()].iter().all(|stands| *stands) {
            let share = dropped.iter().sum::<u64>() as f64 / carries[range].iter().sum::<f64>();
            treated.worst_second = treated.worst_second.max(share);
        }
    }
    treated.healed = healed_bytes as f64 / capacity(healed_ms, last.at.as_millis()).max(1.0);
    treated
}
