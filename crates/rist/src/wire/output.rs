//! Where media packets are written.

/// Memory that grows at its end. Media goes through it once: headers and payload are appended and encrypted where they are
/// to stay.
pub trait Output {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Everything written so far.
    fn written(&mut self) -> &mut [u8];
}

impl Output for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn written(&mut self) -> &mut [u8] {
        self
    }
}
