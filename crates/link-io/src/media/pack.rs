//! From buffers of any size to payloads of up to seven whole TS packets. Pure.

use super::classify::Classifier;
use super::ts::TS_PACKET_BYTES;
use bond::{PAYLOAD_BYTES_MAX, PacketClass};
use bytes::{Bytes, BytesMut};
use std::ops::Add;
use std::time::Duration;

/// A full payload: seven TS packets, 1316 bytes, the usual size on every network.
pub const FULL_PAYLOAD_BYTES: usize = 7 * TS_PACKET_BYTES;
/// Packets that do not fill a payload wait so long for more: at 0.5 Mbit/s and more it becomes full. Longer waits would save
/// headers of thinner streams, at the price of their latency.
pub const FILL_WAIT_MAX: Duration = Duration::from_millis(20);
const SYNC: u8 = 0x47;
/// Payloads are cut from memory in pieces of this size, one allocation for many; a piece is given back with its last payload.
const BLOCK_BYTES: usize = 32 * 1024;

/// Cuts a transport stream into payloads; a payload is as important as the most important packet in it, and as old as the
/// first.
///
/// `T` is whatever the caller counts time in; it comes with the bytes, and goes with the payloads. At [`Packer::due`] what is
/// under way has waited long enough: then [`Packer::finish`] is called.
#[derive(Debug)]
pub struct Packer<T> {
    classifier: Classifier,
    /// Whole packets of the payload under way.
    payload: BytesMut,
    /// When its first byte came; `None` while there is none.
    since: Option<T>,
    /// The beginning of a packet whose rest has not come yet.
    partial: Vec<u8>,
    /// When its first byte came; of no meaning while there is none.
    partial_since: Option<T>,
    packets: u64,
    skipped_bytes: u64,
    payload_bytes_max: usize,
}

impl<T: Copy> Default for Packer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Packer<T> {
    /// Nothing under way, no PID known.
    pub fn new() -> Self {
        Self {
            classifier: Classifier::new(),
            payload: BytesMut::with_capacity(BLOCK_BYTES),
            since: None,
            partial: Vec::with_capacity(TS_PACKET_BYTES),
            partial_since: None,
            packets: 0,
            skipped_bytes: 0,
            payload_bytes_max: FULL_PAYLOAD_BYTES,
        }
    }

    /// TS packets taken.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes that belong to no TS packet and were left out.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Payloads become no longer than this from now on, but for one under way: the links in use may take less than a full
    /// payload (`FlowSender::payload_bytes_max`).
    pub fn limit(&mut self, payload_bytes_max: usize) {
        self.payload_bytes_max = payload_bytes_max.clamp(TS_PACKET_BYTES, FULL_PAYLOAD_BYTES);
    }

    /// Takes the next bytes of the stream, which came at `time`, and emits every payload that became full, with the time of its
    /// first byte.
    ///
    /// # Errors
    /// The first error of `emit`; what came behind is lost then.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        time: T,
        mut emit: impl FnMut(Bytes, PacketClass, T) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.partial.is_empty() {
            let missing = TS_PACKET_BYTES - self.partial.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(head);
            bytes = rest;
            if let Some(&packet) = self.partial.first_chunk::<TS_PACKET_BYTES>() {
                self.partial.clear();
                let since = self.partial_since.take().unwrap_or(time);
                self.packet(&packet, since, &mut emit)?;
            }
        }
        while !bytes.is_empty() {
            if bytes[0] != SYNC {
                let skip = bytes.iter().position(|&byte| byte == SYNC).unwrap_or(bytes.len());
                self.skipped_bytes += skip as u64;
                bytes = &bytes[skip..];
            } else if let Some((packet, rest)) = bytes.split_first_chunk::<TS_PACKET_BYTES>() {
                self.packet(packet, time, &mut emit)?;
                bytes = rest;
            } else {
                self.partial.extend_from_slice(bytes);
                self.partial_since = Some(time);
                break;
            }
        }
        Ok(())
    }

    /// Takes a datagram. One that fits the limit is a payload as it is, whatever it holds; TS packets that are too many go on
    /// like [`Packer::push`], and the next datagram fills up what is left of them.
    ///
    /// # Errors
    /// The first error of `emit`; what came behind is lost then.
    pub fn push_datagram<E>(
        &mut self,
        bytes: &[u8],
        time: T,
        mut emit: impl FnMut(Bytes, PacketClass, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = bytes.len().is_multiple_of(TS_PACKET_BYTES);
        let stream = whole && bytes.iter().step_by(TS_PACKET_BYTES).all(|&byte| byte == SYNC);
        let fits = bytes.len() <= self.payload_bytes_max && self.payload.is_empty();
        if stream && !fits {
            return self.push(bytes, time, emit);
        }
        self.finish(&mut emit)?;
        // What is no transport stream cannot be cut where its receiver expects it, but by what a packet carries at all.
        for piece in bytes.chunks(PAYLOAD_BYTES_MAX) {
            self.packets += if stream { (piece.len() / TS_PACKET_BYTES) as u64 } else { 0 };
            self.payload.extend_from_slice(piece);
            self.since = Some(time);
            self.finish(&mut emit)?;
        }
        Ok(())
    }

    /// When the first byte came of packets that wait for others to fill a payload; `None` while none wait. What is less than a
    /// packet is of no use to anybody, and waits for as long as it takes.
    pub fn waiting_since(&self) -> Option<T> {
        self.since
    }

    /// When packets have waited [`FILL_WAIT_MAX`] for others.
    pub fn due(&self) -> Option<T>
    where
        T: Add<Duration, Output = T>,
    {
        self.since.map(|since| since + FILL_WAIT_MAX)
    }

    /// Emits what is left as a shorter payload.
    ///
    /// # Errors
    /// That of `emit`.
    pub fn finish<E>(&mut self, mut emit: impl FnMut(Bytes, PacketClass, T) -> Result<(), E>) -> Result<(), E> {
        let Some(since) = self.since.take() else { return Ok(()) };
        let payload = self.payload.split().freeze();
        let class = self.classifier.payload(&payload);
        emit(payload, class, since)
    }

    /// Forgets what is under way; the PIDs learned stay.
    pub fn discard(&mut self) {
        self.payload.clear();
        self.since = None;
        self.partial.clear();
    }

    fn packet<E>(
        &mut self,
        packet: &[u8; TS_PACKET_BYTES],
        time: T,
        emit: &mut impl FnMut(Bytes, PacketClass, T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.packets += 1;
        self.payload.extend_from_slice(packet);
        self.since.get_or_insert(time);
        if self.payload.len() + TS_PACKET_BYTES > self.payload_bytes_max { self.finish(emit) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::tests::{AUDIO_PID, VIDEO_PID, packet, tables};
    use super::*;
    use PacketClass::{Audio, Idr, ParameterSet, Video};
    use std::convert::Infallible;

    fn collect(packer: &mut Packer<()>, chunks: &[&[u8]]) -> Vec<(Bytes, PacketClass)> {
        let mut payloads = Vec::new();
        let mut emit = |bytes, class, ()| {
            payloads.push((bytes, class));
            Ok::<_, Infallible>(())
        };
        for chunk in chunks {
            packer.push(chunk, (), &mut emit).expect("infallible");
        }
        packer.finish(&mut emit).expect("infallible");
        payloads
    }

    fn stream(packets: usize) -> Vec<u8> {
        (0..packets).flat_map(|n| packet(VIDEO_PID, false, None, n as u8)).collect()
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_payloads() {
        let stream = stream(24);
        let whole = collect(&mut Packer::new(), &[&stream]);
        assert_eq!(whole.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), [1316, 1316, 1316, 3 * 188]);
        assert_eq!(whole.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect::<Vec<_>>(), stream);
        for size in [1, 100, 187, 188, 189, 1000, 1316, 4096] {
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(collect(&mut Packer::new(), &chunks), whole, "chunks of {size}");
        }
    }

    #[test]
    fn payloads_become_shorter_when_links_ask_for_it() {
        let stream = stream(14);
        let mut packer = Packer::new();
        packer.limit(1200);
        let payloads = collect(&mut packer, &[&stream]);
        assert_eq!(payloads.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), [1128, 1128, 2 * 188]);
        packer.limit(0);
        assert_eq!(collect(&mut packer, &[&stream]).len(), 14);
    }

    #[test]
    fn bytes_outside_of_packets_are_left_out_and_counted() {
        let mut bytes = vec![1, 2, 3];
        bytes.extend(stream(7));
        let mut packer = Packer::new();
        let payloads = collect(&mut packer, &[&bytes]);
        assert_eq!((payloads.len(), packer.skipped_bytes()), (1, 3));
        assert_eq!(payloads[0].0, stream(7));
    }

    #[test]
    fn a_payload_is_as_important_as_its_most_important_packet() {
        let mut packer = Packer::new();
        let mut packets: Vec<[u8; 188]> = tables().to_vec();
        packets.extend([packet(VIDEO_PID, true, None, 0); 5]);
        packets.extend([packet(VIDEO_PID, false, None, 0); 6]);
        packets.push(packet(AUDIO_PID, true, None, 0));
        packets.push(packet(VIDEO_PID, true, Some(0x50), 0));
        packets.extend([packet(VIDEO_PID, false, None, 0); 13]);
        packets.push(packet(VIDEO_PID, true, None, 0));
        let classes: Vec<_> = collect(&mut packer, &[&packets.concat()]).into_iter().map(|(_, class)| class).collect();
        assert_eq!(classes, [ParameterSet, Audio, ParameterSet, Idr, Video]);
    }

    #[test]
    fn datagrams_that_fit_stay_as_they_are_and_longer_ones_are_packed_anew() {
        let sizes = |packer: &mut Packer<()>, datagrams: &[&[u8]]| {
            let (mut sizes, mut bytes) = (Vec::new(), Vec::new());
            let mut emit = |payload: Bytes, _, ()| {
                sizes.push(payload.len() / TS_PACKET_BYTES);
                bytes.extend(payload);
                Ok::<_, Infallible>(())
            };
            for datagram in datagrams {
                packer.push_datagram(datagram, (), &mut emit).expect("infallible");
            }
            packer.finish(&mut emit).expect("infallible");
            assert_eq!(bytes, datagrams.concat());
            sizes
        };
        let mut packer = Packer::new();
        let (stream, foreign) = (stream(14), [0x80; 1328]);
        assert_eq!(sizes(&mut packer, &[&stream[..1316], &stream[..188], &stream]), [7, 1, 7, 7]);
        packer.limit(1200);
        assert_eq!(sizes(&mut packer, &[&stream[..1316]; 6]), [6; 7], "none is wasted");
        assert_eq!(sizes(&mut packer, &[&stream[..1316], &stream[..188]]), [6, 2]);
        assert_eq!(sizes(&mut packer, &[&stream[..1128], &stream[..188], &stream[..1316]]), [6, 1, 6, 1]);
        assert_eq!(
            sizes(&mut packer, &[&stream[..1316], &foreign]),
            [6, 1, 7],
            "no stream: one piece, nothing before it"
        );
        assert_eq!(packer.skipped_bytes(), 0);
    }

    #[test]
    fn discarded_bytes_do_not_come_out_later() {
        let mut packer = Packer::new();
        packer.push(&stream(3)[..500], (), |_, _, ()| Ok::<_, Infallible>(())).expect("infallible");
        packer.discard();
        assert_eq!(collect(&mut packer, &[&stream(7)]).len(), 1);
    }

    /// A stream on its way through a packer; what comes out is told as TS packets and milliseconds.
    struct Timed {
        packer: Packer<Duration>,
        stream: Vec<u8>,
        pushed: usize,
    }

    impl Timed {
        fn new(packets: usize) -> Self {
            Self { packer: Packer::new(), stream: stream(packets), pushed: 0 }
        }

        fn push(&mut self, millis: u64, bytes: usize) -> Vec<(usize, u128)> {
            let mut payloads = Vec::new();
            let next = &self.stream[self.pushed..self.pushed + bytes];
            let Ok(()) = self.packer.push(next, Duration::from_millis(millis), |bytes, _, since| {
                payloads.push((bytes.len() / TS_PACKET_BYTES, since.as_millis()));
                Ok::<_, Infallible>(())
            });
            self.pushed += bytes;
            payloads
        }

        fn finish(&mut self) -> Vec<(usize, u128)> {
            let mut payloads = Vec::new();
            let Ok(()) = self.packer.finish(|bytes, _, since| {
                payloads.push((bytes.len() / TS_PACKET_BYTES, since.as_millis()));
                Ok::<_, Infallible>(())
            });
            payloads
        }

        fn due(&self) -> Option<u128> {
            self.packer.due().map(|due| due.as_millis())
        }
    }

    #[test]
    fn a_payload_that_does_not_become_full_is_due_soon_after_its_first_byte() {
        let mut timed = Timed::new(20);
        assert_eq!(timed.due(), None);
        assert_eq!((timed.push(100, 188), timed.due()), (vec![], Some(120)));
        assert_eq!((timed.push(115, 2 * 188), timed.due()), (vec![], Some(120)), "the first counts, not the last");
        assert_eq!((timed.finish(), timed.due()), (vec![(3, 100)], None));
        assert_eq!((timed.finish(), timed.due()), (vec![], None));
    }

    #[test]
    fn a_payload_is_as_old_as_its_first_packet() {
        let mut timed = Timed::new(20);
        assert_eq!(timed.push(100, 5 * 188), []);
        assert_eq!((timed.push(110, 12 * 188), timed.due()), (vec![(7, 100), (7, 110)], Some(130)));
        assert_eq!(timed.push(125, 3 * 188), []);
        assert_eq!(timed.finish(), [(6, 110)]);
    }

    #[test]
    fn a_packet_is_as_old_as_its_first_byte_and_waits_for_its_last() {
        let mut timed = Timed::new(20);
        assert_eq!((timed.push(100, 100), timed.due()), (vec![], None));
        assert_eq!((timed.push(115, 88), timed.due()), (vec![], Some(120)));
        assert_eq!((timed.push(118, 50), timed.due()), (vec![], Some(120)));
        assert_eq!((timed.finish(), timed.due()), (vec![(1, 100)], None));
        assert_eq!((timed.push(150, 138), timed.due()), (vec![], Some(138)), "it is late by now");
        timed.packer.discard();
        assert_eq!((timed.finish(), timed.due()), (vec![], None));
    }
}
