//! Reading a transport stream file at the speed its clock asks for.
//!
//! The first PID that carries a PCR is the clock. Between two references the packets are spread evenly, so the reader is
//! one interval ahead; where the clock jumps, the last known rate holds until the next interval.

use super::ts::{Pcr, TS_PACKET_BYTES, TsPacket};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::time::Duration;
use thiserror::Error;

/// Bytes between two clock references after which the reader gives up: two seconds of 16 Mbit/s.
const INTERVAL_BYTES_MAX: usize = 4 << 20;
/// A longer distance between two references (the standard allows 100 ms) is a jump of the clock, not time that passed.
const INTERVAL_MAX: Duration = Duration::from_secs(2);
/// TS packets in a payload.
const PAYLOAD_PACKETS: usize = 7;

/// Why a file cannot be paced.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PaceError {
    /// The file could not be read.
    #[error("reading the input failed")]
    Storage(#[source] io::Error),
    /// There is no TS packet where one should start.
    #[error("no MPEG-TS packet at byte {at}: the input must be a transport stream of {TS_PACKET_BYTES}-byte packets")]
    InputNoSync {
        /// Byte offset in the file.
        at: u64,
    },
    /// The clock is missing.
    #[error("no clock reference (PCR) in the stretch that starts at byte {at}: the input cannot be paced")]
    InputNoClock {
        /// Byte offset in the file.
        at: u64,
    },
}

/// One payload and when to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paced {
    /// Up to seven TS packets.
    pub bytes: Bytes,
    /// When its first packet is due, from the start of the file.
    pub due: Duration,
}

/// A transport stream and its timetable.
#[derive(Debug)]
pub struct PacedFile<R> {
    input: R,
    /// Bytes read.
    offset: u64,
    /// The clock reference that opens the next interval, with its packet.
    reference: Option<Reference>,
    /// When the next interval starts.
    position: Duration,
    /// Of the last interval whose clock did not jump.
    time_per_packet: Duration,
    gathering: Option<(BytesMut, Duration)>,
    ready: VecDeque<Paced>,
}

#[derive(Debug, Clone, Copy)]
struct Reference {
    pid: u16,
    pcr: Pcr,
    discontinuity: bool,
    packet: [u8; TS_PACKET_BYTES],
}

impl<R: Read> PacedFile<R> {
    /// Reads up to the second clock reference, so that a file that cannot be paced is refused before anything is sent.
    ///
    /// # Errors
    /// The input is no transport stream, has no clock, or cannot be read.
    pub fn open(input: R) -> Result<Self, PaceError> {
        let mut file = Self {
            input,
            offset: 0,
            reference: None,
            position: Duration::ZERO,
            time_per_packet: Duration::ZERO,
            gathering: None,
            ready: VecDeque::new(),
        };
        let (lead, first) = file.read_to_reference()?;
        let first = first.ok_or(PaceError::InputNoClock { at: 0 })?;
        file.reference = Some(first);
        let (mut packets, second) = file.read_to_reference()?;
        let second = second.ok_or(PaceError::InputNoClock { at: 0 })?;
        packets.insert(0, first.packet);
        file.learn_rate(&first, &second, packets.len());
        file.reference = Some(second);
        for packet in lead.iter().chain(&packets) {
            file.add(packet);
        }
        Ok(file)
    }

    /// The next payload; `None` at the end of the file.
    ///
    /// # Errors
    /// The input lost its packet structure or its clock, or cannot be read.
    pub fn next_payload(&mut self) -> Result<Option<Paced>, PaceError> {
        while self.ready.is_empty() && self.reference.is_some() {
            self.read_interval()?;
        }
        let rest = |(bytes, due): (BytesMut, Duration)| Paced { bytes: bytes.freeze(), due };
        Ok(self.ready.pop_front().or_else(|| self.gathering.take().map(rest)))
    }

    fn read_interval(&mut self) -> Result<(), PaceError> {
        let Some(opening) = self.reference else { return Ok(()) };
        let (mut packets, next) = self.read_to_reference()?;
        packets.insert(0, opening.packet);
        if let Some(next) = &next {
            self.learn_rate(&opening, next, packets.len());
        }
        self.reference = next;
        for packet in &packets {
            self.add(packet);
        }
        Ok(())
    }

    fn learn_rate(&mut self, from: &Reference, to: &Reference, packets: usize) {
        let interval = to.pcr.since(from.pcr);
        if interval <= INTERVAL_MAX && !to.discontinuity {
            self.time_per_packet = interval / u32::try_from(packets).unwrap_or(u32::MAX);
        }
    }

    /// The packets up to the next clock reference, and that reference unless the input ends first.
    fn read_to_reference(&mut self) -> Result<(Vec<[u8; TS_PACKET_BYTES]>, Option<Reference>), PaceError> {
        let clock_pid = self.reference.map(|reference| reference.pid);
        let from = self.offset;
        let mut packets = Vec::new();
        while let Some(packet) = self.read_packet()? {
            let at = self.offset - TS_PACKET_BYTES as u64;
            let view = TsPacket::parse(&packet).ok_or(PaceError::InputNoSync { at })?;
            let pid = view.pid();
            if let Some(pcr) = view.pcr().filter(|_| clock_pid.is_none_or(|clock| clock == pid)) {
                return Ok((packets, Some(Reference { pid, pcr, discontinuity: view.discontinuity(), packet })));
            }
            packets.push(packet);
            if packets.len() * TS_PACKET_BYTES > INTERVAL_BYTES_MAX {
                return Err(PaceError::InputNoClock { at: from });
            }
        }
        Ok((packets, None))
    }

    /// One packet; `None` at the end, where an incomplete last packet is left out.
    fn read_packet(&mut self) -> Result<Option<[u8; TS_PACKET_BYTES]>, PaceError> {
        let mut packet = [0; TS_PACKET_BYTES];
        match self.input.read_exact(&mut packet) {
            Ok(()) => {
                self.offset += TS_PACKET_BYTES as u64;
                Ok(Some(packet))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(PaceError::Storage(error)),
        }
    }

    /// Puts a packet into the payload being gathered, one packet time after the one before.
    fn add(&mut self, packet: &[u8; TS_PACKET_BYTES]) {
        let due = self.position;
        self.position += self.time_per_packet;
        let (bytes, _) =
            self.gathering.get_or_insert_with(|| (BytesMut::with_capacity(PAYLOAD_PACKETS * TS_PACKET_BYTES), due));
        bytes.extend_from_slice(packet);
        if bytes.len() == PAYLOAD_PACKETS * TS_PACKET_BYTES
            && let Some((bytes, due)) = self.gathering.take()
        {
            self.ready.push_back(Paced { bytes: bytes.freeze(), due });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ts::tests::packet;
    use super::*;

    const VIDEO: u16 = 0x100;
    const AUDIO: u16 = 0x101;

    /// A stream in which every tenth packet carries the clock, `step_micros` apart, starting at `from_micros`.
    fn stream(from_micros: u64, step_micros: u64, packets: u64) -> Vec<u8> {
        (0..packets)
            .flat_map(|i| packet(VIDEO, (i % 10 == 0).then(|| from_micros + i / 10 * step_micros), i as u8))
            .collect()
    }

    fn all(input: &[u8]) -> Vec<Paced> {
        let mut file = PacedFile::open(input).expect("a stream with a clock");
        std::iter::from_fn(|| file.next_payload().expect("a sound stream")).collect()
    }

    #[test]
    fn every_byte_comes_out_in_order_and_at_its_time() {
        let input = stream(5_000_000, 40_000, 96);
        let payloads = all(&input);
        assert_eq!(payloads.iter().flat_map(|p| p.bytes.to_vec()).collect::<Vec<u8>>(), input);
        let dues: Vec<u128> = payloads.iter().map(|p| p.due.as_millis()).collect();
        assert_eq!(dues, (0..14).map(|i| i * 28).collect::<Vec<u128>>(), "4 ms a packet, seven a payload");
        assert_eq!(payloads.last().map(|p| p.bytes.len()), Some(5 * TS_PACKET_BYTES));
    }

    #[test]
    fn a_clock_that_jumps_or_wraps_does_not_stop_the_stream() {
        let wrap_micros = (1_u64 << 33) * 1_000 / 90 / 1000 * 1000;
        let mut input = stream(wrap_micros - 80_000, 40_000, 70);
        input.extend(stream(7_000_000, 40_000, 70));
        input.extend(stream(1_000_000, 40_000, 70));
        let payloads = all(&input);
        assert_eq!(payloads.len(), 30);
        let last = payloads.last().expect("payloads").due;
        let expected = Duration::from_millis(29 * 28);
        assert!(last.abs_diff(expected) < Duration::from_millis(5), "{last:?} instead of {expected:?}");
    }

    #[test]
    fn packets_before_the_first_reference_are_sent_at_its_rate() {
        let mut input: Vec<u8> = (0..14).flat_map(|i| packet(AUDIO, None, i)).collect();
        input.extend(stream(0, 10_000, 21));
        let dues: Vec<u128> = all(&input).iter().map(|p| p.due.as_millis()).collect();
        assert_eq!(dues, [0, 7, 14, 21, 28]);
    }

    #[test]
    fn only_one_pid_is_the_clock() {
        let mut input = Vec::new();
        for i in 0..10_u64 {
            input.extend(packet(VIDEO, Some(i * 10_000), 0));
            input.extend(packet(AUDIO, Some(900_000_000 - i * 5), 0));
        }
        let last = all(&input).last().expect("payloads").due;
        assert_eq!(last.as_millis(), 70);
    }

    #[test]
    fn what_cannot_be_paced_is_refused_with_its_place() {
        let refused = |input: &[u8]| PacedFile::open(input).expect_err("refused").to_string();
        assert!(refused(b"").starts_with("no clock reference"));
        assert!(refused(&[0x47; 188 * 3]).starts_with("no clock reference"));
        assert!(refused(&[b'x'; 400]).starts_with("no MPEG-TS packet at byte 0"));
        let mut broken = stream(0, 10_000, 40);
        broken[188 * 25] = 0;
        let mut file = PacedFile::open(&broken[..]).expect("sound at the start");
        let error = std::iter::repeat_with(|| file.next_payload()).find_map(Result::err).expect("an error");
        assert_eq!(error.to_string().split(':').next(), Some("no MPEG-TS packet at byte 4700"));
        let endless: Vec<u8> = (0..40_000_u32).flat_map(|i| packet(VIDEO, (i < 2).then_some(0), 0)).collect();
        let mut file = PacedFile::open(&endless[..]).expect("two references");
        let error = std::iter::repeat_with(|| file.next_payload()).find_map(Result::err).expect("an error");
        assert!(matches!(error, PaceError::InputNoClock { .. }));
    }
}
