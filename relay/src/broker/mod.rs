//! The MQTT broker that devices connect to: `rumqttd`'s router behind a gate of our own.
//!
//! `rumqttd` authenticates but authorizes nothing, and its listener can be stalled or killed by one client. So only its
//! router runs, in-process: [`crate::tls`] accepts, [`rules`] judges every CONNECT, PUBLISH, SUBSCRIBE and will against the
//! certificate's own branch, [`gate`] carries what passed. The retain flag is dropped on the way in: the relay's retained
//! copy is in its store, and devices only read `down/`, which is never retained.
//!
//! MQTT 3.1.1 (OASIS), quality of service 0 and 1. Bounds: [`CONNECTIONS_MAX`], [`gate::RATE_LIMIT`],
//! [`protocol::limits::PAYLOAD_BYTES_MAX`], [`DOWN_QUEUE_MAX`].

pub mod gate;
pub mod rate;
pub mod rules;

use crate::tls;
use bytes::{BufMut as _, Bytes, BytesMut};
use gate::Gate;
use protocol::topic::{Direction, Leaf, Topic};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Filter, Packet, Publish, QoS, RetainForwardRule, Subscribe};
use rumqttd::{Notification, Router, RouterConfig, SegmentConfig};
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::mpsc;
use units::DeviceId;

/// Most devices connected at once; one more is closed after its handshake.
pub const CONNECTIONS_MAX: usize = 5_000;
/// Messages to devices that wait for the router; a further one is refused to its sender.
pub const DOWN_QUEUE_MAX: usize = 1_024;
/// Messages from devices that wait for the relay; then the router holds them back, and telemetry is the first to be lost.
pub const UP_QUEUE_MAX: usize = 4_096;

/// The relay's own client id on the router; no device can have it, ids are lower case.
const RELAY_CLIENT_ID: &str = "Relay";
/// Packet id of messages from the relay; the router numbers them anew for each reader.
const RELAY_PACKET_ID: u16 = 1;

/// What the broker hears.
#[derive(Debug)]
pub enum Up {
    /// A device connected.
    Connected {
        /// Which.
        device: DeviceId,
        /// From where.
        peer: SocketAddr,
    },
    /// A device is gone.
    Disconnected {
        /// Which.
        device: DeviceId,
        /// Why, in words.
        cause: String,
    },
    /// A device published.
    Message {
        /// Where; a leaf of direction up.
        topic: Topic,
        /// An envelope, unread.
        payload: Bytes,
    },
}

/// Who may come in.
pub trait Admission: Send + Sync + 'static {
    /// The device that holds `certificate` (signed by our CA, which TLS has checked), if it may connect now.
    ///
    /// # Errors
    /// Why not, in words for the log.
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<DeviceId, String>;
}

/// Why a message was not sent down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The device is not connected.
    #[error("the device is not connected")]
    NotConnected,
    /// More than [`DOWN_QUEUE_MAX`] messages wait.
    #[error("too many messages wait for devices")]
    Full,
}

/// Why the broker cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The listener.
    #[error("the broker cannot listen")]
    Listen(#[from] tls::TlsError),
    /// The router refused the relay's own link.
    #[error("the message router does not answer")]
    Router(#[source] Box<LinkError>),
    /// The task that starts it was cancelled.
    #[error("the broker's start was cancelled")]
    Cancelled,
}

/// Opens a link to the router: client id, and whether it may publish to topics that nobody reads.
type OpenLink = Arc<dyn Fn(&str, Unread) -> Result<(LinkTx, LinkRx), Box<LinkError>> + Send + Sync>;

/// What happens to a link that publishes to a topic without a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The router keeps the message for later readers.
    Kept,
    /// The router closes the link.
    Closes,
}

/// The running broker; clone it freely.
#[derive(Clone)]
pub struct Broker {
    gate: Arc<Gate>,
    down: mpsc::Sender<(Topic, Vec<u8>)>,
    address: SocketAddr,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts router, relay's link and listener. `up` hears everything; when the router dies, `fatal` is told, and the
    /// program should end to be started anew.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn start(
        listen: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        admission: Arc<dyn Admission>,
        up: mpsc::Sender<Up>,
        fatal: mpsc::Sender<String>,
    ) -> Result<Self, BrokerError> {
        let open_link = start_router();
        let open = Arc::clone(&open_link);
        let (link_tx, link_rx) = tokio::task::spawn_blocking(move || open(RELAY_CLIENT_ID, Unread::Kept))
            .await
            .map_err(|_| BrokerError::Cancelled)?
            .map_err(BrokerError::Router)?;
        let (down, down_queue) = mpsc::channel(DOWN_QUEUE_MAX);
        let listener = tls::Listener::bind(listen, tls).await?;
        let address = listener.address();
        let link_tx = subscribe_all(link_tx).await.map_err(BrokerError::Router)?;
        tokio::spawn(pump_down(link_tx, down_queue, fatal.clone()));
        tokio::spawn(pump_up(link_rx, up.clone(), fatal));
        let gate = Arc::new(Gate::new(open_link, admission, up));
        tokio::spawn(Arc::clone(&gate).run(listener));
        Ok(Self { gate, down, address })
    }

    /// The listener's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends `payload` to a device that is connected.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, topic: Topic, payload: Vec<u8>) -> Result<(), SendError> {
        if !self.gate.is_connected(&topic.device) {
            return Err(SendError::NotConnected);
        }
        self.down.try_send((topic, payload)).map_err(|_| SendError::Full)
    }

    /// Whether the device has a connection.
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.gate.is_connected(device)
    }

    /// Closes the device's connection at once.
    pub fn close(&self, device: &DeviceId) {
        self.gate.close(device, gate::Kick::Revoked);
    }
}

fn start_router() -> OpenLink {
    let mut segments = HashMap::new();
    for leaf in Leaf::ALL.into_iter().filter(|leaf| leaf.direction() == Direction::Up) {
        // The relay's own readings of all devices: 4 MiB behind before the oldest is lost.
        let config = SegmentConfig { max_segment_size: 1024 * 1024, max_segment_count: 4 };
        segments.insert(Topic::filter_all(leaf), config);
    }
    let config = RouterConfig {
        max_connections: CONNECTIONS_MAX + 1,
        max_outgoing_packet_count: 200,
        // One device's branch: what is in there was delivered already, or its reader is too slow.
        max_segment_size: 64 * 1024,
        max_segment_count: 2,
        custom_segment: Some(segments),
        ..RouterConfig::default()
    };
    let router = Router::new(0, config).spawn();
    Arc::new(move |client_id, unread| {
        let link = LinkBuilder::new(client_id, router.clone()).clean_session(true);
        link.dynamic_filters(unread == Unread::Kept).build().map(|(tx, rx, _)| (tx, rx)).map_err(Box::new)
    })
}

async fn subscribe_all(mut link: LinkTx) -> Result<LinkTx, Box<LinkError>> {
    let ups = Leaf::ALL.into_iter().filter(|leaf| leaf.direction() == Direction::Up);
    let filters = ups.map(|leaf| Filter {
        path: Topic::filter_all(leaf),
        qos: QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    });
    let subscribe = Subscribe { pkid: RELAY_PACKET_ID, filters: filters.collect() };
    link.send(Packet::Subscribe(subscribe, None)).await?;
    Ok(link)
}

/// A PUBLISH with quality of service 1 where the leaf has it. The router's type hides these fields; its own
/// serialization (header, packet id, topic length, topic, payload) is the way to set them.
pub(crate) fn publish_packet(topic: &str, payload: &[u8], qos: u8) -> Packet {
    let mut bytes = BytesMut::with_capacity(5 + topic.len() + payload.len());
    bytes.put_u8(0x30 | (qos << 1));
    bytes.put_u16(RELAY_PACKET_ID);
    bytes.put_u16(topic.len() as u16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_slice(payload);
    Packet::Publish(Publish::deserialize(bytes.freeze()), None)
}

async fn pump_down(mut link: LinkTx, mut queue: mpsc::Receiver<(Topic, Vec<u8>)>, fatal: mpsc::Sender<String>) {
    while let Some((topic, payload)) = queue.recv().await {
        let qos = u8::from(topic.leaf == Leaf::Command);
        if let Err(error) = link.send(publish_packet(&topic.to_string(), &payload, qos)).await {
            let _ = fatal.send(format!("the message router is gone: {error}")).await;
            return;
        }
    }
}

async fn pump_up(mut link: LinkRx, up: mpsc::Sender<Up>, fatal: mpsc::Sender<String>) {
    loop {
        match link.next().await {
            Ok(Some(Notification::Forward(forward))) => {
                let topic = std::str::from_utf8(&forward.publish.topic).ok().and_then(|text| Topic::parse(text).ok());
                let Some(topic) = topic else { continue };
                if up.send(Up::Message { topic, payload: forward.publish.payload }).await.is_err() {
                    return;
                }
            }
            Ok(Some(Notification::Unschedule)) => {
                if link.wake().await.is_err() {
                    break;
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = fatal.send("the message router closed the relay's own link".to_owned()).await;
}
