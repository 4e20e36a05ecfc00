//! An encoder that follows the rate advice: 30 frames a second, each frame's packets at once.

use super::{IP_BYTES, Simulation, load};
use bond::PacketClass;
use bond::config::{Extension, ReceiverConfig, SenderConfig};
use bond::sender::SenderInput;
use link_sim::PathConfig;
use std::ops::Range;
use std::time::Duration;
use units::{Bitrate, Timestamp};

/// RTP (12), GRE with sequence number and tunnel header (16), UDP and IPv4 (28) on one payload: the header tax of a bound.
pub const WIRE_BYTES: usize = load::PAYLOAD_BYTES + IP_BYTES + 28;

/// What the encoder can do.
#[derive(Debug, Clone, Copy)]
pub struct Encoder {
    pub min: Bitrate,
    pub max: Bitrate,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { min: Bitrate::from_kbps(300), max: Bitrate::from_kbps(60_000) }
    }
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Frame {
    pub at: Timestamp,
    /// The advice it was made by, payload bits per second.
    pub advised: f64,
    pub packets: Range<u32>,
    pub arrived: u32,
}

/// What came of it.
pub struct Followed {
    pub frames: Vec<Frame>,
    pub simulation: Simulation,
}

/// Runs for `seconds`; `watch` is called before every picture.
pub fn run(
    latency: Duration,
    paths: &[PathConfig],
    seconds: u64,
    seed: u64,
    encoder: Encoder,
    watch: impl FnMut(&Simulation),
) -> Followed {
    run_towards(Extension::Offer, latency, paths, seconds, seed, encoder, watch)
}

/// The same towards a receiver with the extension or without.
pub fn run_towards(
    extension: Extension,
    latency: Duration,
    paths: &[PathConfig],
    seconds: u64,
    seed: u64,
    encoder: Encoder,
    watch: impl FnMut(&Simulation),
) -> Followed {
    let sender = SenderConfig { latency, ..Default::default() };
    // A plain receiver as they are: without link quality messages.
    let receiver = ReceiverConfig { latency, extension, quality_messages: false, ..Default::default() };
    run_in(Simulation::new(sender, receiver, paths, seed), latency, seconds, encoder, watch)
}

/// The same in a simulation that stands at its beginning.
pub fn run_in(
    mut simulation: Simulation,
    latency: Duration,
    seconds: u64,
    encoder: Encoder,
    mut watch: impl FnMut(&Simulation),
) -> Followed {
    simulation.input(SenderInput::SetEncoderRange { min: encoder.min, max: encoder.max });
    let (mut number, mut owed) = (0u32, 0.0);
    let mut frames = Vec::new();
    for frame in 0..seconds * load::FRAMES_PER_SECOND {
        simulation.run_until(Timestamp::from_micros(frame * 1_000_000 / load::FRAMES_PER_SECOND));
        watch(&simulation);
        let advised = simulation.sender.rate_advice(simulation.now).as_bps() as f64;
        owed += advised / 8.0 / load::FRAMES_PER_SECOND as f64;
        let first = number;
        while owed >= load::PAYLOAD_BYTES as f64 {
            owed -= load::PAYLOAD_BYTES as f64;
            simulation.push(load::payload(number), PacketClass::Video);
            number += 1;
        }
        frames.push(Frame { at: simulation.now, advised, packets: first..number, arrived: 0 });
    }
    simulation.run_until(simulation.now + latency + Duration::from_secs(2));
    let mut arrived = vec![0u32; number as usize];
    for (_, delivered) in &simulation.delivered {
        arrived[load::number(&delivered.bytes) as usize] += 1;
    }
    for frame in &mut frames {
        frame.arrived = frame.packets.clone().map(|n| arrived[n as usize]).sum();
    }
    Followed { frames, simulation }
}

impl Followed {
    /// The pictures of a time.
    pub fn between(&self, from_s: f64, to_s: f64) -> impl Iterator<Item = &Frame> {
        let (from, to) = (at(from_s), at(to_s));
        self.frames.iter().filter(move |frame| frame.at >= from && frame.at < to)
    }

    /// Delivered payload bits per second.
    pub fn delivered(&self, from_s: f64, to_s: f64) -> f64 {
        let packets: u32 = self.between(from_s, to_s).map(|frame| frame.arrived).sum();
        f64::from(packets) * load::PAYLOAD_BYTES as f64 * 8.0 / (to_s - from_s)
    }

    /// Packets made and packets lost.
    pub fn made_and_lost(&self, from_s: f64, to_s: f64) -> (u64, u64) {
        self.between(from_s, to_s).fold((0, 0), |(made, lost), frame| {
            let packets = frame.packets.len() as u64;
            (made + packets, lost + packets - u64::from(frame.arrived))
        })
    }

    /// Payload bits per second that the links could have carried, headers subtracted.
    pub fn capacity(&self, from_s: f64, to_s: f64) -> f64 {
        capacity(&self.simulation, from_s, to_s)
    }
}

/// Payload bits per second that the links carry in a time, headers subtracted.
pub fn capacity(simulation: &Simulation, from_s: f64, to_s: f64) -> f64 {
    let bytes = simulation.paths.iter().filter_map(|path| path.up().capacity_between(at(from_s), at(to_s)));
    bytes.sum::<f64>() * 8.0 / (to_s - from_s) * load::PAYLOAD_BYTES as f64 / WIRE_BYTES as f64
}

pub fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6).round() as u64)
}
