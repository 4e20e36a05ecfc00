//! The bounded queue in front of each output.
//!
//! The feeder never waits: an output that cannot keep up loses what does not fit and goes on at the next point where a
//! decoder can start. So a stuck output costs the others nothing but this much memory, shared with them.

use crate::media::unit::Unit;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Items in a queue: ten seconds of a stream with 60 pictures, two sound tracks and raw payloads of 20 Mbit/s.
pub const QUEUE_ITEMS_MAX: usize = 24_000;
/// Bytes in a queue: about ten seconds of 6 Mbit/s, two of 30 Mbit/s.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Pause of an output that writes files between two looks: of the queue's ten seconds next to nothing, and with the recording's flush
/// and the disk still well below a second until media is safe.
pub const LEISURE: Duration = Duration::from_millis(100);

/// What an output is fed with.
#[derive(Debug, Clone)]
pub enum Item {
    /// An access unit. `after_gap`: units before it did not fit into the queue.
    Unit {
        /// The unit.
        unit: Arc<Unit>,
        /// Units before it are missing, by the output's own fault.
        after_gap: bool,
    },
    /// Packets as they came.
    Raw(Raw),
    /// Time passes: a few times a second, so that an output needs no timer of its own to flush.
    Tick,
}

/// Packets as they came, for the recording.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Whole TS packets.
    pub packets: Bytes,
    /// Where in `packets` a part may begin: a random access point of the leading track.
    pub cut: Option<usize>,
    /// The program tables in force, for the beginning of a part; empty before the first.
    pub tables: Bytes,
    /// Decoding time on the output timeline of what was placed last, in ticks.
    pub media_time: Option<i64>,
    /// What is missing before it.
    pub missing: Missing,
}

/// What is missing before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Nothing.
    #[default]
    Nothing,
    /// The bond could not deliver so many packets, where it can tell.
    Lost {
        /// Payloads of the bond.
        packets: Option<u64>,
    },
    /// Another sender, or the same after a restart.
    NewSender,
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Unit { unit, .. } => unit.payload.len(),
            Self::Raw(raw) => raw.packets.len(),
            Self::Tick => 0,
        }
    }
}

/// Makes both ends.
pub fn queue() -> (Feeder, Feed) {
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS_MAX);
    let level = Arc::new(Level::default());
    let feeder = Feeder { sender, level: Arc::clone(&level), skipping: false, bytes_max: QUEUE_BYTES_MAX };
    (feeder, Feed { receiver, level })
}

#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// The feeder's end.
#[derive(Debug)]
pub struct Feeder {
    sender: mpsc::Sender<Item>,
    level: Arc<Level>,
    /// Something did not fit: nothing goes in before the next starting point.
    skipping: bool,
    bytes_max: usize,
}

impl Feeder {
    /// Puts an item in if there is room.
    pub fn push(&mut self, item: Item) {
        let item = match item {
            Item::Tick => {
                // A full queue needs no clock.
                let _ = self.sender.try_send(Item::Tick);
                return;
            }
            item if !self.skipping => item,
            item => {
                let Some(item) = self.resume(item) else {
                    self.level.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                item
            }
        };
        let size = item.size();
        let fits = self.level.bytes.load(Ordering::Relaxed) + size <= self.bytes_max;
        if fits && self.sender.try_send(item).is_ok() {
            self.level.bytes.fetch_add(size, Ordering::Relaxed);
            self.skipping = false;
        } else {
            self.skipping = true;
            self.level.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The item with its gap marked, if the output may go on with it: at a starting point, with half the queue free.
    fn resume(&self, item: Item) -> Option<Item> {
        let room = self.level.bytes.load(Ordering::Relaxed) <= self.bytes_max / 2;
        match item {
            Item::Unit { unit, .. } if room && unit.starts_output() => Some(Item::Unit { unit, after_gap: true }),
            Item::Raw(raw) if room => Some(Item::Raw(Raw { missing: Missing::Lost { packets: None }, ..raw })),
            _ => None,
        }
    }
}

/// The output's end.
#[derive(Debug)]
pub struct Feed {
    receiver: mpsc::Receiver<Item>,
    level: Arc<Level>,
}

impl Feed {
    /// The next item; `None` when the stream has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Item> {
        let item = self.receiver.recv().await?;
        self.level.bytes.fetch_sub(item.size(), Ordering::Relaxed);
        Some(item)
    }

    /// The same for an output with a thread of its own.
    pub fn next_blocking(&mut self) -> Option<Item> {
        let item = self.receiver.blocking_recv()?;
        self.level.bytes.fetch_sub(item.size(), Ordering::Relaxed);
        Some(item)
    }

    /// The same for an output that writes files and is in no hurry: it looks every [`LEISURE`] and then takes all there is. Being woken
    /// for each of hundreds of items a second costs more than writing them.
    pub fn next_at_leisure(&mut self) -> Option<Item> {
        let item = match self.receiver.try_recv() {
            Ok(item) => item,
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {
                std::thread::sleep(LEISURE);
                self.receiver.blocking_recv()?
            }
        };
        self.level.bytes.fetch_sub(item.size(), Ordering::Relaxed);
        Some(item)
    }

    /// Throws away what waits: it is too old for an output that was away. False when the stream has ended.
    pub fn discard(&mut self) -> bool {
        loop {
            match self.receiver.try_recv() {
                Ok(item) => {
                    self.level.bytes.fetch_sub(item.size(), Ordering::Relaxed);
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Items dropped since the beginning because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.level.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    fn item(unit: &Unit) -> Item {
        Item::Unit { unit: Arc::new(unit.clone()), after_gap: false }
    }

    #[test]
    fn who_is_in_no_hurry_gets_everything_in_order_and_the_end() {
        let (mut feeder, mut feed) = queue();
        let units = samples::programme(2);
        let sent: Vec<i64> = units.iter().map(|unit| unit.dts).collect();
        let feeding = std::thread::spawn(move || {
            for (number, unit) in units.iter().enumerate() {
                feeder.push(item(unit));
                if number == 50 {
                    std::thread::sleep(2 * LEISURE);
                }
            }
        });
        let taken = std::iter::from_fn(|| feed.next_at_leisure());
        let came: Vec<i64> =
            taken.map(|item| if let Item::Unit { unit, .. } = item { unit.dts } else { panic!("no unit") }).collect();
        feeding.join().unwrap();
        assert_eq!(came, sent);
        assert_eq!(feed.level.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_full_queue_loses_what_does_not_fit_and_goes_on_at_the_next_starting_point() {
        let (mut feeder, mut feed) = queue();
        feeder.bytes_max = 30_000;
        let units = samples::programme(6);
        for unit in &units[..100] {
            feeder.push(item(unit));
        }
        // Two seconds fit (12 kB of pictures and 2.8 kB of sound each); the third and fourth do not all.
        for unit in &units[100..200] {
            feeder.push(item(unit));
        }
        assert!(feed.dropped() > 0);
        let before: Vec<i64> = {
            let mut taken = Vec::new();
            while let Ok(Some(Item::Unit { unit, after_gap })) =
                tokio::time::timeout(std::time::Duration::ZERO, feed.next()).await
            {
                assert!(!after_gap);
                taken.push(unit.dts);
            }
            taken
        };
        assert!(before.len() < 200);
        for unit in &units[210..] {
            feeder.push(item(unit));
        }
        let Some(Item::Unit { unit, after_gap }) = feed.next().await else { panic!("no unit") };
        assert!(after_gap && unit.starts_output());
        assert_eq!(unit.dts, units.iter().skip(210).find(|unit| unit.starts_output()).unwrap().dts);
    }
}
