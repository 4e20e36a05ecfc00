//! Video-like load: 30 frames a second, a key frame eight times the others every two seconds, one of them when the warm-up
//! ends; each frame's packets leave within half a frame interval.

use bytes::Bytes;
use units::Timestamp;

pub const PAYLOAD_BYTES: usize = 1316;
pub const FRAMES_PER_SECOND: u64 = 30;
const GROUP: u64 = 60;
/// Frames since a key frame when the load begins: the warm-up is two groups and a half.
const GROUP_BEGUN: u64 = 30;
const KEY_FRAME: f64 = 8.0;

/// One packet of the load.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub at: Timestamp,
    pub number: u32,
    pub frame: u32,
    pub key: bool,
}

/// The packets of `seconds` at `bps` payload bits per second.
pub fn video(bps: f64, seconds: f64) -> Vec<Item> {
    video_steps(&[(0.0, bps)], seconds)
}

/// The same with a rate that changes: `(from second, bps)`.
pub fn video_steps(steps: &[(f64, f64)], seconds: f64) -> Vec<Item> {
    let mut items = Vec::new();
    let mut owed = 0.0;
    let frame_micros = 1e6 / FRAMES_PER_SECOND as f64;
    for frame in 0..(seconds * FRAMES_PER_SECOND as f64).round() as u64 {
        let start = frame as f64 * frame_micros;
        let bps = steps.iter().rfind(|step| step.0 * 1e6 <= start).map_or(0.0, |step| step.1);
        let unit = bps / 8.0 / FRAMES_PER_SECOND as f64 * GROUP as f64 / (GROUP as f64 - 1.0 + KEY_FRAME);
        let key = (frame + GROUP_BEGUN).is_multiple_of(GROUP);
        owed += if key { unit * KEY_FRAME } else { unit };
        let packets = ((owed / PAYLOAD_BYTES as f64) as u64).max(1);
        owed -= (packets * PAYLOAD_BYTES as u64) as f64;
        for i in 0..packets {
            let at = start + i as f64 * frame_micros / 2.0 / packets as f64;
            let number = items.len() as u32;
            items.push(Item { at: Timestamp::from_micros(at as u64), number, frame: frame as u32, key });
        }
    }
    items
}

/// Packets of the same size at even distance; frames are those of the same thirtieth of a second.
pub fn even(bps: f64, seconds: f64) -> Vec<Item> {
    let gap = PAYLOAD_BYTES as f64 * 8e6 / bps;
    let count = (seconds * 1e6 / gap) as u32;
    let item = |number: u32| {
        let at = f64::from(number) * gap;
        let frame = (at * FRAMES_PER_SECOND as f64 / 1e6) as u32;
        Item { at: Timestamp::from_micros(at as u64), number, frame, key: false }
    };
    (0..count).map(item).collect()
}

/// A payload that tells which packet it is.
pub fn payload(number: u32) -> Bytes {
    let mut bytes = vec![0x47; PAYLOAD_BYTES];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let last = PAYLOAD_BYTES - 4;
    bytes[last..].copy_from_slice(&(!number).to_be_bytes());
    Bytes::from(bytes)
}

/// Which packet a payload is; panics when it is damaged.
pub fn number(bytes: &[u8]) -> u32 {
    assert_eq!(bytes.len(), PAYLOAD_BYTES, "a payload changed its length");
    let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    assert_eq!(bytes[PAYLOAD_BYTES - 4..], (!number).to_be_bytes(), "a payload was damaged");
    number
}

/// Which packet a clear datagram carries; `None` when it is none of the load's.
pub fn find(datagram: &[u8]) -> Option<u32> {
    let bytes = &datagram[datagram.len().checked_sub(PAYLOAD_BYTES)?..];
    let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (bytes[PAYLOAD_BYTES - 4..] == (!number).to_be_bytes()).then_some(number)
}
