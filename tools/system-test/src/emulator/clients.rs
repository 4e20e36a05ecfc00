//! The clients of one emulated link: who sends over it, and the socket that stands for each at the far side.

use super::CLIENTS_MAX;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The kernel's buffer of each socket, in bytes: a key frame arrives in one burst.
const SOCKET_BUFFER_BYTES: usize = 1024 * 1024;

/// One sender on one of the link's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    /// Index of the port.
    pub(super) port: usize,
    /// Where it sends from.
    pub(super) from: SocketAddr,
}

#[derive(Debug)]
struct Client {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
    heard: Instant,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// At most [`CLIENTS_MAX`] clients.
#[derive(Debug, Default)]
pub(super) struct Clients(HashMap<ClientKey, Client>);

impl Clients {
    /// The far-side socket of `key`, if it is known.
    pub(super) fn hear(&mut self, key: ClientKey) -> Option<Arc<UdpSocket>> {
        let client = self.0.get_mut(&key)?;
        client.heard = Instant::now();
        Some(Arc::clone(&client.socket))
    }

    /// Adds a client; the longest silent one makes room.
    pub(super) fn add(&mut self, key: ClientKey, socket: Arc<UdpSocket>, reader: AbortHandle) {
        while self.0.len() >= CLIENTS_MAX {
            let Some(silent) = self.0.iter().min_by_key(|(_, client)| client.heard).map(|(key, _)| *key) else { break };
            self.0.remove(&silent);
        }
        self.0.insert(key, Client { socket, reader, heard: Instant::now() });
    }

    /// Forgets all: the next datagram of each gets a new far-side address.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A socket on `address`, which may have port 0.
pub(super) fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// A far-side socket of a link with this gateway.
pub(super) async fn open_far_socket(gateway: IpAddr, relay: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open_socket(SocketAddr::new(gateway, 0))?;
    socket.connect(relay).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_silent_client_makes_room() {
        let mut clients = Clients::default();
        let key = |i: u16| ClientKey { port: 0, from: SocketAddr::from(([127, 0, 0, 1], 1000 + i)) };
        let socket = Arc::new(open_socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap());
        for i in 0..CLIENTS_MAX as u16 {
            clients.add(key(i), Arc::clone(&socket), tokio::spawn(async {}).abort_handle());
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await; // instants must differ
        assert!(clients.hear(key(0)).is_some());
        clients.add(key(5000), Arc::clone(&socket), tokio::spawn(async {}).abort_handle());
        assert_eq!(clients.len(), CLIENTS_MAX);
        assert!(clients.hear(key(0)).is_some() && clients.hear(key(5000)).is_some());
        assert!(clients.hear(key(1)).is_none());
    }
}
