//! `bond-send` and `bond-receive` as an engineer starts them.

mod support;

use free_ports::{free_pair, loopback, wait_until_bound};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::media::{Input, Output, Stream, TS_BYTES, clocked_payload, payload};
use support::piped::{PipedReceiver, PipedSender, assert_contiguous};
use support::tool::Tool;

const SEND: &str = env!("CARGO_BIN_EXE_bond-send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_bond-receive");
const RECEIVE_SHORT: &str = env!("CARGO_BIN_EXE_bond-recv");
/// Where every byte counts: a second that a busy machine takes away must not be missed.
const LATENCY_MS: u32 = 1400;

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

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
    let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
    sender.send(0..LAST + 1, Duration::from_millis(3));
    assert_eq!(sender.finish(), Some(0));
    let received = receiver.receive_to(LAST, Duration::from_secs(10));
    assert_contiguous(&received, 0, LAST);
    let reports = sender.reports.lock().expect("no panic inside the lock").clone();
    assert!(reports.iter().all(|line| !line.contains("never to be seen")));
    let objects: Vec<serde_json::Value> =
        reports.iter().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let stats: Vec<&serde_json::Value> = objects.iter().filter_map(|object| object.get("stats")).collect();
    assert!(stats.len() >= 2, "one report a second: {reports:?}");
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
    let started = std::time::Instant::now();
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

/// Told to end while it is held back, it ends.
#[test]
fn a_sender_whose_receiver_never_comes_ends_in_order() {
    let mut sender = Command::new(SEND)
        .args(arguments(&format!("--input - --latency 100 --links 127.0.0.1:{}", free_pair())))
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = sender.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || input.write_all(&payload(0, false).repeat(1000)));
    std::thread::sleep(Duration::from_millis(500));
    assert!(sender.try_wait().expect("a child").is_none(), "it waits");
    let interrupted = Command::new("kill").args(["-INT", &sender.id().to_string()]).status().expect("kill");
    assert!(interrupted.success());
    assert!(sender.wait().expect("a child").success());
    assert!(writer.join().expect("no panic").is_err(), "more than a pipe holds was taken");
}

#[test]
fn mistakes_are_named_and_end_the_program_with_a_failure() {
    let refused = |program: &str, text: &str| {
        let output = Command::new(program).args(arguments(text)).output().expect("started");
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let send = |text: &str| refused(SEND, text);
    assert!(send("--in udp://127.0.0.1:6000 --links 127.0.0.1").contains("the port is missing"));
    assert!(send("--in udp://127.0.0.1:0 --links 127.0.0.1:1 --latency 5").contains("the latency must be between"));
    assert!(send("--in - --links 127.0.0.1:1 --psk-file /nowhere").contains("cannot read the secret file /nowhere"));
    assert!(send("--in /nowhere.ts --links 127.0.0.1:1").contains("cannot open /nowhere.ts"));
    assert!(send("--links 127.0.0.1:1").contains("--input"));
    assert!(send("--in - --links ,").contains("--links: link 1: the destination is wrong: `` is not HOST:PORT"));
    assert!(send("--in - --links=").contains("give at least one link"));
    assert!(
        send("--in - --links 127.0.0.1:1;colour=red").contains("`colour=red` is not key=value with a key of id, name")
    );
    assert!(send("--in rtp://h:1 --links 127.0.0.1:1").contains("`rtp://` is not supported"));
    assert!(send("--in - --links 127.0.0.1:1 --bind-list /nowhere").contains("--bind-list: cannot read"));
    assert!(send("--in - --links 127.0.0.1:1 --stats xml").contains("`xml` is none of none, text, json"));
    assert!(send("--in - --links 127.0.0.1:1 --srp-file /nowhere").contains("--srp-file: cannot read the secret file"));
    assert!(send("--in /dev/zero --links 127.0.0.1:1").contains("no MPEG-TS packet at byte 0"));
    assert!(send("--in - --links auto").contains("--to: --links auto needs the destination"));
    assert!(send("--in - --links auto --to 127.0.0.1:1;dev=lo").contains("`dev=lo` is of one link"));
    assert!(send("--in - --links auto --to 127.0.0.1:1 --bind-list x").contains("--bind-list: not with --links auto"));
    assert!(send("--in - --links 127.0.0.1:1 --to 127.0.0.1:1").contains("belong to --links auto"));
    let receive = |text: &str| refused(RECEIVE, text);
    assert!(receive("--out -").contains("--listen"));
    assert!(receive("--listen 127.0.0.1:1 --out a --out 2000=b").contains("each needs the virtual port of its flow"));
    assert!(receive("--listen 127.0.0.1:1 --out 2000=a --out 2000=b").contains("virtual port 2000 is named twice"));
    assert!(receive("--listen 127.0.0.1:1 --out 2000=- --out 2002=-").contains("only one flow can go to standard"));
    assert!(receive("--listen 127.0.0.1:0 --out 2001=/tmp/never").contains("the virtual port must be even"));
    assert!(receive("--listen 127.0.0.1:1 --out rtmp://h").contains("`rtmp://` is not supported"));
    assert!(
        receive("--listen nonsense --out -").contains("--listen: `nonsense` is not HOST:PORT: the port is missing")
    );
    assert!(receive("--listen 127.0.0.1:0 --out /no/such/folder/x").contains("cannot open /no/such/folder/x"));
    assert!(receive("--listen 192.0.2.1:5000 --out -").contains("cannot listen on 192.0.2.1:5000"));
    assert!(receive("--listen 127.0.0.1:5001 --profile simple --out -").contains("even port"));
}

#[test]
fn what_is_no_transport_stream_on_standard_input_is_refused() {
    let mut sender = Command::new(SEND)
        .args(arguments("--input - --links 127.0.0.1:9"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // The program ends while it is still being written to.
    let _ = sender.stdin.take().expect("piped").write_all(&vec![b'x'; 200_000]);
    let output = sender.wait_with_output().expect("it ends by itself");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("standard input is no MPEG transport stream"), "{text}");
}

/// The help names every option of the issue, says how links are written, and gives an example that is understood.
#[test]
fn the_help_is_complete_and_its_example_is_understood() {
    let help = |program: &str| {
        let output = Command::new(program).arg("--help").output().expect("started");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let (send, receive) = (help(SEND), help(RECEIVE));
    for option in
        ["--input", "--links", "--latency", "--psk-file", "--stats", "--profile", "rate-max", "budget-mb", "--to"]
    {
        assert!(send.contains(option), "{option} is missing in:\n{send}");
    }
    for option in ["--listen", "--connect", "--output", "--latency", "--psk-file", "--stats", "--srp-file"] {
        assert!(receive.contains(option), "{option} is missing in:\n{receive}");
    }
    let key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key.path(), "words\n").expect("written");
    let example = |help: &str| {
        let lines = help.lines().skip_while(|line| !line.starts_with("Example:")).skip(1);
        let lines = lines.take_while(|line| !line.is_empty()).map(|line| line.trim_end_matches('\\'));
        let text = lines.collect::<String>().replace('\'', "").replace("relay.example", "127.0.0.1");
        let text = text.replace(":5000", &format!(":{}", free_pair())).replace(":6000", &format!(":{}", free_pair()));
        arguments(&text.replace(" key ", &format!(" {} ", key.path().display())))
    };
    // Started as they stand, both run until they are told to end.
    for (program, example) in [(RECEIVE, example(&receive)), (SEND, example(&send))] {
        let mut child = Command::new(program).args(&example[1..]).stdout(Stdio::null()).spawn().expect("started");
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().expect("a child").is_none(), "{example:?} ended");
        child.kill().expect("running");
        child.wait().expect("ended");
    }
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

/// Goal: media goes on when nobody reads the reports: their reader has gone, or it sleeps (a terminal that is held). Method: a pipe
/// that holds less than a few reports, and media for longer than these take.
#[test]
fn media_waits_for_no_reader_of_the_reports() {
    const LAST: u32 = 1999;
    for gone in [false, true] {
        let port = free_pair();
        let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output - --stats json");
        let receiver = PipedReceiver::start(Path::new(RECEIVE), &arguments(&receive));
        wait_until_bound(port);
        let send = format!("--input - --latency {LATENCY_MS} --stats json --links 127.0.0.1:{port}");
        let mut sender = Command::new(SEND)
            .args(arguments(&send))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut input = sender.stdin.take().expect("piped");
        let mut reports = sender.stdout.take().filter(|_| !gone);
        if let Some(reports) = &reports {
            nix::fcntl::fcntl(reports, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
        }
        for number in 0..=LAST {
            input.write_all(&payload(number, false)).expect("a reading sender");
            std::thread::sleep(Duration::from_millis(3));
        }
        drop(input);
        let received = receiver.receive_to(LAST, Duration::from_secs(10));
        assert_contiguous(&received, 0, LAST);
        assert_eq!(sender.wait().expect("a child").code(), Some(0), "the reader has gone: {gone}");
        let mut held = Vec::new();
        if let Some(reports) = &mut reports {
            assert!(reports.read_to_end(&mut held).expect("read") >= 2048);
        }
    }
}

/// Goal: an error ends the program with its status also when nobody reads what it says. Method: standard error is a pipe whose
/// reader has gone, and one that is full.
#[test]
fn an_error_that_nobody_reads_ends_the_program() {
    for gone in [false, true] {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let reader = Some(reader).filter(|_| !gone);
        if !gone {
            let size = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
            writer.write_all(&vec![b'x'; size as usize]).expect("room");
        }
        let mut sender = Command::new(SEND)
            .args(arguments("--input - --profile simple --links @:5000"))
            .stderr(writer)
            .spawn()
            .expect("started");
        assert_eq!(status_within(&mut sender, Duration::from_secs(10)), Some(1), "the reader has gone: {gone}");
        drop(reader);
    }
}

/// A key file that nobody writes: the program has nothing to end in order yet, and waits for it no longer than it may.
#[test]
fn a_program_that_has_not_begun_ends_at_the_first_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    nix::unistd::mkfifo(&key, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for (program, ways) in [(SEND, "--input - --links 127.0.0.1:9"), (RECEIVE, "--listen 127.0.0.1:0 --output -")] {
        let mut child =
            Command::new(program).args(arguments(ways)).arg("--psk-file").arg(&key).spawn().expect("started");
        // It opens for writing once somebody reads.
        let mut options = std::fs::File::options();
        options.write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
        let until = Instant::now() + Duration::from_secs(10);
        let _writer = loop {
            match options.open(&key) {
                Ok(file) => break file,
                Err(error) => assert!(Instant::now() < until, "{program} does not read its key: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        terminate(&child);
        assert_eq!(status_within(&mut child, Duration::from_secs(10)), Some(128 + 15), "{program}");
    }
}

/// Goal: what a pipe has given is not lost by the end of the program, though it waits for a link then. Method: the receiver comes
/// when the sender has been asked to end.
#[test]
fn what_a_pipe_gave_outlives_the_program() {
    const LONG_LATENCY_MS: u32 = 6000;
    let port = free_pair();
    let mut sender = Command::new(SEND)
        .args(arguments(&format!("--input - --latency {LONG_LATENCY_MS} --links 127.0.0.1:{port}")))
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let packets = payload(5, false).slice(..3 * TS_BYTES);
    let mut input = sender.stdin.take().expect("piped");
    input.write_all(&packets).expect("a reading sender");
    std::thread::sleep(Duration::from_millis(500));
    terminate(&sender);
    let (output, to) = Output::udp();
    let receive = format!("--listen 127.0.0.1:{port} --latency {LONG_LATENCY_MS} --output udp://{to}");
    let receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
    let Output::Udp(socket) = &output else { unreachable!("made above") };
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}\n{}", receiver.log_tail()));
    assert!(buffer[..length] == packets, "{length} bytes");
    assert_eq!(status_within(&mut sender, Duration::from_secs(10)), Some(0));
}

fn terminate(child: &Child) {
    let id = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("running");
}

/// The exit status of a program that ends in time.
#[track_caller]
fn status_within(child: &mut Child, patience: Duration) -> Option<i32> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("running");
    child.wait().expect("ended");
    panic!("it does not end");
}
