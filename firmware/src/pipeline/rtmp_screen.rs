//! What an RTMP sender says, looked at before the protocol's library reads it.
//!
//! Commands and data are AMF0 values, which may hold each other; the library reads them by recursion without a bound, so that a
//! sender who nests them deeply would end the process by its stack. Honest ones are a few hundred bytes: longer ones are
//! refused, and [`STACK_BYTES`] is enough for the deepest nesting that the rest can hold (4 bytes a level).

use rml_rtmp::chunk_io::{ChunkDeserializationError, ChunkDeserializer};

/// Longest command or data message, bytes.
pub const AMF_BYTES_MAX: usize = 8 * 1024;
/// Stack of a thread that reads messages which passed; only what is used takes memory.
pub const STACK_BYTES: usize = 32 * 1024 * 1024;

const SET_CHUNK_SIZE: u8 = 1;
/// Data and command messages, AMF3 and AMF0 (RTMP 1.0 section 7.1).
const AMF: [u8; 4] = [15, 17, 18, 20];

/// Follows the messages of one sender.
pub struct Screen(ChunkDeserializer);

impl Screen {
    pub fn new() -> Self {
        Self(ChunkDeserializer::new())
    }

    /// Whether the messages that these bytes complete may be read.
    ///
    /// # Errors
    /// They are no chunks of RTMP.
    pub fn passes(&mut self, bytes: &[u8]) -> Result<bool, ChunkDeserializationError> {
        let mut bytes = bytes;
        while let Some(message) = self.0.get_next_message(std::mem::take(&mut bytes))? {
            if AMF.contains(&message.type_id) && message.data.len() > AMF_BYTES_MAX {
                return Ok(false);
            }
            if message.type_id == SET_CHUNK_SIZE
                && let Some(size) = message.data.first_chunk().copied().map(u32::from_be_bytes)
            {
                self.0.set_max_chunk_size(size as usize)?;
            }
        }
        Ok(true)
    }
}
