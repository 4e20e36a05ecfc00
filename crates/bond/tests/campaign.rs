//! Random campaign: any mixture of links and impairments, invariants instead of figures.
//!
//! For every seed: nothing is delivered twice, out of order or damaged; neither end comes to spin, nor is woken for nothing time
//! and again; what both ends hold stays within the media of the latency budget and a few tables; no link is sent more than it
//! carries for long, either way; and once the impairments are over, everything arrives again, every link is up, and no encoder is
//! advised less than it makes.
//!
//! `cargo test` runs [`SEEDS`] seeds, `cargo test -p bond --test campaign -- --ignored thousands` runs [`THOUSANDS`]. A failing
//! seed is printed and replays bit-identically: `SEED=17 cargo test -p bond --test campaign -- --ignored --nocapture replay`
//! tells what it stands for and what happened.
#![allow(clippy::unwrap_used)] // a plan that can not be set up must fail

#[path = "campaign/payload.rs"]
mod payload;
#[path = "campaign/plan.rs"]
mod plan;
#[path = "campaign/queues.rs"]
mod queues;
mod simulation;

use bond::PacketClass;
use bond::config::LinkOptions;
use bond::sender::SenderInput;
use bond::stats::{LinkState, SenderSnapshot};
use link_sim::Bottleneck;
use plan::Plan;
use queues::Treated;
use simulation::held::{self, Owner};
use simulation::{Offer, Simulation, load};
use std::any::Any;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use units::{LinkId, Timestamp};

#[global_allocator]
static ALLOCATOR: held::Counting = held::Counting;

/// Seeds run by `cargo test`.
const SEEDS: u64 = 2000;
/// Seeds of the long campaign.
const THOUSANDS: u64 = 10_000;
/// Of these the ones that fail, each by its own cause: towards a plain peer bursts overflow on a link that loses 3 %; a queue
/// that two links share stays long under three times what it carries.
const KNOWN: [u64; 2] = [4720, 6548];
/// Seeds run side by side.
const THREADS: usize = 2;
/// Impairments happen in this time, from the start.
const TROUBLE_MS: u64 = 10_000;
/// After trouble the links get this time to come back.
const HEAL_MS: u64 = 4_000;
/// The load ends then; everything sent after healing must arrive.
const END_MS: u64 = 17_000;
const HEALED_MS: u64 = TROUBLE_MS + HEAL_MS;
/// What is under way then arrives in this time.
const DRAIN_MS: u64 = 4_000;
/// Links carry a load with its headers and repairs when they carry this many times as much.
const FED_SHARE: f64 = 1.365;

/// What an end holds beside the media of its budget: links' tables, blocks of memory, a second of repair symbols.
const HELD_BESIDE: f64 = 350_000.0;
/// The media of the budget and a second, times this: packets lie in blocks, and lists grow by doubling.
const HELD_MEDIA: f64 = 1.5;
/// At rest, when everything is delivered and confirmed, of the same.
const HELD_AT_REST: f64 = 0.3;
/// A link may be suspected for so long, beside the stalls of a recording.
const NOT_UP_MS: u64 = 500;
/// A link brings packets in time when the latency budget is longer than its delay by this.
const IN_TIME_MS: f64 = 30.0;
/// For narrower links no payloads are cut while others take them.
const MTU_WORTH: u32 = 1000;
/// Wake-ups within a second by which an end sends and delivers nothing.
const IDLE_WAKES: u64 = 250;
/// Bytes that the receiver sends: within a second, for each link besides; and for each link in the mean of a run, beside a
/// twentieth of what it is sent.
const RETURNED_SECOND: u64 = 60_000;
const RETURNED_SECOND_LINK: u64 = 15_000;
const RETURNED_MEAN_LINK: u64 = 14_000;
/// A packet is given up so long after its time.
const WAITED_BESIDE_MS: f64 = 600.0;

/// A run that is over.
struct Run {
    plan: Plan,
    simulation: Simulation,
    /// By TS packet.
    arrived: Vec<bool>,
    newest: Option<u64>,
    /// Held before anything began: by the sender, by the receiver.
    held_before: [i64; 2],
    /// The most that each held, and what it holds now.
    held_most: [i64; 2],
    held_now: [i64; 2],
    waited_ms: f64,
    /// What an encoder was advised after healing, at every fifth packet, in bit/s.
    advised: Vec<f64>,
    shared: Option<Bottleneck>,
    /// By link: when it was up last, and the longest time since healing in which it was not, in milliseconds.
    up_at: Vec<Timestamp>,
    not_up_ms: Vec<u64>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let plan = Plan::of(seed);
        let held_before = [Owner::Sender, Owner::Receiver].map(held::bytes);
        let (sender, receiver) = (plan.sender.clone(), plan.receiver.clone());
        let mut simulation = Simulation::without_links(sender, receiver, &plan.paths, seed, plan.clock);
        (simulation.offers, simulation.offers_down) = (Some(Vec::new()), Some(Vec::new()));
        simulation.digests = Some([DefaultHasher::new(), DefaultHasher::new()]);
        let shared = plan.shared.as_ref().map(|(links, queue_bytes)| {
            let bottleneck = Bottleneck::new(&plan.paths[links[0]].up.capacity, *queue_bytes).unwrap();
            simulation.share(links, &bottleneck);
            bottleneck
        });
        let (held_most, held_now) = ([0; 2], [0; 2]);
        let (arrived, newest, waited_ms, advised) = (Vec::new(), None, 0.0, Vec::new());
        let (up_at, not_up_ms) = (vec![Timestamp::from_millis(HEALED_MS); plan.paths.len()], vec![0; plan.paths.len()]);
        Self {
            plan,
            simulation,
            arrived,
            newest,
            held_before,
            held_most,
            held_now,
            waited_ms,
            advised,
            shared,
            up_at,
            not_up_ms,
        }
    }

    /// Takes and checks what was delivered, so that it is not held any more.
    fn take(&mut self) {
        for (_, delivered) in self.simulation.delivered.drain(..) {
            for number in payload::read(&delivered.bytes) {
                let newest = self.newest.replace(number);
                assert!(newest.is_none_or(|newest| number > newest), "TS packet {number} after {newest:?}");
                self.arrived[number as usize] = true;
            }
        }
        let held = [Owner::Sender, Owner::Receiver].map(held::bytes);
        for (end, held) in held.into_iter().enumerate() {
            self.held_now[end] = held - self.held_before[end];
            self.held_most[end] = self.held_most[end].max(self.held_now[end]);
        }
    }

    /// `tell` keeps the events, which the ends would else seem to hold.
    fn carry(&mut self, tell: bool) {
        for index in 0..self.plan.paths.len() {
            self.add_link(index);
        }
        let items = self.plan.items();
        self.arrived = vec![false; payload::ts_packets(items.len())];
        let (mut pulled, mut changed) = (0, false);
        for item in &items {
            self.simulation.run_until(item.at);
            self.take();
            let bytes = held::by(Owner::Sender, || payload::make(item.number));
            self.simulation.push(bytes, class(item));
            let is_at = |ms: u64| item.at >= Timestamp::from_millis(ms);
            if let Some((at, index)) = self.plan.pulled {
                if pulled == 0 && is_at(at) {
                    pulled = 1;
                    self.simulation.input(SenderInput::RemoveLink { link: LinkId(index as u16) });
                } else if pulled == 1 && is_at(at + 1000) {
                    pulled = 2;
                    self.add_link(index);
                }
            }
            if let Some((at, latency)) = self.plan.latency_change.filter(|_| !changed)
                && is_at(at)
            {
                changed = true;
                self.simulation.set_latency(latency);
            }
            if is_at(HEALED_MS) && item.number % 5 == 0 {
                self.advised.push(self.simulation.sender.rate_advice(self.simulation.now).as_bps() as f64);
            }
            if is_at(HEALED_MS) && item.number % 5 == 0 {
                self.watch_links();
            }
            if item.number % 50 == 0 {
                let queued_ms = self.simulation.sender.snapshot(self.simulation.now).queued.as_secs_f64() * 1e3;
                self.waited_ms = self.waited_ms.max(queued_ms);
            }
            if !tell {
                self.simulation.sender_events.clear();
                self.simulation.receiver_events.clear();
            }
        }
        for _ in 0..DRAIN_MS / 50 {
            self.simulation.run_until(self.simulation.now + Duration::from_millis(50));
            self.watch_links();
        }
        self.take();
    }

    fn watch_links(&mut self) {
        let now = self.simulation.now;
        for (index, link) in self.snapshot().links.iter().enumerate() {
            if link.state == LinkState::Up {
                self.up_at[index] = now;
            }
            self.not_up_ms[index] = self.not_up_ms[index].max((now - self.up_at[index]).as_millis() as u64);
        }
    }

    fn add_link(&mut self, index: usize) {
        let name = self.plan.paths[index].name.clone();
        self.simulation.add_link(index, LinkOptions { name, ..Default::default() });
    }

    fn snapshot(&self) -> SenderSnapshot {
        self.simulation.sender.snapshot(self.simulation.now)
    }

    /// The links behind each bottleneck.
    fn behind(&self) -> Vec<Vec<usize>> {
        let shared = self.plan.shared.as_ref().map_or(&[][..], |(links, _)| links);
        let own = (0..self.plan.paths.len()).filter(|index| !shared.contains(index)).map(|index| vec![index]);
        own.chain((!shared.is_empty()).then(|| shared.to_vec())).collect()
    }

    /// IP bytes that the bottleneck of these links carries between two milliseconds.
    fn carries(&self, links: &[usize], from: u64, to: u64) -> f64 {
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
        let shared = self.shared.as_ref().filter(|_| links.len() > 1);
        let own = || self.simulation.paths[links[0]].up().capacity_between(from, to);
        shared.map_or_else(own, |shared| shared.capacity_between(from, to)).unwrap()
    }

    /// By [`queues::BIN_MS`]: whether the links together carried less than the load and its repair in the second before, or did so
    /// within the latency budget, which may still have to be sent. A plain sender shares equally: there the least counts for each.
    fn starved(&self) -> Vec<bool> {
        let (behind, extension) = (self.behind(), self.snapshot().extension);
        let out = |link: &usize, from, to| {
            self.plan.paths[*link].outages.iter().any(|outage| outage.from_ms < to && from < outage.to_ms)
        };
        let bins = (END_MS + DRAIN_MS).div_ceil(queues::BIN_MS) + 1;
        let less = |bin: u64| {
            let to = (bin + 1) * queues::BIN_MS;
            let from = to.saturating_sub(1000);
            let each = behind.iter().map(|links| {
                let gone = links.iter().all(|link| out(link, from, to));
                let bytes = if gone && links.len() > 1 { 0.0 } else { self.carries(links, from, to) };
                (bytes, links.len() as f64)
            });
            let carried: f64 = if extension {
                each.map(|(bytes, _)| bytes).sum()
            } else {
                let least = each.map(|(bytes, links)| bytes / links).fold(f64::INFINITY, f64::min);
                least * self.plan.paths.len() as f64
            };
            let step = self.plan.load.iter().rfind(|step| step.0 * 1e3 <= to as f64);
            carried < FED_SHARE * step.map_or(0.0, |step| step.1) / 8.0 * (to - from) as f64 / 1e3
        };
        let less: Vec<bool> = (0..bins).map(less).collect();
        let back = (self.plan.latency_max().as_millis() as u64 + 500).div_ceil(queues::BIN_MS) as usize;
        (0..less.len()).map(|bin| less[bin.saturating_sub(back)..=bin].contains(&true)).collect()
    }

    /// Every bottleneck: its links, and how it was treated.
    fn bottlenecks(&self) -> Vec<(Vec<usize>, Treated)> {
        let starved = self.starved();
        let treated = |links: Vec<usize>| {
            let mine = |offer: &&Offer| links.contains(&offer.link);
            let offers: Vec<Offer> = self.simulation.offers.iter().flatten().filter(mine).copied().collect();
            let carries = |from, to| self.carries(&links, from, to);
            let treated = queues::treated(&offers, HEALED_MS, carries, |bin| starved[bin]);
            (links, treated)
        };
        self.behind().into_iter().map(treated).collect()
    }

    /// The longest time since healing in which the link's bottleneck carries nothing, as recordings do, in milliseconds.
    fn stalls_ms(&self, link: usize) -> u64 {
        const STEP_MS: u64 = 50;
        let behind = self.behind().into_iter().find(|links| links.contains(&link)).unwrap();
        let (mut longest, mut stalled) = (0, 0);
        for from in (HEALED_MS..END_MS + DRAIN_MS).step_by(STEP_MS as usize) {
            stalled = if self.carries(&behind, from, from + STEP_MS) > 0.0 { 0 } else { stalled + STEP_MS };
            longest = longest.max(stalled);
        }
        longest
    }

    /// The links that are faster than the latency budget, and take what is sent, carry less than the load and its repair.
    fn is_short_of_links(&self) -> bool {
        let latency = self.plan.latency_change.map_or(self.plan.sender.latency, |(_, latency)| latency);
        let in_time = |link: &usize| {
            let up = &self.plan.paths[*link].up;
            let delay_ms = up.delay_steps.last().map_or(up.delay_ms, |step| step.1) + up.jitter_ms;
            delay_ms + IN_TIME_MS <= latency.as_secs_f64() * 1e3
        };
        let is_wide = |link: &usize| {
            let up = &self.plan.paths[*link].up;
            up.mtu_steps.last().map_or(up.mtu, |step| Some(step.1)).is_none_or(|mtu| mtu >= MTU_WORTH)
        };
        let none_wide = !(0..self.plan.paths.len()).any(|link| is_wide(&link));
        let carries = |link: &usize| in_time(link) && (none_wide || is_wide(link));
        let fast = self.behind().into_iter().filter(|links| links.iter().any(carries));
        let carried: f64 = fast.map(|links| self.carries(&links, HEALED_MS, END_MS)).sum();
        let load = self.plan.load.last().map_or(0.0, |step| step.1);
        carried < FED_SHARE * load / 8.0 * (END_MS - HEALED_MS) as f64 / 1e3
    }

    /// IP bytes that the receiver sent: within any second the most, and in all.
    fn returned(&self) -> (u64, u64) {
        let mut seconds = [0; ((END_MS + DRAIN_MS) / 1000 + 1) as usize];
        for offer in self.simulation.offers_down.iter().flatten() {
            seconds[(offer.at.as_millis() / 1000) as usize] += offer.ip_bytes;
        }
        (seconds.iter().copied().max().unwrap_or(0), seconds.iter().sum())
    }

    /// Packets sent after healing, and those of them that did not arrive whole.
    fn healed(&self) -> (usize, usize) {
        let whole = |number: u32| {
            let first = payload::ts_packets(number as usize);
            self.arrived[first..first + payload::ts_packets(1)].iter().all(|arrived| *arrived)
        };
        let items = self.plan.items();
        let after = items.iter().filter(|item| item.at >= Timestamp::from_millis(HEALED_MS));
        (after.clone().count(), after.filter(|item| !whole(item.number)).count())
    }
}

fn run(seed: u64) -> Run {
    let mut run = Run::new(seed);
    run.carry(false);
    check(&run);
    run
}

fn class(item: &load::Item) -> PacketClass {
    match item.number % 50 {
        _ if item.key => PacketClass::Idr,
        7 => PacketClass::Audio,
        30 => PacketClass::Clock,
        _ => PacketClass::Video,
    }
}

fn check(run: &Run) {
    check_recovery(run);
    check_wakes(run);
    check_returns(run);
    check_memory(run);
    check_queues(run);
    check_advice(run);
    let sender = run.snapshot();
    let receiver = run.simulation.receiver.snapshot(run.simulation.clock.local(run.simulation.now));
    assert!(sender.extension || sender.fec_packets == 0, "a plain peer gets no repair packets");
    assert!(receiver.fec_packets <= 2 * sender.fec_packets && receiver.fec_recovered <= receiver.fec_packets);
    assert!(sender.fec_recovered <= receiver.fec_recovered);
    assert!(sender.fec_packets <= sender.packets_in, "{} repair packets", sender.fec_packets);
}

/// After the trouble everything arrives, on links that are all up.
///
/// Recordings go on stalling and loss goes on, also in bursts: over a single link a long one costs packets for good (2 % in seed
/// 2146), over several at most one (seed 1928). A short budget leaves no time to send again, nor for key pictures eight times the
/// others: 17 % in seed 6763; 34 % in seed 6730, where two of four links are slower than the budget and the others just carry the
/// load. A link may be suspected while a burst or a stall takes all that it is sent, no
/// longer.
fn check_recovery(run: &Run) {
    let (sent, missing) = run.healed();
    let allowed = match run.plan.paths.len() {
        _ if run.plan.short && run.is_short_of_links() => sent / 2,
        _ if run.plan.short => sent / 5,
        1 => sent / 40,
        _ => 1,
    };
    assert!(missing <= allowed, "{missing} of {sent} packets are missing after healing");
    let sender = run.snapshot();
    assert_eq!(sender.queued_packets, 0, "the queue is empty in the end");
    assert_eq!(sender.links.len(), run.plan.paths.len(), "no link is missing in the end");
    for (index, link) in sender.links.iter().enumerate() {
        let (not_up_ms, allowed) = (run.not_up_ms[index], NOT_UP_MS + run.stalls_ms(index));
        assert!(not_up_ms <= allowed, "{} was not up for {not_up_ms} ms after healing, now {}", link.name, link.state);
    }
}

/// Neither end is woken for nothing more than a few times in a second: the sender's clock ticks a hundred times, and by the rest
/// of the wake-ups it sends or the receiver delivers (102 and 150 for nothing at the most in 3000 seeds, of 3500 and 3278).
fn check_wakes(run: &Run) {
    for (end, wakes) in ["sender", "receiver"].into_iter().zip(run.simulation.wakes) {
        assert!(wakes.most_idle <= IDLE_WAKES, "the {end} is woken for nothing within a second: {wakes:?}");
    }
}

/// What comes back fits its way, and is little: reports in time, and what a stall has gathered is asked for again at its end
/// (71 kB in a second on one link, 92 on five, at the most). No queue on the way back overflows.
fn check_returns(run: &Run) {
    let links = run.plan.paths.len() as u64;
    let (most, all) = run.returned();
    let allowed = RETURNED_SECOND + RETURNED_SECOND_LINK * links;
    assert!(most <= allowed, "the receiver sends {most} bytes within a second, {allowed} are allowed");
    let allowed = RETURNED_MEAN_LINK * links * (END_MS + DRAIN_MS) / 1000 + run.simulation.up_bytes / 20;
    assert!(all <= allowed, "the receiver sends {all} bytes, {allowed} are allowed");
    let overflows = run.simulation.offers_down.iter().flatten().filter(|offer| offer.overflowed).count();
    assert_eq!(overflows, 0, "what the receiver sends does not fit the queues");
}

/// What the ends hold is the media of the budget and what belongs to it; nothing waits long beyond its time.
fn check_memory(run: &Run) {
    let latency = run.plan.latency_max().as_secs_f64();
    assert!(run.waited_ms <= latency * 1e3 + WAITED_BESIDE_MS, "a packet waits for {} ms", run.waited_ms);
    let media = run.plan.bps_max() / 8.0 * (latency + 1.0);
    for (end, (most, now)) in ["sender", "receiver"].into_iter().zip(run.held_most.into_iter().zip(run.held_now)) {
        let most_allowed = HELD_MEDIA * media + HELD_BESIDE;
        assert!(most as f64 <= most_allowed, "the {end} held {most} bytes, {most_allowed:.0} are allowed");
        let allowed = HELD_AT_REST * media + HELD_BESIDE;
        assert!(now as f64 <= allowed, "at rest the {end} holds {now} bytes, {allowed:.0} are allowed");
    }
}

/// Never above a link's capacity for longer than its queue allows.
///
/// A sender learns of a bottleneck by filling its queue, and a capacity may fall: queues do overflow. While a capacity stands
/// they must not for long, and a deep queue must not stay long ("bufferbloat"). While the links together carry less than the load,
/// because there is more of it or because they fade, queues shorter than 100 ms do overflow until the load falls (in seed 736 a
/// single link that stops drops more than it carries in a second); so that is bounded apart, and over the campaign as a whole (see
/// [`campaign`]). A plain peer's links are not steered, and each gets its share of the load also in a fade of its own.
fn check_queues(run: &Run) {
    let (second, overflow_ms, dropped, learning) = match run.plan.is_overload() {
        true => (1.75, 8000, 0.2, 0.4),
        false if run.snapshot().extension => (0.5, 4500, 0.3, 0.3),
        false => (1.25, 3000, 0.3, 0.2),
    };
    for (links, treated) in run.bottlenecks() {
        assert!(treated.worst_second <= second, "links {links:?}: {treated:?}");
        assert!(treated.worst_fed_second <= 0.2, "links {links:?}: {treated:?}");
        assert!(treated.overflow_ms <= overflow_ms, "links {links:?}: {treated:?}");
        assert!(treated.fed_overflow_ms <= 2500, "links {links:?}: {treated:?}");
        let share = treated.overflowed_bytes as f64 / treated.offered_bytes.max(1) as f64;
        assert!(share <= dropped, "links {links:?} dropped {share}: {treated:?}");
        assert!(treated.learning <= learning, "links {links:?}: {treated:?}");
        assert!(treated.healed <= 0.04, "links {links:?}: {treated:?}");
        assert!(treated.long_queue_ms <= 3500, "links {links:?}: {treated:?}");
    }
}

/// No encoder is advised less for long than what flows once the trouble is over. With a budget too short to send again what is
/// lost, less is better. Losses go on: a single link may be silent for half a second, and what waited then goes first
/// (0.44 of the time in seed 2146; of several links 0.28 at the most in 3000 seeds).
fn check_advice(run: &Run) {
    if run.plan.short || !run.snapshot().extension {
        return;
    }
    let load = run.plan.load.last().map_or(0.0, |step| step.1);
    let below = run.advised.iter().filter(|advised| **advised < load).count();
    let count = run.advised.len();
    let allowed = if run.plan.paths.len() == 1 { count / 2 } else { 3 * count / 10 };
    assert!(below <= allowed, "the advice is below the load of {load:.0} bit/s {below} of {count} times");
}

/// What a panic said.
fn text(cause: &(dyn Any + Send)) -> &str {
    let literal = || cause.downcast_ref::<&str>().copied();
    cause.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or("(no text)")
}

/// Bottlenecks of runs whose load they carry, or does not.
#[derive(Debug, Default)]
struct Bottlenecks {
    count: u64,
    offered_bytes: u64,
    overflowed_bytes: u64,
    /// Those that dropped more than a tenth of what they carry in some second in which that stood.
    bad: u64,
}

/// What the campaign went through.
#[derive(Debug, Default)]
struct Summary {
    fec_packets: u64,
    fec_recovered: u64,
    copies: u64,
    /// Runs with links of a small MTU, with two links behind one bottleneck, with congestion marks, with a lower latency.
    narrow: u64,
    shared: u64,
    marked: u64,
    lowered: u64,
    /// ECN faults that were found.
    faults: u64,
    usual: Bottlenecks,
    overload: Bottlenecks,
    /// Seeds, and what they said.
    failed: Vec<(u64, String)>,
}

impl Summary {
    fn add(&mut self, run: &Run) {
        use bond::stats::EcnState::{AllMarked, BlackHole, Cleared};
        let sender = run.snapshot();
        self.fec_packets += sender.fec_packets;
        self.fec_recovered += sender.fec_recovered;
        self.copies += sender.copies;
        self.narrow += u64::from(sender.links.iter().any(|link| link.datagram_bytes_max < 1300));
        self.shared += u64::from(run.plan.shared.is_some());
        self.marked += u64::from(sender.links.iter().any(|link| link.ce_packets > 0));
        let lowered = run.plan.latency_change.is_some_and(|(_, latency)| latency < run.plan.sender.latency);
        self.lowered += u64::from(lowered);
        let fault = |link: &&bond::stats::SenderLinkSnapshot| matches!(link.ecn, AllMarked | BlackHole | Cleared);
        self.faults += sender.links.iter().filter(fault).count() as u64;
        let bottlenecks = if run.plan.is_overload() { &mut self.overload } else { &mut self.usual };
        for (_, treated) in run.bottlenecks() {
            bottlenecks.count += 1;
            bottlenecks.offered_bytes += treated.offered_bytes;
            bottlenecks.overflowed_bytes += treated.overflowed_bytes;
            bottlenecks.bad += u64::from(treated.worst_second > 0.1);
        }
    }
}

fn campaign(seeds: u64) {
    let (summary, next) = (Mutex::new(Summary::default()), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let run = std::panic::catch_unwind(|| run(seed));
            let mut summary = summary.lock().unwrap();
            match run {
                Ok(run) => summary.add(&run),
                Err(cause) => summary.failed.push((seed, text(&*cause).to_owned())),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let mut summary = summary.into_inner().unwrap();
    summary.failed.sort_unstable();
    for (seed, cause) in &summary.failed {
        println!("seed {seed}: {cause}");
        println!("SEED={seed} cargo test -p bond --test campaign -- --ignored --nocapture replay");
    }
    println!("{seeds} seeds: {summary:#?}");
    let Summary { fec_packets, fec_recovered, copies, .. } = summary;
    assert!(fec_packets > 1000 && fec_recovered > 10 && copies > 100, "protection is part of the campaign");
    let least = [summary.narrow, summary.shared, summary.marked, summary.lowered, summary.faults].into_iter().min();
    assert!(
        least.unwrap() * 40 >= seeds,
        "small MTUs, shared bottlenecks, marks, faults, lower latencies: some in 40 runs"
    );
    // What full queues dropped of all bytes sent, and how many bottlenecks were treated badly for a second.
    for (bottlenecks, dropped, bad) in [(&summary.usual, 0.0015, 0.003), (&summary.overload, 0.01, 0.06)] {
        let share = bottlenecks.overflowed_bytes as f64 / bottlenecks.offered_bytes as f64;
        assert!(share <= dropped, "{share} of {bottlenecks:?}");
        let share = bottlenecks.bad as f64 / bottlenecks.count as f64;
        assert!(share <= bad, "{share} of {bottlenecks:?}");
    }
    let failed: Vec<u64> = summary.failed.iter().map(|(seed, _)| *seed).collect();
    let known: Vec<u64> = KNOWN.into_iter().filter(|seed| *seed < seeds).collect();
    assert_eq!(failed, known, "seeds that fail, and those that are known to");
}

/// Goal: see the module.
#[test]
fn invariants_hold_for_any_mixture() {
    campaign(SEEDS);
}

/// Goal: the same for thousands of seeds.
#[test]
#[ignore = "minutes long, for cargo test -- --ignored"]
fn invariants_hold_for_thousands_of_mixtures() {
    campaign(THOUSANDS);
}

/// Goal: the same seed gives every datagram again: to the byte and the microsecond, on the same link, both ways. Another one
/// does not.
#[test]
fn a_seed_replays_bit_for_bit() {
    let digests = |seed| run(seed).simulation.digests.unwrap().map(|digest| digest.finish());
    let mut seen = Vec::new();
    for seed in [3, 17, 40] {
        let digest = digests(seed);
        assert_eq!(digest, digests(seed), "seed {seed}");
        seen.extend(digest);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 6);
}

/// Goal: a failure of either kind is told with its words.
#[test]
fn the_words_of_a_panic_are_kept() {
    let literal = std::panic::catch_unwind(|| panic!("a literal")).unwrap_err();
    let formatted = std::panic::catch_unwind(|| panic!("number {SEEDS}")).unwrap_err();
    assert_eq!((text(&*literal), text(&*formatted)), ("a literal", "number 2000"));
}

/// A tool: runs one seed, tells what it stands for and what happened, and checks it: `SEED=17`, with `--ignored --nocapture`.
#[test]
#[ignore = "a tool: replays the seed that the environment names"]
#[expect(clippy::disallowed_methods, reason = "a tool is set by hand")]
fn replay() {
    let seed = std::env::var("SEED").ok().map_or(0, |seed| seed.parse().expect("SEED is a number"));
    let mut run = Run::new(seed);
    println!("{}", run.plan);
    run.carry(true);
    let local = |at: Timestamp| run.simulation.clock.global(at);
    let sender = run.simulation.sender_events.iter().map(|event| (event.at, "sender", event.cause.to_string()));
    let receiver = run.simulation.receiver_events.iter().map(|e| (local(e.at), "receiver", e.cause.to_string()));
    let mut events: Vec<_> = sender.chain(receiver).collect();
    events.sort();
    for (at, end, cause) in events {
        println!("{:9.3} s {end}: {cause}", at.as_micros() as f64 / 1e6);
    }
    for (links, treated) in run.bottlenecks() {
        println!("links {links:?}: {treated:?}");
    }
    let (sent, missing) = run.healed();
    println!("held at most {:?} bytes; {missing} of {sent} packets missing after healing", run.held_most);
    // Events kept count as held; the check is that of the campaign.
    run.simulation.sender_events.clear();
    run.simulation.receiver_events.clear();
    check(&run);
}
