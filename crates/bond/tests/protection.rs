//! Protection in advance and coded repair: where they pay, and that they do no harm.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, Profile, ReceiverConfig, SenderConfig};
use bond::event::Cause;
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::stats::{ReceiverSnapshot, SenderSnapshot};
use link_sim::PathConfig;
use proptest::prelude::*;
use simulation::{Simulation, load, scenario};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, Timestamp};

/// RTP payload type of repair packets.
const REPAIR: u8 = 111;

fn links(count: usize, delay_ms: f64, loss: f64) -> Vec<PathConfig> {
    let mut paths: Vec<_> =
        (0..count).map(|i| scenario::link(&format!("l{i}"), 5000, delay_ms + i as f64, 625)).collect();
    for path in &mut paths {
        (path.up.loss, path.down.loss) = (loss, loss);
    }
    paths
}

struct Run {
    simulation: Simulation,
    missing: usize,
    packets: usize,
}

impl Run {
    fn sender(&self) -> SenderSnapshot {
        self.simulation.sender.snapshot(self.simulation.now)
    }

    fn receiver(&self) -> ReceiverSnapshot {
        self.simulation.receiver.snapshot(self.simulation.clock.local(self.simulation.now))
    }

    /// The share of packets in each class that a second link was given within 10 ms, while the first round was on its way; `class`
    /// is that of the run.
    fn copied(&self, class: fn(u32) -> PacketClass) -> HashMap<PacketClass, f64> {
        let mut first: HashMap<u32, (usize, Timestamp)> = HashMap::new();
        let mut copied: HashMap<PacketClass, (f64, f64)> = HashMap::new();
        for carried in self.simulation.log.iter().flatten() {
            let Some(number) = carried.number else { continue };
            match first.entry(number) {
                Entry::Vacant(place) => {
                    place.insert((carried.link, carried.sent));
                    copied.entry(class(number)).or_default().1 += 1.0;
                }
                Entry::Occupied(of) => {
                    let (link, sent) = *of.get();
                    if carried.link != link && carried.sent - sent <= Duration::from_millis(10) {
                        copied.entry(class(number)).or_default().0 += 1.0;
                    }
                }
            }
        }
        copied.into_iter().map(|(class, (twice, all))| (class, twice / all)).collect()
    }
}

/// 20 s of 6 Mbit/s, judged after the first 5 s; every payload that comes out is checked.
fn run(paths: &[PathConfig], latency_ms: u64, extension: Extension, class: fn(u32) -> PacketClass) -> Run {
    let latency = Duration::from_millis(latency_ms);
    let sender = SenderConfig { latency, ..Default::default() };
    let receiver = ReceiverConfig { latency, extension, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, paths, 7);
    simulation.log = Some(Vec::new());
    let items = load::even(6e6, 20.0);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), class(item.number));
    }
    simulation.run_until(simulation.now + Duration::from_secs(2));
    let mut arrived = vec![false; items.len()];
    for (_, delivered) in &simulation.delivered {
        arrived[load::number(&delivered.bytes) as usize] = true;
    }
    let judged = items.iter().filter(|item| item.at >= Timestamp::from_millis(5000));
    let missing = judged.filter(|item| !arrived[item.number as usize]).count();
    Run { simulation, missing, packets: items.len() }
}

fn video(_: u32) -> PacketClass {
    PacketClass::Video
}

/// Goal: with no time to send again, two percent of loss on every link costs (nearly) nothing.
#[test]
fn repair_packets_mend_what_no_retransmission_can() {
    let run = run(&links(3, 60.0, 0.02), 100, Extension::Offer, video);
    let (sender, receiver) = (run.sender(), run.receiver());
    println!("{} of {} missing, {sender:?}", run.missing, run.packets);
    assert!(run.missing <= 3, "{} of {} missing", run.missing, run.packets);
    let lost: u64 = sender.links.iter().map(|link| link.packets_lost).sum();
    assert!(sender.fec_recovered > lost / 2 && sender.fec_recovered <= receiver.fec_recovered);
    assert!(receiver.fec_packets > sender.fec_packets * 9 / 10 && receiver.fec_packets < sender.fec_packets);
    let share = sender.fec_packets as f64 / sender.packets_in as f64;
    assert!((0.05..0.3).contains(&share), "{share}");
    assert!(sender.redundancy >= share);
    let told = |wanted: fn(&Cause) -> bool| run.simulation.sender_events.iter().any(|event| wanted(&event.cause));
    assert!(told(|cause| matches!(cause, Cause::ProtectionBegan { .. })));
}

/// Goal: the operator is told once of protection that comes and goes with what waits, by the link whose losses are the cause and
/// with its share of them; copies and coded packets of what is lost already are no protection in advance.
#[test]
fn protection_in_advance_is_told_with_its_cause_and_not_by_the_second() {
    for latency in [150, 190, 230] {
        let mut paths = links(2, 60.0, 0.0);
        paths[1].up.loss = 0.05;
        let run = run(&paths, latency, Extension::Offer, video);
        let told = run.simulation.sender_events.iter().map(|event| &event.cause);
        let (mut began, mut ended) = (0, 0);
        for cause in told {
            match cause {
                Cause::ProtectionBegan { name, loss, .. } => {
                    began += 1;
                    println!("{latency} ms: {cause}");
                    assert_eq!(*name, paths[1].name);
                    assert!(loss.as_f64() > 0.001, "{cause}");
                }
                Cause::ProtectionEnded => ended += 1,
                _ => {}
            }
        }
        assert!(ended <= began && began <= 2, "{latency} ms: told {began} times to begin and {ended} to end");
    }
}

/// Goal: the same links within a budget for several tries, and clean links within none, get nothing in advance.
#[test]
fn nothing_is_sent_in_advance_where_it_does_not_pay() {
    let critical = |number: u32| if number.is_multiple_of(3) { PacketClass::Idr } else { PacketClass::Audio };
    let single = vec![scenario::link("single", 12_000, 10.0, 1500)];
    for (paths, latency) in [(links(3, 60.0, 0.02), 1000), (links(3, 60.0, 0.0), 100), (single, 200)] {
        let run = run(&paths, latency, Extension::Offer, critical);
        let sender = run.sender();
        assert_eq!((run.missing, sender.fec_packets), (0, 0), "{latency} ms");
        // But for the few that keep idle links warm.
        assert!(sender.copies <= sender.packets_in / 200, "{} copies", sender.copies);
        let lossy = paths[0].up.loss > 0.0;
        assert!(lossy || sender.redundancy < 0.005, "{}", sender.redundancy);
        assert!(sender.redundancy < 0.03, "{}", sender.redundancy);
    }
}

/// Goal: a receiver that does not announce the extension is sent no repair packet, whatever is lost.
#[test]
fn a_plain_receiver_never_sees_a_repair_packet() {
    let run = run(&links(3, 60.0, 0.02), 100, Extension::Off, video);
    let sender = run.sender();
    assert!(!sender.extension);
    assert_eq!((sender.fec_packets, run.receiver().fec_packets), (0, 0));
}

/// Goal: packets that come from a new address before the receiver knows whose it is are taken for what they are.
#[test]
fn a_changed_address_lets_no_repair_packet_through_as_media() {
    let mut paths = links(3, 60.0, 0.03);
    for (i, path) in paths.iter_mut().enumerate() {
        path.rebind_ms = (0..12).map(|k| 4000 + 1200 * k + 170 * i as u64).collect();
    }
    let run = run(&paths, 100, Extension::Offer, video);
    // The run has checked every payload.
    assert!(run.sender().fec_packets > 500, "{:?}", run.sender());
}

/// Goal: where retransmissions come too late, what must not be lost gets one copy, on another link; the rest does not.
#[test]
fn key_pictures_and_sound_get_a_copy_where_it_pays() {
    let class = |number: u32| match number % 20 {
        0 => PacketClass::Audio,
        1 => PacketClass::Clock,
        2 => PacketClass::ParameterSet,
        3 => PacketClass::Idr,
        _ => PacketClass::Other,
    };
    let mut paths = links(3, 60.0, 0.02);
    for path in &mut paths {
        path.up.capacity = link_sim::Capacity::Constant { kbps: 12_000 };
    }
    let run = run(&paths, 100, Extension::Offer, class);
    let sender = run.sender();
    let share = sender.copies as f64 / sender.packets_in as f64;
    // A fifth of the packets, while so much of the capacity is known to be free.
    assert!((0.02..0.21).contains(&share), "{share}");
    let copied = run.copied(class);
    for protected in [PacketClass::Audio, PacketClass::Clock, PacketClass::ParameterSet, PacketClass::Idr] {
        assert!(copied[&protected] > 0.5, "{protected:?}: {copied:?}");
    }
    assert!(copied[&PacketClass::Other] < 0.01, "{copied:?}");
    assert!(sender.useless_copies > sender.copies / 2, "most copies are never needed: {}", sender.useless_copies);
}

/// Goal: with time for one try, what is lost together is mended by fewer packets than two further copies of each.
#[test]
fn packets_of_one_last_round_are_mended_together() {
    let run = run(&links(4, 50.0, 0.03), 220, Extension::Offer, video);
    let sender = run.sender();
    println!("{} missing, {sender:?}", run.missing);
    assert_eq!(run.missing, 0);
    assert!(sender.retransmits > 100 && sender.copies > 0, "{sender:?}");
    assert!(sender.copies + sender.fec_packets < 2 * sender.retransmits + 20, "{sender:?}");
    assert!(sender.redundancy < 0.12, "{}", sender.redundancy);
}

fn rtp(payload_type: u8, sequence: u16, time: u32, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x80, payload_type];
    datagram.extend(sequence.to_be_bytes());
    datagram.extend(time.to_be_bytes());
    datagram.extend(0x1234_5678u32.to_be_bytes());
    datagram.extend(payload);
    datagram
}

proptest! {
    /// Goal: arbitrary repair packets among media: no panic, order kept, nothing longer than a payload may be.
    #[test]
    fn hostile_repair_packets_are_harmless(
        packets in proptest::collection::vec(
            (any::<bool>(), 0u16..300, 1u8..=9, any::<u16>(), any::<[u64; 8]>(), proptest::collection::vec(any::<u8>(), 0..80)),
            0..200,
        ),
    ) {
        let config = ReceiverConfig {
            profile: Profile::Simple, latency: Duration::from_millis(100), ..Default::default()
        };
        let mut receiver = Receiver::new(config, bond::Seed::from(1), Timestamp::ZERO).unwrap();
        let from = SocketAddr::from(([127, 0, 0, 1], 5000));
        let mut newest = None;
        for (i, (media, sequence, words, key, mask, bytes)) in packets.into_iter().enumerate() {
            let now = Timestamp::from_millis(i as u64 * 3);
            let time = u32::from(sequence) * 270;
            let mut datagram = if media {
                rtp(33, sequence, time, &[7; 50])
            } else {
                let mut payload = vec![1, words];
                payload.extend(key.to_be_bytes());
                // Sparse masks pass the check of how many are covered.
                payload.extend(mask.iter().take(words.into()).flat_map(|word| (word & word >> 7 & word << 3).to_be_bytes()));
                payload.extend(bytes);
                rtp(REPAIR, sequence, time, &payload)
            };
            let channel = bond::Channel::Media;
            receiver.handle_input(now, ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes: &mut datagram });
            loop {
                match receiver.poll_output(now) {
                    ReceiverOutput::Deliver(delivered) => {
                        prop_assert!(newest <= Some(delivered.source_time));
                        prop_assert!(delivered.bytes.len() <= bond::PAYLOAD_BYTES_MAX && !delivered.bytes.is_empty());
                        newest = Some(delivered.source_time);
                    }
                    ReceiverOutput::Timeout(_) => break,
                    _ => {}
                }
            }
        }
    }
}
