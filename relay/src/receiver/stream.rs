//! The one stream of a receiver: its flow, its intake, its outputs, its figures.

use super::intake::Intake;
use crate::outputs::Output;
use crate::outputs::queue::Missing;
use bond::config::{KeySize, PskConfig, ReceiverConfig, Secret as BondSecret};
use bond::stats::ReceiverSnapshot;
use futures_util::future::join_all;
use link_io::receiver::{Delivered, FlowReceiver, ReceiverOptions};
use protocol::limits::OUTPUTS_MAX;
use protocol::worker::receiver::{OutputSpec, ReceiverLink, ReceiverState, ReceiverStats, StartReceiver};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use units::{Bitrate, StreamId};

/// Media that stays away for so long is interrupted. Pictures come every 17 to 40 ms, bonds are silent for a second at most.
const INTERRUPTED_AFTER: Duration = Duration::from_secs(1);
/// How long an output may take to deliver what it holds when the stream ends.
const OUTPUT_END_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a removed output may take; the others are not held up by it.
const REMOVED_END_TIME_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Stream {
    id: StreamId,
    directory: PathBuf,
    flow: FlowReceiver,
    intake: Intake,
    outputs: Vec<Output>,
    started: Instant,
    /// When media first arrived, and last.
    media: Option<(Instant, Instant)>,
    lost_before: u64,
}

impl Stream {
    /// Listens and starts the outputs. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The reason in words, with what to do.
    pub(super) fn open(start: StartReceiver) -> Result<Self, String> {
        let StartReceiver { stream, listen, key, latency_ms, directory, outputs } = start;
        let psk = PskConfig {
            passphrase: BondSecret::new(key.reveal()),
            key_size: KeySize::Aes256,
            rotate_after_packets: None,
        };
        let latency = Duration::from_millis(u64::from(latency_ms));
        let bond = ReceiverConfig { psk: Some(psk), latency, ..ReceiverConfig::default() };
        let flow = FlowReceiver::open(ReceiverOptions { bond, listen: vec![listen], connect: Vec::new() });
        let flow = flow.map_err(|error| describe(&error))?;
        let mut stream = Self {
            id: stream,
            directory: PathBuf::from(directory),
            flow,
            intake: Intake::default(),
            outputs: Vec::new(),
            started: Instant::now(),
            media: None,
            lost_before: 0,
        };
        for spec in outputs {
            stream.add_output(spec)?;
        }
        Ok(stream)
    }

    /// Which stream.
    pub(super) fn id(&self) -> &StreamId {
        &self.id
    }

    /// Where it listens.
    pub(super) fn listen(&self) -> SocketAddr {
        self.flow.local_addr()
    }

    /// Adds an output, or replaces the one with the same id.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add_output(&mut self, spec: OutputSpec) -> Result<(), String> {
        self.remove_output(&spec.id);
        if self.outputs.len() >= OUTPUTS_MAX {
            return Err(format!("a stream has at most {OUTPUTS_MAX} outputs; remove one first"));
        }
        self.outputs.push(Output::start(spec, &self.directory));
        Ok(())
    }

    /// Takes an output away; it delivers what it holds.
    pub(super) fn remove_output(&mut self, id: &str) {
        if let Some(index) = self.outputs.iter().position(|output| output.spec().id == id) {
            tokio::spawn(self.outputs.remove(index).finish(REMOVED_END_TIME_MAX));
        }
    }

    /// Changes the latency budget.
    pub(super) fn set_latency(&self, latency_ms: u32) {
        self.flow.set_latency(Duration::from_millis(u64::from(latency_ms)));
    }

    /// Waits for the next payload and feeds the outputs with it. Cancel-safe.
    pub(super) async fn take_one(&mut self) {
        match self.flow.recv().await {
            Ok(delivered) => self.feed(delivered),
            Err(_) => std::future::pending().await, // closed: only the end of the stream does that
        }
    }

    fn feed(&mut self, delivered: Delivered) {
        let now = Instant::now();
        self.media = Some((self.media.map_or(now, |(first, _)| first), now));
        let Delivered { flow, bytes, discontinuity, .. } = delivered;
        let missing = if discontinuity { Missing::Lost { packets: self.newly_lost() } } else { Missing::Nothing };
        let (raw, units) = self.intake.take(self.flow.now(), flow, &bytes, missing);
        for unit in units {
            let unit = Arc::new(unit);
            self.outputs.iter_mut().for_each(|output| output.push_unit(&unit));
        }
        self.outputs.iter_mut().for_each(|output| output.push_raw(&raw));
    }

    /// What was lost since the last loss, as far as the figures (up to a second old) tell already.
    fn newly_lost(&mut self) -> Option<u64> {
        let lost = self.flow.snapshot().lost_packets;
        let new = lost.saturating_sub(self.lost_before);
        self.lost_before = lost;
        (new > 0).then_some(new)
    }

    /// Tells the outputs that time passes.
    pub(super) fn tick(&mut self) {
        self.outputs.iter_mut().for_each(Output::tick);
    }

    /// How it stands.
    pub(super) fn state(&self) -> ReceiverState {
        match self.media {
            None => ReceiverState::Ready { listen: self.listen() },
            Some((_, last)) if last.elapsed() > INTERRUPTED_AFTER => {
                ReceiverState::Interrupted { for_ms: last.elapsed().as_millis() as u64 }
            }
            Some((first, _)) => ReceiverState::Receiving { for_ms: first.elapsed().as_millis() as u64 },
        }
    }

    /// Sentences about the bond and the outputs since the last call.
    pub(super) fn take_events(&self) -> Vec<String> {
        let bond = self.flow.events().into_iter().map(|event| event.cause.to_string());
        bond.chain(self.outputs.iter().flat_map(Output::take_changes)).collect()
    }

    /// The figures; call it once a second.
    pub(super) fn stats(&self) -> ReceiverStats {
        let snapshot = self.flow.snapshot();
        let now = Instant::now();
        let silent = self.media.is_none_or(|(_, last)| last.elapsed() > INTERRUPTED_AFTER);
        ReceiverStats {
            uptime_ms: self.started.elapsed().as_millis() as u64,
            rate: if silent { Bitrate::ZERO } else { snapshot.rate },
            delivered: snapshot.delivered_packets,
            lost: snapshot.lost_packets + self.flow.io_counters().deliveries_dropped,
            late: snapshot.late_packets,
            recovered: snapshot.recovered_packets,
            duplicates: snapshot.duplicates,
            latency_ms: snapshot.latency_ms as u32,
            transit_ms: transit_ms(&snapshot),
            links: snapshot.links.iter().map(link).collect(),
            outputs: self.outputs.iter().map(|output| output.report(now)).collect(),
            media: self.intake.media(),
        }
    }

    /// Ends it: what the outputs hold is still delivered.
    pub(super) async fn end(mut self) {
        self.flow.close();
        while let Ok(delivered) = self.flow.recv().await {
            self.feed(delivered);
        }
        join_all(self.outputs.into_iter().map(|output| output.finish(OUTPUT_END_TIME_MAX))).await;
    }
}

fn link(snapshot: &bond::stats::ReceiverLinkSnapshot) -> ReceiverLink {
    ReceiverLink {
        name: if snapshot.name.is_empty() { snapshot.peer.to_string() } else { snapshot.name.clone() },
        peer: snapshot.peer,
        rtt_ms: snapshot.rtt_ms.map(|rtt| rtt as f32),
        rate: snapshot.rate,
        loss: snapshot.loss,
        packets: snapshot.received_packets,
        silent_ms: snapshot.last_heard_ms_ago as u64,
    }
}

/// Budget plus the fastest path's delay, which is about half of its round trip.
fn transit_ms(snapshot: &ReceiverSnapshot) -> Option<f32> {
    let fastest = snapshot.links.iter().filter_map(|link| link.rtt_ms).min_by(f64::total_cmp)?;
    Some((snapshot.latency_ms + fastest / 2.0) as f32)
}

/// An error and its causes in one sentence.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
