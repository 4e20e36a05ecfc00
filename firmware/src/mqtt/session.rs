//! One connection from CONNECT to its end, and the task that keeps making new ones.

use super::backoff::Backoff;
use super::bridge::{self, BridgeError};
use super::queue::{MessageNumber, OfflineQueue, QueueError};
use crate::identity::{DeviceKey, Identity};
use daemon::shutdown::Shutdown;
use protocol::Envelope;
use protocol::envelope::Body;
use protocol::limits::PAYLOAD_BYTES_MAX;
use protocol::state::Presence;
use protocol::topic::{Leaf, Topic};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

/// How often a silent connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest wait for CONNACK, and for the farewell.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time given to saying offline at an orderly end.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
/// Requests waiting inside the MQTT client; telemetry is dropped beyond.
const REQUESTS_MAX: usize = 32;
/// Queued messages sent and not yet acknowledged.
const IN_FLIGHT_MAX: usize = 8;
/// Telemetry messages waiting for the session task; dropped beyond.
const TELEMETRY_MAX: usize = 4;
/// Events waiting for the agent; the session waits beyond.
const EVENTS_MAX: usize = 64;
/// Bytes of an MQTT packet besides its payload: header, topic.
const PACKET_OVERHEAD_BYTES: usize = 1024;

/// What the session tells the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayEvent {
    /// Subscribed; commands can come.
    Connected,
    /// No session; the next try follows by itself.
    Disconnected {
        /// Why, in words, with what to do.
        reason: String,
    },
    /// A message from the relay.
    Message {
        /// Which leaf of this device's `down` branch.
        leaf: Leaf,
        /// Its payload, at most [`PAYLOAD_BYTES_MAX`].
        payload: Vec<u8>,
    },
}

/// Why a session ended.
#[derive(Debug, Error)]
#[non_exhaustive]
enum SessionError {
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    #[error("the relay refuses this device; if it was revoked, claim it again")]
    PeerRefused,
    #[error("the connection to the relay ended")]
    PeerClosed,
    /// A relay closes so on a device that it does not know any more.
    #[error("the relay closed the connection at log-in; if this device was revoked there, claim it again")]
    PeerClosedAtLogIn,
    #[error("the relay did not answer the log-in within {} seconds", ANSWER_TIME_MAX.as_secs())]
    PeerTimeout,
    #[error("the relay refuses the device's subscriptions; update the older side")]
    PeerSubscription,
    #[error("the offline queue failed")]
    Queue(#[from] QueueError),
    #[error("a request did not fit into the MQTT client")]
    Request(#[from] ClientError),
}

/// How the agent speaks to the session task.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    identity: watch::Sender<Option<Arc<Identity>>>,
    state: watch::Sender<Option<Vec<u8>>>,
    telemetry: mpsc::Sender<Vec<u8>>,
    urgent: mpsc::Sender<(Leaf, Vec<u8>)>,
    queue: OfflineQueue,
    queue_grew: Arc<Notify>,
    network_changed: Arc<Notify>,
}

impl SessionHandle {
    /// The network is another: what failed before may work now, so the next try does not wait.
    pub fn network_changed(&self) {
        self.network_changed.notify_waiters(); // only a wait is cut short, not a later one
    }

    /// Connects as this device from now on.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.send_replace(Some(Arc::new(identity)));
    }

    /// The reported state to keep published.
    pub fn set_state(&self, body: protocol::state::DeviceState) {
        self.state.send_replace(Some(message(body)));
    }

    /// Publishes measurements, or drops them when there is no session or no room.
    pub fn telemetry(&self, body: protocol::telemetry::Telemetry) {
        let _ = self.telemetry.try_send(message(body)); // full or closed: measured again in a second
    }

    /// Publishes in the running session or not at all; says whether there was room.
    pub fn urgent(&self, leaf: Leaf, body: impl Body) -> bool {
        self.urgent.try_send((leaf, message(body))).is_ok()
    }

    /// Publishes now or after the next connection.
    pub fn enqueue(&self, leaf: Leaf, body: impl Body) {
        match self.queue.push(leaf, &message(body)) {
            Ok(0) => {}
            Ok(dropped) => tracing::warn!(dropped, "offline queue is full, the oldest messages were dropped"),
            Err(error) => tracing::error!(%error, "message could not be queued"),
        }
        self.queue_grew.notify_one();
    }
}

/// A message with a fresh id and the device's own time.
fn message(body: impl Body) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Envelope::new(Uuid::now_v7(), u64::try_from(now.as_millis()).unwrap_or(u64::MAX), body).emit()
}

/// The task's own ends of the channels.
#[derive(Debug)]
pub struct Session {
    key: Arc<DeviceKey>,
    socket: PathBuf,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    state: watch::Receiver<Option<Vec<u8>>>,
    telemetry: mpsc::Receiver<Vec<u8>>,
    urgent: mpsc::Receiver<(Leaf, Vec<u8>)>,
    queue: OfflineQueue,
    queue_grew: Arc<Notify>,
    network_changed: Arc<Notify>,
    events: mpsc::Sender<RelayEvent>,
    shutdown: Shutdown,
}

/// Starts the task that keeps a session; `socket` is the path of the local socket it may use.
pub fn start(
    key: Arc<DeviceKey>,
    identity: Option<Identity>,
    queue: OfflineQueue,
    socket: PathBuf,
    shutdown: Shutdown,
) -> (SessionHandle, mpsc::Receiver<RelayEvent>, tokio::task::JoinHandle<()>) {
    let (identity_sender, identity) = watch::channel(identity.map(Arc::new));
    let (state_sender, state) = watch::channel(None);
    let (telemetry_sender, telemetry) = mpsc::channel(TELEMETRY_MAX);
    let (urgent_sender, urgent) = mpsc::channel(TELEMETRY_MAX);
    let (events, events_receiver) = mpsc::channel(EVENTS_MAX);
    let (queue_grew, network_changed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handle = SessionHandle {
        identity: identity_sender,
        state: state_sender,
        telemetry: telemetry_sender,
        urgent: urgent_sender,
        queue: queue.clone(),
        queue_grew: Arc::clone(&queue_grew),
        network_changed: Arc::clone(&network_changed),
    };
    let session = Session {
        key,
        socket,
        identity,
        state,
        telemetry,
        urgent,
        queue,
        queue_grew,
        network_changed,
        events,
        shutdown,
    };
    (handle, events_receiver, tokio::spawn(session.keep()))
}

/// What became of one connection.
enum End {
    ShutDown,
    NewIdentity,
}

impl Session {
    /// Connects again and again until shutdown.
    async fn keep(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Some(identity) = self.identity.borrow_and_update().clone() else {
                tokio::select! {
                    changed = self.identity.changed() => if changed.is_err() { return },
                    () = self.shutdown.wait() => return,
                }
                continue;
            };
            let began = Instant::now();
            let outcome = self.run(&identity).await;
            let reason = match outcome {
                Ok(End::ShutDown) => return,
                Ok(End::NewIdentity) => continue,
                Err(error) => crate::in_words(&error),
            };
            let wait = backoff.next_wait(began.elapsed(), chance());
            tracing::warn!(reason, wait_ms = wait.as_millis() as u64, "no session with the relay");
            if self.events.send(RelayEvent::Disconnected { reason }).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.network_changed.notified() => {}
                _ = self.identity.changed() => {}
                () = self.shutdown.wait() => return,
            }
        }
    }

    async fn run(&mut self, identity: &Identity) -> Result<End, SessionError> {
        let stream = tokio::select! {
            stream = bridge::connect(identity, &self.key) => stream?,
            () = self.shutdown.wait() => return Ok(End::ShutDown),
        };
        let mut bridge = AbortOnDrop(bridge::offer(&self.socket, stream)?);
        let (client, event_loop) = AsyncClient::new(options(identity, &self.socket), REQUESTS_MAX);
        let (packets_sender, mut packets) = mpsc::channel(EVENTS_MAX);
        // A task of its own, because a poll that is dropped half way may lose what it was doing.
        let poller = AbortOnDrop(tokio::spawn(poll(event_loop, packets_sender)));
        let mut connection = Connection::new(client, identity, self.queue.clone());
        connection.log_in(&mut packets).await?;
        let end = self.serve(&mut connection, &mut packets).await;
        drop(poller); // closes the local socket; the bridge still carries what was written
        if matches!(end, Ok(End::ShutDown)) {
            let _ = tokio::time::timeout(FAREWELL_TIME_MAX, &mut bridge.0).await;
        }
        end
    }

    async fn serve(
        &mut self,
        connection: &mut Connection,
        packets: &mut mpsc::Receiver<Result<Event, ConnectionError>>,
    ) -> Result<End, SessionError> {
        while self.telemetry.try_recv().is_ok() || self.urgent.try_recv().is_ok() {} // of before this session
        self.state.mark_changed();
        let _ = self.events.send(RelayEvent::Connected).await;
        loop {
            connection.send_queued()?;
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(Ok(event)) => if let Some(event) = connection.handle(event)? {
                        let _ = self.events.send(event).await;
                    },
                    Some(Err(error)) => return Err(refused_or_closed(&error)),
                    None => return Err(SessionError::PeerClosed),
                },
                Some(payload) = self.telemetry.recv() => connection.publish_if_room(Leaf::Telemetry, payload),
                Some((leaf, payload)) = self.urgent.recv() => connection.publish(leaf, payload, None)?,
                Ok(()) = self.state.changed() => {
                    let state = self.state.borrow_and_update().clone();
                    if let Some(payload) = state { connection.publish(Leaf::State, payload, None)?; }
                }
                () = self.queue_grew.notified() => {}
                _ = self.identity.changed() => return Ok(End::NewIdentity),
                () = self.shutdown.wait() => {
                    let _ = tokio::time::timeout(FAREWELL_TIME_MAX, connection.farewell(packets)).await;
                    return Ok(End::ShutDown);
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn options(identity: &Identity, socket: &std::path::Path) -> MqttOptions {
    let topic = Topic::new(identity.device.clone(), Leaf::Presence).to_string();
    let mut options = MqttOptions::new(identity.device.as_str(), socket.to_string_lossy(), 0);
    options
        .set_transport(rumqttc::Transport::unix())
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES, PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES)
        .set_last_will(LastWill::new(topic, message(Presence::Offline), QoS::AtLeastOnce, true));
    options
}

async fn poll(mut event_loop: EventLoop, packets: mpsc::Sender<Result<Event, ConnectionError>>) {
    loop {
        let outcome = event_loop.poll().await;
        let failed = outcome.is_err();
        if packets.send(outcome).await.is_err() || failed {
            return;
        }
    }
}

/// A logged-in connection's books.
struct Connection {
    client: AsyncClient,
    identity: Identity,
    queue: OfflineQueue,
    /// What was handed to the client and not yet written by it, oldest first; a number for a message of the queue.
    submitted: VecDeque<Option<MessageNumber>>,
    /// Messages of the queue by packet id, written and not acknowledged; at most [`IN_FLIGHT_MAX`].
    in_flight: HashMap<u16, MessageNumber>,
    /// The newest message of the queue that was handed to the client.
    last_sent: Option<MessageNumber>,
}

impl Connection {
    fn new(client: AsyncClient, identity: &Identity, queue: OfflineQueue) -> Self {
        let identity = identity.clone();
        Self { client, identity, queue, submitted: VecDeque::new(), in_flight: HashMap::new(), last_sent: None }
    }

    fn topic(&self, leaf: Leaf) -> String {
        Topic::new(self.identity.device.clone(), leaf).to_string()
    }

    async fn log_in(
        &mut self,
        packets: &mut mpsc::Receiver<Result<Event, ConnectionError>>,
    ) -> Result<(), SessionError> {
        let mut welcomed = false;
        let outcome = tokio::time::timeout(ANSWER_TIME_MAX, self.log_in_untimed(packets, &mut welcomed)).await;
        match outcome.map_err(|_| SessionError::PeerTimeout)? {
            Err(SessionError::PeerClosed) if !welcomed => Err(SessionError::PeerClosedAtLogIn),
            outcome => outcome,
        }
    }

    async fn log_in_untimed(
        &mut self,
        packets: &mut mpsc::Receiver<Result<Event, ConnectionError>>,
        welcomed: &mut bool,
    ) -> Result<(), SessionError> {
        let filters = [(Leaf::Command, QoS::AtLeastOnce), (Leaf::Notice, QoS::AtMostOnce)];
        let mut unanswered = filters.len();
        while unanswered > 0 {
            let event =
                packets.recv().await.ok_or(SessionError::PeerClosed)?.map_err(|error| refused_or_closed(&error))?;
            match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    *welcomed = true;
                    for (leaf, qos) in filters {
                        self.client.try_subscribe(self.topic(leaf), qos)?;
                    }
                    self.publish(Leaf::Presence, message(Presence::Online), None)?;
                }
                Event::Incoming(Packet::SubAck(answer)) => {
                    if answer.return_codes.iter().any(|code| matches!(code, rumqttc::SubscribeReasonCode::Failure)) {
                        return Err(SessionError::PeerSubscription);
                    }
                    unanswered -= 1;
                }
                other => drop(self.handle(other)?),
            }
        }
        Ok(())
    }

    fn publish(&mut self, leaf: Leaf, payload: Vec<u8>, number: Option<MessageNumber>) -> Result<(), SessionError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            tracing::error!(?leaf, bytes = payload.len(), "message is longer than allowed, dropped");
            return Ok(());
        }
        let qos = if leaf == Leaf::Telemetry { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        self.client.try_publish(self.topic(leaf), qos, leaf.retained(), payload)?;
        self.submitted.push_back(number);
        Ok(())
    }

    fn publish_if_room(&mut self, leaf: Leaf, payload: Vec<u8>) {
        if let Err(error) = self.publish(leaf, payload, None) {
            tracing::debug!(%error, "telemetry dropped");
        }
    }

    /// Hands messages of the queue to the client while there is room.
    fn send_queued(&mut self) -> Result<(), SessionError> {
        while self.in_flight.len() + self.submitted.len() < IN_FLIGHT_MAX {
            let Some(next) = self.queue.next(self.last_sent)? else { return Ok(()) };
            self.publish(next.leaf, next.payload, Some(next.number))?;
            self.last_sent = Some(next.number);
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<Option<RelayEvent>, SessionError> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                if let Some(Some(number)) = self.submitted.pop_front() {
                    self.in_flight.insert(packet, number);
                }
            }
            Event::Incoming(Packet::PubAck(answer)) => {
                if let Some(number) = self.in_flight.remove(&answer.pkid) {
                    self.queue.remove(number)?;
                }
            }
            Event::Incoming(Packet::Publish(publish)) => return Ok(self.message(&publish)),
            _ => {}
        }
        Ok(None)
    }

    fn message(&self, publish: &rumqttc::Publish) -> Option<RelayEvent> {
        match Topic::parse(&publish.topic) {
            Ok(topic) if topic.device == self.identity.device => {
                Some(RelayEvent::Message { leaf: topic.leaf, payload: publish.payload.to_vec() })
            }
            outcome => {
                tracing::warn!(?outcome, "message on a foreign topic ignored");
                None
            }
        }
    }

    /// Says offline and disconnects.
    async fn farewell(&mut self, packets: &mut mpsc::Receiver<Result<Event, ConnectionError>>) {
        let said = self.publish(Leaf::Presence, message(Presence::Offline), None);
        if said.is_err() || self.client.try_disconnect().is_err() {
            return;
        }
        while let Some(Ok(event)) = packets.recv().await {
            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                return;
            }
        }
    }
}

fn refused_or_closed(error: &ConnectionError) -> SessionError {
    tracing::debug!(%error, "MQTT connection failed");
    match error {
        ConnectionError::ConnectionRefused(_) => SessionError::PeerRefused,
        ConnectionError::NetworkTimeout => SessionError::PeerTimeout,
        _ => SessionError::PeerClosed,
    }
}

/// A number that differs between devices and tries.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    let random = ring::rand::SystemRandom::new();
    match ring::rand::SecureRandom::fill(&random, &mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
