//! The ways media takes through the two programs: UDP, pipes, files, several flows.

use super::{LATENCY_MS, RECEIVE, SEND, arguments};
use crate::support::media::{Input, Output, Stream, TS_BYTES, clocked_payload, payload};
use crate::support::piped::{PipedReceiver, PipedSender, assert_contiguous};
use crate::support::tool::Tool;
use free_ports::{free_pair, loopback, wait_until_bound};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const RECEIVE_SHORT: &str = env!("CARGO_BIN_EXE_bond-recv");

/// The command lines of the system benchmark.
#[test]
fn udp_in_becomes_udp_out_over_two_links() {
    let (from, port) = (loopback(free_pair()), free_pair());
    let (output, to) = Output::udp();
    let _receiver = Tool::start_path(
        Path::new(RECEIVE_SHORT),
        &arguments(&format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --out udp://{to}")),
    );
    let links = format!("127.0.0.1:{port},127.0.0.1:{port}");
    let sender = format!("--in udp://{from} --latency {LATENCY_MS} --links {links}");
    let _sender = Tool::start_path(Path::new(SEND), &arguments(&sender));
    Stream::default().run(&Input::udp(from), &output, || {}).expect("every byte");
}

/// The receiver calls the sender, on a port for each link.
#[test]
fn the_sender_listens_and_the_receiver_calls() {
    let (from, first, second) = (loopback(free_pair()), free_pair(), free_pair());
    let (output, to) = Output::udp();
    let send =
        format!("--input udp://{from} --latency {LATENCY_MS} --links @:{first};name=A,@127.0.0.1:{second};name=B");
    let _sender = Tool::start_path(Path::new(SEND), &arguments(&send));
    let receive = format!("--connect 127.0.0.1:{first},127.0.0.1:{second} --latency {LATENCY_MS} --output udp://{to}");
    let _receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
    Stream::default().run(&Input::udp(from), &output, || {}).expect("every byte");
    let simple = Command::new(SEND).args(arguments("--input - --profile simple --links @:5000")).output().expect("ran");
    let complaint = String::from_utf8_lossy(&simple.stderr);
    assert_eq!((simple.status.code(), complaint.contains("in Simple Profile the receiver does")), (Some(1), true));
}

/// Two flows of one SSRC come to one port, one of them as whole IP datagrams: their virtual ports tell them apart, and each comes
/// out where it belongs.
#[test]
fn two_flows_share_a_port() {
    const PAYLOADS: u32 = 600;
    let port = free_pair();
    let outputs = [Output::udp(), Output::udp()];
    let receive = format!(
        "--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output 2000=udp://{} --output 2002=udp://{}",
        outputs[0].1, outputs[1].1
    );
    let receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
    wait_until_bound(port);
    let flow = |index: u32, output: &Output| {
        let first = index * 100_000;
        let virtual_port = 2000 + 2 * index;
        let links = format!("127.0.0.1:{port},127.0.0.1:{port}");
        let wrap = if index == 1 { "--full-datagram" } else { "" };
        let send = format!(
            "--in - --latency {LATENCY_MS} --flow-id 4660 --virtual-port {virtual_port} --links {links} {wrap}"
        );
        let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
        sender.send(first..first + PAYLOADS, Duration::from_millis(3));
        assert_eq!(sender.finish(), Some(0));
        let mut received = Vec::new();
        output.receive(Duration::from_secs(4), &mut received);
        let joined = (first..first + 300).find(|number| received.first() == Some(&payload(*number, false)));
        let joined = joined.unwrap_or_else(|| panic!("{} payloads\n{}", received.len(), receiver.log_tail()));
        let expected: Vec<_> = (joined..first + PAYLOADS).map(|number| payload(number, false)).collect();
        assert!(received == expected, "{} of {} came out of {virtual_port}", received.len(), expected.len());
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| flow(0, &outputs[0].0));
        let second = scope.spawn(|| flow(1, &outputs[1].0));
        assert!(first.join().is_ok() && second.join().is_ok());
    });
}

/// What went in before the end of the input comes out although the sender ends by itself; the key is in a file and in no
/// report.
#[test]
fn a_pipe_is_delivered_to_its_last_byte_with_encryption_and_reports() {
    const LAST: u32 = 799;
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    key.write_all(b"never to be seen\n").expect("written");
    let (key, port) = (key.path().display().to_string(), free_pair());
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --psk-file {key} --output -");
    let receiver = PipedReceiver::start(Path::new(RECEIVE), &arguments(&receive));
    wait_until_bound(port);
    let send =
        format!("--input - --latency {LATENCY_MS} --psk-file {key} --stats json --links 127.0.0.1:{port};name=only");
    let started = Instant::now();
    let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
    sender.send(0..LAST + 1, Duration::from_millis(3));
    assert_eq!(sender.finish(), Some(0));
    let seconds = started.elapsed().as_secs() as usize;
    let received = receiver.receive_to(LAST, Duration::from_secs(10));
    assert_contiguous(&received, 0, LAST);
    let reports = sender.reports.lock().expect("no panic inside the lock").clone();
    assert!(reports.iter().all(|line| !line.contains("never to be seen")));
    let objects: Vec<serde_json::Value> =
        reports.iter().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let stats: Vec<&serde_json::Value> = objects.iter().filter_map(|object| object.get("stats")).collect();
    assert!(stats.len() >= 2 && stats.len().abs_diff(seconds) <= 2, "one report a second in {seconds}: {reports:?}");
    assert_eq!(stats[1]["links"][0]["name"], "only");
    assert!(stats.last().is_some_and(|stats| stats["packets_in"].as_u64() > Some(300)), "{stats:?}");
    for counter in ["retransmits", "copies", "useless_copies", "fec_packets", "fec_recovered"] {
        assert!(stats[0][counter].is_u64(), "{counter}: {}", stats[0]);
    }
    assert!(stats[0]["redundancy"].is_f64(), "{}", stats[0]);
}

/// 500 payloads with a PCR of 4 ms steps take 2 s to send, after the receiver has come; the file that comes out is the file that
/// went in.
#[test]
fn a_file_waits_for_the_receiver_is_paced_by_its_clock_and_written_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let (input, output) = (directory.path().join("in.ts"), directory.path().join("out.ts"));
    let bytes: Vec<u8> = (0..500).flat_map(clocked_payload).collect();
    std::fs::write(&input, &bytes).expect("written");
    let port = free_pair();
    let send = format!("--input {} --latency {LATENCY_MS} --links 127.0.0.1:{port}", input.display());
    let mut sender = Command::new(SEND).args(arguments(&send)).spawn().expect("started");
    // Longer than the latency: what it had sent by now would be too old.
    std::thread::sleep(Duration::from_millis(u64::from(LATENCY_MS) + 500));
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output {}", output.display());
    let started = Instant::now();
    let receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
    assert!(sender.wait().expect("a child").success());
    assert!(started.elapsed() >= Duration::from_millis(499 * 4), "sent faster than its clock: {:?}", started.elapsed());
    let written = || std::fs::read(&output).unwrap_or_default();
    for _ in 0..100 {
        if written().len() >= bytes.len() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let written = written();
    assert!(written == bytes, "{} of {} bytes came out\n{}", written.len(), bytes.len(), receiver.log_tail());
}

/// A source of very low rate: three TS packets, and nothing more while the pipe stays open. They come out, as one payload, although
/// they do not fill one.
#[test]
fn what_does_not_fill_a_payload_leaves_a_quiet_pipe() {
    let port = free_pair();
    let (output, to) = Output::udp();
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output udp://{to}");
    let receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
    wait_until_bound(port);
    let send = format!("--input - --latency {LATENCY_MS} --links 127.0.0.1:{port}");
    let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
    let packets = payload(5, false).slice(..3 * TS_BYTES);
    sender.write(&packets);
    let Output::Udp(socket) = &output else { unreachable!("made above") };
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}\n{}", receiver.log_tail()));
    assert!(buffer[..length] == packets, "{length} bytes");
}

/// A pipe that gives as fast as it is read: that payloads leave before they are full is for sources of low rate.
#[test]
fn a_fast_pipe_fills_its_payloads() {
    const LAST: u32 = 999;
    let port = free_pair();
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output -");
    let receiver = PipedReceiver::start(Path::new(RECEIVE), &arguments(&receive));
    wait_until_bound(port);
    let send = format!("--input - --latency {LATENCY_MS} --stats json --links 127.0.0.1:{port}");
    let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
    let stream: Vec<u8> = (0..=LAST).flat_map(|number| payload(number, false)).collect();
    // Pieces that neither packets nor payloads fit.
    stream.chunks(1000).for_each(|piece| sender.write(piece));
    std::thread::sleep(Duration::from_millis(2500)); // two reports
    let reports = sender.reports.lock().expect("no panic inside the lock").clone();
    assert_eq!(sender.finish(), Some(0));
    assert_contiguous(&receiver.receive_to(LAST, Duration::from_secs(10)), 0, LAST);
    let stats = reports.iter().rev().find(|line| line.contains("\"stats\"")).expect("a report");
    let stats: serde_json::Value = serde_json::from_str(stats).expect("JSON");
    let packets_in = stats["stats"]["packets_in"].as_u64().expect("a number");
    let most = u64::from(LAST) + 1 + 20;
    assert!(packets_in > 900 && packets_in <= most, "{packets_in} payloads of {}", LAST + 1);
}
