//! Two network namespaces with veth pairs between them, and programs of ours in each.

use super::piped::PipedSender;
use super::tool::find;
use super::untested;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The address of the receiving end that is reached over every link.
pub const EVERYWHERE: &str = "10.99.0.1";
/// 2.6 Mbit/s of media, less than any two links carry.
pub const INTERVAL: Duration = Duration::from_millis(4);

/// What a link carries.
pub const RATE_BPS: u32 = 6_000_000;

/// Two namespaces and the links between them; gone when dropped.
pub struct Network {
    pub sending: String,
    pub receiving: String,
}

/// Runs `ip` or `tc` and gives what it complains about.
pub fn run(program: &str, arguments: &str) -> Result<(), String> {
    let output = Command::new(find(program)).args(arguments.split_whitespace()).output().map_err(|e| e.to_string())?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {arguments}: {complaint}")) }
}

pub fn must(program: &str, arguments: &str) {
    run(program, arguments).expect("a working network tool");
}

impl Network {
    /// Without links; `None`, with the reason on the terminal, where namespaces cannot be made by others than root.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let network = Self { sending: format!("strata-s-{id}"), receiving: format!("strata-r-{id}") };
        for namespace in [&network.sending, &network.receiving] {
            if let Err(reason) = run("ip", &format!("netns add {namespace}")) {
                untested::tell_unless_root("links between network namespaces", &reason);
                return None;
            }
            must("ip", &format!("-n {namespace} link set lo up"));
        }
        must("ip", &format!("-n {} addr add {EVERYWHERE}/32 dev lo", network.receiving));
        Some(network)
    }

    /// A veth pair `tx`-`rx` of [`RATE_BPS`], the sending end with address 10.77.`link`.`host`, the other 10.77.`link`.200.
    pub fn add_link(&self, link: usize, host: u8, mtu: u16) {
        let (s, r) = (&self.sending, &self.receiving);
        must("ip", &format!("-n {s} link add tx{link} mtu {mtu} type veth peer name rx{link} netns {r}"));
        must("ip", &format!("-n {s} addr add 10.77.{link}.{host}/24 dev tx{link}"));
        must("ip", &format!("-n {r} addr add 10.77.{link}.200/24 dev rx{link}"));
        must("ip", &format!("-n {s} link set tx{link} up"));
        must("ip", &format!("-n {r} link set rx{link} up"));
        must("tc", &format!("-n {s} qdisc add dev tx{link} root tbf rate {RATE_BPS} burst 16k latency 100ms"));
    }

    /// The way to everything over a link, as a modem gets it.
    pub fn add_default_route(&self, link: usize) {
        let metric = 100 + link;
        must("ip", &format!("-n {} route add default via 10.77.{link}.200 dev tx{link} metric {metric}", self.sending));
    }

    /// The arguments of `ip` that run a program in a namespace.
    pub fn inside(namespace: &str, program: &str, arguments: &str) -> Vec<String> {
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

/// Every report so far, oldest first.
fn reports(sender: &PipedSender) -> Vec<serde_json::Value> {
    let lines = sender.reports.lock().expect("no panic inside the lock");
    lines.iter().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// The links in the last report of the sender.
pub fn links(sender: &PipedSender) -> Vec<serde_json::Value> {
    let last = reports(sender).into_iter().rev().find_map(|object| object["stats"]["links"].as_array().cloned());
    last.unwrap_or_default()
}

/// The state of each link in the last report of the sender.
pub fn states(sender: &PipedSender) -> Vec<String> {
    links(sender).iter().map(|link| link["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The sentences of the events so far.
pub fn events(sender: &PipedSender) -> Vec<String> {
    reports(sender).iter().filter_map(|object| object["text"].as_str().map(str::to_owned)).collect()
}

/// The largest datagram of each link in the last report of the sender.
pub fn sizes(sender: &PipedSender) -> Vec<u64> {
    links(sender).iter().map(|link| link["datagram_bytes_max"].as_u64().unwrap_or_default()).collect()
}

pub fn reopened(sender: &PipedSender) -> u64 {
    reports(sender).iter().filter_map(|object| object["io"]["sockets_reopened"].as_u64()).max().unwrap_or(0)
}

/// A stream that goes on while something is waited for.
pub struct Stream {
    pub sender: PipedSender,
    pub next: u32,
}

impl Stream {
    pub fn send(&mut self, payloads: u32) {
        self.sender.send(self.next..self.next + payloads, INTERVAL);
        self.next += payloads;
    }

    /// Sends on until link `link` is, or is not, "up".
    pub fn send_until(&mut self, link: usize, up: bool) {
        self.send_while(|sender| (states(sender).get(link).map(String::as_str) == Some("up")) != up);
    }

    /// Sends on while something is not yet as it should be.
    pub fn send_while(&mut self, pending: impl Fn(&PipedSender) -> bool) {
        let started = Instant::now();
        while pending(&self.sender) {
            let limit = Duration::from_secs(20);
            assert!(
                started.elapsed() < limit,
                "waited {limit:?}: {:?} {:?}",
                states(&self.sender),
                events(&self.sender)
            );
            self.send(50);
        }
    }
}
