//! Both directions of a network path.

use bytes::Bytes;
use units::{Ecn, Timestamp};

use crate::bottleneck::Bottleneck;
use crate::config::{ConfigError, Outage, PathConfig};
use crate::link::{Delivery, DropReason, Link};

/// Both directions of a path, with their common outages and the sender's NAT.
///
/// The NAT stands at the sender. It gives it one public source address at a time: binding 0 first, the next one after each
/// rebinding. The receiver sees the binding with each packet, also of those that were under way when it changed, and answers to
/// one; answers to an old binding vanish, also those under way.
#[derive(Debug)]
pub struct Path<P = Bytes> {
    rebind_ms: Vec<u64>,
    up: Link<(u32, P)>,
    down: Link<(u32, P)>,
}

impl<P: Clone> Path<P> {
    /// A path at time 0.
    ///
    /// # Errors
    /// A setting out of range; the caller's fault.
    pub fn new(config: PathConfig, seed: u64) -> Result<Self, ConfigError> {
        let merge = |own: Vec<Outage>| {
            let mut all = own;
            all.extend(config.outages.iter().copied());
            all.sort_by_key(|outage| outage.from_ms);
            all
        };
        let (mut up, mut down) = (config.up, config.down);
        up.outages = merge(up.outages);
        down.outages = merge(down.outages);
        let mut rebind_ms = config.rebind_ms;
        rebind_ms.sort_unstable();
        Ok(Self {
            rebind_ms,
            up: Link::new(up, seed.wrapping_mul(2))?,
            down: Link::new(down, seed.wrapping_mul(2) + 1)?,
        })
    }

    /// Puts the direction to the receiver behind a bottleneck that other paths share, see [`Link::share`].
    pub fn share_up(&mut self, bottleneck: &Bottleneck) {
        self.up.share(bottleneck);
    }

    /// The sender's binding at `now`.
    pub fn binding(&self, now: Timestamp) -> u32 {
        self.rebind_ms.partition_point(|at| *at <= now.as_millis()) as u32
    }

    /// Sends from the sender to the receiver.
    ///
    /// # Errors
    /// Why it will not arrive.
    pub fn push_up(&mut self, now: Timestamp, ip_bytes: usize, packet: P) -> Result<(), DropReason> {
        self.push_up_ecn(now, ip_bytes, Ecn::NotEct, packet)
    }

    /// The same with an ECN field.
    ///
    /// # Errors
    /// Why it will not arrive.
    pub fn push_up_ecn(&mut self, now: Timestamp, ip_bytes: usize, ecn: Ecn, packet: P) -> Result<(), DropReason> {
        let binding = self.binding(now);
        self.up.push_ecn(now, ip_bytes, ecn, (binding, packet))
    }

    /// Sends from the receiver to a binding of the sender.
    ///
    /// # Errors
    /// Why it will not arrive; an old binding counts as an outage. One that grows old on the way is not told.
    pub fn push_down(&mut self, now: Timestamp, binding: u32, ip_bytes: usize, packet: P) -> Result<(), DropReason> {
        if binding != self.binding(now) {
            return Err(DropReason::Outage);
        }
        self.down.push(now, ip_bytes, (binding, packet))
    }

    /// The next packet at the receiver, with the binding it came from.
    pub fn poll_up(&mut self, now: Timestamp) -> Option<Delivery<(u32, P)>> {
        self.up.poll(now)
    }

    /// The next packet at the sender.
    pub fn poll_down(&mut self, now: Timestamp) -> Option<Delivery<P>> {
        while let Some(Delivery { at, packet: (binding, packet), ecn }) = self.down.poll(now) {
            if binding == self.binding(at) {
                return Some(Delivery { at, packet, ecn });
            }
        }
        None
    }

    /// When the next packet arrives at either end, or vanishes at the NAT.
    pub fn next_event(&self) -> Option<Timestamp> {
        [self.up.next_event(), self.down.next_event()].into_iter().flatten().min()
    }

    /// The direction from the sender to the receiver.
    pub fn up(&self) -> &Link<(u32, P)> {
        &self.up
    }

    /// The direction from the receiver to the sender.
    pub fn down(&self) -> &Link<(u32, P)> {
        &self.down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebinding_shows_and_kills_the_old_address() {
        let config = PathConfig { rebind_ms: vec![100], ..Default::default() };
        let mut path: Path<&str> = Path::new(config, 1).unwrap();
        let ms = Timestamp::from_millis;
        path.push_up(ms(0), 100, "a").unwrap();
        path.push_up(ms(100), 100, "b").unwrap();
        assert_eq!(path.poll_up(ms(100)).unwrap().packet, (0, "a"));
        assert_eq!(path.poll_up(ms(100)).unwrap().packet, (1, "b"));
        assert_eq!(path.push_down(ms(101), 0, 100, "old"), Err(DropReason::Outage));
        path.push_down(ms(101), 1, 100, "new").unwrap();
        assert_eq!(path.poll_down(ms(102)).unwrap().packet, "new");
    }

    #[test]
    fn what_is_under_way_when_the_nat_rebinds_goes_to_the_old_address() {
        let mut config = PathConfig { rebind_ms: vec![100], ..Default::default() };
        (config.up.delay_ms, config.down.delay_ms) = (30.0, 30.0);
        let mut path: Path<&str> = Path::new(config, 1).unwrap();
        let ms = Timestamp::from_millis;
        path.push_up(ms(80), 100, "up").unwrap();
        path.push_down(ms(69), 0, 100, "in time").unwrap();
        path.push_down(ms(70), 0, 100, "too late").unwrap();
        path.push_down(ms(110), 1, 100, "new").unwrap();
        let delivered: Vec<_> = std::iter::from_fn(|| path.poll_down(ms(200))).map(|d| (d.at, d.packet)).collect();
        assert_eq!(delivered, [(ms(99), "in time"), (ms(140), "new")]);
        assert_eq!(path.poll_up(ms(200)).unwrap().packet, (0, "up"));
    }

    #[test]
    fn an_outage_of_the_path_takes_both_directions() {
        let outages = vec![Outage { from_ms: 10, to_ms: 20, kind: crate::OutageKind::Lose }];
        let mut path: Path<u8> = Path::new(PathConfig { outages, ..Default::default() }, 1).unwrap();
        let ms = Timestamp::from_millis;
        assert_eq!(path.push_up(ms(10), 100, 1), Err(DropReason::Outage));
        assert_eq!(path.push_down(ms(10), 0, 100, 1), Err(DropReason::Outage));
        assert_eq!(path.push_up(ms(20), 100, 1), Ok(()));
    }
}
