//! A whole relay in this process, and what talks to it: an HTTP client and a device's TLS and MQTT.
// Each test file uses its part; a test may unwrap, and its helpers with it.
#![allow(dead_code, clippy::unwrap_used, clippy::format_push_string)]

pub mod small_disk;

use bytes::BytesMut;
use daemon::shutdown::{Shutdown, Trigger};
use protocol::Secret;
use protocol::enrolment::{ClaimLink, EnrolRequest, EnrolResponse};
use relay::config::Config;
use relay::run::{Addresses, RelayError};
use rumqttc::mqttbytes::v4::{ConnAck, Connect, Packet};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(30);

/// A relay running in this process.
pub struct TestRelay {
    place: Place,
    trigger: Trigger,
    task: JoinHandle<Result<(), RelayError>>,
}

/// `strata-relay` as a process of its own; killed when dropped.
pub struct RelayProcess {
    place: Place,
    child: Child,
    log: PathBuf,
}

/// Where a relay is.
#[derive(Clone)]
pub struct Place {
    pub at: Addresses,
    pub data: PathBuf,
}

impl Deref for TestRelay {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Deref for RelayProcess {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl RelayProcess {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, Path::new(env!("CARGO_BIN_EXE_strata-receiver")), "info").await
    }

    /// Starts it with a receiver program and a log filter, and waits until it is up.
    pub async fn start_with(data: &Path, receiver: &Path, filter: &str) -> Self {
        std::fs::create_dir_all(data).unwrap();
        let path = data.join("relay.toml");
        std::fs::write(&path, config_text(data, receiver)).unwrap();
        let log = data.join("relay.log");
        let before = std::fs::read_to_string(&log).unwrap_or_default().len();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_strata-relay"))
            .arg("--config")
            .arg(&path)
            .env("STRATA_LOG", filter)
            .env("STRATA_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let up = eventually("the relay's start", || async {
            let text = std::fs::read_to_string(&log).unwrap();
            text[before..]
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["fields"]["message"] == "relay is up")
        })
        .await;
        let address = |name: &str| up["fields"][name].as_str().unwrap().parse().unwrap();
        let at =
            Addresses { dashboard: address("dashboard"), broker: address("broker"), enrolment: address("enrolment") };
        Self { place: Place { at, data: data.to_owned() }, child, log }
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its orderly end.
    pub fn terminate(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_text(data: &Path, receiver: &Path) -> String {
    let (data, receiver) = (data.display(), receiver.display());
    format!(
        "data_dir = \"{data}\"\n[dashboard]\nlisten = \"127.0.0.1:0\"\ninsecure_cookies = true\n[broker]\nlisten = \"127.0.0.1:0\"\n\
         [enrolment]\nlisten = \"127.0.0.1:0\"\n[receivers]\nbind = \"127.0.0.1\"\nport_first = 21000\nport_last = 21400\n\
         program = \"{receiver}\"\n"
    )
}

fn config(data: &Path, receiver: &Path) -> Config {
    let text = config_text(data, receiver);
    daemon::config::parse::<Config>(Path::new("test.toml"), &text).unwrap().checked().unwrap()
}

impl TestRelay {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, Path::new(env!("CARGO_BIN_EXE_strata-receiver"))).await
    }

    pub async fn start_with(data: &Path, receiver: &Path) -> Self {
        let (trigger, shutdown) = Shutdown::manual();
        let (ready, at) = tokio::sync::oneshot::channel();
        let config = config(data, receiver);
        let task = tokio::spawn(relay::run::run(config, shutdown, |at| {
            let _ = ready.send(at);
        }));
        let place = Place { at: at.await.expect("the relay starts"), data: data.to_owned() };
        Self { place, trigger, task }
    }

    /// Ends it in order.
    pub async fn end(self) {
        self.trigger.fire();
        self.task.await.unwrap().unwrap();
    }
}

impl Place {
    pub fn password(&self) -> String {
        std::fs::read_to_string(self.data.join("initial-password.txt")).unwrap().trim().to_owned()
    }

    /// The relay's CA, PEM.
    pub fn ca(&self) -> Vec<u8> {
        std::fs::read(self.data.join("ca/ca.pem")).unwrap()
    }

    pub async fn log_in(&self) -> Operator {
        let body = serde_json::json!({ "name": "admin", "password": self.password() }).to_string();
        let json = ("content-type", "application/json");
        let answer = http(self.at.dashboard, "POST", "/api/v1/login", &[json], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
        Operator { at: self.at.dashboard, cookie, csrf }
    }

    /// Makes a claim and enrols a device with it.
    pub async fn enrol(&self, name: &str) -> Identity {
        let claim = self.log_in().await.claim(name).await;
        self.enrol_with(&claim).await.unwrap()
    }

    /// Enrols with `claim`; the refusal's status and body otherwise.
    pub async fn enrol_with(&self, claim: &ClaimLink) -> Result<Identity, (u16, Value)> {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let request = EnrolRequest {
            claim_code: Secret::new(claim.claim_code.reveal()),
            csr_pem: csr,
            board: "test".to_owned(),
            agent_version: "0".to_owned(),
        };
        let stream = tls(self.at.enrolment, &self.ca(), None).await.unwrap();
        let body = serde_json::to_string(&request).unwrap();
        let answer = exchange(stream, "POST", "/enrol", &[("content-type", "application/json")], &body).await;
        if answer.status != 200 {
            return Err((answer.status, answer.json()));
        }
        let response: EnrolResponse = serde_json::from_str(&answer.body).unwrap();
        Ok(Identity { response, key_pem: key.serialize_pem() })
    }
}

/// One who is logged in.
pub struct Operator {
    pub at: SocketAddr,
    pub cookie: String,
    pub csrf: String,
}

impl Operator {
    pub async fn get(&self, path: &str) -> Answer {
        http(self.at, "GET", path, &[("cookie", &self.cookie)], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers =
            [("cookie", self.cookie.as_str()), ("x-csrf-token", &self.csrf), ("content-type", "application/json")];
        http(self.at, "POST", path, &headers, &body.to_string()).await
    }

    pub async fn claim(&self, name: &str) -> ClaimLink {
        let answer = self.post("/api/v1/claims", &serde_json::json!({ "name": name })).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["claim_link"].as_str().unwrap().parse().unwrap()
    }
}

/// A device's certificate and key.
#[derive(Clone)]
pub struct Identity {
    pub response: EnrolResponse,
    pub key_pem: String,
}

impl Identity {
    pub fn id(&self) -> &str {
        self.response.device.as_str()
    }

    pub fn topic(&self, rest: &str) -> String {
        format!("d/{}/{rest}", self.id())
    }

    /// TLS with this certificate.
    pub async fn tls(&self, at: SocketAddr) -> Result<TlsStream<TcpStream>, std::io::Error> {
        tls(at, self.response.ca_pem.as_bytes(), Some(self)).await
    }

    /// TLS and MQTT under the right name, with a will as the agent leaves it.
    pub async fn connect(&self, at: SocketAddr) -> Wire {
        let mut wire = Wire::new(self.tls(at).await.unwrap());
        let mut connect = Connect::new(self.id());
        connect.keep_alive = 10;
        let acknowledged = wire.connect(connect).await.unwrap();
        assert_eq!(acknowledged.code, rumqttc::mqttbytes::v4::ConnectReturnCode::Success);
        wire
    }
}

pub async fn tls(at: SocketAddr, ca_pem: &[u8], identity: Option<&Identity>) -> std::io::Result<TlsStream<TcpStream>> {
    tls_of(&[&rustls::version::TLS13], at, ca_pem, identity).await
}

/// TLS of these versions.
pub async fn tls_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
    at: SocketAddr,
    ca_pem: &[u8],
    identity: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    shake_hands(versions, TcpStream::connect(at).await?, ca_pem, identity).await
}

/// TLS without a certificate of ours on an open connection.
pub async fn tls_on(stream: TcpStream, ca_pem: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    shake_hands(&[&rustls::version::TLS13], stream, ca_pem, None).await
}

async fn shake_hands(
    versions: &[&'static rustls::SupportedProtocolVersion],
    stream: TcpStream,
    ca_pem: &[u8],
    identity: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(it) => {
            let chain = vec![CertificateDer::from_pem_slice(it.response.certificate_pem.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(it.key_pem.as_bytes()).unwrap()).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// TCP to `at` from an address of this machine.
pub async fn tcp_from(from: &str, at: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse().unwrap())?;
    socket.connect(at).await
}

/// MQTT packets on TLS, by rumqttc's codec.
pub struct Wire {
    pub stream: TlsStream<TcpStream>,
    buffer: BytesMut,
}

impl Wire {
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; `None` when the relay closed.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, 1024 * 1024) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the relay sent what rumqttc cannot read: {error}"),
            }
            match timeout(SOON, self.stream.read_buf(&mut self.buffer)).await.expect("the relay says something") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn connect(&mut self, connect: Connect) -> Option<ConnAck> {
        self.send(&Packet::Connect(connect)).await;
        match self.next().await {
            Some(Packet::ConnAck(acknowledged)) => Some(acknowledged),
            None => None,
            other => panic!("not a CONNACK: {other:?}"),
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub async fn http(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    exchange(TcpStream::connect(at).await.unwrap(), method, path, headers, body).await
}

pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // TLS peers may close without a goodbye; what was read counts.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("an answer");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pair = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Answer { status, headers: lines.filter_map(pair).collect(), body: body.to_owned() }
}

/// Looks until `probe` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let found = timeout(SOON, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}
