//! The whole pictures and sounds of an MPEG-TS file whose end was cut off.
//!
//! A stream that is stopped ends inside a picture. That is no fault, but a decoder complains of it.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::Path;

const PACKET: usize = 188;
const SYNC: u8 = 0x47;

/// The part of `bytes` before the last beginning of a picture or sound in each stream.
pub(super) fn whole(bytes: &[u8]) -> &[u8] {
    let mut last_start: BTreeMap<u16, usize> = BTreeMap::new();
    for (i, packet) in bytes.chunks_exact(PACKET).enumerate() {
        if packet[0] == SYNC && starts_pes(packet) {
            let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
            last_start.insert(pid, i * PACKET);
        }
    }
    let end = last_start.values().min().copied().unwrap_or(bytes.len());
    &bytes[..end]
}

/// Whether a packet begins a PES packet (ISO/IEC 13818-1, 2.4.3.6).
fn starts_pes(packet: &[u8]) -> bool {
    let unit_start = packet[1] & 0x40 != 0;
    let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
    let header = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
    unit_start && has_payload && packet.get(header..header + 3) == Some(&[0, 0, 1][..])
}

/// Writes the whole part of `file` to `to`.
pub(super) fn copy(file: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    std::fs::write(to, whole(&bytes)).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pid: u8, start: bool, payload: [u8; 3]) -> Vec<u8> {
        let mut packet = vec![SYNC, if start { 0x40 } else { 0 }, pid, 0x10];
        packet.extend(payload);
        packet.resize(PACKET, 0xff);
        packet
    }

    #[test]
    fn the_last_unfinished_unit_of_each_stream_goes() {
        let pes = [0, 0, 1];
        let packets = [
            packet(0, true, [0, 0, 0xb0]), // a table, not a PES
            packet(33, true, pes),
            packet(34, true, pes),
            packet(33, false, pes),
            packet(34, true, pes), // the last sound begins here
            packet(33, true, pes), // and the last picture here
            packet(0, true, [0, 0, 0xb0]),
        ];
        let bytes = packets.concat();
        assert_eq!(whole(&bytes).len(), 4 * PACKET);
        assert_eq!(whole(&packets[0]).len(), PACKET);
        assert_eq!(whole(&[]).len(), 0);
    }
}
