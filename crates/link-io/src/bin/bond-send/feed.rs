//! From the input to the flow.

use super::pipe::PipeFeed;
use anyhow::Context;
use bond::PacketClass;
use bytes::Bytes;
use link_io::PushError;
use link_io::media::{Endpoint, PacedFile, Packer, UdpInput};
use link_io::sender::{FlowSender, SenderOptions};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before the caller gets to look at signals and statistics.
pub(crate) const TURN_MAX: Duration = Duration::from_millis(100);
/// Pause before it is asked again whether the links carry more.
pub(crate) const ROOM_PAUSE: Duration = Duration::from_millis(2);

/// A file on its way.
pub(crate) struct FileFeed {
    input: PacedFile<BufReader<File>>,
    /// Counts in media time.
    packer: Packer<Duration>,
    /// When a payload that is due at 0 would be sent: later than the beginning by what the file was held back.
    started: Instant,
    /// The same in media time, which goes with every payload.
    held: Duration,
    /// The links carried no more when it was last asked.
    waited: bool,
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
                Self::Standard(Box::new(PipeFeed::open(io::stdin().as_fd()).with_context(input_failed)?))
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

    /// Passes on, without waiting, what the input has given already and will not give again.
    pub(crate) fn let_go(&mut self, sender: &FlowSender) {
        match self {
            // The flow sends it when it is closed.
            Self::Udp => {}
            Self::File(file) => file.let_go(sender),
            Self::Standard(pipe) => pipe.let_go(sender),
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
                self.finish(sender)?;
                return Ok(false);
            };
            self.go_on(payload.due);
            if let Some(due) = self.packer.due().filter(|due| *due < payload.due) {
                self.sleep_until(due);
                self.finish(sender)?;
            }
            self.sleep_until(payload.due);
            self.packer.limit(sender.payload_bytes_max());
            let push = push_timed(sender, self.held);
            self.packer.push(&payload.bytes, payload.due, push)?;
        }
        Ok(true)
    }

    /// After a wait it goes on at its own speed with what is due at `due`, instead of making up for what it waited.
    fn go_on(&mut self, due: Duration) {
        if std::mem::take(&mut self.waited) {
            let late = Instant::now().saturating_duration_since(self.started + due);
            self.started += late;
            self.held += late;
        }
    }

    fn sleep_until(&self, due: Duration) {
        sleep((self.started + due).saturating_duration_since(Instant::now()));
    }

    /// Passes on what did not fill a payload, if there is room.
    fn let_go(&mut self, sender: &FlowSender) {
        let Some(since) = self.packer.waiting_since() else { return };
        self.go_on(since);
        let held = self.held;
        // Full or closed: there is no later.
        let _ = self.packer.finish(|bytes, class, due| sender.push(bytes, class, Some(due + held)));
    }

    /// Passes on what did not fill a payload.
    fn finish(&mut self, sender: &FlowSender) -> Result<(), PushError> {
        self.packer.finish(push_timed(sender, self.held))
    }
}

/// Pushes payloads with their media time, which goes on from what the file was held back by.
fn push_timed(
    sender: &FlowSender,
    held: Duration,
) -> impl FnMut(Bytes, PacketClass, Duration) -> Result<(), PushError> {
    move |bytes, class, due| push_patiently(|| sender.push(bytes.clone(), class, Some(due + held)))
}

/// Waits for room in the queue, which has some for what one read gives when the links have room.
pub(crate) fn push_patiently(mut push: impl FnMut() -> Result<(), PushError>) -> Result<(), PushError> {
    loop {
        match push() {
            Err(PushError::Full) => sleep(ROOM_PAUSE),
            done => return done,
        }
    }
}
