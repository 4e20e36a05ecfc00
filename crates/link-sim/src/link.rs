//! One direction of a network path.

use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use units::{ByteCount, Ecn, Timestamp};

use crate::bottleneck::{Bottleneck, Queue};
use crate::capacity::{MILLI, Nanos, Server, nanos};
use crate::config::{ConfigError, EcnPath, LinkConfig, Outage, OutageKind};
use crate::loss::Burst;
use crate::rng::Rng;
use crate::stalls::Stalls;

/// Packets a link holds at most, queued and propagating; further ones are dropped as if the queue were full.
pub const PACKETS_MAX: usize = 1 << 20;

/// Why a packet will not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Larger than the path takes.
    Mtu,
    /// Sent or queued during an outage.
    Outage,
    /// The queue was full.
    Queue,
    /// Random or bursty loss.
    Loss,
    /// The path drops packets that are ECN-capable.
    Ecn,
}

/// A packet that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<P> {
    /// When; never later than the `poll` that returned it.
    pub at: Timestamp,
    /// The packet as it was pushed.
    pub packet: P,
    /// Its ECN field as it arrives.
    pub ecn: Ecn,
}

/// What a link did so far. Packets and IP bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Pushed.
    pub offered: u64,
    /// Pushed.
    pub offered_bytes: ByteCount,
    /// Will arrive (a duplicate counts once).
    pub passed: u64,
    /// Will arrive.
    pub passed_bytes: ByteCount,
    /// Too large.
    pub dropped_mtu: u64,
    /// In an outage.
    pub dropped_outage: u64,
    /// The queue was full.
    pub dropped_queue: u64,
    /// By chance.
    pub dropped_loss: u64,
    /// ECN-capable, on a path that drops such packets.
    pub dropped_ecn: u64,
    /// Marked as having met congestion, by the queue or by a broken path.
    pub marked: u64,
    /// Longest time a packet spent in the queue and its service, in microseconds.
    pub queue_max_micros: u64,
}

#[derive(Debug)]
struct Flying<P> {
    at: Nanos,
    order: u64,
    packet: P,
    ecn: Ecn,
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<P> Eq for Flying<P> {}
impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for Flying<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One direction of a network path; `P` is what travels.
#[derive(Debug)]
pub struct Link<P = Bytes> {
    config: LinkConfig,
    queue: Queue,
    /// In place of its own queue.
    shared: Option<Bottleneck>,
    /// Of this link behind a bottleneck that goes on.
    stalls: Stalls,
    burst: Option<Burst>,
    flying: BinaryHeap<Reverse<Flying<P>>>,
    order: u64,
    now: Nanos,
    last_out: Nanos,
    jitter: f64,
    jitter_at: Nanos,
    chance_loss: Rng,
    chance_jitter: Rng,
    chance_copy: Rng,
    stats: LinkStats,
}

impl<P: Clone> Link<P> {
    /// A link at time 0 with nothing on it.
    ///
    /// # Errors
    /// A setting out of range; the caller's fault.
    pub fn new(config: LinkConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            queue: Queue::new(Server::new(&config.capacity, &config.outages), config.queue_bytes),
            shared: None,
            stalls: Stalls::new(&config.outages, config.queue_bytes),
            burst: config.burst_loss.as_ref().map(|burst| Burst::new(burst, seed)),
            config,
            flying: BinaryHeap::new(),
            order: 0,
            now: 0,
            last_out: 0,
            jitter: 0.0,
            jitter_at: 0,
            chance_loss: Rng::new(seed, 1),
            chance_jitter: Rng::new(seed, 2),
            chance_copy: Rng::new(seed, 3),
            stats: LinkStats::default(),
        })
    }

    /// Puts the link behind a bottleneck that others share, in place of its own queue and capacity. The bottleneck goes on in an
    /// outage of the link: what comes out of it then is lost, or is held behind it, `queue_bytes` at most, and goes on together
    /// when the outage ends.
    pub fn share(&mut self, bottleneck: &Bottleneck) {
        self.shared = Some(bottleneck.clone());
    }

    /// Sends `packet`, `ip_bytes` long with its IP and UDP headers, not ECN-capable. Time does not go back.
    ///
    /// # Errors
    /// Why it will not arrive. A sender on a real network would not learn this.
    pub fn push(&mut self, now: Timestamp, ip_bytes: usize, packet: P) -> Result<(), DropReason> {
        self.push_ecn(now, ip_bytes, Ecn::NotEct, packet)
    }

    /// The same for a packet with this ECN field.
    ///
    /// # Errors
    /// As for [`Link::push`].
    pub fn push_ecn(&mut self, now: Timestamp, ip_bytes: usize, ecn: Ecn, packet: P) -> Result<(), DropReason> {
        let now = self.advance(now);
        let bytes = ip_bytes as u64;
        self.stats.offered += 1;
        self.stats.offered_bytes += ByteCount::new(bytes);
        match self.carry(now, bytes, ecn) {
            Ok((out, ecn)) => {
                self.stats.passed += 1;
                self.stats.passed_bytes += ByteCount::new(bytes);
                if self.chance_copy.chance(self.config.duplicate) {
                    self.fly(out, packet.clone(), ecn);
                }
                self.fly(out, packet, ecn);
                Ok(())
            }
            Err(reason) => {
                *match reason {
                    DropReason::Mtu => &mut self.stats.dropped_mtu,
                    DropReason::Outage => &mut self.stats.dropped_outage,
                    DropReason::Queue => &mut self.stats.dropped_queue,
                    DropReason::Loss => &mut self.stats.dropped_loss,
                    DropReason::Ecn => &mut self.stats.dropped_ecn,
                } += 1;
                Err(reason)
            }
        }
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Timestamp) -> Option<Delivery<P>> {
        let now = self.advance(now);
        if self.flying.peek()?.0.at > now {
            return None;
        }
        let Reverse(flying) = self.flying.pop()?;
        let at = Timestamp::from_micros(flying.at.div_ceil(1000));
        Some(Delivery { at, packet: flying.packet, ecn: flying.ecn })
    }

    /// When the next packet arrives.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.flying.peek().map(|next| Timestamp::from_micros(next.0.at.div_ceil(1000)))
    }

    /// What the link did so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Bytes in the queue and in service at the last call; in a shared one those of all links. What a stall holds behind a
    /// shared one is not among them.
    pub fn queued_bytes(&self) -> ByteCount {
        ByteCount::new(self.shared.as_ref().map_or(self.queue.bytes(), |shared| shared.lock().bytes()))
    }

    /// IP bytes the link's own bottleneck can carry in `from..to`; `None` when it has none.
    pub fn capacity_between(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        self.queue.bytes_between(nanos(from), nanos(to))
    }

    fn advance(&mut self, now: Timestamp) -> Nanos {
        self.now = self.now.max(nanos(now));
        self.queue.advance(self.now);
        if let Some(shared) = &self.shared {
            shared.lock().advance(self.now);
        }
        self.now
    }

    /// When a packet that enters at `now` arrives, and with which ECN field.
    fn carry(&mut self, now: Nanos, bytes: u64, ecn: Ecn) -> Result<(Nanos, Ecn), DropReason> {
        let mtu = self.config.mtu_steps.iter().rfind(|step| step.0 * MILLI <= now).map(|step| step.1);
        if mtu.or(self.config.mtu).is_some_and(|mtu| bytes > u64::from(mtu)) {
            return Err(DropReason::Mtu);
        }
        let path =
            self.config.ecn_steps.iter().rfind(|step| step.0 * MILLI <= now).map(|step| step.1).unwrap_or_default();
        if path == EcnPath::Drop && ecn.is_capable() {
            return Err(DropReason::Ecn);
        }
        let lose = |o: &&Outage| o.kind == OutageKind::Lose;
        if self.config.outages.iter().filter(lose).any(|o| o.covers(now)) {
            return Err(DropReason::Outage);
        }
        if self.queue.len() + self.flying.len() >= PACKETS_MAX {
            return Err(DropReason::Queue);
        }
        let leaves = if let Some(shared) = &self.shared {
            let leaves = shared.lock().push(bytes).ok_or(DropReason::Queue)?;
            self.hold(now, leaves, bytes)?
        } else {
            let leaves = self.queue.push(bytes).ok_or(DropReason::Queue)?;
            if self.queue.is_unlimited() {
                self.hold(now, leaves, bytes)?
            } else {
                let cuts = self.config.outages.iter().filter(lose).map(|o| o.from_ms * MILLI);
                if let Some(at) = cuts.filter(|from| now < *from && *from < leaves).min() {
                    self.queue.cut(at);
                    return Err(DropReason::Outage);
                }
                leaves
            }
        };
        if Queue::is_never(leaves) {
            return Err(DropReason::Queue);
        }
        self.stats.queue_max_micros = self.stats.queue_max_micros.max((leaves - now) / 1000);
        let burst = self.burst.as_mut().is_some_and(|burst| burst.loses(leaves));
        if self.chance_loss.chance(self.config.loss) || burst {
            return Err(DropReason::Loss);
        }
        let congested = self.config.mark_above_ms.is_some_and(|ms| (leaves - now) as f64 > ms * MILLI as f64);
        let ecn = match path {
            EcnPath::Clear => Ecn::NotEct,
            EcnPath::MarkAll => Ecn::Ce,
            EcnPath::Pass | EcnPath::Drop if congested && ecn.is_capable() => Ecn::Ce,
            EcnPath::Pass | EcnPath::Drop => ecn,
        };
        self.stats.marked += u64::from(ecn == Ecn::Ce);
        Ok((self.propagate(leaves), ecn))
    }

    /// When a packet goes on that leaves a bottleneck without outages at `leaves`: in a stall of this link, when that ends.
    fn hold(&mut self, now: Nanos, leaves: Nanos, bytes: u64) -> Result<Nanos, DropReason> {
        let until = self.stalls.end(leaves);
        let meets = |o: &Outage| o.from_ms * MILLI <= until && leaves < o.to_ms * MILLI;
        if self.config.outages.iter().any(|o| o.kind == OutageKind::Lose && meets(o)) {
            return Err(DropReason::Outage);
        }
        self.stalls.hold(now, leaves, until, bytes).then_some(until).ok_or(DropReason::Queue)
    }

    fn propagate(&mut self, leaves: Nanos) -> Nanos {
        let delay_ms = self.config.delay_steps.iter().rfind(|s| s.0 * MILLI <= leaves);
        let delay_ms = delay_ms.map_or(self.config.delay_ms, |s| s.1);
        let mut out = leaves + (delay_ms * MILLI as f64) as Nanos + self.draw_jitter(leaves);
        if !self.config.jitter_reorders {
            out = out.max(self.last_out);
            self.last_out = out;
        }
        if self.chance_copy.chance(self.config.reorder) {
            out += (self.config.reorder_ms * MILLI as f64) as Nanos;
        }
        out
    }

    fn draw_jitter(&mut self, at: Nanos) -> Nanos {
        if self.config.jitter_ms <= 0.0 {
            return 0;
        }
        let tau = self.config.jitter_tau_ms * MILLI as f64;
        let rho = if tau > 0.0 { (-(at.saturating_sub(self.jitter_at) as f64) / tau).exp() } else { 0.0 };
        self.jitter = rho * self.jitter + (1.0 - rho * rho).sqrt() * self.chance_jitter.normal();
        self.jitter_at = at;
        (self.jitter.abs() * self.config.jitter_ms * MILLI as f64) as Nanos
    }

    fn fly(&mut self, at: Nanos, packet: P, ecn: Ecn) {
        self.order += 1;
        self.flying.push(Reverse(Flying { at, order: self.order, packet, ecn }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BurstLoss, BurstPeriod, Capacity, Outage, Trace};

    fn link(config: LinkConfig) -> Link<u64> {
        Link::new(config, 7).unwrap()
    }

    fn at(ms: f64) -> Timestamp {
        Timestamp::from_micros((ms * 1e3) as u64)
    }

    /// Sends at the given times, returns arrival times in milliseconds (rounded) or the drop.
    fn run(link: &mut Link<u64>, sends: &[(f64, usize)]) -> Vec<Result<f64, DropReason>> {
        let fates: Vec<_> = sends.iter().enumerate().map(|(i, s)| link.push(at(s.0), s.1, i as u64)).collect();
        let mut arrivals = vec![f64::NAN; sends.len()];
        while let Some(next) = link.next_event() {
            let delivery = link.poll(next).unwrap();
            arrivals[delivery.packet as usize] = delivery.at.as_micros() as f64 / 1e3;
        }
        fates.into_iter().zip(arrivals).map(|(fate, at)| fate.map(|()| at)).collect()
    }

    #[test]
    fn a_constant_rate_serves_in_turn_and_delays() {
        let mut l =
            link(LinkConfig { capacity: Capacity::Constant { kbps: 8000 }, delay_ms: 20.0, ..Default::default() });
        assert_eq!(run(&mut l, &[(0.0, 1000), (0.0, 1000), (10.0, 1000)]), [Ok(21.0), Ok(22.0), Ok(31.0)]);
        assert_eq!(l.capacity_between(at(0.0), at(1000.0)), Some(1e6));
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let capacity = Capacity::Constant { kbps: 8000 };
        let mut l = link(LinkConfig { capacity, queue_bytes: 3000, ..Default::default() });
        let sends = [(0.0, 1000), (0.0, 1000), (0.0, 1000), (0.0, 1000), (1.0, 1000)];
        assert_eq!(run(&mut l, &sends), [Ok(1.0), Ok(2.0), Ok(3.0), Err(DropReason::Queue), Ok(4.0)]);
        assert_eq!(l.stats().dropped_queue, 1);
    }

    #[test]
    fn links_behind_one_bottleneck_wait_for_each_other() {
        // A kilobyte takes a millisecond, three of them fit.
        let shared = Bottleneck::new(&Capacity::Constant { kbps: 8000 }, 3000).unwrap();
        let (mut a, mut b) = (link(LinkConfig { delay_ms: 5.0, ..Default::default() }), link(LinkConfig::default()));
        a.share(&shared);
        b.share(&shared);
        let mut send = |link: u8, ms: f64| if link == 0 { a.push(at(ms), 1000, 0) } else { b.push(at(ms), 1000, 1) };
        assert_eq!(
            [send(0, 0.0), send(1, 0.0), send(0, 0.0), send(1, 0.5)],
            [Ok(()), Ok(()), Ok(()), Err(DropReason::Queue)]
        );
        assert_eq!(send(1, 1.0), Ok(()));
        let arrivals = |link: &mut Link<u64>| -> Vec<f64> {
            std::iter::from_fn(|| link.poll(Timestamp::MAX)).map(|d| d.at.as_micros() as f64 / 1e3).collect()
        };
        assert_eq!((arrivals(&mut a), arrivals(&mut b)), (vec![6.0, 8.0], vec![2.0, 4.0]));
        assert_eq!(shared.capacity_between(at(0.0), at(1000.0)), Some(1e6));
        assert!(Bottleneck::new(&Capacity::Steps { steps: vec![] }, 1).is_err());
    }

    #[test]
    fn an_outage_of_one_link_leaves_the_shared_bottleneck_to_the_other() {
        let shared = Bottleneck::new(&Capacity::Constant { kbps: 8000 }, 100_000).unwrap();
        let outages = vec![Outage { from_ms: 1, to_ms: 3, kind: OutageKind::Lose }];
        let (mut a, mut b) = (link(LinkConfig { outages, ..Default::default() }), link(LinkConfig::default()));
        a.share(&shared);
        b.share(&shared);
        // The second of the first link leaves in its outage, the one after it at 3 ms.
        let fates =
            [a.push(at(0.2), 500, 0), a.push(at(0.2), 1000, 1), b.push(at(0.2), 1000, 2), a.push(at(2.0), 500, 3)];
        assert_eq!(fates, [Ok(()), Err(DropReason::Outage), Ok(()), Err(DropReason::Outage)]);
        assert_eq!(b.poll(at(9.0)).unwrap().at, at(2.7));
    }

    #[test]
    fn a_stall_of_one_link_holds_its_packets_behind_the_shared_bottleneck() {
        let shared = Bottleneck::new(&Capacity::Constant { kbps: 8000 }, 100_000).unwrap();
        let stall = |from_ms, to_ms| Outage { from_ms, to_ms, kind: OutageKind::Hold };
        let outages = vec![stall(1, 10), stall(10, 20), Outage { from_ms: 40, to_ms: 50, kind: OutageKind::Lose }];
        let mut held = LinkConfig { outages, queue_bytes: 2500, delay_ms: 5.0, ..Default::default() };
        held.outages.insert(2, stall(30, 45));
        let (mut a, mut b) = (link(held), link(LinkConfig::default()));
        a.share(&shared);
        b.share(&shared);
        // A kilobyte takes a millisecond. The first leaves before the stall; what leaves in it waits for its end, as much as
        // the link holds; the other link goes on.
        assert_eq!(a.push(at(0.0), 900, 0), Ok(()));
        assert_eq!(a.push(at(0.0), 1000, 1), Ok(()));
        assert_eq!(b.push(at(0.0), 1000, 2), Ok(()));
        assert_eq!(a.push(at(5.0), 1000, 3), Ok(()));
        assert_eq!(a.push(at(6.0), 1000, 4), Err(DropReason::Queue));
        assert_eq!(a.push(at(19.5), 1000, 5), Ok(()));
        // Held until an outage loses it, at 40 ms.
        assert_eq!(a.push(at(35.0), 1000, 6), Err(DropReason::Outage));
        assert_eq!(b.poll(at(9.0)).unwrap().at, at(2.9));
        let arrivals: Vec<_> = std::iter::from_fn(|| a.poll(at(99.0))).map(|got| (got.packet, got.at)).collect();
        assert_eq!(arrivals, [(0, at(5.9)), (1, at(25.0)), (3, at(25.0)), (5, at(25.5))]);
    }

    #[test]
    fn a_stall_holds_packets_back_on_a_link_without_limit() {
        let outages = vec![Outage { from_ms: 10, to_ms: 20, kind: OutageKind::Hold }];
        let mut l = link(LinkConfig { outages, ..Default::default() });
        assert_eq!(run(&mut l, &[(9.0, 100), (10.0, 100), (20.0, 100)]), [Ok(9.0), Ok(20.0), Ok(20.0)]);
    }

    #[test]
    fn a_step_changes_the_rate_inside_a_packet() {
        let mut l = link(LinkConfig {
            capacity: Capacity::Steps { steps: vec![(0, 8000), (1000, 4000)] },
            ..Default::default()
        });
        // Half a millisecond at 8 Mbit/s carries 500 bytes, the other 500 take a whole one.
        assert_eq!(run(&mut l, &[(999.5, 1000)]), [Ok(1001.0)]);
    }

    #[test]
    fn an_outage_loses_the_queue_and_ends() {
        let outages = vec![Outage { from_ms: 1000, to_ms: 2000, kind: OutageKind::Lose }];
        let mut l = link(LinkConfig { capacity: Capacity::Constant { kbps: 8000 }, outages, ..Default::default() });
        let sends = [(998.5, 1000), (998.5, 1000), (1000.0, 1000), (2000.0, 1000)];
        let lost = Err(DropReason::Outage);
        assert_eq!(run(&mut l, &sends), [Ok(999.5), lost, lost, Ok(2001.0)]);
        assert_eq!(l.capacity_between(at(0.0), at(3000.0)), Some(2e6));
    }

    #[test]
    fn a_stall_holds_packets_back() {
        let outages = vec![Outage { from_ms: 1000, to_ms: 2000, kind: OutageKind::Hold }];
        let mut l = link(LinkConfig { capacity: Capacity::Constant { kbps: 8000 }, outages, ..Default::default() });
        assert_eq!(run(&mut l, &[(999.5, 1000)]), [Ok(2000.5)]);
    }

    #[test]
    fn a_recording_is_looped_offset_and_scaled() {
        let trace = Trace::parse("10\n10\n20\n\n40\n").unwrap();
        let with = |offset_ms, scale| LinkConfig {
            capacity: Capacity::Trace { trace: trace.clone(), offset_ms, scale },
            ..Default::default()
        };
        let mut l = link(with(0, 1.0));
        let sends = [(0.0, 1500), (0.0, 1500), (0.0, 3000), (0.0, 100), (45.0, 1400)];
        assert_eq!(run(&mut l, &sends), [Ok(10.0), Ok(10.0), Ok(40.0), Ok(50.0), Ok(50.0)]);
        assert_eq!(l.capacity_between(at(0.0), at(400.0)), Some(40.0 * 1500.0 - 1500.0));
        assert_eq!(run(&mut link(with(15, 2.0)), &[(0.0, 3000)]), [Ok(5.0)]);
        assert!(Trace::parse("5\nx").is_err() && Trace::parse("").is_err() && Trace::parse("9\n5").is_err());
    }

    #[test]
    fn loss_has_the_share_and_the_burst_length_asked_for() {
        let burst = |period| LinkConfig {
            burst_loss: Some(BurstLoss { loss: 0.05, period, loss_bad: 1.0 }),
            ..Default::default()
        };
        let cases = [
            (LinkConfig { loss: 0.02, ..Default::default() }, 0.02, 1.02),
            (burst(BurstPeriod::Millis(50.0)), 0.05, 50.0),
            (burst(BurstPeriod::Packets(50.0)), 0.05, 50.0),
        ];
        for (config, share, length) in cases {
            let mut l = link(config);
            let (mut lost, mut bursts, mut before) = (0u32, 0u32, false);
            for i in 0..400_000u64 {
                let gone = l.push(Timestamp::from_millis(i), 100, i).is_err();
                while l.poll(Timestamp::from_millis(i)).is_some() {}
                lost += u32::from(gone);
                bursts += u32::from(gone && !before);
                before = gone;
            }
            let got = (f64::from(lost) / 4e5, f64::from(lost) / f64::from(bursts));
            assert!((got.0 - share).abs() < 0.2 * share && (got.1 - length).abs() < 0.16 * length, "{got:?}");
        }
    }

    /// Fates of a packet every millisecond: lost or not.
    fn fates(config: LinkConfig, count: u64) -> Vec<bool> {
        let mut l = link(config);
        let mut fate = |ms: u64| {
            while l.poll(Timestamp::from_millis(ms)).is_some() {}
            l.push(Timestamp::from_millis(ms), 100, ms).is_err()
        };
        (0..count).map(&mut fate).collect()
    }

    #[test]
    fn bad_periods_may_let_packets_through() {
        // Half of a bad period is lost, 50 of 1000 in all: a tenth of the time is bad, for 50 packets in the mean.
        for period in [BurstPeriod::Millis(50.0), BurstPeriod::Packets(50.0)] {
            let burst_loss = Some(BurstLoss { loss: 0.05, period, loss_bad: 0.5 });
            let lost = fates(LinkConfig { burst_loss, ..Default::default() }, 1_000_000);
            let share = |of: &mut dyn Iterator<Item = bool>| {
                let (lost, all) = of.fold((0u32, 0u32), |(lost, all), gone| (lost + u32::from(gone), all + 1));
                f64::from(lost) / f64::from(all)
            };
            let all = share(&mut lost.iter().copied());
            assert!((all - 0.05).abs() < 0.005, "{period:?}: {all} are lost");
            // After a loss the next packet meets the same bad period but for 1 in 50, and half of it is lost.
            let next = share(&mut lost.windows(2).filter(|pair| pair[0]).map(|pair| pair[1]));
            let expected = 0.5 * (0.98 + 0.02 * 0.1);
            assert!((next - expected).abs() < 0.02, "{period:?}: {next} after a loss, not {expected}");
            // 50 packets on, e^-1 of the difference to the long run is left: a bad period ends in 50, a good one in 450.
            let later = share(&mut lost.windows(51).filter(|span| span[0]).map(|span| span[50]));
            let left = (-50.0 * (1.0 / 50.0 + 1.0 / 450.0_f64)).exp();
            let expected = 0.05 + 0.45 * left;
            assert!((later - expected).abs() < 0.025, "{period:?}: {later} 50 after a loss, not {expected}");
        }
    }

    #[test]
    fn jitter_is_half_normal_and_forgets_in_its_time() {
        const SCALE_MS: f64 = 4.0;
        let extra = |tau_ms: f64| -> Vec<f64> {
            let config = LinkConfig {
                jitter_ms: SCALE_MS,
                jitter_tau_ms: tau_ms,
                jitter_reorders: true,
                delay_ms: 10.0,
                ..Default::default()
            };
            let mut l = link(config);
            let mut extra = vec![f64::NAN; 200_000];
            for i in 0..extra.len() as u64 {
                l.push(Timestamp::from_millis(i), 100, i).unwrap();
            }
            while let Some(delivery) = l.poll(Timestamp::MAX) {
                extra[delivery.packet as usize] = delivery.at.as_micros() as f64 / 1e3 - delivery.packet as f64 - 10.0;
            }
            extra
        };
        for tau_ms in [0.0, 20.0] {
            let extra = extra(tau_ms);
            let count = extra.len() as f64;
            let mean = extra.iter().sum::<f64>() / count;
            let square = extra.iter().map(|ms| ms * ms).sum::<f64>() / count;
            // Of the size of a normal deviation: mean sqrt(2/pi), mean square 1.
            let expected = SCALE_MS * (2.0 / std::f64::consts::PI).sqrt();
            assert!((mean - expected).abs() < 0.05 * expected, "{mean} ms in the mean");
            assert!((square - SCALE_MS * SCALE_MS).abs() < 0.06 * SCALE_MS * SCALE_MS, "{square} in the mean square");
            for lag in [1, 10, 20, 60] {
                let product = extra.windows(lag + 1).map(|span| (span[0] - mean) * (span[lag] - mean)).sum::<f64>();
                let got = product / (count - lag as f64) / (square - mean * mean);
                // What two sizes have in common when the deviations have `rho`.
                let rho = if tau_ms > 0.0 { (-(lag as f64) / tau_ms).exp() } else { 0.0 };
                let size = (1.0 - rho * rho).sqrt() + rho * rho.asin() - 1.0;
                let expected = size / (std::f64::consts::FRAC_PI_2 - 1.0);
                assert!((got - expected).abs() < 0.04, "{lag} ms apart with {tau_ms}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn outages_take_the_opportunities_of_a_recording() {
        // 1500 bytes every 10 ms, none from 20 to 40 ms.
        let with = |kind| LinkConfig {
            capacity: Capacity::Trace { trace: Trace::parse("10").unwrap(), offset_ms: 0, scale: 1.0 },
            outages: vec![Outage { from_ms: 20, to_ms: 40, kind }],
            ..Default::default()
        };
        let sends = [(5.0, 1500), (5.0, 1000), (25.0, 1000), (35.0, 2000), (45.0, 1000)];
        let mut held = link(with(OutageKind::Hold));
        assert_eq!(run(&mut held, &sends), [Ok(10.0), Ok(40.0), Ok(50.0), Ok(60.0), Ok(70.0)]);
        let mut cut = link(with(OutageKind::Lose));
        let lost = Err(DropReason::Outage);
        assert_eq!(run(&mut cut, &sends), [Ok(10.0), lost, lost, lost, Ok(50.0)]);
        for link in [held, cut] {
            assert_eq!(link.capacity_between(at(0.0), at(60.5)), Some(4.0 * 1500.0));
        }
    }

    #[test]
    fn packets_overtake_only_when_asked_and_copies_appear() {
        let overtaken = |config: LinkConfig| {
            let mut l = link(config);
            for i in 0..1000 {
                l.push(at(i as f64 * 0.1), 100, i).unwrap();
            }
            let mut seen = Vec::new();
            while let Some(next) = l.next_event() {
                seen.push(l.poll(next).unwrap().packet);
            }
            (seen.windows(2).filter(|w| w[0] > w[1]).count(), seen.len())
        };
        let jitter = LinkConfig { jitter_ms: 5.0, ..Default::default() };
        assert_eq!(overtaken(jitter.clone()), (0, 1000));
        assert!(overtaken(LinkConfig { jitter_reorders: true, ..jitter }).0 > 100);
        assert!(overtaken(LinkConfig { reorder: 0.1, reorder_ms: 3.0, ..Default::default() }).0 > 50);
        let copies = overtaken(LinkConfig { duplicate: 0.1, ..Default::default() }).1;
        assert!((1060..1140).contains(&copies), "{copies}");
    }

    #[test]
    fn the_mtu_swallows_large_packets_and_the_delay_may_step() {
        let mut l =
            link(LinkConfig { mtu: Some(1400), delay_steps: vec![(100, 30.0)], delay_ms: 10.0, ..Default::default() });
        assert_eq!(run(&mut l, &[(0.0, 1400), (0.0, 1401), (100.0, 40)]), [Ok(10.0), Err(DropReason::Mtu), Ok(130.0)]);
        let mut l = link(LinkConfig { mtu_steps: vec![(50, 1000), (90, 1500)], ..Default::default() });
        let fates = run(&mut l, &[(49.0, 1400), (50.0, 1400), (50.0, 1000), (90.0, 1400)]);
        assert_eq!(fates, [Ok(49.0), Err(DropReason::Mtu), Ok(50.0), Ok(90.0)]);
    }

    #[test]
    fn a_queue_marks_what_can_be_marked_once_it_is_long() {
        let config = LinkConfig {
            capacity: Capacity::Constant { kbps: 8000 },
            mark_above_ms: Some(2.0),
            ecn_steps: vec![(100, EcnPath::Clear), (200, EcnPath::Drop), (300, EcnPath::MarkAll)],
            ..Default::default()
        };
        let mut l = link(config);
        // A packet takes 1 ms: the third waits too long.
        for ecn in [Ecn::Ect1, Ecn::Ect1, Ecn::Ect1, Ecn::NotEct, Ecn::Ect0] {
            l.push_ecn(at(0.0), 1000, ecn, 0).unwrap();
        }
        l.push_ecn(at(100.0), 1000, Ecn::Ect1, 0).unwrap();
        assert_eq!(l.push_ecn(at(200.0), 1000, Ecn::Ect1, 0), Err(DropReason::Ecn));
        l.push(at(200.0), 1000, 0).unwrap();
        l.push(at(300.0), 1000, 0).unwrap();
        let seen: Vec<_> = std::iter::from_fn(|| l.poll(at(400.0))).map(|delivery| delivery.ecn).collect();
        let (cleared, passed) = (Ecn::NotEct, Ecn::NotEct);
        assert_eq!(seen, [Ecn::Ect1, Ecn::Ect1, Ecn::Ce, Ecn::NotEct, Ecn::Ce, cleared, passed, Ecn::Ce]);
        assert_eq!((l.stats().marked, l.stats().dropped_ecn), (3, 1));
    }

    #[test]
    fn the_same_seed_replays_bit_for_bit() {
        let deliveries = |seed| {
            let config =
                LinkConfig { loss: 0.1, jitter_ms: 9.0, duplicate: 0.05, jitter_reorders: true, ..Default::default() };
            let mut l: Link<u64> = Link::new(config, seed).unwrap();
            for i in 0..500 {
                let _ = l.push(Timestamp::from_millis(i), 100, i);
            }
            std::iter::from_fn(move || l.poll(Timestamp::MAX)).collect::<Vec<_>>()
        };
        assert_eq!(deliveries(3), deliveries(3));
        assert_ne!(deliveries(3), deliveries(4));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let bad = [
            LinkConfig { loss: 1.5, ..Default::default() },
            LinkConfig { delay_ms: f64::NAN, ..Default::default() },
            LinkConfig { capacity: Capacity::Steps { steps: vec![] }, ..Default::default() },
            LinkConfig {
                burst_loss: Some(BurstLoss { loss: 0.5, period: BurstPeriod::Millis(1.0), loss_bad: 0.4 }),
                ..Default::default()
            },
        ];
        for config in bad {
            assert!(Link::<u64>::new(config.clone(), 1).is_err(), "{config:?}");
        }
    }
}
