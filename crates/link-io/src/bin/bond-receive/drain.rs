//! From the flows to the outputs.

use super::arguments::FlowOutput;
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

type Stream = BufWriter<Box<dyn Write>>;

/// The open outputs that are no UDP: those the flow gives to by itself.
pub(crate) struct Drain {
    /// With the virtual port of the flow that goes there.
    streams: Vec<(Option<u16>, Stream)>,
}

impl Drain {
    /// Opens the outputs, and the flows that are written to them.
    pub(crate) fn open(outputs: &[FlowOutput], options: ReceiverOptions) -> anyhow::Result<(Self, FlowReceiver)> {
        let (mut streams, mut udp) = (Vec::new(), Vec::new());
        for FlowOutput { port, endpoint } in outputs {
            let failed = || format!("cannot open {endpoint}");
            let stream: Box<dyn Write> = match endpoint {
                Endpoint::Udp(address) => {
                    udp.push((*port, UdpOutput::open(*address).with_context(failed)?));
                    continue;
                }
                Endpoint::File(path) => Box::new(File::create(path).with_context(failed)?),
                Endpoint::Standard => Box::new(io::stdout()),
            };
            streams.push((*port, BufWriter::new(stream)));
        }
        Ok((Self { streams }, FlowReceiver::open_to(options, udp)?))
    }

    /// Writes what is there, waiting a little for the first packet.
    pub(crate) fn take_from(&mut self, receiver: &FlowReceiver) -> anyhow::Result<()> {
        if self.streams.is_empty() {
            sleep(TURN_MAX);
            return Ok(());
        }
        let mut wait = TURN_MAX;
        for _ in 0..TURN_PACKETS_MAX {
            let Some(delivered) = receiver.recv_timeout(wait)? else { break };
            wait = Duration::ZERO;
            let takes = |port: Option<u16>| port.is_none_or(|port| port == delivered.virtual_port);
            if let Some((_, stream)) = self.streams.iter_mut().find(|(port, _)| takes(*port)) {
                stream.write_all(&delivered.bytes).context("writing the output failed")?;
            }
        }
        self.finish()
    }

    /// Writes what is still held.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        self.streams.iter_mut().try_for_each(|(_, stream)| stream.flush().context("writing the output failed"))
    }
}
