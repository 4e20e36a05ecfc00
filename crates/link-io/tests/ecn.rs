//! Congestion marks between two network namespaces, with real kernel sockets and programs: a node that marks keeps the queue of
//! a link short that is asked for more than it carries.
//!
//! The node is CoDel with a marking threshold where the kernel has it, else a phantom queue of the packet filter: what exceeds
//! a rate a little below the link's is marked (RFC 5670). Needs root; without it the reason is told.

mod support;

use std::time::Duration;
use support::network::{EVERYWHERE, Network, Stream, events, links, must, run};
use support::piped::{PipedReceiver, PipedSender};
use support::tool::find;
use support::untested;

const SEND: &str = env!("CARGO_BIN_EXE_bond-send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_bond-receive");
const PORT: u16 = 5000;
const LATENCY_MS: u32 = 1000;
/// Of the link: less than the stream's 2.6 Mbit/s.
const RATE: &str = "2400kbit";
/// What is marked where the packet filter marks: beyond nine tenths of that in datagrams, reports among them.
const MARKED_ABOVE: &str = "200/second burst 4 packets";
const MTU: u16 = 1500;
/// Payloads of 4 ms that show a state, and how often it is looked at.
const PAYLOADS: u32 = 50;
const LOOKS: usize = 50;
/// Looks before the queue is judged.
const WARM_UP: usize = 20;

/// A link with a node that marks; what marks, for the record.
fn marking_link(network: &Network) -> Option<&'static str> {
    let s = &network.sending;
    network.add_link(0, 1, MTU);
    network.add_default_route(0);
    must("tc", &format!("-n {s} qdisc replace dev tx0 root handle 1: tbf rate {RATE} burst 4k latency 400ms"));
    for discipline in ["fq_codel", "codel"] {
        let node = format!("-n {s} qdisc replace dev tx0 parent 1:1 handle 2: {discipline} ecn ce_threshold 5ms");
        match run("tc", &node) {
            Ok(()) => return Some(discipline),
            Err(reason) => println!("no {discipline} here: {reason}"),
        }
    }
    let inside = format!("netns exec {s} nft");
    let rules = [
        "add table ip marks".to_owned(),
        "add chain ip marks out { type filter hook postrouting priority 0 ; }".to_owned(),
        format!("add rule ip marks out oifname tx0 ip ecn ect1 limit rate over {MARKED_ABOVE} ip ecn set ce"),
    ];
    for rule in rules {
        if let Err(reason) = run("ip", &format!("{inside} {rule}")) {
            untested::tell("a node that marks, which the packet filter is to be", &reason);
            return None;
        }
    }
    Some("a phantom queue")
}

/// What a run came to: the state of ECN, datagrams marked, the queue's delay in milliseconds (median), packets received.
fn carry(network: &Network, environment: &str) -> (String, u64, f64, usize) {
    let receive = format!("--listen 0.0.0.0:{PORT} --latency {LATENCY_MS} --output -");
    let receiver = PipedReceiver::start(&find("ip"), &Network::inside(&network.receiving, RECEIVE, &receive));
    let send = format!(
        "BOND_GSO=off {environment} {SEND} --input - --latency {LATENCY_MS} --stats json --links {EVERYWHERE}:{PORT};dev=tx0;name=a"
    );
    let sender = PipedSender::start(&find("ip"), &Network::inside(&network.sending, "env", &send));
    let mut stream = Stream { sender, next: 0 };
    stream.send_until(0, true);
    let mut queues = Vec::new();
    for look in 0..LOOKS {
        stream.send(PAYLOADS);
        let queue = links(&stream.sender).first().and_then(|link| link["queue_delay_ms"].as_f64());
        queues.extend(queue.filter(|_| look >= WARM_UP));
    }
    queues.sort_by(f64::total_cmp);
    let link = links(&stream.sender).into_iter().next().expect("a link");
    println!("{environment} {:?}", events(&stream.sender).iter().filter(|e| e.contains("mark")).collect::<Vec<_>>());
    let last = stream.next - 1;
    stream.sender.finish();
    let received = receiver.receive_to(last, Duration::from_secs(3)).len();
    let state = link["ecn"].as_str().unwrap_or_default().to_owned();
    (state, link["ce_packets"].as_u64().unwrap_or_default(), queues[queues.len() / 2], received)
}

#[test]
fn a_node_that_marks_keeps_its_queue_short() {
    let Some(network) = Network::new() else { return };
    let Some(node) = marking_link(&network) else { return };
    let (state, marked, queue, received) = carry(&network, "BOND_ECN=on");
    let (state_without, marked_without, queue_without, received_without) = carry(&network, "BOND_ECN=off");
    println!(
        "{node}: {marked} marked, queue {queue:.1} ms, {received} payloads; without ECN {queue_without:.1} ms, {received_without} payloads"
    );
    assert_eq!((state.as_str(), state_without.as_str(), marked_without), ("in_use", "off", 0));
    assert!(marked > 20, "{marked} marked");
    assert!(queue < 0.5 * queue_without, "{queue} ms, without ECN {queue_without} ms");
    assert!(received as f64 > 0.8 * received_without as f64, "{received} payloads, without ECN {received_without}");
}

/// A path that clears the field: found, told, and nothing is missing.
#[test]
fn a_path_that_clears_the_field_is_left_alone() {
    let Some(network) = Network::new() else { return };
    network.add_link(0, 1, MTU);
    network.add_default_route(0);
    let inside = format!("netns exec {} nft", network.receiving);
    for rule in [
        "add table ip clears",
        "add chain ip clears in { type filter hook prerouting priority 0 ; }",
        "add rule ip clears in iifname rx0 ip ecn set not-ect",
    ] {
        if let Err(reason) = run("ip", &format!("{inside} {rule}")) {
            untested::tell("a path that clears ECN, as the packet filter is to do", &reason);
            return;
        }
    }
    let (state, marked, _, received) = carry(&network, "BOND_ECN=on");
    assert_eq!((state.as_str(), marked), ("cleared", 0));
    assert!(received as u32 > PAYLOADS * (LOOKS as u32 - 8), "{received} payloads");
}
