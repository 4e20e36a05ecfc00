//! Links as veth pairs with rate limits between two network namespaces, real kernel sockets, real programs: links die,
//! heal, vanish, come back and change their address while a stream runs, or their port behind a NAT; they are found by
//! themselves; and they take small packets only.
//!
//! Needs root (`make test` runs as root in a container or asks for it); without it the reason is told.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};
use support::media::{PAYLOAD_BYTES, clocked_payload, payload};
use support::network::{EVERYWHERE, INTERVAL, Network, RATE_BPS, Stream, events, links, must, reopened, run, sizes};
use support::piped::{PipedReceiver, PipedSender, assert_contiguous};
use support::tool::{Tool, find};
use support::untested;

const SEND: &str = env!("CARGO_BIN_EXE_bond-send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_bond-receive");
const LINKS: usize = 4;
/// The link that is bound to its address instead of its interface.
const BOUND: usize = 3;
/// The link whose interface takes small packets only, and the largest datagram in them.
const NARROW: usize = 2;
const NARROW_MTU: u16 = 1300;
const NARROW_DATAGRAM: u64 = 1272;
const WIDE_MTU: u16 = 1500;
/// A tunnel in a tunnel: six TS packets fit, with their headers.
const TUNNEL_MTU: u16 = 1200;
/// A link that carries less than a file of 2.6 Mbit/s needs.
const SLOW_BPS: u32 = 1_500_000;
/// An interface is pulled so many times at most until that is known at once.
const PULLS_MAX: u32 = 3;
const PORT: u16 = 5000;
const LATENCY_MS: u32 = 2000;

fn receiver(network: &Network) -> PipedReceiver {
    let receive = format!("--listen 0.0.0.0:{PORT} --latency {LATENCY_MS} --output -");
    PipedReceiver::start(&find("ip"), &Network::inside(&network.receiving, RECEIVE, &receive))
}

#[test]
fn a_stream_survives_links_that_die_heal_vanish_and_change_their_address() {
    let Some(network) = Network::new() else { return };
    for link in 0..LINKS {
        network.add_link(link, 1, if link == NARROW { NARROW_MTU } else { WIDE_MTU });
    }
    let (s, r) = (network.sending.clone(), network.receiving.clone());
    let receiver = receiver(&network);
    let place = |i| if i == BOUND { format!("bind=10.77.{i}.1") } else { format!("dev=tx{i}") };
    let links: Vec<String> = (0..LINKS).map(|i| format!("10.77.{i}.200:{PORT};{};name=veth-{i}", place(i))).collect();
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links {}", links.join(","));
    let sender = PipedSender::start(&find("ip"), &Network::inside(&s, SEND, &send));
    let mut stream = Stream { sender, next: 0 };
    for link in 0..LINKS {
        stream.send_until(link, true);
    }

    // The interface of one link takes less than a full payload.
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
    // Which is known without waiting for silence: from the kernel's news, or from the next datagram. On a busy machine silence
    // may be noticed first, but not always.
    let told = |link: &str, text: &str, sender: &PipedSender| {
        events(sender).iter().any(|event| event.contains(link) && event.contains(text))
    };
    let at_once = ["its interface has no carrier or no address", "the system refuses to send"];
    for attempt in 1.. {
        must("ip", &format!("-n {s} link del tx1"));
        stream.send_until(1, false);
        network.add_link(1, 1, WIDE_MTU);
        stream.send_until(1, true);
        if at_once.iter().any(|reason| told("veth-1: up -> suspect", reason, &stream.sender)) {
            break;
        }
        assert!(attempt < PULLS_MAX, "{:?}", events(&stream.sender));
    }
    assert!(reopened(&stream.sender) >= 1, "the socket of the pulled interface was opened again");

    // A link gets another address, as after a new lease.
    must("ip", &format!("-n {s} addr del 10.77.2.1/24 dev tx2"));
    must("ip", &format!("-n {s} addr add 10.77.2.9/24 dev tx2"));
    stream.send(250);
    stream.send_until(2, true);
    assert!(told("veth-2", "its way or its local address changed", &stream.sender), "{:?}", events(&stream.sender));

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
    assert_contiguous(&received, 0, last);
    println!("{} payloads in order", received.len());
}

/// `--links auto`: interfaces that lead to the receiver are links, those that come while the stream runs too.
#[test]
fn links_are_found_by_themselves_and_come_and_go_with_their_interfaces() {
    let Some(network) = Network::new() else { return };
    let s = network.sending.clone();
    for link in [0, 1] {
        network.add_link(link, 1, WIDE_MTU);
        network.add_default_route(link);
    }
    // A network of cameras leads nowhere; a bridge leads to containers, whatever the routes say.
    network.add_link(7, 1, WIDE_MTU);
    must("ip", &format!("-n {s} link add br7 type bridge"));
    must("ip", &format!("-n {s} addr add 10.88.0.1/24 dev br7"));
    must("ip", &format!("-n {s} link set br7 up"));
    must("ip", &format!("-n {s} route add default via 10.88.0.2 dev br7 metric 999"));
    let receiver = receiver(&network);
    // So little that every link is needed: of links that are all fast enough, the fastest carry nearly everything.
    let send =
        format!("--input - --latency {LATENCY_MS} --stats json --links auto --to {EVERYWHERE}:{PORT};rate-max=1200");
    let sender = PipedSender::start(&find("ip"), &Network::inside(&s, SEND, &send));
    let mut stream = Stream { sender, next: 0 };
    let up = |sender: &PipedSender| -> Vec<String> {
        let up = links(sender).into_iter().filter(|link| link["state"] == "up");
        up.map(|link| link["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let names = |sender: &PipedSender| -> Vec<String> {
        links(sender).iter().map(|link| link["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let sent = |sender: &PipedSender, name: &str| {
        links(sender)
            .iter()
            .find(|link| link["name"] == name)
            .and_then(|link| link["packets_sent"].as_u64())
            .unwrap_or(0)
    };
    stream.send_while(|sender| up(sender) != ["tx0", "tx1"]);
    assert_eq!(names(&stream.sender), ["tx0", "tx1"], "neither the cameras' network nor the bridge");

    // A modem is plugged in: it becomes a link, and carries.
    network.add_link(2, 1, WIDE_MTU);
    network.add_default_route(2);
    stream.send_while(|sender| up(sender) != ["tx0", "tx1", "tx2"] || sent(sender, "tx2") < 50);

    // One is pulled: its link goes, and comes again with its number.
    must("ip", &format!("-n {s} link del tx0"));
    stream.send_while(|sender| names(sender) != ["tx1", "tx2"]);
    let removed = events(&stream.sender).iter().any(|event| event == "link tx0: removed");
    assert!(removed, "{:?}", events(&stream.sender));
    network.add_link(0, 2, WIDE_MTU);
    network.add_default_route(0);
    stream.send_while(|sender| !up(sender).contains(&"tx0".to_owned()) || sent(sender, "tx0") < 50);
    let again = links(&stream.sender).into_iter().find(|link| link["name"] == "tx0").expect("a link");
    assert_eq!(again["link"], 0, "{again}");

    let last = stream.next - 1;
    assert_eq!(stream.sender.finish(), Some(0));
    assert_contiguous(&receiver.receive_to(last, Duration::from_secs(10)), 0, last);
}

/// `--links auto` where each modem has a routing table of its own and a rule leads there: what has one is a link, also when the
/// rule comes later, and follows a lease to its next address.
#[test]
fn links_are_found_by_rules_for_their_addresses() {
    let Some(network) = Network::new() else { return };
    let s = network.sending.clone();
    let rule = |link: usize, host: u8| {
        must("ip", &format!("-n {s} route replace default via 10.77.{link}.200 dev tx{link} table {}", 100 + link));
        must("ip", &format!("-n {s} rule add from 10.77.{link}.{host} lookup {}", 100 + link));
    };
    for link in [0, 1, 2] {
        network.add_link(link, 1, WIDE_MTU);
    }
    rule(0, 1);
    rule(1, 1);
    let receiver = receiver(&network);
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links auto --to {EVERYWHERE}:{PORT}");
    let sender = PipedSender::start(&find("ip"), &Network::inside(&s, SEND, &send));
    let mut stream = Stream { sender, next: 0 };
    let carry = |sender: &PipedSender| -> Vec<String> {
        let up = links(sender).into_iter().filter(|link| link["state"] == "up");
        // Of links that are all fast enough the fastest carry nearly everything.
        let carry = up.filter(|link| link["packets_sent"].as_u64() > Some(0));
        carry.map(|link| link["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    stream.send_while(|sender| carry(sender) != ["tx0", "tx1"]);
    assert_eq!(links(&stream.sender).len(), 2, "no rule leads from the third");
    rule(2, 1);
    stream.send_while(|sender| carry(sender) != ["tx0", "tx1", "tx2"]);

    // A new lease: another address, and another rule for it.
    must("ip", &format!("-n {s} rule del from 10.77.0.1"));
    must("ip", &format!("-n {s} addr del 10.77.0.1/24 dev tx0"));
    must("ip", &format!("-n {s} addr add 10.77.0.9/24 dev tx0"));
    rule(0, 9);
    stream.send_while(|sender| !events(sender).iter().any(|event| event == "link tx0: removed"));
    stream.send_while(|sender| carry(sender).len() < 3);

    let last = stream.next - 1;
    assert_eq!(stream.sender.finish(), Some(0));
    assert_contiguous(&receiver.receive_to(last, Duration::from_secs(10)), 0, last);
}

/// A path that takes 1200 bytes: every input is packed for it, and what goes in comes out.
#[test]
fn every_input_passes_a_narrow_path_with_every_byte() {
    const PAYLOADS: u32 = 1500;
    let Some(network) = Network::new() else { return };
    network.add_link(0, 1, TUNNEL_MTU);
    network.add_default_route(0);
    let directory = tempfile::tempdir().expect("a directory");
    let clocked: Vec<u8> = (0..PAYLOADS).flat_map(clocked_payload).collect();
    let plain: Vec<u8> = (0..PAYLOADS).flat_map(|number| payload(number, false).to_vec()).collect();
    let file = directory.path().join("in.ts");
    std::fs::write(&file, &clocked).expect("written");
    for (kind, input) in
        [("udp", "udp://@127.0.0.1:6000".to_owned()), ("pipe", "-".to_owned()), ("file", file.display().to_string())]
    {
        let output = directory.path().join(kind);
        let receive = format!("--listen 0.0.0.0:{PORT} --latency {LATENCY_MS} --output {}", output.display());
        let receive = Network::inside(&network.receiving, RECEIVE, &receive);
        let receiver = Tool::start_path(&find("ip"), &receive);
        let send = format!("--input {input} --latency {LATENCY_MS} --stats json --links {EVERYWHERE}:{PORT};dev=tx0");
        let mut sender = PipedSender::start(&find("ip"), &Network::inside(&network.sending, SEND, &send));
        if kind == "udp" {
            // The program listens when it reports.
            while links(&sender).is_empty() {
                std::thread::sleep(Duration::from_millis(50));
            }
            let mut datagrams = Network::inside(&network.sending, "bash", "-c");
            datagrams.push("exec dd bs=1316 iflag=fullblock status=none > /dev/udp/127.0.0.1/6000".to_owned());
            let mut source = PipedSender::start(&find("ip"), &datagrams);
            source.send(0..PAYLOADS, INTERVAL);
            assert_eq!(source.finish(), Some(0));
        } else if kind == "pipe" {
            sender.send(0..PAYLOADS, INTERVAL);
            assert_eq!(sender.finish(), Some(0));
        }
        let expected = if kind == "file" { &clocked } else { &plain };
        let written = || std::fs::read(&output).unwrap_or_default();
        let started = Instant::now();
        while written().len() < expected.len() && started.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let sizes = sizes(&sender);
        let report = (links(&sender), events(&sender));
        let packets = report.0[0]["packets_sent"].as_u64().unwrap_or_default();
        drop((sender, receiver));
        let written = written();
        println!("{kind}: {} of {} bytes in {packets} packets of {sizes:?}", written.len(), expected.len());
        let same = written.iter().zip(expected).take_while(|(a, b)| a == b).count();
        assert!(
            written == *expected,
            "{kind}: {} of {} bytes, {same} as they should be: {report:?}",
            written.len(),
            expected.len()
        );
        // Seven TS packets in payloads of six: packed anew, not cut in two.
        assert!(packets < u64::from(PAYLOADS) * 7 / 6 * 5 / 4, "{kind}: {packets} packets: {report:?}");
    }
}

/// A pipe that is full at all times and a file that plays faster than its link carries are held back: every byte arrives, and
/// not before the links could carry it.
#[test]
fn a_pipe_and_a_file_are_held_back_to_what_the_links_carry() {
    const PIPED: u32 = 3000;
    const FILED: u32 = 1000;
    let Some(network) = Network::new() else { return };
    for link in [0, 1] {
        network.add_link(link, 1, WIDE_MTU);
    }
    let links: Vec<String> = (0..2).map(|i| format!("10.77.{i}.200:{PORT};dev=tx{i}")).collect();
    let piped = receiver(&network);
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links {}", links.join(","));
    let mut sender = PipedSender::start(&find("ip"), &Network::inside(&network.sending, SEND, &send));
    let started = Instant::now();
    sender.send(0..PIPED, Duration::ZERO);
    assert_eq!(sender.finish(), Some(0));
    let took = started.elapsed();
    let received = piped.receive_to(PIPED - 1, Duration::from_secs(10));
    drop(piped);
    println!("pipe: {} of {PIPED} in {took:?}: {:?}", received.len(), events(&sender));
    assert_contiguous(&received, 0, PIPED - 1);
    assert!(took > seconds_at(PIPED, 2 * RATE_BPS), "{took:?}");
    // Neither could have carried it in that time.
    let shares: Vec<_> = crate::links(&sender).iter().map(|link| link["packets_sent"].as_u64()).collect();
    assert!(shares.iter().all(|packets| *packets > Some(u64::from(PIPED) / 4)), "{shares:?}");

    let directory = tempfile::tempdir().expect("a directory");
    let (file, output) = (directory.path().join("in.ts"), directory.path().join("out.ts"));
    let bytes: Vec<u8> = (0..FILED).flat_map(clocked_payload).collect();
    std::fs::write(&file, &bytes).expect("written");
    must(
        "tc",
        &format!("-n {} qdisc replace dev tx0 root tbf rate {SLOW_BPS} burst 16k latency 100ms", network.sending),
    );
    let receive = format!("--listen 0.0.0.0:{PORT} --latency {LATENCY_MS} --output {}", output.display());
    let _receiver = Tool::start_path(&find("ip"), &Network::inside(&network.receiving, RECEIVE, &receive));
    let send = format!("--input {} --latency {LATENCY_MS} --stats json --links {}", file.display(), links[0]);
    let mut sender = PipedSender::start(&find("ip"), &Network::inside(&network.sending, SEND, &send));
    let started = Instant::now();
    assert_eq!(sender.finish(), Some(0));
    let took = started.elapsed();
    let written = || std::fs::read(&output).unwrap_or_default();
    while written().len() < bytes.len() && started.elapsed() < took + Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("file: {} of {} in {took:?}: {:?}", written().len(), bytes.len(), events(&sender));
    assert!(written() == bytes, "{} of {} bytes: {:?}", written().len(), bytes.len(), events(&sender));
    assert!(took > seconds_at(FILED, SLOW_BPS), "{took:?}");
}

/// The local port of the link that is bound to an interface.
fn local_port(namespace: &str, interface: &str) -> u16 {
    let output = Command::new(find("ip")).args(["netns", "exec", namespace, "ss", "-Hunap"]).output().expect("ss");
    let text = String::from_utf8_lossy(&output.stdout);
    let of = format!("%{interface}:");
    let port = text.split_whitespace().find_map(|word| word.split_once(of.as_str())?.1.parse().ok());
    port.unwrap_or_else(|| panic!("no socket on {interface}: {text}"))
}

/// The packets that a table called `nat0` has translated since it was made, of each of its chains.
fn translated(namespace: &str) -> Vec<u32> {
    let command = ["netns", "exec", namespace, "nft", "list", "table", "ip", "nat0"];
    let output = Command::new(find("ip")).args(command).output().expect("nft");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// Goal: a NAT on the way that forgets a link, and gives it another port, costs nothing: the link goes on from where it is now, for
/// the receiver's answers too. Method: the ports of a link are translated on the wire, there and back; after each change of the
/// outer one the other link dies, so that all has to come over this one.
#[test]
fn a_link_goes_on_behind_another_port_of_its_nat() {
    let Some(network) = Network::new() else { return };
    for link in [0, 1] {
        network.add_link(link, 1, WIDE_MTU);
    }
    let (s, r) = (network.sending.clone(), network.receiving.clone());
    let receiver = receiver(&network);
    let to: Vec<String> = [0, 1].map(|i| format!("10.77.{i}.200:{PORT};dev=tx{i};name=veth-{i}")).into();
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links {}", to.join(","));
    let sender = PipedSender::start(&find("ip"), &Network::inside(&s, SEND, &send));
    while links(&sender).len() < 2 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let inner = local_port(&s, "tx0");
    let translate = |outer: u16| {
        let rules = [
            "add table ip nat0".to_owned(),
            "delete table ip nat0".to_owned(),
            "add table ip nat0".to_owned(),
            "add chain ip nat0 there { type filter hook postrouting priority 0 ; }".to_owned(),
            format!("add rule ip nat0 there oifname tx0 udp sport {inner} counter udp sport set {outer}"),
            "add chain ip nat0 back { type filter hook prerouting priority 0 ; }".to_owned(),
            format!(
                "add rule ip nat0 back iifname tx0 udp sport {PORT} udp dport {outer} counter udp dport set {inner}"
            ),
            // What comes to a port that it has given up goes nowhere.
            format!("add rule ip nat0 back iifname tx0 udp sport {PORT} udp dport != {inner} drop"),
        ];
        run("ip", &format!("netns exec {s} nft {}", rules.join(" ; ")))
    };
    if let Err(reason) = translate(20_001) {
        untested::tell("a NAT that gives a link another port, as the packet filter is to do", &reason);
        return;
    }
    let mut stream = Stream { sender, next: 0 };
    for outer in [20_001, 20_002, 20_003] {
        translate(outer).expect("a packet filter that works");
        stream.send_until(0, true);
        stream.send_until(1, true);
        // Two seconds.
        stream.send(500);
        must("ip", &format!("-n {r} link set rx1 down"));
        stream.send_until(1, false);
        stream.send(500);
        assert_eq!(links(&stream.sender)[0]["state"], "up", "{outer}: {:?}", events(&stream.sender));
        let translated = translated(&s);
        assert!(translated.len() == 2 && translated[0] > 500 && translated[1] > 10, "{outer}: {translated:?}");
        must("ip", &format!("-n {r} link set rx1 up"));
    }
    let last = stream.next - 1;
    assert_eq!(stream.sender.finish(), Some(0));
    let received = receiver.receive_to(last, Duration::from_secs(10));
    println!("{} payloads of {}: {:?}", received.len(), last + 1, events(&stream.sender));
    assert_contiguous(&received, 0, last);
}

/// Goal: where links die under a load that the others can only just carry, nothing is lost: what was on its way on the dead ones
/// is sent again over the others, beside what comes. Method: 9 Mbit/s of live media over four links of 6 Mbit/s, of which two at a
/// time die; the two left carry 12 Mbit/s, headers included.
#[test]
fn links_that_die_under_load_leave_their_part_to_the_others() {
    const EVERY: Duration = Duration::from_nanos(PAYLOAD_BYTES as u64 * 8 * 1_000_000_000 / 9_000_000);
    let Some(network) = Network::new() else { return };
    for link in 0..LINKS {
        network.add_link(link, 1, WIDE_MTU);
    }
    let receiver = receiver(&network);
    let to: Vec<String> = (0..LINKS).map(|i| format!("10.77.{i}.200:{PORT};dev=tx{i};name=veth-{i}")).collect();
    // A source that cannot wait: a pipe would be held back.
    let send = format!("--input udp://@127.0.0.1:6000 --latency {LATENCY_MS} --stats json --links {}", to.join(","));
    let sender = PipedSender::start(&find("ip"), &Network::inside(&network.sending, SEND, &send));
    let is_up = |link: usize| links(&sender).get(link).is_some_and(|link| link["state"] == "up");
    let started = Instant::now();
    while !(0..LINKS).all(is_up) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", events(&sender));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut datagrams = Network::inside(&network.sending, "bash", "-c");
    datagrams.push("exec dd bs=1316 iflag=fullblock status=none > /dev/udp/127.0.0.1/6000".to_owned());
    let mut source = PipedSender::start(&find("ip"), &datagrams);
    let mut next = 0;
    let mut send_while = |pending: &dyn Fn() -> bool, seconds: f64| {
        let until = Instant::now() + Duration::from_secs(20);
        let payloads = (seconds / EVERY.as_secs_f64()) as u32;
        let mut end = next + payloads;
        while next < end {
            assert!(Instant::now() < until, "{:?}", events(&sender));
            source.send(next..next + 50, EVERY);
            next += 50;
            if pending() {
                end = next + payloads;
            }
        }
    };
    let r = &network.receiving;
    let all_up = || !(0..LINKS).all(is_up);
    send_while(&all_up, 3.0);
    // Silently, in both directions: a modem whose network is gone. Where the packet filter cannot do it, only as below.
    let drop_of = |chain, hook, of| {
        let chain = format!("add chain ip dead {chain} {{ type filter hook {hook} priority 0 ; }}");
        let rules = [0, 1].map(|link| format!("add rule ip dead {of} rx{link} drop"));
        format!("{chain} ; {}", rules.join(" ; "))
    };
    let into = drop_of("in", "prerouting", "in iifname");
    let out = drop_of("out", "postrouting", "out oifname");
    let filter = format!("netns exec {r} nft");
    let silenced = run("ip", &format!("{filter} add table ip dead ; {into} ; {out}"));
    match &silenced {
        Ok(()) => send_while(&|| [0, 1].into_iter().any(is_up), 3.0),
        Err(reason) => untested::tell("links that die silently, as the packet filter is to make them", reason),
    }
    if silenced.is_ok() {
        must("ip", &format!("{filter} delete table ip dead"));
    }
    send_while(&all_up, 2.0);
    // And told by the interface.
    for link in [2, 3] {
        must("ip", &format!("-n {r} link set rx{link} down"));
    }
    send_while(&|| [2, 3].into_iter().any(is_up), 3.0);
    for link in [2, 3] {
        must("ip", &format!("-n {r} link set rx{link} up"));
    }
    send_while(&all_up, 2.0);
    let last = next - 1;
    assert_eq!(source.finish(), Some(0));
    let received = receiver.receive_to(last, Duration::from_secs(10));
    println!("{} payloads of {}: {:?}", received.len(), last + 1, events(&sender));
    assert_contiguous(&received, 0, last);
}

/// The least time that payloads take at a rate of the links.
fn seconds_at(payloads: u32, bps: u32) -> Duration {
    Duration::from_secs_f64(f64::from(payloads) * 8.0 * PAYLOAD_BYTES as f64 / f64::from(bps))
}
