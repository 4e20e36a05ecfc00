//! JSON lines over a Unix socket: how a control process talks to the media process it supervises.
//!
//! The media process listens ([`Listener`]), the control process connects ([`Connection::open`]), again after each of its
//! restarts. Lines are bounded; a longer one is an error and the connection should be dropped.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// What can go wrong on a worker socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The socket file cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process is listening there.
    #[error("another process already listens on {}", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// Nobody answers.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("the worker socket broke")]
    Io {
        /// Why.
        source: io::Error,
    },
    /// A line longer than the limit.
    #[error("a line on the worker socket is longer than {limit} bytes")]
    LineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A line that is not the expected message; the connection can go on.
    #[error("a line on the worker socket is not a known message")]
    Malformed {
        /// Where it went wrong.
        source: serde_json::Error,
    },
}

/// Longest path that is used as it is: `sun_path` of unix(7) with its final zero.
const ADDRESS_BYTES_MAX: usize = 108;

/// The media process's end.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    line_bytes_max: usize,
}

impl Listener {
    /// Listens on `path` (mode 0600). A socket file that nobody serves any more is replaced.
    ///
    /// # Errors
    /// [`SocketError::InUse`] when a live process serves it, else [`SocketError::Listen`].
    pub async fn bind(path: &Path, line_bytes_max: usize) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Listen { path: path.to_owned(), source };
        let (_directory, address) = address_of(path).map_err(fail)?;
        if UnixStream::connect(&address).await.is_ok() {
            return Err(SocketError::InUse { path: path.to_owned() });
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        // Connecting needs write permission on the file, and the directory is the service's own; mode is set at once.
        let listener = UnixListener::bind(&address).map_err(fail)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned(), line_bytes_max })
    }

    /// Waits for the next control process.
    ///
    /// # Errors
    /// [`SocketError::Io`].
    pub async fn accept(&self) -> Result<Connection, SocketError> {
        let (stream, _) = self.listener.accept().await.map_err(|source| SocketError::Io { source })?;
        Ok(Connection::new(stream, self.line_bytes_max))
    }
}

/// A socket address holds 108 bytes; a data directory may lie deeper. Then the way goes by the open directory, which must be
/// held until the address was used.
fn address_of(path: &Path) -> io::Result<(Option<std::fs::File>, PathBuf)> {
    use std::os::fd::AsRawFd as _;

    if path.as_os_str().len() < ADDRESS_BYTES_MAX {
        return Ok((None, path.to_owned()));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = std::fs::File::open(parent)?;
    let address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((Some(directory), address))
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Absent already when the data directory was cleaned: fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One connection; [`Connection::split`] it to read and write at the same time.
#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    writer: Writer,
}

impl Connection {
    /// Connects to the media process that listens on `path`.
    ///
    /// # Errors
    /// [`SocketError::Connect`].
    pub async fn open(path: &Path, line_bytes_max: usize) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Connect { path: path.to_owned(), source };
        let (_directory, address) = address_of(path).map_err(fail)?;
        let stream = UnixStream::connect(&address).await.map_err(fail)?;
        Ok(Self::new(stream, line_bytes_max))
    }

    fn new(stream: UnixStream, line_bytes_max: usize) -> Self {
        let (read, write) = stream.into_split();
        let reader = Reader { lines: BufReader::new(read), line: Vec::new(), line_bytes_max };
        Self { reader, writer: Writer { write, line_bytes_max } }
    }

    /// The two directions.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

/// The reading direction.
#[derive(Debug)]
pub struct Reader {
    lines: BufReader<OwnedReadHalf>,
    /// The line read so far; kept here so that a cancelled [`Reader::next`] loses nothing.
    line: Vec<u8>,
    line_bytes_max: usize,
}

impl Reader {
    /// The next message; `None` when the peer closed. Cancel-safe.
    ///
    /// # Errors
    /// [`SocketError::Malformed`] leaves the connection usable, the others do not.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, SocketError> {
        let room = (self.line_bytes_max + 1).saturating_sub(self.line.len()) as u64;
        let mut limited = (&mut self.lines).take(room);
        limited.read_until(b'\n', &mut self.line).await.map_err(|source| SocketError::Io { source })?;
        if self.line.last() != Some(&b'\n') {
            if self.line.len() > self.line_bytes_max {
                return Err(SocketError::LineTooLong { limit: self.line_bytes_max });
            }
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.line).map_err(|source| SocketError::Malformed { source });
        self.line.clear();
        message.map(Some)
    }
}

/// The writing direction.
#[derive(Debug)]
pub struct Writer {
    write: OwnedWriteHalf,
    line_bytes_max: usize,
}

impl Writer {
    /// Sends one message.
    ///
    /// # Errors
    /// [`SocketError::LineTooLong`] when the message is over the limit, [`SocketError::Io`] when the peer is gone.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), SocketError> {
        let mut line = serde_json::to_vec(message).map_err(|source| SocketError::Malformed { source })?;
        line.push(b'\n');
        if line.len() > self.line_bytes_max {
            return Err(SocketError::LineTooLong { limit: self.line_bytes_max });
        }
        self.write.write_all(&line).await.map_err(|source| SocketError::Io { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LIMIT: usize = 64;

    async fn pair(directory: &Path) -> (Listener, Connection, Connection) {
        let path = directory.join("worker.sock");
        let listener = Listener::bind(&path, LIMIT).await.unwrap();
        let (near, far) = tokio::join!(Connection::open(&path, LIMIT), listener.accept());
        (listener, near.unwrap(), far.unwrap())
    }

    #[tokio::test]
    async fn a_directory_deeper_than_a_socket_address_is_no_trouble() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(60)).join("e".repeat(60));
        std::fs::create_dir_all(&deep).unwrap();
        let (listener, near, far) = pair(&deep).await;
        let mut writer = near.split().1;
        writer.send(&"hello").await.unwrap();
        assert_eq!(far.split().0.next::<String>().await.unwrap().as_deref(), Some("hello"));
        assert!(Listener::bind(&deep.join("worker.sock"), LIMIT).await.is_err(), "it is served already");
        drop(listener);
        assert!(!deep.join("worker.sock").exists());
    }

    #[tokio::test]
    async fn messages_arrive_and_the_end_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (_listener, near, far) = pair(directory.path()).await;
        let (mut reader, _far_writer) = far.split();
        let (near_reader, mut writer) = near.split();
        writer.send(&[1, 2, 3]).await.unwrap();
        assert_eq!(reader.next::<Vec<u8>>().await.unwrap(), Some(vec![1, 2, 3]));
        drop((writer, near_reader));
        assert_eq!(reader.next::<Vec<u8>>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_malformed_line_is_an_error_and_the_next_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (_listener, mut near, far) = pair(directory.path()).await;
        let (mut reader, _writer) = far.split();
        near.writer.write.write_all(b"nonsense\n7\n").await.unwrap();
        assert!(matches!(reader.next::<u8>().await, Err(SocketError::Malformed { .. })));
        assert_eq!(reader.next::<u8>().await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_at_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let (_listener, mut near, far) = pair(directory.path()).await;
        let (mut reader, _writer) = far.split();
        near.writer.write.write_all(&[b'x'; 1000]).await.unwrap();
        assert!(matches!(reader.next::<u8>().await, Err(SocketError::LineTooLong { limit: LIMIT })));
    }

    #[tokio::test]
    async fn a_second_listener_is_refused_and_a_dead_ones_file_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.sock");
        let first = Listener::bind(&path, LIMIT).await.unwrap();
        assert!(matches!(Listener::bind(&path, LIMIT).await, Err(SocketError::InUse { .. })));
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves the file behind
        assert!(path.exists());
        Listener::bind(&path, LIMIT).await.unwrap();
    }
}
