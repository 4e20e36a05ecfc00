//! Lists of fixed-size records (report blocks, NACK entries) decoded one at a time from the datagram.

use std::fmt;
use std::marker::PhantomData;

/// A record of a fixed number of bytes.
pub trait Entry: Copy + fmt::Debug + PartialEq {
    /// Its size on the wire in bytes.
    const BYTES: usize;
    /// Decodes a record; `bytes` has exactly [`Self::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the record.
    fn write(self, out: &mut Vec<u8>);
}

/// A borrowed list of records; its length is bounded by the datagram it lives in.
#[derive(Clone, Copy)]
pub struct Entries<'a, T> {
    bytes: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T: Entry + 'a> Entries<'a, T> {
    /// The whole records in `bytes`; a rest shorter than a record is ignored.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let whole = bytes.len() - bytes.len() % T::BYTES;
        Self { bytes: &bytes[..whole], kind: PhantomData }
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator + 'a + use<'a, T> {
        self.bytes.chunks_exact(T::BYTES).map(T::read)
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<T: Entry> fmt::Debug for Entries<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> PartialEq for Entries<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Entries<'_, T> {}
