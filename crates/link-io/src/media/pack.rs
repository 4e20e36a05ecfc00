//! From buffers of any size to payloads of up to seven whole TS packets. Pure.

use super::classify::Classifier;
use super::ts::TS_PACKET_BYTES;
use bond::{PAYLOAD_BYTES_MAX, PacketClass};
use bytes::{Bytes, BytesMut};

/// A full payload: seven TS packets, 1316 bytes, the usual size on every network.
pub const FULL_PAYLOAD_BYTES: usize = 7 * TS_PACKET_BYTES;
const SYNC: u8 = 0x47;
/// Payloads are cut from memory in pieces of this size, one allocation for many; a piece is given back with its last payload.
const BLOCK_BYTES: usize = 32 * 1024;

/// Cuts a transport stream into payloads; a payload is as important as the most important packet in it.
#[derive(Debug)]
pub struct Packer {
    classifier: Classifier,
    /// Whole packets of the payload under way.
    payload: BytesMut,
    /// The beginning of a packet whose rest has not come yet.
    partial: Vec<u8>,
    packets: u64,
    skipped_bytes: u64,
    payload_bytes_max: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// Nothing under way, no PID known.
    pub fn new() -> Self {
        Self {
            classifier: Classifier::new(),
            payload: BytesMut::with_capacity(BLOCK_BYTES),
            partial: Vec::with_capacity(TS_PACKET_BYTES),
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

    /// Takes the next bytes of the stream and emits every payload that became full.
    ///
    /// # Errors
    /// The first error of `emit`; what came behind is lost then.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        mut emit: impl FnMut(Bytes, PacketClass) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.partial.is_empty() {
            let missing = TS_PACKET_BYTES - self.partial.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(head);
            bytes = rest;
            if let Some(&packet) = self.partial.first_chunk::<TS_PACKET_BYTES>() {
                self.partial.clear();
                self.packet(&packet, &mut emit)?;
            }
        }
        while !bytes.is_empty() {
            if bytes[0] != SYNC {
                let skip = bytes.iter().position(|&byte| byte == SYNC).unwrap_or(bytes.len());
                self.skipped_bytes += skip as u64;
                bytes = &bytes[skip..];
            } else if let Some((packet, rest)) = bytes.split_first_chunk::<TS_PACKET_BYTES>() {
                self.packet(packet, &mut emit)?;
                bytes = rest;
            } else {
                self.partial.extend_from_slice(bytes);
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
        mut emit: impl FnMut(Bytes, PacketClass) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = bytes.len().is_multiple_of(TS_PACKET_BYTES);
        let stream = whole && bytes.iter().step_by(TS_PACKET_BYTES).all(|&byte| byte == SYNC);
        let fits = bytes.len() <= self.payload_bytes_max && self.payload.is_empty();
        if stream && !fits {
            return self.push(bytes, emit);
        }
        self.finish(&mut emit)?;
        // What is no transport stream cannot be cut where its receiver expects it, but by what a packet carries at all.
        for piece in bytes.chunks(PAYLOAD_BYTES_MAX) {
            self.packets += if stream { (piece.len() / TS_PACKET_BYTES) as u64 } else { 0 };
            self.payload.extend_from_slice(piece);
            self.emit(&mut emit)?;
        }
        Ok(())
    }

    /// True when packets wait for others to fill a payload.
    pub fn is_waiting(&self) -> bool {
        !self.payload.is_empty()
    }

    /// Emits what is left as a shorter payload.
    ///
    /// # Errors
    /// That of `emit`.
    pub fn finish<E>(&mut self, mut emit: impl FnMut(Bytes, PacketClass) -> Result<(), E>) -> Result<(), E> {
        if self.payload.is_empty() { Ok(()) } else { self.emit(&mut emit) }
    }

    /// Forgets what is under way; the PIDs learned stay.
    pub fn discard(&mut self) {
        self.payload.clear();
        self.partial.clear();
    }

    fn packet<E>(
        &mut self,
        packet: &[u8; TS_PACKET_BYTES],
        emit: &mut impl FnMut(Bytes, PacketClass) -> Result<(), E>,
    ) -> Result<(), E> {
        self.packets += 1;
        self.payload.extend_from_slice(packet);
        if self.payload.len() + TS_PACKET_BYTES > self.payload_bytes_max { self.emit(emit) } else { Ok(()) }
    }

    fn emit<E>(&mut self, emit: &mut impl FnMut(Bytes, PacketClass) -> Result<(), E>) -> Result<(), E> {
        let payload = self.payload.split().freeze();
        let class = self.classifier.payload(&payload);
        emit(payload, class)
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::tests::{AUDIO_PID, VIDEO_PID, packet, tables};
    use super::*;
    use PacketClass::{Audio, Idr, ParameterSet, Video};
    use std::convert::Infallible;

    fn collect(packer: &mut Packer, chunks: &[&[u8]]) -> Vec<(Bytes, PacketClass)> {
        let mut payloads = Vec::new();
        for chunk in chunks {
            packer
                .push(chunk, |bytes, class| {
                    payloads.push((bytes, class));
                    Ok::<_, Infallible>(())
                })
                .expect("infallible");
        }
        packer
            .finish(|bytes, class| {
                payloads.push((bytes, class));
                Ok::<_, Infallible>(())
            })
            .expect("infallible");
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
        let sizes = |packer: &mut Packer, datagrams: &[&[u8]]| {
            let (mut sizes, mut bytes) = (Vec::new(), Vec::new());
            let mut emit = |payload: Bytes, _| {
                sizes.push(payload.len() / TS_PACKET_BYTES);
                bytes.extend(payload);
                Ok::<_, Infallible>(())
            };
            for datagram in datagrams {
                packer.push_datagram(datagram, &mut emit).expect("infallible");
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
        packer.push(&stream(3)[..500], |_, _| Ok::<_, Infallible>(())).expect("infallible");
        packer.discard();
        assert_eq!(collect(&mut packer, &[&stream(7)]).len(), 1);
    }
}
