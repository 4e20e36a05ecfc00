//! The time that delivered media is told to be of, whatever becomes of the mapping behind it.

use bond::Channel;
use bond::config::{Profile, ReceiverConfig};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use rist::wire::rtcp::{Sdes, SenderReport};
use rist::wire::rtp::RtpHeader;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Ecn, Timestamp};

const SSRC: u32 = 0x1234_5678;
const LATENCY: Duration = Duration::from_millis(300);
/// Milliseconds of media in a packet.
const SPAN: u64 = 20;

/// A packet on its way, in milliseconds: when it arrives, what its media time is, and where the media time of its timeline begins.
#[derive(Clone, Copy)]
struct Flying {
    arrives: u64,
    made: u64,
    epoch: u64,
}

/// A delivery: when, and of when its media is told to be.
type Delivery = (Timestamp, Timestamp);

/// Plays packets, numbered in this order, to a receiver.
fn play(packets: &[Flying]) -> Vec<Delivery> {
    let config = ReceiverConfig { profile: Profile::Simple, latency: LATENCY, ..Default::default() };
    let mut receiver = Receiver::new(config, 1, Timestamp::ZERO).expect("a valid configuration");
    let mut compound = Vec::new();
    SenderReport { ssrc: SSRC, ..SenderReport::default() }.emit(&mut compound);
    Sdes { ssrc: SSRC, cname: b"theirs" }.emit(&mut compound);
    let mut delivered = Vec::new();
    let ends = packets.iter().map(|packet| packet.arrives).max().unwrap_or(0) + 1_000;
    for ms in 0..ends {
        let now = Timestamp::from_millis(ms);
        if ms % 100 == 0 {
            give(&mut receiver, now, Channel::Control, &mut compound.clone());
        }
        for (number, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.arrives == ms) {
            let timestamp = ((packet.made + packet.epoch) * 90) as u32;
            let sequence = number as u16;
            let header =
                RtpHeader { marker: false, payload_type: 33, sequence, timestamp, ssrc: SSRC, extension: None };
            let mut datagram = Vec::new();
            header.emit(&[0x47; 188], &mut datagram);
            give(&mut receiver, now, Channel::Media, &mut datagram);
        }
        receiver.handle_input(now, ReceiverInput::Timeout);
        loop {
            match receiver.poll_output(now) {
                ReceiverOutput::Deliver(packet) => delivered.push((now, packet.source_time)),
                ReceiverOutput::Timeout(_) => break,
                _ => {}
            }
        }
    }
    delivered
}

fn give(receiver: &mut Receiver, now: Timestamp, channel: Channel, bytes: &mut [u8]) {
    let from = SocketAddr::from(([10, 0, 0, 1], 5000 + u16::from(channel == Channel::Control)));
    receiver.handle_input(now, ReceiverInput::Datagram { local: 0, from, channel, ecn: Ecn::NotEct, bytes });
}

/// Source times never go back, and are those of the delivery before the latency but for what is overdue: deliveries of one moment.
#[track_caller]
fn check(delivered: &[Delivery]) {
    for (i, pair) in delivered.windows(2).enumerate() {
        assert!(pair[1].1 >= pair[0].1, "{i}: {:?} after {:?}", pair[1], pair[0]);
    }
    let mut held: Vec<Timestamp> = Vec::new();
    for (at, source_time) in delivered {
        let age = *at - *source_time;
        assert!(age + Duration::from_millis(1) >= LATENCY, "{at:?}: early, {age:?}");
        if age > LATENCY + Duration::from_millis(SPAN) {
            held.push(*at);
        }
    }
    held.dedup();
    assert!(held.len() <= 1, "held for long: {held:?}");
}

fn made(from: u64, to: u64) -> impl Iterator<Item = u64> {
    (from..to).step_by(SPAN as usize)
}

/// Goal: a flow whose first packets were held up, for seconds or a little, is played sooner once that is known, and none of its
/// times goes back.
#[test]
fn a_corrected_mapping_takes_no_time_back() {
    for held in [8_000, 1_000, 60] {
        let arrives = |made: u64| if made < 500 { made + held } else { (500 + held).max(made + 10) };
        let packets: Vec<_> = made(0, 12_000).map(|made| Flying { arrives: arrives(made), made, epoch: 0 }).collect();
        let delivered = play(&packets);
        assert_eq!(delivered.len(), packets.len());
        check(&delivered);
        let (at, source_time) = delivered[delivered.len() - 1];
        assert!(at - source_time < LATENCY + Duration::from_millis(2), "{held} ms: {:?}", at - source_time);
        let last = Timestamp::from_millis(packets[packets.len() - 1].made + 10);
        assert!(source_time - last < Duration::from_millis(2), "{held} ms: not corrected");
    }
}

/// Goal: a sender that is started again with another clock, and hands over the second of media it finds waiting, takes no time back.
#[test]
fn another_timeline_takes_no_time_back() {
    let before = made(0, 4_000).map(|made| Flying { arrives: made + 10, made, epoch: 0 });
    let after = made(3_000, 8_000).map(|made| Flying { arrives: made.max(4_100) + 10, made, epoch: 1 << 24 });
    let delivered = play(&before.chain(after).collect::<Vec<_>>());
    assert!(delivered.len() > 400, "{}", delivered.len());
    check(&delivered);
}
