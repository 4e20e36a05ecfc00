//! A device of the test's own: enrols over HTTPS and speaks MQTT over mutual TLS, as an attacker with a valid box could.

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use protocol::Secret;
use protocol::enrolment::{ClaimLink, ENROL_PATH, EnrolRequest, EnrolResponse};
use rcgen::{CertificateParams, DnType, KeyPair};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode, Packet, Publish, Subscribe, SubscribeReasonCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use system_test::lab::Lab;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use units::DeviceId;

/// How long the relay may take for any answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const PACKET_BYTES_MAX: usize = 256 * 1024;

/// What proves who a device is.
pub struct Identity {
    pub device: DeviceId,
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    /// The right name, signed by nobody.
    pub fn self_signed(device: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, device);
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        Self { device: device.parse().unwrap(), certificate_pem, key_pem: key.serialize_pem() }
    }
}

/// The relay's no.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub body: serde_json::Value,
}

/// Enrols a new key with a claim link.
pub async fn enrol(lab: &Lab, claim_link: &str) -> Result<Identity, Refusal> {
    let link: ClaimLink = claim_link.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    let request = EnrolRequest {
        claim_code: Secret::new(link.claim_code.reveal()),
        csr_pem: csr.pem().unwrap(),
        board: "test".into(),
        agent_version: "0".into(),
    };
    let stream = connect(lab, None, link.port).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = Full::new(Bytes::from(serde_json::to_vec(&request).unwrap()));
    let request = hyper::Request::post(ENROL_PATH)
        .header("host", format!("{}:{}", link.host, link.port))
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    if status != 200 {
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        return Err(Refusal { status, body });
    }
    let answer: EnrolResponse = serde_json::from_slice(&body).unwrap();
    Ok(Identity { device: answer.device, certificate_pem: answer.certificate_pem, key_pem: key.serialize_pem() })
}

/// TLS to the relay, whose own CA is the only root.
async fn connect(lab: &Lab, identity: Option<&Identity>, port: u16) -> Result<TlsStream<TcpStream>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = lab.options().directory.join("relay/ca/ca.pem");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca).context("the relay's CA")?)?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]).with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect();
            config.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?)?
        }
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// One MQTT session.
pub struct Mqtt {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
}

/// Connects with `identity`'s certificate as `client_id`.
pub async fn mqtt(lab: &Lab, identity: &Identity, client_id: &str) -> Result<Mqtt> {
    let stream = connect(lab, Some(identity), lab.options().ports.broker).await?;
    let mut session = Mqtt { stream, buffer: BytesMut::new() };
    let mut bytes = BytesMut::new();
    Connect::new(client_id).write(&mut bytes)?;
    session.stream.write_all(&bytes).await?;
    match session.receive().await? {
        Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. }) => Ok(session),
        other => bail!("not connected: {other:?}"),
    }
}

impl Mqtt {
    /// Whether a filter is granted; an error when the session ends instead.
    pub async fn subscribe(&mut self, filter: &str) -> Result<bool> {
        let mut bytes = BytesMut::new();
        let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
        subscribe.pkid = 1;
        subscribe.write(&mut bytes)?;
        self.stream.write_all(&bytes).await?;
        match self.receive().await? {
            Packet::SubAck(answer) => Ok(!answer.return_codes.contains(&SubscribeReasonCode::Failure)),
            other => bail!("no answer to the subscription: {other:?}"),
        }
    }

    /// Whether the relay acknowledges a publication, instead of ending the session.
    pub async fn publish_is_accepted(&mut self, topic: &str, payload: &[u8]) -> bool {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = 1;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        let _ = self.stream.write_all(&bytes).await;
        matches!(self.receive().await, Ok(Packet::PubAck(_)))
    }

    /// The next publication, if one comes in time.
    pub async fn next(&mut self, limit: Duration) -> Option<Publish> {
        match tokio::time::timeout(limit, self.receive()).await {
            Ok(Ok(Packet::Publish(publish))) => Some(publish),
            Ok(other) => panic!("the session brought {other:?}"),
            Err(_) => None,
        }
    }

    async fn receive(&mut self) -> Result<Packet> {
        loop {
            match Packet::read(&mut self.buffer, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => bail!("no MQTT: {error:?}"),
            }
            let read = self.stream.read_buf(&mut self.buffer);
            if tokio::time::timeout(ANSWER_TIME_MAX, read).await.context("no answer")?? == 0 {
                bail!("the relay closed the session");
            }
        }
    }
}
