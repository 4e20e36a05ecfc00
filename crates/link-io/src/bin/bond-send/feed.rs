//! From the input to the flow.

use anyhow::{Context, ensure};
use bond::PacketClass;
use bytes::Bytes;
use link_io::PushError;
use link_io::media::{Endpoint, FULL_PAYLOAD_BYTES, PacedFile, Packer, TS_PACKET_BYTES, UdpInput};
use link_io::sender::{FlowSender, SenderOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Pause before a payload is offered again to a full queue.
const FULL_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of standard input that may belong to no TS packet before it is refused, unless most of it does.
const FOREIGN_BYTES_MAX: u64 = 64 * 1024;

/// An open input.
pub(crate) enum Feed {
    /// The flow takes it by itself.
    Udp,
    File {
        input: Box<PacedFile<BufReader<File>>>,
        packer: Packer,
        started: Instant,
    },
    Standard {
        input: File,
        packer: Packer,
    },
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
                Self::File { input: Box::new(input), packer: Packer::new(), started: Instant::now() }
            }
            Endpoint::Standard => {
                let input = io::stdin().as_fd().try_clone_to_owned().with_context(input_failed)?;
                Self::Standard { input: input.into(), packer: Packer::new() }
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
            Self::File { input, packer, started } => pass_on_paced(input, packer, *started, sender),
            Self::Standard { input, packer } => pass_on_piped(input, packer, sender),
        }
    }
}

/// Passes on the payloads of one turn, each at its time.
fn pass_on_paced(
    input: &mut PacedFile<BufReader<File>>,
    packer: &mut Packer,
    started: Instant,
    sender: &FlowSender,
) -> anyhow::Result<bool> {
    let turn_ends = Instant::now() + TURN_MAX;
    while Instant::now() < turn_ends {
        let Some(payload) = input.next_payload()? else {
            packer.finish(|bytes, class| push_patiently(sender, &bytes, class, None))?;
            return Ok(false);
        };
        sleep((started + payload.due).saturating_duration_since(Instant::now()));
        packer.limit(sender.payload_bytes_max());
        packer.push(&payload.bytes, |bytes, class| push_patiently(sender, &bytes, class, Some(payload.due)))?;
    }
    Ok(true)
}

/// Passes on what one read gives, at once. Bytes between TS packets are left out.
fn pass_on_piped(input: &mut File, packer: &mut Packer, sender: &FlowSender) -> anyhow::Result<bool> {
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(TURN_MAX.as_millis() as u8)).unwrap_or(0) == 0 {
        return Ok(true);
    }
    let mut buffer = [0; 8 * FULL_PAYLOAD_BYTES];
    let read = match input.read(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        read => read.context("reading standard input failed")?,
    };
    let send = |bytes: Bytes, class| push_patiently(sender, &bytes, class, None);
    if read == 0 {
        packer.finish(send)?;
        if packer.skipped_bytes() > 0 {
            tracing::warn!(bytes = packer.skipped_bytes(), "standard input had bytes that belong to no TS packet");
        }
        return Ok(false);
    }
    packer.limit(sender.payload_bytes_max());
    packer.push(&buffer[..read], send)?;
    let (skipped, taken) = (packer.skipped_bytes(), packer.packets() * TS_PACKET_BYTES as u64);
    ensure!(
        skipped < FOREIGN_BYTES_MAX || skipped < taken,
        "standard input is no MPEG transport stream: {skipped} of its first {} bytes belong to no TS packet",
        skipped + taken
    );
    Ok(true)
}

/// Waits for room: a file or pipe can.
fn push_patiently(
    sender: &FlowSender,
    payload: &Bytes,
    class: PacketClass,
    source_time: Option<Duration>,
) -> Result<(), PushError> {
    loop {
        match sender.push(payload.clone(), class, source_time) {
            Err(PushError::Full) => sleep(FULL_PAUSE),
            done => return done,
        }
    }
}
