//! Cellular links in user space, between a sender and a receiver on one machine.
//!
//! Each emulated link listens on an address of its own (its *gateway*, any address of 127.0.0.0/8) at every port of the
//! receivers. What arrives there travels over a [`link_sim::Link`] and leaves, from a socket that stands for the carrier's NAT,
//! to the same port of the relay; answers travel back over a second one. Loss, delay, queue and capacity are those of
//! `link-sim`; this module adds sockets, a clock and a table of clients. No root is needed.
//!
//! Bounds: [`CLIENTS_MAX`] clients a link (the longest silent one makes room), [`ARRIVALS_MAX`] datagrams between sockets and
//! link (further ones are dropped, as a full queue drops them).

mod clients;
mod link;
mod traces;

use link_sim::{ConfigError, LinkConfig, LinkStats};
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use traces::cellular;

/// Senders that one link serves at the same time.
pub const CLIENTS_MAX: usize = 64;
/// Datagrams that wait between the sockets and the link.
pub const ARRIVALS_MAX: usize = 4096;
const ORDERS_MAX: usize = 16;

/// What one emulated link is like.
#[derive(Debug, Clone)]
pub struct EmulatedLink {
    /// What people call it.
    pub name: String,
    /// Where the sender reaches it.
    pub gateway: IpAddr,
    /// From the sender to the relay.
    pub up: LinkConfig,
    /// From the relay to the sender.
    pub down: LinkConfig,
    /// Seed of its chance.
    pub seed: u64,
}

/// Why the emulator cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// A link's figures are out of range.
    #[error("emulated link {name}: a setting is out of range")]
    Config {
        /// Which link.
        name: String,
        /// Which setting.
        source: ConfigError,
    },
    /// A gateway address and port cannot be taken.
    #[error("cannot listen on {address}/udp for an emulated link; is another demo or test running?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The link's task is gone.
    #[error("emulated link {name} has ended")]
    Ended {
        /// Which link.
        name: String,
    },
}

/// What a link carried and dropped so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkFigures {
    /// From the sender to the relay.
    pub up: LinkStats,
    /// From the relay to the sender.
    pub down: LinkStats,
    /// Datagrams that met a killed link.
    pub dead: u64,
    /// Clients now.
    pub clients: usize,
}

/// An order to a link.
#[derive(Debug)]
enum Order {
    Kill,
    Heal,
    Rebind,
    SetUp(Box<LinkConfig>, oneshot::Sender<Result<(), ConfigError>>),
    Figures(oneshot::Sender<LinkFigures>),
}

/// Running links; dropping it ends them.
#[derive(Debug)]
pub struct Emulator {
    links: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    name: String,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Emulator {
    /// Starts `links` between their gateways and the receivers at `relay`, for each of `ports`. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`EmulatorError`]: a setting out of range, or an address in use.
    pub fn start(links: Vec<EmulatedLink>, relay: IpAddr, ports: &[u16]) -> Result<Self, EmulatorError> {
        let mut handles = Vec::with_capacity(links.len());
        for link in links {
            let (orders, inbox) = mpsc::channel(ORDERS_MAX);
            let name = link.name.clone();
            let running = link::RunningLink::open(link, relay, ports)?;
            handles.push(Handle { name, orders, task: tokio::spawn(running.run(inbox)) });
        }
        Ok(Self { links: handles })
    }

    /// Cuts a link: nothing passes in either direction, and what was on it is lost.
    ///
    /// # Errors
    /// [`EmulatorError::Ended`].
    pub async fn kill(&self, link: usize) -> Result<(), EmulatorError> {
        self.order(link, Order::Kill).await
    }

    /// Lets a cut link carry again.
    ///
    /// # Errors
    /// [`EmulatorError::Ended`].
    pub async fn heal(&self, link: usize) -> Result<(), EmulatorError> {
        self.order(link, Order::Heal).await
    }

    /// Gives the senders on a link new public addresses, as a carrier's NAT does; the old ones go dead.
    ///
    /// # Errors
    /// [`EmulatorError::Ended`].
    pub async fn rebind(&self, link: usize) -> Result<(), EmulatorError> {
        self.order(link, Order::Rebind).await
    }

    /// Changes the direction to the relay; what is on it is lost.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] leaves the link as it was; [`EmulatorError::Ended`].
    pub async fn set_up(&self, link: usize, up: LinkConfig) -> Result<(), EmulatorError> {
        let (reply, answer) = oneshot::channel();
        self.order(link, Order::SetUp(Box::new(up), reply)).await?;
        let name = &self.links[link].name;
        let outcome = answer.await.map_err(|_| EmulatorError::Ended { name: name.clone() })?;
        outcome.map_err(|source| EmulatorError::Config { name: name.clone(), source })
    }

    /// What a link carried and dropped so far.
    ///
    /// # Errors
    /// [`EmulatorError::Ended`].
    pub async fn figures(&self, link: usize) -> Result<LinkFigures, EmulatorError> {
        let (reply, answer) = oneshot::channel();
        self.order(link, Order::Figures(reply)).await?;
        answer.await.map_err(|_| EmulatorError::Ended { name: self.links[link].name.clone() })
    }

    async fn order(&self, link: usize, order: Order) -> Result<(), EmulatorError> {
        let handle = &self.links[link];
        handle.orders.send(order).await.map_err(|_| EmulatorError::Ended { name: handle.name.clone() })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for link in &self.links {
            link.task.abort();
        }
    }
}
