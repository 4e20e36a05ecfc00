//! Doors for strangers: HTTP listeners that nobody can hold shut, on TCP and on TLS.
//!
//! A door has so many places, and one network address ([`shares::network_of`]) so many of them. A visitor to whom nothing could be
//! written for [`Limits::silence_max`] is shown out: that ends requests that never become whole, answers that nobody reads, and
//! connections that only wait. Every honest request is answered long before; live pages are written to once a second.

pub mod shares;

use crate::tls;
use axum::serve::Listener;
use shares::{Share, Shares, network_of};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// What visitors may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; a newcomer waits.
    pub connections_max: usize,
    /// Connections of one address; a further one is closed.
    pub per_address_max: usize,
    /// Whether a proxy on this machine, through which everybody comes, is exempt from that.
    pub local_proxy: LocalProxy,
    /// Longest time without a byte written to the visitor.
    pub silence_max: Duration,
    /// Longest visit, where there is such a limit.
    pub life_max: Option<Duration>,
}

/// See [`Limits::local_proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalProxy {
    /// Connections from a loopback address are those of many.
    Exempt,
    /// A loopback address is one like others.
    Counted,
}

/// Where connections come from.
pub trait Source: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; waits for ever when there will be none.
    fn next(&mut self) -> impl Future<Output = (Self::Stream, SocketAddr)> + Send;

    /// The address that is listened on.
    ///
    /// # Errors
    /// The socket's.
    fn address(&self) -> io::Result<SocketAddr>;
}

impl Source for TcpListener {
    type Stream = TcpStream;

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        Listener::accept(self).await
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Source for tls::Listener {
    type Stream = tls::TlsStream;

    async fn next(&mut self) -> (tls::TlsStream, SocketAddr) {
        match self.next().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Door<S> {
    source: S,
    limits: Limits,
    places: Arc<Semaphore>,
    shares: Shares<IpAddr>,
}

impl<S: Source> Door<S> {
    /// A door in front of `source`.
    pub fn new(source: S, limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections_max));
        Self { source, limits, places, shares: Shares::new(limits.per_address_max) }
    }

    /// The share of `peer`, if it is counted; an error when it holds all it may.
    fn share_of(&self, peer: SocketAddr) -> Result<Option<Share<IpAddr>>, ()> {
        if self.limits.local_proxy == LocalProxy::Exempt && peer.ip().to_canonical().is_loopback() {
            return Ok(None);
        }
        self.shares.take(network_of(peer.ip())).map(Some).ok_or(())
    }
}

impl<S: Source> Listener for Door<S> {
    type Io = Visitor<S::Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor<S::Stream>, SocketAddr) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            let (stream, peer) = self.source.next().await;
            match self.share_of(peer) {
                Ok(share) => return (Visitor::new(stream, self.limits, Some(place), share), peer),
                Err(()) => {
                    tracing::debug!(%peer, limit = self.limits.per_address_max, "turned away, too many of one address");
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.address()
    }
}

/// A connection that gives its place back, and that ends by itself.
pub struct Visitor<T> {
    stream: T,
    silence_max: Duration,
    /// When it is shown out whatever it does.
    end: Option<Instant>,
    patience: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
    _share: Option<Share<IpAddr>>,
}

impl<T> Visitor<T> {
    fn new(stream: T, limits: Limits, place: Option<OwnedSemaphorePermit>, share: Option<Share<IpAddr>>) -> Self {
        let now = Instant::now();
        let end = limits.life_max.map(|life| now + life);
        let patience = Box::pin(tokio::time::sleep_until(now + limits.silence_max));
        Self { stream, silence_max: limits.silence_max, end, patience, _place: place, _share: share }
    }

    /// An error once patience has run out; the task is woken then.
    fn check_patience(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.patience.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn written(&mut self) {
        let next = Instant::now() + self.silence_max;
        self.patience.as_mut().reset(self.end.map_or(next, |end| end.min(next)));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Visitor<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_patience(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Visitor<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_patience(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.written();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_patience(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_patience(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMITS: Limits = Limits {
        connections_max: 100,
        per_address_max: 3,
        local_proxy: LocalProxy::Counted,
        silence_max: Duration::from_millis(300),
        life_max: None,
    };

    async fn door(limits: Limits) -> (Door<TcpListener>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Door::new(listener, limits), address)
    }

    #[tokio::test]
    async fn one_address_holds_its_share_and_another_still_comes_in() {
        let (mut door, at) = door(LIMITS).await;
        let mut callers = Vec::new();
        for _ in 0..5 {
            callers.push(TcpStream::connect(at).await.unwrap());
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let _other = socket.connect(at).await.unwrap();
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(door.accept().await);
        }
        assert_eq!(inside.iter().filter(|(_, peer)| peer.ip().to_string() == "127.0.0.1").count(), 3);
        assert_eq!(inside[3].1.ip().to_string(), "127.0.0.2");
        assert!(matches!(callers[4].read(&mut [0]).await, Ok(0) | Err(_)), "the fifth was closed");
        // A place is free again when its visitor leaves.
        inside.remove(0);
        let _late = TcpStream::connect(at).await.unwrap();
        assert_eq!(door.accept().await.1.ip().to_string(), "127.0.0.1");
    }

    #[tokio::test]
    async fn a_proxy_on_this_machine_may_hold_all_places_where_it_is_told_so() {
        let (mut door, at) = door(Limits { local_proxy: LocalProxy::Exempt, ..LIMITS }).await;
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push((TcpStream::connect(at).await.unwrap(), door.accept().await));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_only_sends_drops_is_shown_out_and_one_that_is_answered_stays() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut visitor = Visitor::new(near, LIMITS, None, None);
        let began = Instant::now();
        let slow = async {
            while far.write_all(b"x").await.is_ok() && began.elapsed() < LIMITS.silence_max * 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let read = async {
            loop {
                if let Err(error) = visitor.read(&mut [0; 8]).await {
                    return error;
                }
            }
        };
        let error = tokio::select! { error = read => error, () = slow => panic!("never shown out") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= LIMITS.silence_max);

        let (near, mut far) = tokio::io::duplex(1024);
        let mut visitor = Visitor::new(near, LIMITS, None, None);
        for _ in 0..6 {
            tokio::time::sleep(LIMITS.silence_max / 3).await;
            visitor.write_all(b"beat").await.unwrap();
        }
        far.write_all(b"still here").await.unwrap();
        assert_eq!(visitor.read(&mut [0; 16]).await.unwrap(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_and_a_visit_without_end_are_ended() {
        let (near, _far) = tokio::io::duplex(16);
        let mut visitor = Visitor::new(near, LIMITS, None, None);
        assert_eq!(visitor.write_all(&[0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let life_max = LIMITS.silence_max * 2;
        let (near, _far) = tokio::io::duplex(1 << 20);
        let mut visitor = Visitor::new(near, Limits { life_max: Some(life_max), ..LIMITS }, None, None);
        let began = Instant::now();
        while visitor.write_all(b"beat").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(began.elapsed() < life_max * 3, "never ended");
        }
        assert!(began.elapsed() >= life_max);
    }
}
