//! Our ends against librist's programs as Debian ships them (0.2.7), as real processes on loopback: every byte that goes
//! in comes out, once and in order.
//!
//! The paths between them are `link_sim` links behind a UDP proxy. [`MATRIX`] is what runs, in both directions and side by
//! side; the same table is in `docs/transport.md`. A missing program fails the test.

mod support;

use bond::config::{
    KeySize, LinkOptions, Login, Profile, PskConfig, ReceiverConfig, Secret, SenderConfig, VIRTUAL_PORT_DEFAULT,
};
use free_ports::{free_pair, loopback};
use link_io::media::UdpOutput;
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use link_sim::{LinkConfig, PathConfig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::cases::run_all;
use support::matrix::{Direction, Links, Network, Row, assert_documented};
use support::media::{Input, Output, Stream};
use support::proxy::Proxy;
use support::tool::Tool;
use units::LinkId;

/// Cases at the same time; they mostly wait.
const PARALLEL: usize = 8;
/// Buffer of both ends: long enough for a second that a busy machine takes away, and for what librist asks of an address
/// that a NAT has given up.
const LATENCY: Duration = Duration::from_millis(1400);
/// The same where a link is cut: librist takes `session-timeout` to see it and asks on that link meanwhile.
const LATENCY_CUT: Duration = Duration::from_secs(1);
/// Payloads of such a stream: 3.6 s.
const PAYLOADS_CUT: u32 = 900;
const PASSPHRASE: &str = "correct horse battery";
const USER: &str = "alice";
const PASSWORD: &str = "wonderland";
const ROTATE_AFTER: u32 = 40;
/// Time after the stream until a receiver, which says little, has sent so many packets and needed another key.
const NONCES_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// Simple Profile, which knows no other.
    Simple,
    Clear,
    Psk128,
    Psk256,
    Rotating,
    Login,
    /// Without a pass phrase beside it. librist 0.2.7 stays in the clear after such a log-in.
    LoginAlone,
}

use Security::{Clear, Login as Srp, LoginAlone as SrpAlone, Psk128, Psk256, Rotating, Simple};

/// `X` is run, in both directions, `S` from our sender: theirs has fixed shares or sends copies.
#[rustfmt::skip]
const MATRIX: [Row<Security>; 22] = [
    //        security  links              0 %  2 %  rebinding  rebinding and 2 %
    Row::new(Simple,   Links::One,        "X", "X", "X", "X"),
    Row::new(Simple,   Links::Shared,     "X", "X", "X", "X"),
    Row::new(Simple,   Links::Duplicated, "X", "X", "X", "X"),
    Row::new(Clear,    Links::One,        "X", "X", "X", "X"),
    Row::new(Clear,    Links::Shared,     "X", "X", "X", "X"),
    Row::new(Clear,    Links::Duplicated, "X", "X", "X", "X"),
    Row::new(Clear,    Links::Steered,    "S", "S", "S", "S"),
    Row::new(Psk128,   Links::One,        "X", "X", "X", "X"),
    Row::new(Psk128,   Links::Shared,     "X", "X", "X", "X"),
    Row::new(Psk128,   Links::Duplicated, "X", "X", "X", "X"),
    Row::new(Psk256,   Links::One,        "X", "X", "X", "X"),
    Row::new(Psk256,   Links::Shared,     "X", "X", "X", "X"),
    Row::new(Psk256,   Links::Duplicated, "X", "X", "X", "X"),
    Row::new(Psk256,   Links::Steered,    "S", "S", "S", "S"),
    Row::new(Rotating, Links::One,        "X", "X", "X", "X"),
    Row::new(Rotating, Links::Shared,     "X", "X", "X", "X"),
    Row::new(Rotating, Links::Duplicated, "X", "X", "X", "X"),
    Row::new(Srp,      Links::One,        "X", "X", "X", "X"),
    Row::new(Srp,      Links::Shared,     "X", "X", "X", "X"),
    Row::new(Srp,      Links::Duplicated, "X", "X", "X", "X"),
    Row::new(SrpAlone, Links::One,        "X", "X", "X", "X"),
    Row::new(SrpAlone, Links::Shared,     "X", "X", "X", "X"),
];

/// The same where the receiver calls the sender. Simple Profile has no such thing.
#[rustfmt::skip]
const CALLING: [Row<Security>; 6] = [
    //        security  links              0 %  2 %  rebinding  rebinding and 2 %
    Row::new(Clear,    Links::One,        "X", "X", "X", "X"),
    Row::new(Clear,    Links::Shared,     "X", "X", "X", "X"),
    Row::new(Psk256,   Links::One,        "X", "X", "X", "X"),
    Row::new(Psk256,   Links::Shared,     "X", "X", "X", "X"),
    Row::new(Srp,      Links::One,        "X", "X", "X", "X"),
    Row::new(Srp,      Links::Shared,     "X", "X", "X", "X"),
];

impl Security {
    fn logs_in(self) -> bool {
        matches!(self, Self::Login | Self::LoginAlone)
    }

    const fn documented(self) -> &'static str {
        match self {
            Self::Simple => "Simple, clear",
            Self::Clear => "Main, clear",
            Self::Psk128 => "Main, AES-128",
            Self::Psk256 => "Main, AES-256",
            Self::Rotating => "Main, AES-256, new keys",
            Self::Login => "Main, AES-256, log-in",
            Self::LoginAlone => "Main, log-in alone",
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    direction: Direction,
    security: Security,
    links: Links,
    network: Network,
    /// This link goes silent halfway.
    cut: Option<usize>,
    nulls: bool,
    virtual_port: Option<u16>,
    /// The receiver calls, the sender listens.
    calling: bool,
}

impl Case {
    /// One clear link, on which nothing happens.
    fn new(direction: Direction) -> Self {
        let network = Network { loss: 0.0, rebinding: false };
        Self {
            direction,
            security: Clear,
            links: Links::One,
            network,
            cut: None,
            nulls: false,
            virtual_port: None,
            calling: false,
        }
    }

    fn name(&self) -> String {
        let nulls = if self.nulls { " nulls" } else { "" };
        let port = self.virtual_port.map(|port| format!(" port {port}")).unwrap_or_default();
        let cut = self.cut.map(|cut| format!(" cut {cut}")).unwrap_or_default();
        let calling = if self.calling { " receiver calls" } else { "" };
        format!(
            "{:?} {:?} {:?} {}{cut}{nulls}{port}{calling}",
            self.direction,
            self.security,
            self.links,
            self.network.name()
        )
    }

    fn profile(&self) -> Profile {
        if self.security == Simple { Profile::Simple } else { Profile::Main }
    }

    fn latency(&self) -> Duration {
        if self.cut.is_some() { LATENCY_CUT } else { LATENCY }
    }

    /// A few milliseconds of delay, so that three paths differ and a loss is noticed late.
    fn path(&self) -> PathConfig {
        let link = |delay_ms| LinkConfig { loss: self.network.loss, delay_ms, ..LinkConfig::default() };
        PathConfig { up: link(8.0), down: link(5.0), ..PathConfig::default() }
    }

    fn run(&self) -> Result<(), String> {
        // A receiver takes all links on one port, a sender that listens has one for each.
        let target = loopback(free_pair());
        let targets: Vec<SocketAddr> = (0..self.links.count())
            .map(|index| if self.calling && index > 0 { loopback(free_pair()) } else { target })
            .collect();
        let seed = self.name().bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) % 1_000_003 + u64::from(byte));
        let proxy = Proxy::start(self.profile(), &targets, &self.path(), seed);
        let (output, receiving) = if self.direction == Direction::OurReceiver {
            (Output::Flow(self.our_receiver(if self.calling { &proxy.fronts } else { &targets[..1] })), None)
        } else {
            let (output, to) = Output::udp();
            (output, Some(self.librist_receiver(if self.calling { &proxy.fronts } else { &targets[..1] }, to)))
        };
        let sides = if self.calling { &targets } else { &proxy.fronts };
        let (input, sending) = if self.direction == Direction::OurSender {
            (Input::Flow(self.our_sender(sides)), None)
        } else {
            let from = loopback(free_pair());
            (Input::udp(from), Some(self.librist_sender(from, sides)))
        };
        let payloads = if self.cut.is_some() { PAYLOADS_CUT } else { Stream::default().payloads };
        let stream = Stream { nulls: self.nulls, payloads, ..Stream::default() };
        let result = stream.run(&input, &output, || {
            if self.network.rebinding {
                proxy.rebind();
            }
            if let Some(cut) = self.cut {
                proxy.cut(cut);
            }
        });
        let result = result.map_err(|failure| failure.why).and_then(|()| self.check_nonces(&proxy));
        result.map_err(|failure| {
            let logs: Vec<String> = sending.iter().chain(&receiving).map(Tool::log_tail).collect();
            let ours = match (&input, &output) {
                (Input::Flow(sender), _) => format!("{:#?}\n{:#?}", sender.snapshot(), sender.events()),
                (_, Output::Flow(receiver)) => format!("{:#?}\n{:#?}", receiver.snapshot(), receiver.events()),
                _ => String::new(),
            };
            format!("{failure}\n{}\n{ours}", logs.join("\n"))
        })
    }

    /// Where keys change, both ends have done so on every link, beside the new nonce that a new address may make; after a
    /// log-in alone there is none.
    fn check_nonces(&self, proxy: &Proxy) -> Result<(), String> {
        let wanted = match self.security {
            Rotating if self.network.rebinding => 3..=usize::MAX,
            Rotating => 2..=usize::MAX,
            SrpAlone => 0..=0,
            _ => return Ok(()),
        };
        let until = Instant::now() + NONCES_MAX;
        loop {
            let used: Vec<_> = proxy.seen().iter().map(|path| path.nonces.each_ref().map(BTreeSet::len)).collect();
            if used.as_flattened().iter().all(|nonces| wanted.contains(nonces)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("nonces of the caller and of its peer on each link: {used:?}, wanted {wanted:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn psk(&self) -> Option<PskConfig> {
        let key_size = match self.security {
            Security::Simple | Security::Clear | Security::LoginAlone => return None,
            Security::Psk128 => KeySize::Aes128,
            Security::Psk256 | Security::Rotating | Security::Login => KeySize::Aes256,
        };
        let rotate_after_packets = (self.security == Security::Rotating).then_some(ROTATE_AFTER);
        Some(PskConfig { passphrase: Secret::new(PASSPHRASE), key_size, rotate_after_packets })
    }

    fn login(&self) -> Option<Login> {
        let login = Login { user: USER.to_owned(), password: Secret::new(PASSWORD) };
        self.security.logs_in().then_some(login)
    }

    fn our_sender(&self, fronts: &[SocketAddr]) -> FlowSender {
        let links = fronts.iter().enumerate().map(|(i, &front)| {
            let options = LinkOptions { weight: self.links.weight(), ..LinkOptions::default() };
            LinkSpec { options, listens: self.calling, ..LinkSpec::new(LinkId(i as u16), front) }
        });
        let bond = SenderConfig {
            profile: self.profile(),
            psk: self.psk(),
            srp: self.login(),
            cname: "ours".to_owned(),
            latency: self.latency(),
            null_deletion: self.nulls,
            virtual_port: self.virtual_port.unwrap_or(VIRTUAL_PORT_DEFAULT),
            ..SenderConfig::default()
        };
        FlowSender::open(SenderOptions { bond, links: links.collect() }).expect("our sender")
    }

    fn our_receiver(&self, addresses: &[SocketAddr]) -> FlowReceiver {
        let bond = ReceiverConfig {
            profile: self.profile(),
            psk: self.psk(),
            srp_users: self.login().into_iter().collect(),
            cname: "ours".to_owned(),
            latency: self.latency(),
            virtual_ports: self.virtual_port.into_iter().collect(),
            ..ReceiverConfig::default()
        };
        let (listen, connect) = if self.calling { (Vec::new(), addresses) } else { (addresses.to_vec(), &[][..]) };
        FlowReceiver::open(ReceiverOptions { bond, listen, connect: connect.to_vec() }).expect("our receiver")
    }

    /// What both librist programs are told about a peer.
    fn url_options(&self) -> String {
        let buffer = self.latency().as_millis();
        let security = match self.security {
            Security::Simple | Security::Clear => String::new(),
            Security::Psk128 => format!("&secret={PASSPHRASE}&aes-type=128"),
            Security::Psk256 => format!("&secret={PASSPHRASE}&aes-type=256"),
            Security::Rotating => format!("&secret={PASSPHRASE}&aes-type=256&key-rotation={ROTATE_AFTER}"),
            Security::Login => format!("&secret={PASSPHRASE}&aes-type=256&username={USER}&password={PASSWORD}"),
            Security::LoginAlone => format!("&username={USER}&password={PASSWORD}"),
        };
        // librist sends requests to an address until its session ends, also to one that is gone.
        let timeout = if self.network.rebinding || self.cut.is_some() { 400 } else { 5000 };
        let port = self.virtual_port.map(|port| format!("&virt-dst-port={port}")).unwrap_or_default();
        format!("buffer={buffer}&reorder-buffer=40&session-timeout={timeout}{security}{port}")
    }

    fn profile_flag(&self) -> String {
        if self.security == Simple { "0" } else { "1" }.to_owned()
    }

    fn librist_sender(&self, from: SocketAddr, fronts: &[SocketAddr]) -> Tool {
        let weight = if self.links == Links::Shared { 5 } else { 0 };
        let options = self.url_options();
        let at = if self.calling { "@" } else { "" };
        let peers: Vec<String> =
            fronts.iter().map(|front| format!("rist://{at}{front}?cname=theirs&weight={weight}&{options}")).collect();
        let mut arguments = ["-p", &self.profile_flag(), "-i", &format!("udp://@{from}"), "-o", &peers.join(",")]
            .map(str::to_owned)
            .to_vec();
        if self.nulls {
            arguments.push("-n".to_owned());
        }
        Tool::start("ristsender", &arguments)
    }

    fn librist_receiver(&self, addresses: &[SocketAddr], to: SocketAddr) -> Tool {
        let at = if self.calling { "" } else { "@" };
        let options = self.url_options();
        let inputs: Vec<String> =
            addresses.iter().map(|address| format!("rist://{at}{address}?cname=theirs&{options}")).collect();
        let arguments =
            ["-p", &self.profile_flag(), "-i", &inputs.join(","), "-o", &format!("udp://{to}")].map(str::to_owned);
        Tool::start("ristreceiver", &arguments)
    }
}

fn check(cases: &[Case]) {
    run_all(cases, PARALLEL, Case::name, Case::run);
}

/// The cells of the rows of one direction that `wanted` takes.
fn check_rows(direction: Direction, wanted: impl Fn(Security) -> bool) {
    let rows = MATRIX.iter().filter(|row| wanted(row.security));
    let case = |row: &Row<Security>, network| Case {
        security: row.security,
        links: row.links,
        network,
        ..Case::new(direction)
    };
    check(&rows.flat_map(|row| row.cells(direction).map(move |network| case(row, network))).collect::<Vec<_>>());
}

#[test]
fn the_matrix_is_documented() {
    let told = |security: &Security| security.documented().to_owned();
    assert_documented("librist", &MATRIX, told);
    assert_documented("librist, the receiver calls", &CALLING, told);
}

/// The proxy and the way of counting, without any part of ours.
#[test]
fn librist_understands_itself_through_the_proxy() {
    let case = Case::new(Direction::NeitherEnd);
    let lossy = Network { loss: 0.02, rebinding: false };
    let rebinding = Network { loss: 0.0, rebinding: true };
    check(&[
        case.clone(),
        Case { links: Links::Shared, network: lossy, ..case.clone() },
        Case { security: Simple, network: lossy, ..case.clone() },
        Case { network: rebinding, security: Psk256, ..case.clone() },
        Case { nulls: true, ..case.clone() },
        Case { security: Srp, ..case.clone() },
        Case { security: SrpAlone, ..case },
    ]);
}

#[test]
fn ristreceiver_gets_every_byte_of_our_sender() {
    check_rows(Direction::OurSender, |security| !security.logs_in());
}

#[test]
fn our_receiver_gets_every_byte_of_ristsender() {
    check_rows(Direction::OurReceiver, |security| !security.logs_in());
}

#[test]
fn a_login_opens_the_flow_both_ways() {
    check_rows(Direction::OurSender, Security::logs_in);
    check_rows(Direction::OurReceiver, Security::logs_in);
}

/// The receiver calls: theirs ours, and ours theirs.
#[test]
fn receivers_call_senders_both_ways() {
    let cases = [Direction::OurSender, Direction::OurReceiver].into_iter().flat_map(|direction| {
        let case = move |row: &Row<Security>, network| Case {
            security: row.security,
            links: row.links,
            network,
            calling: true,
            ..Case::new(direction)
        };
        CALLING.iter().flat_map(move |row| row.cells(direction).map(move |network| case(row, network)))
    });
    let theirs = Case { calling: true, network: LOSSY, ..Case::new(Direction::NeitherEnd) };
    check(&cases.chain([theirs]).collect::<Vec<_>>());
}

/// One of three links goes silent in the middle of the stream, each in turn.
#[test]
fn a_cut_link_costs_nothing_both_ways() {
    let cut = |direction, cut| Case { links: Links::Shared, cut: Some(cut), ..Case::new(direction) };
    let mut cases = Vec::new();
    for index in 0..3 {
        cases.push(Case { links: Links::Steered, ..cut(Direction::OurSender, index) });
        cases.push(cut(Direction::OurSender, index));
        cases.push(cut(Direction::OurReceiver, index));
    }
    cases.push(Case { links: Links::Steered, security: Psk256, ..cut(Direction::OurSender, 0) });
    cases.push(Case { security: Psk256, ..cut(Direction::OurReceiver, 0) });
    cases.push(cut(Direction::NeitherEnd, 1));
    check(&cases);
}

#[test]
fn null_packets_left_out_are_restored_both_ways() {
    let directions = [Direction::OurSender, Direction::OurReceiver];
    check(&directions.map(|direction| Case { nulls: true, ..Case::new(direction) }));
}

/// Something to repair.
const LOSSY: Network = Network { loss: 0.02, rebinding: false };

/// A flow on another virtual port than the default one, with losses to repair.
#[test]
fn a_flow_may_have_any_virtual_port_both_ways() {
    let cases = [Direction::OurSender, Direction::OurReceiver].into_iter().flat_map(|direction| {
        let case = Case { virtual_port: Some(2000), network: LOSSY, ..Case::new(direction) };
        [case.clone(), Case { security: Psk128, ..case }]
    });
    check(&cases.collect::<Vec<_>>());
}

/// Two senders of librist's, one port of ours: their virtual ports tell the flows apart, with 2 % loss each.
#[test]
fn two_ristsenders_share_a_port_of_ours() {
    for security in [Clear, Psk256] {
        let cases = [2000, 2002].map(|port| Case {
            virtual_port: Some(port),
            network: LOSSY,
            security,
            ..Case::new(Direction::OurReceiver)
        });
        let bond = ReceiverConfig {
            psk: cases[0].psk(),
            latency: LATENCY,
            virtual_ports: vec![2000, 2002],
            ..ReceiverConfig::default()
        };
        let target = loopback(free_pair());
        let options = ReceiverOptions { bond, listen: vec![target], connect: Vec::new() };
        let outputs = [Output::udp(), Output::udp()];
        let to = |index: usize| UdpOutput::open(outputs[index].1).expect("an output");
        let receiver = FlowReceiver::open_to(options, vec![(Some(2000), to(0)), (Some(2002), to(1))]);
        let receiver = receiver.expect("our receiver");
        let run = |index: usize| {
            let proxy = Proxy::start(Profile::Main, &[target], &cases[index].path(), 5 + index as u64);
            let from = loopback(free_pair());
            let sender = cases[index].librist_sender(from, &proxy.fronts);
            let result = Stream::default().run(&Input::udp(from), &outputs[index].0, || {});
            result.map_err(|failure| format!("{}\n{}\n{:#?}", failure.why, sender.log_tail(), receiver.snapshot()))
        };
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| run(0));
            let second = scope.spawn(|| run(1));
            (first.join().expect("no panic"), second.join().expect("no panic"))
        });
        assert_eq!((first, second), (Ok(()), Ok(())), "{security:?}");
    }
}
