//! From standard input to the flow.

use super::feed::{ROOM_PAUSE, TURN_MAX, push_patiently};
use anyhow::{Context, ensure};
use bond::PacketClass;
use bytes::Bytes;
use link_io::media::{FULL_PAYLOAD_BYTES, MediaClock, Packer, TS_PACKET_BYTES};
use link_io::sender::FlowSender;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of standard input that may belong to no TS packet before it is refused, unless most of it does.
const FOREIGN_BYTES_MAX: u64 = 64 * 1024;

/// Standard input on its way.
pub(crate) struct PipeFeed {
    input: File,
    /// Counts in the time of `clock`.
    packer: Packer<Duration>,
    clock: MediaClock,
    /// What the last read gave, each with the time of its first byte: it waits for the links.
    held: Vec<(Bytes, PacketClass, Duration)>,
    ended: bool,
}

impl PipeFeed {
    /// Reads from now on.
    ///
    /// # Errors
    /// No file descriptor left.
    pub(crate) fn open(input: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            input: input.try_clone_to_owned()?.into(),
            packer: Packer::new(),
            clock: MediaClock::start(Instant::now()),
            held: Vec::new(),
            ended: false,
        })
    }

    /// Passes on what one read gives, as soon as the links carry it, and what has waited long enough for more. Bytes between TS
    /// packets are left out.
    pub(crate) fn pass_on(&mut self, sender: &FlowSender) -> anyhow::Result<bool> {
        if !self.held.is_empty() {
            if !sender.has_room() {
                self.clock.stop(Instant::now());
                sleep(ROOM_PAUSE);
                return Ok(true);
            }
            self.clock.go_on(Instant::now());
            self.push_held(sender)?;
        }
        if self.ended {
            return Ok(false);
        }
        if self.wait() {
            self.read(sender.payload_bytes_max())?;
        } else if self.packer.due().is_some_and(|due| self.clock.time(Instant::now()) >= due) {
            self.finish();
        }
        Ok(true)
    }

    fn push_held(&mut self, sender: &FlowSender) -> anyhow::Result<()> {
        let now = self.clock.time(Instant::now());
        for (bytes, class, since) in self.held.drain(..) {
            push_patiently(|| sender.push_aged(bytes.clone(), class, now.saturating_sub(since)))?;
        }
        Ok(())
    }

    /// Passes on what there is room for of all that was read.
    pub(crate) fn let_go(&mut self, sender: &FlowSender) {
        self.finish();
        self.clock.go_on(Instant::now());
        let now = self.clock.time(Instant::now());
        for (bytes, class, since) in self.held.drain(..) {
            // Full or closed: there is no later.
            let _ = sender.push_aged(bytes, class, now.saturating_sub(since));
        }
    }

    /// Waits for something to read, no longer than packets may wait for others; true when there is some.
    fn wait(&self) -> bool {
        let rest = self.packer.due().map_or(TURN_MAX, |due| due.saturating_sub(self.clock.time(Instant::now())));
        let mut fds = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        // A signal only makes the wait shorter.
        ppoll(&mut fds, Some(TimeSpec::from_duration(rest.min(TURN_MAX))), None).is_ok_and(|ready| ready > 0)
    }

    fn read(&mut self, payload_bytes_max: usize) -> anyhow::Result<()> {
        let mut buffer = [0; 8 * FULL_PAYLOAD_BYTES];
        let read = match self.input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            read => read.context("reading standard input failed")?,
        };
        if read == 0 {
            self.ended = true;
            self.finish();
        }
        self.packer.limit(payload_bytes_max);
        let Ok(()) = self.packer.push(&buffer[..read], self.clock.time(Instant::now()), hold(&mut self.held));
        self.check_packets()
    }

    /// Lets go what did not fill a payload.
    fn finish(&mut self) {
        let Ok(()) = self.packer.finish(hold(&mut self.held));
    }

    fn check_packets(&self) -> anyhow::Result<()> {
        let (skipped, taken) = (self.packer.skipped_bytes(), self.packer.packets() * TS_PACKET_BYTES as u64);
        if self.ended && skipped > 0 {
            tracing::warn!(bytes = skipped, "standard input had bytes that belong to no TS packet");
        }
        ensure!(
            skipped < FOREIGN_BYTES_MAX || skipped < taken,
            "standard input is no MPEG transport stream: {skipped} of its first {} bytes belong to no TS packet",
            skipped + taken
        );
        Ok(())
    }
}

fn hold(
    held: &mut Vec<(Bytes, PacketClass, Duration)>,
) -> impl FnMut(Bytes, PacketClass, Duration) -> Result<(), Infallible> {
    |bytes, class, since| {
        held.push((bytes, class, since));
        Ok(())
    }
}
