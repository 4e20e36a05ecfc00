//! `rtmps://` to a real reader: a TLS terminator in front of ffmpeg, with TLS 1.2 and 1.3, and with certificates that must be
//! refused with their reason.

use crate::support::{Codec, Platform, Receiver, Sender, decode, packets, rtmp};
use protocol::state::OutputState;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority that the receiver is told to trust.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = directory.join("authority.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }
}

/// Terminates TLS in front of `platform`; gives its address and the versions that were spoken.
async fn terminator(
    authority: &Authority,
    name: &str,
    version: &'static rustls::SupportedProtocolVersion,
    platform: u16,
) -> (SocketAddr, Arc<Mutex<Vec<rustls::ProtocolVersion>>>) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority.issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let spoken = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&spoken);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that refuses our certificate ends the handshake: that is what some of the tests are about.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            noted.lock().unwrap().push(stream.get_ref().1.protocol_version().unwrap());
            let Ok(mut platform) = TcpStream::connect(("127.0.0.1", platform)).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut platform).await });
        }
    });
    (address, spoken)
}

async fn arrives_by(version: &'static rustls::SupportedProtocolVersion) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let mut platform = Platform::start(&directory.path().join("came.flv"));
    let (at, spoken) = terminator(&authority, "localhost", version, platform.port).await;
    let outputs = vec![rtmp("rtmp", &format!("rtmps://localhost:{}/live", at.port()))];
    let env = [("SSL_CERT_FILE", authority.file.as_path())];
    let receiver = Receiver::start(&directory.path().join("stream"), "127.0.0.1:0", outputs, &env).await;
    let sender = Sender::start(receiver.listen, Codec::H264);
    receiver.delivers("rtmp", 500_000).await;
    drop(sender);
    receiver.stop().await;
    platform.finish().await;
    assert_eq!(spoken.lock().unwrap().last(), Some(&version.version));
    let (complaints, pictures) = decode(&platform.file);
    assert_eq!(complaints, "");
    assert!(pictures >= 50, "{pictures} pictures");
    assert!(packets(&platform.file).iter().any(|packet| !packet.video), "sound came too");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_arrives_over_tls_1_2() {
    arrives_by(&rustls::version::TLS12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_arrives_over_tls_1_3() {
    arrives_by(&rustls::version::TLS13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_trusted_is_refused_with_reason_and_next_step() {
    let directory = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (Authority::new(directory.path()), tempfile::tempdir().unwrap());
    let stranger = Authority::new(stranger.path());
    let nobody = free_ports::free_tcp_port();
    let (foreign, _) = terminator(&stranger, "localhost", &rustls::version::TLS13, nobody).await;
    let (other_name, _) = terminator(&trusted, "live.example", &rustls::version::TLS12, nobody).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let not_tls = plain.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = plain.accept().await.unwrap();
            stream.writable().await.unwrap();
            let _ = stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    let url = |at: SocketAddr| format!("rtmps://localhost:{}/live", at.port());
    let outputs = vec![rtmp("foreign", &url(foreign)), rtmp("name", &url(other_name)), rtmp("plain", &url(not_tls))];
    let env = [("SSL_CERT_FILE", trusted.file.as_path())];
    let receiver = Receiver::start(&directory.path().join("stream"), "127.0.0.1:0", outputs, &env).await;
    let _sender = Sender::start(receiver.listen, Codec::H264);
    for (id, reason, step) in [
        ("foreign", "does not trust", "update-ca-certificates"),
        ("name", "not for localhost", "use the name the platform gives"),
        ("plain", "does not speak TLS", "use rtmp://"),
    ] {
        let state = receiver.output_is(id, "retrying", |state| matches!(state, OutputState::Retrying { .. })).await;
        let OutputState::Retrying { reason: text, .. } = state else { unreachable!() };
        assert!(text.contains(reason) && text.contains(step), "{id}: {text}");
    }
    receiver.kill();
}
