//! The thread of a sending flow: everything that happens to its machine happens here, one input at a time.

use super::commands::{Command, Commands};
use super::discovery::{Change, Discovery};
use super::interfaces::{Interfaces, News, Turn};
use super::link::Link;
use super::rhythm::Calm;
use super::source_clock::SourceClock;
use super::{LinkSpec, Published, QueuedPayload, SenderIoCounters};
use crate::arrivals::Arrivals;
use crate::clock::Clock;
use crate::flow_thread::Signal;
use crate::media::UdpInput;
use crate::queue::{Queue, lock};
use crate::udp::{Received, Train};
use crate::waker::{Backlog, Ready, Sleeper};
use bond::config::{LATENCY_MAX, LATENCY_MIN, LINKS_MAX, Profile};
use bond::sender::{LinkErrorKind, Sender, SenderInput, SenderOutput};
use bond::{Channel, Payload};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use units::{LinkId, Timestamp};

/// How often the snapshot is renewed.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(500);
/// How often the rate advice is renewed.
const ADVICE_INTERVAL: Duration = Duration::from_millis(50);
/// How often a closing flow looks whether everything has arrived.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Times the links are flushed in one turn when errors make the machine send on others instead.
const FLUSH_ROUNDS_MAX: usize = 4;

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) machine: Sender,
    pub(crate) clock: Clock,
    pub(crate) profile: Profile,
    pub(crate) latency: Duration,
    pub(crate) payloads: Arc<Queue<QueuedPayload>>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) published: Arc<Published>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) sleeper: Sleeper,
    /// Media that arrives here instead of through `payloads`.
    pub(crate) input: Option<UdpInput>,
}

/// The thread's state.
pub(crate) struct Worker {
    parts: Parts,
    links: Vec<Link>,
    source_clock: SourceClock,
    /// Of links by their place, and channel.
    arrivals: Arrivals<(usize, Channel)>,
    train: Train,
    backlog: Backlog,
    /// When the machine wants its `Timeout`.
    timeout_at: Timestamp,
    calm: Calm,
    snapshot_at: Timestamp,
    advice_at: Timestamp,
    closing: Option<Closing>,
    removed: SenderIoCounters,
    /// `None` where the system has no such news: then links notice by their silence and by errors.
    news: Option<News>,
    discovery: Option<Discovery>,
}

struct Closing {
    give_up_at: Timestamp,
    check_at: Timestamp,
}

impl Worker {
    pub(crate) fn new(parts: Parts, links: Vec<LinkSpec>) -> Self {
        let now = parts.clock.now();
        let mut worker = Self {
            parts,
            links: Vec::with_capacity(links.len()),
            source_clock: SourceClock::default(),
            arrivals: Arrivals::new(),
            train: Train::default(),
            backlog: Backlog::Empty,
            timeout_at: now,
            calm: Calm::new(now),
            snapshot_at: now,
            advice_at: now,
            closing: None,
            removed: SenderIoCounters::default(),
            news: News::open().inspect_err(|error| tracing::warn!(error = %error, "no news of interfaces")).ok(),
            discovery: None,
        };
        for link in links {
            worker.add_link(now, link);
        }
        worker
    }

    pub(crate) fn run(mut self) {
        let mut ready = Vec::new();
        let mut watched = Vec::new();
        let mut payloads = Vec::new();
        while !self.parts.signal.must_stop() {
            self.take_commands();
            self.take_arrivals(&watched, &ready);
            self.take_payloads(&mut payloads);
            // The media input is watched behind the links.
            if ready.get(watched.len()).is_some_and(|ready| ready.read) {
                self.take_input();
            }
            let at = watched.len() + usize::from(self.parts.input.is_some());
            if ready.get(at).is_some_and(|ready| ready.read) {
                self.take_news();
            }
            self.keep_time();
            self.flush_links();
            if self.is_done() {
                break;
            }
            self.publish();
            self.sleep(&mut watched, &mut ready);
        }
        self.snapshot_at = Timestamp::ZERO;
        self.publish();
        self.tell(self.parts.clock.now(), SenderInput::Close);
        self.flush_links();
    }

    /// Gives the machine one input and carries out what it asks for. What comes in batches is given as a batch: asking
    /// after each would cost more than the packets themselves.
    fn tell(&mut self, now: Timestamp, input: SenderInput<'_>) {
        self.parts.machine.handle_input(now, input);
        self.drain(now);
    }

    fn drain(&mut self, now: Timestamp) {
        loop {
            match self.parts.machine.poll_output(now) {
                SenderOutput::Transmit { link, channel, ecn, bytes } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.id() == link) {
                        link.post(channel, ecn, bytes);
                    }
                }
                SenderOutput::Answer { link, to, bytes } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.id() == link) {
                        link.answer(to, bytes);
                    }
                }
                SenderOutput::Receiver { link, address } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.id() == link) {
                        link.set_receiver(address);
                    }
                }
                SenderOutput::Event(event) => {
                    if event.cause.is_setting() {
                        tracing::warn!(cause = %event, "sender");
                    } else {
                        tracing::info!(cause = %event, "sender");
                    }
                    // The queue makes room by dropping its oldest; it closes only with the flow.
                    let _ = self.parts.published.events.push(event);
                }
                SenderOutput::Timeout(at) => {
                    self.timeout_at = at;
                    return;
                }
            }
        }
    }

    fn take_commands(&mut self) {
        for command in self.parts.commands.take() {
            let now = self.parts.clock.now();
            match command {
                Command::AddLink(spec) => self.add_link(now, spec),
                Command::RemoveLink(link) => self.remove_link(now, link),
                Command::SetLinkOptions(link, options) => {
                    if let Some(known) = self.links.iter_mut().find(|known| known.id() == link) {
                        known.set_options(options);
                        let options = known.options();
                        self.tell(now, SenderInput::SetLinkOptions { link, options });
                    }
                }
                Command::SetLatency(latency) => {
                    self.parts.latency = latency.clamp(LATENCY_MIN, LATENCY_MAX);
                    self.tell(now, SenderInput::SetLatency(latency));
                }
                Command::SetEncoderRange { min, max } => self.tell(now, SenderInput::SetEncoderRange { min, max }),
                Command::RadioHint { link, hint } => self.tell(now, SenderInput::RadioHint { link, hint }),
                Command::FollowInterfaces(rule) => {
                    self.discovery = Some(Discovery::new(*rule));
                    if let Ok(interfaces) = Interfaces::look() {
                        self.discover(now, &interfaces);
                    }
                }
                Command::Close => {
                    self.finish_input(now);
                    self.closing = Some(Closing { give_up_at: now + self.parts.latency, check_at: now });
                }
            }
        }
    }

    fn add_link(&mut self, now: Timestamp, spec: LinkSpec) {
        self.remove_link(now, spec.id);
        if self.links.len() >= LINKS_MAX {
            tracing::error!(link = %spec.id, links = LINKS_MAX, "a link was not added: the flow has all it takes");
            return;
        }
        if spec.listens && self.parts.profile == Profile::Simple {
            tracing::error!(link = %spec.id, "a link was not added: in Simple Profile the receiver listens");
            return;
        }
        if self.parts.profile == Profile::Simple && spec.remote.port() % 2 == 1 {
            tracing::error!(link = %spec.id, remote = %spec.remote, "a link was not added: in Simple Profile the port must be even");
            return;
        }
        let (id, listens) = (spec.id, spec.listens);
        let (link, opened) = Link::open(spec, self.parts.profile, now);
        let options = link.options();
        self.links.push(link);
        if listens {
            self.tell(now, SenderInput::Listen { link: id, options });
        } else {
            self.tell(now, SenderInput::AddLink { link: id, options });
        }
        if let Err(kind) = opened {
            self.tell(now, SenderInput::LinkError { link: id, kind });
        }
    }

    /// Takes a link out: the far end is told, and its sockets are closed. What they counted is kept.
    fn remove_link(&mut self, now: Timestamp, id: LinkId) {
        self.tell(now, SenderInput::RemoveLink { link: id });
        if let Some(index) = self.links.iter().position(|link| link.id() == id) {
            let mut link = self.links.remove(index);
            // That it can not be told any more is no news.
            let _ = link.flush(now, &mut self.train);
            self.removed = add_counters(self.removed, &link);
        }
    }

    fn take_arrivals(&mut self, watched: &[(LinkId, Channel)], ready: &[Ready]) {
        self.backlog = Backlog::Empty;
        let links = &self.links;
        // Links may have been removed or replaced by a command since the sleep.
        let place = |id| links.iter().position(|link| link.id() == id);
        let ready = watched.iter().zip(ready).filter(|(_, ready)| ready.read);
        let (now, wall) = self.parts.clock.with_wall();
        self.arrivals.begin((now, wall), ready.filter_map(|(&(id, channel), _)| Some((place(id)?, channel))));
        let mut failed = Vec::new();
        while self.gather(now, &mut failed) {
            self.hand_over();
        }
        if self.backlog != Backlog::Empty {
            // Not before: the machine would take it to be the present of what still waits.
            self.drain(self.parts.clock.now());
        }
        if self.arrivals.is_left() {
            self.backlog = Backlog::Left;
        }
        for (link, kind) in failed {
            self.tell(self.parts.clock.now(), SenderInput::LinkError { link, kind });
        }
    }

    /// Reads a round of the turn that began at `now`, and notes the links whose sockets failed.
    fn gather(&mut self, now: Timestamp, failed: &mut Vec<(LinkId, LinkErrorKind)>) -> bool {
        let (clock, links) = (self.parts.clock, &mut self.links);
        self.arrivals.gather(
            || clock.now(),
            |(index, channel), slots, most| {
                links[index].receive(now, channel, slots, most).unwrap_or_else(|kind| {
                    failed.push((links[index].id(), kind));
                    Received::All
                })
            },
        )
    }

    fn hand_over(&mut self) {
        let Self { parts, links, arrivals, backlog, .. } = self;
        arrivals.each(|(index, channel), at, arrival| {
            *backlog = backlog.worked();
            let link = &mut links[index];
            if !link.admits(channel, arrival.from) {
                return;
            }
            let (id, from, bytes) = (link.id(), arrival.from, arrival.datagram);
            let input = if link.listens() {
                SenderInput::Called { link: id, from, bytes }
            } else {
                SenderInput::Datagram { link: id, channel, bytes }
            };
            parts.machine.handle_input(at, input);
        });
    }

    fn take_payloads(&mut self, payloads: &mut Vec<QueuedPayload>) {
        // Told anew when it is known what becomes of these.
        self.parts.published.room.store(0, Ordering::Release);
        self.parts.payloads.drain_into(payloads);
        if payloads.is_empty() {
            return;
        }
        self.backlog = self.backlog.worked();
        let now = self.parts.clock.now();
        for payload in payloads.drain(..) {
            let QueuedPayload { bytes, class, source_time, pushed_at } = payload;
            let source_time = self.source_clock.map(pushed_at, source_time, self.parts.latency);
            let input = SenderInput::Payload(Payload { bytes, source_time, class });
            self.parts.machine.handle_input(now, input);
        }
        self.drain(now);
    }

    fn take_input(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let Some(mut input) = self.parts.input.take() else { return };
        let clock = self.parts.clock;
        let machine = &mut self.parts.machine;
        let limit = machine.payload_bytes_max();
        let backlog = &mut self.backlog;
        let taken = input.take(&clock, limit, |now, payload| {
            *backlog = backlog.worked();
            machine.handle_input(now, SenderInput::Payload(payload));
        });
        self.drain(clock.now());
        match taken {
            Ok(Received::All) => {}
            Ok(Received::MaybeMore) => self.backlog = Backlog::Left,
            Err(error) => tracing::warn!(error = %error, "the media input failed; it is read again"),
        }
        self.parts.input = Some(input);
    }

    /// Sends what the media input holds back for the next datagram.
    fn finish_input(&mut self, now: Timestamp) {
        let Some(input) = &mut self.parts.input else { return };
        let machine = &mut self.parts.machine;
        input.finish(|payload| machine.handle_input(now, SenderInput::Payload(payload)));
        self.drain(now);
    }

    /// Fires the machine's timer and opens failed sockets again, when their time has come.
    fn keep_time(&mut self) {
        let now = self.parts.clock.now();
        if now >= self.timeout_at {
            self.tell(now, SenderInput::Timeout);
        }
        if self.parts.input.as_ref().and_then(UdpInput::due).is_some_and(|at| now >= at) {
            self.finish_input(now);
        }
        if self.discovery.as_ref().and_then(Discovery::look_at).is_some_and(|at| now >= at)
            && let Ok(interfaces) = Interfaces::look()
        {
            self.discover(now, &interfaces);
        }
        for index in 0..self.links.len() {
            if self.links[index].sockets().retry_at().is_some_and(|at| now >= at)
                && let Err(kind) = self.links[index].retry(now)
            {
                let link = self.links[index].id();
                self.tell(now, SenderInput::LinkError { link, kind });
            }
        }
    }

    /// Looks what became of the links' interfaces, when the kernel says that something happened.
    fn take_news(&mut self) {
        if !self.news.as_ref().is_some_and(News::take) {
            return;
        }
        let Ok(interfaces) = Interfaces::look() else { return };
        let now = self.parts.clock.now();
        for index in 0..self.links.len() {
            if self.links[index].look_at_mtu(&interfaces) {
                let (link, options) = (self.links[index].id(), self.links[index].options());
                self.tell(now, SenderInput::SetLinkOptions { link, options });
            }
            let Some(turn) = self.links[index].look_around(&interfaces) else { continue };
            let link = self.links[index].id();
            tracing::debug!(link = %link, turn = ?turn, "the interface of a link changed");
            let failed = self.links[index].sockets().retry_at().is_some();
            match turn {
                Turn::Lost => self.tell(now, SenderInput::LinkError { link, kind: LinkErrorKind::CarrierLost }),
                // Open sockets go on; the machine asks a silent link often enough.
                Turn::Came if !failed => {}
                Turn::Came | Turn::Moved if failed && self.links[index].reopen(now).is_err() => {}
                Turn::Came | Turn::Moved => {
                    self.links[index].end_trial();
                    self.tell(now, SenderInput::LinkAddressChanged { link });
                }
            }
        }
        self.discover(now, &interfaces);
    }

    /// Adds and removes links as interfaces come and go.
    fn discover(&mut self, now: Timestamp, interfaces: &Interfaces) {
        let Some(mut discovery) = self.discovery.take() else { return };
        let own: Vec<LinkId> = discovery.links().collect();
        let others: Vec<LinkId> = self.links.iter().map(Link::id).filter(|id| !own.contains(id)).collect();
        for change in discovery.look(now, interfaces, &others) {
            match change {
                Change::Add(spec) => self.add_link(now, spec),
                Change::Remove(link) => self.remove_link(now, link),
            }
        }
        self.discovery = Some(discovery);
    }

    /// Sends what the machine asked for. An error may make it ask for more, on other links.
    fn flush_links(&mut self) {
        for _ in 0..FLUSH_ROUNDS_MAX {
            let now = self.parts.clock.now();
            let train = &mut self.train;
            let flushed = self.links.iter_mut().map(|link| (link.id(), link.flush(now, train)));
            let failed: Vec<_> = flushed.filter_map(|(link, flushed)| Some((link, flushed.err()?))).collect();
            let back: Vec<_> = self.links.iter_mut().filter_map(|link| link.is_back().then(|| link.id())).collect();
            if failed.is_empty() && back.is_empty() {
                return;
            }
            for (link, kind) in failed {
                self.tell(now, SenderInput::LinkError { link, kind });
            }
            for link in back {
                self.tell(now, SenderInput::LinkAddressChanged { link });
            }
        }
    }

    /// True once a closing flow has nothing left to do.
    fn is_done(&mut self) -> bool {
        let now = self.parts.clock.now();
        let Some(closing) = &mut self.closing else { return false };
        if now >= closing.give_up_at {
            return true;
        }
        if now < closing.check_at {
            return false;
        }
        closing.check_at = now + CLOSE_CHECK_INTERVAL;
        let snapshot = self.parts.machine.snapshot(now);
        // A plain RIST receiver confirms nothing: it may ask again until the budget is spent.
        snapshot.extension
            && snapshot.queued_packets == 0
            && snapshot.links.iter().all(|link| link.in_flight_packets == 0)
    }

    fn publish(&mut self) {
        let now = self.parts.clock.now();
        // Before the room: who sees that opens packs payloads of this length.
        let payload_bytes_max = self.parts.machine.payload_bytes_max();
        self.parts.published.payload_bytes_max.store(payload_bytes_max, Ordering::Relaxed);
        self.parts.published.room.store(self.parts.machine.room(now), Ordering::Release);
        if now >= self.advice_at {
            self.advice_at = now + ADVICE_INTERVAL;
            let advice = self.parts.machine.rate_advice(now);
            self.parts.published.rate_advice_bps.store(advice.as_bps(), Ordering::Relaxed);
        }
        if now >= self.snapshot_at {
            self.snapshot_at = now + SNAPSHOT_INTERVAL;
            let snapshot = Arc::new(self.parts.machine.snapshot(now));
            *lock(&self.parts.published.snapshot) = snapshot;
            *lock(&self.parts.published.counters) = self.links.iter().fold(self.removed, add_counters);
        }
    }

    fn sleep(&mut self, watched: &mut Vec<(LinkId, Channel)>, ready: &mut Vec<Ready>) {
        watched.clear();
        let ports = || {
            self.links.iter().flat_map(|link| link.sockets().ports().map(|(channel, port)| (link.id(), channel, port)))
        };
        watched.extend(ports().map(|(link, channel, _)| (link, channel)));
        let retry = self.links.iter().filter_map(|link| link.sockets().retry_at()).min().unwrap_or(Timestamp::MAX);
        let check = self.closing.as_ref().map_or(Timestamp::MAX, |closing| closing.check_at);
        let look = self.discovery.as_ref().and_then(Discovery::look_at).unwrap_or(Timestamp::MAX);
        let rest = self.parts.input.as_ref().and_then(UdpInput::due).unwrap_or(Timestamp::MAX);
        let now = self.parts.clock.now();
        let (machine, latency) = (&self.parts.machine, self.parts.latency);
        let rhythm = self.calm.rhythm(now, machine.is_pacing(), machine.longest_queue(), latency);
        self.parts.sleeper.set_rhythm(rhythm);
        let until = self.timeout_at.min(self.snapshot_at).min(retry).min(check).min(look).min(rest);
        let timeout = until.since(now);
        let has_work =
            || self.parts.signal.must_stop() || !self.parts.payloads.is_empty() || !self.parts.commands.is_empty();
        let links = ports().map(|(_, _, port)| port.watched());
        let input = self.parts.input.as_ref().map(|input| input.port().watched().busy());
        let news = self.news.as_ref().map(News::watched);
        self.parts.sleeper.sleep(
            &self.parts.signal.waker,
            links.chain(input).chain(news),
            self.backlog,
            timeout,
            has_work,
            ready,
        );
    }
}

impl Drop for Worker {
    /// However the thread ends, nobody goes on filling its queue.
    fn drop(&mut self) {
        self.parts.payloads.close();
    }
}

/// `sum` and what `link` counted.
fn add_counters(sum: SenderIoCounters, link: &Link) -> SenderIoCounters {
    SenderIoCounters {
        datagrams_dropped: sum.datagrams_dropped + link.sockets().dropped(),
        datagrams_foreign: sum.datagrams_foreign + link.counters.foreign,
        sockets_reopened: sum.sockets_reopened + link.counters.reopened,
        ..sum
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flow_thread::FlowThread;
    use crate::queue::Overflow;
    use crate::sender::rhythm;
    use bond::config::{ReceiverConfig, SenderConfig};
    use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
    use std::net::UdpSocket;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use units::Ecn;

    /// A worker with a link to each of the sockets.
    pub(crate) fn worker(receivers: &[UdpSocket]) -> Worker {
        let clock = Clock::start();
        let now = clock.now();
        let machine = Sender::new(SenderConfig::default(), 1, now).expect("settings");
        let published = Published {
            snapshot: Mutex::new(Arc::new(machine.snapshot(now))),
            counters: Mutex::default(),
            rate_advice_bps: AtomicU64::new(0),
            payload_bytes_max: AtomicUsize::new(0),
            room: AtomicUsize::new(0),
            events: Queue::new(64, Overflow::DropOldest),
        };
        let (signal, sleeper) = FlowThread::signal(rhythm::RHYTHM).expect("a pipe");
        let parts = Parts {
            machine,
            clock,
            profile: Profile::Main,
            latency: Duration::from_secs(1),
            payloads: Arc::new(Queue::new(8, Overflow::Refuse)),
            commands: Arc::new(Commands::default()),
            published: Arc::new(published),
            signal,
            sleeper,
            input: None,
        };
        let remotes = receivers.iter().map(|socket| socket.local_addr().expect("bound"));
        let links = remotes.zip(0..).map(|(remote, id)| LinkSpec::new(LinkId(id), remote)).collect();
        Worker::new(parts, links)
    }

    pub(crate) fn ask(worker: &Worker, command: Command) {
        worker.parts.commands.push(command);
    }

    /// What the flow is like after what was asked of it: latency, and each link with its options.
    pub(crate) fn carry_out(worker: &mut Worker) -> (Duration, Vec<String>) {
        worker.take_commands();
        let snapshot = worker.parts.machine.snapshot(worker.parts.clock.now());
        let mut links: Vec<_> = worker.links.iter().map(|link| format!("{} {:?}", link.id(), link.options())).collect();
        links.sort();
        assert_eq!(snapshot.links.len(), links.len());
        (snapshot.latency, links)
    }

    /// Has the receiver answer what has come.
    fn answer(receiver: &mut Receiver, clock: &Clock, sockets: &[UdpSocket]) {
        let mut buffer = [0; 2048];
        for (local, socket) in (0..).zip(sockets) {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (channel, bytes) = (Channel::Media, &mut buffer[..length]);
                let input = ReceiverInput::Datagram { local, from, channel, ecn: Ecn::NotEct, bytes };
                receiver.handle_input(clock.now(), input);
            }
        }
        loop {
            match receiver.poll_output(clock.now()) {
                ReceiverOutput::Transmit { local, to, bytes, .. } => {
                    sockets[usize::from(local)].send_to(&bytes, to).expect("sent");
                }
                ReceiverOutput::Timeout(_) => return,
                _ => {}
            }
        }
    }

    /// Thirty turns of this length with three links whose answers wait in their sockets for a turn: the round trips measured, in
    /// milliseconds, and the longest turn that came of it.
    fn measure(turn: Duration) -> (Vec<f64>, Duration) {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        for socket in &sockets {
            socket.set_nonblocking(true).expect("a socket");
        }
        let mut worker = worker(&sockets);
        let clock = worker.parts.clock;
        let mut receiver = Receiver::new(ReceiverConfig::default(), 2, clock.now()).expect("settings");
        let watched: Vec<_> = (0..3).map(|id| (LinkId(id), Channel::Media)).collect();
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            let began = clock.now();
            worker.take_arrivals(&watched, &[Ready { read: true, write: false }; 3]);
            worker.keep_time();
            worker.flush_links();
            answer(&mut receiver, &clock, &sockets);
            std::thread::sleep(turn);
            longest = longest.max(clock.now() - began);
        }
        let snapshot = worker.parts.machine.snapshot(clock.now());
        (snapshot.links.iter().map(|link| link.rtt.expect("measured").as_secs_f64() * 1e3).collect(), longest)
    }

    /// Every answer waits in its socket for the same time, whichever is read first. A machine that is too busy for such turns is
    /// asked again.
    #[test]
    fn every_link_is_measured_by_when_its_answers_came() {
        const TURN: Duration = Duration::from_millis(20);
        let (mut times, mut longest) = measure(TURN);
        for _ in 0..9 {
            if longest < TURN * 3 / 2 {
                break;
            }
            (times, longest) = measure(TURN);
        }
        let most = TURN.as_secs_f64() * 1e3 / 3.0;
        assert!(times.len() == 3 && times.iter().all(|rtt| *rtt < most), "{times:?} ms, turns of up to {longest:?}");
    }
}
