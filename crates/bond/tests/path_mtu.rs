//! Paths that take only small datagrams, from the start or from some moment on.
#![allow(clippy::float_cmp)] // all of them is exactly 100

mod simulation;

use bond::PacketClass;
use bond::config::{LinkOptions, ReceiverConfig, SenderConfig};
use bond::event::Cause;
use bond::sender::SenderInput;
use bytes::Bytes;
use link_sim::SkewedClock;
use simulation::{Simulation, load, scenario, score};
use std::time::Duration;
use units::{LinkId, Timestamp};

/// Whole TS packets, recognizable.
fn stream(number: u32, packets: usize) -> Bytes {
    let packet = |i: usize| {
        let mut packet = vec![i as u8; 188];
        packet[0] = 0x47;
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        packet
    };
    Bytes::from((0..packets).flat_map(packet).collect::<Vec<u8>>())
}

/// Sends `payloads` payloads of seven TS packets every 4 ms; returns what went in and what came out, as one stream each.
fn carry(simulation: &mut Simulation, payloads: u32, follow: bool) -> (Vec<u8>, Vec<u8>) {
    let mut sent = Vec::new();
    for number in 0..payloads {
        simulation.run_until(Timestamp::from_millis(u64::from(number) * 4));
        let packets = if follow { simulation.sender.payload_bytes_max() / 188 } else { 7 };
        let payload = stream(number, packets);
        sent.extend_from_slice(&payload);
        simulation.push(payload, PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(3));
    let got = simulation.delivered.iter().flat_map(|(_, delivered)| delivered.bytes.to_vec()).collect();
    (sent, got)
}

fn mtus(simulation: &Simulation) -> Vec<u16> {
    simulation.sender.snapshot(simulation.now).links.iter().map(|link| link.datagram_bytes_max).collect()
}

/// Goal: full payloads avoid the link that does not take them, which is found within a second; nothing is lost.
#[test]
fn what_a_link_does_not_take_goes_another_way() {
    for seed in 0..5 {
        let mut paths = vec![scenario::link("wide", 8000, 30.0, 200), scenario::link("narrow", 8000, 20.0, 200)];
        paths[1].up.mtu = Some(700);
        let (score, simulation) =
            score::run(Duration::from_secs(1), &paths, &load::video(4e6, 15.0), seed, score::Classes::Told);
        assert_eq!((score.frames_on_time_percent, score.delivered_percent), (100.0, 100.0), "seed {seed}");
        let snapshot = simulation.sender.snapshot(simulation.now);
        assert_eq!(mtus(&simulation), [1472, 596], "seed {seed}");
        assert_eq!(snapshot.payload_bytes_max, 1316, "three TS packets a datagram are not worth it");
        assert!(snapshot.links[1].packets_sent < 400, "seed {seed}: {snapshot:?}");
        let told = |event: &&bond::event::Event| matches!(event.cause, Cause::LinkMtu { now: 596, before: 1472, .. });
        let at = simulation.sender_events.iter().find(told).expect("an event").at;
        assert!(at < Timestamp::from_millis(400), "seed {seed}: known only at {at:?}");
    }
}

/// Goal: links of 1300 and 1250 bytes are used to the full, because payloads become shorter: the sender cuts them, or the
/// source follows and packs six TS packets.
#[test]
fn payloads_become_short_enough_for_the_links_in_use() {
    for follow in [false, true] {
        let mut paths = vec![scenario::link("a", 3000, 30.0, 100), scenario::link("b", 3000, 20.0, 100)];
        (paths[0].up.mtu, paths[1].up.mtu) = (Some(1300), Some(1250));
        let mut simulation = Simulation::new(SenderConfig::default(), ReceiverConfig::default(), &paths, 3);
        // 2.6 Mbit/s and headers, more than one of them carries well.
        let (sent, got) = carry(&mut simulation, 3000, follow);
        // Full payloads of the first moments were numbered before anything was known.
        assert!(sent.len() - got.len() < 50 * 1316, "follow {follow}: {} of {} bytes", got.len(), sent.len());
        assert_eq!(&sent[sent.len() - 2_500_000..], &got[got.len() - 2_500_000..]);
        assert_eq!(mtus(&simulation), [1232, 1160]);
        assert_eq!(simulation.sender.snapshot(simulation.now).payload_bytes_max, 6 * 188);
        let limits: Vec<_> = simulation
            .sender_events
            .iter()
            .filter_map(|event| match event.cause {
                Cause::PayloadLimit { before, now } => Some((before, now)),
                _ => None,
            })
            .collect();
        assert_eq!(limits, [(1316, 1128)], "told once");
        let longest = simulation.delivered.iter().skip(500).map(|(_, d)| d.bytes.len()).max();
        assert_eq!(longest, Some(if follow { 6 * 188 } else { 4 * 188 }));
        let per_media = simulation.up_bytes as f64 / sent.len() as f64;
        println!("follow {follow}: {per_media} bytes sent per byte of media");
        assert!(per_media < if follow { 1.10 } else { 1.125 }, "{per_media}");
    }
}

/// Goal: where the narrow link is known as such beforehand (its interface says so), not even the first payloads are lost,
/// which are accepted before anybody answers.
#[test]
fn a_link_known_to_be_narrow_loses_nothing() {
    for follow in [false, true] {
        let mut path = scenario::link("a", 6000, 30.0, 100);
        path.up.mtu = Some(1200);
        let (sender, receiver) = (SenderConfig::default(), ReceiverConfig::default());
        let mut simulation = Simulation::without_links(sender, receiver, &[path], 3, SkewedClock::new(77_000_000, 0));
        simulation.add_link(0, LinkOptions { mtu: 1200, ..Default::default() });
        let (sent, got) = carry(&mut simulation, 1000, follow);
        assert!(sent == got, "follow {follow}: {} of {} bytes", got.len(), sent.len());
        assert_eq!(mtus(&simulation), [1172]);
    }
}

/// Goal: the first link's path is followed as soon as it is added: a source that fills its first payload then is told the
/// right length.
#[test]
fn the_first_link_is_followed_as_soon_as_it_is_added() {
    let path = scenario::link("a", 6000, 30.0, 100);
    let (sender, receiver) = (SenderConfig::default(), ReceiverConfig::default());
    let mut simulation = Simulation::without_links(sender, receiver, &[path], 3, SkewedClock::new(77_000_000, 0));
    assert_eq!(simulation.sender.payload_bytes_max(), 1316, "nothing is known");
    simulation.add_link(0, LinkOptions { mtu: 1200, ..Default::default() });
    assert_eq!(simulation.sender.payload_bytes_max(), 1128);
}

/// Goal: a route that begins to swallow large datagrams costs nothing that others can repair, and its link is used again
/// with what fits; when the route grows, so does the size after ten minutes.
#[test]
fn a_black_hole_is_found_while_media_flows() {
    for seed in 0..5 {
        let mut paths = vec![scenario::link("a", 4000, 30.0, 200), scenario::link("b", 4000, 40.0, 200)];
        paths[0].up.mtu_steps = vec![(8_000, 1280)];
        let mut simulation = Simulation::new(SenderConfig::default(), ReceiverConfig::default(), &paths, seed);
        let (sent, got) = carry(&mut simulation, 5000, true);
        assert!(sent == got, "seed {seed}: {} of {} bytes", got.len(), sent.len());
        assert_eq!(mtus(&simulation), [1232, 1472], "seed {seed}");
        let told = |event: &&bond::event::Event| matches!(event.cause, Cause::LinkMtu { link: LinkId(0), .. });
        let at = simulation.sender_events.iter().find(told).expect("an event").at;
        let after = at.as_millis().saturating_sub(8_000);
        println!("seed {seed}: found after {after} ms");
        assert!(after < 1_500, "seed {seed}: found after {after} ms");
    }
}

/// Goal: where no link takes full payloads and nothing can go another way, they are cut within half a second.
#[test]
fn a_single_narrow_link_carries_on() {
    let mut paths = vec![scenario::link("a", 6000, 30.0, 200)];
    paths[0].up.mtu_steps = vec![(6_000, 1000)];
    let mut simulation = Simulation::new(SenderConfig::default(), ReceiverConfig::default(), &paths, 4);
    let (sent, got) = carry(&mut simulation, 4000, false);
    let lost = (sent.len() - got.len()) / 1316;
    println!("{lost} payloads lost");
    assert!(lost < 250, "{lost} payloads of 4 ms");
    assert_eq!(mtus(&simulation), [972]);
    assert_eq!(&sent[sent.len() - 1_000_000..], &got[got.len() - 1_000_000..]);
}

/// Goal: random loss and outages are not mistaken for a narrow path.
#[test]
fn loss_leaves_the_size_alone() {
    for seed in 0..5 {
        let mut paths = scenario::asymmetric();
        for path in &mut paths {
            path.up.loss = 0.05;
            path.down.loss = 0.05;
        }
        paths[0].outages = scenario::outages_of(&[(7_000, 7_400), (9_000, 12_000)]);
        let (_, simulation) =
            score::run(Duration::from_secs(1), &paths, &load::video(6e6, 16.0), seed, score::Classes::Told);
        assert_eq!(mtus(&simulation), [1472; 3], "seed {seed}");
        let limited = |event: &bond::event::Event| matches!(event.cause, Cause::PayloadLimit { .. });
        assert!(!simulation.sender_events.iter().any(limited), "seed {seed}");
    }
}

/// Goal: repair packets, which are longer than what they mend, fit every path that media fits, and are sent there.
#[test]
fn repair_packets_fit_the_path() {
    for mtu in [1500_u16, 1430, 1400, 1380, 1350, 1300, 1280, 1200, 1100] {
        for known in [false, true] {
            let mut paths: Vec<_> = ["a", "b", "c"].map(|name| scenario::link(name, 5000, 60.0, 625)).into();
            for path in &mut paths {
                (path.up.loss, path.down.loss, path.up.mtu) = (0.02, 0.02, Some(mtu.into()));
            }
            let latency = Duration::from_millis(100);
            let sender = SenderConfig { latency, ..Default::default() };
            let receiver = ReceiverConfig { latency, ..Default::default() };
            let mut simulation =
                Simulation::without_links(sender, receiver, &paths, 7, SkewedClock::new(77_000_000, 0));
            for (index, path) in paths.iter().enumerate() {
                let mtu = if known { mtu } else { LinkOptions::default().mtu };
                simulation.add_link(index, LinkOptions { name: path.name.clone(), mtu, ..Default::default() });
            }
            let too_large = |simulation: &Simulation| -> u64 {
                simulation.paths.iter().map(|path| path.up().stats().dropped_mtu).sum()
            };
            let mut probes = 0;
            for number in 0..5000 {
                simulation.run_until(Timestamp::from_millis(u64::from(number) * 2));
                let packets = simulation.sender.payload_bytes_max() / 188;
                simulation.push(stream(number, packets), PacketClass::Video);
                if number == 1000 {
                    probes = too_large(&simulation);
                }
            }
            let snapshot = simulation.sender.snapshot(simulation.now);
            let lost = simulation.receiver.snapshot(simulation.clock.local(simulation.now)).lost_packets;
            let case = format!("MTU {mtu}, known {known}: {lost} lost, {snapshot:?}");
            assert_eq!(too_large(&simulation), probes, "nothing but probes: {case}");
            assert!(snapshot.fec_packets > 500 && snapshot.fec_recovered > 40 && lost < 60, "{case}");
        }
    }
}

/// Goal: a link that comes back under its number behind another address finds its path anew, though for seconds reports go on telling
/// of its former life.
#[test]
fn a_link_put_in_again_finds_its_path_anew() {
    let mut paths = vec![scenario::link("a", 8000, 20.0, 200), scenario::link("b", 8000, 40.0, 200)];
    paths[1].up.mtu_steps = vec![(25_000, 1000)];
    paths[1].rebind_ms = vec![20_200];
    let mut simulation = Simulation::new(SenderConfig::default(), ReceiverConfig::default(), &paths, 3);
    let items = load::video(6e6, 40.0);
    let mut removed = [20_000, 20_300].into_iter().peekable();
    for item in &items {
        simulation.run_until(item.at);
        if let Some(ms) = removed.next_if(|ms| item.at >= Timestamp::from_millis(*ms)) {
            if ms == 20_000 {
                simulation.input(SenderInput::RemoveLink { link: LinkId(1) });
            } else {
                simulation.add_link(1, LinkOptions { name: "b".into(), ..Default::default() });
            }
        }
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(3));
    assert!(mtus(&simulation)[1] < 1000, "{:?}", mtus(&simulation));
    assert_eq!(items.len() - simulation.delivered.len(), 0);
}
