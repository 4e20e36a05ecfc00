//! The emulated links with real sockets: what is sent arrives, late and lossy as configured; kill, heal and rebind work.
#![allow(clippy::unwrap_used)] // helpers of tests

use link_sim::{Capacity, LinkConfig};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use system_test::emulator::{EmulatedLink, Emulator};
use system_test::lab::ports::Ports;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const GATEWAY: [u8; 4] = [127, 0, 91, 1];

struct Path {
    emulator: Emulator,
    sender: UdpSocket,
    receiver: UdpSocket,
    gateway: SocketAddr,
}

impl Path {
    async fn lay(up: LinkConfig) -> Self {
        let ports = Ports::any(&[IpAddr::from(GATEWAY)]).unwrap().receivers();
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, ports[1])).await.unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gateway = IpAddr::from(GATEWAY);
        let link = EmulatedLink { name: "test".into(), gateway, up, down: LinkConfig::default(), seed: 1 };
        let emulator = Emulator::start(vec![link], Ipv4Addr::LOCALHOST.into(), &ports).unwrap();
        Self { emulator, sender, receiver, gateway: SocketAddr::new(gateway, ports[1]) }
    }

    async fn send(&self, bytes: &[u8]) {
        self.sender.send_to(bytes, self.gateway).await.unwrap();
    }

    async fn receive(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2048];
        let (len, from) = timeout(limit, self.receiver.recv_from(&mut buffer)).await.ok()?.unwrap();
        Some((buffer[..len].to_vec(), from))
    }
}

const SOON: Duration = Duration::from_secs(20);
const NOT: Duration = Duration::from_millis(300);

/// Tests of this file share one gateway address and choose free ports in turn.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_datagram_travels_with_delay_and_its_answer_comes_back_from_the_gateway() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let path = Path::lay(LinkConfig { delay_ms: 80.0, ..LinkConfig::default() }).await;
    let start = Instant::now();
    path.send(b"there").await;
    let (bytes, from) = path.receive(SOON).await.unwrap();
    assert_eq!(bytes, b"there");
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    assert_eq!(from.ip(), IpAddr::from(GATEWAY));

    path.receiver.send_to(b"and back", from).await.unwrap();
    let mut buffer = [0; 64];
    let (len, from) = timeout(SOON, path.sender.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..len], from), (&b"and back"[..], path.gateway));
}

#[tokio::test]
async fn the_bottleneck_passes_its_rate_and_drops_the_rest() {
    let _turn = ONE_AT_A_TIME.lock().await;
    // 1250 bytes with headers at 1 Mbit/s take 10 ms each; the queue holds 20 of them.
    let capacity = Capacity::Constant { kbps: 1000 };
    let path = Path::lay(LinkConfig { capacity, queue_bytes: 25_000, ..LinkConfig::default() }).await;
    let start = Instant::now();
    for _ in 0..60 {
        path.send(&[7; 1222]).await;
    }
    let mut arrived = 0;
    while path.receive(NOT).await.is_some() {
        arrived += 1;
        assert!(start.elapsed() >= Duration::from_millis(10 * (arrived - 1)), "faster than the bottleneck");
    }
    assert!((19..=23).contains(&arrived), "{arrived}");
    let figures = path.emulator.figures(0).await.unwrap();
    assert_eq!(figures.up.passed, arrived);
    assert_eq!(figures.up.dropped_queue, 60 - arrived);
}

#[tokio::test]
async fn a_killed_link_is_silent_and_heals() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let path = Path::lay(LinkConfig::default()).await;
    path.emulator.kill(0).await.unwrap();
    path.send(b"lost").await;
    assert_eq!(path.receive(NOT).await, None);
    path.emulator.heal(0).await.unwrap();
    path.send(b"found").await;
    assert_eq!(path.receive(SOON).await.unwrap().0, b"found");
    assert_eq!(path.emulator.figures(0).await.unwrap().dead, 1);
}

#[tokio::test]
async fn a_rebinding_gives_a_new_address_and_kills_the_old_one() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let path = Path::lay(LinkConfig::default()).await;
    path.send(b"one").await;
    let (_, old) = path.receive(SOON).await.unwrap();
    path.emulator.rebind(0).await.unwrap();
    path.send(b"two").await;
    let (_, new) = path.receive(SOON).await.unwrap();
    assert_ne!(old, new);
    let _ = path.receiver.send_to(b"to the old address", old).await;
    path.receiver.send_to(b"to the new address", new).await.unwrap();
    let mut buffer = [0; 64];
    let len = timeout(SOON, path.sender.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..len], b"to the new address");
}

#[tokio::test]
async fn a_changed_capacity_holds_from_then_on() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let path = Path::lay(LinkConfig::default()).await;
    let dead = LinkConfig { loss: 1.0, ..LinkConfig::default() };
    path.emulator.set_up(0, dead).await.unwrap();
    path.send(b"lost").await;
    assert_eq!(path.receive(NOT).await, None);
    assert!(path.emulator.set_up(0, LinkConfig { loss: 2.0, ..LinkConfig::default() }).await.is_err());
}

#[tokio::test]
async fn a_taken_gateway_is_named() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let path = Path::lay(LinkConfig::default()).await;
    let link = EmulatedLink {
        name: "second".into(),
        gateway: path.gateway.ip(),
        up: LinkConfig::default(),
        down: LinkConfig::default(),
        seed: 1,
    };
    let error =
        Emulator::start(vec![link], Ipv4Addr::LOCALHOST.into(), &[path.gateway.port()]).unwrap_err().to_string();
    assert!(error.contains(&path.gateway.to_string()), "{error}");
}
