//! Processor time of `bond-send` and `bond-receive` beside librist's `ristsender` and `ristreceiver`: the same stream over
//! four loopback links with AES-256, both pairs at the same time, so that a busy machine is busy for both.
//!
//! `cargo bench -p link-io --bench cpu` prints a table; nothing is asserted. Measured is processor time (user and system),
//! not time on the clock, and compared round by round: a round in which the caches are full of somebody else's work is dear
//! for both pairs. The order in which they are fed alternates.
//!
//! `cargo bench -p link-io --bench cpu -- 20` measures at 20 Mbit/s only. How often a program wakes up is told as well: on an
//! idle core that costs more than a packet does.
//!
//! With `BENCH_OTHER=DIRECTORY` the `bond-send` and `bond-receive` in there run along as a third pair, to compare two builds.

use free_ports::{free_pair, loopback};
use std::fmt::{self, Display, Formatter};
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
/// The median of so many rounds is reported, with quartiles and extremes.
const ROUNDS: usize = 25;
const ROUND: Duration = Duration::from_secs(2);
const OUTPUT_BUFFER_BYTES: usize = 4 << 20;
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

    /// Resident memory in KiB, from `/proc/PID/status`.
    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// How often its threads have gone to sleep so far, and hundredths of a second of processor time in user space and in the
    /// kernel.
    fn counts(&self) -> Counts {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running program");
        let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let of_task = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse::<u64>().ok())
        };
        let sleeps = tasks.filter_map(|task| of_task(&status(task.ok()?))).sum();
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0);
        Counts { sleeps, user: ticks(11), system: ticks(12) }
    }

    /// Processor time so far of all threads, user and system: the first field of `/proc/PID/task/TID/schedstat`, in
    /// nanoseconds. `/proc/PID/stat` tells the same in hundredths of a second, too coarse for a round.
    fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running program");
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(|task| of_task(task.ok()?)).sum())
    }
}

/// See [`Measured::counts`].
struct Counts {
    sleeps: u64,
    user: u64,
    system: u64,
}

impl Counts {
    /// What happened since `before`, `seconds` ago.
    fn since(&self, before: &Self, seconds: f64) -> String {
        let (user, system) = (self.user - before.user, self.system - before.system);
        let share = user as f64 / (user + system).max(1) as f64 * 100.0;
        let wakes = (self.sleeps - before.sleeps) as f64 / seconds;
        format!("{share:.0} % of it user, {wakes:.0} wake-ups a second")
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
        // The source is its reader: it may sleep for a while on a busy machine.
        let _ = socket2::SockRef::from(&output).set_recv_buffer_size(OUTPUT_BUFFER_BYTES);
        let input = loopback(free_pair());
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

/// Our pair: this build, or the programs in `directory`.
fn ours(from: SocketAddr, to: SocketAddr, key: &Path, directory: Option<&Path>) -> [Measured; 2] {
    let port = free_pair();
    let key = key.display();
    let receive = format!("--listen 127.0.0.1:{port} --latency {LATENCY_MS} --psk-file {key} --output udp://{to}");
    let links = vec![format!("127.0.0.1:{port}"); usize::from(LINKS)].join(",");
    let send = format!("--input udp://{from} --latency {LATENCY_MS} --psk-file {key} --links {links}");
    let [receiver, sender] = match directory {
        Some(directory) => ["bond-receive", "bond-send"].map(|name| directory.join(name)),
        None => [env!("CARGO_BIN_EXE_bond-receive"), env!("CARGO_BIN_EXE_bond-send")].map(PathBuf::from),
    };
    let names = if directory.is_some() { ["other receive", "other send"] } else { ["bond-receive", "bond-send"] };
    [Measured::start(names[0], &receiver, &words(&receive)), Measured::start(names[1], &sender, &words(&send))]
}

fn librist(from: SocketAddr, to: SocketAddr) -> [Measured; 2] {
    let port = free_pair();
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

/// Sends the stream to all pairs for `time`, in this order or the reverse one in odd rounds; how many datagrams went in and
/// came out of each.
fn stream(pairs: &[Pair], round: usize, rate_mbps: u32, time: Duration) -> (u64, Vec<u64>) {
    let payload = [0x47; PAYLOAD_BYTES];
    let interval = Duration::from_secs_f64(f64::from(BURST) * PAYLOAD_BYTES as f64 * 8e-6 / f64::from(rate_mbps));
    let source = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut sent, mut received) = (0, vec![0; pairs.len()]);
    let started = Instant::now();
    let mut due = started;
    while started.elapsed() < time {
        for index in (0..pairs.len()).map(|i| if round.is_multiple_of(2) { i } else { pairs.len() - 1 - i }) {
            for _ in 0..BURST {
                // Nobody listens while the program is still starting.
                let _ = source.send_to(&payload, pairs[index].input);
            }
            received[index] += pairs[index].taken();
        }
        sent += u64::from(BURST);
        due += interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (sent, received)
}

/// Median, lower and upper quartile, least and most of some figures.
struct Spread([f64; 5]);

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self([last / 2, last / 4, last - last / 4, 0, last].map(|index| figures[index]))
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [median, lower, upper, least, most] = self.0;
        write!(f, "{median:.2} (half of the rounds {lower:.2} to {upper:.2}, all {least:.2} to {most:.2})")
    }
}

/// Runnable tasks, mean of the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn measure(rate_mbps: u32, key: &Path) {
    println!(
        "{rate_mbps} Mbit/s over {LINKS} links on loopback, AES-256: {ROUNDS} rounds of {ROUND:?}, all pairs at once, \
         machine load {}",
        load()
    );
    let other = std::env::var_os("BENCH_OTHER").map(PathBuf::from);
    let mut pairs = vec![Pair::start(|from, to| ours(from, to, key, None)), Pair::start(librist)];
    pairs.extend(other.map(|directory| Pair::start(|from, to| ours(from, to, key, Some(&directory)))));
    stream(&pairs, 0, rate_mbps, WARM_UP);
    let ends = |pair: &Pair| [pair.receiver.counts(), pair.sender.counts()];
    let (counts_before, counted_from): (Vec<_>, _) = (pairs.iter().map(ends).collect(), Instant::now());
    let memory =
        || pairs.iter().map(|pair| [&pair.receiver, &pair.sender].map(Measured::memory_kib)).collect::<Vec<_>>();
    let memory_before = memory();
    // Indexed by pair, then receiver and sender: shares of a core in per cent, one a round.
    let mut shares: Vec<[Vec<f64>; 2]> = vec![Default::default(); pairs.len()];
    let (mut sent, mut received) = (0, vec![0; pairs.len()]);
    for round in 0..ROUNDS {
        let before: Vec<_> = pairs.iter().map(|pair| (Instant::now(), pair.processor_times())).collect();
        let (put_in, came_out) = stream(&pairs, round, rate_mbps, ROUND);
        sent += put_in;
        for (index, (since, before)) in before.into_iter().enumerate() {
            received[index] += came_out[index];
            let (after, time) = (pairs[index].processor_times(), since.elapsed().as_secs_f64());
            for end in [0, 1] {
                shares[index][end].push(after[end].saturating_sub(before[end]).as_secs_f64() / time * 100.0);
            }
        }
    }
    let seconds = counted_from.elapsed().as_secs_f64();
    let counts: Vec<_> = pairs.iter().map(ends).collect();
    for end in [0, 1] {
        let names: Vec<_> = pairs.iter().map(|pair| [&pair.receiver, &pair.sender][end].name).collect();
        for (index, name) in names.iter().enumerate() {
            let (shares, memory) =
                (Spread::of(shares[index][end].clone()), [&memory_before, &memory()].map(|m| m[index][end]));
            let counts = counts[index][end].since(&counts_before[index][end], seconds);
            println!("  {name:<14} {shares} % of a core, {counts}; memory {} -> {} KiB", memory[0], memory[1]);
        }
        for index in 1..pairs.len() {
            let ratios: Vec<_> =
                shares[0][end].iter().zip(&shares[index][end]).map(|(ours, theirs)| ours / theirs).collect();
            let below = ratios.iter().filter(|ratio| **ratio < 0.5).count();
            let (names, ratios) = (format!("{} / {}", names[0], names[index]), Spread::of(ratios));
            println!("  {names} = {ratios}, below a half in {below} of {ROUNDS}");
        }
    }
    let names = pairs.iter().map(|pair| pair.receiver.name).zip(&received);
    let out: Vec<_> = names.map(|(name, received)| format!("{received} of {name}")).collect();
    println!("  {sent} datagrams in; out: {}; machine load {}", out.join(", "), load());
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench`");
        return;
    }
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    writeln!(key, "{PASSPHRASE}").expect("written");
    let asked: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    for rate_mbps in if asked.is_empty() { RATES_MBPS.to_vec() } else { asked } {
        measure(rate_mbps, key.path());
    }
}
