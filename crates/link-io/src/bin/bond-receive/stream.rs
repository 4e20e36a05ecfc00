//! An output that bytes are written to, without waiting for its reader: a file, a pipe, standard output.

use bytes::{Buf, BytesMut};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

/// What is writable takes so many bytes at once, whether or not somebody has set it so that writing does not wait (POSIX).
const ROOM_BYTES: usize = nix::libc::PIPE_BUF;

/// Whether all was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// The reader did not take it in time.
    Waiting,
}

/// One open output, and what is to be written to it.
pub(crate) struct Stream {
    file: File,
    /// Bytes handed over in one call at most.
    call_bytes_max: usize,
    /// Oldest first.
    held: BytesMut,
}

impl Stream {
    /// Begins the file at `path` anew; of a FIFO it waits for the reader.
    ///
    /// # Errors
    /// What the system says about the path.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::to(File::create(path)?)
    }

    /// Writes to what is open already, without the buffer that the process has for its standard output.
    ///
    /// # Errors
    /// No file descriptor left.
    pub(crate) fn to_open(output: BorrowedFd<'_>) -> io::Result<Self> {
        Self::to(output.try_clone_to_owned()?.into())
    }

    fn to(file: File) -> io::Result<Self> {
        // A disk keeps nobody waiting for a reader.
        let call_bytes_max = if file.metadata()?.is_file() { usize::MAX } else { ROOM_BYTES };
        Ok(Self { file, call_bytes_max, held: BytesMut::new() })
    }

    /// Adds to what is to be written.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Writes what the reader takes until `deadline`.
    ///
    /// # Errors
    /// The reader has gone, or what the system says about the output.
    pub(crate) fn write(&mut self, deadline: Instant) -> io::Result<Written> {
        while !self.held.is_empty() {
            if !self.wait(deadline)? {
                return Ok(Written::Waiting);
            }
            let next = &self.held[..self.held.len().min(self.call_bytes_max)];
            match self.file.write(next) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.held.advance(written),
                // Somebody else who writes there was faster.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    /// Waits for room; true when there is some, or an error that writing will tell.
    fn wait(&self, deadline: Instant) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match ppoll(&mut fds, Some(TimeSpec::from_duration(rest)), None) {
                Err(Errno::EINTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::{PipeReader, Read, pipe};
    use std::time::Duration;

    /// More than any pipe here holds, no byte like its neighbours.
    fn media() -> Vec<u8> {
        (0..100_000_u32).map(|number| (number * 7 % 251) as u8).collect()
    }

    /// A stream into a small pipe, which holds all of `media` that it takes.
    fn filled(media: &[u8], flags: OFlag) -> (Stream, PipeReader) {
        let (reader, writer) = pipe().expect("a pipe");
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
        fcntl(&writer, FcntlArg::F_SETFL(flags)).expect("a flag");
        let mut stream = Stream::to_open(writer.as_fd()).expect("a descriptor");
        stream.push(media);
        let started = Instant::now();
        assert_eq!(stream.write(started).expect("a reader"), Written::Waiting);
        assert_eq!(stream.held.len(), media.len() - 4096);
        (stream, reader)
    }

    #[test]
    fn a_reader_that_stands_still_is_waited_for_no_longer_than_asked_and_loses_nothing() {
        let media = media();
        for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
            let (mut stream, mut reader) = filled(&media, flags);
            let deadline = Instant::now() + Duration::from_millis(20);
            assert_eq!(stream.write(deadline).expect("a reader"), Written::Waiting);
            assert!(Instant::now() >= deadline);
            let taken = std::thread::spawn(move || {
                let mut taken = Vec::new();
                reader.read_to_end(&mut taken).map(|_| taken)
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            assert_eq!(stream.write(deadline).expect("a reader"), Written::All);
            drop(stream);
            assert!(taken.join().expect("no panic").expect("read") == media, "{flags:?}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error() {
        let (mut stream, reader) = filled(&media(), OFlag::empty());
        drop(reader);
        let error = stream.write(Instant::now() + Duration::from_secs(20)).expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_file_takes_all_at_once() {
        let (file, media) = (tempfile::NamedTempFile::new().expect("a file"), media());
        let mut stream = Stream::create(file.path()).expect("created");
        stream.push(&media);
        assert_eq!(stream.write(Instant::now()).expect("a disk"), Written::All);
        assert!(std::fs::read(file.path()).expect("written") == media);
    }
}
