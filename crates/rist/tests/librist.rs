//! Goal: the tunnel and Debian's librist tools understand each other. Method: real `ristreceiver` and `ristsender`
//! processes on loopback; one hundred numbered packets each way, clear, encrypted (with rotation), behind a login, and
//! over a change of the sender's address; every packet must arrive with its content. No retransmission on our side:
//! loopback loses nothing.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the crate has no I/O, its peer does

use rist::psk::KeySize;
use rist::srp::{Entropy, Login, Password, SrpConfig};
use rist::tunnel::{Inner, PskConfig, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{Echo, EchoKind, ReceiverReport, RtcpPacket, Sdes, packets};
use rist::wire::rtp::{RtpHeader, RtpPacket};
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use units::Timestamp;

const PACKETS: u32 = 100;
const TIME_MAX: Duration = Duration::from_secs(20);
const SSRC: u32 = 0x1234_5678;
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy)]
struct Case {
    key: Option<KeySize>,
    rotate: bool,
    login: bool,
    /// The sender's address changes in the middle.
    rebind: bool,
}

const CLEAR: Case = Case { key: None, rotate: false, login: false, rebind: false };
const CASES: [Case; 7] = [
    CLEAR,
    Case { key: Some(KeySize::Aes128), ..CLEAR },
    Case { key: Some(KeySize::Aes256), rotate: true, ..CLEAR },
    Case { login: true, ..CLEAR },
    Case { login: true, key: Some(KeySize::Aes256), rotate: true, ..CLEAR },
    Case { rebind: true, ..CLEAR },
    Case { rebind: true, key: Some(KeySize::Aes256), ..CLEAR },
];

impl Case {
    fn url_parameters(self) -> String {
        let key = self.key.map(|size| format!("&secret=s3cret&aes-type={}", size.bytes() * 8)).unwrap_or_default();
        let rotation = if self.rotate { "&key-rotation=40" } else { "" };
        let login = if self.login { "&username=alice&password=wonderland" } else { "" };
        format!("buffer=300&session-timeout=5000&cname=librist{key}{rotation}{login}")
    }

    fn config(self, role: Role, side: Side) -> TunnelConfig {
        let psk = self.key.map(|key_size| PskConfig {
            key_size,
            rotate_after_packets: self.rotate.then_some(40),
            ..PskConfig::new("s3cret")
        });
        let login = Login { username: "alice".to_owned(), password: Password::new("wonderland") };
        let srp = self.login.then(|| SrpConfig::new(vec![login], Entropy::new([7; 32])));
        TunnelConfig { psk, srp, ..TunnelConfig::new(role, side) }
    }
}

/// A librist process, ended with the test.
struct Tool(Child);

impl Tool {
    /// A missing program fails the test: nothing is skipped.
    fn start(program: &str, input: &str, output: &str) -> Self {
        let mut command = Command::new(program);
        command.args(["-p", "1", "-i", input, "-o", output]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): run `make test`, which installs what the tests need")
        }))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(POLL)).unwrap();
    socket
}

/// A free even port, as the tools want it.
fn even_port() -> u16 {
    loop {
        let port = socket().local_addr().unwrap().port();
        if port.is_multiple_of(2) {
            return port;
        }
    }
}

fn payload(number: u32) -> Vec<u8> {
    format!("RISTTEST{number:08}").into_bytes()
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).unwrap().strip_prefix("RISTTEST").unwrap().parse().unwrap()
}

/// Our end: a tunnel, its socket, and RTCP every 50 ms.
struct End {
    tunnel: Tunnel,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    started: Instant,
    rtcp_due: Instant,
    /// Answers to our echo requests since the socket is open: the peer knows us.
    answers: u32,
    media: BTreeSet<u32>,
}

impl End {
    fn new(config: TunnelConfig, seed: u64, socket: UdpSocket, peer: Option<SocketAddr>) -> Self {
        let started = Instant::now();
        let tunnel = Tunnel::new(config, seed);
        Self { tunnel, socket, peer, started, rtcp_due: started, answers: 0, media: BTreeSet::new() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn send(&self, datagram: &[u8]) {
        if let Some(peer) = self.peer
            && !datagram.is_empty()
        {
            let _ = self.socket.send_to(datagram, peer);
        }
    }

    /// Sends what is due and takes what has come, for a few milliseconds.
    fn turn(&mut self) {
        let (now, mut out) = (self.now(), Vec::new());
        while self.tunnel.poll_control(now, &mut out) {
            self.send(&out);
            out.clear();
        }
        if Instant::now() >= self.rtcp_due {
            self.rtcp_due = Instant::now() + Duration::from_millis(50);
            let mut compound = Vec::new();
            ReceiverReport::emit(SSRC, &[], None, &mut compound);
            Sdes { ssrc: SSRC, cname: b"strata" }.emit(&mut compound);
            Echo { ssrc: SSRC, timestamp: now.as_micros(), ..Echo::default() }.emit(EchoKind::Request, &mut compound);
            self.tunnel.emit_rtcp(now, &compound, &mut out);
            self.send(&out);
        }
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.peer = Some(from);
            self.take(&mut buffer[..length]);
        }
    }

    fn take(&mut self, datagram: &mut [u8]) {
        let now = self.now();
        let Ok(received) = self.tunnel.parse(now, datagram) else { return };
        match received.inner {
            Inner::Rtcp(compound) => {
                let answers = packets(compound).filter(|packet| matches!(packet, Ok(RtcpPacket::EchoResponse(_))));
                self.answers += answers.count() as u32;
            }
            Inner::Media(rtp) => {
                self.media.insert(number(RtpPacket::parse(rtp).unwrap().payload));
            }
            _ => {}
        }
    }

    fn is_known(&self) -> bool {
        self.tunnel.is_ready() && self.answers >= 3
    }

    fn send_media(&mut self, number: u32) {
        let timestamp = (self.now().as_micros() * 9 / 100) as u32;
        let header =
            RtpHeader { payload_type: 33, sequence: number as u16, timestamp, ssrc: SSRC, ..RtpHeader::default() };
        let (mut rtp, mut out) = (Vec::new(), Vec::new());
        header.emit(&payload(number), &mut rtp);
        self.tunnel.emit_media(self.now(), &rtp, &mut out);
        self.send(&out);
    }
}

fn all() -> BTreeSet<u32> {
    (0..PACKETS).collect()
}

fn send_to_librist(case: Case) -> BTreeSet<u32> {
    let (port, output) = (even_port(), socket());
    let _tool = Tool::start(
        "ristreceiver",
        &format!("rist://@127.0.0.1:{port}?{}", case.url_parameters()),
        &format!("udp://127.0.0.1:{}", output.local_addr().unwrap().port()),
    );
    let peer = SocketAddr::from(([127, 0, 0, 1], port));
    let mut end = End::new(case.config(Role::Client, Side::Sender), u64::from(port), socket(), Some(peer));
    let (mut sent, mut delivered) = (0, BTreeSet::new());
    let mut rebind = case.rebind;
    while end.started.elapsed() < TIME_MAX && delivered != all() {
        end.turn();
        if rebind && sent == PACKETS / 2 {
            (rebind, end.socket, end.answers, end.rtcp_due) = (false, socket(), 0, Instant::now());
        }
        if end.is_known() && sent < PACKETS {
            end.send_media(sent);
            sent += 1;
        }
        let mut buffer = [0; 2048];
        while let Ok(length) = output.recv(&mut buffer) {
            assert!(delivered.insert(number(&buffer[..length])), "delivered twice");
        }
    }
    delivered
}

fn receive_from_librist(case: Case) -> BTreeSet<u32> {
    let (input, ours) = (even_port(), UdpSocket::bind(("127.0.0.1", even_port())).unwrap());
    ours.set_read_timeout(Some(POLL)).unwrap();
    let port = ours.local_addr().unwrap().port();
    let _tool = Tool::start(
        "ristsender",
        &format!("udp://@127.0.0.1:{input}"),
        &format!("rist://127.0.0.1:{port}?{}", case.url_parameters()),
    );
    let mut end = End::new(case.config(Role::Server, Side::Receiver), u64::from(port), ours, None);
    let (feeder, mut fed) = (socket(), 0);
    while end.started.elapsed() < TIME_MAX && end.media != all() {
        end.turn();
        if end.is_known() && fed < PACKETS {
            feeder.send_to(&payload(fed), ("127.0.0.1", input)).unwrap();
            fed += 1;
        }
    }
    end.media
}

#[test]
fn ristreceiver_takes_every_packet() {
    for case in CASES {
        assert_eq!(send_to_librist(case), all(), "{case:?}");
    }
}

#[test]
fn every_packet_of_ristsender_is_taken() {
    for case in CASES.into_iter().filter(|case| !case.rebind) {
        assert_eq!(receive_from_librist(case), all(), "{case:?}");
    }
}
