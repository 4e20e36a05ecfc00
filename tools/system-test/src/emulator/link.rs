//! One emulated link: its sockets, its two directions, its task.

use super::clients::{ClientKey, Clients, open_far_socket, open_socket};
use super::{ARRIVALS_MAX, EmulatedLink, EmulatorError, LinkFigures, Order};
use bytes::Bytes;
use link_sim::{Link, LinkConfig};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use units::Timestamp;

/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// IPv4 and UDP headers, which cost capacity too.
const HEADER_BYTES: usize = 28;
/// How long the task sleeps when nothing is on the link.
const IDLE: Duration = Duration::from_hours(1);

/// A datagram on its way, and the client it belongs to.
type Travelling = (ClientKey, Bytes);

#[derive(Debug, Clone, Copy)]
enum Heading {
    Relay,
    Client,
}

#[derive(Debug)]
struct Arrival {
    heading: Heading,
    key: ClientKey,
    bytes: Bytes,
}

/// A link with its sockets open.
#[derive(Debug)]
pub(super) struct RunningLink {
    name: String,
    gateway: IpAddr,
    relay: IpAddr,
    seed: u64,
    ports: Vec<u16>,
    near: Vec<Arc<UdpSocket>>,
    up: Link<Travelling>,
    down: Link<Travelling>,
    clients: Clients,
    origin: Instant,
    dead: Option<u64>,
    dead_total: u64,
}

impl RunningLink {
    /// Opens the near side.
    pub(super) fn open(link: EmulatedLink, relay: IpAddr, ports: &[u16]) -> Result<Self, EmulatorError> {
        let EmulatedLink { name, gateway, up, down, seed } = link;
        let direction = |config: LinkConfig, seed| {
            Link::new(config, seed).map_err(|source| EmulatorError::Config { name: name.clone(), source })
        };
        let (up, down) = (direction(up, seed)?, direction(down, seed ^ 0x5eed)?);
        let mut near = Vec::with_capacity(ports.len());
        for port in ports {
            let address = SocketAddr::new(gateway, *port);
            let socket = open_socket(address).map_err(|source| EmulatorError::Listen { address, source })?;
            near.push(Arc::new(socket));
        }
        Ok(Self {
            name,
            gateway,
            relay,
            seed,
            ports: ports.to_vec(),
            near,
            up,
            down,
            clients: Clients::default(),
            origin: Instant::now(),
            dead: None,
            dead_total: 0,
        })
    }

    /// Carries datagrams until the orders' sender is gone.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let (arrivals, mut inbox) = mpsc::channel(ARRIVALS_MAX);
        let mut readers = JoinSet::new();
        for (port, socket) in self.near.iter().enumerate() {
            readers.spawn(read_near(Arc::clone(socket), port, arrivals.clone()));
        }
        loop {
            let wake = [self.up.next_event(), self.down.next_event()].into_iter().flatten().min();
            let wake =
                wake.map_or_else(|| Instant::now() + IDLE, |at| self.origin + Duration::from_micros(at.as_micros()));
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(arrival) = inbox.recv() => self.take(arrival),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.deliver(&arrivals, &mut readers).await;
            while readers.try_join_next().is_some() {} // ended readers of forgotten clients
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, arrival: Arrival) {
        if let Some(dead) = &mut self.dead {
            *dead += 1;
            return;
        }
        let now = self.now();
        let Arrival { heading, key, bytes } = arrival;
        let direction = match heading {
            Heading::Relay => &mut self.up,
            Heading::Client => &mut self.down,
        };
        // A refusal is the link's loss, counted in its figures.
        let _ = direction.push(now, bytes.len() + HEADER_BYTES, (key, bytes));
    }

    async fn deliver(&mut self, arrivals: &mpsc::Sender<Arrival>, readers: &mut JoinSet<()>) {
        let now = self.now();
        while let Some(delivery) = self.up.poll(now) {
            let (key, bytes) = delivery.packet;
            if let Some(dead) = &mut self.dead {
                *dead += 1;
            } else if let Some(socket) = self.far_socket(key, arrivals, readers).await {
                // A refused datagram is one to a receiver that is not there (yet): lost, as on any network.
                let _ = socket.send(&bytes).await;
            }
        }
        while let Some(delivery) = self.down.poll(now) {
            let (key, bytes) = delivery.packet;
            if let Some(dead) = &mut self.dead {
                *dead += 1;
            } else {
                let _ = self.near[key.port].send_to(&bytes, key.from).await;
            }
        }
    }

    async fn far_socket(
        &mut self,
        key: ClientKey,
        arrivals: &mpsc::Sender<Arrival>,
        readers: &mut JoinSet<()>,
    ) -> Option<Arc<UdpSocket>> {
        if let Some(socket) = self.clients.hear(key) {
            return Some(socket);
        }
        let relay = SocketAddr::new(self.relay, self.ports[key.port]);
        match open_far_socket(self.gateway, relay).await {
            Ok(socket) => {
                let socket = Arc::new(socket);
                let reader = readers.spawn(read_far(Arc::clone(&socket), key, arrivals.clone()));
                self.clients.add(key, Arc::clone(&socket), reader);
                Some(socket)
            }
            Err(error) => {
                tracing::warn!(link = self.name, %error, "cannot open a far-side socket");
                None
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Kill => self.dead = self.dead.or(Some(0)),
            Order::Heal => self.dead_total += self.dead.take().unwrap_or(0),
            Order::Rebind => self.clients.clear(),
            Order::SetUp(config, reply) => {
                self.seed = self.seed.wrapping_add(1);
                let outcome = Link::new(*config, self.seed).map(|link| self.up = link);
                let _ = reply.send(outcome);
            }
            Order::Figures(reply) => {
                let _ = reply.send(LinkFigures {
                    up: self.up.stats(),
                    down: self.down.stats(),
                    dead: self.dead_total + self.dead.unwrap_or(0),
                    clients: self.clients.len(),
                });
            }
        }
    }
}

async fn read_near(socket: Arc<UdpSocket>, port: usize, arrivals: mpsc::Sender<Arrival>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let key = ClientKey { port, from };
                hand_over(
                    &arrivals,
                    Arrival { heading: Heading::Relay, key, bytes: Bytes::copy_from_slice(&buffer[..len]) },
                );
            }
            Err(error) => tracing::debug!(%error, "near-side socket"),
        }
    }
}

async fn read_far(socket: Arc<UdpSocket>, key: ClientKey, arrivals: mpsc::Sender<Arrival>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is an ICMP answer to an earlier datagram (no receiver there yet); it is taken off the socket by reading it.
        if let Ok(len) = socket.recv(&mut buffer).await {
            hand_over(
                &arrivals,
                Arrival { heading: Heading::Client, key, bytes: Bytes::copy_from_slice(&buffer[..len]) },
            );
        }
    }
}

fn hand_over(arrivals: &mpsc::Sender<Arrival>, arrival: Arrival) {
    if arrivals.try_send(arrival).is_err() {
        tracing::debug!("an emulated link's arrivals are full; datagram dropped");
    }
}
