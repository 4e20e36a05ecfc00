//! Programs that are told to end, and readers that are gone or stand still.

use super::{LATENCY_MS, RECEIVE, SEND, arguments};
use crate::support::media::{Output, PAYLOAD_BYTES, TS_BYTES, clocked_payload, payload};
use crate::support::piped::{PipedReceiver, PipedSender, assert_contiguous};
use crate::support::tool::Tool;
use free_ports::{free_pair, wait_until_bound};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

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

/// Goal: what had come out of a file is not lost by the end of the program, though it does not fill a payload. Method: payloads of
/// seven TS packets over a link that takes six, ended at three moments: five of six leave a rest.
#[test]
fn what_a_file_gave_outlives_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("media.ts");
    let bytes: Vec<u8> = (0..5000).flat_map(clocked_payload).collect();
    std::fs::write(&file, &bytes).expect("written");
    let ended_at = |payloads: usize| {
        let port = free_pair();
        let (output, to) = Output::udp();
        let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output udp://{to}");
        let receiver = Tool::start_path(Path::new(RECEIVE), &arguments(&receive));
        wait_until_bound(port);
        let send = format!("--input {} --latency {LATENCY_MS} --links 127.0.0.1:{port};mtu=1300", file.display());
        let mut sender = Command::new(SEND).args(arguments(&send)).spawn().expect("started");
        let mut received = Vec::new();
        let until = Instant::now() + Duration::from_secs(20);
        while received.len() < payloads && Instant::now() < until {
            output.receive(Duration::from_millis(20), &mut received);
        }
        terminate(&sender);
        // Once it has ended everything has arrived, and waits for its time.
        assert_eq!(status_within(&mut sender, Duration::from_secs(10)), Some(0));
        output.receive(Duration::from_millis(u64::from(2 * LATENCY_MS)), &mut received);
        let received = received.concat();
        assert!(received.len() >= payloads * 6 * TS_BYTES, "{} bytes\n{}", received.len(), receiver.log_tail());
        assert!(bytes.starts_with(&received), "{} bytes", received.len());
        assert_eq!(received.len() % PAYLOAD_BYTES, 0, "the end is missing");
    };
    let ended_at = &ended_at;
    std::thread::scope(|scope| {
        let all = [50, 75, 100].map(|payloads| scope.spawn(move || ended_at(payloads)));
        assert!(all.map(|one| one.join().is_ok()) == [true; 3]);
    });
}

/// A pipe that holds three payloads, set as `flags` say.
fn small_pipe(flags: OFlag) -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    fcntl(&writer, FcntlArg::F_SETFL(flags)).expect("a flag");
    (reader, writer)
}

/// Goal: standard output that somebody has set so that writing does not wait (a shell, whoever shares it) costs no byte while its
/// reader keeps up, and the end is in order. Method: more comes at once than a small pipe holds.
#[test]
fn media_is_written_whole_where_writing_does_not_wait() {
    const LAST: u32 = 1999;
    let port = free_pair();
    let (reader, writer) = small_pipe(OFlag::O_NONBLOCK);
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --output -");
    let child = Command::new(RECEIVE).args(arguments(&receive)).stdout(writer).spawn().expect("started");
    let mut receiver = PipedReceiver::reading(child, reader);
    wait_until_bound(port);
    let send = format!("--input - --latency {LATENCY_MS} --links 127.0.0.1:{port}");
    let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
    sender.send(0..LAST + 1, Duration::from_micros(500));
    assert_contiguous(&receiver.receive_to(LAST, Duration::from_secs(10)), 0, LAST);
    assert_eq!(sender.finish(), Some(0));
    terminate(receiver.child());
    assert_eq!(status_within(receiver.child(), Duration::from_secs(10)), Some(0));
}

/// Goal: a reader of the media that stands still keeps neither the reports nor the end of the program waiting. Method: a pipe and a
/// FIFO that are full.
#[test]
fn who_reads_no_media_holds_up_neither_reports_nor_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("media");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for (output, to_fifo) in [("-", false), (fifo.to_str().expect("text"), true)] {
        let port = free_pair();
        let receive = format!("--listen 127.0.0.1:{port} --latency 100 --stats text --output {output}");
        let mut command = Command::new(RECEIVE);
        command.args(arguments(&receive));
        let (reader, writer) = small_pipe(OFlag::empty());
        // What it reports on: standard error where the media takes standard output.
        let (reports, told) = pipe().expect("a pipe");
        if to_fifo {
            command.stdout(told);
        } else {
            command.stdout(writer.try_clone().expect("a descriptor")).stderr(told);
        }
        let mut receiver = command.spawn().expect("started");
        drop(command);
        // Opening it both ways waits for nobody.
        let (_reader, media): (OwnedFd, OwnedFd) = if to_fifo {
            let both = std::fs::File::options().read(true).write(true).open(&fifo).expect("a FIFO");
            (both.try_clone().expect("a descriptor").into(), both.into())
        } else {
            (reader.into(), writer.into())
        };
        wait_until_bound(port);
        let send = format!("--input - --latency 100 --links 127.0.0.1:{port}");
        let mut sender = PipedSender::start(Path::new(SEND), &arguments(&send));
        sender.send(0..200, Duration::from_millis(1));
        wait_until_full(&media);
        let lines = lines_of(reports);
        // Of the first it may have told before.
        for _ in 0..3 {
            assert!(lines.recv_timeout(Duration::from_secs(10)).is_ok(), "{output}: no more reports");
        }
        terminate(&receiver);
        assert_eq!(status_within(&mut receiver, Duration::from_secs(5)), Some(0), "{output}");
    }
}

/// The reports that come from now on.
fn lines_of(reports: PipeReader) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let reports = BufReader::new(reports).lines().map_while(Result::ok);
        reports.filter(|line| line.starts_with("rate ")).try_for_each(|line| sender.send(line))
    });
    lines
}

/// Waits until a pipe takes no more.
fn wait_until_full(pipe: &impl AsFd) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO).expect("a pipe") == 0 {
            return;
        }
        assert!(Instant::now() < until, "it is never full");
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// `timeout` signals the program and then its group: that is one wish to end, and not an impatient second one.
#[test]
fn two_signals_at_once_are_one_and_a_later_one_ends_the_program() {
    const LATER: Duration = Duration::from_millis(500);
    let mut sender = Command::new(SEND)
        .args(arguments(&format!("--input - --latency 6000 --links 127.0.0.1:{}", free_pair())))
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = sender.stdin.take().expect("piped");
    input.write_all(&payload(5, false)).expect("a reading sender");
    std::thread::sleep(LATER);
    terminate(&sender);
    terminate(&sender);
    std::thread::sleep(LATER);
    assert!(sender.try_wait().expect("a child").is_none(), "it waits for a link, one latency long");
    terminate(&sender);
    assert_eq!(status_within(&mut sender, Duration::from_secs(5)), Some(128 + 15));
}

/// A device that is not there, or a port to listen on that somebody has, keeps a link down for as long as it lasts.
#[test]
fn why_a_link_is_not_opened_is_told_once() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let busy = taken.local_addr().expect("bound");
    let links = format!("127.0.0.1:9;dev=not-there;name=A,@{busy};name=B");
    let mut sender = Command::new(SEND)
        .args(arguments(&format!("--input - --links {links}")))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("RUST_LOG")
        .spawn()
        .expect("started");
    // Time for four attempts.
    std::thread::sleep(Duration::from_secs(1));
    drop(sender.stdin.take());
    let log = std::io::read_to_string(sender.stderr.take().expect("piped")).expect("text");
    assert_eq!(status_within(&mut sender, Duration::from_secs(10)), Some(0));
    let told = |name: &str, error| log.lines().filter(|line| line.contains(name) && line.contains(error)).count();
    assert_eq!((told("name=\"A\"", "No such device"), told("name=\"B\"", "in use")), (1, 1), "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}
