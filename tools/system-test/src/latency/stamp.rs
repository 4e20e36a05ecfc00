//! The time written into a picture, readable by a program after any number of encoders. Pure.
//!
//! Two rows of 32 blocks across the top of the picture, white for one and black for zero, most significant bit first: 48 bits
//! of milliseconds since 1970, then a CRC-16 (CCITT, polynomial 0x1021, start 0xFFFF) over their six bytes. A block is large
//! and is judged by its middle, so that scaling and coarse quantization do not change it; a picture without a stamp (a slate,
//! a broken picture) is told apart by the CRC.

/// Width of a stamped picture in pixels.
pub const WIDTH: usize = 640;
/// Height of a stamped picture in pixels.
pub const HEIGHT: usize = 360;

const COLUMNS: usize = 32;
const ROWS: usize = 2;
/// Side of a block in pixels.
const BLOCK: usize = WIDTH / COLUMNS;
/// Pixels at the edge of a block that are not judged: encoders blur them.
const MARGIN: usize = BLOCK / 4;
const TIME_BITS: u32 = 48;
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Between black and white.
const THRESHOLD: u64 = u8::midpoint(BLACK, WHITE) as u64;

/// Writes `time_ms` (milliseconds since 1970) into a picture's luma, row by row, [`WIDTH`] x [`HEIGHT`].
pub fn write(luma: &mut [u8], time_ms: u64) {
    let word = encode(time_ms);
    for (number, block) in blocks().enumerate() {
        let value = if word >> (COLUMNS * ROWS - 1 - number) & 1 == 1 { WHITE } else { BLACK };
        for row in 0..BLOCK {
            let start = (block.1 + row) * WIDTH + block.0;
            if let Some(pixels) = luma.get_mut(start..start + BLOCK) {
                pixels.fill(value);
            }
        }
    }
}

/// The time in a picture's luma; `None` when there is none.
pub fn read(luma: &[u8]) -> Option<u64> {
    let mut word = 0;
    for block in blocks() {
        word = word << 1 | u64::from(mean(luma, block)? > THRESHOLD);
    }
    decode(word)
}

fn encode(time_ms: u64) -> u64 {
    let time_ms = time_ms & ((1 << TIME_BITS) - 1);
    time_ms << 16 | u64::from(crc(time_ms))
}

fn decode(word: u64) -> Option<u64> {
    let time_ms = word >> 16;
    (u64::from(crc(time_ms)) == word & 0xFFFF).then_some(time_ms)
}

/// Left and upper edge of every block, in the order of the bits.
fn blocks() -> impl Iterator<Item = (usize, usize)> {
    (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (column * BLOCK, row * BLOCK)))
}

fn mean(luma: &[u8], (left, top): (usize, usize)) -> Option<u64> {
    let side = BLOCK - 2 * MARGIN;
    let mut sum = 0;
    for row in 0..side {
        let start = (top + MARGIN + row) * WIDTH + left + MARGIN;
        sum += luma.get(start..start + side)?.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
    }
    Some(sum / (side * side) as u64)
}

fn crc(time_ms: u64) -> u16 {
    time_ms.to_be_bytes()[2..].iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_123_456;

    #[test]
    fn a_stamp_is_read_back_after_noise_and_blur() {
        let mut luma = vec![90; WIDTH * HEIGHT];
        write(&mut luma, NOW);
        assert_eq!(read(&luma), Some(NOW));
        // Coarse quantization: every pixel is off by up to 60, and the edges smear into each other.
        let noisy: Vec<u8> = luma
            .iter()
            .enumerate()
            .map(|(i, &pixel)| pixel.saturating_add((i * 7919 % 61) as u8).saturating_sub((i * 104_729 % 61) as u8))
            .collect();
        let smeared: Vec<u8> = noisy
            .windows(5)
            .map(|pixels| (pixels.iter().map(|&pixel| u32::from(pixel)).sum::<u32>() / 5) as u8)
            .chain([0; 4])
            .collect();
        assert_eq!(read(&smeared), Some(NOW));
    }

    #[test]
    fn a_picture_without_a_stamp_has_no_time() {
        for grey in [0, 48, 128, 255] {
            assert_eq!(read(&vec![grey; WIDTH * HEIGHT]), None, "grey {grey}");
        }
        let mut damaged = vec![90; WIDTH * HEIGHT];
        write(&mut damaged, NOW);
        for row in 0..BLOCK {
            damaged[row * WIDTH..][..BLOCK].fill(WHITE); // the first bit
        }
        assert_eq!(read(&damaged), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_crc_is_the_published_one() {
        // CRC-16/CCITT-FALSE of "123456" by an independent table.
        assert_eq!(crc(u64::from_be_bytes(*b"\0\x00123456")), 0x2EF4);
    }
}
