//! An RTMP listener: a camera or an encoder program on the device's network publishes to the device.
//!
//! That is how such senders work: they push. One sender at a time; another is refused, one with a foreign application or key
//! is refused. What comes is handed on as an FLV stream. The protocol itself is `rml_rtmp`'s (Adobe's RTMP 1.0, H.264 and AAC);
//! here are the socket, the order of events and the bounds: a sender has [`SET_UP_TIME_MAX`] to publish, and no message may be
//! longer than [`MESSAGE_BYTES_MAX`]. The listener ends with its first sender; the session opens it again.

use super::fault::{StreamFault, redact_uri};
use gstreamer as gst;
use gstreamer_app as gst_app;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata};
use rtmp_screen::{Screen, ScreenError};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Port of a listener whose address names none.
const PORT: u16 = 1935;
/// From a connection to its `publish`.
const SET_UP_TIME_MAX: Duration = Duration::from_secs(3);
/// How often a waiting thread looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How long a sender may take to read an answer.
const WRITE_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes that may come without completing a message before `publish`: commands are short.
const COMMAND_BYTES_MAX: usize = 32 * 1024;
/// Bytes that may come without completing a message: a key picture of a camera is far below.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// Coded bytes waiting for the decoder; beyond, the sender waits.
const QUEUE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Where a listener listens and whom it lets in.
#[derive(Clone, PartialEq, Eq)]
pub struct Listen {
    address: SocketAddr,
    /// Application and stream key; `None` lets everybody in.
    path: Option<(String, String)>,
    /// For messages; without the key.
    what: String,
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listen").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Listen {
    /// Reads `rtmp://HOST:PORT/APPLICATION/KEY`: to listen when it ends in `?mode=listener` (as SRT has it) or `?listen=1`, or
    /// when its host is none or any (`rtmp://:1935/live/cam`, `rtmp://0.0.0.0/live/cam`); `None` for an address to pull from.
    pub fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("rtmp://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let asked = query.split('&').any(|option| option == "mode=listener" || option == "listen=1");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let any = matches!(host, "" | "@" | "0.0.0.0" | "::");
        let ip = if matches!(host, "" | "@") { Ipv4Addr::UNSPECIFIED.into() } else { host.parse().ok()? };
        let path = path.trim_end_matches('/');
        let path = path.split_once('/').map(|(app, key)| (app.to_owned(), key.to_owned()));
        (asked || any).then(|| Self { address: SocketAddr::new(ip, port), path, what: redact_uri(uri) })
    }

    fn lets_in(&self, app: &str, key: &str) -> bool {
        let key = key.split('?').next().unwrap_or_default();
        self.path.as_ref().is_none_or(|(own_app, own_key)| app.trim_end_matches('/') == own_app && key == own_key)
    }
}

/// A listening socket and the thread behind it.
#[derive(Debug)]
pub struct Listener {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The element that a listener fills.
pub fn source() -> gst_app::AppSrc {
    gst_app::AppSrc::builder()
        .name("rtmp")
        .is_live(true)
        .format(gst::Format::Bytes)
        .caps(&gst::Caps::new_empty_simple("video/x-flv"))
        .max_bytes(QUEUE_BYTES_MAX)
        .block(true)
        .build()
}

impl Listener {
    /// Listens; what the first sender sends goes to `target`, whose end follows the sender's.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(listen: &Listen, target: gst_app::AppSrc) -> Result<Self, StreamFault> {
        let fail = |error: io::Error| StreamFault::SourceFailed {
            what: listen.what.clone(),
            detail: format!("cannot listen on {}: {error}", listen.address),
        };
        let socket = TcpListener::bind(listen.address).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let own = listen.clone();
        let thread = std::thread::Builder::new()
            .name("rtmp".to_owned())
            .spawn(move || serve(&socket, &own, &target, &stop))
            .map_err(fail)?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Listener {
    /// Call it when the pipeline behind the target has stopped: a full target makes the thread wait.
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the RTMP listener panicked");
        }
    }
}

/// Until a sender has come and gone, or the end.
fn serve(socket: &TcpListener, listen: &Listen, target: &gst_app::AppSrc, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match socket.accept() {
            Ok((stream, peer)) => {
                let mut sender = match Sender::new(stream, listen, target, stop) {
                    Ok(sender) => sender,
                    Err(error) => {
                        tracing::warn!(%peer, %error, "an RTMP sender was lost");
                        continue;
                    }
                };
                let outcome = sender.run();
                let published = sender.published;
                tracing::info!(%peer, published, reason = outcome.err().map(|error| error.to_string()), "RTMP sender left");
                if published {
                    let _ = target.end_of_stream(); // fails when the pipeline is stopping
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(STOP_CHECK),
            Err(error) => {
                tracing::warn!(%error, "RTMP listener");
                std::thread::sleep(STOP_CHECK);
            }
        }
    }
}

/// Why a sender is not listened to any more.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("it closed the connection")]
    Closed,
    #[error("the source is being closed")]
    Stopped,
    #[error("it did not publish within {} s", SET_UP_TIME_MAX.as_secs())]
    Idle,
    #[error(transparent)]
    Screen(#[from] ScreenError),
    #[error("its application or stream key is not the one of this input")]
    Refused,
    #[error("it does not speak RTMP: {0}")]
    Protocol(String),
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

fn protocol(error: impl std::fmt::Display) -> Left {
    Left::Protocol(error.to_string())
}

/// One connection.
struct Sender<'a> {
    stream: TcpStream,
    listen: &'a Listen,
    target: &'a gst_app::AppSrc,
    stop: &'a AtomicBool,
    began: Instant,
    metadata: Option<StreamMetadata>,
    published: bool,
    /// The FLV header was handed on.
    begun: bool,
}

impl<'a> Sender<'a> {
    fn new(
        stream: TcpStream,
        listen: &'a Listen,
        target: &'a gst_app::AppSrc,
        stop: &'a AtomicBool,
    ) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(STOP_CHECK))?;
        stream.set_write_timeout(Some(WRITE_TIME_MAX))?;
        stream.set_nodelay(true)?;
        let began = Instant::now();
        Ok(Self { stream, listen, target, stop, began, metadata: None, published: false, begun: false })
    }

    fn run(&mut self) -> Result<(), Left> {
        let mut buffer = vec![0; READ_BYTES];
        let mut input = self.shake_hands(&mut buffer)?;
        let (mut session, results) = ServerSession::new(ServerSessionConfig::new()).map_err(protocol)?;
        self.take(&mut session, results)?;
        let mut screen = Screen::new();
        loop {
            let bytes_max = if self.published { MESSAGE_BYTES_MAX } else { COMMAND_BYTES_MAX };
            let results = screen.read(&input, bytes_max, |bytes| session.handle_input(bytes))?.map_err(protocol)?;
            self.take(&mut session, results)?;
            let count = self.read(&mut buffer)?;
            input.clear();
            input.extend_from_slice(&buffer[..count]);
        }
    }

    fn shake_hands(&mut self, buffer: &mut [u8]) -> Result<Vec<u8>, Left> {
        let mut handshake = Handshake::new(PeerType::Server);
        loop {
            let count = self.read(buffer)?;
            match handshake.process_bytes(&buffer[..count]).map_err(protocol)? {
                HandshakeProcessResult::InProgress { response_bytes } => self.stream.write_all(&response_bytes)?,
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.stream.write_all(&response_bytes)?;
                    return Ok(remaining_bytes);
                }
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Left> {
        loop {
            if self.stop.load(Ordering::Acquire) {
                return Err(Left::Stopped);
            }
            if !self.published && self.began.elapsed() > SET_UP_TIME_MAX {
                return Err(Left::Idle);
            }
            match self.stream.read(buffer) {
                Ok(0) => return Err(Left::Closed),
                Ok(count) => return Ok(count),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, session: &mut ServerSession, results: Vec<ServerSessionResult>) -> Result<(), Left> {
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => self.stream.write_all(&packet.bytes)?,
                ServerSessionResult::RaisedEvent(event) => self.event(session, event)?,
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, session: &mut ServerSession, event: ServerSessionEvent) -> Result<(), Left> {
        match event {
            ServerSessionEvent::ConnectionRequested { request_id, .. }
            | ServerSessionEvent::ReleaseStreamRequested { request_id, .. } => {
                let answers = session.accept_request(request_id).map_err(protocol)?;
                self.take(session, answers)
            }
            ServerSessionEvent::PublishStreamRequested { request_id, app_name, stream_key, .. } => {
                if self.listen.lets_in(&app_name, &stream_key) {
                    let answers = session.accept_request(request_id).map_err(protocol)?;
                    self.published = true;
                    self.take(session, answers)
                } else {
                    let why = "this device expects another application or stream key";
                    let answers =
                        session.reject_request(request_id, "NetStream.Publish.BadName", why).map_err(protocol)?;
                    self.take(session, answers)?;
                    Err(Left::Refused)
                }
            }
            ServerSessionEvent::PlayStreamRequested { request_id, .. } => {
                let why = "this device is published to, it plays nothing";
                let answers = session.reject_request(request_id, "NetStream.Play.Failed", why).map_err(protocol)?;
                self.take(session, answers)
            }
            ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                self.metadata = Some(metadata);
                Ok(())
            }
            ServerSessionEvent::AudioDataReceived { data, timestamp, .. } => {
                self.hand_on(Tag::Audio, timestamp.value, &data)
            }
            ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                self.hand_on(Tag::Video, timestamp.value, &data)
            }
            ServerSessionEvent::PublishStreamFinished { .. } => Err(Left::Closed),
            _ => Ok(()),
        }
    }

    fn hand_on(&mut self, tag: Tag, timestamp_ms: u32, body: &[u8]) -> Result<(), Left> {
        if !self.published {
            return Err(Left::Protocol("media before publish".to_owned()));
        }
        let mut bytes = Vec::with_capacity(body.len() + 64);
        if !std::mem::replace(&mut self.begun, true) {
            bytes.extend_from_slice(&flv_header(self.metadata.as_ref()));
        }
        flv_tag(&mut bytes, tag, timestamp_ms, body);
        self.target.push_buffer(gst::Buffer::from_slice(bytes)).map(drop).map_err(|_| Left::Stopped)
    }
}

#[derive(Debug, Clone, Copy)]
enum Tag {
    Audio = 8,
    Video = 9,
}

/// FLV version 10.1, annex E.2: what is said to be in the stream is waited for, so nothing that the sender rules out.
fn flv_header(metadata: Option<&StreamMetadata>) -> [u8; 13] {
    let (audio, video) = match metadata {
        Some(metadata) if metadata.audio_codec_id.is_some() || metadata.video_codec_id.is_some() => {
            (metadata.audio_codec_id.is_some(), metadata.video_codec_id.is_some())
        }
        _ => (true, true),
    };
    let flags = u8::from(audio) << 2 | u8::from(video);
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Annex E.4.1: type, size, time, stream 0, body, size of the whole.
fn flv_tag(bytes: &mut Vec<u8>, tag: Tag, timestamp_ms: u32, body: &[u8]) {
    let from = bytes.len();
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let time = timestamp_ms.to_be_bytes();
    bytes.extend_from_slice(&[tag as u8, size[1], size[2], size[3], time[1], time[2], time[3], time[0], 0, 0, 0]);
    bytes.extend_from_slice(body);
    let whole = u32::try_from(bytes.len() - from).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&whole.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_to_listen_or_to_pull() {
        let address = |uri: &str| Listen::parse(uri).map(|listen| listen.address.to_string());
        assert_eq!(address("rtmp://:1936/live/cam").as_deref(), Some("0.0.0.0:1936"));
        assert_eq!(address("rtmp://0.0.0.0/live/cam").as_deref(), Some("0.0.0.0:1935"));
        assert_eq!(address("rtmp://[::]:1937/live/cam").as_deref(), Some("[::]:1937"));
        assert_eq!(address("rtmp://192.0.2.1/live/cam?mode=listener").as_deref(), Some("192.0.2.1:1935"));
        assert_eq!(address("rtmp://127.0.0.1:5/live/cam?x=1&listen=1").as_deref(), Some("127.0.0.1:5"));
        for pull in ["rtmp://192.0.2.1/live/cam", "rtmp://server.example:1935/a/b", "srt://:1935?mode=listener"] {
            assert_eq!(address(pull), None, "{pull}");
        }
        assert_eq!(address("rtmp://:99999/live/cam"), None);
    }

    #[test]
    fn only_the_named_application_and_key_are_let_in() {
        let listen = Listen::parse("rtmp://:1935/live/cam").unwrap();
        assert!(listen.lets_in("live", "cam") && listen.lets_in("live/", "cam?token=1"));
        assert!(!listen.lets_in("live", "other") && !listen.lets_in("", "cam"));
        assert!(Listen::parse("rtmp://:1935").unwrap().lets_in("any", "thing"));
        assert!(!format!("{listen:?}").contains("cam"), "{listen:?}");
    }

    /// A command whose values hold each other so deeply, sent by anybody who reaches the port.
    fn send_command(port: u16, values: Vec<u8>) {
        use rml_rtmp::chunk_io::ChunkSerializer;
        use rml_rtmp::messages::MessagePayload;
        use rml_rtmp::time::RtmpTimestamp;

        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        stream.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).unwrap();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            match handshake.process_bytes(&buffer[..count]).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => stream.write_all(&response_bytes).unwrap(),
                HandshakeProcessResult::Completed { response_bytes, .. } => {
                    stream.write_all(&response_bytes).unwrap();
                    break;
                }
            }
        }
        let data = values.into();
        let message = MessagePayload { timestamp: RtmpTimestamp::new(0), type_id: 20, message_stream_id: 0, data };
        stream.write_all(&ChunkSerializer::new().serialize(&message, true, false).unwrap().bytes).unwrap();
        // Until the listener hangs up.
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }

    #[test]
    fn a_command_that_nests_without_end_or_lacks_values_ends_its_connection_alone() {
        gst::init().unwrap();
        let port = free_ports::free_tcp_port();
        let listen = Listen::parse(&format!("rtmp://127.0.0.1:{port}/live/cam?mode=listener")).unwrap();
        let listener = Listener::start(&listen, source()).unwrap();
        // An object with a property of one letter that is an object, and so on; then a name and nothing else.
        let nested = |levels| [3, 0, 1, b'a'].repeat(levels);
        for values in [nested(rtmp_screen::DEPTH_MAX), nested(7000), vec![2, 0, 1, b'a'], nested(7000)] {
            send_command(port, values);
        }
        drop(listener);
    }

    #[test]
    fn a_tag_is_written_as_the_standard_has_it() {
        let mut bytes = Vec::new();
        flv_tag(&mut bytes, Tag::Video, 0x0102_0304, &[0xAA, 0xBB]);
        assert_eq!(bytes, [9, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, 0xAA, 0xBB, 0, 0, 0, 13]);
        assert_eq!(flv_header(None)[4], 5);
        let mut silent = StreamMetadata::new();
        silent.video_codec_id = Some(7);
        assert_eq!(flv_header(Some(&silent))[4], 1);
    }
}
