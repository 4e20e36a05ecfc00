//! Links that are idle by choice stay awake: their radio connected, their delay and the size they take known.
//!
//! RTCP every 100 ms keeps the radio connected and the delay known. Now and then a copy of the newest packet goes along, which
//! shows that full datagrams still arrive, and is worth something to the receiver.

use std::time::Duration;
use units::Timestamp;

use super::{Sender, Standing};

/// A link that has carried no media for so long is idle.
const IDLE: Duration = Duration::from_millis(500);
/// Copies on one link are at least so far apart,
const COPY_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// and all of them together are at most this share of the media.
const SHARE_MAX: f64 = 0.003;
/// Packets looked at for one that is worth a copy.
const LOOK_MAX: u64 = 32;

impl Sender {
    /// While nothing waits, queues a copy on the link that has been idle for longest, when its time has come.
    pub(super) fn keep_warm(&mut self, now: Timestamp) {
        if now < self.warm_at || self.extension != Some(true) || self.history.pending_len() > 0 {
            return;
        }
        let idle = |slot: &super::Slot| {
            slot.link.usable() && slot.link.options.keep_warm && now - slot.link.media_at() >= IDLE
        };
        let coldest = self.slots.iter().enumerate().filter_map(|(i, slot)| slot.as_ref().map(|slot| (i, slot)));
        let coldest = coldest.filter(|(_, slot)| idle(slot)).min_by_key(|(_, slot)| slot.link.media_at());
        let Some((index, _)) = coldest else { return };
        let media = self.media_meter.rate(now).as_bps() as f64 / 8.0;
        let Some(number) = self.newest_on_the_way(now, index) else { return };
        let bytes = self.history.get(number).map_or(0, |packet| packet.bytes.len());
        let pause = Duration::from_secs_f64((bytes as f64 / (media * SHARE_MAX).max(1.0)).min(10.0));
        self.warm_at = now + pause.max(COPY_INTERVAL_MIN);
        let output = self.send(now, number, index);
        self.output(output);
    }

    /// The newest packet that is on its way, whole, not too old and fits the link.
    fn newest_on_the_way(&self, now: Timestamp, index: usize) -> Option<u64> {
        let end = self.history.end();
        (1..=LOOK_MAX).map_while(|back| end.checked_sub(back)).find(|number| {
            self.history.get(*number).is_some_and(|packet| {
                packet.standing == Standing::Open
                    && packet.on_the_way == 1
                    && !packet.repair
                    && packet.copies == 0
                    && now - packet.source_time < self.config.latency
                    && self.too_narrow(packet.bytes.len()) >> index & 1 == 0
            })
        })
    }
}
