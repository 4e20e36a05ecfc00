//! A relay for one device: a CA, the enrolment call over HTTPS, and an MQTT peer over TLS 1.3 with client certificates.
//!
//! Real sockets, real TLS, the real wire; what it answers is scripted by the test. It exists because these programs must
//! not depend on the relay's; the two are tested together in `tools/system-test`.

#![allow(dead_code, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, reason = "test support")]

use protocol::Envelope;
use protocol::enrolment::{ClaimLink, EnrolRequest, EnrolResponse};
use protocol::envelope::Body;
use protocol::topic::{Leaf, Topic};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use units::DeviceId;
use uuid::Uuid;

/// Longest wait for anything that should come soon; generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);
/// The claim code that is accepted.
pub const CODE: &str = "GOOD-CODE";

/// A relay's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "relay CA");
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        firmware::tls::fingerprint(&self.certificate)
    }

    /// Chain and key of a server at 127.0.0.1, valid in the years given.
    pub fn server(&self, years: (i32, i32)) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (vec![certificate.der().clone(), self.certificate.clone()], key)
    }

    /// A device's certificate for its request.
    pub fn sign(&self, request_pem: &str, device: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).unwrap();
        request.params.distinguished_name = rcgen::DistinguishedName::new();
        request.params.distinguished_name.push(DnType::CommonName, device);
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }

    pub fn acceptor(&self, years: (i32, i32), client_certificates: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = if client_certificates {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = self.server(years);
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

/// A relay that listens.
pub struct Relay {
    pub authority: Authority,
    pub device: DeviceId,
    pub enrolment: TcpListener,
    pub broker: TcpListener,
    pub years: (i32, i32),
}

impl Relay {
    pub async fn new() -> Self {
        let any = || TcpListener::bind("127.0.0.1:0");
        let (enrolment, broker) = (any().await.unwrap(), any().await.unwrap());
        let device = "van-7".parse().unwrap();
        Self { authority: Authority::new(), device, enrolment, broker, years: (2000, 2090) }
    }

    pub fn broker_address(&self) -> SocketAddr {
        self.broker.local_addr().unwrap()
    }

    pub fn claim_link(&self) -> ClaimLink {
        let address = self.enrolment.local_addr().unwrap();
        let text = format!("https://{address}/enrol#{CODE}.{}", hex::encode(self.authority.fingerprint()));
        text.parse().unwrap()
    }

    /// What a correct relay answers.
    pub fn response(&self, request: &EnrolRequest) -> EnrolResponse {
        EnrolResponse {
            device: self.device.clone(),
            certificate_pem: self.authority.sign(&request.csr_pem, self.device.as_str()),
            ca_pem: self.authority.pem.clone(),
            broker_host: "127.0.0.1".to_owned(),
            broker_port: self.broker_address().port(),
        }
    }

    /// Serves one enrolment call with `answer`; `None` when TLS fails.
    pub async fn enrol_once(&self, answer: impl FnOnce(&EnrolRequest) -> (u16, Vec<u8>)) -> Option<EnrolRequest> {
        let (stream, _) = self.enrolment.accept().await.unwrap();
        let mut stream = self.authority.acceptor(self.years, false).accept(stream).await.ok()?;
        let request: EnrolRequest = serde_json::from_slice(&read_http(&mut stream).await?).unwrap();
        let (status, body) = answer(&request);
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        stream.flush().await.unwrap();
        let _ = stream.shutdown().await;
        Some(request)
    }

    /// Waits for the device's next MQTT session and logs it in.
    pub async fn session(&self) -> DeviceSession {
        let mut session = self.connection().await;
        session.log_in().await;
        session
    }

    /// The same with a relay that acknowledges nothing.
    pub async fn session_without_acknowledgements(&self) -> DeviceSession {
        let mut session = self.connection().await;
        session.acknowledges = false;
        session.log_in().await;
        session
    }

    /// Waits for a connection whose TLS handshake the device breaks off.
    pub async fn refused_handshake(&self) {
        let (stream, _) = timeout(SOON, self.broker.accept()).await.expect("the device connects").unwrap();
        let outcome = self.authority.acceptor(self.years, true).accept(stream).await;
        assert!(outcome.is_err(), "the device trusted a stranger");
    }

    /// Waits for the device's next TLS connection to the broker.
    pub async fn connection(&self) -> DeviceSession {
        let (stream, _) = timeout(SOON, self.broker.accept()).await.expect("the device connects").unwrap();
        let stream = self.authority.acceptor(self.years, true).accept(stream).await.unwrap();
        DeviceSession {
            device: self.device.clone(),
            stream,
            buffer: bytes::BytesMut::new(),
            seen: VecDeque::new(),
            acknowledges: true,
            packet: 0,
        }
    }
}

async fn read_http(stream: &mut TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let got = stream.read(&mut chunk).await.ok()?;
        if got == 0 {
            return None;
        }
        text.extend_from_slice(&chunk[..got]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
        assert!(head.starts_with("post /enrol http/1.1"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
        if text.len() - end - 4 >= length.trim().parse::<usize>().unwrap() {
            return Some(text[end + 4..].to_vec());
        }
    }
}

/// What the device published.
#[derive(Debug, Clone)]
pub struct Published {
    pub leaf: Leaf,
    pub qos: QoS,
    pub retain: bool,
    pub payload: Vec<u8>,
}

impl Published {
    pub fn read<B: Body>(&self) -> B {
        Envelope::<B>::parse(&self.payload).unwrap().body
    }
}

/// A device's MQTT session, from the relay's side.
pub struct DeviceSession {
    device: DeviceId,
    stream: TlsStream<TcpStream>,
    buffer: bytes::BytesMut,
    seen: VecDeque<Published>,
    /// Whether publications are acknowledged.
    pub acknowledges: bool,
    packet: u16,
}

impl DeviceSession {
    async fn write(&mut self, packet: Packet) {
        let mut bytes = bytes::BytesMut::new();
        packet.write(&mut bytes, 1 << 20).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; `None` when the device closed.
    pub async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, 1 << 20) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the device sends no MQTT: {error}"),
            }
            let got = self.stream.read_buf(&mut self.buffer).await.ok()?;
            if got == 0 {
                return None;
            }
        }
    }

    async fn log_in(&mut self) {
        let Some(Packet::Connect(connect)) = self.packet().await else { panic!("no CONNECT") };
        assert_eq!(connect.client_id, self.device.as_str());
        assert!(connect.clean_session, "commands must not wait for an absent device");
        let will = connect.last_will.expect("a last will");
        assert_eq!(will.topic, Topic::new(self.device.clone(), Leaf::Presence).to_string());
        assert!(will.retain);
        self.write(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
        let mut filters = Vec::new();
        while filters.len() < 2 {
            match self.packet().await.expect("a packet") {
                Packet::Subscribe(subscribe) => {
                    filters.extend(subscribe.filters.iter().map(|filter| filter.path.clone()));
                    let code = SubscribeReasonCode::Success(QoS::AtLeastOnce);
                    self.write(Packet::SubAck(SubAck::new(subscribe.pkid, vec![code]))).await;
                }
                other => self.take(other).await,
            }
        }
        assert_eq!(filters, ["d/van-7/down/command", "d/van-7/down/notice"]);
    }

    /// Refuses the log-in.
    pub async fn refuse(mut self) {
        let Some(Packet::Connect(_)) = self.packet().await else { panic!("no CONNECT") };
        self.write(Packet::ConnAck(ConnAck::new(ConnectReturnCode::NotAuthorized, false))).await;
    }

    async fn take(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(publish) => {
                let topic = Topic::parse(&publish.topic).unwrap();
                assert_eq!(topic.device, self.device);
                let Publish { qos, retain, pkid, .. } = publish;
                self.seen.push_back(Published { leaf: topic.leaf, qos, retain, payload: publish.payload.to_vec() });
                if qos == QoS::AtLeastOnce && self.acknowledges {
                    self.write(Packet::PubAck(PubAck::new(pkid))).await;
                }
            }
            Packet::PingReq => self.write(Packet::PingResp).await,
            _ => {}
        }
    }

    /// The next publication on `leaf` that `wanted` says yes to; others on that leaf are dropped, other leaves wait.
    pub async fn next_where(&mut self, leaf: Leaf, wanted: impl Fn(&Published) -> bool) -> Published {
        let search = async {
            loop {
                while let Some(at) = self.seen.iter().position(|published| published.leaf == leaf) {
                    let published = self.seen.remove(at).unwrap();
                    if wanted(&published) {
                        return published;
                    }
                }
                let packet = self.packet().await.expect("the device stays connected");
                self.take(packet).await;
            }
        };
        timeout(SOON, search).await.unwrap_or_else(|_| panic!("nothing fitting came on {leaf:?}"))
    }

    pub async fn next(&mut self, leaf: Leaf) -> Published {
        self.next_where(leaf, |_| true).await
    }

    /// Takes packets until the device closes.
    pub async fn until_closed(&mut self) -> Vec<Published> {
        let drain = async {
            while let Some(packet) = self.packet().await {
                self.take(packet).await;
            }
        };
        timeout(SOON, drain).await.expect("the device closes");
        self.seen.drain(..).collect()
    }

    pub async fn send_payload(&mut self, leaf: Leaf, payload: Vec<u8>) {
        let mut publish = Publish::new(Topic::new(self.device.clone(), leaf).to_string(), QoS::AtLeastOnce, payload);
        self.packet += 1;
        publish.pkid = self.packet;
        self.write(Packet::Publish(publish)).await;
    }

    /// Sends a message and gives its id.
    pub async fn send<B: Body>(&mut self, leaf: Leaf, body: B) -> Uuid {
        let id = Uuid::now_v7();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.send_payload(leaf, Envelope::new(id, now.as_millis() as u64, body).emit()).await;
        id
    }
}
