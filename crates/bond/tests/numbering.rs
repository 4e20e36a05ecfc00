//! Plain senders that begin to count anew in mid-flow or whose clock stands still, and what must not look like one.

use bond::config::{Extension, KeySize, LinkOptions, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::event::Cause;
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use link_sim::Rng;
use rist::wire::rtcp::{BitmaskEntry, RtcpPacket, Sdes, SenderReport, packets};
use rist::wire::rtp::{RtpHeader, SSRC_RETRANSMIT};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, LinkId, Timestamp};

const SSRC: u32 = 0x1234_5678;
/// Between two packets.
const STEP: Duration = Duration::from_millis(2);

/// On its way to the receiver: when it arrives, its place, number, RTP time, what it carries, whether it is sent again.
type Flying = Reverse<(Timestamp, u64, u16, u32, u32, bool)>;

/// A plain sender in Simple Profile that serves requests, and our receiver.
struct Wire {
    now: Timestamp,
    receiver: Receiver,
    flying: BinaryHeap<Flying>,
    order: u64,
    /// RTP time and content of what was sent, by number, since the sender was started.
    sent: HashMap<u16, (u32, u32)>,
    serves: bool,
    content: u32,
    /// How far its clock lags.
    lag: Duration,
    next: u16,
    delivered: Vec<u32>,
    /// Indices into `delivered` behind a gap.
    gaps: Vec<usize>,
    asked: u64,
    events: Vec<Cause>,
}

impl Wire {
    fn new(latency: Duration, serves: bool) -> Self {
        let now = Timestamp::from_millis(60_000);
        let config =
            ReceiverConfig { profile: Profile::Simple, latency, quality_messages: false, ..Default::default() };
        Self {
            now,
            receiver: Receiver::new(config, 1, now).expect("a valid configuration"),
            flying: BinaryHeap::new(),
            order: 0,
            sent: HashMap::new(),
            serves,
            content: 0,
            lag: Duration::ZERO,
            next: 1000,
            delivered: Vec::new(),
            gaps: Vec::new(),
            asked: 0,
            events: Vec::new(),
        }
    }

    fn fly(&mut self, delay: Duration, number: u16, again: bool) {
        let (rtp_time, content) = self.sent[&number];
        self.order += 1;
        self.flying.push(Reverse((self.now + delay, self.order, number, rtp_time, content, again)));
    }

    /// Makes one packet, which takes so long; `None` when it is lost.
    fn make(&mut self, delay: Option<Duration>) {
        let rtp_time = (u128::from(self.now.back(self.lag).as_micros()) * 9 / 100) as u32;
        let number = self.next;
        self.sent.insert(number, (rtp_time, self.content));
        (self.next, self.content) = (number.wrapping_add(1), self.content + 1);
        if let Some(delay) = delay {
            self.fly(delay, number, false);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            while self.flying.peek().is_some_and(|Reverse(first)| first.0 <= self.now) {
                let Some(Reverse((_, _, sequence, timestamp, content, again))) = self.flying.pop() else { break };
                let ssrc = SSRC | if again { SSRC_RETRANSMIT } else { 0 };
                let mut bytes = Vec::new();
                RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc, extension: None }
                    .emit(&content.to_be_bytes(), &mut bytes);
                self.give(Channel::Media, &mut bytes);
            }
            if self.now.as_micros().is_multiple_of(100_000) {
                let mut bytes = Vec::new();
                SenderReport { ssrc: SSRC, ..SenderReport::default() }.emit(&mut bytes);
                Sdes { ssrc: SSRC, cname: b"theirs" }.emit(&mut bytes);
                self.give(Channel::Control, &mut bytes);
            }
            self.receiver.handle_input(self.now, ReceiverInput::Timeout);
            self.drain();
        }
    }

    fn give(&mut self, channel: Channel, bytes: &mut [u8]) {
        let from = SocketAddr::from(([10, 0, 0, 1], 5000 + u16::from(channel == Channel::Control)));
        let input = ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes };
        self.receiver.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.receiver.poll_output(self.now) {
                ReceiverOutput::Transmit { bytes, .. } => {
                    for packet in packets(&bytes) {
                        let Ok(RtcpPacket::NackBitmask(nack)) = packet else { continue };
                        for number in nack.entries.iter().flat_map(BitmaskEntry::sequences) {
                            self.asked += 1;
                            if self.serves && self.sent.contains_key(&number) {
                                self.fly(Duration::from_millis(40), number, true);
                            }
                        }
                    }
                }
                ReceiverOutput::Deliver(delivered) => {
                    if delivered.discontinuity {
                        self.gaps.push(self.delivered.len());
                    }
                    let content = delivered.bytes[..4].try_into().expect("four bytes");
                    self.delivered.push(u32::from_be_bytes(content));
                }
                ReceiverOutput::Event(event) => self.events.push(event.cause),
                ReceiverOutput::Timeout(_) => return,
            }
        }
    }

    /// The sender is started again and counts from `jump` numbers further on.
    fn restart(&mut self, jump: u16) {
        self.next = self.next.wrapping_add(jump);
        self.sent.clear();
    }
}

/// Delay of a packet on one of three links by turns.
fn three_links(content: u32) -> Duration {
    Duration::from_millis([20, 35, 60][(content % 3) as usize])
}

/// Goal: a sender that is started again, and goes on with its SSRC and clock, gets everything through, whatever it counts from,
/// however long it was away, and also what it had sent before.
#[test]
fn a_sender_counts_anew() {
    for latency in [300, 2_000] {
        for away in [100, 1_000, 3_000, 6_000] {
            // Back by few that are still held, by more; far ahead.
            for jump in [-50, -140, -900, -3_000, -20_000, -32_767, 25_000, 1_000] {
                let mut wire = Wire::new(Duration::from_millis(latency), true);
                for _ in 0..1_000 {
                    wire.make(Some(three_links(wire.content)));
                    wire.run(STEP);
                }
                let last = wire.content;
                wire.run(Duration::from_millis(away));
                wire.restart(jump as u16);
                for _ in 0..3_000 {
                    wire.make(Some(three_links(wire.content)));
                    wire.run(STEP);
                }
                wire.run(Duration::from_millis(latency + 1_000));
                let what = format!("{jump} after {away} ms within {latency} ms");
                assert!(wire.delivered.is_sorted_by(|a, b| a < b), "{what}");
                let before = wire.delivered.iter().filter(|content| **content < last).count();
                let after = wire.delivered.len() - before;
                assert_eq!((before, after), (1_000, 3_000), "{what}");
                assert_eq!(wire.gaps, [1_000], "{what}");
            }
        }
    }
}

/// Goal: without requests served it costs the packets that showed it, and no more.
#[test]
fn the_row_that_shows_it_is_all_that_is_lost() {
    for jump in [-100, -3_000, -25_536] {
        let mut wire = Wire::new(Duration::from_millis(300), false);
        for _ in 0..2 {
            for _ in 0..3_000 {
                wire.make(Some(Duration::from_millis(20)));
                wire.run(STEP);
            }
            wire.run(Duration::from_millis(200));
            wire.restart(jump as u16);
        }
        wire.run(Duration::from_secs(1));
        let missing = (0..6_000).filter(|content| !wire.delivered.contains(content)).collect::<Vec<_>>();
        assert!(wire.delivered.is_sorted_by(|a, b| a < b), "{jump}");
        assert_eq!(missing, (3_000..3_015).collect::<Vec<_>>(), "{jump}");
    }
}

/// Goal: what the latency asks for is held and repaired though it is more than half of all numbers: 53 Mbit/s within seven and
/// ten seconds.
#[test]
fn fast_flows_keep_their_latency() {
    for latency in [7_000, 10_000] {
        let mut wire = Wire::new(Duration::from_millis(latency), true);
        let mut rng = Rng::new(latency, 1);
        let all: u32 = 100_000;
        while wire.content < all {
            for _ in 0..10 {
                let lost = rng.unit() < 0.01;
                wire.make((!lost).then_some(three_links(wire.content)));
            }
            wire.run(STEP);
        }
        wire.run(Duration::from_millis(latency + 100));
        let missing = (0..all).filter(|content| wire.delivered.binary_search(content).is_err()).count();
        assert!(wire.delivered.is_sorted_by(|a, b| a < b), "{latency}");
        assert_eq!((missing, wire.gaps.len()), (0, 0), "{latency}: {:?}", wire.receiver.snapshot(wire.now));
        assert!(!wire.events.iter().any(|cause| matches!(cause, Cause::NumbersExhausted { .. })), "{latency}");
    }
}

/// Goal: of what is very late on a fast flow nothing is taken for what is new.
#[test]
fn very_late_packets_of_a_fast_flow_are_late() {
    let mut wire = Wire::new(Duration::from_secs(1), false);
    for content in 0..60_000u32 {
        // One in a hundred hangs for 7.5 s, 37,500 packets.
        let hangs = content % 100 == 7 && content < 20_000;
        wire.make(Some(Duration::from_millis(if hangs { 7_500 } else { 20 })));
        if content % 10 == 9 {
            wire.run(STEP);
        }
    }
    wire.run(Duration::from_secs(2));
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    let snapshot = wire.receiver.snapshot(wire.now);
    assert_eq!((wire.delivered.len(), snapshot.late_packets, snapshot.lost_packets), (59_800, 200, 200));
}

/// Goal: the same where so many are sent meanwhile that the numbers of what is late are those of what comes next.
#[test]
fn packets_that_are_late_by_a_round_of_numbers_are_late() {
    for hangs_ms in [6_200, 6_400, 6_500, 6_540] {
        let mut wire = Wire::new(Duration::from_secs(1), false);
        for content in 0..120_000u32 {
            let hangs = content % 100 == 7 && (20_000..40_000).contains(&content);
            wire.make(Some(Duration::from_millis(if hangs { hangs_ms } else { 20 })));
            // 10,000 a second.
            if content % 20 == 19 {
                wire.run(STEP);
            }
        }
        wire.run(Duration::from_secs(2));
        let snapshot = wire.receiver.snapshot(wire.now);
        let seen = (wire.delivered.len(), snapshot.late_packets, snapshot.lost_packets);
        assert!(wire.delivered.is_sorted_by(|a, b| a < b), "{hangs_ms}");
        assert_eq!(seen, (119_800, 200, 200), "{hangs_ms}");
    }
}

/// Goal: a clock that steps back by as much media as a round of numbers takes is none of these: it costs a few packets.
#[test]
fn a_clock_that_steps_back_by_a_round_of_numbers_is_played_on() {
    for back_ms in [6_000, 6_500, 7_000] {
        let mut wire = Wire::new(Duration::from_secs(1), false);
        for content in 0..160_000u32 {
            if content == 40_000 {
                wire.lag = Duration::from_millis(back_ms);
            }
            wire.make(Some(Duration::from_millis(20)));
            if content % 20 == 19 {
                wire.run(STEP);
            }
        }
        wire.run(Duration::from_secs(12));
        let missing = 160_000 - wire.delivered.len();
        assert!(wire.delivered.is_sorted_by(|a, b| a < b) && missing <= 64, "{back_ms}: {missing}");
    }
}

/// Goal: of what is as late, and in time all the same where the latency is long, all is played, and what is new as well.
#[test]
fn very_late_packets_of_a_fast_flow_are_in_time() {
    let mut wire = Wire::new(Duration::from_secs(10), false);
    let all = 110_000;
    while wire.content < all {
        for _ in 0..10 {
            // One in ten hangs for 7.5 s, 37,500 packets; some of it comes twice.
            let hangs = wire.content % 10 == 7 && wire.content < 60_000;
            wire.make(Some(Duration::from_millis(if hangs { 7_500 } else { 20 })));
            if wire.content % 20 == 19 {
                wire.fly(Duration::from_millis(7_500), wire.next.wrapping_sub(1), false);
            }
        }
        wire.run(STEP);
    }
    wire.run(Duration::from_secs(11));
    let snapshot = wire.receiver.snapshot(wire.now);
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    assert_eq!((wire.delivered.len(), snapshot.refused.out_of_window, snapshot.lost_packets), (all as usize, 0, 0));
}

/// Goal: a media clock that steps back while numbers go on costs nothing.
#[test]
fn media_whose_clock_steps_back_is_played_on() {
    for back in [2, 8] {
        let mut wire = Wire::new(Duration::from_secs(1), false);
        let mut all = 0;
        for content in 0..6_000u32 {
            if content == 3_000 {
                wire.lag = Duration::from_secs(back);
            }
            wire.make(Some(Duration::from_millis(20)));
            wire.run(STEP);
            all = content + 1;
        }
        wire.run(Duration::from_secs(12));
        let snapshot = wire.receiver.snapshot(wire.now);
        let delivered = wire.delivered.len();
        assert!(wire.delivered.is_sorted_by(|a, b| a < b));
        assert_eq!((delivered, snapshot.lost_packets), (all as usize, 0), "{back} s: {:?}", snapshot.late);
    }
}

/// Goal: where numbers can not hold the latency, nothing is lost for it: media is played sooner, and that is told.
#[test]
fn what_numbers_can_not_hold_is_played_sooner() {
    let mut wire = Wire::new(Duration::from_secs(10), false);
    let all = 240_000;
    while wire.content < all {
        (0..16).for_each(|_| wire.make(Some(Duration::from_millis(20))));
        wire.run(STEP);
    }
    let told: Vec<u128> = wire
        .events
        .iter()
        .filter_map(|cause| match cause {
            Cause::NumbersExhausted { holds, .. } => Some(holds.as_millis()),
            _ => None,
        })
        .collect();
    // 60,000 packets at 8000 a second.
    assert!(told.len() == 1 && (7_400..7_700).contains(&told[0]), "{told:?}");
    wire.run(Duration::from_secs(11));
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    assert_eq!((wire.delivered.len(), wire.gaps.len()), (all as usize, 0));
}

/// Goal: the same where many packets have one time, those of a picture, and key pictures are twenty times as large.
#[test]
fn whole_pictures_beyond_what_numbers_hold_are_played() {
    let mut wire = Wire::new(Duration::from_secs(10), false);
    for picture in 0..600 {
        (0..if picture % 20 == 0 { 6000 } else { 300 }).for_each(|_| wire.make(Some(Duration::from_millis(20))));
        wire.run(Duration::from_millis(50));
    }
    let all = wire.content as usize;
    wire.run(Duration::from_secs(11));
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    assert_eq!((wire.delivered.len(), wire.gaps.len()), (all, 0));
}

/// Goal: a sender that is started anew in such a flow costs what its first packets take to be believed.
#[test]
fn a_sender_counts_anew_beyond_what_numbers_hold() {
    let mut wire = Wire::new(Duration::from_secs(10), false);
    for ms in (0..32_000).step_by(2) {
        if ms == 16_000 {
            (wire.next, wire.lag) = (wire.next.wrapping_add(20_000), Duration::from_secs(40));
        }
        (0..16).for_each(|_| wire.make(Some(Duration::from_millis(20))));
        wire.run(STEP);
    }
    let all = wire.content as usize;
    wire.run(Duration::from_secs(11));
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    assert!(wire.delivered.len() + 64 > all, "{} of {all}", wire.delivered.len());
}

/// Goal: who sends packets with numbers far ahead shortens no latency.
#[test]
fn numbers_that_were_not_made_shorten_nothing() {
    let mut wire = Wire::new(Duration::from_secs(10), false);
    for ms in (0..15_000).step_by(2) {
        (0..5).for_each(|_| wire.make(Some(Duration::from_millis(20))));
        if ms == 12_900 {
            for ahead in [32_000_u16, 64_000] {
                let mut bytes = Vec::new();
                let sequence = wire.next.wrapping_add(ahead);
                let timestamp = ((wire.now.as_micros() + u64::from(ahead)) * 9 / 100) as u32;
                RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc: SSRC, extension: None }
                    .emit(&u32::MAX.to_be_bytes(), &mut bytes);
                wire.give(Channel::Media, &mut bytes);
            }
        }
        wire.run(STEP);
    }
    assert!(!wire.events.iter().any(|cause| matches!(cause, Cause::NumbersExhausted { .. })));
}

/// Goal: what was lost right before an outage is repaired after it, too: requests that nobody hears are not used up.
#[test]
fn what_was_lost_before_an_outage_is_repaired_after_it() {
    let mut wire = Wire::new(Duration::from_secs(5), true);
    for ms in (0..12_000).step_by(2) {
        wire.serves = !(3_000..6_000).contains(&ms);
        let arrives = wire.serves && ms != 2_970;
        wire.make(arrives.then_some(Duration::from_millis(20)));
        wire.run(STEP);
    }
    wire.run(Duration::from_secs(6));
    assert_eq!((wire.delivered.len(), wire.gaps.len()), (wire.content as usize, 0));
}

/// Goal: a sender that was paused, and whose clock stood still, is received as before after some seconds: what it loses is
/// repaired and put in order again within the latency.
#[test]
fn a_sender_whose_clock_stood_still_is_in_time_again() {
    for paused in [1_500, 4_500] {
        let mut wire = Wire::new(Duration::from_secs(1), true);
        let mut rng = Rng::new(paused, 1);
        let mut play = |wire: &mut Wire, packets: u32| {
            for _ in 0..packets {
                let lost = rng.unit() < 0.02;
                wire.make((!lost).then_some(three_links(wire.content)));
                wire.run(STEP);
            }
        };
        play(&mut wire, 3_000);
        wire.run(Duration::from_millis(paused));
        wire.lag = Duration::from_millis(paused);
        play(&mut wire, 4_000);
        let settled = wire.content;
        play(&mut wire, 5_000);
        wire.run(Duration::from_secs(2));
        assert!(wire.delivered.is_sorted_by(|a, b| a < b), "{paused}");
        let missing = (settled..wire.content).filter(|content| wire.delivered.binary_search(content).is_err()).count();
        assert_eq!(missing, 0, "{paused}");
    }
}

/// Goal: links that hold everything up for longer than the latency, for eight seconds, and then deliver it move nothing: what comes
/// after is delivered when it would have been.
#[test]
fn an_outage_does_not_move_the_playout() {
    let mut wire = Wire::new(Duration::from_secs(1), false);
    for content in 0..10_000u32 {
        let held_up = if (2_000..6_000).contains(&content) {
            Duration::from_millis(2 * u64::from(6_000 - content))
        } else {
            Duration::ZERO
        };
        wire.make(Some(Duration::from_millis(20) + held_up));
        wire.run(STEP);
    }
    // The last was made just now.
    let waits = wire.receiver.snapshot(wire.now).buffer.as_secs_f64() * 1e3;
    assert!((960.0..1_000.0).contains(&waits), "{waits}");
}

/// Goal: on links that lose, reorder, double and delay beyond the latency, for packets in hundreds, nothing is taken for a
/// sender that counts anew: what comes in time is delivered, in order and once.
#[test]
fn losses_and_late_packets_are_no_new_count() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed, 1);
        let mut wire = Wire::new(Duration::from_millis(300), false);
        let mut in_time = 0;
        for content in 0..6_000u32 {
            // A link that hangs for half a second each two seconds, and then delivers all it held.
            let hangs = (content % 3 == 0 && content % 1_000 >= 750).then(|| 2 * (1_000 - content % 1_000) + 400);
            let delay = three_links(content) + Duration::from_millis((rng.unit() * 30.0) as u64);
            let delay = hangs.map_or(delay, |ms| Duration::from_millis(u64::from(ms)));
            let lost = rng.unit() < 0.05;
            wire.make((!lost).then_some(delay));
            in_time += usize::from(!lost && hangs.is_none());
            if rng.unit() < 0.02 {
                wire.fly(Duration::from_millis(200 + (rng.unit() * 600.0) as u64), wire.next.wrapping_sub(1), true);
            }
            wire.run(STEP);
        }
        wire.run(Duration::from_millis(1_300));
        assert!(wire.delivered.is_sorted_by(|a, b| a < b), "seed {seed}");
        assert!(wire.delivered.len() >= in_time, "seed {seed}: {} of {in_time}", wire.delivered.len());
        let late = wire.receiver.snapshot(wire.now).late_packets;
        assert!(late > 100, "seed {seed}: only {late} came late, nothing is shown");
    }
}

/// Goal: an outage of more packets than half of all numbers is no new count: what is missing is asked for while there is time, and
/// all is played. Method: 5000 packets a second.
#[test]
fn a_long_outage_of_a_fast_flow_is_no_new_count() {
    for (latency, outage) in [(10_000, 6_000), (10_000, 7_000), (10_000, 8_000), (8_000, 7_000)] {
        let mut wire = Wire::new(Duration::from_millis(latency), true);
        let play = |wire: &mut Wire, ms: u64, arrives: bool| {
            for _ in 0..ms / 2 {
                (0..10).for_each(|_| wire.make(arrives.then_some(three_links(wire.content))));
                wire.run(STEP);
            }
        };
        play(&mut wire, 12_000, true);
        let before = wire.content;
        play(&mut wire, outage, false);
        let after = wire.content;
        play(&mut wire, 12_000, true);
        wire.run(Duration::from_millis(latency + 1_000));
        let of = |from, to| wire.delivered.iter().filter(|content| (from..to).contains(*content)).count();
        let played = [of(0, before), of(before, after), of(after, wire.content)];
        assert_eq!(played, [before, after - before, wire.content - after].map(|packets| packets as usize), "{outage}");
        assert_eq!((wire.gaps.len(), wire.receiver.snapshot(wire.now).late_packets), (0, 0), "{outage}");
        assert!(wire.delivered.is_sorted_by(|a, b| a < b));
    }
}

/// Goal: a short outage of a flow of more packets than numbers tell costs little more than itself. Method: 8000 packets a second within
/// ten seconds.
#[test]
fn an_outage_of_a_flow_beyond_all_numbers_ends() {
    let mut wire = Wire::new(Duration::from_secs(10), true);
    let play = |wire: &mut Wire, ms: u64, arrives: bool| {
        for _ in 0..ms / 2 {
            (0..16).for_each(|_| wire.make(arrives.then_some(three_links(wire.content))));
            wire.run(STEP);
        }
    };
    play(&mut wire, 12_000, true);
    play(&mut wire, 300, false);
    let after = wire.content;
    play(&mut wire, 14_000, true);
    wire.run(Duration::from_secs(11));
    let played = wire.delivered.iter().filter(|content| **content >= after).count();
    let made = (wire.content - after) as usize;
    assert!(played + 2000 > made, "{played} of {made}");
    assert!(wire.delivered.is_sorted_by(|a, b| a < b));
}

/// What a sender of ours sent with encryption, repeated by somebody.
fn repeated(from: SocketAddr, age: Duration) {
    let psk = PskConfig { passphrase: Secret::new("a secret"), key_size: KeySize::Aes128, rotate_after_packets: None };
    let latency = Duration::from_millis(300);
    let config = SenderConfig { psk: Some(psk.clone()), latency, extension: Extension::Off, ..Default::default() };
    let mut now = Timestamp::from_millis(60_000);
    let mut sender = Sender::new(config, 1, now).expect("a valid configuration");
    sender.handle_input(now, SenderInput::AddLink { link: LinkId(0), options: LinkOptions::default() });
    let config = ReceiverConfig { psk: Some(psk), latency, ..Default::default() };
    let mut receiver = Receiver::new(config, 2, now).expect("a valid configuration");
    let ours = SocketAddr::from(([10, 0, 0, 1], 4000));
    let (mut overheard, mut delivered): (Vec<(Timestamp, Vec<u8>)>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut content = 0u32;
    let mut step = |overheard: &mut Vec<(Timestamp, Vec<u8>)>, repeats: &[Vec<u8>]| {
        now += STEP;
        let bytes = Bytes::from([&[0x47; 184], &content.to_be_bytes()[..]].concat());
        content += 1;
        let payload = Payload { bytes, source_time: now, class: PacketClass::Video };
        sender.handle_input(now, SenderInput::Payload(payload));
        let mut up: Vec<(SocketAddr, Vec<u8>)> = repeats.iter().map(|bytes| (from, bytes.clone())).collect();
        loop {
            match sender.poll_output(now) {
                SenderOutput::Transmit { bytes, .. } => {
                    overheard.push((now, bytes.to_vec()));
                    up.push((ours, bytes.to_vec()));
                }
                SenderOutput::Timeout(_) => break,
                _ => {}
            }
        }
        for (from, mut bytes) in up {
            let input = ReceiverInput::Datagram {
                local: 0,
                from,
                channel: Channel::Media,
                ecn: Ecn::NotEct,
                bytes: &mut bytes,
            };
            receiver.handle_input(now, input);
            loop {
                match receiver.poll_output(now) {
                    ReceiverOutput::Transmit { to, bytes, .. } if to == ours => {
                        let mut bytes = bytes.to_vec();
                        let channel = Channel::Media;
                        sender.handle_input(now, SenderInput::Datagram { link: LinkId(0), channel, bytes: &mut bytes });
                    }
                    ReceiverOutput::Deliver(packet) => {
                        assert!(!packet.discontinuity || delivered.is_empty(), "{from} {age:?}: {}", delivered.len());
                        delivered.push(u32::from_be_bytes(packet.bytes[184..].try_into().expect("four bytes")));
                    }
                    ReceiverOutput::Timeout(_) => break,
                    _ => {}
                }
            }
        }
        (now, delivered.len(), delivered.last().copied())
    };
    for _ in 0..10_000 {
        step(&mut overheard, &[]);
    }
    for _ in 0..200 {
        // A hundred in a row, then the sender's turn.
        let (at, ..) = step(&mut overheard, &[]);
        let from = overheard.partition_point(|(then, _)| at - *then > age);
        let repeats: Vec<Vec<u8>> = overheard[from..].iter().take(100).map(|(_, bytes)| bytes.clone()).collect();
        step(&mut overheard, &repeats);
    }
    for _ in 0..1_000 {
        step(&mut overheard, &[]);
    }
    let (_, count, last) = step(&mut overheard, &[]);
    assert_eq!(last.map(|last| last as usize + 1), Some(count), "{from} {age:?}: some are missing");
    assert!(count > 11_000, "{from} {age:?}: {count}");
}

/// Goal: with a pass phrase, repeating what was overheard changes nothing, from the sender's own address or another, soon or
/// after a while.
#[test]
fn repeats_are_no_new_count() {
    for from in [SocketAddr::from(([10, 0, 0, 1], 4000)), SocketAddr::from(([192, 0, 2, 7], 999))] {
        for age_ms in [10, 200, 1_000, 8_000, 15_000] {
            repeated(from, Duration::from_millis(age_ms));
        }
    }
}
