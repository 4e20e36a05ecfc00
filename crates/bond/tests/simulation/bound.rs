//! What could be delivered at all, without protocol headers and with every packet sent once, by a sender that knows the future.
//!
//! [`packets`] is a bound: nobody delivers more packets. [`in_order`] is a reference: what a queue in the order of the packets
//! comes to. For frames it is no bound. Whoever gives up one large picture saves several small ones, and so has more whole
//! frames where the links carry less than the load; the most frames possible would be a knapsack of pictures.

use super::IP_BYTES;
use super::load::{self, Item};
use super::scenario::{self, Scenario};
use super::score::WARM_UP;
use link_sim::{Link, PathConfig};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;
use units::Timestamp;

/// A packet of the load as it counts on a link, in bytes.
const PACKET_BYTES: f64 = (load::PAYLOAD_BYTES + IP_BYTES) as f64;

/// What one queue in front of all links delivers, served in order by somebody who knows which packets can still arrive in time:
/// (packets, frames on time) in percent. Fluid at 1 ms; loss costs the capacity of one repetition.
pub fn in_order(scenario: &Scenario, items: &[Item], grace: Duration) -> (f64, f64) {
    struct Lane {
        link: Link<()>,
        delay: u64,
        keep: f64,
        credit: f64,
    }
    let mut lanes: Vec<Lane> = scenario
        .paths
        .iter()
        .map(|path| {
            let delay = (path.up.delay_ms * 1e3) as u64;
            Lane { link: scenario::bottleneck(path), delay, keep: 1.0 - lost(path), credit: 0.0 }
        })
        .collect();
    lanes.sort_by_key(|lane| lane.delay);
    let budget = (scenario.latency + grace).as_micros() as u64;
    let mut queue = VecDeque::new();
    let mut arrived = vec![false; items.len()];
    let mut next = 0;
    let end = (scenario.seconds * 1e3) as u64 + budget / 1000;
    for ms in 0..end {
        while let Some(item) = items.get(next).filter(|item| item.at.as_millis() <= ms) {
            queue.push_back((item.at.as_micros(), next));
            next += 1;
        }
        for lane in &mut lanes {
            while queue.front().is_some_and(|(at, _)| at + budget < ms * 1000 + lane.delay) {
                queue.pop_front();
            }
            let (from, to) = (Timestamp::from_millis(ms), Timestamp::from_millis(ms + 1));
            lane.credit += lane.link.capacity_between(from, to).unwrap_or(125_000.0) * lane.keep;
            while lane.credit >= PACKET_BYTES {
                let Some((_, index)) = queue.pop_front() else {
                    lane.credit = 0.0;
                    break;
                };
                lane.credit -= PACKET_BYTES;
                arrived[index] = true;
            }
        }
    }
    share(items, &arrived)
}

/// The most packets that anybody could deliver in time, in percent: a maximum matching of packets to the moments at which a
/// link has carried another one. A packet can take a moment when it was there before and can still arrive in time; for a moment
/// those are neighbours, so the packets in their order take the moment that will be of no use soonest (Glover). Of what a link
/// loses after its bottleneck that share is left out.
pub fn packets(scenario: &Scenario, items: &[Item], grace: Duration) -> f64 {
    let budget = (scenario.latency + grace).as_micros() as u64;
    let end = (scenario.seconds * 1e3) as u64 + budget / 1000;
    // (first micros of packets that can still take it, last micros)
    let mut moments: Vec<(u64, u64)> = scenario.paths.iter().flat_map(|path| moments(path, end, budget)).collect();
    moments.sort_unstable();
    let mut next = moments.into_iter().peekable();
    let mut open = BinaryHeap::new();
    let mut arrived = vec![false; items.len()];
    for (item, arrived) in items.iter().zip(&mut arrived) {
        let at = item.at.as_micros();
        while let Some((_, last)) = next.next_if(|(first, _)| *first <= at) {
            open.push(Reverse(last));
        }
        while open.peek().is_some_and(|Reverse(last)| *last < at) {
            open.pop();
        }
        *arrived = open.pop().is_some();
    }
    share(items, &arrived).0
}

/// When the path's bottleneck has carried another packet: the sources' times, first and last, of packets that it may be.
fn moments(path: &PathConfig, end_ms: u64, budget: u64) -> Vec<(u64, u64)> {
    let link = scenario::bottleneck(path);
    let (delay, keep) = ((path.up.delay_ms * 1e3) as u64, 1.0 - lost(path));
    let (mut moments, mut credit) = (Vec::new(), 0.0);
    for ms in 0..end_ms {
        let (from, to) = (Timestamp::from_millis(ms), Timestamp::from_millis(ms + 1));
        credit += link.capacity_between(from, to).unwrap_or(125_000.0) * keep;
        let last = (ms + 1) * 1000;
        while credit >= PACKET_BYTES {
            credit -= PACKET_BYTES;
            moments.push(((last + delay).saturating_sub(budget), last));
        }
    }
    moments
}

/// Share that the path loses behind its bottleneck.
fn lost(path: &PathConfig) -> f64 {
    path.up.loss + path.up.burst_loss.map_or(0.0, |burst| burst.loss)
}

/// Packets and whole frames after the warm-up that arrived, in percent.
fn share(items: &[Item], arrived: &[bool]) -> (f64, f64) {
    let start = Timestamp::ZERO + WARM_UP;
    let judged: Vec<_> = items.iter().zip(arrived).filter(|(item, _)| item.at >= start).collect();
    let delivered = judged.iter().filter(|(_, arrived)| **arrived).count();
    let frames = judged.chunk_by(|a, b| a.0.frame == b.0.frame);
    let (whole, all) =
        frames.fold((0u32, 0u32), |(whole, all), f| (whole + u32::from(f.iter().all(|x| *x.1)), all + 1));
    (100.0 * delivered as f64 / judged.len() as f64, 100.0 * f64::from(whole) / f64::from(all))
}
