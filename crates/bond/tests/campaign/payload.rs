//! Payloads of seven TS packets each, of which each tells where it belongs: a sender whose paths take less cuts them.

use super::simulation::load::PAYLOAD_BYTES;
use bytes::Bytes;

const TS_BYTES: usize = 188;
const TS_PACKETS: usize = PAYLOAD_BYTES / TS_BYTES;

fn ts_packet(number: u32, index: usize) -> [u8; TS_BYTES] {
    let mut packet = [number as u8 ^ index as u8; TS_BYTES];
    packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x10]);
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[8] = index as u8;
    packet
}

/// The payload of that number.
pub fn make(number: u32) -> Bytes {
    Bytes::from((0..TS_PACKETS).flat_map(|index| ts_packet(number, index)).collect::<Vec<u8>>())
}

/// The TS packets of what was delivered, counted through; panics when one is damaged.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (packets, rest) = bytes.as_chunks::<TS_BYTES>();
    assert!(!packets.is_empty() && rest.is_empty(), "{} bytes are no TS packets", bytes.len());
    packets.iter().map(|packet| {
        let number = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let index = usize::from(packet[8]);
        assert!(index < TS_PACKETS && *packet == ts_packet(number, index), "a TS packet was damaged");
        u64::from(number) * TS_PACKETS as u64 + index as u64
    })
}

/// TS packets of so many payloads.
pub const fn ts_packets(payloads: usize) -> usize {
    payloads * TS_PACKETS
}
