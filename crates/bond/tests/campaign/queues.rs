//! How a bottleneck was treated: whether it was offered more than it carries, and for how long.

use super::simulation::Offer;

/// Resolution of capacities.
pub const BIN_MS: u64 = 100;
/// What links are like is learned in this time from the start.
const LEARNED_MS: u64 = 2_000;
/// A capacity that stayed above this share of its highest for so long stands.
const STANDS_SHARE: f64 = 0.8;
const STANDS_BINS: usize = 15;
/// Who was offered less than this share of what it carries in that time showed nothing of it: what comes then has to find out whether
/// it has changed, if it has, within so long.
const USED_SHARE: f64 = 0.1;
const UNSEEN_BINS: usize = 50;
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
    /// The most that it dropped within a second, of what it carries in that, while its capacity stood: ever, and of seconds in
    /// which the links together carried the load.
    pub worst_second: f64,
    pub worst_fed_second: f64,
    /// The longest overflow while its capacity stood, of the same two.
    pub overflow_ms: u64,
    pub fed_overflow_ms: u64,
    /// What it dropped while it was learned, of what it carries in that time.
    pub learning: f64,
    /// The longest time that its queue stayed long.
    pub long_queue_ms: u64,
    /// What it dropped since the trouble is over, of what it carried.
    pub healed: f64,
}

/// A time without a break of overflows.
#[derive(Default)]
struct Overflow(Option<(u64, u64)>);

impl Overflow {
    /// One at `at`, which goes on with the last one or not; its length.
    fn drops(&mut self, at: u64, goes_on: bool) -> u64 {
        let before = self.0.filter(|(_, last)| goes_on && at - last <= APART_MS);
        let began = before.map_or(at, |(began, _)| began);
        self.0 = Some((began, at));
        at - began
    }
}

/// Looks at `offers`, in the order of time; `capacity` are the bytes that the bottleneck carries between two milliseconds, and
/// `starved` tells of every [`BIN_MS`] whether the links together carry less than the load.
pub fn treated(
    offers: &[Offer],
    healed_ms: u64,
    capacity: impl Fn(u64, u64) -> f64,
    starved: impl Fn(usize) -> bool,
) -> Treated {
    let mut treated = Treated::default();
    let Some(last) = offers.last() else { return treated };
    let bins = (last.at.as_millis() / BIN_MS) as usize + 1;
    let carries: Vec<f64> = (0..bins as u64).map(|bin| capacity(bin * BIN_MS, (bin + 1) * BIN_MS)).collect();
    let best = |range: &[f64]| range.iter().copied().fold(0.0, f64::max);
    let mut offered = vec![0.0; bins];
    for offer in offers {
        offered[(offer.at.as_millis() / BIN_MS) as usize] += offer.ip_bytes as f64;
    }
    let same = |range: &[f64]| range.iter().all(|bytes| *bytes > 0.0 && *bytes >= STANDS_SHARE * best(range));
    // Whether the capacity stands at a bin and has for a while, in which it was made use of before, or for long.
    let stands = |bin: usize| {
        let since = bin.saturating_sub(STANDS_BINS);
        let range = &carries[since..=bin];
        let used = offered[since..bin].iter().sum::<f64>() >= USED_SHARE * range.iter().sum::<f64>();
        same(range) && (used || same(&carries[bin.saturating_sub(UNSEEN_BINS)..=bin]))
    };
    let stands: Vec<bool> = (0..bins).map(stands).collect();
    let mut dropped = vec![0u64; bins];
    let starved: Vec<bool> = (0..bins).map(starved).collect();
    let (mut overflow, mut fed_overflow) = (Overflow::default(), Overflow::default());
    let (mut long, mut healed_bytes) = (None, 0);
    let unlearned = |offer: &&Offer| offer.overflowed && offer.at.as_millis() < LEARNED_MS;
    let learning: u64 = offers.iter().filter(unlearned).map(|offer| offer.ip_bytes).sum();
    treated.learning = learning as f64 / capacity(0, LEARNED_MS).max(1.0);
    for offer in offers.iter().filter(|offer| offer.at.as_millis() >= LEARNED_MS) {
        let at = offer.at.as_millis();
        let bin = (at / BIN_MS) as usize;
        treated.offered_bytes += offer.ip_bytes;
        if offer.overflowed {
            treated.overflowed_bytes += offer.ip_bytes;
            healed_bytes += if at >= healed_ms { offer.ip_bytes } else { 0 };
            dropped[bin] += offer.ip_bytes;
            treated.overflow_ms = treated.overflow_ms.max(overflow.drops(at, stands[bin]));
            let fed_ms = fed_overflow.drops(at, stands[bin] && !starved[bin]);
            treated.fed_overflow_ms = treated.fed_overflow_ms.max(fed_ms);
        }
        let shown = best(&carries[bin.saturating_sub(SHOWN_BINS)..=bin]);
        // What waits for the end of an outage can not leave.
        if shown > 0.0 && offer.queued_bytes as f64 > LONG_BINS * shown + LONG_BYTES {
            treated.long_queue_ms = treated.long_queue_ms.max(at - *long.get_or_insert(at));
        } else {
            long = None;
        }
    }
    for (second, dropped) in dropped.windows(SECOND_BINS).enumerate() {
        let range = second..second + SECOND_BINS;
        if stands[range.clone()].iter().all(|stands| *stands) {
            let share = dropped.iter().sum::<u64>() as f64 / carries[range.clone()].iter().sum::<f64>();
            treated.worst_second = treated.worst_second.max(share);
            if !starved[range].contains(&true) {
                treated.worst_fed_second = treated.worst_fed_second.max(share);
            }
        }
    }
    treated.healed = healed_bytes as f64 / capacity(healed_ms, last.at.as_millis()).max(1.0);
    treated
}
