//! Links as veth pairs with rate limits between two network namespaces, real kernel sockets, real programs: links die,
//! heal, vanish, come back and change their address while a stream runs.
//!
//! Needs root (`make test` runs as root in a container or asks for it); without it the reason is printed.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};
use support::piped::{PipedReceiver, PipedSender, assert_contiguous};
use support::tool::find;

const SEND: &str = env!("CARGO_BIN_EXE_bond-send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_bond-receive");
const LINKS: usize = 4;
/// The link that is bound to its address instead of its interface.
const BOUND: usize = 3;
/// The link whose interface takes small packets only, and the size of datagram that is found.
const NARROW: usize = 2;
const NARROW_MTU: u16 = 1300;
const NARROW_DATAGRAM: u64 = 1232;
const PORT: u16 = 5000;
/// 2.6 Mbit/s of media, less than any two links carry.
const INTERVAL: Duration = Duration::from_millis(4);
const LATENCY_MS: u32 = 2000;

/// Two namespaces and the links between them; gone when dropped.
struct Network {
    sending: String,
    receiving: String,
}

/// Runs `ip` or `tc` and gives what it complains about.
fn run(program: &str, arguments: &str) -> Result<(), String> {
    let output = Command::new(find(program)).args(arguments.split_whitespace()).output().map_err(|e| e.to_string())?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {arguments}: {complaint}")) }
}

fn must(program: &str, arguments: &str) {
    run(program, arguments).expect("a working network tool");
}

impl Network {
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let network = Self { sending: format!("strata-s-{id}"), receiving: format!("strata-r-{id}") };
        run("ip", &format!("netns add {}", network.sending))?;
        run("ip", &format!("netns add {}", network.receiving))?;
        for link in 0..LINKS {
            network.add_link(link, 1);
        }
        Ok(network)
    }

    /// A veth pair `tx`-`rx`, the sending end with address 10.77.`link`.`host`.
    fn add_link(&self, link: usize, host: u8) {
        let (s, r) = (&self.sending, &self.receiving);
        must("ip", &format!("-n {s} link add tx{link} type veth peer name rx{link} netns {r}"));
        must("ip", &format!("-n {s} addr add 10.77.{link}.{host}/24 dev tx{link}"));
        must("ip", &format!("-n {r} addr add 10.77.{link}.200/24 dev rx{link}"));
        if link == NARROW {
            must("ip", &format!("-n {s} link set tx{link} mtu {NARROW_MTU}"));
        }
        must("ip", &format!("-n {s} link set tx{link} up"));
        must("ip", &format!("-n {r} link set rx{link} up"));
        let limit = format!("-n {s} qdisc add dev tx{link} root tbf rate 6mbit burst 16k latency 100ms");
        if let Err(reason) = run("tc", &limit) {
            println!("link {link} runs without its rate limit: {reason}");
        }
    }

    fn in_namespace(namespace: &str, program: &str, arguments: &str) -> Vec<String> {
        let line = format!("netns exec {namespace} {program} {arguments}");
        line.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.sending, &self.receiving] {
            let _ = run("ip", &format!("netns del {namespace}"));
        }
    }
}

/// The state of each link in the last report of the sender.
fn states(sender: &PipedSender) -> Vec<String> {
    let reports = sender.reports.lock().expect("no panic inside the lock");
    let last = reports.iter().rev().find_map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
        object.get("stats").cloned()
    });
    let links = last.and_then(|stats| stats["links"].as_array().cloned()).unwrap_or_default();
    links.iter().map(|link| link["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The sentences of the events so far.
fn events(sender: &PipedSender) -> Vec<String> {
    let reports = sender.reports.lock().expect("no panic inside the lock");
    let values = reports.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    values.filter_map(|object| object["text"].as_str().map(str::to_owned)).collect()
}

/// The largest datagram of each link in the last report of the sender.
fn sizes(sender: &PipedSender) -> Vec<u64> {
    let reports = sender.reports.lock().expect("no panic inside the lock");
    let mut values = reports.iter().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let links = values.find_map(|object| object["stats"]["links"].as_array().cloned()).unwrap_or_default();
    links.iter().map(|link| link["datagram_bytes_max"].as_u64().unwrap_or_default()).collect()
}

fn reopened(sender: &PipedSender) -> u64 {
    let reports = sender.reports.lock().expect("no panic inside the lock");
    let values = reports.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    values.filter_map(|object| object["io"]["sockets_reopened"].as_u64()).max().unwrap_or(0)
}

/// A stream that goes on while something is waited for.
struct Stream {
    sender: PipedSender,
    next: u32,
}

impl Stream {
    fn send(&mut self, payloads: u32) {
        self.sender.send(self.next..self.next + payloads, INTERVAL);
        self.next += payloads;
    }

    /// Sends on until link `link` is, or is not, "up".
    fn send_until(&mut self, link: usize, up: bool) {
        let started = Instant::now();
        while (states(&self.sender).get(link).map(String::as_str) == Some("up")) != up {
            let limit = Duration::from_secs(20);
            assert!(
                started.elapsed() < limit,
                "link {link}: waited {limit:?} for up = {up}: {:?}",
                states(&self.sender)
            );
            self.send(50);
        }
    }
}

#[test]
fn a_stream_survives_links_that_die_heal_vanish_and_change_their_address() {
    let network = match Network::new() {
        Ok(network) => network,
        Err(reason) => {
            println!("network namespaces cannot be made here, nothing was tested: {reason}");
            return;
        }
    };
    let (s, r) = (network.sending.clone(), network.receiving.clone());
    let receive = format!("--listen 0.0.0.0:{PORT} --latency {LATENCY_MS} --output -");
    let receiver = PipedReceiver::start(&find("ip"), &Network::in_namespace(&r, RECEIVE, &receive));
    let place = |i| if i == BOUND { format!("bind=10.77.{i}.1") } else { format!("dev=tx{i}") };
    let links: Vec<String> = (0..LINKS).map(|i| format!("10.77.{i}.200:{PORT};{};name=veth-{i}", place(i))).collect();
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links {}", links.join(","));
    let sender = PipedSender::start(&find("ip"), &Network::in_namespace(&s, SEND, &send));
    let mut stream = Stream { sender, next: 0 };
    for link in 0..LINKS {
        stream.send_until(link, true);
    }

    // The interface of one link takes less than a full payload: the kernel says so, the size is searched below.
    let expected = [1472, 1472, NARROW_DATAGRAM, 1472];
    for _ in 0..40 {
        stream.send(50);
        if sizes(&stream.sender) == expected {
            break;
        }
    }
    assert_eq!(sizes(&stream.sender), expected, "{:?}", events(&stream.sender));

    // A link dies at the far end and heals.
    must("ip", &format!("-n {r} link set rx0 down"));
    stream.send_until(0, false);
    must("ip", &format!("-n {r} link set rx0 up"));
    stream.send_until(0, true);

    // An interface is pulled and plugged in again: same name, new index.
    must("ip", &format!("-n {s} link del tx1"));
    stream.send_until(1, false);
    // Which is known without waiting for silence: from the kernel's news, or from the next datagram.
    let told = |link: &str, text: &str, sender: &PipedSender| {
        events(sender).iter().any(|event| event.contains(link) && event.contains(text))
    };
    let at_once = ["its interface has no carrier or no address", "the system refuses to send"];
    assert!(
        at_once.iter().any(|reason| told("veth-1: up -> suspect", reason, &stream.sender)),
        "{:?}",
        events(&stream.sender)
    );
    network.add_link(1, 1);
    stream.send_until(1, true);
    assert!(reopened(&stream.sender) >= 1, "the socket of the pulled interface was opened again");

    // A link gets another address, as after a new lease.
    must("ip", &format!("-n {s} addr del 10.77.2.1/24 dev tx2"));
    must("ip", &format!("-n {s} addr add 10.77.2.9/24 dev tx2"));
    stream.send(250);
    stream.send_until(2, true);
    assert!(told("veth-2", "the local address changed", &stream.sender), "{:?}", events(&stream.sender));

    // The address a link is bound to goes away and comes back.
    let before = reopened(&stream.sender);
    must("ip", &format!("-n {s} addr del 10.77.{BOUND}.1/24 dev tx{BOUND}"));
    stream.send_until(BOUND, false);
    must("ip", &format!("-n {s} addr add 10.77.{BOUND}.1/24 dev tx{BOUND}"));
    stream.send_until(BOUND, true);
    assert!(reopened(&stream.sender) > before, "the socket of the lost address was opened again");

    let last = stream.next - 1;
    assert_eq!(stream.sender.finish(), Some(0));
    let received = receiver.receive_to(last, Duration::from_secs(10));
    let first = assert_contiguous(&received, 2000, last);
    println!("{} payloads in order, the first was number {first}", received.len());
}
