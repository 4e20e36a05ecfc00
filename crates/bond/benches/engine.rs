//! Cost of the engine without sockets: both ends over perfect links, per second of media.
//!
//! `cargo bench -p bond`: items are packets, bytes are payload. A run moves one second of 200 Mbit/s through sender, tunnel
//! (clear or AES-256) and receiver, reports and RTCP included.

use bond::config::{KeySize, LinkOptions, PskConfig, ReceiverConfig, Secret, SenderConfig};
use bond::receiver::{Receiver, ReceiverInput, ReceiverOutput};
use bond::sender::{Sender, SenderInput, SenderOutput};
use bond::{Channel, PacketClass, Payload};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use units::{LinkId, Timestamp};

const PACKETS: u64 = 19_000;
const STEP: Duration = Duration::from_micros(53);
const PAYLOAD_BYTES: usize = 1316;

fn main() {
    divan::main();
}

struct Pair {
    now: Timestamp,
    sender: Sender,
    receiver: Receiver,
    payload: Bytes,
    delivered: u64,
}

impl Pair {
    fn new(links: u16, psk: Option<PskConfig>) -> Self {
        let latency = Duration::from_millis(200);
        let now = Timestamp::ZERO;
        let sender = SenderConfig { latency, psk: psk.clone(), ..Default::default() };
        let receiver = ReceiverConfig { latency, psk, ..Default::default() };
        let mut pair = Self {
            now,
            sender: Sender::new(sender, 1, now).expect("a valid configuration"),
            receiver: Receiver::new(receiver, 2, now).expect("a valid configuration"),
            payload: Bytes::from(vec![0x47; PAYLOAD_BYTES]),
            delivered: 0,
        };
        for link in 0..links {
            pair.sender.handle_input(now, SenderInput::AddLink { link: LinkId(link), options: LinkOptions::default() });
        }
        // Handshake, then growth of the windows.
        for _ in 0..40_000 {
            pair.step();
        }
        pair.delivered = 0;
        pair
    }

    fn step(&mut self) {
        self.now += STEP;
        let payload = Payload { bytes: self.payload.clone(), source_time: self.now, class: PacketClass::Video };
        self.sender.handle_input(self.now, SenderInput::Payload(payload));
        self.exchange();
    }

    /// Carries datagrams across until both ends rest.
    fn exchange(&mut self) {
        loop {
            let mut moved = false;
            while let SenderOutput::Transmit { link, channel, bytes, .. } = self.next_of_sender() {
                moved = true;
                let from = SocketAddr::from(([10, 0, 0, link.0 as u8], 1000));
                let mut bytes = Vec::from(bytes);
                let input =
                    ReceiverInput::Datagram { local: 0, from, channel, ecn: units::Ecn::NotEct, bytes: &mut bytes };
                self.receiver.handle_input(self.now, input);
            }
            loop {
                match self.receiver.poll_output(self.now) {
                    ReceiverOutput::Transmit { to: SocketAddr::V4(to), bytes, .. } => {
                        moved = true;
                        let link = LinkId(u16::from(to.ip().octets()[3]));
                        let mut bytes = Vec::from(bytes);
                        let input = SenderInput::Datagram { link, channel: Channel::Media, bytes: &mut bytes };
                        self.sender.handle_input(self.now, input);
                    }
                    ReceiverOutput::Deliver(_) => self.delivered += 1,
                    ReceiverOutput::Timeout(_) => break,
                    _ => {}
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn next_of_sender(&mut self) -> SenderOutput {
        loop {
            match self.sender.poll_output(self.now) {
                SenderOutput::Event(_) => {}
                output => return output,
            }
        }
    }
}

fn run(bencher: divan::Bencher<'_, '_>, links: u16, psk: Option<&PskConfig>) {
    bencher
        .counter(divan::counter::ItemsCount::new(PACKETS))
        .counter(divan::counter::BytesCount::new(PACKETS * PAYLOAD_BYTES as u64))
        .with_inputs(|| Pair::new(links, psk.cloned()))
        .bench_local_refs(|pair| {
            for _ in 0..PACKETS {
                pair.step();
            }
            assert!(pair.delivered + 100 >= PACKETS, "the media must get through: {}", pair.delivered);
        });
}

#[divan::bench(args = [1, 2, 4, 8], sample_count = 10)]
fn clear(bencher: divan::Bencher<'_, '_>, links: u16) {
    run(bencher, links, None);
}

#[divan::bench(args = [1, 4], sample_count = 10)]
fn aes256(bencher: divan::Bencher<'_, '_>, links: u16) {
    let psk =
        PskConfig { passphrase: Secret::new("a passphrase"), key_size: KeySize::Aes256, rotate_after_packets: None };
    run(bencher, links, Some(&psk));
}
