//! Media crosses two links, between our own ends.
#![allow(clippy::float_cmp)] // all of them is exactly 100

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, KeySize, LinkOptions, Login, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::Cause;
use link_sim::{Capacity, LinkConfig, Outage, OutageKind, PathConfig, SkewedClock};
use simulation::{Simulation, load, scenario, score};
use std::time::Duration;
use units::{Bitrate, Timestamp};

fn path(name: &str, kbps: u64, delay_ms: f64, loss: f64) -> PathConfig {
    let queue_bytes = kbps * 50;
    PathConfig {
        name: name.into(),
        up: LinkConfig { capacity: Capacity::Constant { kbps }, delay_ms, loss, queue_bytes, ..Default::default() },
        down: LinkConfig { capacity: Capacity::Constant { kbps: 10_000 }, delay_ms, loss, ..Default::default() },
        ..Default::default()
    }
}

/// Goal: every packet of 6 Mbit/s arrives, in time, over two links of 4 Mbit/s.
#[test]
fn two_links_carry_what_neither_could() {
    let paths = [path("a", 4000, 30.0, 0.0), path("b", 4000, 50.0, 0.0)];
    let (score, simulation) =
        score::run(Duration::from_secs(1), &paths, &load::video(6e6, 20.0), 1, score::Classes::Told);
    println!("{score:?} {:#?}", simulation.sender.snapshot(simulation.now));
    assert_eq!(score.frames_on_time_percent, 100.0);
    assert!(score.sent_per_media < 1.06, "{score:?}");
}

fn plain(profile: Profile, loss: f64, weight: Option<u32>) -> (score::Score, simulation::Simulation) {
    let paths = [path("a", 8000, 30.0, loss), path("b", 8000, 50.0, loss)];
    let latency = Duration::from_secs(1);
    let sender = SenderConfig { profile, latency, extension: Extension::Off, ..Default::default() };
    let receiver = ReceiverConfig { profile, latency, extension: Extension::Off, ..Default::default() };
    let mut simulation = Simulation::without_links(sender, receiver, &paths, 5, SkewedClock::new(3_000_000, 40));
    for index in 0..2 {
        simulation.add_link(index, LinkOptions { weight, ..Default::default() });
    }
    let items = load::video(6e6, 20.0);
    for item in &items {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(3));
    let mut score = score::judge(&items, latency, &simulation);
    score.sent_per_media = simulation.up_bytes as f64 / (items.len() as f64 * 1344.0);
    (score, simulation)
}

/// Goal: without the extension, losses on both ways are repaired by requests, in both profiles; fixed weights are kept.
#[test]
fn plain_rist_repairs_losses_by_requests() {
    for profile in [Profile::Simple, Profile::Main] {
        let (score, simulation) = plain(profile, 0.02, Some(5));
        println!("{profile:?} {score:?}");
        assert_eq!(score.frames_on_time_percent, 100.0, "{profile:?}");
        let sender = simulation.sender.snapshot(simulation.now);
        assert!(!sender.extension && sender.retransmits > 100, "{sender:?}");
        let shares: Vec<_> = sender.links.iter().map(|link| link.packets_sent as f64).collect();
        assert!((shares[0] / shares[1] - 1.0).abs() < 0.1, "{shares:?}");
        let receiver = simulation.receiver.snapshot(simulation.clock.local(simulation.now));
        assert_eq!((receiver.lost_packets, receiver.links.len()), (0, 2));
        assert!(receiver.recovered_packets > 100);
    }
}

/// Goal: a plain peer gets the last packet before a pause too, though no later one shows that it is missing, and also when copies of it
/// are lost.
#[test]
fn the_last_packet_before_a_pause_is_not_lost_in_plain_rist() {
    for (profile, lossy_ms) in
        [(Profile::Simple, 20), (Profile::Main, 20), (Profile::Simple, 150), (Profile::Main, 400)]
    {
        let items = load::even(2e6, 5.0);
        let last = items.last().map_or(0, |item| item.at.as_millis());
        let mut path = path("a", 8000, 30.0, 0.0);
        // Takes the last two packets.
        path.up.outages = vec![Outage { from_ms: last - 6, to_ms: last + lossy_ms, kind: OutageKind::Lose }];
        let sender = SenderConfig { profile, extension: Extension::Off, ..Default::default() };
        let receiver = ReceiverConfig { profile, extension: Extension::Off, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &[path], 3);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(3));
        assert_eq!(simulation.delivered.len(), items.len(), "{profile:?}, {lossy_ms} ms");
        // The one before once, and the last three times.
        assert_eq!(simulation.sender.snapshot(simulation.now).retransmits, 4, "{profile:?}, {lossy_ms} ms");
    }
}

/// Goal: a bad time makes a handful of events, not one for each gap; they add up and name an outage as the cause.
#[test]
fn losses_are_summed_up_and_none_is_forgotten() {
    let latency = Duration::from_millis(100);
    let mut lossy = path("a", 8000, 60.0, 0.05);
    lossy.outages = vec![Outage { from_ms: 9000, to_ms: 9700, kind: OutageKind::Lose }];
    let sender = SenderConfig { latency, extension: Extension::Off, ..Default::default() };
    let receiver = ReceiverConfig { latency, extension: Extension::Off, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &[lossy], 5);
    for item in &load::video(4e6, 20.0) {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    // Long enough for the flow to end.
    simulation.run_until(simulation.now + Duration::from_secs(15));
    let lost = simulation.receiver.snapshot(simulation.clock.local(simulation.now)).lost_packets;
    let told: Vec<_> = simulation
        .receiver_events
        .iter()
        .filter_map(|event| match event.cause {
            Cause::Lost { packets, gaps, silence_ms, .. } => Some((packets, gaps, silence_ms)),
            _ => None,
        })
        .collect();
    assert!(lost > 500, "{lost}");
    assert_eq!(told.iter().map(|told| told.0).sum::<u64>(), lost);
    let gaps: u64 = told.iter().map(|told| told.1).sum();
    assert!(told.len() <= 6 && gaps > 200, "{told:?}");
    let outages: Vec<_> = told.iter().filter(|told| told.2 > 300.0).collect();
    assert!(outages.len() == 1 && (650.0..1100.0).contains(&outages[0].2), "{told:?}");
}

/// Goal: weight 0 on every link sends everything on each, and one copy is delivered.
#[test]
fn plain_rist_duplicates_when_asked() {
    let (score, simulation) = plain(Profile::Main, 0.0, Some(0));
    assert_eq!(score.frames_on_time_percent, 100.0);
    assert!(score.sent_per_media > 2.0 && score.sent_per_media < 2.1, "{score:?}");
    assert!(simulation.receiver.snapshot(simulation.now).duplicates > 10_000);
}

/// Goal: encrypted with both key lengths and rotating nonces; a wrong passphrase lets nothing through.
#[test]
fn encryption_guards_the_flow() {
    let run = |ours: &str, theirs: &str, key_size| {
        let psk =
            |text: &str| Some(PskConfig { passphrase: Secret::new(text), key_size, rotate_after_packets: Some(500) });
        let sender = SenderConfig { psk: psk(ours), ..Default::default() };
        let receiver = ReceiverConfig { psk: psk(theirs), ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver, &[path("a", 8000, 20.0, 0.01)], 9);
        let items = load::video(4e6, 10.0);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(3));
        (simulation.delivered.len(), items.len())
    };
    for key_size in [KeySize::Aes128, KeySize::Aes256] {
        let (delivered, sent) = run("a secret", "a secret", key_size);
        assert_eq!(delivered, sent);
    }
    assert_eq!(run("a secret", "another", KeySize::Aes128).0, 0);
}

/// Goal: media flows after the login, over both links, under the session's key; a wrong password keeps it out.
#[test]
fn a_login_opens_the_flow() {
    let login = |password: &str| Login { user: "van".into(), password: Secret::new(password) };
    let run = |password: &str| {
        let sender = SenderConfig { srp: Some(login(password)), ..Default::default() };
        let receiver = ReceiverConfig { srp_users: vec![login("right")], ..Default::default() };
        let paths = [path("a", 8000, 20.0, 0.01), path("b", 8000, 40.0, 0.01)];
        let mut simulation = Simulation::new(sender, receiver, &paths, 11);
        let items = load::video(4e6, 10.0);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(3));
        (simulation.delivered.len(), items.len(), simulation.sender.snapshot(simulation.now))
    };
    let (delivered, sent, snapshot) = run("right");
    assert_eq!(delivered, sent);
    assert!(snapshot.links.iter().all(|link| link.packets_sent > 100), "{snapshot:?}");
    assert_eq!(run("wrong").0, 0);
}

/// Goal: null packets do not travel, and come out again where they were.
#[test]
fn null_packets_are_restored() {
    let sender = SenderConfig { null_deletion: true, ..Default::default() };
    let mut simulation = Simulation::new(sender, ReceiverConfig::default(), &[path("a", 8000, 20.0, 0.02)], 13);
    let mut sent = Vec::new();
    for i in 0..1000u32 {
        simulation.run_until(units::Timestamp::from_millis(u64::from(i) * 5));
        let mut payload = Vec::new();
        for slot in 0..7 {
            let mut packet = vec![0xff; 188];
            let null = (i + slot) % 3 != 0;
            packet[..4].copy_from_slice(&if null { [0x47, 0x1f, 0xff, 0x10] } else { [0x47, 1, 0, 0x10] });
            packet[4..8].copy_from_slice(&if null { [0xff; 4] } else { i.to_be_bytes() });
            payload.extend(packet);
        }
        let payload = bytes::Bytes::from(payload);
        sent.push(payload.clone());
        simulation.push(payload, PacketClass::Video);
    }
    simulation.run_until(simulation.now + Duration::from_secs(3));
    let delivered: Vec<_> = simulation.delivered.iter().map(|(_, d)| d.bytes.clone()).collect();
    assert!(delivered == sent, "{} of {}", delivered.len(), sent.len());
    assert!(simulation.up_bytes < 1000 * 800, "{} bytes sent", simulation.up_bytes);
}

/// Goal: fixed shares are of what is carried while a link is up: one that was away is not sent everything until it has made up for it.
#[test]
fn a_link_that_comes_back_has_its_share_and_no_more() {
    let mut paths = [path("a", 8000, 30.0, 0.0), path("b", 8000, 30.0, 0.0)];
    paths[1].outages = scenario::outages_of(&[(3_000, 18_000)]);
    let latency = Duration::from_secs(1);
    let sender = SenderConfig { latency, extension: Extension::Off, ..Default::default() };
    let receiver = ReceiverConfig { latency, extension: Extension::Off, ..Default::default() };
    let mut simulation = Simulation::without_links(sender, receiver, &paths, 5, SkewedClock::new(3_000_000, 40));
    for index in 0..2 {
        simulation.add_link(index, LinkOptions { weight: Some(1 + index as u32), ..Default::default() });
    }
    let mut before = None;
    for item in load::video(6e6, 26.0) {
        simulation.run_until(item.at);
        if before.is_none() && item.at > Timestamp::from_millis(22_000) {
            before = Some(simulation.sender.snapshot(simulation.now));
        }
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    let (before, after) = (before.expect("it ran for 26 s"), simulation.sender.snapshot(simulation.now));
    let sent = before.links.iter().zip(&after.links).map(|(before, after)| after.packets_sent - before.packets_sent);
    let sent: Vec<f64> = sent.map(|packets| packets as f64).collect();
    assert!((1.9..2.1).contains(&(sent[1] / sent[0])), "{sent:?}");
}

/// Goal: what is sent on every link of one class is held up by none of them: not by one of another class, nor by one that may carry
/// less than the media.
#[test]
fn copies_hold_up_nothing_that_nobody_has_yet() {
    let both = |change: fn(&mut LinkOptions)| {
        let mut other = LinkOptions { weight: Some(0), ..Default::default() };
        change(&mut other);
        [LinkOptions { weight: Some(0), ..Default::default() }, other]
    };
    for options in [both(|other| other.priority = 1), both(|other| other.rate_max = Some(Bitrate::from_kbps(1500)))] {
        let paths = [path("a", 8000, 30.0, 0.0), path("b", 8000, 50.0, 0.0)];
        let latency = Duration::from_millis(500);
        let sender = SenderConfig { latency, extension: Extension::Off, ..Default::default() };
        let receiver = ReceiverConfig { latency, extension: Extension::Off, ..Default::default() };
        let mut simulation = Simulation::without_links(sender, receiver, &paths, 5, SkewedClock::new(3_000_000, 40));
        options.iter().cloned().enumerate().for_each(|(index, options)| simulation.add_link(index, options));
        let items = load::video(3e6, 10.0);
        for item in &items {
            simulation.run_until(item.at);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(2));
        assert_eq!(simulation.delivered.len(), items.len(), "{options:?}");
        if options[1].rate_max.is_some() {
            let sent = simulation.sender.snapshot(simulation.now).links[1].packets_sent as f64 / items.len() as f64;
            assert!((0.3..0.6).contains(&sent), "copies of {sent}");
        }
    }
}
