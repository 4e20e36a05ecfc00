//! Source adaptation by link quality messages (TR-06-4-1), both ways: what our receiver tells a plain RIST sender, and what
//! our sender makes of what a plain RIST receiver tells.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, KeySize, LinkOptions, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::{Cause, Event};
use bond::sender::SenderInput;
use bond::{Channel, receiver::ReceiverInput};
use bytes::Bytes;
use link_sim::{Capacity, LinkConfig, PathConfig, SkewedClock};
use rist::wire::lqm::Lqm;
use rist::wire::rtcp::{ReceiverReport, Sdes};
use simulation::{Simulation, load};
use std::time::Duration;
use units::{Bitrate, Ecn, LinkId, Timestamp};

const LATENCY: Duration = Duration::from_millis(600);

fn path(name: &str, kbps: u64, delay_ms: f64, loss: f64) -> PathConfig {
    let capacity = Capacity::Constant { kbps };
    PathConfig {
        name: name.into(),
        up: LinkConfig { capacity, delay_ms, loss, queue_bytes: kbps * 50, ..Default::default() },
        down: LinkConfig { capacity: Capacity::Constant { kbps: 10_000 }, delay_ms, ..Default::default() },
        ..Default::default()
    }
}

/// A sender of ours and a receiver without the extension.
fn pair(profile: Profile, psk: Option<PskConfig>, paths: &[PathConfig], weight: Option<u32>, seed: u64) -> Simulation {
    let sender = SenderConfig { profile, latency: LATENCY, psk: psk.clone(), ..Default::default() };
    let receiver = ReceiverConfig { profile, latency: LATENCY, psk, extension: Extension::Off, ..Default::default() };
    let mut simulation = Simulation::without_links(sender, receiver, paths, seed, SkewedClock::new(5_000_000, 30));
    for index in 0..paths.len() {
        simulation.add_link(index, LinkOptions { weight, ..Default::default() });
    }
    simulation
}

fn send(simulation: &mut Simulation, mbps: f64, seconds: f64) {
    let start = simulation.now;
    for item in &load::even(mbps * 1e6, seconds) {
        simulation.run_until(start + (item.at - Timestamp::ZERO));
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
}

/// An encoder that makes what is advised, from `from_ms` on for `seconds`; returns what it made last, in Mbit/s.
fn follow(simulation: &mut Simulation, seconds: u64) -> f64 {
    let start = simulation.now;
    let (mut owed, mut number, mut advised) = (0.0, 0, 0.0);
    for frame in 0..seconds * load::FRAMES_PER_SECOND {
        simulation.run_until(start + Duration::from_micros(frame * 1_000_000 / load::FRAMES_PER_SECOND));
        advised = simulation.sender.rate_advice(simulation.now).as_bps() as f64;
        owed += advised / 8.0 / load::FRAMES_PER_SECOND as f64;
        while owed >= load::PAYLOAD_BYTES as f64 {
            owed -= load::PAYLOAD_BYTES as f64;
            simulation.push(load::payload(number), PacketClass::Video);
            number += 1;
        }
    }
    advised / 1e6
}

fn held(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.cause, Cause::FarEndLoss { .. })).count()
}

/// Goal: what the messages say adds up to what happened, packet by packet, however many links each came over.
#[test]
fn the_messages_count_what_happened() {
    for profile in [Profile::Simple, Profile::Main] {
        // A budget of three round trips: not everything is repaired in time.
        let paths = [path("a", 8000, 30.0, 0.1), path("b", 8000, 40.0, 0.1)];
        let mut simulation = pair(profile, None, &paths, Some(5), 3);
        simulation.set_latency(Duration::from_millis(170));
        send(&mut simulation, 4.0, 20.0);
        simulation.run_until(simulation.now + Duration::from_secs(4));
        let sender = simulation.sender.snapshot(simulation.now);
        let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
        let told = sender.far_end.expect("messages came");
        println!("{profile:?} {told:?}");
        assert!(receiver.recovered_packets > 500 && receiver.lost_packets > 20, "{receiver:?}");
        assert_eq!(told.lost_packets, receiver.lost_packets, "{profile:?}");
        assert_eq!(told.late_packets, receiver.late_packets);
        assert_eq!(told.recovered_packets, receiver.recovered_packets);
        // What came first as an original and in time, and what came late.
        let originals = receiver.delivered_packets - receiver.recovered_packets;
        let late_originals = told.received_packets - originals;
        assert!(late_originals <= receiver.late_packets, "{told:?} {receiver:?}");
        // One message a period, over both links, told once.
        assert!((22..=130).contains(&told.messages), "{told:?}");
        assert_eq!((told.messages, told.messages_refused), (receiver.quality_messages, 0));
    }
}

/// Goal: rates are those of RTP packets, originals and retransmissions apart.
#[test]
fn the_messages_tell_the_rates() {
    let mut simulation = pair(Profile::Main, None, &[path("a", 20_000, 20.0, 0.1)], Some(5), 4);
    send(&mut simulation, 4.0, 10.0);
    let told = simulation.sender.snapshot(simulation.now).far_end.expect("messages came");
    let sent = 4e6 * (load::PAYLOAD_BYTES + 12) as f64 / load::PAYLOAD_BYTES as f64;
    let (media, again) = (told.media_rate.as_bps() as f64 / sent, told.retransmission_rate.as_bps() as f64 / sent);
    assert!((0.85..0.95).contains(&media) && (0.06..0.16).contains(&again), "{media} {again}");
    let lost = told.lost_packets + told.recovered_packets;
    let share = lost as f64 / (lost + told.received_packets) as f64;
    assert!((0.08..0.12).contains(&share), "{share}");
}

/// Goal: between our own ends, whose reports tell more, none is sent; nor when it is turned off.
#[test]
fn no_message_where_it_is_of_no_use() {
    for (extension, quality_messages) in [(Extension::Offer, true), (Extension::Off, false)] {
        let receiver = ReceiverConfig { extension, quality_messages, ..Default::default() };
        let mut simulation = Simulation::new(SenderConfig::default(), receiver, &[path("a", 8000, 20.0, 0.02)], 5);
        send(&mut simulation, 3.0, 5.0);
        let local = simulation.clock.local(simulation.now);
        assert_eq!(simulation.receiver.snapshot(local).quality_messages, 0, "{extension:?}");
        assert!(simulation.sender.snapshot(simulation.now).far_end.is_none());
    }
}

/// Goal: with fixed weights nothing but the messages tells what the links carry: an encoder that follows the advice climbs
/// from what a new link is believed to carry to what the links do carry, and is held down where they lose.
#[test]
fn an_encoder_finds_what_the_links_carry_by_messages_alone() {
    let mut simulation = pair(Profile::Main, None, &[path("a", 6000, 20.0, 0.0)], Some(5), 6);
    simulation.input(SenderInput::SetEncoderRange { min: Bitrate::from_kbps(300), max: Bitrate::from_kbps(60_000) });
    follow(&mut simulation, 40);
    let (mut sum, mut count) = (0.0, 0);
    for _ in 0..10 {
        sum += follow(&mut simulation, 2);
        count += 1;
    }
    let mean = sum / f64::from(count);
    println!("{mean} Mbit/s of 6, {} times held down", held(&simulation.sender_events));
    assert!((3.0..6.0).contains(&mean), "{mean}");
    assert!(held(&simulation.sender_events) >= 2);
    let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
    let lost = receiver.lost_packets as f64 / (receiver.lost_packets + receiver.delivered_packets) as f64;
    assert!(lost < 0.15, "{lost}");
}

/// Goal: where echoes measure the links, losses for good hold the advice down, and it comes back when they end.
#[test]
fn losses_for_good_hold_the_advice_down() {
    let run = |quality_messages| {
        let sender = SenderConfig { latency: Duration::from_millis(150), ..Default::default() };
        let receiver = ReceiverConfig {
            latency: Duration::from_millis(150),
            extension: Extension::Off,
            quality_messages,
            ..Default::default()
        };
        let mut simulation = Simulation::new(sender, receiver, &[path("a", 8000, 60.0, 0.03)], 7);
        let range = SenderInput::SetEncoderRange { min: Bitrate::from_kbps(300), max: Bitrate::from_kbps(3_000) };
        simulation.input(range);
        send(&mut simulation, 2.5, 15.0);
        (simulation.sender.rate_advice(simulation.now).as_bps(), held(&simulation.sender_events))
    };
    let ((without, never), (with, times)) = (run(false), run(true));
    println!("advice {without} -> {with}, held down {times} times");
    assert!(with < without * 9 / 10 && with > without / 3, "{without} -> {with}");
    assert!(never == 0 && times >= 3);
}

fn psk() -> PskConfig {
    PskConfig { passphrase: Secret::new("a secret"), key_size: KeySize::Aes128, rotate_after_packets: None }
}

/// Goal: with encryption, messages that are forged, replayed or of another flow change nothing at all.
#[test]
fn forged_and_replayed_messages_change_nothing() {
    /// Datagrams that a stranger sends to the sender, again and again, with all he overheard; or as many without a meaning:
    /// any datagram is a reason to look at the clock.
    fn run(strange: &[Bytes], meaning: bool) -> (Simulation, usize) {
        let paths = [path("a", 6000, 20.0, 0.02)];
        let mut simulation = pair(Profile::Main, Some(psk()), &paths, Some(5), 8);
        simulation.overheard_down = Some(Vec::new());
        let mut meddled = 0;
        for second in 0..10 {
            // What is still on its way when it is repeated would only come early.
            let overheard = simulation.overheard_down.clone().unwrap_or_default();
            send(&mut simulation, 3.0, 1.0);
            for datagram in overheard.iter().chain(strange) {
                let (link, channel) = (LinkId(0), Channel::Media);
                let mut bytes = if meaning { datagram.to_vec() } else { vec![0; 4] };
                simulation.input(SenderInput::Datagram { link, channel, bytes: &mut bytes });
                meddled += 1;
            }
            assert!(second == 0 || simulation.sender.snapshot(simulation.now).far_end.is_some());
        }
        (simulation, meddled)
    }
    // The worst news there are, in the clear and under another key. (Another link's under the same key: tests/overheard.rs.)
    let worst = Lqm {
        sequence: 1,
        period_ms: 1000,
        source_received: 1,
        originals_lost: 200,
        unrecovered: 200,
        ..Lqm::default()
    };
    let mut compound = Vec::new();
    ReceiverReport::emit(7, &[], Some(&worst), &mut compound);
    Sdes { ssrc: 7, cname: b"evil" }.emit(&mut compound);
    let framed = |passphrase: Option<&str>| {
        let mut config = rist::tunnel::TunnelConfig::new(rist::tunnel::Role::Server, rist::tunnel::Side::Receiver);
        config.psk = passphrase.map(rist::tunnel::PskConfig::new);
        let mut out = Vec::new();
        rist::tunnel::Tunnel::new(config, 99).emit_rtcp(Timestamp::ZERO, &compound, &mut out);
        Bytes::from(out)
    };
    let strange = [framed(None), framed(Some("another secret"))];
    let ((alone, _), (meddled, times)) = (run(&strange, false), run(&strange, true));
    assert!(times > 1000, "{times}");
    let told = |simulation: &Simulation| simulation.sender.snapshot(simulation.now).far_end;
    assert_eq!(told(&alone), told(&meddled));
    let advice = |simulation: &Simulation| simulation.sender.rate_advice(simulation.now);
    assert_eq!(advice(&alone), advice(&meddled));
    assert_eq!(alone.sender_events, meddled.sender_events);
    // The same message is believed when it is genuine: it is the encryption that keeps the forged ones out.
    let mut simulation = pair(Profile::Main, Some(psk()), &[path("a", 6000, 20.0, 0.02)], Some(5), 8);
    send(&mut simulation, 3.0, 0.9);
    let mut bytes = framed(Some("a secret")).to_vec();
    simulation.input(SenderInput::Datagram { link: LinkId(0), channel: Channel::Media, bytes: &mut bytes });
    assert_eq!(told(&simulation).map(|told| told.lost_packets), Some(200));
}

/// Goal: a receiver that hears a sender whose keep-alive says that it does not adapt leaves it alone.
#[test]
fn a_sender_that_does_not_adapt_is_left_alone() {
    use rist::wire::keepalive::{Capabilities, KeepAlive};
    let run = |capabilities: Option<Capabilities>| {
        let mut simulation = pair(Profile::Main, None, &[path("a", 8000, 20.0, 0.0)], Some(5), 9);
        send(&mut simulation, 2.0, 0.5);
        if let Some(capabilities) = capabilities {
            // Its own keep-alives say that it does: the last word counts, so say it often.
            let mut bytes = vec![0, 0, 0x88, 0xb5];
            KeepAlive { mac: [2; 6], capabilities, tail: &[] }.emit(&mut bytes);
            let from = simulation::address(0, 0, Channel::Media);
            for _ in 0..50 {
                send(&mut simulation, 2.0, 0.1);
                let mut bytes = bytes.clone();
                let input = ReceiverInput::Datagram {
                    local: 0,
                    from,
                    channel: Channel::Media,
                    ecn: Ecn::NotEct,
                    bytes: &mut bytes,
                };
                simulation.receiver.handle_input(simulation.clock.local(simulation.now), input);
            }
        } else {
            send(&mut simulation, 2.0, 5.0);
        }
        simulation.receiver.snapshot(simulation.clock.local(simulation.now)).quality_messages
    };
    assert_eq!(run(Some(Capabilities::BONDING.with(Capabilities::NULL_DELETION))), 0);
    assert!(run(None) >= 5);
}
