//! From the flow to the output.

use anyhow::Context;
use link_io::media::{Endpoint, UdpOutput};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::thread::sleep;
use std::time::Duration;

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Packets written in one turn at most.
const TURN_PACKETS_MAX: usize = 256;

/// An open output.
pub(crate) enum Drain {
    /// The flow gives it by itself.
    Udp,
    Stream(BufWriter<Box<dyn Write>>),
}

impl Drain {
    /// Opens the output, and the flow that is written to it.
    pub(crate) fn open(endpoint: &Endpoint, options: ReceiverOptions) -> anyhow::Result<(Self, FlowReceiver)> {
        let output_failed = || format!("cannot open {endpoint}");
        let stream: Box<dyn Write> = match endpoint {
            Endpoint::Udp(address) => {
                let output = UdpOutput::open(*address).with_context(output_failed)?;
                return Ok((Self::Udp, FlowReceiver::open_to_udp(options, output)?));
            }
            Endpoint::File(path) => Box::new(File::create(path).with_context(output_failed)?),
            Endpoint::Standard => Box::new(io::stdout()),
        };
        Ok((Self::Stream(BufWriter::new(stream)), FlowReceiver::open(options)?))
    }

    /// Writes what is there, waiting a little for the first packet.
    pub(crate) fn take_from(&mut self, receiver: &FlowReceiver) -> anyhow::Result<()> {
        let Self::Stream(output) = self else {
            sleep(TURN_MAX);
            return Ok(());
        };
        let mut wait = TURN_MAX;
        for _ in 0..TURN_PACKETS_MAX {
            let Some(delivered) = receiver.recv_timeout(wait)? else { break };
            wait = Duration::ZERO;
            output.write_all(&delivered.bytes).context("writing the output failed")?;
        }
        output.flush().context("writing the output failed")
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Udp => Ok(()),
            Self::Stream(mut output) => output.flush().context("writing the output failed"),
        }
    }
}
