//! Our ends against librist's programs as Debian ships them (0.2.7), as real processes on loopback: every byte that goes
//! in comes out, once and in order.
//!
//! The paths between them are `link_sim` links behind a UDP proxy. The cases are the product of direction, security,
//! links and loss, and some on top; they run side by side. A missing program fails the test.

mod support;

use bond::config::{KeySize, LinkOptions, Login, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use link_sim::{LinkConfig, PathConfig};
use std::net::SocketAddr;
use std::time::Duration;
use support::cases::run_all;
use support::media::{Input, Output, Stream};
use support::ports::{free_pair, loopback};
use support::proxy::Proxy;
use support::tool::Tool;
use units::LinkId;

/// Cases at the same time; they mostly wait.
const PARALLEL: usize = 8;
/// Buffer of both ends.
const LATENCY: Duration = Duration::from_millis(700);
const PASSPHRASE: &str = "correct horse battery";
const USER: &str = "alice";
const PASSWORD: &str = "wonderland";
const ROTATE_AFTER: u32 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    OurSender,
    OurReceiver,
    /// librist at both ends: tells a broken proxy from a broken product.
    NeitherEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Clear,
    Psk128,
    Psk256,
    Rotating,
    Login,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    One,
    /// Three links, each payload on one of them.
    Shared,
    /// Three links, each payload on all of them.
    Duplicated,
}

#[derive(Debug, Clone)]
struct Case {
    direction: Direction,
    profile: Profile,
    security: Security,
    links: Links,
    loss: f64,
    rebind: bool,
    nulls: bool,
}

impl Case {
    fn new(direction: Direction) -> Self {
        let (profile, security, links) = (Profile::Main, Security::Clear, Links::One);
        Self { direction, profile, security, links, loss: 0.0, rebind: false, nulls: false }
    }

    fn name(&self) -> String {
        let mut name = format!(
            "{:?} {:?} {:?} {:?} {} %",
            self.direction,
            self.profile,
            self.security,
            self.links,
            self.loss * 100.0
        );
        if self.rebind {
            name.push_str(" rebind");
        }
        if self.nulls {
            name.push_str(" nulls");
        }
        name
    }

    fn link_count(&self) -> usize {
        if self.links == Links::One { 1 } else { 3 }
    }

    /// A few milliseconds of delay, so that three paths differ and a loss is noticed late.
    fn path(&self) -> PathConfig {
        let link = |delay_ms| LinkConfig { loss: self.loss, delay_ms, ..LinkConfig::default() };
        PathConfig { up: link(8.0), down: link(5.0), ..PathConfig::default() }
    }

    fn run(&self) -> Result<(), String> {
        let target = loopback(free_pair());
        let targets = vec![target; self.link_count()];
        let seed = self.name().bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) % 1_000_003 + u64::from(byte));
        let proxy = Proxy::start(self.profile, &targets, &self.path(), seed);
        let (output, receiving) = if self.direction == Direction::OurReceiver {
            (Output::Flow(self.our_receiver(target)), None)
        } else {
            let (output, to) = Output::udp();
            (output, Some(self.librist_receiver(target, to)))
        };
        let (input, sending) = if self.direction == Direction::OurSender {
            (Input::Flow(self.our_sender(&proxy.fronts)), None)
        } else {
            let from = loopback(free_pair());
            (Input::udp(from), Some(self.librist_sender(from, &proxy.fronts)))
        };
        let stream = Stream { nulls: self.nulls, ..Stream::default() };
        let result = stream.run(&input, &output, || {
            if self.rebind {
                proxy.rebind();
            }
        });
        result.map_err(|failure| {
            let logs: Vec<String> = sending.iter().chain(&receiving).map(Tool::log_tail).collect();
            let ours = match (&input, &output) {
                (Input::Flow(sender), _) => format!("{:#?}\n{:#?}", sender.snapshot(), sender.events()),
                (_, Output::Flow(receiver)) => format!("{:#?}\n{:#?}", receiver.snapshot(), receiver.events()),
                _ => String::new(),
            };
            format!("{}\n{}\n{ours}", failure.why, logs.join("\n"))
        })
    }

    fn psk(&self) -> Option<PskConfig> {
        let key_size = match self.security {
            Security::Clear => return None,
            Security::Psk128 => KeySize::Aes128,
            Security::Psk256 | Security::Rotating | Security::Login => KeySize::Aes256,
        };
        let rotate_after_packets = (self.security == Security::Rotating).then_some(ROTATE_AFTER);
        Some(PskConfig { passphrase: Secret::new(PASSPHRASE), key_size, rotate_after_packets })
    }

    fn login(&self) -> Option<Login> {
        let login = Login { user: USER.to_owned(), password: Secret::new(PASSWORD) };
        (self.security == Security::Login).then_some(login)
    }

    fn our_sender(&self, fronts: &[SocketAddr]) -> FlowSender {
        let links = fronts.iter().enumerate().map(|(i, &front)| {
            let weight = match self.links {
                Links::One => None,
                Links::Shared => Some(5),
                Links::Duplicated => Some(0),
            };
            LinkSpec {
                options: LinkOptions { weight, ..LinkOptions::default() },
                ..LinkSpec::new(LinkId(i as u16), front)
            }
        });
        let bond = SenderConfig {
            profile: self.profile,
            psk: self.psk(),
            srp: self.login(),
            cname: "ours".to_owned(),
            latency: LATENCY,
            null_deletion: self.nulls,
            ..SenderConfig::default()
        };
        FlowSender::open(SenderOptions { bond, links: links.collect() }).expect("our sender")
    }

    fn our_receiver(&self, listen: SocketAddr) -> FlowReceiver {
        let bond = ReceiverConfig {
            profile: self.profile,
            psk: self.psk(),
            srp_users: self.login().into_iter().collect(),
            cname: "ours".to_owned(),
            latency: LATENCY,
            ..ReceiverConfig::default()
        };
        FlowReceiver::open(ReceiverOptions { bond, listen: vec![listen], connect: Vec::new() }).expect("our receiver")
    }

    /// What both librist programs are told about a peer.
    fn url_options(&self) -> String {
        let buffer = LATENCY.as_millis();
        let security = match self.security {
            Security::Clear => String::new(),
            Security::Psk128 => format!("&secret={PASSPHRASE}&aes-type=128"),
            Security::Psk256 => format!("&secret={PASSPHRASE}&aes-type=256"),
            Security::Rotating => format!("&secret={PASSPHRASE}&aes-type=256&key-rotation={ROTATE_AFTER}"),
            Security::Login => format!("&secret={PASSPHRASE}&aes-type=256&username={USER}&password={PASSWORD}"),
        };
        // librist sends requests to an address until its session ends, also to one that a NAT has given up.
        let timeout = if self.rebind { 400 } else { 5000 };
        format!("buffer={buffer}&reorder-buffer=40&session-timeout={timeout}{security}")
    }

    fn profile_flag(&self) -> String {
        if self.profile == Profile::Simple { "0" } else { "1" }.to_owned()
    }

    fn librist_sender(&self, from: SocketAddr, fronts: &[SocketAddr]) -> Tool {
        let weight = if self.links == Links::Shared { 5 } else { 0 };
        let options = self.url_options();
        let peers: Vec<String> =
            fronts.iter().map(|front| format!("rist://{front}?cname=theirs&weight={weight}&{options}")).collect();
        let mut arguments = ["-p", &self.profile_flag(), "-i", &format!("udp://@{from}"), "-o", &peers.join(",")]
            .map(str::to_owned)
            .to_vec();
        if self.nulls {
            arguments.push("-n".to_owned());
        }
        Tool::start("ristsender", &arguments)
    }

    fn librist_receiver(&self, listen: SocketAddr, to: SocketAddr) -> Tool {
        let input = format!("rist://@{listen}?cname=theirs&{}", self.url_options());
        let arguments = ["-p", &self.profile_flag(), "-i", &input, "-o", &format!("udp://{to}")].map(str::to_owned);
        Tool::start("ristreceiver", &arguments)
    }
}

/// The product of links and loss for one kind of security.
fn matrix(direction: Direction, security: Security) -> impl Iterator<Item = Case> {
    [Links::One, Links::Shared, Links::Duplicated]
        .into_iter()
        .flat_map(move |links| [0.0, 0.02].map(|loss| Case { security, links, loss, ..Case::new(direction) }))
}

fn check(cases: &[Case]) {
    run_all(cases, PARALLEL, Case::name, Case::run);
}

const SECURITIES: [Security; 4] = [Security::Clear, Security::Psk128, Security::Psk256, Security::Rotating];

/// The proxy and the way of counting, without any part of ours.
#[test]
fn librist_understands_itself_through_the_proxy() {
    let case = Case::new(Direction::NeitherEnd);
    check(&[
        case.clone(),
        Case { links: Links::Shared, loss: 0.02, ..case.clone() },
        Case { profile: Profile::Simple, loss: 0.02, ..case.clone() },
        Case { rebind: true, security: Security::Psk256, ..case.clone() },
        Case { nulls: true, ..case.clone() },
        Case { security: Security::Login, ..case },
    ]);
}

#[test]
fn ristreceiver_gets_every_byte_of_our_sender() {
    check(&SECURITIES.into_iter().flat_map(|s| matrix(Direction::OurSender, s)).collect::<Vec<_>>());
}

#[test]
fn our_receiver_gets_every_byte_of_ristsender() {
    check(&SECURITIES.into_iter().flat_map(|s| matrix(Direction::OurReceiver, s)).collect::<Vec<_>>());
}

#[test]
fn simple_profile_works_both_ways() {
    let directions = [Direction::OurSender, Direction::OurReceiver];
    let cases = directions
        .into_iter()
        .flat_map(|direction| matrix(direction, Security::Clear).map(|case| Case { profile: Profile::Simple, ..case }));
    check(&cases.collect::<Vec<_>>());
}

/// The sender's public address changes in the middle of the stream, on every link at once.
#[test]
fn a_nat_rebinding_costs_nothing_both_ways() {
    let directions = [Direction::OurSender, Direction::OurReceiver];
    let cases = directions.into_iter().flat_map(|direction| {
        let case = Case { rebind: true, ..Case::new(direction) };
        [
            case.clone(),
            Case { security: Security::Psk256, ..case.clone() },
            Case { links: Links::Shared, loss: 0.02, ..case.clone() },
            Case { profile: Profile::Simple, ..case },
        ]
    });
    check(&cases.collect::<Vec<_>>());
}

#[test]
fn null_packets_left_out_are_restored_both_ways() {
    let directions = [Direction::OurSender, Direction::OurReceiver];
    check(&directions.map(|direction| Case { nulls: true, ..Case::new(direction) }));
}

#[test]
fn a_login_opens_the_flow_both_ways() {
    let directions = [Direction::OurSender, Direction::OurReceiver];
    check(&directions.into_iter().flat_map(|d| matrix(d, Security::Login)).collect::<Vec<_>>());
}
