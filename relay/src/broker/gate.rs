//! One task a device: decodes its packets, lets [`rules`] judge them, and carries them to the router and back.

use super::rate::{Bucket, RateLimit};
use super::rules::{self, Refused};
use super::{Admission, CONNECTIONS_MAX, OpenLink, Unread, Up, publish_packet};
use crate::door::shares::Shares;
use crate::tls::{self, TlsStream};
use bytes::BytesMut;
use futures_util::FutureExt as _;
use protocol::limits::PAYLOAD_BYTES_MAX;
use rumqttd::Notification;
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{
    self as mqtt, ConnAck, ConnectReturnCode, Disconnect, DisconnectReasonCode, LastWill, Packet, PingResp,
    Protocol as _, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc};
use units::DeviceId;

/// What one device may publish. Telemetry is one message a second; a queue emptied after an outage is paced by this.
pub const RATE_LIMIT: RateLimit = RateLimit {
    messages_per_s: 20.0,
    messages_burst: 100.0,
    bytes_per_s: 256.0 * 1024.0,
    bytes_burst: 1024.0 * 1024.0,
};
/// Longest packet after its fixed header: a full payload, its topic and packet id.
const PACKET_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 256;
/// Time from the handshake to CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest write to a device that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the same device's earlier connection to end.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections of one device at once, those before CONNECT included: broken links leave some behind, one is served.
const CONNECTIONS_PER_DEVICE_MAX: usize = 8;
/// SUBSCRIBEs that wait for the router's answer.
const SUBSCRIBES_PENDING_MAX: usize = 8;

/// Why the relay closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// The same device connected anew.
    Replaced,
    /// The device may not be here any more.
    Revoked,
}

/// How a connection ended.
#[derive(Debug, Error)]
enum End {
    #[error("the device said goodbye")]
    Goodbye,
    #[error("closed by the device")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(std::io::Error),
    #[error("nothing was heard for one and a half keep-alive periods")]
    Silent,
    #[error("the device does not read")]
    Stalled,
    #[error("a packet was refused: {0}")]
    Refused(Refused),
    #[error("a packet could not be read: {0}")]
    Malformed(mqtt::Error),
    #[error("a {0} packet has no place here")]
    Unexpected(&'static str),
    #[error("the router closed the link: {0}")]
    Router(Box<LinkError>),
    #[error("the device connected anew")]
    Replaced,
    #[error("the device was revoked")]
    Revoked,
    #[error("the connection's task panicked")]
    Panicked,
}

/// The connection of one device; there is at most one.
#[derive(Debug, Default)]
struct Slot {
    /// Held by the connection that is served.
    turn: tokio::sync::Mutex<()>,
    connected: AtomicBool,
    kick: Mutex<Option<(Kick, Arc<Notify>)>>,
    /// The current connection's bell.
    bell: Mutex<Option<Arc<Notify>>>,
}

/// Accepts devices and keeps track of their connections.
pub(super) struct Gate {
    open_link: OpenLink,
    admission: Arc<dyn Admission>,
    up: mpsc::Sender<Up>,
    /// One entry for each device that connected since start: bounded by the enrolled devices.
    slots: Mutex<HashMap<DeviceId, Arc<Slot>>>,
    places: Arc<Semaphore>,
    shares: Shares<DeviceId>,
}

impl Gate {
    pub(super) fn new(open_link: OpenLink, admission: Arc<dyn Admission>, up: mpsc::Sender<Up>) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let shares = Shares::new(CONNECTIONS_PER_DEVICE_MAX);
        Self { open_link, admission, up, slots: Mutex::default(), places, shares }
    }

    pub(super) fn is_connected(&self, device: &DeviceId) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(device).is_some_and(|slot| slot.connected.load(Ordering::Acquire))
    }

    pub(super) fn close(&self, device: &DeviceId, kick: Kick) {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(device).cloned();
        if let Some(slot) = slot {
            slot.ring(kick);
        }
    }

    fn slot(&self, device: &DeviceId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(device.clone()).or_default())
    }

    pub(super) async fn run(self: Arc<Self>, mut listener: tls::Listener) {
        while let Some((stream, peer)) = listener.next().await {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!(%peer, limit = CONNECTIONS_MAX, "device turned away, too many are connected");
                continue;
            };
            let gate = Arc::clone(&self);
            tokio::spawn(async move {
                gate.welcome(stream, peer).await;
                drop(place);
            });
        }
    }

    async fn welcome(&self, stream: TlsStream, peer: SocketAddr) {
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        let admitted = certificate.ok_or_else(|| "no certificate".to_owned()).and_then(|it| self.admission.admit(&it));
        let device = match admitted {
            Ok(device) => device,
            Err(reason) => {
                tracing::warn!(%peer, reason, "device refused");
                return;
            }
        };
        let Some(_share) = self.shares.take(device.clone()) else {
            tracing::warn!(%peer, %device, limit = CONNECTIONS_PER_DEVICE_MAX, "device turned away, it holds too many connections");
            return;
        };
        let mut wire = Wire::new(stream);
        let (keep_alive_s, will) = match wire.expect_connect(&device).await {
            Ok(hello) => hello,
            Err(end) => {
                tracing::warn!(%peer, %device, cause = %end, "device refused");
                return;
            }
        };
        let slot = self.slot(&device);
        slot.ring(Kick::Replaced);
        let Ok(turn) = tokio::time::timeout(TAKE_OVER_TIMEOUT, slot.turn.lock()).await else {
            tracing::warn!(%peer, %device, "device turned away, its earlier connection does not end");
            return;
        };
        // It may have been revoked while it waited.
        if let Err(reason) = wire.certificate().map_or(Err("no certificate".to_owned()), |it| self.admission.admit(&it))
        {
            tracing::warn!(%peer, %device, reason, "device refused");
            return;
        }
        self.serve(&device, peer, wire, &slot, keep_alive_s, will).await;
        drop(turn);
    }

    async fn serve(
        &self,
        device: &DeviceId,
        peer: SocketAddr,
        wire: Wire,
        slot: &Slot,
        keep_alive_s: u16,
        will: Option<LastWill>,
    ) {
        let (open_link, id) = (Arc::clone(&self.open_link), device.as_str().to_owned());
        let link = tokio::task::spawn_blocking(move || open_link(&id, Unread::Closes)).await;
        let Ok(Ok((link_tx, link_rx))) = link else {
            tracing::error!(%device, "the router gives no link");
            return;
        };
        let bell = Arc::new(Notify::new());
        *slot.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&bell));
        slot.connected.store(true, Ordering::Release);
        tracing::info!(%device, %peer, "device connected");
        let _ = self.up.send(Up::Connected { device: device.clone(), peer }).await;

        let mut connection = Connection {
            device: device.clone(),
            wire,
            link_tx,
            link_rx,
            bucket: Bucket::new(RATE_LIMIT, Instant::now()),
            silence_max: Duration::from_millis(u64::from(keep_alive_s) * 1500),
            subscribed: HashSet::new(),
            pending: HashMap::new(),
        };
        let served = AssertUnwindSafe(connection.serve(slot, &bell)).catch_unwind().await;
        let end = served.unwrap_or(End::Panicked);

        slot.connected.store(false, Ordering::Release);
        *slot.bell.lock().unwrap_or_else(PoisonError::into_inner) = None;
        connection.leave(will.filter(|_| !matches!(end, End::Goodbye | End::Replaced))).await;
        match end {
            End::Goodbye | End::Closed | End::Silent => {
                tracing::info!(%device, %peer, cause = %end, "device disconnected");
            }
            _ => tracing::warn!(%device, %peer, cause = %end, "device disconnected"),
        }
        let _ = self.up.send(Up::Disconnected { device: device.clone(), cause: end.to_string() }).await;
    }
}

impl Slot {
    fn ring(&self, kick: Kick) {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(bell) = bell {
            *self.kick.lock().unwrap_or_else(PoisonError::into_inner) = Some((kick, Arc::clone(&bell)));
            bell.notify_one();
        }
    }

    fn kick_for(&self, bell: &Arc<Notify>) -> End {
        let kick = self.kick.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kick {
            Some((Kick::Revoked, of)) if Arc::ptr_eq(&of, bell) => End::Revoked,
            _ => End::Replaced,
        }
    }
}

/// Packets on a TLS stream.
struct Wire {
    read: ReadHalf<TlsStream>,
    write: WriteHalf<TlsStream>,
    certificate: Option<rustls::pki_types::CertificateDer<'static>>,
    buffer: BytesMut,
}

impl Wire {
    fn new(stream: TlsStream) -> Self {
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first()).map(|certificate| certificate.clone().into_owned());
        let (read, write) = tokio::io::split(stream);
        Self { read, write, certificate, buffer: BytesMut::with_capacity(4096) }
    }

    fn certificate(&self) -> Option<rustls::pki_types::CertificateDer<'static>> {
        self.certificate.clone()
    }

    /// The next packet and its quality of service bits, which the decoder hides. Cancel-safe.
    async fn next(&mut self) -> Result<(Packet, u8), End> {
        loop {
            let first = self.buffer.first().copied().unwrap_or_default();
            match V4.read_mut(&mut self.buffer, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok((packet, (first & 0b0110) >> 1)),
                Err(mqtt::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(End::Malformed(error)),
            }
            self.buffer.reserve(4096);
            if self.read.read_buf(&mut self.buffer).await.map_err(End::Io)? == 0 {
                return Err(End::Closed);
            }
        }
    }

    async fn write(&mut self, packet: Packet) -> Result<(), End> {
        let mut bytes = BytesMut::new();
        V4.write(packet, &mut bytes).map_err(End::Malformed)?;
        let written = async {
            self.write.write_all(&bytes).await?;
            self.write.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, written).await {
            Ok(outcome) => outcome.map_err(End::Io),
            Err(_) => Err(End::Stalled),
        }
    }

    /// Reads and judges CONNECT, and answers it.
    async fn expect_connect(&mut self, device: &DeviceId) -> Result<(u16, Option<LastWill>), End> {
        let (packet, _) = tokio::time::timeout(CONNECT_TIMEOUT, self.next()).await.map_err(|_| End::Silent)??;
        let Packet::Connect(connect, _, will, _, _) = packet else {
            return Err(End::Unexpected("first"));
        };
        let judged = rules::check_connect(device, &connect, will.as_ref());
        let code = match &judged {
            Ok(_) => ConnectReturnCode::Success,
            Err(Refused::ClientId { .. }) => ConnectReturnCode::ClientIdentifierNotValid,
            Err(_) => ConnectReturnCode::NotAuthorized,
        };
        self.write(Packet::ConnAck(ConnAck { session_present: false, code }, None)).await?;
        judged.map(|keep_alive_s| (keep_alive_s, will)).map_err(End::Refused)
    }
}

struct Connection {
    device: DeviceId,
    wire: Wire,
    link_tx: LinkTx,
    link_rx: LinkRx,
    bucket: Bucket,
    silence_max: Duration,
    /// Filters the router knows of; at most the two topics of `down/`.
    subscribed: HashSet<String>,
    /// By packet id: which filters of a SUBSCRIBE passed, in its order. At most [`SUBSCRIBES_PENDING_MAX`].
    pending: HashMap<u16, Vec<bool>>,
}

impl Connection {
    async fn serve(&mut self, slot: &Slot, bell: &Arc<Notify>) -> End {
        let mut heard = tokio::time::Instant::now();
        loop {
            let outcome = tokio::select! {
                () = bell.notified() => return slot.kick_for(bell),
                packet = tokio::time::timeout_at(heard + self.silence_max, self.wire.next()) => {
                    heard = tokio::time::Instant::now();
                    match packet {
                        Ok(Ok((packet, qos))) => self.handle(packet, qos).await,
                        Ok(Err(end)) => Err(end),
                        Err(_) => Err(End::Silent),
                    }
                }
                notification = self.link_rx.next() => match notification {
                    Ok(Some(notification)) => self.forward(notification).await,
                    Ok(None) => Ok(()),
                    Err(error) => Err(End::Router(Box::new(error))),
                },
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn handle(&mut self, packet: Packet, qos: u8) -> Result<(), End> {
        match packet {
            Packet::Publish(publish, _) => self.publish(publish, qos).await,
            Packet::Subscribe(subscribe, _) => self.subscribe(subscribe).await,
            Packet::Unsubscribe(unsubscribe, _) => self.unsubscribe(unsubscribe).await,
            Packet::PubAck(ack, _) => self.pass_on(Packet::PubAck(ack, None)).await,
            Packet::PingReq(_) => self.wire.write(Packet::PingResp(PingResp)).await,
            Packet::Disconnect(..) => Err(End::Goodbye),
            Packet::Connect(..) => Err(End::Unexpected("second CONNECT")),
            _ => Err(End::Unexpected("broker's")),
        }
    }

    async fn publish(&mut self, mut publish: Publish, qos: u8) -> Result<(), End> {
        rules::check_publish(&self.device, &publish.topic, publish.payload.len(), qos).map_err(End::Refused)?;
        let wait = self.bucket.take(Instant::now(), publish.payload.len());
        if !wait.is_zero() {
            // Not reading on is what slows the sender down: TCP holds it back.
            tracing::debug!(device = %self.device, ?wait, "device sends too fast");
            tokio::time::sleep(wait).await;
        }
        publish.retain = false;
        self.pass_on(Packet::Publish(publish, None)).await
    }

    async fn subscribe(&mut self, mut subscribe: Subscribe) -> Result<(), End> {
        rules::check_filter_count(subscribe.filters.len()).map_err(End::Refused)?;
        let passed: Vec<bool> = subscribe
            .filters
            .iter()
            .map(|filter| match rules::check_subscribe(&self.device, &filter.path) {
                Ok(_) => true,
                Err(refused) => {
                    tracing::warn!(device = %self.device, cause = %refused, "subscription refused");
                    false
                }
            })
            .collect();
        if !passed.contains(&true) {
            return self.wire.write(suback(subscribe.pkid, &passed, Vec::new())).await;
        }
        if self.pending.len() >= SUBSCRIBES_PENDING_MAX {
            return Err(End::Refused(Refused::Filters { got: self.pending.len() }));
        }
        self.pending.insert(subscribe.pkid, passed.clone());
        let mut passed = passed.iter();
        subscribe.filters.retain(|_| passed.next() == Some(&true));
        for filter in &mut subscribe.filters {
            filter.qos = if filter.qos == mqtt::QoS::AtMostOnce { filter.qos } else { mqtt::QoS::AtLeastOnce };
            self.subscribed.insert(filter.path.clone());
        }
        self.pass_on(Packet::Subscribe(subscribe, None)).await
    }

    /// The router answers only what it knows, so the rest is answered here.
    async fn unsubscribe(&mut self, mut unsubscribe: Unsubscribe) -> Result<(), End> {
        rules::check_filter_count(unsubscribe.filters.len()).map_err(End::Refused)?;
        unsubscribe.filters.retain(|filter| self.subscribed.remove(filter));
        // The router sends one UNSUBACK for each filter: one filter keeps that at one.
        let pkid = unsubscribe.pkid;
        let Some(filter) = unsubscribe.filters.pop() else {
            return self.wire.write(Packet::UnsubAck(UnsubAck { pkid, reasons: Vec::new() }, None)).await;
        };
        for early in unsubscribe.filters {
            self.pass_on(Packet::Unsubscribe(Unsubscribe { pkid: 0, filters: vec![early] }, None)).await?;
        }
        self.pass_on(Packet::Unsubscribe(Unsubscribe { pkid, filters: vec![filter] }, None)).await
    }

    async fn pass_on(&mut self, packet: Packet) -> Result<(), End> {
        self.link_tx.send(packet).await.map(drop).map_err(|error| End::Router(Box::new(error)))
    }

    async fn forward(&mut self, notification: Notification) -> Result<(), End> {
        if matches!(notification, Notification::Unschedule) {
            return self.link_rx.wake().await.map_err(|error| End::Router(Box::new(error)));
        }
        let packet: Option<Packet> = notification.into();
        match packet {
            Some(Packet::Publish(publish, _)) => self.wire.write(Packet::Publish(publish, None)).await,
            Some(Packet::PubAck(ack, _)) => self.wire.write(Packet::PubAck(ack, None)).await,
            Some(Packet::UnsubAck(ack, _)) if ack.pkid != 0 => self.wire.write(Packet::UnsubAck(ack, None)).await,
            Some(Packet::SubAck(ack, _)) => {
                let passed = self.pending.remove(&ack.pkid).unwrap_or_else(|| vec![true; ack.return_codes.len()]);
                self.wire.write(suback(ack.pkid, &passed, ack.return_codes)).await
            }
            Some(Packet::Disconnect(..)) => Err(End::Unexpected("out-of-order")),
            _ => Ok(()),
        }
    }

    /// Leaves the router in order: the will, then goodbye, which frees its slot.
    async fn leave(mut self, will: Option<LastWill>) {
        if let Some(will) = will
            && let Ok(topic) = std::str::from_utf8(&will.topic)
        {
            let _ = self.link_tx.send(publish_packet(topic, &will.message, 0)).await;
        }
        let goodbye = Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection };
        let _ = self.link_tx.send(Packet::Disconnect(goodbye, None)).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.wire.write.shutdown()).await;
    }
}

/// The answer to a SUBSCRIBE: the router's codes where a filter passed, failure where it did not.
fn suback(pkid: u16, passed: &[bool], codes: Vec<SubscribeReasonCode>) -> Packet {
    let mut codes = codes.into_iter();
    let return_codes = passed
        .iter()
        .map(|passed| if *passed { codes.next() } else { None }.unwrap_or(SubscribeReasonCode::Failure))
        .collect();
    Packet::SubAck(SubAck { pkid, return_codes }, None)
}
