//! From the input to the flow.

use anyhow::{Context, ensure};
use bond::PacketClass;
use bytes::Bytes;
use link_io::PushError;
use link_io::media::{Endpoint, FULL_PAYLOAD_BYTES, PacedFile, Packer, TS_PACKET_BYTES, UdpInput};
use link_io::sender::{FlowSender, SenderOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Pause before it is asked again whether the links carry more.
const ROOM_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of standard input that may belong to no TS packet before it is refused, unless most of it does.
const FOREIGN_BYTES_MAX: u64 = 64 * 1024;

/// A file on its way.
pub(crate) struct FileFeed {
    input: PacedFile<BufReader<File>>,
    packer: Packer,
    /// When a payload that is due at 0 would be sent: later than the beginning by what the file was held back.
    started: Instant,
    /// The same in media time, which goes with every payload.
    held: Duration,
    /// The links carried no more when it was last asked.
    waited: bool,
}

/// Standard input on its way.
pub(crate) struct PipeFeed {
    input: File,
    packer: Packer,
    /// What the last read gave: it waits for the links.
    held: Vec<(Bytes, PacketClass)>,
    ended: bool,
}

/// An open input.
pub(crate) enum Feed {
    /// The flow takes it by itself.
    Udp,
    File(Box<FileFeed>),
    Standard(Box<PipeFeed>),
}

impl Feed {
    /// Opens the input, and the flow that is fed from it.
    pub(crate) fn open(endpoint: &Endpoint, options: SenderOptions) -> anyhow::Result<(Self, FlowSender)> {
        let input_failed = || format!("cannot open {endpoint}");
        let feed = match endpoint {
            Endpoint::Udp(address) => {
                let input = UdpInput::open(*address).with_context(input_failed)?;
                return Ok((Self::Udp, FlowSender::open_from_udp(options, input)?));
            }
            Endpoint::File(path) => {
                let file = File::open(path).with_context(input_failed)?;
                let input = PacedFile::open(BufReader::new(file)).with_context(input_failed)?;
                Self::File(Box::new(FileFeed {
                    input,
                    packer: Packer::new(),
                    started: Instant::now(),
                    held: Duration::ZERO,
                    waited: false,
                }))
            }
            Endpoint::Standard => {
                let input = io::stdin().as_fd().try_clone_to_owned().with_context(input_failed)?;
                Self::Standard(Box::new(PipeFeed {
                    input: input.into(),
                    packer: Packer::new(),
                    held: Vec::new(),
                    ended: false,
                }))
            }
        };
        Ok((feed, FlowSender::open(options)?))
    }

    /// Passes on what there is, waiting a little for more; false at the end of the input.
    pub(crate) fn pass_on(&mut self, sender: &FlowSender) -> anyhow::Result<bool> {
        match self {
            Self::Udp => {
                sleep(TURN_MAX);
                Ok(true)
            }
            Self::File(file) => file.pass_on(sender),
            Self::Standard(pipe) => pipe.pass_on(sender),
        }
    }
}

impl FileFeed {
    /// Passes on the payloads of one turn, each at its time, or later while the links carry less.
    fn pass_on(&mut self, sender: &FlowSender) -> anyhow::Result<bool> {
        let turn_ends = Instant::now() + TURN_MAX;
        while Instant::now() < turn_ends {
            if !sender.has_room() {
                self.waited = true;
                sleep(ROOM_PAUSE);
                continue;
            }
            let Some(payload) = self.input.next_payload()? else {
                self.packer.finish(|bytes, class| push_patiently(sender, &bytes, class, None))?;
                return Ok(false);
            };
            let now = Instant::now();
            if std::mem::take(&mut self.waited) {
                // It goes on at its own speed, instead of making up for what it waited.
                let late = now.saturating_duration_since(self.started + payload.due);
                self.started += late;
                self.held += late;
            }
            sleep((self.started + payload.due).saturating_duration_since(now));
            self.packer.limit(sender.payload_bytes_max());
            let time = Some(payload.due + self.held);
            self.packer.push(&payload.bytes, |bytes, class| push_patiently(sender, &bytes, class, time))?;
        }
        Ok(true)
    }
}

impl PipeFeed {
    /// Passes on what one read gives, as soon as the links carry it. Bytes between TS packets are left out.
    fn pass_on(&mut self, sender: &FlowSender) -> anyhow::Result<bool> {
        if !self.held.is_empty() {
            if !sender.has_room() {
                sleep(ROOM_PAUSE);
                return Ok(true);
            }
            self.held.drain(..).try_for_each(|(bytes, class)| push_patiently(sender, &bytes, class, None))?;
        }
        if self.ended {
            return Ok(false);
        }
        let mut fds = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(TURN_MAX.as_millis() as u8)).unwrap_or(0) == 0 {
            return Ok(true);
        }
        let mut buffer = [0; 8 * FULL_PAYLOAD_BYTES];
        let read = match self.input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            read => read.context("reading standard input failed")?,
        };
        self.ended = read == 0;
        let held = &mut self.held;
        let hold = |bytes: Bytes, class| {
            held.push((bytes, class));
            Ok::<(), Infallible>(())
        };
        self.packer.limit(sender.payload_bytes_max());
        let Ok(()) = if self.ended { self.packer.finish(hold) } else { self.packer.push(&buffer[..read], hold) };
        let (skipped, taken) = (self.packer.skipped_bytes(), self.packer.packets() * TS_PACKET_BYTES as u64);
        if self.ended && skipped > 0 {
            tracing::warn!(bytes = skipped, "standard input had bytes that belong to no TS packet");
        }
        ensure!(
            skipped < FOREIGN_BYTES_MAX || skipped < taken,
            "standard input is no MPEG transport stream: {skipped} of its first {} bytes belong to no TS packet",
            skipped + taken
        );
        Ok(true)
    }
}

/// Waits for room in the queue, which has some for what one read gives when the links have room.
fn push_patiently(
    sender: &FlowSender,
    payload: &Bytes,
    class: PacketClass,
    source_time: Option<Duration>,
) -> Result<(), PushError> {
    loop {
        match sender.push(payload.clone(), class, source_time) {
            Err(PushError::Full) => sleep(ROOM_PAUSE),
            done => return done,
        }
    }
}
