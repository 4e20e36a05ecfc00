//! Processor time of `bond-send` and `bond-receive` beside librist's `ristsender` and `ristreceiver`: the same stream over
//! four loopback links with AES-256, both pairs in one run.
//!
//! `cargo bench -p link-io --bench cpu` prints a table; nothing is asserted.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LINKS: u16 = 4;
const PAYLOAD_BYTES: usize = 1316;
const BITS_PER_SECOND: u64 = 20_000_000;
/// Datagrams that the source sends at once, as a muxer does.
const BURST: u32 = 4;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
const LATENCY_MS: u32 = 500;
const PASSPHRASE: &str = "benchmark passphrase";

/// A program that is measured.
struct Measured {
    name: &'static str,
    child: Child,
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Measured {
    fn start(name: &'static str, path: &Path, arguments: &[String]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { name, child: command.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    /// Processor time so far: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running program");
        let after_name = stat.rsplit(')').next().expect("a name in brackets");
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }
}

fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: apt-get install rist-tools"))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("bound").port() & !1
}

fn ours(from: SocketAddr, to: SocketAddr, key: &Path) -> [Measured; 2] {
    let port = free_port();
    let key = key.display();
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --psk-file {key} --output udp://{to}");
    let links = vec![format!("127.0.0.1:{port}"); usize::from(LINKS)].join(",");
    let send = format!("--input udp://{from} --latency {LATENCY_MS} --psk-file {key} --links {links}");
    [
        Measured::start("bond-receive", Path::new(env!("CARGO_BIN_EXE_bond-receive")), &words(&receive)),
        Measured::start("bond-send", Path::new(env!("CARGO_BIN_EXE_bond-send")), &words(&send)),
    ]
}

fn librist(from: SocketAddr, to: SocketAddr) -> [Measured; 2] {
    let port = free_port();
    let options = format!("buffer={LATENCY_MS}&session-timeout=5000&secret={PASSPHRASE}&aes-type=256");
    let receive =
        ["-i", &format!("rist://@127.0.0.1:{port}?{options}"), "-o", &format!("udp://{to}")].map(str::to_owned);
    let peer = format!("rist://127.0.0.1:{port}?weight=5&{options}");
    let peers = vec![peer; usize::from(LINKS)].join(",");
    let send = ["-i", &format!("udp://@{from}"), "-o", &peers].map(str::to_owned);
    [
        Measured::start("ristreceiver", &find("ristreceiver"), &receive),
        Measured::start("ristsender", &find("ristsender"), &send),
    ]
}

/// Sends the stream for `time`, taking what comes out; how many datagrams went in and came out.
fn stream(input: &UdpSocket, to: SocketAddr, output: &UdpSocket, time: Duration) -> (u64, u64) {
    let payload = [0x47; PAYLOAD_BYTES];
    let interval = Duration::from_secs_f64(f64::from(BURST) * PAYLOAD_BYTES as f64 * 8.0 / BITS_PER_SECOND as f64);
    let mut buffer = [0; 2048];
    let (mut sent, mut received) = (0, 0);
    let started = Instant::now();
    let mut due = started;
    while started.elapsed() < time {
        for _ in 0..BURST {
            // Nobody listens while the program is still starting.
            let _ = input.send_to(&payload, to);
            sent += 1;
        }
        while output.recv(&mut buffer).is_ok() {
            received += 1;
        }
        due += interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (sent, received)
}

fn measure(name: &str, start: impl FnOnce(SocketAddr, SocketAddr) -> [Measured; 2]) -> Vec<(&'static str, f64)> {
    let input = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let output = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    output.set_nonblocking(true).expect("non-blocking");
    let from = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let programs = start(from, output.local_addr().expect("bound"));
    stream(&input, from, &output, WARM_UP);
    let before: Vec<Duration> = programs.iter().map(Measured::processor_time).collect();
    let (sent, received) = stream(&input, from, &output, MEASURED);
    let shares = programs.iter().zip(before).map(|(program, before)| {
        let share = program.processor_time().saturating_sub(before).as_secs_f64() / MEASURED.as_secs_f64();
        println!("{:<14} {:>6.2} % of a core", program.name, share * 100.0);
        (program.name, share)
    });
    let shares = shares.collect();
    println!("{name}: {sent} datagrams in, {received} out in {MEASURED:?}");
    shares
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench`");
        return;
    }
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    writeln!(key, "{PASSPHRASE}").expect("written");
    println!("{} Mbit/s over {LINKS} links on loopback, AES-256", BITS_PER_SECOND / 1_000_000);
    let theirs = measure("librist", librist);
    let ours = measure("ours", |from, to| self::ours(from, to, key.path()));
    for ((name, share), (their_name, their_share)) in ours.iter().zip(theirs) {
        println!("{name} / {their_name} = {:.2}", share / their_share);
    }
}
