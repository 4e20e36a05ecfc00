//! An RTMP session as publisher over TCP or TLS. The protocol itself is `rml_rtmp`'s; here are sockets and time limits.

use super::error::{SessionError, Stage};
use super::secure;
use super::target::Target;
use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionError, ClientSessionEvent, ClientSessionResult,
    PublishRequestType, StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;
use rtmp_screen::Screen;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// From the first packet to an open TCP or TLS connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// From one answer of the server to the next while the session is set up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A server that takes nothing for so long is given up.
const WRITE_TIME_MAX: Duration = Duration::from_secs(8);
/// RTMP chunks we send, in bytes: few headers, and far below every server's limit.
const CHUNK_BYTES: u32 = 4096;
/// Longest message of a server, bytes; honest ones are a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const READ_BUFFER_BYTES: usize = 4096;

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A session that accepted our `publish`.
pub struct Connection {
    read: ReadHalf<Box<dyn Transport>>,
    write: WriteHalf<Box<dyn Transport>>,
    session: ClientSession,
    screen: Screen,
    buffer: Vec<u8>,
    stage: Stage,
    /// To be written.
    out: Vec<u8>,
}

impl Connection {
    /// Connects and asks to publish.
    ///
    /// # Errors
    /// Each stage has its own; the server's or the network's fault.
    pub async fn open(target: &Target) -> Result<Self, SessionError> {
        let transport = timeout(CONNECT_TIME_MAX, dial(target))
            .await
            .unwrap_or(Err(SessionError::Timeout { stage: Stage::Connecting }))?;
        let (read, write) = tokio::io::split(transport);
        let mut config = ClientSessionConfig::new();
        config.tc_url = Some(target.tc_url());
        "FMLE/3.0 (compatible; Strata)".clone_into(&mut config.flash_version);
        config.chunk_size = CHUNK_BYTES;
        let (session, _) = ClientSession::new(config).map_err(SessionError::Protocol)?;
        let buffer = vec![0; READ_BUFFER_BYTES];
        let mut connection =
            Self { read, write, session, screen: Screen::new(), buffer, stage: Stage::Handshake, out: Vec::new() };
        let rest = connection.shake_hands().await?;
        connection.set_up(target, &rest).await?;
        Ok(connection)
    }

    async fn shake_hands(&mut self) -> Result<Vec<u8>, SessionError> {
        let mut handshake = Handshake::new(PeerType::Client);
        self.out = handshake.generate_outbound_p0_and_p1().map_err(SessionError::Handshake)?;
        self.flush().await?;
        loop {
            let count = self.read_answer().await?;
            match handshake.process_bytes(&self.buffer[..count]).map_err(SessionError::Handshake)? {
                HandshakeProcessResult::InProgress { response_bytes } => self.out.extend(response_bytes),
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.out.extend(response_bytes);
                    self.flush().await?;
                    return Ok(remaining_bytes);
                }
            }
            self.flush().await?;
        }
    }

    /// `connect`, `createStream`, `publish`.
    async fn set_up(&mut self, target: &Target, rest: &[u8]) -> Result<(), SessionError> {
        self.stage = Stage::Application;
        let request = self.session.request_connection(target.app.clone()).map_err(SessionError::Protocol)?;
        self.queue(request);
        self.flush().await?;
        let mut events = self.take_input(rest)?;
        loop {
            for event in events {
                match event {
                    ClientSessionEvent::ConnectionRequestAccepted => {
                        self.stage = Stage::Publish;
                        let key = target.key.reveal().to_owned();
                        let request = self.session.request_publishing(key, PublishRequestType::Live);
                        let request = request.map_err(SessionError::Protocol)?;
                        self.queue(request);
                    }
                    ClientSessionEvent::PublishRequestAccepted => {
                        self.stage = Stage::Live;
                        return self.flush().await;
                    }
                    other => refusal(other)?,
                }
            }
            self.flush().await?;
            let count = self.read_answer().await?;
            let input = self.buffer[..count].to_vec();
            events = self.take_input(&input)?;
        }
    }

    async fn read_answer(&mut self) -> Result<usize, SessionError> {
        let stage = self.stage;
        match timeout(ANSWER_TIME_MAX, self.read.read(&mut self.buffer)).await {
            Err(_) => Err(SessionError::Timeout { stage }),
            Ok(Ok(0)) => Err(SessionError::Closed { stage }),
            Ok(Ok(count)) => Ok(count),
            Ok(Err(source)) => Err(broken(source, stage)),
        }
    }

    fn take_input(&mut self, bytes: &[u8]) -> Result<Vec<ClientSessionEvent>, SessionError> {
        let session = &mut self.session;
        let results = self.screen.read(bytes, ANSWER_BYTES_MAX, |bytes| session.handle_input(bytes));
        let results = results.map_err(SessionError::Screen)?.map_err(|error| match error {
            ClientSessionError::CreateStreamFailed => {
                SessionError::PublishRefused { code: "createStream failed".to_owned() }
            }
            other => SessionError::Protocol(other),
        })?;
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                other => self.queue(other),
            }
        }
        Ok(events)
    }

    fn queue(&mut self, result: ClientSessionResult) {
        if let ClientSessionResult::OutboundResponse(packet) = result {
            self.out.extend_from_slice(&packet.bytes);
        }
    }

    /// Takes what the server says while media flows; returns when it said something. Cancel-safe.
    ///
    /// # Errors
    /// The server ended the session.
    pub async fn listen(&mut self) -> Result<(), SessionError> {
        let count = match self.read.read(&mut self.buffer).await {
            Ok(0) => return Err(SessionError::Closed { stage: self.stage }),
            Ok(count) => count,
            Err(source) => return Err(broken(source, self.stage)),
        };
        let input = self.buffer[..count].to_vec();
        self.take_input(&input)?.into_iter().try_for_each(refusal)
    }

    /// Queues the stream's description.
    ///
    /// # Errors
    /// Never in a session that was opened.
    pub fn describe(&mut self, metadata: &StreamMetadata) -> Result<(), SessionError> {
        let result = self.session.publish_metadata(metadata).map_err(SessionError::Protocol)?;
        self.queue(result);
        Ok(())
    }

    /// Queues a video message.
    ///
    /// # Errors
    /// Never in a session that was opened.
    pub fn video(&mut self, at_ms: u32, body: Vec<u8>) -> Result<(), SessionError> {
        let result = self.session.publish_video_data(Bytes::from(body), RtmpTimestamp::new(at_ms), false);
        self.queue(result.map_err(SessionError::Protocol)?);
        Ok(())
    }

    /// Queues an audio message.
    ///
    /// # Errors
    /// Never in a session that was opened.
    pub fn audio(&mut self, at_ms: u32, body: Vec<u8>) -> Result<(), SessionError> {
        let result = self.session.publish_audio_data(Bytes::from(body), RtmpTimestamp::new(at_ms), false);
        self.queue(result.map_err(SessionError::Protocol)?);
        Ok(())
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// [`SessionError::Stalled`] when the server takes nothing for too long.
    pub async fn flush(&mut self) -> Result<(), SessionError> {
        self.write_out().await.map(drop)
    }

    /// The same, with the number of bytes written.
    ///
    /// # Errors
    /// As [`Connection::flush`].
    pub async fn write_out(&mut self) -> Result<usize, SessionError> {
        if self.out.is_empty() {
            return Ok(0);
        }
        let attempt = async {
            self.write.write_all(&self.out).await?;
            self.write.flush().await
        };
        match timeout(WRITE_TIME_MAX, attempt).await {
            Err(_) => Err(SessionError::Stalled),
            Ok(Err(source)) => Err(broken(source, self.stage)),
            Ok(Ok(())) => {
                let count = self.out.len();
                self.out.clear();
                Ok(count)
            }
        }
    }

    /// Says goodbye; errors do not matter any more.
    pub async fn close(mut self) {
        if let Ok(results) = self.session.stop_publishing() {
            for result in results {
                self.queue(result);
            }
        }
        if self.flush().await.is_ok() {
            let _ = timeout(Duration::from_secs(1), self.write.shutdown()).await;
        }
    }
}

/// An event that ends the session, as an error.
fn refusal(event: ClientSessionEvent) -> Result<(), SessionError> {
    match event {
        ClientSessionEvent::ConnectionRequestRejected { description } => {
            Err(SessionError::ApplicationRefused { description })
        }
        ClientSessionEvent::UnhandleableOnStatusCode { code } if ends_the_stream(&code) => {
            Err(SessionError::PublishRefused { code })
        }
        _ => Ok(()),
    }
}

fn ends_the_stream(code: &str) -> bool {
    ["BadName", "Denied", "Rejected", "Failed", "Unpublish", "Closed", "BadAuth"].iter().any(|word| code.contains(word))
}

fn broken(source: io::Error, stage: Stage) -> SessionError {
    match source.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            SessionError::Closed { stage }
        }
        _ => SessionError::Io { source },
    }
}

async fn dial(target: &Target) -> Result<Box<dyn Transport>, SessionError> {
    let host = target.host.as_str();
    let stream = TcpStream::connect((host, target.port))
        .await
        .map_err(|source| SessionError::Connect { host: host.to_owned(), source })?;
    // Pictures are written whole; waiting to fill segments only delays them.
    let _ = stream.set_nodelay(true);
    if !target.tls {
        return Ok(Box::new(stream));
    }
    let stream = secure::connect(host, stream).await;
    Ok(Box::new(stream.map_err(|source| SessionError::Tls { host: host.to_owned(), source })?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Secret;
    use rml_rtmp::chunk_io::ChunkSerializer;
    use rml_rtmp::messages::MessagePayload;
    use tokio::net::TcpListener;

    /// A server that answers the handshake, and `connect` by a command of `values`.
    async fn answer(listener: TcpListener, values: Vec<u8>) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut handshake = Handshake::new(PeerType::Server);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            match handshake.process_bytes(&buffer[..count]).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    stream.write_all(&response_bytes).await.unwrap();
                }
                HandshakeProcessResult::Completed { response_bytes, .. } => {
                    stream.write_all(&response_bytes).await.unwrap();
                    break;
                }
            }
        }
        let message = MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id: 20,
            message_stream_id: 0,
            data: Bytes::from(values),
        };
        let packet = ChunkSerializer::new().serialize(&message, true, false).unwrap();
        stream.write_all(&packet.bytes).await.unwrap();
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    }

    #[tokio::test]
    async fn a_server_whose_answer_nests_without_end_or_lacks_values_is_left() {
        for values in [[3, 0, 1, b'a'].repeat(7000), vec![2, 0, 1, b'a']] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("rtmp://{}/app", listener.local_addr().unwrap());
            let server = tokio::spawn(answer(listener, values));
            let target = Target::parse(&url, &Secret::new("key")).unwrap();
            let left = Connection::open(&target).await.err();
            assert!(matches!(left, Some(SessionError::Screen(_))), "{left:?}");
            server.await.unwrap();
        }
    }
}
