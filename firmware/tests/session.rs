//! Goal: what must reach the relay reaches it once it can, and what must not wait does not.
//! Method: the real session task against an MQTT peer over TLS 1.3 whose misbehaviour is scripted.

#![allow(clippy::unwrap_used, reason = "test support")]

mod support;

use daemon::shutdown::{Shutdown, Trigger};
use firmware::data_dir::DataDir;
use firmware::enrolment::enrol;
use firmware::identity::{DeviceKey, Identity};
use firmware::mqtt::queue::{OfflineQueue, open_database};
use firmware::mqtt::{RelayEvent, SessionHandle};
use protocol::command::{Command, Notice};
use protocol::state::{DeviceEvent, DeviceState, Presence, Settings, Severity, StreamingState};
use protocol::telemetry::Telemetry;
use protocol::topic::Leaf;
use rumqttc::QoS;
use std::path::Path;
use std::sync::Arc;
use support::{Relay, SOON};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Device {
    _folder: TempDir,
    data: DataDir,
    queue: OfflineQueue,
    handle: SessionHandle,
    events: mpsc::Receiver<RelayEvent>,
    task: tokio::task::JoinHandle<()>,
    trigger: Trigger,
}

async fn identity(relay: &Relay, data: &DataDir, key: &DeviceKey) -> Identity {
    let link = relay.claim_link();
    let answer = |request: &_| (200, serde_json::to_vec(&relay.response(request)).unwrap());
    let (outcome, _) = tokio::join!(enrol(data, &link, key, "bench"), relay.enrol_once(answer));
    outcome.unwrap()
}

fn queue(path: &Path) -> OfflineQueue {
    OfflineQueue::open(&open_database(path).unwrap()).unwrap()
}

async fn device(relay: &Relay) -> Device {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::create(&folder.path().join("data")).unwrap();
    let key = Arc::new(DeviceKey::load_or_create(&data.identity()).unwrap());
    let identity = identity(relay, &data, &key).await;
    let (trigger, shutdown) = Shutdown::manual();
    let queue = queue(&data.queue());
    let (handle, events, task) =
        firmware::mqtt::start(key, Some(identity), queue.clone(), data.mqtt_socket(), shutdown);
    Device { _folder: folder, data, queue, handle, events, task, trigger }
}

impl Device {
    async fn event(&mut self) -> RelayEvent {
        timeout(SOON, self.events.recv()).await.expect("an event").expect("the session task lives")
    }
}

fn remark(text: &str) -> DeviceEvent {
    DeviceEvent::Remark { severity: Severity::Info, text: text.to_owned() }
}

fn state(name: &str) -> DeviceState {
    DeviceState::State {
        agent_version: "1".to_owned(),
        board: "bench".to_owned(),
        settings: Settings { name: name.to_owned(), ..Settings::default() },
        streaming: StreamingState::Idle,
        inputs: Vec::new(),
        uplinks: Vec::new(),
    }
}

fn telemetry(uptime_ms: u64) -> Telemetry {
    Telemetry::Telemetry { uptime_ms, stream: None, temperature_c: None, radios: Vec::new() }
}

#[tokio::test]
async fn a_session_says_online_keeps_the_state_published_and_hears_commands() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    device.handle.set_state(state("first"));
    let mut session = relay.session().await;
    let presence = session.next(Leaf::Presence).await;
    assert_eq!(
        (presence.read::<Presence>(), presence.retain, presence.qos),
        (Presence::Online, true, QoS::AtLeastOnce)
    );
    assert_eq!(device.event().await, RelayEvent::Connected);
    let first = session.next(Leaf::State).await;
    assert_eq!((first.read::<DeviceState>(), first.retain), (state("first"), true));
    device.handle.set_state(state("second"));
    assert_eq!(session.next(Leaf::State).await.read::<DeviceState>(), state("second"));

    let stop = Command::StopStream { valid_for_ms: 5000, stream: "s".parse().unwrap() };
    session.send(Leaf::Command, stop.clone()).await;
    let RelayEvent::Message { leaf: Leaf::Command, payload } = device.event().await else { panic!() };
    assert_eq!(protocol::Envelope::<Command>::parse(&payload).unwrap().body, stop);
    session.send(Leaf::Notice, Notice::RequestRefused { detail: "no".to_owned() }).await;
    assert!(matches!(device.event().await, RelayEvent::Message { leaf: Leaf::Notice, .. }));

    device.handle.telemetry(telemetry(1));
    let measured = session.next(Leaf::Telemetry).await;
    assert_eq!((measured.qos, measured.retain), (QoS::AtMostOnce, false));
}

#[tokio::test]
async fn what_was_queued_offline_comes_in_order_after_the_connection_and_telemetry_does_not() {
    let relay = Relay::new().await;
    let device = device(&relay).await;
    for number in 0..20 {
        device.handle.enqueue(Leaf::Event, remark(&format!("event {number}")));
        device.handle.telemetry(telemetry(number));
    }
    device.handle.urgent(Leaf::Event, DeviceEvent::GoLiveRequested);
    let mut session = relay.session().await;
    for number in 0..20 {
        let event = session.next(Leaf::Event).await;
        assert_eq!(event.read::<DeviceEvent>(), remark(&format!("event {number}")));
    }
    device.handle.enqueue(Leaf::Event, remark("later"));
    assert_eq!(session.next(Leaf::Event).await.read::<DeviceEvent>(), remark("later"), "an old GO LIVE is not sent");
    device.handle.telemetry(telemetry(99));
    let measured = session.next(Leaf::Telemetry).await.read::<Telemetry>();
    assert_eq!(measured, telemetry(99), "measurements of before the session are dropped");
}

#[tokio::test]
async fn what_the_relay_did_not_acknowledge_is_sent_again_in_the_next_session() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    let mut session = relay.session_without_acknowledgements().await;
    assert_eq!(device.event().await, RelayEvent::Connected);
    device.handle.enqueue(Leaf::CommandResult, remark("result"));
    let lost = session.next(Leaf::CommandResult).await;
    drop(session);
    assert!(matches!(device.event().await, RelayEvent::Disconnected { .. }));
    let mut session = relay.session().await;
    let again = session.next(Leaf::CommandResult).await;
    assert_eq!(again.payload, lost.payload, "the same message, with the same id");
    assert_eq!(device.event().await, RelayEvent::Connected);
    session.send(Leaf::Notice, Notice::RequestRefused { detail: "a round trip".to_owned() }).await;
    assert!(matches!(device.event().await, RelayEvent::Message { .. }));
    assert!(device.queue.is_empty(), "acknowledged, so forgotten");
}

#[tokio::test]
async fn a_refusal_is_named_and_tried_again_later() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    relay.connection().await.refuse().await;
    let RelayEvent::Disconnected { reason } = device.event().await else { panic!() };
    assert!(reason.contains("refuses") && reason.contains("claim"), "{reason}");
    let _session = relay.session().await;
    assert_eq!(device.event().await, RelayEvent::Connected);
}

#[tokio::test]
async fn a_relay_that_closes_at_log_in_may_have_revoked_the_device() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    drop(relay.connection().await);
    let RelayEvent::Disconnected { reason } = device.event().await else { panic!() };
    assert!(reason.contains("at log-in") && reason.contains("claim"), "{reason}");
}

#[tokio::test]
async fn a_relay_of_another_authority_is_never_spoken_to() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    let impostor = Relay { authority: support::Authority::new(), ..relay };
    impostor.refused_handshake().await;
    let RelayEvent::Disconnected { reason } = device.event().await else { panic!() };
    assert!(reason.contains("no secure connection"), "{reason}");
}

#[tokio::test]
async fn an_orderly_end_says_offline() {
    let relay = Relay::new().await;
    let mut device = device(&relay).await;
    let mut session = relay.session().await;
    assert_eq!(device.event().await, RelayEvent::Connected);
    device.trigger.fire();
    let published = session.until_closed().await;
    let last = published.iter().rfind(|published| published.leaf == Leaf::Presence).unwrap();
    assert_eq!(last.read::<Presence>(), Presence::Offline);
    timeout(SOON, device.task).await.expect("the task ends").unwrap();
    assert!(!device.data.mqtt_socket().exists());
}
