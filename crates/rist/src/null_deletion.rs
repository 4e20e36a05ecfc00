//! Null-packet deletion (TR-06-2 section 8.2): stuffing is left out on the wire and put back by the receiver.
//!
//! Only payloads of one to seven TS packets of one size are touched; anything else passes unchanged.

use crate::wire::WireError;
use crate::wire::rtp::{NullDeletion, RistExtension};

/// Bytes of a TS packet.
pub const TS_PACKET_BYTES: usize = 188;
/// Bytes of a TS packet with Reed-Solomon parity.
pub const TS_PACKET_BYTES_LONG: usize = 204;
/// The most TS packets the mask can describe.
pub const TS_PACKETS_MAX: usize = 7;

const NULL_HEADER: [u8; 4] = [0x47, 0x1f, 0xff, 0x10];

/// Appends `payload` without its null packets to `out`.
///
/// Returns the header extension that describes what was left out; `None` (and nothing appended) when there is nothing to
/// leave out, or the payload is no whole number of TS packets.
pub fn delete(payload: &[u8], out: &mut Vec<u8>) -> Option<RistExtension> {
    let packet_bytes = packet_bytes(payload)?;
    let packets = payload.len() / packet_bytes;
    let mask = payload
        .chunks_exact(packet_bytes)
        .enumerate()
        .filter(|(_, packet)| is_null(packet))
        .fold(0u8, |mask, (index, _)| mask | mask_bit(index));
    if mask == 0 {
        return None;
    }
    for (_, packet) in payload.chunks_exact(packet_bytes).enumerate().filter(|(index, _)| mask & mask_bit(*index) == 0)
    {
        out.extend_from_slice(packet);
    }
    let long_packets = packet_bytes == TS_PACKET_BYTES_LONG;
    let null_deletion = Some(NullDeletion { packets: packets as u8, long_packets, mask });
    Some(RistExtension { null_deletion, sequence_high: None })
}

/// Appends `payload` with the null packets put back to `out`, at most [`TS_PACKETS_MAX`] TS packets.
///
/// # Errors
/// [`WireError::NullDeletion`] when mask, size and payload contradict each other; nothing is appended then.
pub fn restore(extension: &RistExtension, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let Some(deletion) = extension.null_deletion else {
        out.extend_from_slice(payload);
        return Ok(());
    };
    let failed = WireError::NullDeletion { payload_bytes: payload.len(), mask: deletion.mask };
    let packet_bytes = if deletion.long_packets { TS_PACKET_BYTES_LONG } else { TS_PACKET_BYTES };
    let removed = deletion.mask.count_ones() as usize;
    let present = payload.len() / packet_bytes;
    let total = if deletion.packets == 0 { present + removed } else { usize::from(deletion.packets) };
    let mask_fits = deletion.mask.trailing_zeros() as usize + total >= TS_PACKETS_MAX || deletion.mask == 0;
    if !payload.len().is_multiple_of(packet_bytes) || present + removed != total || total > TS_PACKETS_MAX || !mask_fits
    {
        return Err(failed);
    }
    let mut kept = payload.chunks_exact(packet_bytes);
    for index in 0..total {
        if deletion.mask & mask_bit(index) == 0 {
            out.extend_from_slice(kept.next().ok_or(failed)?);
        } else {
            out.extend_from_slice(&NULL_HEADER);
            out.resize(out.len() + packet_bytes - NULL_HEADER.len(), 0xff);
        }
    }
    Ok(())
}

const fn mask_bit(index: usize) -> u8 {
    0x40 >> index
}

/// A packet that [`restore`] rebuilds bit for bit: PID 0x1FFF, no adaptation field, counter 0, all stuffing.
fn is_null(packet: &[u8]) -> bool {
    packet.starts_with(&NULL_HEADER) && packet[NULL_HEADER.len()..].iter().all(|byte| *byte == 0xff)
}

fn packet_bytes(payload: &[u8]) -> Option<usize> {
    [TS_PACKET_BYTES, TS_PACKET_BYTES_LONG].into_iter().find(|bytes| {
        !payload.is_empty()
            && payload.len().is_multiple_of(*bytes)
            && payload.len() / bytes <= TS_PACKETS_MAX
            && payload.chunks_exact(*bytes).all(|packet| packet[0] == 0x47)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::iter::repeat_n;

    fn packet(bytes: usize, null: bool, fill: u8) -> Vec<u8> {
        let head: [u8; 4] = if null { NULL_HEADER } else { [0x47, 0x01, 0x00, 0x10] };
        head.into_iter().chain(repeat_n(if null { 0xff } else { fill }, bytes - 4)).collect()
    }

    #[test]
    fn nulls_at_1_2_4_6_give_librists_mask() {
        let payload: Vec<u8> = (0..7).flat_map(|i| packet(TS_PACKET_BYTES, matches!(i, 1 | 2 | 4 | 6), i)).collect();
        let mut out = Vec::new();
        let extension = delete(&payload, &mut out).unwrap();
        let deletion = extension.null_deletion.unwrap();
        assert_eq!((deletion.mask, out.len()), (0x35, 3 * TS_PACKET_BYTES));
        for packets in [0, 7] {
            let extension =
                RistExtension { null_deletion: Some(NullDeletion { packets, ..deletion }), sequence_high: None };
            let mut restored = Vec::new();
            restore(&extension, &out, &mut restored).unwrap();
            assert_eq!(restored, payload);
        }
    }

    #[test]
    fn contradictions_are_refused_and_append_nothing() {
        let one = packet(TS_PACKET_BYTES, false, 1);
        for (packets, mask, payload) in [
            (0, 0x7f, &one[..]),   // eight packets in all
            (2, 0x60, &one[..]),   // three are not two
            (0, 0x10, &one[..]),   // of two packets the third is missing
            (1, 0x00, &one[..50]), // no whole packet
        ] {
            let null_deletion = Some(NullDeletion { packets, long_packets: false, mask });
            let extension = RistExtension { null_deletion, sequence_high: None };
            let mut out = Vec::new();
            assert_eq!(
                restore(&extension, payload, &mut out),
                Err(WireError::NullDeletion { payload_bytes: payload.len(), mask })
            );
            assert!(out.is_empty());
        }
    }

    #[test]
    fn what_is_no_transport_stream_passes_untouched() {
        let mut out = Vec::new();
        assert_eq!(delete(b"RISTTEST00000029", &mut out), None);
        assert_eq!(delete(&[], &mut out), None);
        assert_eq!(delete(&packet(TS_PACKET_BYTES, true, 0).repeat(8), &mut out), None, "too many for the mask");
        let mut odd = packet(TS_PACKET_BYTES, true, 0);
        odd[100] = 0;
        assert_eq!(delete(&odd, &mut out), None, "a null packet that carries something is kept");
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn deletion_and_restoration_are_inverse(
            nulls in proptest::collection::vec(any::<bool>(), 1..=7), long: bool, fill in 0..255u8, infer: bool
        ) {
            let bytes = if long { TS_PACKET_BYTES_LONG } else { TS_PACKET_BYTES };
            let payload: Vec<u8> = nulls.iter().flat_map(|null| packet(bytes, *null, fill)).collect();
            let mut sent = Vec::new();
            let Some(mut extension) = delete(&payload, &mut sent) else {
                prop_assert!(!nulls.contains(&true));
                return Ok(());
            };
            if infer {
                extension.null_deletion.as_mut().unwrap().packets = 0;
            }
            let mut restored = Vec::new();
            restore(&extension, &sent, &mut restored).unwrap();
            prop_assert_eq!(restored, payload);
        }

        #[test]
        fn arbitrary_masks_never_panic_and_stay_bounded(
            packets in 0..8u8, mask in 0..128u8, long_packets: bool, whole in 0..9usize, rest in 0..2usize
        ) {
            let null_deletion = Some(NullDeletion { packets, long_packets, mask });
            let payload = vec![0x47; whole * TS_PACKET_BYTES + rest];
            let mut out = Vec::new();
            let result = restore(&RistExtension { null_deletion, sequence_high: None }, &payload, &mut out);
            prop_assert!(out.len() <= TS_PACKETS_MAX * TS_PACKET_BYTES_LONG);
            prop_assert!(result.is_ok() || out.is_empty());
        }
    }
}
