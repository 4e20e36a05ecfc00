//! Numbered payloads: each byte of a stream can be told from every other.

use bond::PacketClass;
use bytes::Bytes;
use link_io::receiver::FlowReceiver;
use link_io::sender::FlowSender;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

pub const TS_BYTES: usize = 188;
const PACKETS: usize = 7;
pub const PAYLOAD_BYTES: usize = PACKETS * TS_BYTES;
/// A null packet as null deletion restores it.
const NULL_PACKET: [u8; 4] = [0x47, 0x1F, 0xFF, 0x10];
const FIRST_BYTES: [u8; 4] = [0x47, 0x01, 0x00, 0x10];

/// TS packet number `number` of a stream: the number, then bytes that depend on it.
fn packet(number: u32, out: &mut Vec<u8>) {
    out.extend(FIRST_BYTES);
    out.extend(number.to_be_bytes());
    out.extend((8..TS_BYTES as u32).map(|i| (number.wrapping_mul(31).wrapping_add(i * 7) >> 2) as u8));
}

/// Payload number `number`, its TS packets numbered on; with `nulls` two of the seven are null packets.
pub fn payload(number: u32, nulls: bool) -> Bytes {
    let mut bytes = Vec::with_capacity(PAYLOAD_BYTES);
    for i in 0..PACKETS as u32 {
        if nulls && (i == 2 || i == 5) {
            bytes.extend(NULL_PACKET);
            bytes.resize(bytes.len() + TS_BYTES - 4, 0xFF);
        } else {
            packet(number * PACKETS as u32 + i, &mut bytes);
        }
    }
    bytes.into()
}

/// Payload number `number` with a clock (PCR) of 4 ms a payload in its first packet.
pub fn clocked_payload(number: u32) -> Vec<u8> {
    let mut packets = payload(number, false).to_vec();
    let base = u64::from(number) * 4 * 90;
    // An adaptation field of seven bytes: the flag of the clock, the clock.
    packets[3..6].copy_from_slice(&[0x30, 7, 0x10]);
    packets[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
    packets[10..12].copy_from_slice(&[((base & 1) as u8) << 7, 0]);
    packets
}

/// The number in the first TS packet of `bytes`: seven times that of its payload.
pub fn number_of(bytes: &[u8]) -> Option<u32> {
    let number = bytes.get(4..8)?.try_into().ok()?;
    bytes.starts_with(&FIRST_BYTES).then(|| u32::from_be_bytes(number))
}

/// Where payloads go in.
pub enum Input {
    Udp { socket: UdpSocket, to: SocketAddr },
    Flow(FlowSender),
}

impl Input {
    pub fn udp(to: SocketAddr) -> Self {
        Self::Udp { socket: UdpSocket::bind("127.0.0.1:0").expect("a socket"), to }
    }

    fn send(&self, payload: &Bytes) {
        match self {
            // Nobody listens while the program at the other end is still starting.
            Self::Udp { socket, to } => drop(socket.send_to(payload, to)),
            Self::Flow(sender) => sender.push(payload.clone(), PacketClass::Video, None).expect("room for a payload"),
        }
    }
}

/// Where payloads come out.
pub enum Output {
    Udp(UdpSocket),
    Flow(FlowReceiver),
}

impl Output {
    /// A free port for a program to send to.
    pub fn udp() -> (Self, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("bound");
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("a large buffer");
        (Self::Udp(socket), address)
    }

    /// Everything that comes within `wait`.
    pub fn receive(&self, wait: Duration, out: &mut Vec<Bytes>) {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self {
                Self::Udp(socket) => {
                    let mut buffer = [0; 2048];
                    socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a timeout");
                    if let Ok(length) = socket.recv(&mut buffer) {
                        out.push(Bytes::copy_from_slice(&buffer[..length]));
                    }
                }
                Self::Flow(receiver) => {
                    if let Ok(Some(delivered)) = receiver.recv_timeout(left) {
                        out.push(delivered.bytes);
                    }
                }
            }
        }
    }
}

/// How a stream is sent and what is expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Payloads sent once the first has come out. They must come out, and so must all that went in between.
    pub payloads: u32,
    /// So many payloads sent once the first has come out are left out, and all that came before: for two ends that lose
    /// something while they settle.
    pub settle: Option<u32>,
    pub interval: Duration,
    pub nulls: bool,
    /// Time after the last payload until everything must be there.
    pub patience: Duration,
    /// Whether payload boundaries survive (they do not in GStreamer).
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Payload,
    TsPacket,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            payloads: 300,
            settle: None,
            interval: Duration::from_millis(4),
            nulls: false,
            patience: Duration::from_secs(8),
            unit: Unit::Payload,
        }
    }
}

/// What is wrong with what came out.
#[derive(Debug)]
pub struct Failure {
    pub why: String,
    /// Numbers of the first TS packets of what is missing, when that is all: nothing broken, repeated or out of order.
    pub only_missing: Option<Vec<u32>>,
}

impl Failure {
    fn broken(why: String) -> Self {
        Self { why, only_missing: None }
    }
}

/// Time for two programs to find each other.
const START_MAX: Duration = Duration::from_secs(20);
/// Time between looks whether everything is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Stream {
    /// Sends payloads until the first comes out, and then as many as are wanted. From that first one on (or as
    /// [`Self::settle`] says) all must come out, every byte the same.
    ///
    /// `halfway` is called once when half of the payloads are sent. Payloads go on until everything is there, as those of a
    /// live stream do: what is lost is missed only when something comes behind it.
    pub fn run(&self, input: &Input, output: &Output, halfway: impl FnOnce()) -> Result<(), Failure> {
        let mut received = Vec::new();
        let mut number = 0;
        let started = Instant::now();
        while received.is_empty() {
            if started.elapsed() > START_MAX {
                let why = format!("nothing came out in {START_MAX:?}, {number} payloads sent");
                return Err(Failure::broken(why));
            }
            input.send(&payload(number, self.nulls));
            number += 1;
            output.receive(self.interval, &mut received);
        }
        let begun = number + self.settle.unwrap_or_default();
        let end = begun + self.payloads;
        let mut halfway = Some(halfway);
        let mut due = Instant::now();
        let mut look_at = None;
        let mut give_up_at = None;
        loop {
            input.send(&payload(number, self.nulls));
            number += 1;
            if number == begun + self.payloads / 2
                && let Some(halfway) = halfway.take()
            {
                halfway();
            }
            due += self.interval;
            output.receive(due.saturating_duration_since(Instant::now()), &mut received);
            let now = Instant::now();
            if number < end || look_at.is_some_and(|at| now < at) {
                continue;
            }
            look_at = Some(now + LOOK_INTERVAL);
            let checked = self.check(&received, self.settle.map(|_| begun), end);
            if checked.is_ok() || now >= *give_up_at.get_or_insert(now + self.patience) {
                return checked;
            }
        }
    }

    /// Whether what came out is all from payload `from`, else the first that did, up to `end`: once each, in order, as it
    /// went in.
    fn check(&self, received: &[Bytes], from: Option<u32>, end: u32) -> Result<(), Failure> {
        let end = end * PACKETS as u32;
        let (got, step): (Vec<Bytes>, usize) = match self.unit {
            Unit::Payload => (received.to_vec(), PACKETS),
            Unit::TsPacket => {
                let packets = received.iter().flat_map(|bytes| bytes.chunks(TS_BYTES)).map(Bytes::copy_from_slice);
                (packets.collect(), 1)
            }
        };
        let Some(first) = got.iter().find_map(|bytes| number_of(bytes)) else {
            return Err(Failure::broken("nothing that came out has a number".to_owned()));
        };
        // Without `from` also what came out behind the first and is older counts.
        let (first, oldest) = from.map_or((first, 0), |from| (from * PACKETS as u32, from * PACKETS as u32));
        let counted: Vec<&Bytes> =
            got.iter().filter(|bytes| number_of(bytes).is_some_and(|n| (oldest..end).contains(&n))).collect();
        let expected: Vec<u32> = (first..end).step_by(step).collect();
        let numbers: Vec<u32> = counted.iter().filter_map(|bytes| number_of(bytes)).collect();
        for (bytes, &number) in counted.iter().zip(&numbers) {
            let wanted = match self.unit {
                Unit::Payload => payload(number / PACKETS as u32, self.nulls),
                Unit::TsPacket => {
                    let mut wanted = Vec::new();
                    packet(number, &mut wanted);
                    wanted.into()
                }
            };
            if **bytes != wanted {
                let why = format!("payload {} came out with other content", number / step as u32);
                return Err(Failure::broken(why));
            }
        }
        if numbers == expected { Ok(()) } else { Err(difference(&numbers, &expected, step as u32, received.len())) }
    }
}

fn difference(got: &[u32], expected: &[u32], step: u32, received: usize) -> Failure {
    let missing: Vec<u32> = expected.iter().filter(|n| !got.contains(n)).copied().collect();
    let repeated = got.len() - got.iter().collect::<std::collections::BTreeSet<_>>().len();
    let disorder = got.windows(2).filter(|pair| pair[1] < pair[0]).count();
    let why = format!(
        "{} of {} from {} on came out ({received} in all): {} missing {:?}.., {repeated} repeated, {disorder} out of order",
        got.len(),
        expected.len(),
        expected.first().map_or(0, |n| n / step),
        missing.len(),
        missing.iter().take(10).map(|n| n / step).collect::<Vec<_>>(),
    );
    let only_missing = (repeated + disorder == 0).then_some(missing);
    Failure { why, only_missing }
}
