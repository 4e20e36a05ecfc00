//! Making repair symbols.

use super::field::add_scaled;
use super::wire::{SYMBOL_HEAD_BYTES, factor};

/// A source packet as a repair symbol sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub number: u64,
    pub rtp_time: u32,
    pub bytes: &'a [u8],
}

impl Source<'_> {
    /// The beginning of its symbol.
    fn head(&self) -> [u8; SYMBOL_HEAD_BYTES] {
        let mut head = [0; SYMBOL_HEAD_BYTES];
        head[..2].copy_from_slice(&(self.bytes.len() as u16).to_be_bytes());
        head[2..].copy_from_slice(&self.rtp_time.to_be_bytes());
        head
    }

    /// Adds `factor` times its symbol to `symbol`, which grows when it is shorter.
    pub(crate) fn add_to(&self, symbol: &mut Vec<u8>, factor: u8) {
        let length = SYMBOL_HEAD_BYTES + self.bytes.len();
        if symbol.len() < length {
            symbol.resize(length, 0);
        }
        add_scaled(symbol, &self.head(), factor);
        add_scaled(&mut symbol[SYMBOL_HEAD_BYTES..], self.bytes, factor);
    }
}

/// Appends the repair symbol of `sources` with the factors of `key` to `out`.
pub(crate) fn encode<'a>(key: u16, sources: impl Iterator<Item = Source<'a>>, out: &mut Vec<u8>) {
    let mut symbol = out.split_off(out.len());
    for source in sources {
        source.add_to(&mut symbol, factor(key, source.number));
    }
    out.append(&mut symbol);
}
