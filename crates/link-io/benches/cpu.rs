//! Processor time of `bond-send` and `bond-receive` beside librist's `ristsender` and `ristreceiver`: the same stream over
//! four loopback links with AES-256, both pairs at the same time, so that a busy machine is busy for both.
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
const RATES_MBPS: [u32; 2] = [20, 5];
/// Datagrams that the source sends at once, as a muxer does.
const BURST: u32 = 4;
const WARM_UP: Duration = Duration::from_secs(3);
/// The middle round of so many is reported, with the least and the most.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
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

    /// Processor time so far of all threads: the first field of `/proc/PID/task/TID/schedstat`, in nanoseconds.
    fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running program");
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(|task| of_task(task.ok()?)).sum())
    }
}

/// Two programs and the sockets in front of and behind them.
struct Pair {
    receiver: Measured,
    sender: Measured,
    input: SocketAddr,
    output: UdpSocket,
}

impl Pair {
    fn start(start: impl FnOnce(SocketAddr, SocketAddr) -> [Measured; 2]) -> Self {
        let output = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        output.set_nonblocking(true).expect("non-blocking");
        let input = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [receiver, sender] = start(input, output.local_addr().expect("bound"));
        Self { receiver, sender, input, output }
    }

    fn processor_times(&self) -> [Duration; 2] {
        [&self.receiver, &self.sender].map(Measured::processor_time)
    }

    /// Takes what came out; how many datagrams.
    fn taken(&self) -> u64 {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.output.recv(&mut buffer).ok()).count() as u64
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

/// Sends the stream to all pairs for `time`; how many datagrams went in and came out of each.
fn stream(pairs: &[Pair; 2], rate_mbps: u32, time: Duration) -> (u64, [u64; 2]) {
    let payload = [0x47; PAYLOAD_BYTES];
    let interval = Duration::from_secs_f64(f64::from(BURST) * PAYLOAD_BYTES as f64 * 8e-6 / f64::from(rate_mbps));
    let source = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut sent, mut received) = (0, [0; 2]);
    let started = Instant::now();
    let mut due = started;
    while started.elapsed() < time {
        for (pair, received) in pairs.iter().zip(&mut received) {
            for _ in 0..BURST {
                // Nobody listens while the program is still starting.
                let _ = source.send_to(&payload, pair.input);
            }
            *received += pair.taken();
        }
        sent += u64::from(BURST);
        due += interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (sent, received)
}

/// The middle of some figures, with the least and the most.
fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [figures[figures.len() / 2], figures[0], figures[figures.len() - 1]]
}

fn measure(rate_mbps: u32, key: &Path) {
    println!(
        "{rate_mbps} Mbit/s over {LINKS} links on loopback, AES-256: {ROUNDS} rounds of {ROUND:?}, both pairs at once"
    );
    let pairs = [Pair::start(|from, to| ours(from, to, key)), Pair::start(librist)];
    stream(&pairs, rate_mbps, WARM_UP);
    // Indexed by pair, then receiver and sender: shares of a core, one a round.
    let mut shares: [[Vec<f64>; 2]; 2] = Default::default();
    let (mut sent, mut received) = (0, [0; 2]);
    for _ in 0..ROUNDS {
        let before = [0, 1].map(|pair: usize| (Instant::now(), pairs[pair].processor_times()));
        let (put_in, came_out) = stream(&pairs, rate_mbps, ROUND);
        sent += put_in;
        for pair in [0, 1] {
            received[pair] += came_out[pair];
            let (since, before) = before[pair];
            let (after, time) = (pairs[pair].processor_times(), since.elapsed().as_secs_f64());
            for end in [0, 1] {
                shares[pair][end].push(after[end].saturating_sub(before[end]).as_secs_f64() / time * 100.0);
            }
        }
    }
    for end in [0, 1] {
        let ratios = shares[0][end].iter().zip(&shares[1][end]).map(|(ours, theirs)| ours / theirs).collect();
        let [ours, theirs] = [0, 1].map(|pair: usize| spread(shares[pair][end].clone()));
        let names = [&pairs[0], &pairs[1]].map(|pair| [&pair.receiver, &pair.sender][end].name);
        for (name, [middle, least, most]) in names.iter().zip([ours, theirs]) {
            println!("  {name:<14} {middle:>6.2} % of a core ({least:.2} to {most:.2})");
        }
        let [middle, least, most] = spread(ratios);
        println!("  {} / {} = {middle:.2} ({least:.2} to {most:.2})", names[0], names[1]);
    }
    println!("  {sent} datagrams in; out: {} of ours, {} of librist", received[0], received[1]);
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench`");
        return;
    }
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    writeln!(key, "{PASSPHRASE}").expect("written");
    for rate_mbps in RATES_MBPS {
        measure(rate_mbps, key.path());
    }
}
