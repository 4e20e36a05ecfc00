//! Ends whose settings do not fit: both tell their operators, once and with what to do.

mod simulation;

use bond::PacketClass;
use bond::config::{KeySize, LinkOptions, Login, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::{Cause, Event, Mismatch};
use link_sim::SkewedClock;
use simulation::{Simulation, load, scenario};

fn psk(passphrase: &str) -> PskConfig {
    let passphrase = Secret::new(passphrase);
    PskConfig { passphrase, key_size: KeySize::Aes128, rotate_after_packets: None }
}

fn login(password: &str) -> Login {
    Login { user: "crew".to_owned(), password: Secret::new(password) }
}

/// Two and a half minutes of 0.2 Mbit/s.
fn run(sender: SenderConfig, receiver: ReceiverConfig) -> Simulation {
    let paths = [scenario::link("a", 4000, 20.0, 200), scenario::link("b", 4000, 35.0, 200)];
    let mut simulation = Simulation::without_links(sender, receiver, &paths, 4, SkewedClock::new(55_000_000, 0));
    for (link, name) in ["a", "b"].into_iter().enumerate() {
        simulation.add_link(link, LinkOptions { name: name.to_owned(), ..Default::default() });
    }
    for item in load::even(2e5, 150.0) {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    simulation
}

fn told<T>(events: &[Event], of: impl Fn(&Cause) -> Option<T>) -> Vec<T> {
    events.iter().filter_map(|event| of(&event.cause)).collect()
}

/// Checks what both ends tell of a misfit.
fn check(simulation: &Simulation, expected: Mismatch) {
    assert!(simulation.delivered.is_empty());
    let refused = told(&simulation.receiver_events, |cause| match cause {
        Cause::PeerRefused { reason, datagrams, .. } => Some((*reason, *datagrams)),
        _ => None,
    });
    assert!(refused.iter().all(|(reason, datagrams)| *reason == expected && *datagrams >= 3), "{refused:?}");
    assert!((2..=3).contains(&refused.len()), "within a few seconds, then once a minute: {refused:?}");
    let unanswered = told(&simulation.sender_events, |cause| match cause {
        Cause::LinkUnanswered { name, .. } => Some(name.clone()),
        _ => None,
    });
    assert_eq!(unanswered, ["a", "b"], "each link once");
}

#[test]
fn pass_phrases_that_differ_are_told_at_both_ends() {
    for (ours, theirs, expected) in [
        (Some(psk("one")), Some(psk("another")), Mismatch::WrongKey),
        (Some(psk("one")), None, Mismatch::Encrypted),
        (None, Some(psk("one")), Mismatch::Clear),
    ] {
        let sender = SenderConfig { psk: ours, ..Default::default() };
        let receiver = ReceiverConfig { psk: theirs, ..Default::default() };
        check(&run(sender, receiver), expected);
    }
}

#[test]
fn log_ins_that_differ_are_told_at_both_ends() {
    for (ours, theirs) in
        [(Some(login("one")), vec![login("another")]), (Some(login("one")), vec![]), (None, vec![login("one")])]
    {
        let sender = SenderConfig { srp: ours, ..Default::default() };
        let receiver = ReceiverConfig { srp_users: theirs, ..Default::default() };
        check(&run(sender, receiver), Mismatch::LogIn);
    }
}

/// Goal: ends that fit tell of nothing, however slow their log-in and lossy their links.
#[test]
fn ends_that_fit_are_told_nothing_of_settings() {
    let sender = SenderConfig { psk: Some(psk("one")), srp: Some(login("one")), ..Default::default() };
    let receiver = ReceiverConfig { psk: Some(psk("one")), srp_users: vec![login("one")], ..Default::default() };
    let mut paths = [scenario::link("a", 4000, 300.0, 200), scenario::link("b", 4000, 35.0, 200)];
    for path in &mut paths {
        (path.up.loss, path.down.loss) = (0.1, 0.1);
    }
    let mut simulation = Simulation::new(sender, receiver, &paths, 4);
    for item in load::even(2e5, 30.0) {
        simulation.run_until(item.at);
        simulation.push(load::payload(item.number), PacketClass::Video);
    }
    assert!(!simulation.delivered.is_empty());
    for events in [&simulation.sender_events, &simulation.receiver_events] {
        let settings = told(events, |cause| cause.is_setting().then(|| cause.to_string()));
        assert!(settings.is_empty(), "{settings:?}");
    }
}
