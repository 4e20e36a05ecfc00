//! Another far end than before, or somebody who says that he is one: the flow goes on.

mod simulation;

use bond::config::{Extension, ReceiverConfig, SenderConfig};
use bond::event::Cause;
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::SenderInput;
use bond::{Channel, PacketClass};
use link_sim::{Outage, OutageKind, PathConfig, SkewedClock};
use simulation::{Simulation, load, scenario};
use std::net::SocketAddr;
use std::time::Duration;
use units::{LinkId, Timestamp};

const LATENCY: Duration = Duration::from_secs(1);
/// Of every receiver but the first: it was started later, so its clock shows less.
const LATER: SkewedClock = SkewedClock::new(60_000_000, 30);

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as u64)
}

fn paths() -> Vec<PathConfig> {
    vec![scenario::link("a", 6000, 20.0, 200), scenario::link("b", 6000, 40.0, 200)]
}

fn receiver(extension: Extension) -> ReceiverConfig {
    ReceiverConfig { latency: LATENCY, extension, ..Default::default() }
}

/// 3 Mbit/s for some time, and what became of it.
struct Run {
    simulation: Simulation,
    items: Vec<load::Item>,
}

impl Run {
    /// `each` is called before every packet.
    fn new(extension: Extension, paths: &[PathConfig], seconds: f64, mut each: impl FnMut(&mut Simulation)) -> Self {
        let sender = SenderConfig { latency: LATENCY, ..Default::default() };
        let mut simulation = Simulation::new(sender, receiver(extension), paths, 3);
        let items = load::video(3e6, seconds);
        for item in &items {
            simulation.run_until(item.at);
            each(&mut simulation);
            simulation.push(load::payload(item.number), PacketClass::Video);
        }
        simulation.run_until(simulation.now + Duration::from_secs(3));
        Self { simulation, items }
    }

    /// Packets made in these seconds, and how many of them were delivered.
    fn made_and_delivered(&self, from: f64, to: f64) -> (usize, usize) {
        let made = |number: u32| (at(from)..at(to)).contains(&self.items[number as usize].at);
        let numbers = self.simulation.delivered.iter().map(|(_, delivered)| load::number(&delivered.bytes));
        (self.items.iter().filter(|item| made(item.number)).count(), numbers.filter(|number| made(*number)).count())
    }

    /// The same in milliseconds from making to delivery: the shortest and the longest.
    fn latency(&self, from: f64, to: f64) -> (f64, f64) {
        let made = |number: u32| self.items[number as usize].at;
        let times = self.simulation.delivered.iter().map(|(at, d)| (made(load::number(&d.bytes)), *at));
        let times = times.filter(|(made, _)| (at(from)..at(to)).contains(made));
        let times: Vec<f64> = times.map(|(made, at)| (at - made).as_secs_f64() * 1e3).collect();
        (times.iter().copied().fold(f64::MAX, f64::min), times.iter().copied().fold(0.0, f64::max))
    }

    fn count(&self, which: impl Fn(&Cause) -> bool) -> usize {
        self.simulation.sender_events.iter().filter(|event| which(&event.cause)).count()
    }

    fn fallen_back(&self) -> usize {
        self.count(|cause| matches!(cause, Cause::ExtensionLost { .. }))
    }

    fn extension(&self) -> bool {
        self.simulation.sender.snapshot(self.simulation.now).extension
    }
}

/// A receiver takes the place of another one at 10 s, at once or after `away` seconds.
fn replaced(before: Extension, after: Extension, away: f64) -> Run {
    let mut paths = paths();
    if away > 0.0 {
        let to_ms = 10_000 + (away * 1e3) as u64;
        let outage = Outage { from_ms: 10_000, to_ms, kind: OutageKind::Lose };
        for path in &mut paths {
            path.outages = vec![outage];
        }
    }
    let mut done = false;
    Run::new(before, &paths, 30.0, |simulation| {
        if !done && simulation.now > at(10.0) {
            done = true;
            simulation.replace_receiver(receiver(after), 99, LATER);
        }
    })
}

/// A datagram of somebody who speaks the extension, or not.
fn stranger(simulation: &Simulation, extension: Extension) -> Vec<u8> {
    let now = simulation.clock.local(simulation.now);
    let mut other = Receiver::new(receiver(extension), 99, now).expect("a valid configuration");
    let to = SocketAddr::from(([10, 0, 0, 9], 7));
    other.handle_input(now, ReceiverInput::Connect { local: 0, to });
    loop {
        match other.poll_output(now) {
            ReceiverOutput::Transmit { bytes, .. } => return bytes.to_vec(),
            ReceiverOutput::Timeout(_) => panic!("whoever calls sends a keep-alive"),
            _ => {}
        }
    }
}

fn forge(simulation: &mut Simulation, link: u16, extension: Extension) {
    let mut bytes = stranger(simulation, extension);
    simulation.input(SenderInput::Datagram { link: LinkId(link), channel: Channel::Media, bytes: &mut bytes });
}

/// Goal: whoever takes the receiver's place gets the flow, within three seconds where he does not speak the extension, else
/// within one, and at the latency that was asked for.
#[test]
fn a_receiver_is_replaced_by_another_one() {
    use Extension::{Off, Offer};
    for away in [0.0, 0.4, 6.0] {
        for (before, after, within) in [(Offer, Off, 3.0), (Off, Offer, 1.0), (Offer, Offer, 1.0), (Off, Off, 1.0)] {
            let run = replaced(before, after, away);
            let from = 10.0 + away + within;
            let (made, delivered) = run.made_and_delivered(from, 30.0);
            let latency = run.latency(from + 5.0, 30.0);
            let gap = run.made_and_delivered(10.0, from);
            let rates: Vec<_> = run
                .simulation
                .sender
                .snapshot(run.simulation.now)
                .links
                .iter()
                .map(|l| l.capacity.as_bps() / 1000)
                .collect();
            println!(
                "{before:?} -> {after:?} after {away} s: {delivered} of {made}, {latency:?} ms, at first {gap:?}, {rates:?}"
            );
            assert_eq!(delivered, made, "{before:?} -> {after:?} after {away} s");
            assert!(latency.0 > 1015.0 && latency.1 < 1060.0, "{before:?} -> {after:?} after {away} s: {latency:?}");
            assert_eq!(run.extension(), after == Offer);
            assert_eq!(run.fallen_back(), usize::from(before == Offer && after == Off));
        }
    }
}

/// Goal: a forged announcement towards a plain peer changes nothing while the flow runs, once or each second, on one link or on
/// all; at the start it costs two seconds.
#[test]
fn a_forged_keep_alive_does_not_end_the_flow() {
    for (every, links) in [(1000.0, 1), (1.0, 1), (1.0, 2), (0.07, 2)] {
        let mut next = at(10.0);
        let run = Run::new(Extension::Off, &paths(), 30.0, |simulation| {
            if simulation.now >= next {
                next += Duration::from_secs_f64(every);
                (0..links).for_each(|link| forge(simulation, link, Extension::Offer));
            }
        });
        let (made, delivered) = run.made_and_delivered(0.0, 30.0);
        println!("every {every} s on {links} links: {delivered} of {made}");
        assert_eq!(delivered, made, "every {every} s on {links} links");
        assert_eq!((run.extension(), run.fallen_back()), (false, 0));
    }
    let mut next = Timestamp::ZERO;
    let run = Run::new(Extension::Off, &paths(), 30.0, |simulation| {
        if simulation.now >= next {
            next += Duration::from_millis(20);
            forge(simulation, 0, Extension::Offer);
        }
    });
    let (made, delivered) = run.made_and_delivered(3.0, 30.0);
    println!("from the start: {delivered} of {made}, {:?} ms", run.latency(8.0, 30.0));
    assert_eq!(delivered, made);
    assert_eq!((run.extension(), run.fallen_back()), (false, 1));
}

/// Goal: nor does a forged keep-alive without the extension end it between our own ends.
#[test]
fn a_forged_plain_keep_alive_changes_nothing() {
    let mut next = at(5.0);
    let run = Run::new(Extension::Offer, &paths(), 15.0, |simulation| {
        if simulation.now >= next {
            next += Duration::from_millis(30);
            forge(simulation, 1, Extension::Off);
        }
    });
    let (made, delivered) = run.made_and_delivered(0.0, 15.0);
    assert_eq!(delivered, made);
    assert_eq!((run.extension(), run.fallen_back()), (true, 0));
}

/// Goal: an outage of all links, of both ways or of one, for long or again and again, is none of the far end: it is the same
/// one, with the extension, when it is over.
#[test]
fn an_outage_is_not_taken_for_a_plain_peer() {
    let outage = |from_ms, to_ms, kind| Outage { from_ms, to_ms, kind };
    // What is held for twelve seconds ends the flow at the receiver, and begins the next.
    for (kind, long) in [(OutageKind::Lose, 10_000), (OutageKind::Hold, 9_000), (OutageKind::Hold, 12_000)] {
        for (name, both, up, down) in [
            ("both ways", vec![outage(10_000, 10_000 + long, kind)], vec![], vec![]),
            ("there", vec![], vec![outage(10_000, 10_000 + long, kind)], vec![]),
            ("back", vec![], vec![], vec![outage(10_000, 10_000 + long, kind)]),
            (
                "again and again",
                (0..6).map(|i| outage(10_000 + i * 2_200, 12_000 + i * 2_200, kind)).collect(),
                vec![],
                vec![],
            ),
        ] {
            let mut paths = paths();
            for path in &mut paths {
                (path.outages, path.up.outages, path.down.outages) = (both.clone(), up.clone(), down.clone());
            }
            let mut next = Timestamp::ZERO;
            let run = Run::new(Extension::Offer, &paths, 35.0, |simulation| {
                if simulation.now >= next {
                    next += Duration::from_millis(100);
                    let extension = simulation.sender.snapshot(simulation.now).extension;
                    assert!(extension || simulation.now < at(1.0), "{name} at {}", simulation.now.as_secs_f64());
                }
            });
            let (made, delivered) = run.made_and_delivered(24.0, 35.0);
            println!("{name}, {kind:?}: {delivered} of {made}, before {:?}", run.made_and_delivered(10.0, 24.0));
            assert_eq!(delivered, made, "{name}, {kind:?}");
            let (soonest, latest) = run.latency(24.0, 35.0);
            assert!(1015.0 < soonest && latest < 1030.0, "{name}, {kind:?} {long}: {soonest} to {latest} ms");
            assert_eq!(run.fallen_back(), 0, "{name}, {kind:?}");
        }
    }
}

/// Goal: the ways back of the links on which the receiver reports are lost for ten seconds: the flow goes on over the one whose
/// echoes come, and the extension comes back with the ways.
#[test]
fn reports_that_are_lost_do_not_end_the_flow() {
    let mut paths = paths();
    paths.push(scenario::link("c", 6000, 60.0, 200));
    for path in &mut paths[..2] {
        path.down.outages = vec![Outage { from_ms: 10_000, to_ms: 20_000, kind: OutageKind::Lose }];
    }
    let run = Run::new(Extension::Offer, &paths, 30.0, |_| ());
    let parts = [(0.0, 9.9), (13.0, 20.0), (20.0, 30.0)].map(|(from, to)| run.made_and_delivered(from, to));
    println!("{parts:?}, of the three seconds between {:?}", run.made_and_delivered(9.9, 13.0));
    assert!(parts.iter().all(|(made, delivered)| made == delivered), "{parts:?}");
    assert_eq!((run.extension(), run.fallen_back()), (true, 1));
}

/// Goal: ends that were set differently both say so, once.
#[test]
fn different_latencies_are_told_at_both_ends() {
    let sender = SenderConfig { latency: LATENCY, ..Default::default() };
    let receiver = ReceiverConfig { latency: 2 * LATENCY, ..Default::default() };
    let mut simulation = Simulation::new(sender, receiver, &paths(), 3);
    for item in load::video(3e6, 8.0) {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    let told = |events: &[bond::event::Event]| -> Vec<String> {
        let differs = |event: &&bond::event::Event| matches!(event.cause, Cause::LatencyDiffers { .. });
        events.iter().filter(differs).map(ToString::to_string).collect()
    };
    let [one, two] = ["1000", "2000"];
    let says = |theirs, ours| {
        vec![format!("the far end has a latency of {theirs} ms, this one of {ours} ms: set the same on both")]
    };
    assert_eq!(told(&simulation.sender_events), says(two, one));
    assert_eq!(told(&simulation.receiver_events), says(one, two));
}
