//! An input read as a script: what happens next, to which end, with which bytes. When it is used up, the run ends.

/// The rest of an input.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// All of it.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next bytes, as many as the next two say, or all that are left.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let (bytes, rest) = self.0.split_at(usize::from(length).min(self.0.len()));
        self.0 = rest;
        Some(bytes)
    }

    /// Changes one byte of `bytes`, or cuts them.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let (at, change) = (usize::from(self.byte()?), self.byte()?);
        if change == 0 {
            bytes.truncate(at);
        } else if let Some(byte) = bytes.get_mut(at) {
            *byte ^= change;
        }
        Some(())
    }
}
