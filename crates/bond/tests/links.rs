//! What links may be asked to do while a flow runs: budgets, priorities, prices, and what the operator is told of them.

mod simulation;

use bond::PacketClass;
use bond::config::{Extension, IPV4_UDP_BYTES, IPV6_UDP_BYTES, LinkOptions, ReceiverConfig, SenderConfig};
use bond::event::{Cause, StateReason};
use bond::sender::{LinkErrorKind, RadioHint, SenderInput};
use bond::stats::LinkState;
use link_sim::{Capacity, Outage, OutageKind, PathConfig, SkewedClock};
use simulation::{Simulation, follow, load, scenario};
use std::time::Duration;
use units::{Bitrate, ByteCount, LinkId, Timestamp};

/// Media packets and bytes sent on each link so far.
fn sent(simulation: &Simulation) -> Vec<(u64, u64)> {
    let snapshot = simulation.sender.snapshot(simulation.now);
    snapshot.links.iter().map(|link| (link.packets_sent, link.bytes_sent.as_u64())).collect()
}

struct Run {
    simulation: Simulation,
    items: Vec<load::Item>,
    next: usize,
}

impl Run {
    fn new(paths: &[PathConfig], options: Vec<LinkOptions>, bps: f64, seconds: f64) -> Self {
        let clock = SkewedClock::new(77_000_000, 0);
        let (sender, receiver) = (SenderConfig::default(), ReceiverConfig::default());
        let mut simulation = Simulation::without_links(sender, receiver, paths, 5, clock);
        for (index, options) in options.into_iter().enumerate() {
            simulation.add_link(index, options);
        }
        Self { simulation, items: load::video(bps, seconds), next: 0 }
    }

    /// Media until `seconds` of the run.
    fn until(&mut self, seconds: u64) {
        let end = Timestamp::from_millis(seconds * 1000);
        while let Some(item) = self.items.get(self.next).filter(|item| item.at < end) {
            self.simulation.run_until(item.at);
            self.simulation.push(load::payload(item.number), PacketClass::Video);
            self.next += 1;
        }
        self.simulation.run_until(end);
    }

    fn set(&mut self, link: u16, options: LinkOptions) {
        self.simulation.input(SenderInput::SetLinkOptions { link: LinkId(link), options });
    }

    /// Lets the rest arrive; how many packets did not.
    fn finish(&mut self) -> usize {
        self.simulation.run_until(self.simulation.now + Duration::from_secs(3));
        self.next - self.simulation.delivered.len()
    }

    fn count(&self, wanted: impl Fn(&Cause) -> bool) -> usize {
        self.simulation.sender_events.iter().filter(|event| wanted(&event.cause)).count()
    }
}

fn pair() -> Vec<PathConfig> {
    vec![scenario::link("a", 6000, 20.0, 200), scenario::link("b", 6000, 40.0, 200)]
}

fn options(name: &str) -> LinkOptions {
    LinkOptions { name: name.into(), ..Default::default() }
}

/// Goal: a link whose budget is spent carries keep-alive only, is told of once, and carries media again with a larger one.
#[test]
fn a_spent_budget_ends_the_media_of_a_link() {
    let budget = |bytes| LinkOptions { byte_budget: Some(ByteCount::new(bytes)), ..options("a") };
    let mut run = Run::new(&pair(), vec![budget(2_000_000), options("b")], 3e6, 40.0);
    run.until(15);
    let spent = sent(&run.simulation)[0];
    assert!((1_850_000..2_000_000).contains(&spent.1), "{spent:?} without IP headers");
    run.simulation.overheard = Some(Vec::new());
    run.until(25);
    let later = sent(&run.simulation)[0];
    let back = |link: usize| -> usize {
        let overheard = run.simulation.overheard.iter().flatten();
        overheard.filter(|one| one.link == link && !one.up).map(|one| one.bytes.len()).sum()
    };
    assert!(back(0) < 10 * 300, "{} bytes in 10 s on the way back", back(0));
    assert!(back(1) > 10_000, "{} bytes: nothing is shown", back(1));
    assert_eq!(later.0, spent.0, "no media");
    assert!(later.1 - spent.1 < 10 * 300, "{} bytes in 10 s", later.1 - spent.1);
    assert_eq!(run.count(|cause| matches!(cause, Cause::BudgetSpent { link: LinkId(0), .. })), 1);
    assert!(run.simulation.sender.snapshot(run.simulation.now).links[0].budget_spent);
    run.set(0, budget(4_000_000));
    run.until(30);
    assert!(sent(&run.simulation)[0].1 > later.1 + 500_000, "{:?}", sent(&run.simulation));
    assert_eq!(run.finish(), 0);
}

/// Goal: a metered link that is taken out and put back again and again, as a modem that reconnects, carries no more than its
/// budget in all; with a larger one it carries the difference, and another link under its id has a budget of its own.
#[test]
fn a_budget_counts_on_when_its_link_comes_again() {
    let named = |name, bytes| LinkOptions { byte_budget: Some(ByteCount::new(bytes)), ..options(name) };
    let mut run = Run::new(&pair(), vec![named("a", 2_000_000), options("b")], 3e6, 50.0);
    let (mut packets, mut bytes) = (0, 0);
    let mut again = |run: &mut Run, second, options: LinkOptions| {
        run.until(second);
        let carried = sent(&run.simulation)[0];
        (packets, bytes) = (packets + carried.0, bytes + carried.1);
        // Removed and added, or replaced.
        if second % 4 == 0 {
            run.simulation.input(SenderInput::RemoveLink { link: LinkId(0) });
        }
        run.simulation.add_link(0, options);
        (packets, bytes)
    };
    let (mut before, mut all) = ((0, 0), (0, 0));
    for second in (2..=24).step_by(2) {
        before = all;
        all = again(&mut run, second, named("a", 2_000_000));
    }
    assert!((1_800_000..2_020_000).contains(&all.1), "{all:?} without IP headers");
    assert_eq!(all.0, before.0, "no media at last");
    assert_eq!(again(&mut run, 26, named("a", 3_000_000)).0, all.0);
    for second in (28..=36).step_by(2) {
        all = again(&mut run, second, named("a", 3_000_000));
    }
    assert!((2_700_000..3_030_000).contains(&all.1), "{all:?} without IP headers");
    again(&mut run, 38, named("c", 2_000_000));
    run.until(42);
    assert!(sent(&run.simulation)[0].0 > 200, "{:?}", sent(&run.simulation));
    assert_eq!(run.finish(), 0);
}

/// Goal: a link whose budget is spent costs no more while its receiver is off, is up again soon after another one comes, and
/// carries media with a larger budget; a last resort is asked often, and is back at once.
#[test]
fn a_spent_link_rests_while_the_receiver_is_off() {
    for last_resort in [false, true] {
        let mut paths = pair();
        for path in &mut paths {
            path.outages = scenario::outages_of(&[(15_000, 75_000)]);
        }
        let budget = |bytes| {
            let byte_budget = Some(ByteCount::new(bytes));
            LinkOptions { byte_budget, last_resort, ..options("a") }
        };
        let mut run = Run::new(&paths, vec![budget(1_000_000), options("b")], 2e6, 100.0);
        run.until(30);
        let before = sent(&run.simulation)[0].1;
        let clock = SkewedClock::new(99_000_000, 0);
        run.simulation.replace_receiver(ReceiverConfig::default(), 12, clock);
        run.until(70);
        let asked = sent(&run.simulation)[0].1 - before;
        let state = |run: &Run| run.simulation.sender.snapshot(run.simulation.now).links[0].state;
        println!("last resort {last_resort}: {asked} bytes in 40 s, {:?}", state(&run));
        assert_eq!(state(&run), LinkState::Down);
        assert!(if last_resort { asked > 40 * 500 } else { asked < 40 * 300 }, "{asked} bytes in 40 s");
        run.until(if last_resort { 76 } else { 80 });
        assert_eq!(state(&run), LinkState::Up);
        run.until(85);
        let rested = sent(&run.simulation)[0].0;
        run.set(0, budget(3_000_000));
        run.until(90);
        let carried = sent(&run.simulation)[0].0 - rested;
        assert!(carried > 200, "{carried} packets with a larger budget");
    }
}

/// Goal: a larger budget makes a link that is down ask at once, though it rested.
#[test]
fn a_larger_budget_ends_the_rest_of_a_link_at_once() {
    for raised in [40_000, 40_500, 41_000] {
        let mut paths = pair();
        paths[0].outages = scenario::outages_of(&[(15_000, raised + 20)]);
        let budget = |bytes| LinkOptions { byte_budget: Some(ByteCount::new(bytes)), ..options("a") };
        let mut run = Run::new(&paths, vec![budget(1_000_000), options("b")], 2e6, 50.0);
        run.until(40);
        let state = |run: &Run| run.simulation.sender.snapshot(run.simulation.now).links[0].state;
        assert_eq!(state(&run), LinkState::Down);
        run.simulation.run_until(Timestamp::from_millis(raised));
        run.set(0, budget(3_000_000));
        run.simulation.run_until(Timestamp::from_millis(raised + 350));
        assert_eq!(state(&run), LinkState::Up, "raised after {raised} ms");
    }
}

/// Goal: a link of last resort goes on beyond its budget while nothing else is up, and rests again afterwards.
#[test]
fn a_last_resort_carries_on_beyond_its_budget() {
    for last_resort in [true, false] {
        let mut paths = pair();
        paths[1].outages = scenario::outages_of(&[(15_000, 20_000)]);
        let byte_budget = Some(ByteCount::new(1_000_000));
        let metered = LinkOptions { byte_budget, last_resort, ..options("a") };
        let mut run = Run::new(&paths, vec![metered, options("b")], 2e6, 30.0);
        run.until(14);
        let before = sent(&run.simulation)[0].0;
        run.until(22);
        let during = sent(&run.simulation)[0].0;
        run.until(30);
        assert!(sent(&run.simulation)[0].0 - during < 5, "it rests again");
        let lost = run.finish();
        if last_resort {
            assert!(during - before > 700 && lost == 0, "{} packets sent, {lost} lost", during - before);
        } else {
            assert!(during == before && lost > 500, "{} packets sent, {lost} lost", during - before);
        }
    }
}

/// Goal: the first priority carries everything it can; exchanged while running, the other one does.
#[test]
fn priorities_change_while_running() {
    let priority = |name: &str, priority| LinkOptions { priority, keep_warm: false, ..options(name) };
    let mut run = Run::new(&pair(), vec![priority("a", 1), priority("b", 0)], 2e6, 30.0);
    run.until(15);
    let first = sent(&run.simulation);
    assert!(first[0].0 < first[1].0 / 50, "{first:?}");
    run.set(0, priority("a", 0));
    run.set(1, priority("b", 1));
    run.until(30);
    let second = sent(&run.simulation);
    assert!(second[1].0 - first[1].0 < (second[0].0 - first[0].0) / 50, "{first:?} {second:?}");
    assert_eq!(run.finish(), 0);
}

/// Goal: of two links the cheaper one is used though it is slower, until it is full.
#[test]
fn the_cheaper_link_is_preferred() {
    let price = |name: &str, price| LinkOptions { price, keep_warm: false, ..options(name) };
    let mut run = Run::new(&pair(), vec![price("a", 30), price("b", 2)], 2e6, 15.0);
    run.until(15);
    let packets = sent(&run.simulation);
    assert!(packets[0].0 < packets[1].0 / 10, "{packets:?}");
    let mut run = Run::new(&pair(), vec![price("a", 30), price("b", 2)], 8e6, 15.0);
    run.until(15);
    assert_eq!(run.finish(), 0, "both together carry what the cheaper one cannot");
}

/// Goal: an idle link gets a copy now and then, which costs less than 0.5 %, and no copy when it is not wanted.
#[test]
fn an_idle_link_is_kept_warm() {
    for keep_warm in [true, false] {
        let idle = LinkOptions { priority: 3, keep_warm, ..options("b") };
        let mut run = Run::new(&pair(), vec![options("a"), idle], 3e6, 30.0);
        run.until(10);
        let before = sent(&run.simulation);
        run.until(30);
        let after = sent(&run.simulation);
        let (copies, media) = (after[1].0 - before[1].0, after[0].0 - before[0].0);
        if keep_warm {
            assert!((10..=40).contains(&copies) && copies * 200 < media, "{copies} copies of {media} packets");
        } else {
            assert_eq!(copies, 0);
        }
        assert_eq!(run.finish(), 0);
    }
}

/// Goal: the operator learns why a picture suffered, from figure to figure, and is not flooded.
#[test]
fn a_jam_and_its_end_are_told_with_figures() {
    let mut paths = pair();
    paths[1].up.capacity = Capacity::Steps { steps: vec![(0, 6000), (12_000, 900), (22_000, 6000)] };
    paths[1].up.queue_bytes = 1_000_000;
    let mut run = Run::new(&paths, vec![options("a"), options("b")], 8e6, 40.0);
    run.until(40);
    let told: Vec<(u64, f64, f64)> = run
        .simulation
        .sender_events
        .iter()
        .filter_map(|event| match &event.cause {
            Cause::LinkCapacity { link: LinkId(1), before, now, .. } => {
                Some((event.at.as_millis(), before.as_bps() as f64 / 1e6, now.as_bps() as f64 / 1e6))
            }
            _ => None,
        })
        .collect();
    for event in &run.simulation.sender_events {
        println!("{:6} ms  {event}", event.at.as_millis());
    }
    let jam = told.iter().find(|(at, ..)| *at >= 12_000).expect("an event");
    assert!(jam.0 < 14_000 && jam.1 > 4.0 && jam.2 < jam.1, "{jam:?}");
    let lowest = told.iter().filter(|(at, ..)| (12_000..22_000).contains(at)).map(|(.., now)| *now).fold(9.0, f64::min);
    assert!(lowest < 2.0, "{told:?}");
    assert!(told.iter().any(|(at, before, now)| *at > 22_000 && now > before), "{told:?}");
    assert!(run.simulation.sender_events.len() < 60, "{} events in 40 s", run.simulation.sender_events.len());
    assert!(run.count(|cause| matches!(cause, Cause::RateAdvice { .. })) >= 2, "the advice followed");
    // What is told first is what was seen first: the queue grew and the rate fell.
    let fell = run.simulation.sender_events.iter().find(|event| {
        event.at >= Timestamp::from_millis(12_000) && matches!(event.cause, Cause::LinkCapacity { link: LinkId(1), .. })
    });
    let Some(Cause::LinkCapacity { queue_before_ms, queue_now_ms, .. }) = fell.map(|event| &event.cause) else {
        panic!("no event")
    };
    assert!(*queue_before_ms < 40.0 && *queue_now_ms > queue_before_ms + 20.0, "{queue_before_ms} {queue_now_ms}");
    let sentence = fell.map(ToString::to_string).unwrap_or_default();
    let parts = ["link b: ", "queue delay ", " -> ", " ms", "capacity ", "bit/s"];
    assert!(parts.iter().all(|part| sentence.contains(part)), "{sentence}");
}

/// Goal: a link that rests brings the reports where nothing gets back over the others, which then carry on.
#[test]
fn a_link_that_rests_is_a_way_back() {
    for last_resort in [false, true] {
        let mut paths = pair();
        paths[1].down.capacity = Capacity::Steps { steps: vec![(0, 10_000), (15_000, 0)] };
        let spent = LinkOptions { byte_budget: Some(ByteCount::new(2_000_000)), last_resort, ..options("a") };
        let mut run = Run::new(&paths, vec![spent, options("b")], 3e6, 60.0);
        run.until(15);
        assert!(run.simulation.sender.snapshot(run.simulation.now).links[0].budget_spent);
        run.until(20);
        let before = sent(&run.simulation);
        run.until(60);
        let after = sent(&run.simulation);
        let carried: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after.0 - before.0).collect();
        let lost = run.finish();
        assert!(carried[0] < 40 && carried[1] > 10_000, "{carried:?}");
        assert!(lost < 10, "{lost} lost");
    }
}

/// Goal: a budget counts what a network counts, with the headers of the IP version in use.
#[test]
fn a_budget_counts_the_headers() {
    let carried = |header_bytes| {
        let byte_budget = Some(ByteCount::new(2_000_000));
        let metered = LinkOptions { byte_budget, header_bytes, ..options("a") };
        let mut run = Run::new(&pair(), vec![metered, options("b")], 3e6, 12.0);
        run.until(12);
        let snapshot = run.simulation.sender.snapshot(run.simulation.now);
        assert!(snapshot.links[0].budget_spent);
        run.simulation.overheard.take();
        sent(&run.simulation)[0].1
    };
    let (four, six) = (carried(IPV4_UDP_BYTES), carried(IPV6_UDP_BYTES));
    // 1,400 bytes at most in each datagram.
    assert!(four > six + 2_000_000 / 1448 * 15, "{four} and {six} bytes");
}

/// Goal: a link that cannot send is down for the reason the system gives, told once however often it is tried, and is up soon after
/// there is a way; one whose interface is pulled is down for that, not for the silence that follows.
#[test]
fn a_link_without_a_way_says_why() {
    let (only, mut paths) = (LinkId(0), pair()[..1].to_vec());
    let outage = |from_ms, to_ms| Outage { from_ms, to_ms, kind: OutageKind::Lose };
    paths[0].outages = vec![outage(0, 3000), outage(6000, 9000), outage(10_000, 18_000)];
    let mut run = Run::new(&paths, vec![], 1e6, 15.0);
    let error = |run: &mut Run, kind| run.simulation.input(SenderInput::LinkError { link: only, kind });
    run.simulation.input(SenderInput::AddLink { link: only, options: options("only") });
    for second in 1..=3 {
        error(&mut run, LinkErrorKind::Unreachable);
        run.until(second);
    }
    run.simulation.input(SenderInput::LinkAddressChanged { link: only });
    run.until(6);
    error(&mut run, LinkErrorKind::CarrierLost);
    run.until(9);
    run.simulation.input(SenderInput::LinkAddressChanged { link: only });
    run.until(10);
    // Refused for a moment while nobody answers: it can send again, and is asked for again.
    error(&mut run, LinkErrorKind::Other);
    run.until(17);
    let told = run.simulation.sender_events.iter().filter_map(|event| match event.cause {
        Cause::LinkState { to, reason, .. } => Some((to, reason)),
        _ => None,
    });
    let expected = [
        (LinkState::Probe, StateReason::Added),
        (LinkState::Down, StateReason::Unreachable),
        (LinkState::Probe, StateReason::AddressChanged),
        (LinkState::Up, StateReason::Answered),
        (LinkState::Suspect, StateReason::CarrierLost),
        (LinkState::Down, StateReason::CarrierLost),
        (LinkState::Probe, StateReason::AddressChanged),
        (LinkState::Up, StateReason::Answered),
        (LinkState::Suspect, StateReason::SendError),
        (LinkState::Down, StateReason::SendError),
        (LinkState::Probe, StateReason::AddressChanged),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

/// Goal: loss is told by its level.
#[test]
fn loss_is_told() {
    let mut paths = pair();
    paths[0].up.loss = 0.06;
    let mut run = Run::new(&paths, vec![options("a"), options("b")], 4e6, 20.0);
    run.until(20);
    let told = |event: &bond::event::Event| match &event.cause {
        Cause::LinkLoss { link: LinkId(0), before, now, .. } => Some((before.as_f64(), now.as_f64())),
        _ => None,
    };
    let told: Vec<_> = run.simulation.sender_events.iter().filter_map(told).collect();
    assert!((1..=4).contains(&told.len()) && told[0].0 < 0.01 && told[0].1 >= 0.03, "{told:?}");
    assert_eq!(run.finish(), 0);
}

/// Goal: a fading signal lowers what a link is believed to carry, before its queue shows it.
#[test]
fn a_fading_signal_lowers_the_capacity() {
    let mut run = Run::new(&pair(), vec![options("a"), options("b")], 6e6, 12.0);
    run.until(10);
    let capacity = |run: &Run| run.simulation.sender.snapshot(run.simulation.now).links[0].capacity;
    let before = capacity(&run);
    assert!(before > Bitrate::from_kbps(3000));
    for rsrp in [-85.0, -93.0] {
        let hint = RadioHint { rsrp_dbm: Some(rsrp), ..Default::default() };
        run.simulation.input(SenderInput::RadioHint { link: LinkId(0), hint });
    }
    let share = capacity(&run).as_bps() as f64 / before.as_bps() as f64;
    assert!((0.69..0.71).contains(&share), "{share}");
}

/// Goal: a sender that slept (a laptop's lid, a stopped process) sends nothing of before: a receiver that has forgotten the flow
/// would take it for a new one.
#[test]
fn after_a_sleep_nothing_old_is_sent() {
    let paths = [scenario::link("a", 8000, 20.0, 400), scenario::link("b", 8000, 20.0, 400)];
    for (slept, later) in (0..120).flat_map(|later| [2, 20, 600].map(|slept| (slept, later))) {
        let mut run = Run::new(&paths, vec![LinkOptions::default(); 2], 4e6, 0.0);
        run.simulation.run_until(Timestamp::from_millis(100));
        for number in 0..4 {
            run.simulation.push(load::payload(number), PacketClass::Idr);
        }
        run.simulation.run_until(run.simulation.now + Duration::from_millis(later));
        run.simulation.log = Some(Vec::new());
        run.simulation.now += Duration::from_secs(slept);
        run.simulation.input(SenderInput::Timeout);
        run.simulation.run_until(run.simulation.now + Duration::from_secs(5));
        let log = run.simulation.log.take().unwrap_or_default();
        let old: Vec<_> = log.iter().filter_map(|carried| carried.number).collect();
        assert_eq!(old, [0u32; 0], "sent after {slept} s, {later} ms behind the media");
    }
}

/// Goal: a link that is taken out and put back under its id and address, as an interface that was gone for a moment, carries
/// again within a second, however little it had sent before: its numbers begin again, within those that the receiver remembers.
#[test]
fn a_link_that_is_put_back_counts_anew() {
    for before in [1, 2, 4] {
        let mut run = Run::new(&pair(), vec![options("a"), options("b")], 3e6, 20.0);
        run.until(before);
        run.simulation.input(SenderInput::RemoveLink { link: LinkId(0) });
        run.until(before + 1);
        run.simulation.add_link(0, options("a"));
        run.until(before + 2);
        let early = sent(&run.simulation)[0].0;
        run.until(before + 6);
        let states: Vec<_> = run.simulation.sender.snapshot(run.simulation.now).links.iter().map(|l| l.state).collect();
        assert_eq!(states, [LinkState::Up; 2], "after {before} s");
        let carried = sent(&run.simulation)[0].0 - early;
        assert!(carried > 400, "{carried} packets in 4 s after {before} s");
        assert_eq!(run.finish(), 0);
    }
}

/// Goal: the last class carries what the others can not, whatever the numbers of the classes are and however the media is paced: by
/// an encoder of its own mind, by one that follows the advice, and by a source that is held back.
#[test]
fn the_last_class_carries_what_the_others_can_not() {
    let classes = |last| vec![options("a"), LinkOptions { priority: last, ..options("b") }];
    for last in [1, 10] {
        let mut run = Run::new(&pair(), classes(last), 8e6, 20.0);
        run.until(20);
        assert_eq!(run.finish(), 0, "priority {last}");
    }
    let bond = |last, extension| {
        let clock = SkewedClock::new(77_000_000, 0);
        let receiver = ReceiverConfig { extension, ..Default::default() };
        let sender = SenderConfig::default();
        let mut simulation = Simulation::without_links(sender, receiver, &pair(), 5, clock);
        classes(last).into_iter().enumerate().for_each(|(index, options)| simulation.add_link(index, options));
        simulation
    };
    let payload = load::PAYLOAD_BYTES as f64 / follow::WIRE_BYTES as f64;
    for last in [1, 10] {
        let run = follow::run_in(
            bond(last, Extension::Offer),
            Duration::from_secs(1),
            40,
            follow::Encoder::default(),
            |_| (),
        );
        let used = run.delivered(15.0, 40.0) / (12e6 * payload);
        assert!(used > 0.85, "priority {last}: an encoder that follows uses {used}");
        assert_eq!(run.made_and_lost(5.0, 40.0).1, 0, "priority {last}");
    }
    // A plain receiver's echoes drive the links alike.
    for extension in [Extension::Offer, Extension::Off] {
        let mut simulation = bond(1, extension);
        let mut number = 0;
        let mut at_five = 0;
        for ms in (0..20_000).step_by(5) {
            simulation.run_until(Timestamp::from_millis(ms));
            for _ in 0..simulation.sender.room(simulation.now) {
                simulation.push(load::payload(number), PacketClass::Video);
                number += 1;
            }
            at_five = if ms <= 5000 { number } else { at_five };
        }
        let used = f64::from(number - at_five) * load::PAYLOAD_BYTES as f64 * 8.0 / 15.0 / (12e6 * payload);
        assert!(used > 0.8, "{extension:?}: a source that is held back uses {used}");
        simulation.run_until(simulation.now + Duration::from_secs(3));
        assert_eq!(simulation.delivered.len(), number as usize);
    }
}
