//! What the two ends tell each other of the links, how often, and to whom not; and what a change of the latency does.

mod simulation;

use bond::config::{Extension, LinkOptions, ReceiverConfig, SenderConfig};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use link_sim::PathConfig;
use simulation::{Simulation, load, scenario};
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

const LATENCY: Duration = Duration::from_secs(1);

/// Where a message of the extension begins in a clear datagram: its RTCP header.
fn message(datagram: &[u8]) -> Option<usize> {
    datagram.windows(4).position(|window| window == b"BOND")?.checked_sub(8)
}

/// Subtype 9, see `extension`.
fn is_report(datagram: &[u8]) -> bool {
    message(datagram).is_some_and(|at| datagram[at] & 0x1f == 9)
}

fn pair() -> [PathConfig; 2] {
    [scenario::link("a", 6000, 20.0, 200), scenario::link("b", 6000, 40.0, 200)]
}

/// Media of 2.7 Mbit/s for so long.
fn push(simulation: &mut Simulation, next: &mut u32, millis: u64) {
    for _ in 0..millis / 4 {
        simulation.push(load::payload(*next), PacketClass::Video);
        *next += 1;
        let now = simulation.now;
        simulation.run_until(now + Duration::from_millis(4));
    }
}

/// Goal: while packets arrive, reports leave at least every 20 ms, also where the caller looks at its clock every 5 ms only.
#[test]
fn reports_come_every_twenty_milliseconds() {
    for (latency_ms, step_micros, most) in [(1000, 100, 20_100), (1000, 4_980, 25_100), (150, 100, 10_100)] {
        let latency = Duration::from_millis(latency_ms);
        let start = Timestamp::from_millis(1000);
        let mut sender = Sender::new(SenderConfig { latency, ..Default::default() }, 1, start).unwrap();
        let mut receiver = Receiver::new(ReceiverConfig { latency, ..Default::default() }, 2, start).unwrap();
        sender.handle_input(start, SenderInput::AddLink { link: LinkId(0), options: LinkOptions::default() });
        let from = SocketAddr::from(([10, 0, 0, 1], 4000));
        let (mut now, mut pushed, mut reports) = (start, start, Vec::new());
        while now < start + Duration::from_secs(10) {
            // Never quite at the same places.
            now += Duration::from_micros(step_micros + u64::from(reports.len() as u32 % 7));
            while pushed <= now {
                let payload = Payload { bytes: load::payload(0), source_time: now, class: PacketClass::Video };
                sender.handle_input(now, SenderInput::Payload(payload));
                pushed += Duration::from_millis(4);
            }
            let mut answers = Vec::new();
            while let output = sender.poll_output(now)
                && !matches!(output, SenderOutput::Timeout(_))
            {
                let SenderOutput::Transmit { bytes, .. } = output else { continue };
                let (mut bytes, local, channel, ecn) = (bytes.to_vec(), 0, Channel::Media, Ecn::NotEct);
                receiver.handle_input(now, ReceiverInput::Datagram { local, from, channel, ecn, bytes: &mut bytes });
            }
            while let output = receiver.poll_output(now)
                && !matches!(output, ReceiverOutput::Timeout(_))
            {
                if let ReceiverOutput::Transmit { bytes, .. } = output {
                    answers.push(bytes.to_vec());
                }
            }
            for mut bytes in answers {
                if is_report(&bytes) {
                    reports.push(now);
                }
                let input = SenderInput::Datagram { link: LinkId(0), channel: Channel::Media, bytes: &mut bytes };
                sender.handle_input(now, input);
            }
        }
        // Once it is settled.
        let reports = &reports[50..];
        let gaps: Vec<u64> = reports.windows(2).map(|pair| (pair[1] - pair[0]).as_micros() as u64).collect();
        let (longest, mean) = (gaps.iter().max().unwrap(), gaps.iter().sum::<u64>() / gaps.len() as u64);
        let cadence = latency_ms.min(300) * 1000 / 15;
        println!("{latency_ms} ms, looked at every {step_micros} us: {mean} us apart, {longest} at most");
        assert!(*longest <= most, "{longest} us without a report");
        assert!((cadence - 200..=cadence + 200).contains(&mean), "a report each {mean} us");
    }
}

/// Goal: a plain peer hears nothing of the extension, whichever end it is; two of ours use it.
#[test]
fn a_plain_peer_hears_nothing_of_the_extension() {
    for (ours, theirs) in
        [(Extension::Offer, Extension::Off), (Extension::Off, Extension::Offer), (Extension::Offer, Extension::Offer)]
    {
        let sender = SenderConfig { latency: LATENCY, extension: ours, ..Default::default() };
        let receiver = ReceiverConfig { latency: LATENCY, extension: theirs, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &pair(), 3);
        simulation.overheard = Some(Vec::new());
        let mut next = 0;
        push(&mut simulation, &mut next, 20_000);
        simulation.run_until(simulation.now + LATENCY + Duration::from_millis(500));
        let told = simulation.overheard.iter().flatten().filter(|one| message(&one.bytes).is_some()).count();
        let both = (ours, theirs) == (Extension::Offer, Extension::Offer);
        assert_eq!(told > 1000, both, "{ours:?} to {theirs:?}: {told} messages");
        assert!(both || told == 0, "{ours:?} to {theirs:?}: {told} messages");
        assert_eq!(simulation.delivered.len(), next as usize);
    }
}

/// Goal: a latency that is changed while media flows is what media takes from then on, up and down, and nothing is lost or
/// repeated on the way.
#[test]
fn a_changed_latency_is_what_media_takes() {
    let config = SenderConfig { latency: LATENCY, ..Default::default() };
    let receiver = ReceiverConfig { latency: LATENCY, ..Default::default() };
    let mut simulation = Simulation::new(config, receiver, &pair(), 3);
    let mut next = 0;
    for (latency_ms, settled_ms) in [(1000, 3000), (2500, 10_000), (400, 10_000)] {
        simulation.set_latency(Duration::from_millis(latency_ms));
        push(&mut simulation, &mut next, settled_ms + 10_000);
        let taken: Vec<u64> = simulation
            .delivered
            .iter()
            .filter(|(at, _)| *at + Duration::from_secs(5) > simulation.now)
            .map(|(at, delivered)| at.as_millis() - u64::from(load::number(&delivered.bytes)) * 4)
            .collect();
        println!("{latency_ms} ms: {:?} to {:?}", taken.iter().min(), taken.iter().max());
        assert!(taken.len() > 1000, "{}", taken.len());
        let around = latency_ms - 5..=latency_ms + 30;
        assert!(taken.iter().all(|taken| around.contains(taken)), "{latency_ms} ms: {taken:?}");
    }
    simulation.run_until(simulation.now + Duration::from_secs(4));
    let numbers: Vec<u32> = simulation.delivered.iter().map(|(_, one)| load::number(&one.bytes)).collect();
    assert_eq!(numbers, (0..next).collect::<Vec<_>>());
}
