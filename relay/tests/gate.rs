//! Attacks on the broker's gate over real sockets: real TLS (rustls), real MQTT (rumqttc's codec), a whole relay.

mod support;

use ::relay::tls::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use protocol::command::{Command, Notice};
use protocol::envelope::Envelope;
use protocol::state::{DeviceState, Presence, Settings, StreamingState};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use std::time::{Duration, Instant};
use support::{Identity, SOON, TestRelay, Wire, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

fn online() -> Vec<u8> {
    Envelope::new(Uuid::now_v7(), 0, Presence::Online).emit()
}

fn publish(topic: &str, qos: QoS, payload: Vec<u8>) -> Packet {
    let mut publish = Publish::new(topic, qos, payload);
    publish.pkid = 7;
    Packet::Publish(publish)
}

fn subscribe(filters: &[&str]) -> Packet {
    let filters = filters.iter().map(|path| SubscribeFilter { path: (*path).to_owned(), qos: QoS::AtLeastOnce });
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = 3;
    Packet::Subscribe(subscribe)
}

async fn codes(wire: &mut Wire) -> Vec<SubscribeReasonCode> {
    match wire.next().await {
        Some(Packet::SubAck(ack)) => {
            assert_eq!(ack.pkid, 3);
            ack.return_codes
        }
        other => panic!("not a SUBACK: {other:?}"),
    }
}

/// Waits until the relay shows the device as online or not.
async fn shown_online(relay: &TestRelay, device: &Identity, online: bool) {
    let operator = relay.log_in().await;
    let path = format!("/api/v1/devices/{}", device.id());
    eventually("presence", || async {
        let shown = operator.get(&path).await.json()["online"].as_bool();
        (shown == Some(online)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_on_its_own_branch_and_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van 7").await;
    let mut wire = van.connect(relay.at.broker).await;
    wire.send(&subscribe(&[&van.topic("down/command"), &van.topic("down/notice")])).await;
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(codes(&mut wire).await, [granted, granted]);
    wire.send(&publish(&van.topic("up/presence"), QoS::AtLeastOnce, online())).await;
    assert!(matches!(wire.next().await, Some(Packet::PubAck(ack)) if ack.pkid == 7));
    shown_online(&relay, &van, true).await;

    let state = DeviceState::State {
        agent_version: "1".to_owned(),
        board: "test".to_owned(),
        settings: Settings { name: "Northern van".to_owned(), ..Settings::default() },
        streaming: StreamingState::Idle,
        inputs: Vec::new(),
        uplinks: Vec::new(),
    };
    wire.send(&publish(&van.topic("up/state"), QoS::AtLeastOnce, Envelope::new(Uuid::now_v7(), 0, state).emit())).await;
    assert!(matches!(wire.next().await, Some(Packet::PubAck(_))));
    wire.send(&Packet::PingReq).await;
    assert!(matches!(wire.next().await, Some(Packet::PingResp)));
    let operator = relay.log_in().await;
    let device = operator.get(&format!("/api/v1/devices/{}", van.id())).await.json();
    assert_eq!(device["name"], "Northern van");

    // A device that comes with the factory's name is told the one it was claimed under, and shown under that meanwhile.
    let factory = DeviceState::State {
        agent_version: "1".to_owned(),
        board: "test".to_owned(),
        settings: Settings::default(),
        streaming: StreamingState::Idle,
        inputs: Vec::new(),
        uplinks: Vec::new(),
    };
    let payload = Envelope::new(Uuid::now_v7(), 0, factory).emit();
    wire.send(&publish(&van.topic("up/state"), QoS::AtLeastOnce, payload)).await;
    let told = loop {
        match wire.next().await {
            Some(Packet::Publish(order)) => break Envelope::<Command>::parse(&order.payload).unwrap(),
            Some(_) => {}
            None => panic!("closed"),
        }
    };
    assert!(matches!(told.body, Command::ApplySettings { settings, .. } if settings.name.as_deref() == Some("Van 7")));
    let device = operator.get(&format!("/api/v1/devices/{}", van.id())).await.json();
    assert_eq!(device["name"], "Van 7");

    // A connection that drops without a goodbye takes the device offline.
    drop(wire);
    shown_online(&relay, &van, false).await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_topics_wildcards_and_shares_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let (van, other) = (relay.enrol("Van").await, relay.enrol("Other").await);
    let mut wire = van.connect(relay.at.broker).await;
    let foreign = [
        "#".to_owned(),
        "+/+/down/command".to_owned(),
        "$SYS/#".to_owned(),
        other.topic("down/command"),
        other.topic("up/state"),
        van.topic("up/state"),
        van.topic("down/#"),
        format!("$share/g/{}", van.topic("down/command")),
    ];
    let filters: Vec<&str> = foreign.iter().map(String::as_str).collect();
    wire.send(&subscribe(&filters)).await;
    assert_eq!(codes(&mut wire).await, vec![SubscribeReasonCode::Failure; foreign.len()]);
    // Mixed: the answer keeps the order.
    wire.send(&subscribe(&["#", &van.topic("down/command"), &other.topic("down/command")])).await;
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(codes(&mut wire).await, [SubscribeReasonCode::Failure, granted, SubscribeReasonCode::Failure]);
    // An UNSUBSCRIBE is answered, whether or not it was subscribed.
    let mut unsubscribe = Unsubscribe::new("#");
    unsubscribe.pkid = 9;
    wire.send(&Packet::Unsubscribe(unsubscribe)).await;
    assert!(matches!(wire.next().await, Some(Packet::UnsubAck(ack)) if ack.pkid == 9));

    // Each foreign publish closes the connection, and nothing of it arrives.
    let mut victim = other.connect(relay.at.broker).await;
    victim.send(&subscribe(&[&other.topic("down/command")])).await;
    codes(&mut victim).await;
    for topic in [other.topic("down/command"), other.topic("up/presence"), van.topic("down/command"), "x".to_owned()] {
        let mut wire = van.connect(relay.at.broker).await;
        wire.send(&publish(&topic, QoS::AtLeastOnce, online())).await;
        assert!(wire.next().await.is_none(), "{topic} was taken");
    }
    shown_online(&relay, &other, false).await;
    victim.send(&Packet::PingReq).await;
    assert!(matches!(victim.next().await, Some(Packet::PingResp)), "nothing came before the answer to the ping");
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_foreign_wills_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let (van, other) = (relay.enrol("Van").await, relay.enrol("Other").await);
    for id in [other.id(), "a/b", "a/b", "$share", "", "Relay"] {
        let mut wire = Wire::new(van.tls(relay.at.broker).await.unwrap());
        let acknowledged = wire.connect(Connect::new(id)).await;
        let code = acknowledged.map(|it| it.code);
        assert_eq!(code, Some(ConnectReturnCode::BadClientId), "client id {id:?}");
        assert!(wire.next().await.is_none());
    }
    for topic in [other.topic("up/presence"), van.topic("up/state"), "#".to_owned()] {
        let mut wire = Wire::new(van.tls(relay.at.broker).await.unwrap());
        let mut connect = Connect::new(van.id());
        connect.last_will = Some(LastWill::new(&topic, "x", QoS::AtLeastOnce, true));
        let acknowledged = wire.connect(connect).await;
        assert_eq!(acknowledged.map(|it| it.code), Some(ConnectReturnCode::NotAuthorized), "will on {topic}");
    }
    // After all of that the listener still works.
    van.connect(relay.at.broker).await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_without_our_certificate_do_not_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let ca = van.response.ca_pem.as_bytes();
    // TLS 1.3 tells the client of its refusal with the first read.
    let mut wire = Wire::new(support::tls(relay.at.broker, ca, None).await.unwrap());
    let mut bytes = [0; 1];
    assert!(wire.stream.read(&mut bytes).await.is_err(), "no certificate");

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = TestRelay::start(elsewhere.path()).await;
    let foreign = stranger.enrol("Van").await;
    let mixed = Identity { response: foreign.response.clone(), key_pem: foreign.key_pem.clone() };
    let outcome = support::tls(relay.at.broker, ca, Some(&mixed)).await;
    let refused = match outcome {
        Err(_) => true,
        Ok(mut stream) => stream.read(&mut bytes).await.is_err(),
    };
    assert!(refused, "another relay's certificate");
    stranger.end().await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_closes_the_connection_at_once_and_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let mut wire = van.connect(relay.at.broker).await;
    wire.send(&publish(&van.topic("up/presence"), QoS::AtLeastOnce, online())).await;
    wire.next().await;
    let operator = relay.log_in().await;
    let answer = operator.post(&format!("/api/v1/devices/{}/revoke", van.id()), &serde_json::json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let began = Instant::now();
    assert!(wire.next().await.is_none());
    // Its silence would end it, too, but later.
    assert!(began.elapsed() < Duration::from_secs(8), "at once");
    let mut again = Wire::new(van.tls(relay.at.broker).await.unwrap());
    again.stream.write_all(b"\x10\x00").await.ok();
    assert!(again.next().await.is_none(), "TLS passes, the gate does not");
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_connection_of_a_device_wins_and_it_stays_online() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let mut old = Wire::new(van.tls(relay.at.broker).await.unwrap());
    let mut connect = Connect::new(van.id());
    let offline = Envelope::new(Uuid::now_v7(), 0, Presence::Offline).emit();
    connect.last_will = Some(LastWill::new(van.topic("up/presence"), offline, QoS::AtLeastOnce, true));
    old.connect(connect).await.unwrap();
    old.send(&publish(&van.topic("up/presence"), QoS::AtLeastOnce, online())).await;
    old.next().await;
    let mut new = van.connect(relay.at.broker).await;
    new.send(&publish(&van.topic("up/presence"), QoS::AtLeastOnce, online())).await;
    new.next().await;
    assert!(old.next().await.is_none(), "the old connection is closed");
    shown_online(&relay, &van, true).await;
    new.send(&Packet::PingReq).await;
    assert!(matches!(new.next().await, Some(Packet::PingResp)));
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_garbage_connections_hold_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    // More connections that never begin TLS than handshakes are allowed at once, and some that speak nonsense.
    let mut idle = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 20 {
        idle.push(TcpStream::connect(relay.at.broker).await.unwrap());
    }
    for i in 0..50u8 {
        let mut garbage = TcpStream::connect(relay.at.broker).await.unwrap();
        garbage.write_all(&[i; 200]).await.unwrap();
        idle.push(garbage);
    }
    let began = Instant::now();
    let mut wire = van.connect(relay.at.broker).await;
    assert!(began.elapsed() < HANDSHAKE_TIMEOUT / 2, "took {:?}", began.elapsed());

    // Garbage after a good handshake, and after a good CONNECT.
    for bytes in
        [&[0xff; 64][..], &[0x30, 0xff, 0xff, 0xff, 0xff], &[0x00, 0x00], &[0x82, 0x02, 0x00, 0x01], &[0xf0, 0x00]]
    {
        let mut wire = Wire::new(van.tls(relay.at.broker).await.unwrap());
        wire.stream.write_all(bytes).await.unwrap();
        assert!(wire.next().await.is_none(), "{bytes:x?} before CONNECT");
        let mut wire = van.connect(relay.at.broker).await;
        wire.stream.write_all(bytes).await.unwrap();
        assert!(wire.next().await.is_none(), "{bytes:x?} after CONNECT");
    }
    let mut after = van.connect(relay.at.broker).await;
    after.send(&Packet::PingReq).await;
    assert!(matches!(after.next().await, Some(Packet::PingResp)));
    assert!(wire.next().await.is_none(), "replaced meanwhile");
    // The oldest idle ones made room at once, the others are closed by the handshake's time limit.
    let mut byte = [0; 1];
    for (which, wait) in [(0, HANDSHAKE_TIMEOUT / 2), (HANDSHAKES_MAX, 2 * HANDSHAKE_TIMEOUT)] {
        let closed = timeout(wait, idle[which].read(&mut byte)).await.expect("closed in time");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_payloads_quality_two_and_second_connects_close_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let limit = protocol::limits::PAYLOAD_BYTES_MAX;
    let topic = van.topic("up/event");
    let mut wire = van.connect(relay.at.broker).await;
    wire.send(&publish(&topic, QoS::AtLeastOnce, vec![b' '; limit])).await;
    assert!(matches!(wire.next().await, Some(Packet::PubAck(_))), "the longest passes");
    for packet in [
        publish(&topic, QoS::AtLeastOnce, vec![b' '; limit + 1]),
        publish(&topic, QoS::ExactlyOnce, online()),
        Packet::Connect(Connect::new(van.id())),
        Packet::PingResp,
    ] {
        let mut wire = van.connect(relay.at.broker).await;
        wire.send(&packet).await;
        assert!(wire.next().await.is_none());
    }
    // A length that promises 256 MiB is refused before anything is stored.
    let mut wire = van.connect(relay.at.broker).await;
    wire.stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    assert!(wire.next().await.is_none());
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_sends_too_fast_is_slowed_down_and_not_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let mut wire = van.connect(relay.at.broker).await;
    let began = Instant::now();
    // The burst is 100, then 20 a second: 120 take a second.
    for _ in 0..120 {
        wire.send(&publish(&van.topic("up/telemetry"), QoS::AtMostOnce, online())).await;
    }
    wire.send(&Packet::PingReq).await;
    assert!(matches!(wire.next().await, Some(Packet::PingResp)));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < SOON, "took {took:?}");
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_the_device_that_they_are_for() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let (van, other) = (relay.enrol("Van").await, relay.enrol("Other").await);
    let mut wires = Vec::new();
    for device in [&van, &other] {
        let mut wire = device.connect(relay.at.broker).await;
        wire.send(&subscribe(&[&device.topic("down/command"), &device.topic("down/notice")])).await;
        codes(&mut wire).await;
        wire.send(&publish(&device.topic("up/presence"), QoS::AtLeastOnce, online())).await;
        wire.next().await;
        shown_online(&relay, device, true).await;
        wires.push(wire);
    }
    let operator = relay.log_in().await;
    let body = serde_json::json!({ "name": "New name", "latency_ms": 700 });
    let answer = operator.post(&format!("/api/v1/devices/{}/settings", van.id()), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let Some(Packet::Publish(received)) = wires[0].next().await else { panic!("no command") };
    assert_eq!((received.topic.as_str(), received.qos), (van.topic("down/command").as_str(), QoS::AtLeastOnce));
    let envelope = Envelope::<Command>::parse(&received.payload).unwrap();
    assert!(matches!(envelope.body, Command::ApplySettings { settings, .. } if settings.latency_ms == Some(700)));
    assert!(Envelope::<Notice>::parse(&received.payload).is_err());
    wires[1].send(&Packet::PingReq).await;
    assert!(matches!(wires[1].next().await, Some(Packet::PingResp)), "the other heard nothing");
    relay.end().await;
}

/// Outputs may speak TLS 1.2 to a platform; towards devices there is nothing below 1.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tls_1_2_is_refused_by_broker_and_enrolment() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let van = relay.enrol("Van").await;
    let old = &rustls::version::TLS12;
    for at in [relay.at.broker, relay.at.enrolment] {
        let refused = support::tls_of(&[old], at, van.response.ca_pem.as_bytes(), Some(&van)).await;
        let text = refused.map(drop).unwrap_err().to_string();
        assert!(text.contains("ProtocolVersion"), "{at}: {text}");
        let both = [old, &rustls::version::TLS13];
        let stream = support::tls_of(&both, at, van.response.ca_pem.as_bytes(), Some(&van)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
    relay.end().await;
}
