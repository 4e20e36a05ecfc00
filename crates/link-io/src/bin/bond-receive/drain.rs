//! From the flow to the output.

use anyhow::Context;
use link_io::media::{Endpoint, UdpOutput};
use link_io::receiver::FlowReceiver;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Packets written in one turn at most.
const TURN_PACKETS_MAX: usize = 256;

/// An open output.
pub(crate) enum Drain {
    Udp(UdpOutput),
    Stream(BufWriter<Box<dyn Write>>),
}

impl Drain {
    pub(crate) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Udp(address) => Self::Udp(UdpOutput::open(*address)?),
            Endpoint::File(path) => Self::Stream(BufWriter::new(Box::new(File::create(path)?))),
            Endpoint::Standard => Self::Stream(BufWriter::new(Box::new(io::stdout()))),
        })
    }

    /// Writes what is there, waiting a little for the first packet.
    pub(crate) fn take_from(&mut self, receiver: &FlowReceiver) -> anyhow::Result<()> {
        let mut wait = TURN_MAX;
        for _ in 0..TURN_PACKETS_MAX {
            let Some(delivered) = receiver.recv_timeout(wait)? else { break };
            wait = Duration::ZERO;
            match self {
                Self::Udp(output) => output.post(delivered.bytes),
                Self::Stream(output) => output.write_all(&delivered.bytes).context("writing the output failed")?,
            }
        }
        match self {
            Self::Udp(output) => output.flush(),
            Self::Stream(output) => output.flush().context("writing the output failed")?,
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Udp(_) => Ok(()),
            Self::Stream(mut output) => output.flush().context("writing the output failed"),
        }
    }
}
