//! Waking a flow's thread out of `ppoll`, and the wait itself.

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// The sleeping end of a [`Waker`].
#[derive(Debug)]
pub(crate) struct Sleeper {
    pipe: PipeReader,
}

/// A waker and its sleeper.
///
/// # Errors
/// No file descriptor left.
pub(crate) fn pair() -> io::Result<(Waker, Sleeper)> {
    let (reader, writer) = io::pipe()?;
    Ok((Waker { asleep: AtomicBool::new(false), pipe: writer }, Sleeper { pipe: reader }))
}

/// One socket to watch, and what happened to it.
pub(crate) struct Watched<'a> {
    fd: PollFd<'a>,
}

impl<'a> Watched<'a> {
    /// Watches for datagrams, and for room to send when `want_write`.
    pub(crate) fn new(socket: &'a impl AsFd, want_write: bool) -> Self {
        let flags = if want_write { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        Self { fd: PollFd::new(socket.as_fd(), flags) }
    }
}

/// What one watched socket is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ready {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Sleeper {
    /// Sleeps until a socket is ready, the waker is used, or `timeout` passed; fills `ready` in the order of `watched`.
    ///
    /// `has_work` is asked after the sleep was announced: work queued by then makes this return at once, work queued
    /// later uses the waker. So no wake-up is lost and none is paid for twice.
    pub(crate) fn sleep<'a>(
        &'a self,
        waker: &Waker,
        watched: impl Iterator<Item = Watched<'a>>,
        timeout: Duration,
        has_work: impl FnOnce() -> bool,
        ready: &mut Vec<Ready>,
    ) {
        let mut fds: Vec<PollFd<'a>> = Vec::with_capacity(16);
        fds.push(PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN));
        fds.extend(watched.map(|w| w.fd));
        waker.asleep.store(true, Ordering::SeqCst);
        let timeout = if has_work() { Duration::ZERO } else { timeout.min(SLEEP_MAX) };
        // A signal or a shortage of kernel memory only makes the wait shorter; the caller looks at its sockets anyway.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
        waker.asleep.store(false, Ordering::SeqCst);
        let flags = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        if flags(&fds[0]).contains(PollFlags::POLLIN) {
            let _ = (&self.pipe).read(&mut [0; 8]);
        }
        ready.clear();
        ready.extend(fds[1..].iter().map(|fd| Ready {
            read: flags(fd).intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP),
            write: flags(fd).contains(PollFlags::POLLOUT),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::Instant;

    fn sleep_with(waker: &Waker, sleeper: &Sleeper, timeout: Duration, has_work: bool) -> Duration {
        let from = Instant::now();
        sleeper.sleep(waker, std::iter::empty(), timeout, || has_work, &mut Vec::new());
        from.elapsed()
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_sleep() {
        let (waker, sleeper) = pair().expect("a pipe");
        let waker = Arc::new(waker);
        let other = Arc::clone(&waker);
        let thread = std::thread::spawn(move || {
            while !other.asleep.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            other.wake();
        });
        assert!(sleep_with(&waker, &sleeper, SLEEP_MAX, false) < SLEEP_MAX);
        thread.join().expect("the waking thread");
        let slept = sleep_with(&waker, &sleeper, Duration::from_millis(5), false);
        assert!(slept >= Duration::from_millis(5), "the wake was used up, yet slept only {slept:?}");
    }

    #[test]
    fn queued_work_keeps_the_thread_awake() {
        let (waker, sleeper) = pair().expect("a pipe");
        assert!(sleep_with(&waker, &sleeper, SLEEP_MAX, true) < SLEEP_MAX);
    }

    #[test]
    fn a_sleep_is_shorter_than_a_millisecond_when_asked() {
        let (waker, sleeper) = pair().expect("a pipe");
        let shortest = (0..20).map(|_| sleep_with(&waker, &sleeper, Duration::from_micros(300), false)).min();
        let shortest = shortest.expect("twenty sleeps");
        assert!(shortest >= Duration::from_micros(300) && shortest < Duration::from_millis(1), "{shortest:?}");
    }

    #[test]
    fn each_socket_reports_what_it_is_ready_for() {
        let (waker, sleeper) = pair().expect("a pipe");
        let sockets = [UdpSocket::bind("127.0.0.1:0").expect("a socket"), UdpSocket::bind("127.0.0.1:0").expect("one")];
        let to = sockets[1].local_addr().expect("an address");
        sockets[0].send_to(b"x", to).expect("a datagram");
        let mut ready = Vec::new();
        let watched = sockets.iter().enumerate().map(|(i, s)| Watched::new(s, i == 0));
        sleeper.sleep(&waker, watched, SLEEP_MAX, || false, &mut ready);
        assert_eq!(ready, [Ready { read: false, write: true }, Ready { read: true, write: false }]);
    }
}
