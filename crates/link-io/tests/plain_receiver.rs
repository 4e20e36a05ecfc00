//! Our sender towards librist's `ristreceiver` over links that limit it: four of 1 Mbit/s with queues of a second carry 70 %,
//! and one is cut without warning. What hung on it and what follows goes over the other three, and not a byte is missing.
//!
//! How much of links that fade our sender uses is measured, not tested: `cargo bench -p link-io --bench plain`.

mod support;

use bond::config::{Profile, SenderConfig};
use free_ports::{free_pair, loopback};
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use link_sim::{Capacity, LinkConfig, PathConfig};
use std::time::Duration;
use support::cases::run_all;
use support::media::{Input, Output, Stream};
use support::proxy::Proxy;
use support::tool::Tool;
use units::LinkId;

const LATENCY: Duration = Duration::from_secs(1);
const KBPS: u64 = 1000;
const QUEUE_BYTES: u64 = 125_000;
/// One way, of each link.
const DELAYS_MS: [f64; 4] = [10.0, 20.0, 35.0, 50.0];
/// 2.63 Mbit/s, 2.76 with headers, and requests for echoes.
const STREAM: Stream = Stream {
    payloads: 1500,
    settle: None,
    interval: Duration::from_millis(4),
    nulls: false,
    patience: Duration::from_secs(8),
    unit: support::media::Unit::Payload,
};

fn run(cut: usize) -> Result<(), String> {
    let paths = DELAYS_MS.map(|delay_ms| {
        let capacity = Capacity::Constant { kbps: KBPS };
        let up = LinkConfig { capacity, delay_ms, queue_bytes: QUEUE_BYTES, ..LinkConfig::default() };
        PathConfig { up, down: LinkConfig { delay_ms, ..LinkConfig::default() }, ..PathConfig::default() }
    });
    let target = loopback(free_pair());
    let proxy = Proxy::start_each(Profile::Main, paths.iter().map(|path| (target, path)), cut as u64);
    let (output, to) = Output::udp();
    // It takes longer to see that a link is gone than its buffer lasts.
    let input = format!("rist://@{target}?cname=theirs&buffer={}&session-timeout=2000", LATENCY.as_millis());
    let arguments = ["-p", "1", "-i", &input, "-o", &format!("udp://{to}")].map(str::to_owned);
    let receiver = Tool::start("ristreceiver", &arguments);
    let links = proxy.fronts.iter().enumerate().map(|(i, front)| LinkSpec::new(LinkId(i as u16), *front)).collect();
    let bond = SenderConfig { latency: LATENCY, ..SenderConfig::default() };
    let sender = FlowSender::open(SenderOptions { bond, links }).expect("our sender");
    let input = Input::Flow(sender);
    let result = STREAM.run(&input, &output, || proxy.cut(cut));
    let Input::Flow(sender) = input else { unreachable!("made above") };
    let snapshot = sender.snapshot();
    println!("cut {cut}: {:.1} % sent again, {} given up", snapshot.redundancy * 100.0, snapshot.dropped_packets);
    result.map_err(|failure| format!("{}\n{}\n{snapshot:#?}\n{:#?}", failure.why, receiver.log_tail(), sender.events()))
}

/// Goal: zero lost packets, whichever of four links is cut.
#[test]
fn a_cut_link_at_70_percent_load_costs_ristreceiver_nothing() {
    run_all(&[0, 1, 2, 3], 4, |cut| format!("link {cut} is cut"), |cut| run(*cut));
}
