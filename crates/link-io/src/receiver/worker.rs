//! The thread of a receiver: everything that happens to its machine happens here, one input at a time.

use super::socket::ReceiverSocket;
use super::{NewLatency, Published, ReceiverIoCounters};
use crate::arrivals::Arrivals;
use crate::clock::Clock;
use crate::flow_thread::Signal;
use crate::media::UdpOutput;
use crate::queue::lock;
use crate::udp::{Train, UdpPort};
use crate::waker::{Backlog, Ready, Rhythm, Sleeper};
use bond::Channel;
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use std::sync::Arc;
use std::time::Duration;
use units::Timestamp;

/// How often the snapshot is renewed.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(500);

/// So many sockets are looked at without asking first which of them have something.
const BUSY_MAX: usize = 6;

/// Delivery is on time within five milliseconds, together with the arrivals and reports of that time: at few packets a
/// second, waking up is most of what a receiver costs.
pub(crate) const RHYTHM: Rhythm = Rhythm { timers: Duration::from_millis(5), arrivals: Duration::from_millis(5) };

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) machine: Receiver,
    pub(crate) clock: Clock,
    pub(crate) new_latency: Arc<NewLatency>,
    pub(crate) published: Arc<Published>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) sleeper: Sleeper,
    /// Where delivered packets go instead of the queue: those of a virtual port, or all.
    pub(crate) outputs: Vec<(Option<u16>, UdpOutput)>,
}

/// The thread's state.
pub(crate) struct Worker {
    parts: Parts,
    /// Indexed by the machine's `local`.
    sockets: Vec<ReceiverSocket>,
    /// Of sockets by their place and channel.
    arrivals: Arrivals<(usize, Channel)>,
    train: Train,
    backlog: Backlog,
    /// When the machine wants its `Timeout`.
    timeout_at: Timestamp,
    snapshot_at: Timestamp,
}

impl Worker {
    pub(crate) fn new(parts: Parts, sockets: Vec<ReceiverSocket>) -> Self {
        let now = parts.clock.now();
        let mut worker = Self {
            parts,
            sockets,
            arrivals: Arrivals::new(),
            train: Train::default(),
            backlog: Backlog::Empty,
            timeout_at: now,
            snapshot_at: now,
        };
        for local in 0..worker.sockets.len() {
            worker.call(now, local);
        }
        worker
    }

    pub(crate) fn run(mut self) {
        let mut ready = Vec::new();
        let mut watched = Vec::new();
        while !self.parts.signal.must_stop() {
            self.take_new_latency();
            self.take_arrivals(&watched, &ready);
            self.keep_time();
            let now = self.parts.clock.now();
            self.sockets.iter_mut().for_each(|socket| socket.flush(now, &mut self.train));
            self.parts.outputs.iter_mut().for_each(|(_, output)| output.flush());
            self.publish();
            self.sleep(&mut watched, &mut ready);
        }
        let now = self.parts.clock.now();
        self.tell(now, ReceiverInput::Close);
        self.sockets.iter_mut().for_each(|socket| socket.flush(now, &mut self.train));
    }

    /// Gives the machine one input and carries out what it asks for. Arrivals are given a batch at a time.
    fn tell(&mut self, now: Timestamp, input: ReceiverInput<'_>) {
        self.parts.machine.handle_input(now, input);
        self.drain(now);
    }

    fn drain(&mut self, now: Timestamp) {
        loop {
            match self.parts.machine.poll_output(now) {
                ReceiverOutput::Transmit { local, to, channel, bytes } => {
                    if let Some(socket) = self.sockets.get_mut(usize::from(local)) {
                        socket.post(channel, to, bytes);
                    }
                }
                ReceiverOutput::Deliver(delivered) => {
                    let takes = |port: &Option<u16>| port.is_none_or(|port| port == delivered.virtual_port);
                    if let Some((_, output)) = self.parts.outputs.iter_mut().find(|(port, _)| takes(port)) {
                        output.post(delivered.bytes);
                        continue;
                    }
                    // The queue makes room by dropping its oldest; closed, nobody wants the rest.
                    let _ = self.parts.published.deliveries.push(delivered);
                }
                ReceiverOutput::Event(event) => {
                    if event.cause.is_setting() {
                        tracing::warn!(cause = %event, "receiver");
                    } else {
                        tracing::info!(cause = %event, "receiver");
                    }
                    let _ = self.parts.published.events.push(event);
                }
                ReceiverOutput::Timeout(at) => {
                    self.timeout_at = at;
                    return;
                }
            }
        }
    }

    /// Asks the machine to call the sender that socket `local` is for.
    fn call(&mut self, now: Timestamp, local: usize) {
        if let Some(to) = self.sockets[local].remote() {
            self.tell(now, ReceiverInput::Connect { local: local as u16, to });
        }
    }

    fn take_new_latency(&mut self) {
        let asked = lock(&self.parts.new_latency).take();
        if let Some(latency) = asked {
            self.tell(self.parts.clock.now(), ReceiverInput::SetLatency(latency));
        }
    }

    fn take_arrivals(&mut self, watched: &[(usize, Channel)], ready: &[Ready]) {
        self.backlog = Backlog::Empty;
        let ready = watched.iter().zip(ready).filter(|(_, ready)| ready.read);
        let (now, wall) = self.parts.clock.with_wall();
        self.arrivals.begin((now, wall), ready.map(|(&socket, _)| socket));
        while self.gather(now) {
            self.hand_over();
        }
        if self.backlog != Backlog::Empty {
            // Not before: the machine would take it to be the present of what still waits, and give up what that brings.
            self.drain(self.parts.clock.now());
        }
        if self.arrivals.is_left() {
            self.backlog = Backlog::Left;
        }
    }

    /// Reads a round of the turn that began at `now`.
    fn gather(&mut self, now: Timestamp) -> bool {
        let (clock, sockets) = (self.parts.clock, &mut self.sockets);
        self.arrivals
            .gather(|| clock.now(), |(local, channel), slots, most| sockets[local].receive(now, channel, slots, most))
    }

    fn hand_over(&mut self) {
        let Self { parts, sockets, arrivals, backlog, .. } = self;
        arrivals.each(|(local, channel), at, arrival| {
            *backlog = backlog.worked();
            let (from, ecn) = (arrival.from, arrival.ecn);
            sockets[local].note_called(from, arrival.to);
            let input = ReceiverInput::Datagram { local: local as u16, from, channel, ecn, bytes: arrival.datagram };
            parts.machine.handle_input(at, input);
        });
    }

    /// Fires the machine's timer and opens failed sockets again, when their time has come.
    fn keep_time(&mut self) {
        let now = self.parts.clock.now();
        if now >= self.timeout_at {
            self.tell(now, ReceiverInput::Timeout);
        }
        for local in 0..self.sockets.len() {
            let due = self.sockets[local].sockets().retry_at().is_some_and(|at| now >= at);
            if due && self.sockets[local].reopen(now) {
                self.call(now, local);
            }
        }
    }

    fn publish(&mut self) {
        let now = self.parts.clock.now();
        if now >= self.snapshot_at {
            self.snapshot_at = now + SNAPSHOT_INTERVAL;
            let snapshot = Arc::new(self.parts.machine.snapshot(now));
            *lock(&self.parts.published.snapshot) = snapshot;
            *lock(&self.parts.published.counters) = ReceiverIoCounters {
                deliveries_dropped: self.parts.outputs.iter().map(|(_, output)| output.port().counters().dropped).sum(),
                datagrams_dropped: self.sockets.iter().map(|socket| socket.sockets().dropped()).sum(),
                sockets_reopened: self.sockets.iter().map(|socket| socket.reopened).sum(),
            };
        }
    }

    fn sleep(&mut self, watched: &mut Vec<(usize, Channel)>, ready: &mut Vec<Ready>) {
        watched.clear();
        let ports = || {
            let sockets = self.sockets.iter().enumerate();
            sockets
                .flat_map(|(local, socket)| socket.sockets().ports().map(move |(channel, port)| (local, channel, port)))
        };
        watched.extend(ports().map(|(local, channel, _)| (local, channel)));
        let retry =
            self.sockets.iter().filter_map(|socket| socket.sockets().retry_at()).min().unwrap_or(Timestamp::MAX);
        let timeout = self.timeout_at.min(self.snapshot_at).min(retry).since(self.parts.clock.now());
        let has_work = || self.parts.signal.must_stop() || lock(&self.parts.new_latency).is_some();
        // A few are all busy; of many most are not.
        let few = watched.len() <= BUSY_MAX;
        let sockets = ports().map(|(_, _, port)| if few { port.watched().busy() } else { port.watched() });
        let outputs = self.parts.outputs.iter().map(|(_, output)| output.port()).filter(|port| port.waiting() > 0);
        let outputs = outputs.map(UdpPort::watched);
        self.parts.sleeper.sleep(
            &self.parts.signal.waker,
            sockets.chain(outputs),
            self.backlog,
            timeout,
            has_work,
            ready,
        );
    }
}

impl Drop for Worker {
    /// However the thread ends, nobody goes on waiting for it.
    fn drop(&mut self) {
        self.parts.published.deliveries.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_thread::FlowThread;
    use crate::queue::{Overflow, Queue};
    use crate::udp::tests::wait_for_stamps;
    use bond::config::{Profile, ReceiverConfig};
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    use std::sync::Mutex;

    /// A worker that listens on two addresses in Simple Profile.
    fn worker(latency: Duration) -> Worker {
        let clock = Clock::start();
        let now = clock.now();
        let config = ReceiverConfig { profile: Profile::Simple, latency, ..ReceiverConfig::default() };
        let machine = Receiver::new(config, 1, now).expect("settings");
        let published = Published {
            snapshot: Mutex::new(Arc::new(machine.snapshot(now))),
            counters: Mutex::default(),
            deliveries: Queue::new(8, Overflow::DropOldest),
            events: Queue::new(8, Overflow::DropOldest),
        };
        let (signal, sleeper) = FlowThread::signal(RHYTHM).expect("a pipe");
        let new_latency = Arc::default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = [(); 2].map(|()| ReceiverSocket::listen(Profile::Simple, address).expect("a free pair"));
        let published = Arc::new(published);
        let parts = Parts { machine, clock, new_latency, published, signal, sleeper, outputs: Vec::new() };
        Worker::new(parts, sockets.into())
    }

    /// An RTP packet of MPEG-TS.
    fn media(sequence: u16) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        let mut packet = vec![0x80, 33, high, low, 0, 0, 0, 0, 0, 0, 0, 2];
        packet.resize(12 + 188, 0x47);
        packet
    }

    /// The later socket gets its packet first, the other one a while after; both are read in one turn.
    #[test]
    fn what_comes_on_a_later_socket_keeps_its_time_of_arrival() {
        const LATENCY: Duration = Duration::from_millis(50);
        const APART: Duration = Duration::from_millis(30);
        let mut worker = worker(LATENCY);
        wait_for_stamps();
        let from = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let send = |worker: &Worker, socket: usize, sequence| {
            from.send_to(&media(sequence), worker.sockets[socket].local_addr()).expect("sent");
            worker.parts.clock.now()
        };
        let first = send(&worker, 1, 1);
        std::thread::sleep(APART);
        send(&worker, 0, 2);
        let ready = Ready { read: true, write: false };
        worker.take_arrivals(&[(0, Channel::Media), (1, Channel::Media)], &[ready; 2]);
        std::thread::sleep(LATENCY);
        worker.keep_time();
        let deliveries = &worker.parts.published.deliveries;
        let delivered = deliveries.pop_timeout(Duration::ZERO).expect("open").expect("due").item;
        let off = delivered.source_time.since(first).max(first.since(delivered.source_time));
        assert!(off < APART / 3, "{:?} instead of {first:?}", delivered.source_time);
    }

    /// Goal: what came in time is in time however long the process did not run. Method: more than one round takes waits on two
    /// sockets until all of it is due; what was sent first comes last, on the slower one.
    #[test]
    fn nothing_is_given_up_that_waits_in_a_socket() {
        const LATENCY: Duration = Duration::from_millis(200);
        const HALF: u16 = 200;
        let mut worker = worker(LATENCY);
        wait_for_stamps();
        let from = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        // The last turn before.
        worker.take_arrivals(&[], &[]);
        let began = worker.parts.clock.now();
        for number in (0..1).chain(HALF..2 * HALF).chain(1..HALF) {
            let slower = usize::from((1..HALF).contains(&number));
            from.send_to(&media(number), worker.sockets[slower].local_addr()).expect("sent");
        }
        assert!(worker.parts.clock.now().since(began) < LATENCY, "a busy machine: it was not sent in time");
        std::thread::sleep(2 * LATENCY);
        let ready = Ready { read: true, write: false };
        worker.take_arrivals(&[(0, Channel::Media), (1, Channel::Media)], &[ready; 2]);
        worker.keep_time();
        let snapshot = worker.parts.machine.snapshot(worker.parts.clock.now());
        assert_eq!((snapshot.lost_packets, snapshot.late_packets), (0, 0));
        assert_eq!(snapshot.delivered_packets, u64::from(2 * HALF));
    }
}
