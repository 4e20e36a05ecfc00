//! Our ends against GStreamer's `ristsrc` and `ristsink` (Simple Profile only), as real processes on loopback.
//!
//! Their RTP payloader may cut the stream anew, so TS packets are counted instead of payloads. [`MATRIX`] is what runs, in
//! both directions; the same table is in `docs/transport.md`.

mod support;

use bond::config::{LinkOptions, Profile, ReceiverConfig, SenderConfig};
use free_ports::{free_pair, loopback};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use link_sim::{LinkConfig, PathConfig};
use std::net::SocketAddr;
use std::time::Duration;
use support::cases::run_all;
use support::matrix::{Direction, Links, Network, Row, assert_documented};
use support::media::{Failure, Input, Output, PAYLOAD_BYTES, Stream, TS_BYTES, Unit};
use support::proxy::Proxy;
use support::seen::Seen;
use support::tool::Tool;
use support::untested;
use units::LinkId;

const PARALLEL: usize = 8;
/// Of a payload.
const TS_PACKETS: u32 = (PAYLOAD_BYTES / TS_BYTES) as u32;
/// See [`Case::run`].
const ATTEMPTS: u32 = 4;
/// Between their own ends; the more of a lossy stream counts, the rarer is one of which nothing is lost.
const SETTLE_PAYLOADS: u32 = 25;
/// The whole of a stream has sequence numbers whose requests `ristsrc` sends without a header
/// (`rist::wire::rtcp::RtcpPacket::HeadlessRanges`).
const FIRST_HEADLESS: u16 = 0xA800;
/// GStreamer 1.22 repairs 2 % of loss between its own ends reliably from about this on.
const LATENCY: Duration = Duration::from_secs(2);

/// `X` is run in both directions, `R` towards our receiver. GStreamer 1.22 has no Main Profile, so neither encryption nor
/// login; and its receiver takes packets of a known SSRC from another address for a collision ("ignoring packet because its
/// collisioning" in the log of its RTP session), its own sender's too.
#[rustfmt::skip]
const MATRIX: [Row<&str>; 3] = [
    //   security          links              0 %  2 %  rebinding  rebinding and 2 %
    Row::new("Simple, clear", Links::One,        "X", "X", "R", "R"),
    Row::new("Simple, clear", Links::Shared,     "X", "X", "R", "R"),
    Row::new("Simple, clear", Links::Duplicated, "X", "X", "R", "R"),
];

#[derive(Debug, Clone)]
struct Case {
    direction: Direction,
    links: Links,
    network: Network,
    /// Of our sender.
    first_sequence: Option<u16>,
}

/// What went wrong in an attempt.
struct Loss {
    why: String,
    /// It may be theirs: a few packets missing over a lossy path and nothing else, see [`Case::run`].
    theirs: bool,
    /// Numbers of the TS packets that are missing, when that is all.
    missing: Option<Vec<u32>>,
}

impl Case {
    fn name(&self) -> String {
        let first = self.first_sequence.map(|first| format!(" from {first:#x}")).unwrap_or_default();
        format!("{:?} {:?} {}{first}", self.direction, self.links, self.network.name())
    }

    /// A failure that may be theirs is told and tried again, and one of the attempts must deliver everything:
    /// * Between two ends of theirs a few packets are lost for good now and then over lossy paths, and many more where
    ///   [`FIRST_HEADLESS`] tells.
    /// * The kernel gave their sender the port of another process for its RTCP, so that it heard no requests there
    ///   ([`Tool::shared_ports`]: a hundredth of the streams). Nothing that is missing came to our receiver's socket.
    /// * What is missing came to their receiver's socket.
    /// * Their sender lost something before it sent it: nothing that is missing came out of its own sockets.
    fn run(&self) -> Result<(), String> {
        for attempt in 1..ATTEMPTS {
            match self.attempt() {
                Err(loss) if loss.theirs => {
                    let what = format!("{}, attempt {attempt}", self.name());
                    untested::tell_again(&what, loss.why.lines().next().unwrap_or_default());
                }
                result => return result.map_err(|loss| loss.why),
            }
        }
        self.attempt().map_err(|loss| loss.why)
    }

    fn attempt(&self) -> Result<(), Loss> {
        // GStreamer listens on a port for each link; ours take all links on one.
        let single = loopback(free_pair());
        let targets: Vec<SocketAddr> = (0..self.links.count())
            .map(|_| if self.direction == Direction::OurReceiver { single } else { loopback(free_pair()) })
            .collect();
        let link = |delay_ms| LinkConfig { loss: self.network.loss, delay_ms, ..LinkConfig::default() };
        let path = PathConfig { up: link(8.0), down: link(5.0), ..PathConfig::default() };
        let proxy = Proxy::start(Profile::Simple, &targets, &path, self.links.count() as u64 + 40);
        let (output, receiving) = if self.direction == Direction::OurReceiver {
            (Output::Flow(our_receiver(single)), None)
        } else {
            let (output, to) = Output::udp();
            (output, Some(their_receiver(&targets, to)))
        };
        let (input, sending) = if self.direction == Direction::OurSender {
            (Input::Flow(our_sender(&proxy.fronts, self.links, self.first_sequence)), None)
        } else {
            let from = loopback(free_pair());
            (Input::udp(from), Some(their_sender(from, &proxy.fronts, self.links)))
        };
        let settle = (self.direction == Direction::NeitherEnd).then_some(SETTLE_PAYLOADS);
        let stream = Stream { settle, unit: Unit::TsPacket, ..Stream::default() };
        let mut shared = Vec::new();
        let halfway = || {
            shared.extend(sending.iter().chain(&receiving).flat_map(Tool::shared_ports));
            if self.network.rebinding {
                proxy.rebind();
            }
        };
        let result = stream.run(&input, &output, halfway);
        result.map_err(|failure| {
            shared.extend(sending.iter().chain(&receiving).flat_map(Tool::shared_ports));
            let logs: Vec<String> = sending.iter().chain(&receiving).map(Tool::log_tail).collect();
            let ours = match (&input, &output) {
                (Input::Flow(sender), _) => format!("{:#?}", sender.snapshot()),
                (_, Output::Flow(receiver)) => format!("{:#?}", receiver.snapshot()),
                _ => String::new(),
            };
            let (missing, seen) = (failure.only_missing.as_deref().unwrap_or_default(), proxy.seen());
            let theirs = self.is_little(&failure) && self.is_theirs(missing, &seen, !shared.is_empty());
            let [sent, arrived] = passed(missing, &seen);
            let found = format!("TS packets of it sent {sent}, arrived {arrived}, shared ports {shared:?}");
            let why = format!("{}; {found}\n{}\n{ours}", failure.why, logs.join("\n"));
            Loss { why, theirs, missing: failure.only_missing }
        })
    }

    /// Whether what passed the paths shows that it was not our end that lost what is missing; `deaf`: one of theirs heard no
    /// requests.
    fn is_theirs(&self, missing: &[u32], seen: &[Seen], deaf: bool) -> bool {
        let [sent, arrived] = passed(missing, seen);
        match self.direction {
            Direction::NeitherEnd => true,
            Direction::OurSender => arrived == missing.len() || deaf && sent == missing.len(),
            Direction::OurReceiver => arrived == 0 && (deaf || sent == 0),
        }
    }

    /// Whether no more is missing than the paths may have lost, and nothing else is wrong.
    fn is_little(&self, failure: &Failure) -> bool {
        let share = |missing: &Vec<u32>| missing.len() as f64 / f64::from(Stream::default().payloads * TS_PACKETS);
        failure.only_missing.as_ref().is_some_and(|missing| share(missing) < 3.0 * self.network.loss)
    }
}

/// How many of the TS packets that are missing a sender has sent on any path, and how many were handed to a receiver.
fn passed(missing: &[u32], seen: &[Seen]) -> [usize; 2] {
    let count = |has: fn(&Seen, &u32) -> bool| {
        missing.iter().filter(|number| seen.iter().any(|path| has(path, number))).count()
    };
    [count(|path, number| path.sent.contains(number)), count(|path, number| path.handed_on.contains(number))]
}

fn our_sender(fronts: &[SocketAddr], links: Links, first_sequence: Option<u16>) -> FlowSender {
    let links = fronts.iter().enumerate().map(|(i, &front)| LinkSpec {
        options: LinkOptions { weight: links.weight(), ..LinkOptions::default() },
        ..LinkSpec::new(LinkId(i as u16), front)
    });
    let bond = SenderConfig { profile: Profile::Simple, latency: LATENCY, first_sequence, ..SenderConfig::default() };
    FlowSender::open(SenderOptions { bond, links: links.collect() }).expect("our sender")
}

fn our_receiver(listen: SocketAddr) -> FlowReceiver {
    let bond = ReceiverConfig { profile: Profile::Simple, latency: LATENCY, ..ReceiverConfig::default() };
    FlowReceiver::open(ReceiverOptions { bond, listen: vec![listen], connect: Vec::new() }).expect("our receiver")
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn launch(pipeline: &str) -> Tool {
    let arguments: Vec<String> = std::iter::once("-q").chain(pipeline.split_whitespace()).map(str::to_owned).collect();
    Tool::start("gst-launch-1.0", &arguments)
}

fn their_sender(from: SocketAddr, fronts: &[SocketAddr], links: Links) -> Tool {
    let method = if links == Links::Duplicated { "broadcast" } else { "round-robin" };
    launch(&format!(
        "udpsrc address={} port={} buffer-size=4000000 ! video/mpegts,systemstream=true,packetsize=188 ! rtpmp2tpay ! \
         ristsink bonding-method={method} sender-buffer={} bonding-addresses={}",
        from.ip(),
        from.port(),
        LATENCY.as_millis(),
        list(fronts),
    ))
}

fn their_receiver(listen: &[SocketAddr], to: SocketAddr) -> Tool {
    launch(&format!(
        "ristsrc receiver-buffer={} bonding-addresses={} ! rtpmp2tdepay ! udpsink host={} port={} sync=false async=false",
        LATENCY.as_millis(),
        list(listen),
        to.ip(),
        to.port(),
    ))
}

fn cases(direction: Direction) -> Vec<Case> {
    let cells = |row: &'static Row<&str>| row.cells(direction).map(|network| (row.links, network));
    let case = |(links, network)| Case { direction, links, network, first_sequence: None };
    MATRIX.iter().flat_map(cells).map(case).collect()
}

fn check(cases: &[Case]) {
    run_all(cases, PARALLEL, Case::name, Case::run);
}

#[test]
fn the_matrix_is_documented() {
    assert_documented("GStreamer", &MATRIX, |security| (*security).to_owned());
}

/// The proxy and the way of counting, without any part of ours.
#[test]
fn gstreamer_understands_itself_through_the_proxy() {
    check(&cases(Direction::NeitherEnd));
}

#[test]
fn ristsrc_gets_every_byte_of_our_sender() {
    let mut cases = cases(Direction::OurSender);
    let lossy: Vec<Case> = cases.iter().filter(|case| case.network.loss > 0.0).cloned().collect();
    cases.extend(lossy.into_iter().map(|case| Case { first_sequence: Some(FIRST_HEADLESS), ..case }));
    check(&cases);
}

#[test]
fn our_receiver_gets_every_byte_of_ristsink() {
    check(&cases(Direction::OurReceiver));
}

/// Goal: what the table leaves out is so. Once a NAT has given the path another address, `ristsrc` takes nothing more, from
/// its own sender as little as from ours.
#[test]
fn ristsrc_takes_nothing_from_another_address() {
    let network = Network { loss: 0.0, rebinding: true };
    let case = |direction| Case { direction, links: Links::One, network, first_sequence: None };
    run_all(&[Direction::NeitherEnd, Direction::OurSender].map(case), PARALLEL, Case::name, |case| {
        let Err(loss) = case.attempt() else { return Err("it came out whole: the table can say more".to_owned()) };
        let missing = loss.missing.as_deref().unwrap_or_default();
        let after = (Stream::default().payloads / 2 * TS_PACKETS) as usize;
        let in_one = missing.is_sorted_by(|number, next| number + 1 == *next);
        // A few that were on their way may still have come by the old address.
        if in_one && missing.len() >= after * 9 / 10 { Ok(()) } else { Err(loss.why) }
    });
}
