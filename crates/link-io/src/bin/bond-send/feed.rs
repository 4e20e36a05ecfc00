//! From the input to the flow.

use anyhow::Context;
use bond::PacketClass;
use bytes::{Bytes, BytesMut};
use link_io::PushError;
use link_io::media::{Endpoint, PacedFile, TS_PACKET_BYTES, UdpInput};
use link_io::sender::{FlowSender, SenderOptions};
use std::fs::File;
use std::io::{self, BufReader, Read, Stdin};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Pause before a payload is offered again to a full queue.
const FULL_PAUSE: Duration = Duration::from_millis(2);
/// Payload of standard input.
const PAYLOAD_BYTES: usize = 7 * TS_PACKET_BYTES;

/// An open input.
pub(crate) enum Feed {
    /// The flow takes it by itself.
    Udp,
    File {
        input: Box<PacedFile<BufReader<File>>>,
        started: Instant,
    },
    Standard(Stdin),
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
                Self::File { input: Box::new(input), started: Instant::now() }
            }
            Endpoint::Standard => Self::Standard(io::stdin()),
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
            Self::File { input, started } => pass_on_paced(input, *started, sender),
            Self::Standard(input) => {
                let mut payload = BytesMut::zeroed(PAYLOAD_BYTES);
                let length = read_full(input, &mut payload).context("reading standard input failed")?;
                payload.truncate(length);
                if length > 0 {
                    push_patiently(sender, &payload.freeze(), None)?;
                }
                Ok(length == PAYLOAD_BYTES)
            }
        }
    }
}

/// Passes on the payloads of one turn, each at its time.
fn pass_on_paced(
    input: &mut PacedFile<BufReader<File>>,
    started: Instant,
    sender: &FlowSender,
) -> anyhow::Result<bool> {
    let turn_ends = Instant::now() + TURN_MAX;
    while Instant::now() < turn_ends {
        let Some(payload) = input.next_payload()? else { return Ok(false) };
        sleep((started + payload.due).saturating_duration_since(Instant::now()));
        push_patiently(sender, &payload.bytes, Some(payload.due))?;
    }
    Ok(true)
}

/// Waits for room: a file or pipe can.
fn push_patiently(sender: &FlowSender, payload: &Bytes, source_time: Option<Duration>) -> Result<(), PushError> {
    loop {
        match sender.push(payload.clone(), PacketClass::Video, source_time) {
            Err(PushError::Full) => sleep(FULL_PAUSE),
            done => return done,
        }
    }
}

/// Fills `buffer` unless the input ends; the number of bytes read.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
