//! Waking a flow's thread out of `ppoll`, and the wait itself.
//!
//! An idle thread waits in `ppoll`. A busy one sleeps in its rhythm and then looks at its busy sockets at once; which of the
//! others have something `epoll` tells, at a cost that does not grow with their number.

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Sockets of which `epoll` tells at once; what others have is told the next time.
const TOLD_MAX: usize = 32;
/// How long a busy thread stays in its rhythm after the last time it had work to do.
const BUSY_HOLD: Duration = Duration::from_millis(10);
/// The longest a flow's thread sleeps whatever its timers say: a bound for the age of snapshots.
pub(crate) const SLEEP_MAX: Duration = Duration::from_millis(250);

/// Wakes the thread that owns the matching [`Sleeper`].
///
/// Costs a system call only while that thread sleeps: at 2000 payloads per second most find it awake.
#[derive(Debug)]
pub(crate) struct Waker {
    asleep: AtomicBool,
    pipe: PipeWriter,
}

impl Waker {
    /// Lets the sleeper return now, or not fall asleep next time.
    pub(crate) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // At most one byte is ever in the pipe, so this cannot block; it fails only when the sleeper is gone.
            let _ = (&self.pipe).write(&[1]);
        }
    }
}

/// The rhythm of a thread while it is busy.
///
/// Waking an idle core costs more than sending a packet. At thousands of packets a second a thread that serves what came
/// together in a few milliseconds needs a third of the time of one that is woken for each; the kernel stamps arrivals, so
/// no measurement suffers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// Timers are served no more often than this.
    pub(crate) timers: Duration,
    /// Arrivals and payloads are taken no more often than this, or together with a timer.
    pub(crate) arrivals: Duration,
}

/// Whether a turn took everything there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// There was nothing.
    Empty,
    /// Something, and nothing was left in any socket.
    None,
    /// A socket gave as much as a turn takes: go on at once.
    Left,
}

impl Backlog {
    /// There was something.
    pub(crate) fn worked(self) -> Self {
        if self == Self::Empty { Self::None } else { self }
    }
}

/// The sleeping end of a [`Waker`].
#[derive(Debug)]
pub(crate) struct Sleeper {
    pipe: PipeReader,
    rhythm: Rhythm,
    turn_started: Instant,
    worked_at: Instant,
    quiet: Quiet,
}

/// A waker and its sleeper.
///
/// # Errors
/// No file descriptor left.
pub(crate) fn pair(rhythm: Rhythm) -> io::Result<(Waker, Sleeper)> {
    let (reader, writer) = io::pipe()?;
    let now = Instant::now();
    let waker = Waker { asleep: AtomicBool::new(false), pipe: writer };
    Ok((waker, Sleeper { pipe: reader, rhythm, turn_started: now, worked_at: now, quiet: Quiet::default() }))
}

/// Tells a socket from all others of the process, also from a later one with the same descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId(u64);

impl SocketId {
    /// An id that no other socket has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One socket to watch.
pub(crate) struct Watched<'a> {
    id: SocketId,
    fd: BorrowedFd<'a>,
    want_write: bool,
    busy: bool,
}

impl<'a> Watched<'a> {
    /// Watches for datagrams, and for room to send when `want_write`.
    pub(crate) fn new(id: SocketId, socket: &'a impl AsFd, want_write: bool) -> Self {
        Self { id, fd: socket.as_fd(), want_write, busy: false }
    }

    /// Something comes on it most of the time, so that looking is as cheap as asking.
    pub(crate) fn busy(self) -> Self {
        Self { busy: true, ..self }
    }

    fn poll_fd(&self) -> PollFd<'a> {
        let flags = if self.want_write { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        PollFd::new(self.fd, flags)
    }
}

/// The sockets that are not busy, as `epoll` knows them.
#[derive(Debug, Default)]
struct Quiet {
    /// Closed sockets leave it by themselves. `None` where the system refuses it.
    epoll: Option<Epoll>,
    /// Those it knows, by their places among all that are watched.
    known: Vec<(usize, SocketId)>,
}

impl Quiet {
    /// Notes in `ready` which quiet sockets have something. False when the system does not tell.
    fn ask(&mut self, watched: &[Watched<'_>], ready: &mut [Ready]) -> bool {
        let quiet = || watched.iter().enumerate().filter(|(_, watched)| !watched.busy);
        if !quiet().map(|(place, watched)| (place, watched.id)).eq(self.known.iter().copied()) {
            self.epoll = Self::register(quiet()).ok();
            self.known = quiet().map(|(place, watched)| (place, watched.id)).collect();
        }
        if self.known.is_empty() {
            return true;
        }
        let Some(epoll) = &self.epoll else { return false };
        let mut told = [EpollEvent::empty(); TOLD_MAX];
        let Ok(count) = epoll.wait(&mut told, EpollTimeout::ZERO) else { return false };
        for event in &told[..count] {
            if let Some(ready) = ready.get_mut(event.data() as usize) {
                ready.read = true;
            }
        }
        true
    }

    fn register<'a>(sockets: impl Iterator<Item = (usize, &'a Watched<'a>)>) -> nix::Result<Epoll> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (place, watched) in sockets {
            epoll.add(watched.fd, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
        }
        Ok(epoll)
    }
}

/// What one watched socket is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ready {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Sleeper {
    /// Sleeps in this rhythm from now on.
    pub(crate) fn set_rhythm(&mut self, rhythm: Rhythm) {
        self.rhythm = rhythm;
    }

    /// Sleeps until a socket is ready, the waker is used, or `timeout` passed; fills `ready` in the order of `watched`.
    /// While the thread is busy it sleeps in its rhythm instead.
    ///
    /// `has_work` is asked after the sleep was announced: work queued by then makes this return at once, work queued
    /// later uses the waker. So no wake-up is lost and none is paid for twice.
    pub(crate) fn sleep<'a>(
        &'a mut self,
        waker: &Waker,
        watched: impl Iterator<Item = Watched<'a>>,
        backlog: Backlog,
        timeout: Duration,
        has_work: impl FnOnce() -> bool,
        ready: &mut Vec<Ready>,
    ) {
        let watched: Vec<Watched<'a>> = watched.collect();
        let timeout = if backlog == Backlog::Left { Duration::ZERO } else { timeout };
        if backlog != Backlog::Empty {
            self.worked_at = self.turn_started;
        }
        let pause = self.pause(timeout).filter(|_| backlog != Backlog::Left);
        if let Some(pause) = pause {
            std::thread::sleep(pause);
            // After a turn with work there hardly is one without.
            if backlog == Backlog::None && !watched.iter().any(|watched| watched.want_write) {
                ready.clear();
                ready.extend(watched.iter().map(|watched| Ready { read: watched.busy, write: false }));
                if self.quiet.ask(&watched, ready) {
                    self.turn_started = Instant::now();
                    return;
                }
            }
        }
        let mut fds = vec![PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        fds.extend(watched.iter().map(Watched::poll_fd));
        waker.asleep.store(true, Ordering::SeqCst);
        let has_work = has_work();
        // What came during the pause ends the wait at once; if nothing did, a turn would be for nothing.
        let left = timeout.min(SLEEP_MAX).saturating_sub(pause.unwrap_or_default());
        let timeout = if has_work { Duration::ZERO } else { left };
        // A signal or a shortage of kernel memory only makes the wait shorter; the caller looks at its sockets anyway.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
        waker.asleep.store(false, Ordering::SeqCst);
        self.turn_started = Instant::now();
        let flags = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        if has_work || fds.iter().any(|fd| flags(fd).contains(PollFlags::POLLIN)) {
            self.worked_at = self.turn_started;
        }
        if flags(&fds[0]).contains(PollFlags::POLLIN) {
            let _ = (&self.pipe).read(&mut [0; 8]);
        }
        ready.clear();
        ready.extend(fds[1..].iter().map(|fd| Ready {
            read: flags(fd).intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP),
            write: flags(fd).contains(PollFlags::POLLOUT),
        }));
    }

    /// How long to sleep whatever happens, when the next timer is due after `timeout`; `None` when not busy.
    fn pause(&self, timeout: Duration) -> Option<Duration> {
        let turn = self.turn_started.elapsed();
        let pause = timeout.min(self.rhythm.arrivals.saturating_sub(turn)).max(self.rhythm.timers.saturating_sub(turn));
        (self.worked_at.elapsed() < BUSY_HOLD).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    const RHYTHM: Rhythm = Rhythm { timers: Duration::from_millis(1), arrivals: Duration::from_millis(4) };

    fn idle_pair() -> (Waker, Sleeper) {
        let (waker, mut sleeper) = pair(RHYTHM).expect("a pipe");
        sleeper.worked_at = Instant::now().checked_sub(BUSY_HOLD).expect("a machine that is up");
        (waker, sleeper)
    }

    fn sleep_with(waker: &Waker, sleeper: &mut Sleeper, timeout: Duration, has_work: bool) -> Duration {
        let from = Instant::now();
        sleeper.sleep(waker, std::iter::empty(), Backlog::Empty, timeout, || has_work, &mut Vec::new());
        from.elapsed()
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_sleep() {
        let (waker, mut sleeper) = idle_pair();
        let waker = Arc::new(waker);
        let other = Arc::clone(&waker);
        let thread = std::thread::spawn(move || {
            while !other.asleep.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            other.wake();
        });
        assert!(sleep_with(&waker, &mut sleeper, SLEEP_MAX, false) < SLEEP_MAX);
        thread.join().expect("the waking thread");
        let (_, mut idle) = idle_pair();
        std::mem::swap(&mut idle.pipe, &mut sleeper.pipe);
        let slept = sleep_with(&waker, &mut idle, Duration::from_millis(5), false);
        assert!(slept >= Duration::from_millis(5), "the wake was used up, yet slept only {slept:?}");
    }

    #[test]
    fn queued_work_keeps_the_thread_awake() {
        let (waker, mut sleeper) = idle_pair();
        assert!(sleep_with(&waker, &mut sleeper, SLEEP_MAX, true) < SLEEP_MAX);
    }

    /// Timers at one millisecond, arrivals at four; a hiccup of the machine makes single sleeps longer, so the shortest of
    /// many counts.
    #[test]
    fn a_busy_thread_keeps_its_rhythm() {
        let (waker, mut sleeper) = idle_pair();
        let mut shortest = |timeout| {
            sleep_with(&waker, &mut sleeper, Duration::ZERO, true);
            let sleeps = (0..20).map(|_| {
                sleeper.turn_started = Instant::now();
                sleep_with(&waker, &mut sleeper, timeout, true)
            });
            sleeps.min().expect("twenty sleeps")
        };
        let timer = shortest(Duration::from_micros(300));
        assert!((1000..2000).contains(&timer.as_micros()), "{timer:?}");
        let arrival = shortest(SLEEP_MAX);
        assert!((4000..5500).contains(&arrival.as_micros()), "{arrival:?}");
        let between = shortest(Duration::from_millis(2));
        assert!((2000..3500).contains(&between.as_micros()), "{between:?}");
    }

    #[test]
    fn a_backlog_is_worked_off_without_a_pause() {
        let (waker, mut sleeper) = idle_pair();
        sleep_with(&waker, &mut sleeper, Duration::ZERO, true);
        let hurried = (0..20).map(|_| {
            let from = Instant::now();
            sleeper.sleep(&waker, std::iter::empty(), Backlog::Left, SLEEP_MAX, || false, &mut Vec::new());
            from.elapsed()
        });
        let shortest = hurried.min().expect("twenty sleeps");
        assert!(shortest < RHYTHM.timers, "{shortest:?}");
    }

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").expect("a socket")
    }

    fn send(to: &UdpSocket) {
        socket().send_to(b"x", to.local_addr().expect("an address")).expect("a datagram");
    }

    const NOTHING: Ready = Ready { read: false, write: false };
    const READ: Ready = Ready { read: true, write: false };
    const WRITE: Ready = Ready { read: false, write: true };

    #[test]
    fn a_busy_thread_looks_at_busy_sockets_and_asks_for_the_others() {
        let (waker, mut sleeper) = idle_pair();
        let (ids, sockets) = ([0; 3].map(|_| SocketId::new()), [0; 3].map(|_| socket()));
        let mut ready = Vec::new();
        let mut turn = |sleeper: &mut Sleeper, want_write| {
            let watched = |i: usize| Watched::new(ids[i], &sockets[i], want_write && i == 1);
            let watched = [watched(0), watched(1).busy(), watched(2)];
            sleeper.turn_started = Instant::now();
            sleeper.sleep(&waker, watched.into_iter(), Backlog::None, Duration::from_millis(1), || false, &mut ready);
            ready.clone()
        };
        assert_eq!(turn(&mut sleeper, false), [NOTHING, READ, NOTHING]);
        send(&sockets[2]);
        assert_eq!(turn(&mut sleeper, false), [NOTHING, READ, READ]);
        assert_eq!(turn(&mut sleeper, true), [NOTHING, WRITE, READ], "room to send is asked for");
        sockets[2].recv(&mut [0; 8]).expect("what was sent");
        assert_eq!(turn(&mut sleeper, false), [NOTHING, READ, NOTHING]);
        send(&sockets[0]);
        assert_eq!(turn(&mut sleeper, false), [READ, READ, NOTHING]);
    }

    #[test]
    fn sockets_that_come_go_or_are_opened_again_are_known() {
        let mut quiet = Quiet::default();
        let mut ask = |watched: &[(SocketId, &UdpSocket)]| {
            let watched: Vec<_> = watched.iter().map(|(id, socket)| Watched::new(*id, *socket, false)).collect();
            let mut ready = vec![NOTHING; watched.len()];
            assert!(quiet.ask(&watched, &mut ready));
            ready
        };
        let (first, second) = ((SocketId::new(), socket()), (SocketId::new(), socket()));
        send(&second.1);
        assert_eq!(ask(&[(first.0, &first.1)]), [NOTHING]);
        assert_eq!(ask(&[(first.0, &first.1), (second.0, &second.1)]), [NOTHING, READ]);
        assert_eq!(ask(&[(second.0, &second.1)]), [READ]);
        assert_eq!(ask(&[]), []);
        assert_eq!(ask(&[(first.0, &first.1)]), [NOTHING]);
        // Another socket takes the descriptor of one that was closed.
        let descriptor = first.1.as_fd().as_raw_fd();
        drop(first);
        let third = socket();
        assert_eq!(third.as_fd().as_raw_fd(), descriptor, "the lowest that is free");
        send(&third);
        assert_eq!(ask(&[(SocketId::new(), &third)]), [READ]);
    }

    #[test]
    fn each_socket_reports_what_it_is_ready_for() {
        let (waker, mut sleeper) = idle_pair();
        let sockets = [socket(), socket()];
        send(&sockets[1]);
        let mut ready = Vec::new();
        let watched = sockets.iter().enumerate().map(|(i, s)| Watched::new(SocketId::new(), s, i == 0));
        sleeper.sleep(&waker, watched, Backlog::Empty, SLEEP_MAX, || false, &mut ready);
        assert_eq!(ready, [WRITE, READ]);
    }
}
