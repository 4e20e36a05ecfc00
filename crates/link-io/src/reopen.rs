//! When a failed socket is opened again, and what its errors mean.

use bond::sender::LinkErrorKind;
use std::io;
use std::time::Duration;
use units::Timestamp;

/// Pause before the first attempt to open a socket again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The pause doubles up to this.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The growing pause between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: PAUSE_MIN }
    }
}

impl Backoff {
    /// When to try next, after a failure at `now`.
    pub(crate) fn failed(&mut self, now: Timestamp) -> Timestamp {
        let at = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        at
    }

    /// True when the socket has worked since it failed last: the next failure is news.
    pub(crate) fn is_fresh(self) -> bool {
        self.pause == PAUSE_MIN
    }

    /// The socket works.
    pub(crate) fn worked(&mut self) {
        self.pause = PAUSE_MIN;
    }
}

/// What to do about a socket that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The socket is sound; only this datagram was not taken.
    Keep,
    /// The socket belongs to an address or interface that is gone.
    Reopen,
}

/// What an error of sending or receiving tells.
pub(crate) fn diagnose(error: &io::Error) -> (LinkErrorKind, Remedy) {
    use nix::errno::Errno;
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN => (LinkErrorKind::BufferFull, Remedy::Keep),
        // The size is known where it was sent.
        Errno::EMSGSIZE => (LinkErrorKind::TooLarge { bytes: 0 }, Remedy::Keep),
        // A packet filter on this machine.
        Errno::EPERM | Errno::EACCES => (LinkErrorKind::Other, Remedy::Keep),
        Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::ENODEV
        | Errno::ENXIO
        | Errno::EADDRNOTAVAIL
        | Errno::EINVAL => (LinkErrorKind::Unreachable, Remedy::Reopen),
        _ => (LinkErrorKind::Other, Remedy::Reopen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_its_bound_and_starts_over_when_the_socket_works() {
        let mut backoff = Backoff::default();
        let now = Timestamp::from_millis(1);
        assert!(backoff.is_fresh());
        let pauses: Vec<u128> = (0..7).map(|_| (backoff.failed(now) - now).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert!(!backoff.is_fresh());
        backoff.worked();
        assert!(backoff.is_fresh());
        assert_eq!(backoff.failed(now) - now, PAUSE_MIN);
    }

    #[test]
    fn only_a_lost_address_or_interface_costs_the_socket() {
        let diagnosed = |errno: i32| diagnose(&io::Error::from_raw_os_error(errno));
        assert_eq!(diagnosed(nix::libc::ENOBUFS), (LinkErrorKind::BufferFull, Remedy::Keep));
        assert_eq!(diagnosed(nix::libc::EMSGSIZE), (LinkErrorKind::TooLarge { bytes: 0 }, Remedy::Keep));
        assert_eq!(diagnosed(nix::libc::ENODEV), (LinkErrorKind::Unreachable, Remedy::Reopen));
        assert_eq!(diagnosed(nix::libc::ENETUNREACH), (LinkErrorKind::Unreachable, Remedy::Reopen));
        assert_eq!(diagnosed(nix::libc::EIO), (LinkErrorKind::Other, Remedy::Reopen));
    }
}
