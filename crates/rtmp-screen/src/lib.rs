//! What an RTMP peer says, looked at before the protocol's library reads it.
//!
//! Commands and data are AMF0 values, which may hold each other; the library reads them by recursion without a bound, so that
//! a peer who nests them deeply would end the process by its stack. [`Screen`] follows the same bytes and refuses such
//! messages ([`DEPTH_MAX`]), messages that are longer than the caller allows, and nothing else: what is merely malformed is
//! left to the library, which says what is wrong with it, or panics (a command with too few values): the panic ends in
//! [`Screen::read`] too.

mod amf0;

use rml_rtmp::chunk_io::{ChunkDeserializationError, ChunkDeserializer};
use rml_rtmp::messages::MessagePayload;
use std::panic::{AssertUnwindSafe, catch_unwind};
use thiserror::Error;

/// Deepest nesting of AMF0 values in a message; honest ones have two or three levels.
pub const DEPTH_MAX: usize = 32;

const SET_CHUNK_SIZE: u8 = 1;
/// Data and command messages, AMF3 and AMF0 (RTMP 1.0 section 7.1).
const AMF: [u8; 4] = [15, AMF3_COMMAND, 18, 20];
const AMF3_COMMAND: u8 = 17;

/// Why a peer's bytes must not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// They are no chunks of RTMP.
    #[error("these are no chunks of RTMP")]
    ScreenChunks(#[from] ChunkDeserializationError),
    /// Values hold each other without end.
    #[error("a command or data message holds values nested deeper than {DEPTH_MAX} levels")]
    ScreenDeep,
    /// A message does not end.
    #[error("a message is longer than {bytes_max} bytes")]
    ScreenLong {
        /// What was allowed.
        bytes_max: usize,
    },
    /// The library panicked.
    #[error("a command or data message lacks values it must have")]
    ScreenPanic,
}

/// Follows the messages of one peer, from the end of the handshake.
pub struct Screen {
    chunks: ChunkDeserializer,
    /// Bytes since a message ended.
    pending: usize,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// At the end of the handshake.
    pub fn new() -> Self {
        Self { chunks: ChunkDeserializer::new(), pending: 0 }
    }

    /// Looks at the next bytes and gives them to the library's `read`; no message may be longer than `bytes_max` with its
    /// headers.
    ///
    /// # Errors
    /// [`ScreenError`]: the connection is to be closed, and the library's session not used again.
    pub fn read<T>(&mut self, bytes: &[u8], bytes_max: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, ScreenError> {
        self.look(bytes, bytes_max)?;
        catch_unwind(AssertUnwindSafe(|| read(bytes))).map_err(|_| ScreenError::ScreenPanic)
    }

    fn look(&mut self, bytes: &[u8], bytes_max: usize) -> Result<(), ScreenError> {
        self.pending += bytes.len();
        let mut bytes = bytes;
        while let Some(message) = self.chunks.get_next_message(std::mem::take(&mut bytes))? {
            self.pending = 0;
            if AMF.contains(&message.type_id) && amf0::depth_exceeds(values(&message), DEPTH_MAX) {
                return Err(ScreenError::ScreenDeep);
            }
            if message.type_id == SET_CHUNK_SIZE
                && let Some(size) = message.data.first_chunk().copied().map(u32::from_be_bytes)
            {
                self.chunks.set_max_chunk_size(size as usize)?;
            }
        }
        if self.pending > bytes_max { Err(ScreenError::ScreenLong { bytes_max }) } else { Ok(()) }
    }
}

/// What of a message the library reads as values: after the zero in front of those of a command in AMF3.
fn values(message: &MessagePayload) -> &[u8] {
    let zero = message.type_id == AMF3_COMMAND && message.data.first() == Some(&0);
    &message.data[usize::from(zero)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rml_rtmp::chunk_io::ChunkSerializer;
    use rml_rtmp::time::RtmpTimestamp;

    fn message(chunks: &mut ChunkSerializer, type_id: u8, data: Vec<u8>) -> Vec<u8> {
        let message =
            MessagePayload { timestamp: RtmpTimestamp::new(0), type_id, message_stream_id: 0, data: data.into() };
        chunks.serialize(&message, true, false).unwrap().bytes
    }

    #[test]
    fn only_messages_that_nest_too_deeply_are_refused_however_they_are_cut() {
        for (levels, passes) in [(1, true), (DEPTH_MAX, true), (DEPTH_MAX + 1, false), (5000, false)] {
            let bytes = message(&mut ChunkSerializer::new(), 20, [3, 0, 1, b'a'].repeat(levels));
            for size in [1, 100, bytes.len()] {
                let mut screen = Screen::new();
                let whole = bytes.chunks(size).try_for_each(|piece| screen.look(piece, 1 << 20));
                assert_eq!(whole.is_ok(), passes, "{levels} levels in pieces of {size}");
            }
        }
        let flash =
            message(&mut ChunkSerializer::new(), 17, [&[0][..], &[3, 0, 1, b'a'].repeat(DEPTH_MAX + 1)].concat());
        assert!(matches!(Screen::new().look(&flash, 1 << 20), Err(ScreenError::ScreenDeep)));
        let picture = message(&mut ChunkSerializer::new(), 9, [3, 0, 1, b'a'].repeat(5000));
        assert!(Screen::new().look(&picture, 1 << 20).is_ok(), "media is not looked into");
    }

    #[test]
    fn a_changed_chunk_size_is_followed() {
        let mut chunks = ChunkSerializer::new();
        let mut bytes = chunks.set_max_chunk_size(4096, RtmpTimestamp::new(0)).unwrap().bytes;
        bytes.extend(message(&mut chunks, 20, [3, 0, 1, b'a'].repeat(800)));
        assert!(matches!(Screen::new().look(&bytes, 1 << 20), Err(ScreenError::ScreenDeep)));
    }

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        use rml_rtmp::sessions::{ServerSession, ServerSessionConfig};
        let (mut session, _) = ServerSession::new(ServerSessionConfig::new()).unwrap();
        // A command with a name and nothing else.
        let bytes = message(&mut ChunkSerializer::new(), 20, vec![2, 0, 1, b'a']);
        let read = Screen::new().read(&bytes, 1 << 20, |bytes| session.handle_input(bytes).is_ok());
        assert!(matches!(read, Err(ScreenError::ScreenPanic)));
        assert_eq!(Screen::new().read(&[], 0, |_| 7).unwrap(), 7);
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let bytes = message(&mut ChunkSerializer::new(), 9, vec![7; 50_000]);
        let mut screen = Screen::new();
        assert!(screen.look(&bytes[..10_000], 10_000).is_ok());
        assert!(matches!(
            screen.look(&bytes[10_000..20_000], 10_000),
            Err(ScreenError::ScreenLong { bytes_max: 10_000 })
        ));
        let mut screen = Screen::new();
        for _ in 0..10 {
            let bytes = message(&mut ChunkSerializer::new(), 9, vec![7; 5_000]);
            assert!(screen.look(&bytes, 10_000).is_ok(), "many short ones are no long one");
        }
    }
}
