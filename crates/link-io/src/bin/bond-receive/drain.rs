//! From the flows to the outputs.

use super::arguments::FlowOutput;
use super::stream::{Stream, Written};
use anyhow::Context;
use link_io::media::{Endpoint, UdpOutput};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use std::io;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before the caller gets to look at signals and statistics.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Packets taken in one turn at most.
const TURN_PACKETS_MAX: usize = 256;
/// At the end of the program readers have so long to take what has been delivered.
const END_MAX: Duration = Duration::from_millis(500);

/// The open outputs that are no UDP: those the flow gives to by itself.
pub(crate) struct Drain {
    /// With the virtual port of the flow that goes there, and their names.
    streams: Vec<(Option<u16>, Stream, String)>,
}

impl Drain {
    /// Opens the outputs, and the flows that are written to them.
    pub(crate) fn open(outputs: &[FlowOutput], options: ReceiverOptions) -> anyhow::Result<(Self, FlowReceiver)> {
        let (mut streams, mut udp) = (Vec::new(), Vec::new());
        for FlowOutput { port, endpoint } in outputs {
            let failed = || format!("cannot open {endpoint}");
            let stream = match endpoint {
                Endpoint::Udp(address) => {
                    udp.push((*port, UdpOutput::open(*address).with_context(failed)?));
                    continue;
                }
                Endpoint::File(path) => Stream::create(path),
                Endpoint::Standard => Stream::to_open(io::stdout().as_fd()),
            };
            streams.push((*port, stream.with_context(failed)?, endpoint.to_string()));
        }
        Ok((Self { streams }, FlowReceiver::open_to(options, udp)?))
    }

    /// Writes what is there, waiting a little for the first packet, or for a reader; what it does not take waits in the flow.
    pub(crate) fn take_from(&mut self, receiver: &FlowReceiver) -> anyhow::Result<()> {
        if self.streams.is_empty() {
            sleep(TURN_MAX);
            return Ok(());
        }
        let turn_ends = Instant::now() + TURN_MAX;
        if self.write(turn_ends)? == Written::All {
            self.gather(receiver, turn_ends.saturating_duration_since(Instant::now()))?;
            self.write(Instant::now())?;
        }
        Ok(())
    }

    /// Writes what was delivered before the end, and waits for readers no longer than they may take.
    pub(crate) fn finish(&mut self, receiver: &FlowReceiver) -> anyhow::Result<()> {
        let deadline = Instant::now() + END_MAX;
        loop {
            if self.write(deadline)? == Written::Waiting {
                tracing::warn!("nobody reads the output: it lacks the end of the media");
                return Ok(());
            }
            // A flow that delivers on and on is left at the same time.
            if Instant::now() >= deadline || self.gather(receiver, Duration::ZERO)? == 0 {
                return Ok(());
            }
        }
    }

    /// Takes what has been delivered, waiting for the first packet. Tells how many there were.
    fn gather(&mut self, receiver: &FlowReceiver, mut wait: Duration) -> anyhow::Result<usize> {
        for count in 0..TURN_PACKETS_MAX {
            let Some(delivered) = receiver.recv_timeout(wait)? else { return Ok(count) };
            wait = Duration::ZERO;
            let takes = |port: Option<u16>| port.is_none_or(|port| port == delivered.virtual_port);
            if let Some((_, stream, _)) = self.streams.iter_mut().find(|(port, ..)| takes(*port)) {
                stream.push(&delivered.bytes);
            }
        }
        Ok(TURN_PACKETS_MAX)
    }

    /// Writes what readers take until `deadline`; one output that fails keeps nothing from the others.
    fn write(&mut self, deadline: Instant) -> anyhow::Result<Written> {
        let write = |(_, stream, name): &mut (_, Stream, String)| {
            stream.write(deadline).with_context(|| format!("writing to {name} failed"))
        };
        let written: Vec<_> = self.streams.iter_mut().map(write).collect();
        let mut all = Written::All;
        for written in written {
            if written? == Written::Waiting {
                all = Written::Waiting;
            }
        }
        Ok(all)
    }
}
